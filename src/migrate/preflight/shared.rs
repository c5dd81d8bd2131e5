//! What keeps an account from carrying the mailboxes of the *Shared* namespace.

use std::fmt::Write as _;

use crate::mailbox::{Account, Carried};
use crate::migrate::plan::Records;
use crate::net::imap::printable;

/// Every mailbox or namespace in the way, and why.
pub(super) fn in_the_way(old: &Account, new: &Account, records: &Records) -> Vec<String> {
    let Some((before, after)) = old.carried.as_ref().zip(new.carried.as_ref()) else { return Vec::new() };
    let mut found = Vec::new();
    for (side, carried) in [("old", before), ("new", after)] {
        let closed = carried.closed.iter();
        found.extend(closed.map(|(raw, why)| format!("shared mailbox `{raw}` on the {side} side {why}")));
    }
    found.extend(namespaces(old, before, after));
    found.extend(touched(old, new, records));
    found
}

/// Namespaces that clients see on the old side, and not so on the new one.
fn namespaces(old: &Account, before: &Carried, after: &Carried) -> Vec<String> {
    let mut found = Vec::new();
    for (prefix, separator) in &before.spaces {
        let raw =
            before.mailboxes.iter().filter_map(|name| old.mailboxes.get(name)).map(|listed| printable(&listed.raw));
        let under = raw.filter(|raw| !prefix.is_empty() && raw.starts_with(prefix) || is_in_empty(raw, prefix, before));
        let mailboxes = under.count();
        let there = after.spaces.get(prefix);
        if mailboxes == 0 || there == Some(separator) {
            continue;
        }
        let mut why =
            format!("{mailboxes} shared mailboxes have names that begin with {prefix:?} on the old side, and ");
        let _ = match there {
            Some(other) => write!(why, "the new side has the separator {} there", shown(*other)),
            None => write!(why, "the new side has no Shared namespace (RFC 2342) of that prefix"),
        };
        let _ = write!(
            why,
            ": clients would not find them; set up a namespace with `type = public`, `prefix = {}` and `separator = {}` in \
             the new side's Dovecot",
            if prefix.is_empty() { "\"\"" } else { prefix },
            separator.map_or_else(String::new, String::from)
        );
        found.push(why);
    }
    found
}

/// Whether a name is in the namespace without a prefix, and so in none of the others.
fn is_in_empty(raw: &str, prefix: &str, carried: &Carried) -> bool {
    prefix.is_empty() && !carried.spaces.keys().any(|other| !other.is_empty() && raw.starts_with(other))
}

fn shown(separator: Option<char>) -> String {
    separator.map_or_else(|| "none".to_owned(), |known| format!("{known:?}"))
}

/// Mailboxes that somebody has used on the new side since we last wrote there: users who are there already see them, and what they
/// do is not to be undone.
fn touched(old: &Account, new: &Account, records: &Records) -> Vec<String> {
    let mut found = Vec::new();
    for (name, listed) in new.mailboxes.iter().filter(|(name, _)| new.carries(name) || old.carries(name)) {
        let left = records.get(name).and_then(|record| record.new_seen.as_deref());
        let Some((left, there)) = left.zip(listed.status) else { continue };
        if there.to_string() != left {
            found.push(format!(
                "shared mailbox `{name}` was changed on the new side since our last copy ({left}; now {there}): somebody who is \
                 there already has written to it, or changed flags; give users no more than the rights lr there until this \
                 account is switched, save what they did, and delete the mailbox on the new side: it is copied anew"
            ));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::{Guid, Listed, MailboxName, Status, UidNext, UidValidity};
    use crate::store::MailboxRecord;

    fn status(highest: u64) -> Status {
        Status {
            uid_validity: UidValidity(1),
            uid_next: UidNext(5),
            messages: 4,
            unseen: 0,
            highest_modseq: Some(crate::mailbox::ModSeq(highest)),
            guid: None,
        }
    }

    fn side(spaces: &[(&str, char)], mailboxes: &[&str]) -> Account {
        let name = |raw: &str| MailboxName::from_parts(raw.split('/').map(str::to_owned).collect()).unwrap();
        let listed =
            |raw: &str| Listed { raw: raw.into(), selectable: true, status: Some(status(9)), ..Listed::default() };
        let carried = Carried {
            spaces: spaces.iter().map(|(prefix, separator)| ((*prefix).to_owned(), Some(*separator))).collect(),
            mailboxes: mailboxes.iter().map(|raw| name(raw)).collect(),
            ..Carried::default()
        };
        let mailboxes = mailboxes.iter().map(|raw| (name(raw), listed(raw))).collect();
        Account { mailboxes, carried: Some(carried), ..Account::default() }
    }

    fn said(old: &Account, new: &Account) -> String {
        in_the_way(old, new, &Records::new()).join("; ")
    }

    #[test]
    fn a_namespace_that_clients_would_not_find_is_named_with_what_to_set() {
        let old = side(&[("Public/", '/'), ("Unused/", '/')], &["Public/a"]);
        assert_eq!(said(&old, &side(&[("Public/", '/')], &[])), "");
        let missing = said(&old, &side(&[], &[]));
        assert!(missing.contains("1 shared mailboxes have names that begin with \"Public/\""), "{missing}");
        assert!(missing.contains("`type = public`, `prefix = Public/` and `separator = /`"), "{missing}");
        assert!(!missing.contains("Unused"), "{missing}");
        let other = said(&old, &side(&[("Public/", '.')], &[]));
        assert!(other.contains("the new side has the separator '.' there"), "{other}");
    }

    #[test]
    fn a_namespace_without_a_prefix_has_what_is_in_no_other() {
        let old = side(&[("", '/'), ("Public/", '/')], &["Public/a", "team"]);
        let missing = said(&old, &side(&[("Public/", '/')], &[]));
        assert!(missing.contains("1 shared mailboxes have names that begin with \"\""), "{missing}");
    }

    #[test]
    fn what_somebody_did_on_the_new_side_is_named_and_what_we_left_there_is_not() {
        let both = side(&[("Public/", '/')], &["Public/a"]);
        let name = both.mailboxes.keys().next().unwrap().clone();
        let record = |seen: Option<u64>| MailboxRecord {
            name: name.clone(),
            guid: Guid([1; 16]),
            uid_validity: UidValidity(1),
            created_at: 1,
            old_seen: None,
            new_seen: seen.map(|highest| status(highest).to_string()),
        };
        for (seen, named) in [(None, false), (Some(9), false), (Some(8), true)] {
            let records = [(name.clone(), record(seen))].into();
            assert_eq!(!in_the_way(&both, &both, &records).is_empty(), named, "{seen:?}");
        }
    }
}
