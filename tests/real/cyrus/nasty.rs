//! Everything that has ever broken a migration, as far as a Cyrus takes it, arrives as the Cyrus serves it.

use std::collections::BTreeMap;

use super::*;
use crate::lab::imap::quoted;
use crate::lab::nasty;

/// What became of an account that was put into a Cyrus message by message.
#[derive(Debug, Default)]
struct Loaded {
    /// Messages that it took, by mailbox (as wanted), subject and body.
    taken: usize,
    /// What it said no to, and how often.
    refused: BTreeMap<String, usize>,
    /// Messages that it took and serves with other octets: what they begin with, before and after.
    altered: Vec<(String, String)>,
}

/// Puts every mailbox and message of `world` into `user`'s account.
fn load(old: &Cyrus, user: &str, world: &World) -> Loaded {
    let names = old.spec().names;
    let mut loaded = Loaded::default();
    let mut imap = old.log_in(user);
    let mut refused = |what: &str, said: &str| {
        *loaded.refused.entry(format!("{what}: {said}")).or_default() += 1;
    };
    let mut put = Vec::new();
    for (name, shelf) in &world.mailboxes {
        // `world` has "/" and no prefix; names are modified UTF-7 in it already.
        let raw = names.spell(name);
        if name != "INBOX" {
            let (said, _) = imap.cmd(&format!("CREATE {}", quoted(&raw)));
            // (Parents come with their children.)
            if !said.starts_with("OK") && !said.contains("already exists") {
                refused("CREATE", &said);
                continue;
            }
        }
        for mail in shelf.mails.values() {
            match append(&mut imap, &raw, mail) {
                Ok(uid) => put.push((raw.clone(), uid, mail)),
                Err(said) => refused("APPEND", &said),
            }
        }
    }
    for name in &world.subscriptions {
        let (said, _) = imap.cmd(&format!("SUBSCRIBE {}", quoted(&names.spell(name))));
        if !said.starts_with("OK") {
            refused("SUBSCRIBE", &said);
        }
    }
    imap.ok("LOGOUT");
    let there = World::of(old, user);
    for (raw, uid, mail) in &put {
        let found = &there.mailboxes[raw].mails[uid];
        if found.body != mail.body {
            let start = |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            loaded.altered.push((start(&mail.body), start(&found.body)));
        }
    }
    loaded.taken = put.len();
    loaded
}

/// With its date and those of its flags that the server takes.
fn append(imap: &mut Imap, raw: &str, mail: &crate::lab::world::Mail) -> Result<u32, String> {
    let flags: Vec<&str> = mail.flags.iter().map(String::as_str).collect();
    let tag = imap.start(&format!(
        "APPEND {} ({}) \"{}\" {{{}}}",
        quoted(raw),
        flags.join(" "),
        internal_date(mail.date),
        mail.body.len()
    ));
    let answer = String::from_utf8_lossy(&imap.response()).into_owned();
    if !answer.starts_with('+') {
        return Err(answer.trim_start_matches(&format!("{tag} ")).to_owned());
    }
    imap.send(&mail.body);
    // It does not wait for what is no message.
    if !mail.body.is_empty() {
        imap.send(b"\r\n");
    }
    let (said, _) = imap.finish(&tag);
    let uid = said.split_once("APPENDUID ").and_then(|(_, rest)| rest.split([' ', ']']).nth(1)?.parse().ok());
    uid.ok_or(said)
}

