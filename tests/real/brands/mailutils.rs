//! GNU Mailutils as old side: mail in mbox files, into which the server writes.

use std::fs;

use super::{LONG, new_side, spec, switch, verify};
use crate::copy::shown;
use crate::lab::foreign::Mbsync;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Mailutils, Served, Spec, World, nasty};
use crate::uidl::maildrop::{self, Mpop, Shown};

const USER: &str = "u1@example.com";

fn letter(number: u32) -> String {
    format!("From: a@example.org\nSubject: letter {number}\n\nbody {}\n", "x".repeat(number as usize))
}

fn login(port: u16) -> Imap {
    let mut imap = Imap::connect(port);
    imap.login(USER, "pw-of-u1");
    imap
}

/// A client opens INBOX and flags a message: until then the server tells another UIDVALIDITY at each look.
fn opened(old: &Mailutils, number: u32) {
    let mut imap = login(old.imap_port());
    imap.select("INBOX");
    imap.ok(&format!("STORE {number} +FLAGS (\\Flagged)"));
    imap.ok("CLOSE");
    imap.ok("LOGOUT");
}

/// INBOX with some flags, and another mailbox.
fn fill(old: &Mailutils) {
    (1..=5).for_each(|number| old.deliver("u1", &letter(number)));
    let mut imap = login(old.imap_port());
    imap.ok("CREATE Sent");
    imap.append("Sent", "\\Seen", "17-Jul-1996 02:44:25 -0700", letter(9).as_bytes());
    imap.select("INBOX");
    imap.ok("STORE 2 +FLAGS (\\Seen \\Flagged)");
    imap.ok("CLOSE");
    imap.ok("LOGOUT");
}

