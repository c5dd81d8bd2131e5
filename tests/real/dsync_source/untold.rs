//! What dsync does not tell of the old side is asked over IMAP, or refused: who shares what, the quota, what mailboxes are for, and
//! all that a merge needs.

use std::collections::BTreeMap;

use super::{by_dsync, pair};
use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::{Dovecot, Ferry, Imap, Release, Spec, World, nasty};
use crate::{quota, sharing};

#[test]
fn a_merge_reads_the_old_side_over_imap() {
    let pair = pair(Spec::old(&["u1"]));
    nasty::small(&pair.old, "u1");
    let mut imap = Imap::connect(pair.new.imap_port());
    imap.login("u1", pair.new.password("u1"));
    imap.append("INBOX", "\\Seen", "17-Jul-2006 02:44:25 -0700", b"Subject: its own\r\n\r\nmail\r\n");
    imap.ok("LOGOUT");
    let ferry = Ferry::prepare(by_dsync(&pair));
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(refused.status.code() == Some(1) && shown(&refused).contains("not ours"), "{}", shown(&refused));
    for _ in 0..2 {
        let merged = on_user(&ferry, &pair, &["sync", "--mode", "merge"], "u1");
        assert!(merged.status.success(), "{}", shown(&merged));
    }
    let texts = |world: World| -> BTreeMap<String, Vec<Vec<u8>>> {
        let of = |shelf: &crate::lab::world::Shelf| {
            let mut texts: Vec<Vec<u8>> = shelf.mails.values().map(|mail| mail.body.clone()).collect();
            texts.sort();
            texts
        };
        world.mailboxes.iter().map(|(name, shelf)| (name.clone(), of(shelf))).collect()
    };
    let mut expected = texts(World::of(&pair.old, "u1"));
    let inbox = expected.get_mut("INBOX").unwrap();
    inbox.push(b"Subject: its own\r\n\r\nmail\r\n".to_vec());
    inbox.sort();
    assert_eq!(texts(World::of(&pair.new, "u1")), expected);
}

#[test]
fn a_part_is_copied_by_name_and_flags_and_refused_by_a_use() {
    let pair = pair(Spec::old(&["u1"]));
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::prepare(by_dsync(&pair));
    let refused = on_user(&ferry, &pair, &["sync", "--exclude", "\\All"], "u1");
    let said = shown(&refused);
    assert!(refused.status.code() == Some(1) && said.contains("can't be found: name the mailbox"), "{said}");
    let part = ["--mailbox", "INBOX", "--flags", "\\Seen"];
    let foretold = on_user(&ferry, &pair, &[&["sync", "--dry-run"], &part[..]].concat(), "u1");
    let copied = on_user(&ferry, &pair, &[&["sync"], &part[..]].concat(), "u1");
    assert!(copied.status.success(), "{}", shown(&copied));
    let (old, new) = (World::of(&pair.old, "u1"), World::of(&pair.new, "u1"));
    let read = old.mailboxes["INBOX"].mails.iter().filter(|(_, mail)| mail.flags.contains("\\Seen"));
    let read: Vec<u32> = read.map(|(uid, _)| *uid).collect();
    assert!(!read.is_empty() && read.len() < old.mailboxes["INBOX"].mails.len(), "{read:?}");
    assert_eq!(new.mailboxes["INBOX"].mails.keys().copied().collect::<Vec<_>>(), read);
    assert_eq!(new.count(), read.len());
    assert!(shown(&foretold).contains(&format!("u1: {} messages to copy (", read.len())), "{}", shown(&foretold));

    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
}

#[test]
fn who_shares_what_is_compared() {
    let pair = sharing::pair();
    let ferry = Ferry::prepare(by_dsync(&pair));
    let said = shown(&on_user(&ferry, &pair, &["check"], "u1"));
    assert!(said.contains("shares     with u2 (1 mailbox); who is not on the same side"), "{said}");
    sync(&ferry, &pair, "u1");
    let report = verify(&ferry, &pair, "u1", "none").0;
    assert_eq!(sharing::of_rule(&report, "acl"), [["INBOX", "u2: lrs", "u2: none"].map(str::to_owned)], "{report:#}");
}

#[test]
fn mail_that_has_no_room_on_the_new_side_is_not_copied() {
    let extra = quota::limited("*:storage=1K");
    let new = Dovecot::start(Spec { release: Release::V23, extra, ..Spec::new_side(&["u1"]) });
    let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new };
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::prepare(by_dsync(&pair));
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    let said = shown(&refused);
    assert!(refused.status.code() == Some(75) && said.contains("no room on the new side: "), "{said}");
    assert_eq!(World::of(&pair.new, "u1").count(), 0);
}