/// An instant as INTERNALDATE, in UTC.
fn internal_date(instant: i64) -> String {
    let (days, seconds) = (instant.div_euclid(86_400), instant.rem_euclid(86_400));
    let (year, month, day) = mailferry::wire::imap::date::civil(days);
    let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = name[usize::try_from(month - 1).unwrap()];
    format!("{day:2}-{name}-{year} {:02}:{:02}:{:02} +0000", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn arrives(names: Names, extra: &str, world: &World) -> Loaded {
    let spec = CyrusSpec { extra: extra.to_owned(), ..CyrusSpec::with(names, &["u1"]) };
    let sides = Sides::start(spec, Format::Mdbox);
    let loaded = load(&sides.old, "u1", world);
    let ferry = Ferry::prepare(sides.spec());
    sides.sync(&ferry, "u1");
    let report = sides.verify(&ferry, "u1");
    let [old, new] = sides.worlds("u1");
    assert_eq!(old.differences(&new, Next::Equal), Vec::<String>::new());
    assert_eq!(report["messages"].as_u64(), Some(old.count() as u64), "{report:#}");
    assert_eq!(old.count(), loaded.taken);
    assert_eq!(report["altered"], 0, "{report:#}");
    sides.assert_foreign_judge_agrees("u1");
    assert_eq!(maildrop::shown(&sides.old, "u1"), maildrop::shown(&sides.new, "u1"));
    loaded
}

fn a_nasty_account(names: Names, extra: &str) {
    if !cyrus::is_here() {
        return;
    }
    let source = Dovecot::start(Spec::old(&["u1"]));
    nasty::full(&source, "u1");
    let world = World::of(&source, "u1");
    drop(source);
    let loaded = arrives(names, extra, &world);
    // By default it turns 8-bit octets of a header into X, and nothing else into anything.
    let header = |text: &str| text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    let with_x = |(before, after): &(String, String)| !header(before).is_ascii() && header(after).is_ascii();
    assert_eq!(loaded.altered.len(), if extra.is_empty() { 3 } else { 0 }, "{loaded:#?}");
    assert!(loaded.altered.iter().all(with_x), "{loaded:#?}");
    let kinds: Vec<&str> = loaded.refused.keys().map(String::as_str).collect();
    // More than 128 keywords in one mailbox, and what is no message.
    assert_eq!(
        kinds,
        [
            "APPEND: NO Message contains invalid header",
            "APPEND: NO Too many user flags in mailbox",
            "APPEND: NO Zero-length message literal",
            "CREATE: NO Invalid mailbox name",
            "SUBSCRIBE: NO Subscribe: Mailbox does not exist",
        ]
    );
    assert!(loaded.taken > world.count() / 2, "{loaded:#?}");
}

#[test]
fn from_cyrus_with_dots_a_nasty_account_arrives_as_it_is_served() {
    a_nasty_account(Names::Dots, "");
}

#[test]
fn from_cyrus_with_slashes_a_nasty_account_arrives_as_it_is_served() {
    a_nasty_account(Names::AltSlashes, "munge8bit: no\n");
}

#[test]
fn from_cyrus_the_corpus_arrives_as_it_is_served() {
    if !cyrus::is_here() {
        return;
    }
    let source = Dovecot::start(Spec::old(&["u1"]));
    if nasty::corpus(&source, "u1").is_none() {
        return;
    }
    let world = World::of(&source, "u1");
    drop(source);
    let loaded = arrives(Names::AltSlashes, "", &world);
    assert!(loaded.taken > world.count() / 2, "{loaded:#?}");
}

/// What an old Cyrus can't hold, because it takes none of it. All else it serves as it was given.
#[test]
fn from_cyrus_what_it_refuses_is_what_we_think() {
    if !cyrus::is_here() {
        return;
    }
    let old = Cyrus::start(CyrusSpec::with(Names::AltSlashes, &["u1"]));
    let mut imap = old.log_in("u1");
    for (raw, said) in [
        (&b"Subject: a NUL\r\n\r\n\0\r\n"[..], "NO Message contains NUL characters"),
        (b"Subject: a bare LF\r\n\r\none\ntwo\r\n", "NO Message contains bare newlines"),
        (b"no header\r\nbut text\r\n", "NO Message contains invalid header"),
        (b"x", "NO Message contains invalid header"),
    ] {
        assert_eq!(imap.try_append("INBOX", "", "", raw), said, "{:?}", String::from_utf8_lossy(raw));
    }
    let taken: [&[u8]; 9] = [
        b"From the start of an mbox\r\nSubject: x\r\n\r\nx\r\n",
        b"\r\nonly a body\r\n",
        b"Subject: no blank line\r\n",
        b"Subject: no final newline\r\n\r\nx",
        b"Subject: CR CR LF\r\n\r\nx\r\r\ny\r\r\n",
        b"Subject: lone CR\r\n\r\nx\ry\r\n",
        b"Subject: at the very end\r\n\r\nx\r",
        b"Subject: 8 bits\r\n\r\n\xe4\r\n",
        b" folded from the start\r\nSubject: x\r\n\r\ny\r\n",
    ];
    for raw in taken {
        imap.append("INBOX", "", "", raw);
    }
    let world = World::of(&old, "u1");
    assert!(world.mailboxes["INBOX"].mails.values().map(|mail| mail.body.as_slice()).eq(taken));
}

/// What came by LMTP may have been changed on the way in (`munge8bit`): it is copied as it is kept.
#[test]
fn from_cyrus_delivered_8_bit_headers_arrive_as_they_are_kept() {
    if !cyrus::is_here() {
        return;
    }
    for (extra, kept) in [("munge8bit: yes\n", &b"Subject: GrXXe"[..]), ("munge8bit: no\n", b"Subject: Gr\xfc\xdfe")] {
        let spec = CyrusSpec { extra: extra.to_owned(), ..CyrusSpec::with(Names::AltSlashes, &["u1"]) };
        let sides = Sides::start(spec, Format::Mdbox);
        deliver(&sides.old, "u1", b"Subject: Gr\xfc\xdfe\n\n\xe4\xf6\xfc\n");
        let ferry = Ferry::prepare(sides.spec());
        sides.sync(&ferry, "u1");
        sides.verify(&ferry, "u1");
        let [old, new] = sides.worlds("u1");
        assert_eq!(old.differences(&new, Next::Equal), Vec::<String>::new());
        let body = &new.mailboxes["INBOX"].mails[&1].body;
        assert!(body.windows(kept.len()).any(|part| part == kept), "{:?}", String::from_utf8_lossy(body));
    }
}
