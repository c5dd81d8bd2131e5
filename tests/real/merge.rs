//! `mailferry sync --mode merge`: the new side's own mail stays as it is, the old side's is added once, and what happens to it on the
//! old side is followed on its copy alone. `doveadm sync -1`, which it stands in for, judges what the first run makes.

mod filtered;
mod interrupted;

use std::collections::BTreeMap;

use crate::copy::{Pair, on_user, shown, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Release, Spec, World, deliver, trixie};
use crate::rebuild::run_what_is_told;

const DATE: &str = "17-Jul-1996 02:44:25 -0700";

fn pair(release: Release, format: Format) -> Pair {
    let new = Spec { release, format, ..Spec::new_side(&["u1", "judge"]) };
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) }
}

fn client(server: &Dovecot, user: &str) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login(user, server.password(user));
    imap
}

fn mail(subject: &str) -> Vec<u8> {
    let id = subject.replace(' ', "-");
    let date = "Date: Wed, 17 Jul 1996 02:44:25 -0700";
    format!("Subject: {subject}\r\n{date}\r\nMessage-ID: <{id}@lab>\r\n\r\ntext of {subject}\r\n").into_bytes()
}

fn fill(server: &Dovecot, user: &str, mailboxes: &[(&str, &[&str])]) {
    let mut imap = client(server, user);
    for (name, subjects) in mailboxes {
        if *name != "INBOX" {
            imap.ok(&format!("CREATE \"{name}\""));
        }
        for subject in *subjects {
            imap.append(name, "", DATE, &mail(subject));
        }
    }
    imap.ok("LOGOUT");
}

/// What the new side has of its own, and what the old side has.
fn prepare(pair: &Pair) {
    for user in ["u1", "judge"] {
        fill(&pair.new, user, &[("INBOX", &["own 1", "own 2"]), ("Both", &["own 3"]), ("Own", &["own 4"])]);
    }
    fill(
        &pair.old,
        "u1",
        &[
            ("INBOX", &["a", "b", "c"]),
            ("Both", &["d", "e"]),
            ("Only", &["gone", "f", "g"]),
            ("Empty", &[]),
            ("Deep/er", &["h"]),
        ],
    );
    let mut imap = client(&pair.old, "u1");
    imap.select("Only");
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.select("INBOX");
    imap.ok("UID STORE 2 +FLAGS.SILENT (\\Seen $Work)");
    imap.ok("SUBSCRIBE Only");
    imap.ok("LOGOUT");
}

