//! The losses that a target does not tell of (dsync says that all is well), each provoked here: prevented, or named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, sync, verify};
use crate::lab::account::{Mailbox, Message, folder_of};
use crate::lab::imap::mailbox_name;
use crate::lab::{Account, Dovecot, Ferry, Imap, foreign, nasty};

/// The file of a message on the old side.
fn file_of(old: &Dovecot, user: &str, mailbox: &str, uid: u32) -> PathBuf {
    let folder = folder_of(&old.mail_dir(user), mailbox).join("cur");
    let found = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mark = format!(".M{uid}V");
    found.into_iter().find(|path| path.to_string_lossy().contains(&mark)).expect("the message is there")
}

/// Makes a message unreadable, or readable again.
fn lock(path: &PathBuf, locked: bool) {
    fs::set_permissions(path, fs::Permissions::from_mode(if locked { 0o000 } else { 0o600 })).unwrap();
}

fn uids(pair: &Pair, account: &Account, mailbox: &str) -> Vec<u32> {
    let mut imap = account.log_in(&pair.new);
    imap.examine(mailbox);
    imap.uids()
}

/// A UID skipped at first and sent later would be dropped by the target: nothing above it may be sent before it.
#[test]
fn a_message_that_can_not_be_read_stops_its_mailbox_until_it_can() {
    let pair = Pair::start(&["u1", "u2"]);
    let ferry = pair.ferry();
    for (user, mailbox, uid, below) in [("u1", "INBOX", 5, &[1, 2][..]), ("u2", "Projekte/Größe", 3, &[])] {
        let account = nasty::small(&pair.old, user);
        let file = file_of(&pair.old, user, mailbox, uid);
        lock(&file, true);
        for _ in 0..2 {
            let output = on_user(&ferry, &pair, &["sync"], user);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
            assert!(said.contains(&format!("{mailbox} UID {uid}")), "{}", shown(&output));
            assert_eq!(uids(&pair, &account, mailbox), below, "{}", shown(&output));
            assert_eq!(uids(&pair, &account, "Sent"), [1, 2, 3], "the other mailboxes are complete");
        }
        let (report, code) = verify(&ferry, &pair, user, "all");
        assert_eq!((code, report["identical"].as_bool()), (1, Some(false)), "{report:#}");

        lock(&file, false);
        sync(&ferry, &pair, user);
        assert_equal_everywhere(&ferry, &pair, &account);
    }
}

/// A message that can't be read on one side is a difference with a name, not an end of the verification.
#[test]
fn verify_names_a_message_that_can_not_be_read_any_more() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    let account = nasty::small(&pair.old, "u1");
    sync(&ferry, &pair, "u1");
    let file = file_of(&pair.old, "u1", "INBOX", 5);
    lock(&file, true);
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    let found: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
    assert_eq!(
        (code, found.len(), found[0]["rule"].as_str(), found[0]["mailbox"].as_str(), found[0]["uid"].as_u64()),
        (1, 1, Some("unreadable"), Some("INBOX"), Some(5)),
        "{report:#}"
    );
    assert_eq!(report["bodies"].as_u64(), Some(account.message_count() as u64 - 1), "all others are compared");
    lock(&file, false);
    assert_equal_everywhere(&ferry, &pair, &account);
}

/// A change on the old side, made by IMAP and in the model of the account.
struct Case {
    what: &'static str,
    change: fn(&mut Imap, &mut Account),
}

const LEAP_DAY: &str = "29-Feb-2024 12:00:00 +0000";
const LEAP_DAY_SECONDS: i64 = 1_709_208_000;

fn append(imap: &mut Imap, account: &mut Account, mailbox: &str, flags: &str) {
    let raw = format!("Subject: later in {mailbox}\r\n\r\nx\r\n").into_bytes();
    let uid = imap.append(mailbox, flags, LEAP_DAY, &raw);
    assert_eq!(uid, Some(account.mailbox(mailbox).push(Message::new(raw, flags, LEAP_DAY_SECONDS))));
}

fn expunge(imap: &mut Imap, account: &mut Account, mailbox: &str, uids: &[u32]) {
    imap.select(mailbox);
    for uid in uids {
        imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
        account.mailbox(mailbox).expunge(*uid);
    }
    imap.ok("EXPUNGE");
}

/// Other flags: `+name` and `-name`.
fn flag(imap: &mut Imap, account: &mut Account, mailbox: &str, uid: u32, changes: &str) {
    imap.select(mailbox);
    let flags = &mut account.mailbox(mailbox).messages.get_mut(&uid).unwrap().flags;
    for change in changes.split_whitespace() {
        let (sign, name) = change.split_at(1);
        imap.ok(&format!("UID STORE {uid} {sign}FLAGS ({name})"));
        let changed = if sign == "+" { flags.insert(name.to_owned()) } else { flags.remove(name) };
        assert!(changed, "{change} of UID {uid} changes something");
    }
}

fn create(imap: &mut Imap, account: &mut Account, mailbox: &str) {
    imap.ok(&format!("CREATE {}", mailbox_name(mailbox)));
    let new = Mailbox::new(imap.select(mailbox).uid_validity);
    assert!(account.mailboxes.insert(mailbox.to_owned(), new).is_none());
    account.no_select = account.implied_parents();
}

fn delete(imap: &mut Imap, account: &mut Account, mailbox: &str) {
    imap.ok(&format!("DELETE {}", mailbox_name(mailbox)));
    account.mailboxes.remove(mailbox).unwrap();
    account.no_select = account.implied_parents();
}

