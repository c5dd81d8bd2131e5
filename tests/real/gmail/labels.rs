//! `$GmailHaveLabels`: all mailboxes whole, and of all mail only what is in none of them.

use std::collections::BTreeSet;

use super::{DATE, fill, letter, new_side, on_user, spec};
use crate::copy::shown;
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, Gmail, Tongue, World};

const ALL: &str = "[Gmail]/All Mail";

/// What a mailbox of all mail has, by the numbers of the letters in it.
fn numbers(world: &World, mailbox: &str) -> BTreeSet<String> {
    let subject = |body: &[u8]| {
        let text = String::from_utf8_lossy(body).into_owned();
        text.split_once("Subject: letter ").unwrap().1.split("\r\n").next().unwrap().to_owned()
    };
    let Some(mailbox) = world.mailboxes.get(mailbox) else { return BTreeSet::new() };
    mailbox.mails.values().map(|mail| subject(&mail.body)).collect()
}

/// Beside the usual mail: what is starred and nothing else (100), important and nothing else (101), what has a label that IMAP
/// doesn't show (102), and what is muted (103).
fn start() -> (Gmail, Dovecot) {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill(&old, "u1");
    for (number, label) in [(100, "\\Starred"), (101, "\\Important"), (102, "Secret"), (103, "\\Muted")] {
        old.deliver("u1", &[label], DATE, &letter(number, 10));
    }
    old.change("u1", |account| account.folders.retain(|folder| folder.name != "Secret"));
    let new = new_side(&old, "u1", Format::Mdbox, "");
    (old, new)
}

/// Both sides, but for all mail; and what the new side has of that.
fn compared(old: &Gmail, new: &Dovecot, left_out: &[&str]) -> BTreeSet<String> {
    let (mut was, mut is) = (World::of(old, "u1"), World::of(new, "u1"));
    let flags: Vec<_> =
        is.mailboxes.values().flat_map(|mailbox| mailbox.mails.values().flat_map(|mail| mail.flags.clone())).collect();
    assert!(!flags.iter().any(|flag| flag.contains("Gmail")), "{flags:?}");
    let archived = numbers(&is, ALL);
    for name in [&[ALL], left_out].concat() {
        was.mailboxes.remove(name);
        is.mailboxes.remove(name);
        was.subscriptions.remove(name);
        is.subscriptions.remove(name);
    }
    let found = was.differences(&is, Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    archived
}

fn words(numbers: &[&str]) -> BTreeSet<String> {
    numbers.iter().map(|number| (*number).to_owned()).collect()
}

#[test]
fn of_all_mail_only_what_is_archived_is_copied_and_what_is_archived_later_follows() {
    let (old, new) = start();
    let ferry = Ferry::prepare(spec(&old, &new));
    let sync = |more: &[&str]| on_user(&ferry, &[&["sync", "--flags", "-$GmailHaveLabels"], more].concat(), "u1");
    let told = shown(&sync(&["--dry-run"]));
    assert!(told.contains(&format!("{ALL}: 3 to copy")) && told.contains("10 left out by the filter"), "{told}");
    let output = sync(&[]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(compared(&old, &new, &[]), words(&["102", "103", "6"]));
    // What was archived gets a label: it stays where it is.
    let ids: Vec<u64> = old.change("u1", |account| account.letters.keys().copied().collect());
    old.change("u1", |account| account.label(ids[5], "Work", true));
    let output = sync(&[]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(compared(&old, &new, &[]), words(&["102", "103", "6"]));
    // What had labels is archived. It was left out in the middle, so that all mail is made anew.
    old.change("u1", |account| {
        account.label(ids[5], "Work", false);
        ["\\Inbox", "Work"].iter().for_each(|label| account.label(ids[2], label, false));
    });
    let output = sync(&[]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(compared(&old, &new, &[]), words(&["102", "103", "3", "6"]));
    // The account is a part, until all of it is copied.
    assert!(shown(&output).contains("-$GmailHaveLabels"), "{}", shown(&output));
    let output = on_user(&ferry, &["sync"], "u1");
    assert!(output.status.success(), "{}", shown(&output));
    let found = World::of(&old, "u1").differences(&World::of(&new, "u1"), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_only_in_a_mailbox_that_is_left_out_counts_as_archived() {
    for mode in ["backup", "merge"] {
        let (old, new) = start();
        let ferry = Ferry::prepare(spec(&old, &new));
        let exclude = ["--exclude", "\\Flagged", "--exclude", "\\Important", "--exclude", "Work/*"];
        let sync = [&["sync", "--mode", mode, "--flags", "-$GmailHaveLabels"], &exclude[..]].concat();
        for _ in 0..2 {
            let output = on_user(&ferry, &sync, "u1");
            assert!(output.status.success(), "{}", shown(&output));
            let is = World::of(&new, "u1");
            assert_eq!(numbers(&is, ALL), words(&["100", "101", "102", "103", "6"]), "{mode}");
        }
        // Every message of the account is somewhere.
        let (was, is) = (World::of(&old, "u1"), World::of(&new, "u1"));
        let all = |world: &World| {
            let each = world.mailboxes.keys().flat_map(|name| numbers(world, name));
            each.collect::<BTreeSet<_>>()
        };
        assert_eq!(all(&was), all(&is), "{mode}");
        for name in ["[Gmail]/Starred", "[Gmail]/Important", "Work/2024"] {
            assert!(numbers(&is, name).is_empty(), "{mode} {name}");
        }
        assert!(
            !is.mailboxes
                .values()
                .any(|one| { one.mails.values().any(|mail| mail.flags.iter().any(|flag| flag.contains("Gmail"))) })
        );
    }
}

#[test]
fn where_all_mail_is_not_shown_nobody_is_told_that_all_of_it_is_copied() {
    let (old, new) = start();
    old.change("u1", |account| account.folders.retain(|folder| folder.special != "\\All"));
    let ferry = Ferry::prepare(spec(&old, &new));
    for mode in ["backup", "merge"] {
        let said = shown(&on_user(&ferry, &["sync", "--mode", mode, "--flags", "-$GmailHaveLabels"], "u1"));
        assert!(said.contains("Gmail shows no mailbox of all mail (\\All) over IMAP"), "{said}");
    }
    assert_eq!(World::of(&new, "u1").count(), 0);
    let said = shown(&on_user(&ferry, &["check"], "u1"));
    assert!(
        said.contains("no mailbox of all mail (\\All) is shown over IMAP: what has no label (archived mail)"),
        "{said}"
    );
}
