//! Gmail as old side: a scripted one (`tests/lab/gmail.rs`), behind a real Dovecot as new side.

mod labels;
mod limits;
mod pop3;
mod storage;
mod tokens;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::copy::shown;
use crate::lab::gmail::Account;
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, FerrySpec, Gmail, Imap, Served, Spec, Tongue, World};

const LONG: Duration = Duration::from_secs(120);
const DATE: i64 = 1_600_000_000;

fn letter(number: usize, octets: usize) -> String {
    format!(
        "From: a@example.org\nSubject: letter {number}\nMessage-ID: <{number}@example.org>\n\n{}\n",
        "x".repeat(octets)
    )
}

/// Mail with several labels, with one, and with none; gives how many messages there are.
fn fill(gmail: &Gmail, user: &str) -> usize {
    let mut count = 0;
    let mut bring = |labels: &[&str], octets: usize| {
        count += 1;
        gmail.deliver(user, labels, DATE + i64::try_from(count).unwrap(), &letter(count, octets))
    };
    let many = bring(&["\\Inbox", "\\Starred", "\\Important", "Work", "Work/2024"], 5000);
    for extra in 1..=4 {
        bring(&["\\Inbox", "Work"], 1000 * extra);
    }
    let archived = bring(&[], 2000);
    bring(&["\\Sent"], 10);
    bring(&["\\Sent", "\\Inbox", "\\Important"], 20);
    bring(&["\\Draft"], 30);
    bring(&["\\Trash"], 40);
    bring(&["\\Junk"], 50);
    gmail.change(user, |account| {
        account.flag(many, "\\Seen", true);
        account.flag(archived, "$Forwarded", true);
        account.unsubscribed.insert("Work/2024".to_owned());
    });
    count
}

/// A new side that keeps Gmail's own mailboxes under their names and uses.
fn new_side(gmail: &Gmail, user: &str, format: Format, extra: &str) -> Dovecot {
    let mut text = "namespace inbox {\n".to_owned();
    let special = |account: &mut Account| {
        let folders = account.folders.iter().filter(|folder| !folder.special.is_empty());
        folders.map(|folder| (crate::lab::imap::lossy(&decoded(&folder.name)), folder.special)).collect::<Vec<_>>()
    };
    for (name, special) in gmail.change(user, special) {
        let _ = write!(text, "  mailbox \"{name}\" {{\n    special_use = {special}\n    auto = no\n  }}\n");
    }
    let extra = format!("{text}}}\n{extra}");
    Dovecot::start(Spec { format, own_uidls: true, extra, ..Spec::new_side(&[user]) })
}

/// The only name here that is not ASCII.
fn decoded(name: &str) -> Vec<u8> {
    name.replace("Entw&APw-rfe", "Entwürfe").into_bytes()
}

fn spec<'a>(old: &'a Gmail, new: &'a Dovecot) -> FerrySpec<'a> {
    let extra = vec![("verify", "bodies = \"none\"")];
    FerrySpec { old_imap: Some(old.url()), auto: false, extra, ..FerrySpec::between(old, new) }
}

fn log_in(ferry: &Ferry, user: &str) -> Imap {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(user, &format!("pw-of-{user}"));
    imap
}

fn on_user(ferry: &Ferry, command: &[&str], user: &str) -> std::process::Output {
    let file = ferry.password_file(&format!("pw-of-{user}"));
    ferry.run(&[command, &[user, "--password-file", &file]].concat())
}

/// The report of `mailferry verify` and its exit code.
fn verify(ferry: &Ferry, user: &str) -> (Value, i32) {
    let output = on_user(ferry, &["verify", "--json", "--bodies", "all"], user);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
    (report, output.status.code().unwrap())
}

/// The operator switches a user; a busy moment is tried again.
fn switch(ferry: &Ferry, user: &str) {
    let deadline = std::time::Instant::now() + LONG;
    loop {
        let output = ferry.run(&["switch", user]);
        match output.status.code() {
            Some(0) => return,
            Some(75) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            _ => panic!("{}\n{}", shown(&output), ferry.log()),
        }
    }
}