fn merge(ferry: &Ferry, pair: &Pair) -> String {
    let output = on_user(ferry, pair, &["sync", "--mode", "merge"], "u1");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// UID and subject of every message, by mailbox.
fn subjects(world: &World) -> BTreeMap<String, Vec<(u32, String)>> {
    let of = |shelf: &crate::lab::world::Shelf| shelf.mails.iter().map(|(uid, mail)| (*uid, mail.subject())).collect();
    world.mailboxes.iter().map(|(name, shelf)| (name.clone(), of(shelf))).collect()
}

fn assert_subjects(new: &Dovecot, expected: &[(&str, &[(u32, &str)])]) -> World {
    let world = World::of(new, "u1");
    let expected: BTreeMap<String, Vec<(u32, String)>> = expected
        .iter()
        .map(|(name, mails)| {
            ((*name).to_owned(), mails.iter().map(|(uid, subject)| (*uid, (*subject).to_owned())).collect())
        })
        .collect();
    assert_eq!(subjects(&world), expected);
    world
}

fn flags(world: &World, mailbox: &str, uid: u32) -> Vec<String> {
    world.mailboxes[mailbox].mails[&uid].flags.iter().filter(|flag| *flag != "\\Recent").cloned().collect()
}

/// Every message of an account, wherever its UID.
fn bodies(world: &World) -> BTreeMap<String, Vec<Vec<u8>>> {
    let of = |shelf: &crate::lab::world::Shelf| {
        let mut bodies: Vec<Vec<u8>> = shelf.mails.values().map(|mail| mail.body.clone()).collect();
        bodies.sort();
        bodies
    };
    world.mailboxes.iter().map(|(name, shelf)| (name.clone(), of(shelf))).collect()
}

fn merged(release: Release, format: Format) {
    let pair = pair(release, format);
    prepare(&pair);
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    let own = World::of(&pair.new, "u1");
    let foretold = on_user(&ferry, &pair, &["sync", "--mode", "merge", "--dry-run"], "u1");
    let said = shown(&foretold);
    assert!(foretold.status.success() && said.contains("u1: 8 messages to copy ("), "{said}");
    assert_eq!(World::of(&pair.new, "u1"), own, "nothing was written");
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(refused.status.code() == Some(1) && shown(&refused).contains("not ours"), "{}", shown(&refused));

    merge(&ferry, &pair);
    let world = assert_subjects(
        &pair.new,
        &[
            ("INBOX", &[(1, "own 1"), (2, "own 2"), (3, "a"), (4, "b"), (5, "c")]),
            ("Both", &[(1, "own 3"), (2, "d"), (3, "e")]),
            ("Own", &[(1, "own 4")]),
            ("Only", &[(2, "f"), (3, "g")]),
            ("Empty", &[]),
            ("Deep/er", &[(1, "h")]),
        ],
    );
    assert_eq!(flags(&world, "INBOX", 4), ["$Work", "\\Seen"]);
    assert!(world.subscriptions.contains("Only"));
    for name in ["INBOX", "Both", "Own"] {
        assert_eq!(world.mailboxes[name].uid_validity, own.mailboxes[name].uid_validity, "{name}");
        for (uid, mail) in &own.mailboxes[name].mails {
            assert_eq!(world.mailboxes[name].mails[uid].body, mail.body);
        }
    }
    let old = World::of(&pair.old, "u1");
    assert_eq!(world.mailboxes["Only"].uid_validity, old.mailboxes["Only"].uid_validity, "a free name is copied whole");

    // Dovecot's own one-way sync makes the same of the same.
    if release == Release::V23 {
        let mail = pair.old.mail_dir("u1");
        let place = pair.new.dir().join("judged");
        assert!(std::process::Command::new("cp").arg("-a").arg(&mail).arg(&place).status().unwrap().success());
        let judged = format!("maildir:{}", place.display());
        pair.new.doveadm_ok(&["sync", "-1", "-R", "-u", "judge", &judged]);
        assert_eq!(bodies(&world), bodies(&World::of(&pair.new, "judge")));
    }

    let again = merge(&ferry, &pair);
    assert!(again.contains("0 octets copied in this run"), "{again}");
    assert_eq!(World::of(&pair.new, "u1"), world);
    followed(&ferry, &pair);
}

/// What happens on the old side, and on the new one, after the first run.
fn followed(ferry: &Ferry, pair: &Pair) {
    let mut old = client(&pair.old, "u1");
    old.select("INBOX");
    old.ok("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
    old.ok("UID STORE 2 -FLAGS.SILENT (\\Seen)");
    old.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    old.ok("UID EXPUNGE 3");
    old.append("INBOX", "", DATE, &mail("later"));
    old.ok("UNSELECT");
    old.ok("RENAME Only Renamed");
    old.ok("DELETE Both");
    old.ok("CREATE Both");
    old.append("Both", "", DATE, &mail("anew"));
    old.ok("DELETE Empty");
    old.ok("UNSUBSCRIBE Only");
    old.ok("SUBSCRIBE Renamed");
    old.ok("LOGOUT");
    let mut new = client(&pair.new, "u1");
    new.select("INBOX");
    new.ok("UID STORE 2 +FLAGS.SILENT (\\Answered)");
    new.ok("UID STORE 4 +FLAGS.SILENT (\\Draft Mine)");
    new.select("Deep/er");
    new.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    new.ok("EXPUNGE");
    new.ok("LOGOUT");
    deliver(&pair.new, "u1", &mail("own 5"));

    merge(ferry, pair);
    let world = assert_subjects(
        &pair.new,
        &[
            ("INBOX", &[(1, "own 1"), (2, "own 2"), (3, "a"), (4, "b"), (6, "own 5"), (7, "later")]),
            ("Both", &[(1, "own 3"), (4, "anew")]),
            ("Own", &[(1, "own 4")]),
            ("Renamed", &[(2, "f"), (3, "g")]),
            ("Deep/er", &[]),
        ],
    );
    assert_eq!(flags(&world, "INBOX", 2), ["\\Answered"], "the new side's own");
    assert_eq!(flags(&world, "INBOX", 3), ["\\Flagged"]);
    assert_eq!(flags(&world, "INBOX", 4), ["$Work", "Mine", "\\Draft"], "what either side did");
    assert_eq!(world.subscriptions.iter().map(String::as_str).collect::<Vec<_>>(), ["Renamed"]);
    let again = merge(ferry, pair);
    assert!(again.contains("0 octets copied in this run"), "{again}");
    assert_eq!(World::of(&pair.new, "u1"), world);
}

#[test]
fn a_maildir_with_mail_of_its_own_gets_the_old_sides_mail_and_follows_it() {
    merged(Release::V23, Format::Maildir);
}

#[test]
fn an_mdbox_with_mail_of_its_own_gets_the_old_sides_mail_and_follows_it() {
    merged(Release::V23, Format::Mdbox);
}

#[test]
fn on_dovecot_24_mail_is_merged_and_followed() {
    if trixie::is_here() {
        merged(Release::V24, Format::Mdbox);
    }
}

#[test]
fn a_merged_account_can_not_be_switched_and_the_merge_can_be_undone() {
    for format in [Format::Maildir, Format::Mdbox] {
        let pair = pair(Release::V23, format);
        prepare(&pair);
        let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
        let said = merge(&ferry, &pair);
        assert!(said.contains("merged"), "{said}");
        assert_eq!(ferry.status("u1")["mark"]["kind"], "merged");
        let (report, code) = verify(&ferry, &pair, "u1", "none");
        let rules: Vec<_> = report["findings"].as_array().unwrap().iter().map(|found| found["rule"].clone()).collect();
        assert!(code == 1 && rules.contains(&"merged".into()), "{report:#}");
        let mut session = Imap::connect(ferry.imap());
        session.login("u1", pair.old.password("u1"));
        let status = ferry.wait_phase("u1", "held", std::time::Duration::from_secs(120));
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("merged") && reason.contains("to undo it"), "{reason}");
        session.ok("LOGOUT");
        let switch = ferry.run(&["switch", "u1"]);
        assert_eq!(switch.status.code(), Some(1), "{}", shown(&switch));

        let refused = on_user(&ferry, &pair, &["sync"], "u1");
        assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
        assert_eq!(World::of(&pair.new, "u1").mailboxes["Own"].mails.len(), 1, "nothing was done");
        run_what_is_told(&pair.new, &String::from_utf8_lossy(&refused.stderr));
        let whole = on_user(&ferry, &pair, &["sync"], "u1");
        assert!(whole.status.success(), "{}", shown(&whole));
        assert!(ferry.status("u1")["mark"].is_null());
        let (report, code) = verify(&ferry, &pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    }
}

#[test]
fn mail_that_another_tool_has_brought_is_told_by_its_headers_and_not_doubled() {
    for (extra, doubled) in [(vec![], false), (vec![("migration", "hashed_headers = []")], true)] {
        let pair = pair(Release::V23, Format::Mdbox);
        fill(&pair.old, "u1", &[("INBOX", &["a", "b", "twin", "twin"])]);
        // It has added a line, and lost the dates.
        let mut imap = client(&pair.new, "u1");
        for subject in ["a", "twin"] {
            let brought = [b"X-Tool: 1\r\n".to_vec(), mail(subject)].concat();
            imap.append("INBOX", "\\Seen", "01-Jan-2020 00:00:00 +0000", &brought);
        }
        imap.append("INBOX", "", DATE, b"Subject: own\r\n\r\nno date, no id\r\n");
        imap.ok("LOGOUT");
        let ferry = Ferry::prepare(FerrySpec { extra, ..FerrySpec::between(&pair.old, &pair.new) });
        merge(&ferry, &pair);
        let brought = [(1, "a"), (2, "twin"), (3, "own")];
        let twins: &[(u32, &str)] = if doubled {
            &[(4, "a"), (5, "b"), (6, "twin"), (7, "twin")]
        } else {
            // Which of the two the one there is can't be told: rather one too many than one lost.
            &[(4, "b"), (5, "twin"), (6, "twin")]
        };
        assert_subjects(&pair.new, &[("INBOX", &[&brought[..], twins].concat())]);
        if doubled {
            continue;
        }
        // It is not ours: nothing of it is touched.
        let mut imap = client(&pair.old, "u1");
        imap.select("INBOX");
        imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
        imap.ok("UID EXPUNGE 1");
        merge(&ferry, &pair);
        let world = assert_subjects(&pair.new, &[("INBOX", &[&brought[..], twins].concat())]);
        assert_eq!(flags(&world, "INBOX", 1), ["\\Seen"]);
    }
}

#[test]
fn what_a_copy_has_written_is_known_to_a_merge() {
    let pair = pair(Release::V23, Format::Mdbox);
    fill(&pair.old, "u1", &[("INBOX", &["a", "b"]), ("Only", &["c"])]);
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    crate::copy::sync(&ferry, &pair, "u1");
    deliver(&pair.new, "u1", &mail("own"));
    fill(&pair.old, "u1", &[("INBOX", &["later"])]);
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(shown(&refused).contains("got mail of its own"), "{}", shown(&refused));
    merge(&ferry, &pair);
    assert_subjects(&pair.new, &[("INBOX", &[(1, "a"), (2, "b"), (3, "own"), (4, "later")]), ("Only", &[(1, "c")])]);
}