/// Renames one mailbox and all below it.
fn rename(imap: &mut Imap, account: &mut Account, from: &str, to: &str) {
    imap.ok(&format!("RENAME {} {}", mailbox_name(from), mailbox_name(to)));
    let all = std::mem::take(&mut account.mailboxes);
    for (name, mailbox) in all {
        let below = name.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        account.mailboxes.insert(below.map_or_else(|| name.clone(), |rest| format!("{to}{rest}")), mailbox);
    }
    account.no_select = account.implied_parents();
}

fn unsubscribe(imap: &mut Imap, account: &mut Account, name: &str) {
    imap.ok(&format!("UNSUBSCRIBE {}", mailbox_name(name)));
    assert!(account.subscriptions.remove(name));
}

const CASES: &[Case] = &[
    Case { what: "the tail expunged", change: |imap, account| expunge(imap, account, "INBOX", &[6, 9]) },
    Case {
        what: "the tail expunged and new mail in its place",
        change: |imap, account| {
            expunge(imap, account, "Projekte/Größe", &[9]);
            append(imap, account, "Projekte/Größe", "\\Flagged kw");
        },
    },
    Case {
        what: "mail that came and went",
        change: |imap, account| {
            append(imap, account, "Sent", "");
            append(imap, account, "Sent", "");
            expunge(imap, account, "Sent", &[4, 5]);
        },
    },
    Case { what: "the middle expunged", change: |imap, account| expunge(imap, account, "INBOX", &[2, 5]) },
    Case { what: "all expunged", change: |imap, account| expunge(imap, account, "Sent", &[1, 2, 3]) },
    Case {
        what: "flags and keywords",
        change: |imap, account| {
            flag(imap, account, "INBOX", 5, "-\\Seen -$Forwarded +\\Draft");
            flag(imap, account, "INBOX", 9, "-NonJunk +Junk");
            flag(imap, account, "Sent", 1, "-\\Seen");
            flag(imap, account, "Projekte/Größe", 3, "+a +b +\\Answered");
        },
    },
    Case {
        what: "all at once",
        change: |imap, account| {
            expunge(imap, account, "INBOX", &[1, 9]);
            flag(imap, account, "INBOX", 5, "-\\Seen");
            append(imap, account, "INBOX", "\\Seen");
            create(imap, account, "New");
            append(imap, account, "New", "x");
            delete(imap, account, "Empty");
            unsubscribe(imap, account, "Sent");
        },
    },
    Case {
        what: "a mailbox re-created",
        change: |imap, account| {
            delete(imap, account, "Sent");
            create(imap, account, "Sent");
            for _ in 0..5 {
                append(imap, account, "Sent", "");
            }
        },
    },
    Case {
        what: "a mailbox re-created without mail",
        change: |imap, account| {
            delete(imap, account, "Sent");
            create(imap, account, "Sent");
        },
    },
    Case { what: "a mailbox renamed", change: |imap, account| rename(imap, account, "Sent", "Gesendet 2023") },
    Case { what: "a parent renamed", change: |imap, account| rename(imap, account, "Projekte", "Projects/old") },
    Case {
        what: "two mailboxes that change their names",
        change: |imap, account| {
            rename(imap, account, "Sent", "between");
            rename(imap, account, "Projekte/Größe", "Sent");
            rename(imap, account, "between", "Projekte/Größe");
        },
    },
    Case { what: "a mailbox deleted", change: |imap, account| delete(imap, account, "Sent") },
    Case {
        what: "a mailbox below a parent deleted", change: |imap, account| delete(imap, account, "Projekte/Größe")
    },
    Case {
        what: "a mailbox deleted above another",
        change: |imap, account| {
            create(imap, account, "Empty/below");
            append(imap, account, "Empty/below", "");
            delete(imap, account, "Empty");
        },
    },
    Case { what: "a parent that becomes a mailbox", change: |imap, account| create(imap, account, "Projekte") },
    Case {
        what: "subscriptions removed and added",
        change: |imap, account| {
            unsubscribe(imap, account, "Sent");
            unsubscribe(imap, account, "Gone/for good");
            imap.ok("SUBSCRIBE Nothing/here");
            account.subscriptions.insert("Nothing/here".to_owned());
        },
    },
    Case {
        what: "all subscriptions removed",
        change: |imap, account| {
            for name in account.subscriptions.clone() {
                unsubscribe(imap, account, &name);
            }
        },
    },
    Case {
        what: "a mailbox deleted with its subscription",
        change: |imap, account| {
            unsubscribe(imap, account, "Sent");
            delete(imap, account, "Sent");
        },
    },
];

#[test]
fn what_changes_between_two_runs_is_carried_over_exactly() {
    let users: Vec<String> = (0..CASES.len()).map(|number| format!("s{number}")).collect();
    let pair = Pair::start(&users.iter().map(String::as_str).collect::<Vec<_>>());
    let ferry = pair.ferry();
    for (case, user) in CASES.iter().zip(&users) {
        eprintln!("{}", case.what);
        let mut account = nasty::small(&pair.old, user);
        sync(&ferry, &pair, user);
        let mut imap = account.log_in(&pair.old);
        (case.change)(&mut imap, &mut account);
        imap.ok("LOGOUT");
        let wrong = account.differences(&mut account.log_in(&pair.old), crate::lab::View::Source);
        assert!(wrong.is_empty(), "{}: the model is wrong: {wrong:#?}", case.what);
        assert_eq!(verify(&ferry, &pair, user, "none").1, 1, "{}: the change is seen", case.what);
        sync(&ferry, &pair, user);
        assert_equal_everywhere(&ferry, &pair, &account);
    }
}