/// Every message was read once, however many mailboxes it is in.
fn assert_read_once(old: &Gmail, user: &str) {
    let (fetches, sizes) = (old.fetches(user), old.change(user, |account| account.letters.clone()));
    let again: Vec<_> = fetches.iter().filter(|(_, count)| **count != 1).collect();
    assert!(again.is_empty(), "read more than once: {again:?}; {:#?}", old.state().fetched);
    let all: u64 = sizes.values().map(|letter| letter.body.len() as u64).sum();
    assert_eq!((fetches.len(), old.octets(user)), (sizes.len(), all));
}

/// The whole way of a user, as a client sees it.
fn moved(format: Format, tongue: Tongue) {
    let old = Gmail::start(&["u1"], tongue);
    let count = fill(&old, "u1");
    let new = new_side(&old, "u1", format, "");
    let ferry = Ferry::start(spec(&old, &new));
    let mut session = log_in(&ferry, "u1");
    let before = World::of(&old, "u1");
    assert_eq!(before.mailboxes.len(), 10, "{:?}", before.mailboxes.keys());
    assert!(before.count() > 2 * count);
    ferry.wait_phase("u1", "following", LONG);
    assert_read_once(&old, "u1");
    // It goes on there: new mail, a label more, one less, a flag in the one mailbox and so in all.
    old.deliver("u1", &["\\Inbox", "Fresh"], DATE + 100, &letter(100, 70));
    let (first, last) = old.change("u1", |account| {
        let ids: Vec<u64> = account.letters.keys().copied().collect();
        account.label(ids[1], "Work", false);
        account.label(ids[5], "Work", true);
        (ids[0], ids[5])
    });
    session.select("INBOX");
    session.ok("UID STORE 2 +FLAGS (\\Flagged)");
    session.ok("CLOSE");
    session.ok("LOGOUT");
    switch(&ferry, "u1");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("new"), Some("new")), "{status:#}");
    // What has one label more is written from what is there already.
    assert_read_once(&old, "u1");
    let was = World::of(&old, "u1");
    assert!(was.count() > before.count() && first != last);
    let found = was.differences(&World::of(&new, "u1"), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    let through = World::read(&mut log_in(&ferry, "u1"));
    let found = was.differences(&through, Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    let (report, code) = verify(&ferry, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(report["altered"], 0, "{report:#}");
}

#[test]
fn a_user_of_gmail_is_moved_to_mdbox_with_all_labels() {
    moved(Format::Mdbox, Tongue::English);
}

#[test]
fn a_user_of_gmail_in_german_is_moved_to_maildir_with_all_labels() {
    moved(Format::Maildir, Tongue::German);
}

#[test]
fn gmail_is_recognised_and_without_tls_no_password_goes_there() {
    let old = Gmail::start(&["u1"], Tongue::Spanish);
    fill(&old, "u1");
    let new = new_side(&old, "u1", Format::Mdbox, "");
    let ferry = Ferry::prepare(spec(&old, &new));
    let said = shown(&on_user(&ferry, &["check"], "u1"));
    for words in [
        "it is Gmail",
        "over TLS only",
        "its octets are read once",
        "15 sessions at once",
        "11 different messages, shown 29 times",
        "- INBOX: 6 messages, 6 of them in other mailboxes, too",
        "- [Gmail]/Todos: 9 messages, 8 of them in other mailboxes, too",
        "- [Gmail]/Papelera: 1 messages, 0 of them in other mailboxes, too",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let clear = format!("imap://127.0.0.1:{}", old.imap_port());
    let ferry = Ferry::prepare(FerrySpec { old_imap: Some(clear), ..spec(&old, &new) });
    let output = on_user(&ferry, &["sync"], "u1");
    assert!(!output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("takes passwords over TLS only: use `imaps://`"), "{}", shown(&output));
    assert!(old.state().most_open <= 1, "nobody logged in without TLS");
}
