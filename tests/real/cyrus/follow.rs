//! Whatever happens to an account on a Cyrus is on the new side a moment later.

use super::*;
use crate::lab::imap::mailbox_name;

/// What happens to an account, in steps; the second argument spells a name as the server does.
type Change = fn(&mut Imap, &dyn Fn(&str) -> String);

fn put(imap: &mut Imap, name: &str, flags: &str, subject: &str) {
    let raw = format!("Subject: {subject}\r\n\r\nmail\r\n");
    imap.append(name, flags, "17-Jul-1996 02:44:25 -0700", raw.as_bytes());
}

fn quoted(name: &str) -> String {
    mailbox_name(name)
}

// (RENAME of an INBOX that has mail makes a Cyrus 3.6.1 hang up.)
const CHANGES: [(&str, Change); 27] = [
    ("new mail", |imap, _| put(imap, "INBOX", "\\Flagged work", "new")),
    ("flags and keywords added", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:4 +FLAGS (\\Answered later)");
    }),
    ("flags and keywords removed", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:* -FLAGS (\\Seen work later $Forwarded)");
    }),
    ("flags replaced", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:* FLAGS (\\Draft)");
    }),
    ("one flag removed and another set, the same number unseen", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 1 FLAGS (\\Seen)");
        imap.ok("UID STORE 2 FLAGS (\\Seen)");
        imap.ok("UID STORE 1 FLAGS ()");
    }),
    // The server keeps them as two.
    ("keywords that differ in case alone", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 1 +FLAGS (Junk)");
        imap.ok("UID STORE 2 +FLAGS (JUNK NonJunk)");
    }),
    ("keywords with odd names", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 4 +FLAGS (a!b'c:d;e $MDNSent a.b a/b a[b ~x #1 -y $label1)");
    }),
    ("an expunge in the middle", |imap, _| {
        imap.select("INBOX");
        imap.ok("UID STORE 4 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("an expunge and a new message, as many as before", |imap, _| {
        put(imap, "INBOX", "", "one for one");
        imap.select("INBOX");
        imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("the newest message expunged", |imap, _| {
        put(imap, "INBOX", "", "short lived");
        imap.select("INBOX");
        imap.ok("STORE * +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("a message moved", |imap, spell| {
        imap.select("INBOX");
        imap.ok(&format!("UID MOVE 1 {}", quoted(&spell("Sent"))));
    }),
    ("a message copied", |imap, spell| {
        imap.select("INBOX");
        imap.ok(&format!("UID COPY 7 {}", quoted(&spell("Work/2024"))));
    }),
    ("a new mailbox with mail, and parents that come with it", |imap, spell| {
        imap.ok(&format!("CREATE {}", quoted(&spell("Fresh/middle/inner"))));
        put(imap, &spell("Fresh/middle/inner"), "\\Seen", "inner");
    }),
    ("an empty mailbox", |imap, spell| drop(imap.ok(&format!("CREATE {}", quoted(&spell("Groß")))))),
    ("a mailbox renamed", |imap, spell| {
        imap.ok(&format!("RENAME {} {}", quoted(&spell("Sent")), quoted(&spell("Gesendet"))));
    }),
    ("a mailbox renamed with those below it", |imap, spell| {
        imap.ok(&format!("RENAME {} {}", quoted(&spell("Fresh")), quoted(&spell("Stale"))));
    }),
    ("a mailbox renamed and written to", |imap, spell| {
        imap.ok(&format!("RENAME {} {}", quoted(&spell("Gesendet")), quoted(&spell("Sent"))));
        put(imap, &spell("Sent"), "", "to Sent");
    }),
    ("two mailboxes that change names", |imap, spell| {
        for (from, to) in [("Sent", "Between"), ("Stale/middle/inner", "Sent"), ("Between", "Stale/middle/inner")] {
            imap.ok(&format!("RENAME {} {}", quoted(&spell(from)), quoted(&spell(to))));
        }
    }),
    ("a mailbox deleted and made anew", |imap, spell| {
        imap.ok(&format!("DELETE {}", quoted(&spell("Sent"))));
        imap.ok(&format!("CREATE {}", quoted(&spell("Sent"))));
        put(imap, &spell("Sent"), "", "in another one");
    }),
    ("a mailbox deleted, and its name given to another one", |imap, spell| {
        imap.ok(&format!("DELETE {}", quoted(&spell("Sent"))));
        imap.ok(&format!("RENAME {} {}", quoted(&spell("Stale/middle/inner")), quoted(&spell("Sent"))));
    }),
    ("a mailbox emptied", |imap, spell| {
        imap.select(&spell("Sent"));
        imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("a mailbox deleted that was subscribed", |imap, spell| {
        imap.ok(&format!("DELETE {}", quoted(&spell("Sent"))));
    }),
    ("subscriptions", |imap, spell| {
        imap.ok(&format!("SUBSCRIBE {}", quoted(&spell("Groß"))));
        imap.ok(&format!("UNSUBSCRIBE {}", quoted(&spell("Work/2024"))));
    }),
    ("a subscription taken back", |imap, spell| drop(imap.ok(&format!("UNSUBSCRIBE {}", quoted(&spell("Groß")))))),
    ("a family that moves below another mailbox", |imap, spell| {
        imap.ok(&format!("RENAME {} {}", quoted(&spell("Stale")), quoted(&spell("Work/Stale"))));
    }),
    ("a mailbox with INBOX as part of its name", |imap, spell| {
        imap.ok(&format!("CREATE {}", quoted(&spell("Work/INBOX"))));
        put(imap, &spell("Work/INBOX"), "", "not the INBOX");
    }),
    ("many at once", |imap, _| {
        for number in 0..20 {
            put(imap, "INBOX", ["", "\\Seen", "many"][number % 3], &format!("many {number}"));
        }
    }),
];

/// Capabilities that a Cyrus of old has not.
const MODERN: &str =
    "suppress_capabilities: CONDSTORE QRESYNC ENABLE ESEARCH LIST-EXTENDED LIST-STATUS SPECIAL-USE MOVE\n";

fn every_change(names: Names, without: &str) {
    if !cyrus::is_here() {
        return;
    }
    let spec = CyrusSpec { extra: without.to_owned(), ..CyrusSpec::with(names, &["u1"]) };
    let sides = Sides::start(spec, Format::Mdbox);
    fill(&sides.old, "u1");
    let ferry = Ferry::start(sides.spec());
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", sides.old.password("u1"));
    ferry.wait_phase("u1", "following", LONG);
    for (number, (what, change)) in CHANGES.iter().enumerate() {
        // By turns: a client of ours, whose writes are seen, and something behind our back, which a look finds.
        if number % 2 == 0 {
            change(&mut session, &|parts| sides.spell(parts));
        } else {
            change(&mut sides.old.log_in("u1"), &|parts| sides.spell(parts));
        }
        touch(&mut session);
        sides.settle(&ferry, "u1", what);
    }
    deliver(&sides.old, "u1", b"Subject: delivered\n\nmail\n");
    touch(&mut session);
    sides.settle(&ferry, "u1", "a delivery");
    session.ok("LOGOUT");
    sides.verify(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    sides.assert_foreign_judge_agrees("u1");
}

/// Has the session write, so that the account is looked at in a moment; nothing changes by it.
fn touch(session: &mut Imap) {
    session.select("INBOX");
    session.ok("UID STORE 4000000000 +FLAGS.SILENT (\\Seen)");
    session.ok("UNSELECT");
}

#[test]
fn from_cyrus_with_dots_every_change_is_followed() {
    every_change(Names::Dots, "");
}

#[test]
fn from_cyrus_with_slashes_and_without_prefix_every_change_is_followed() {
    every_change(Names::AltSlashes, "");
}

#[test]
fn from_a_cyrus_of_old_every_change_is_followed() {
    every_change(Names::Dots, MODERN);
}
