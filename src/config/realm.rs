//! `[[realm]]`: domains whose users have sides of their own.

use super::build::{keys_of, names_once, new_side, old_side, tables};
use super::model::{Listen, NewSide, OldSide, Realm};
use super::raw::{Entry, Keys, Section};
use super::scalar;

const REALM: Keys = Keys { known: &["domains", "old", "new"], later: &[] };

/// Reads all realms; a side that one of them leaves out is that of `others`.
pub(super) fn realms(
    root: &Section<'_>,
    listen: &Listen,
    others: (&OldSide, &NewSide),
    default_domain: Option<&str>,
) -> Option<Vec<Realm>> {
    let Some(entry) = root.get("realm") else { return Some(Vec::new()) };
    let mut taken = Vec::new();
    tables(&entry, |entry| realm(entry, listen, others, &mut taken, default_domain))
}

fn realm(
    entry: &Entry<'_>,
    listen: &Listen,
    others: (&OldSide, &NewSide),
    taken: &mut Vec<String>,
    default_domain: Option<&str>,
) -> Option<Realm> {
    let section = entry.section()?;
    section.check(&REALM, &[]);
    let twice = |domain: &str| format!("{domain} has a realm already");
    let domains = section
        .require("domains", "[\"example.net\"]")
        .and_then(|entry| names_once(&entry, taken, scalar::domain, twice, "names no domain"));
    // A side is taken as a whole: one server's IMAP with another's POP3 would be nobody's intention.
    let side = |name: &'static str| {
        let written = section.get(name)?;
        let side = written.section();
        if let Some(side) = &side {
            side.check(keys_of(name), &[]);
        }
        Some(side)
    };
    let (old, new) = (side("old"), side("new"));
    if old.is_none() && new.is_none() {
        return entry.fail("has neither side of its own: give it [realm.old], [realm.new] or both");
    }
    let old = old.map_or_else(|| Some(others.0.clone()), |side| old_side(&side?, default_domain));
    let new = new.map_or_else(|| Some(others.1.clone()), |side| new_side(&side?, old.as_ref(), default_domain));
    let realm = Realm { domains: domains?, old: old?, new: new? };
    if section.get("new").is_none() && realm.old.imap.is_same_server(&realm.new.imap) {
        return entry.fail(format!("{} is new.imap: the two sides must be two servers", realm.old.imap));
    }
    let sieve = [("old", realm.old.sieve.is_some()), ("new", realm.new.sieve.is_some())];
    if let [(_, true), (needs, false)] | [(needs, false), (_, true)] = sieve {
        let realms = if section.get(needs).is_some() { "realm." } else { "" };
        return entry.fail(format!("needs `sieve` under [{realms}{needs}] as well"));
    }
    let pop3 = [("old", realm.old.pop3.is_some()), ("new", realm.new.pop3.is_some())];
    let wanted = listen.has_pop3() || pop3.iter().any(|(_, has)| *has);
    match pop3.iter().find(|(_, has)| wanted && !has) {
        Some((name, _)) if section.get(name).is_some() => {
            entry.fail(format!("needs `pop3` under [realm.{name}] as well"))
        }
        Some((name, _)) => entry.fail(format!("needs `pop3` under [{name}] as well")),
        None => Some(realm),
    }
}
