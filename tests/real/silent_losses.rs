//! The losses that a target does not tell of (dsync says that all is well), each provoked here: prevented, or named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::copy::{Pair, assert_equal_everywhere, assert_foreign_judge_agrees, on_user, shown, sync, verify};
use crate::lab::account::{Mailbox, Message, folder_of};
use crate::lab::imap::mailbox_name;
use crate::lab::{Account, Dovecot, Ferry, Imap, nasty};
use crate::rebuild::run_what_is_told;

/// The file of a message on the old side.
pub(crate) fn file_of(old: &Dovecot, user: &str, mailbox: &str, uid: u32) -> PathBuf {
    let folder = folder_of(&old.mail_dir(user), mailbox).join("cur");
    let found = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mark = format!(".M{uid}V");
    found.into_iter().find(|path| path.to_string_lossy().contains(&mark)).expect("the message is there")
}

/// Makes a message unreadable, or readable again.
pub(crate) fn lock(path: &PathBuf, locked: bool) {
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
        what: "flags that changed and changed back: only mod-sequences tell",
        change: |imap, account| {
            flag(imap, account, "INBOX", 5, "-\\Seen +kw");
            flag(imap, account, "INBOX", 5, "+\\Seen -kw");
            flag(imap, account, "Sent", 3, "+\\Deleted");
            flag(imap, account, "Sent", 3, "-\\Deleted");
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
    Case { what: "a parent that becomes a mailbox", change: |imap, account| create(imap, account, "Projekte") },
    Case {
        what: "subscriptions removed and added",
        change: |imap, account| {
            unsubscribe(imap, account, "Sent");
            unsubscribe(imap, account, "Gone/for good");
            imap.ok("SUBSCRIBE Empty");
            account.subscriptions.insert("Empty".to_owned());
            delete(imap, account, "Empty");
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

/// A Dovecot with Maildir lists a mailbox that was deleted above another one as if it could still be opened.
#[test]
fn a_deleted_parent_that_is_still_listed_does_not_hold_its_user_up() {
    let pair = Pair::start(&["u1", "u2"]);
    let ferry = pair.ferry();
    for (user, synced_before) in [("u1", true), ("u2", false)] {
        let account = nasty::small(&pair.old, user);
        let mut imap = account.log_in(&pair.old);
        imap.ok("CREATE Empty/below");
        imap.append("Empty/below", "", "", b"Subject: x\r\n\r\n");
        if synced_before {
            sync(&ferry, &pair, user);
        }
        imap.ok("DELETE Empty");
        sync(&ferry, &pair, user);
        let (report, code) = verify(&ferry, &pair, user, "all");
        assert_eq!((code, report["findings"].as_array().unwrap().len()), (0, 0), "{report:#}");
        let mut imap = account.log_in(&pair.new);
        assert_eq!(imap.examine("Empty/below").exists, 1);
        assert!(imap.cmd("EXAMINE Empty").0.starts_with("NO"));
    }
}

/// Both judges say that the two sides are equal, where there is no model of the account.
fn assert_identical(ferry: &Ferry, pair: &Pair, user: &str) -> serde_json::Value {
    let (report, code) = verify(ferry, pair, user, "all");
    assert_eq!((code, report["identical"].as_bool()), (0, Some(true)), "{report:#}");
    assert_foreign_judge_agrees(pair, user);
    report
}

/// Announcing a UIDNEXT from after the UID list would push a mail that came in between to another UID.
#[test]
fn deliveries_and_a_client_at_work_while_the_copy_runs_lose_nothing() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    let pause = |milliseconds| std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    std::thread::scope(|scope| {
        let delivering = scope.spawn(|| {
            let mut imap = account.log_in(&pair.old);
            for count in 0..150 {
                for mailbox in ["INBOX", "Sent"] {
                    imap.append(mailbox, "", "", format!("Subject: delivery {count}\r\n\r\nx\r\n").as_bytes());
                }
                pause(5);
            }
        });
        let working = scope.spawn(|| {
            let mut imap = account.log_in(&pair.old);
            for round in 0_usize..40 {
                let last = imap.select("INBOX").exists;
                imap.ok(&format!("STORE {} +FLAGS (\\Seen kw{})", last / 2 + 1, round % 7));
                imap.ok(&format!("STORE {} -FLAGS (\\Seen kw{})", last / 3 + 1, round % 5));
                if round % 4 == 0 {
                    imap.ok(&format!("STORE {last} +FLAGS.SILENT (\\Deleted)"));
                    imap.ok("EXPUNGE");
                }
                // (A Maildir that another process looks at while it is made exists already, says Dovecot.)
                imap.cmd(&format!("CREATE busy{round}"));
                if round >= 3 {
                    imap.ok(&format!("DELETE busy{}", round - 3));
                }
                pause(20);
            }
        });
        while !delivering.is_finished() || !working.is_finished() {
            let output = on_user(&ferry, &pair, &["sync"], "u1");
            // An account that never rests may be left alone for now, with the code for that.
            assert!(matches!(output.status.code(), Some(0 | 75)), "{}", shown(&output));
        }
    });
    sync(&ferry, &pair, "u1");
    let report = assert_identical(&ferry, &pair, "u1");
    assert_eq!(report["messages"].as_u64(), Some(12 + 300 - 10), "{report:#}");
}

/// One keyword that the target can't hold makes it drop all keywords of that message.
#[test]
fn keywords_that_the_new_side_can_not_hold_cost_the_message_no_other_and_are_named() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    let mut account = Account::new("u1");
    let long = "x".repeat(51);
    // A Maildir's keywords are a file of names: this is how odd ones get there.
    let mailbox = account.mailbox("Odd/keywords");
    mailbox.push(nasty::plain("a", 1, &format!("good {long} Junk \\Seen")));
    mailbox.push(nasty::plain("b", 2, "a]b a(c fine"));
    mailbox.push(nasty::plain("c", 3, &format!("Junk {}", "y".repeat(50))));
    account.no_select = account.implied_parents();
    account.write_to(&pair.old);
    sync(&ferry, &pair, "u1");

    let mut imap = account.log_in(&pair.new);
    imap.select("Odd/keywords");
    assert_eq!(imap.flags(1).unwrap(), ["Junk", "\\Seen", "good"]);
    assert_eq!(imap.flags(2).unwrap(), ["fine"]);
    assert_eq!(imap.flags(3).unwrap(), ["Junk", &"y".repeat(50)]);
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    let found: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {} {} {}", one["class"], one["rule"], one["mailbox"], one["uid"], one["old"]))
        .collect();
    assert_eq!(
        (code, found),
        (
            1,
            vec![
                format!("\"difference\" \"keyword-unfit\" \"Odd/keywords\" 1 \"{long}\""),
                "\"difference\" \"keyword-unfit\" \"Odd/keywords\" 2 \"a(c a]b\"".to_owned()
            ]
        )
    );
    let again = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(again.status.success(), "it is not tried for ever: {}", shown(&again));
}

/// The target keeps the first spelling of a keyword; another case is the same keyword.
#[test]
fn a_keyword_in_another_case_is_the_same_keyword() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    let mut account = Account::new("u1");
    account.mailbox("INBOX").push(nasty::plain("a", 1, "Junk"));
    account.write_to(&pair.old);
    sync(&ferry, &pair, "u1");

    // The old side spells it differently from now on: its index is lost, and the names are read from the file.
    let root = pair.old.mail_dir("u1");
    for entry in fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().unwrap().to_string_lossy().starts_with("dovecot.index") {
            fs::remove_file(entry).unwrap();
        }
    }
    fs::write(root.join("dovecot-keywords"), "0 JUNK\n").unwrap();
    let mut imap = account.log_in(&pair.old);
    imap.append("INBOX", "JUNK", "", b"Subject: b\r\n\r\n");
    imap.select("INBOX");
    assert_eq!((imap.flags(1).unwrap(), imap.flags(2).unwrap()), (vec!["JUNK".to_owned()], vec!["JUNK".to_owned()]));
    sync(&ferry, &pair, "u1");
    let mut imap = account.log_in(&pair.new);
    imap.select("INBOX");
    assert_eq!((imap.flags(1).unwrap(), imap.flags(2).unwrap()), (vec!["Junk".to_owned()], vec!["Junk".to_owned()]));
    assert_identical(&ferry, &pair, "u1");
    let again = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(String::from_utf8_lossy(&again.stdout).contains("; 0 octets"), "{}", shown(&again));
}