#[test]
fn a_user_of_mailutils_without_pop3_is_moved() {
    if !Mailutils::is_here() {
        return;
    }
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    fill(&old);
    let ferry = Ferry::start(FerrySpec { pop3: false, enroll: "none", ..spec(&old, &new) });
    let client = Mbsync::new(ferry.imap(), USER, "pw-of-u1");
    let first = client.run();
    assert!(first.success && first.downloaded == 6, "{first:?}");
    // A client that opens mail changes it once: what is copied from now on stays as it is.
    ferry.run_ok(&["enroll", USER]);
    login(ferry.imap()).ok("LOGOUT");
    ferry.wait_phase(USER, "following", LONG);
    switch(&ferry, USER);
    let (report, code) = verify(&ferry, &old, USER);
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    let found = World::of(&old, USER).differences(&World::of(&new, "u1"), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    let second = client.run();
    assert!(second.success && second.downloaded == 0, "{second:?}");
}

#[test]
fn a_user_of_mailutils_with_pop3_is_moved_with_the_uidls_that_stand_in_the_messages() {
    if !Mailutils::is_here() {
        return;
    }
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    fill(&old);
    let ferry = Ferry::start(FerrySpec { enroll: "none", ..spec(&old, &new) });
    let client = Mpop::new();
    assert_eq!(client.run(ferry.pop3(), USER, "pw-of-u1"), 5);
    let uidls = |shown: Shown| shown.into_iter().map(|(uidl, _)| uidl).collect::<Vec<_>>();
    let before = uidls(maildrop::shown(&old, USER));
    // POP3 has not shown this one yet: it has no UIDL.
    old.deliver("u1", &letter(6));
    opened(&old, 6);
    let sessions = |old: &Mailutils| old.log().matches("logged in with mailbox").count();
    let theirs = sessions(&old);
    let file = ferry.password_file("pw-of-u1");
    let said = shown(&ferry.run(&["check", USER, "--password-file", &file]));
    for words in
        ["it is GNU Mailutils", "locks everybody else out", "5 UIDLs, paired by 5 x-uidl", "1 without UIDL yet"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    ferry.run_ok(&["enroll", USER]);
    login(ferry.imap()).ok("LOGOUT");
    ferry.wait_phase(USER, "following", LONG);
    switch(&ferry, USER);
    let (report, code) = verify(&ferry, &old, USER);
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(sessions(&old), theirs, "no POP3 session of ours: {}", old.log());
    let after = uidls(maildrop::shown(&new, "u1"));
    assert_eq!((&after[..5], after.len()), (&before[..], 6));
    assert_eq!(client.run(ferry.pop3(), USER, "pw-of-u1"), 1, "what is known is not downloaded again");
}

#[test]
fn uidls_that_stand_in_two_messages_of_mailutils_keep_the_user() {
    if !Mailutils::is_here() {
        return;
    }
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    for number in 1..=2 {
        old.deliver("u1", &format!("X-UIDL: from-another-server\n{}", letter(number)));
    }
    opened(&old, 2);
    let ferry = Ferry::start(spec(&old, &new));
    login(ferry.imap()).ok("LOGOUT");
    ferry.wait_phase(USER, "following", LONG);
    let refused = ferry.run(&["switch", USER]);
    let said = shown(&refused);
    let why = "messages 1 and 2 have the same UIDL from-another-server";
    assert!(!refused.status.success() && said.contains("pop3-pairing") && said.contains(why), "{said}");
    assert_eq!(ferry.status(USER)["authority"], "old");
    assert_eq!(World::of(&new, "u1").mailboxes["INBOX"].mails.len(), 2, "the mail is copied all the same");
}

#[test]
fn mail_that_mailutils_changes_after_it_was_copied_keeps_its_user_where_they_are() {
    if !Mailutils::is_here() {
        return;
    }
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    fill(&old);
    let ferry = Ferry::start(FerrySpec { pop3: false, ..spec(&old, &new) });
    login(ferry.imap()).ok("LOGOUT");
    ferry.wait_phase(USER, "following", LONG);
    let copied = World::of(&old, USER);
    let mut imap = login(ferry.imap());
    imap.select("INBOX");
    imap.ok("STORE 1 +FLAGS (\\Seen)");
    imap.ok("CLOSE");
    imap.ok("LOGOUT");
    let changed = World::of(&old, USER);
    let octets = |world: &World| world.mailboxes["INBOX"].mails[&1].body.clone();
    assert_ne!(octets(&copied), octets(&changed), "it has written a Status line into the message");
    let refused = ferry.run(&["switch", USER]);
    let said = shown(&refused);
    assert!(!refused.status.success() && said.contains("INBOX") && said.contains("UID 1"), "{said}");
    assert_eq!(ferry.status(USER)["authority"], "old");
    // As README.md says.
    let file = ferry.password_file("pw-of-u1");
    ferry.run_ok(&["sync", USER, "--rebuild", "INBOX", "--password-file", &file]);
    switch(&ferry, USER);
    let found = World::of(&old, USER).differences(&World::of(&new, "u1"), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_user_of_mailutils_whose_mailbox_no_client_has_opened_is_waited_for_and_an_empty_mailbox_is_no_hindrance() {
    if !Mailutils::is_here() {
        return;
    }
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    let mut imap = login(old.imap_port());
    imap.ok("CREATE Empty");
    imap.ok("LOGOUT");
    (1..=5).for_each(|number| old.deliver("u1", &letter(number)));
    let ferry = Ferry::start(FerrySpec { pop3: false, ..spec(&old, &new) });
    login(ferry.imap()).ok("LOGOUT");
    let status = ferry.wait_status(USER, LONG, |status| status["reason"].is_string());
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("INBOX: its UIDVALIDITY is another one at each look"), "{reason}");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("copying"), Some("old")));
    let file = ferry.password_file("pw-of-u1");
    let checked = ferry.run(&["check", USER, "--password-file", &file]);
    let said = shown(&checked);
    assert!(checked.status.code() == Some(1) && said.contains("INBOX: its UIDVALIDITY is another one"), "{said}");
    assert_eq!(World::of(&new, "u1").count(), 0);

    // What every client does.
    let mut session = login(ferry.imap());
    session.select("INBOX");
    session.ok("FETCH 1 BODY[]");
    session.ok("LOGOUT");
    ferry.wait_phase(USER, "following", LONG);
    switch(&ferry, USER);
    let (report, code) = verify(&ferry, &old, USER);
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(World::of(&new, "u1").mailboxes["INBOX"].mails.len(), 5);
    assert_eq!(World::of(&new, "u1").mailboxes["Empty"].uid_validity, Some(1));
}

#[test]
fn the_mail_corpus_arrives_as_mailutils_shows_it() {
    if !Mailutils::is_here() {
        return;
    }
    let maker = Dovecot::start(Spec::old(&["u1"]));
    let Some(account) = nasty::corpus(&maker, "u1") else {
        eprintln!("no corpus here");
        return;
    };
    let old = Mailutils::start(&["u1"]);
    let new = new_side(&["u1"], "\"\"", '/');
    let messages: Vec<_> = account.mailboxes.values().flat_map(|mailbox| mailbox.messages.values()).collect();
    fs::write(old.inbox("u1"), messages.iter().flat_map(|message| in_mbox(&message.raw)).collect::<Vec<_>>()).unwrap();
    opened(&old, 1);
    let ferry = Ferry::prepare(FerrySpec { pop3: false, ..spec(&old, &new) });
    let file = ferry.password_file("pw-of-u1");
    ferry.run_ok(&["sync", USER, "--password-file", &file]);
    let (report, code) = verify(&ferry, &old, USER);
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!((report["bodies"].as_u64(), report["differences"].as_u64()), (report["messages"].as_u64(), Some(0)));
    let found = World::of(&old, USER).differences(&World::of(&new, "u1"), Next::AtLeast);
    assert_eq!(report["altered"].as_u64(), Some(found.len() as u64), "{found:#?} {report:#}");
    // Some that it takes for parts of others: what it shows is what arrives.
    let (shown, given) = (World::of(&old, USER).mailboxes["INBOX"].mails.len(), messages.len());
    assert_eq!(report["messages"].as_u64(), Some(shown as u64));
    assert!(shown > given - given / 20, "{shown} of {given}");
    eprintln!("{shown} messages of {given}, {} of them altered by a named rule", report["altered"]);
}

/// A message as a delivery program writes it: lines that could begin another one are quoted.
fn in_mbox(raw: &[u8]) -> Vec<u8> {
    let mut entry = b"From sender@example.org Wed Jul 17 02:44:25 1996\n".to_vec();
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        entry.extend_from_slice(if line.starts_with(b"From ") { b">" } else { b"" });
        entry.extend_from_slice(line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line));
        entry.push(b'\n');
    }
    entry.push(b'\n');
    entry
}