/// The target ignores a flag removal whose mod-sequence is below its own.
#[test]
fn a_flag_is_removed_where_the_new_side_has_the_higher_mod_sequence() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    let mut account = nasty::small(&pair.old, "u1");
    sync(&ferry, &pair, "u1");
    let mut there = account.log_in(&pair.new);
    there.select("INBOX");
    for _ in 0..20 {
        // The very flags that are removed on the old side were set anew there, and last.
        there.ok("UID STORE 5 -FLAGS.SILENT (\\Seen $Forwarded)");
        there.ok("UID STORE 5 +FLAGS.SILENT (\\Seen $Forwarded)");
    }
    let mut imap = account.log_in(&pair.old);
    flag(&mut imap, &mut account, "INBOX", 5, "-\\Seen -$Forwarded");
    assert!(there.select("INBOX").highest_modseq > imap.select("INBOX").highest_modseq + 10);
    there.ok("LOGOUT");
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}

/// In one session a mailbox with another UIDVALIDITY would be merged; INBOX can't be deleted from outside at all.
#[test]
fn a_re_created_inbox_is_refused_with_the_command_that_helps() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    let mut account = nasty::small(&pair.old, "u1");
    sync(&ferry, &pair, "u1");
    pair.old.doveadm_ok(&["mailbox", "update", "-u", "u1", "--uid-validity", "1700000000", "INBOX"]);
    account.mailbox("INBOX").uid_validity = 1_700_000_000;
    let output = on_user(&ferry, &pair, &["sync"], "u1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let command = "doveadm mailbox delete -u u1 -s INBOX";
    assert!(said.contains("`INBOX`") && said.contains("UIDVALIDITY") && said.contains(command), "{said}");
    assert_eq!(uids(&pair, &account, "INBOX"), [1, 2, 5, 6, 9], "nothing is touched");

    run_what_is_told(&pair.new, &said);
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}
