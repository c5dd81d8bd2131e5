//! POP3 UIDLs and their order: a client that leaves its mail on the server notices nothing, and where that is not certain
//! the user is not switched.
//!
//! The new side computes UIDLs by another format than any old side does: what is equal there was written.

mod gate;
pub(crate) mod maildrop;
mod scripted;

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::account::{Account, Message};
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Spec, lmtp, nasty};
use maildrop::{Mpop, Session, Shown, set_fields};

const LONG: Duration = Duration::from_secs(120);

fn pair(format: Format, users: &[&str]) -> Pair {
    pair_with(Spec { format, ..Spec::new_side(users) })
}

/// A pair with this new side, of the same users, whose own UIDLs are no old side's.
fn pair_with(new: Spec) -> Pair {
    let users: Vec<&str> = new.users.iter().map(|(user, _)| user.as_str()).collect();
    let old = Dovecot::start(Spec::old(&users));
    Pair { old, new: Dovecot::start(Spec { own_uidls: true, ..new }) }
}

/// A proxy of a platform that has POP3.
pub(crate) fn with_pop3(pair: &Pair, make: impl FnOnce(FerrySpec<'_>) -> Ferry) -> Ferry {
    let line = |server: &Dovecot| format!("pop3 = \"pop3://127.0.0.1:{}\"", server.pop3_port());
    let (old, new) = (line(&pair.old), line(&pair.new));
    make(FerrySpec {
        auto: false,
        extra: vec![("old", &old), ("new", &new), ("verify", "bodies = \"none\"")],
        ..FerrySpec::between(&pair.old, &pair.new)
    })
}

fn letter(number: u32) -> Message {
    nasty::plain(&format!("letter {}", "x".repeat(number as usize)), number, "")
}

/// Same size and header, another body.
fn sibling(letter: char) -> Message {
    Message::new(format!("Subject: sibling\r\n\r\nbody {letter}\r\n").into_bytes(), "", 1_700_000_000)
}

/// Same size, another header.
fn cousin(letter: char) -> Message {
    Message::new(format!("Subject: cousin {letter}\r\n\r\nbody\r\n").into_bytes(), "", 1_700_000_000)
}

/// INBOX with letters of their own size, twins, siblings, cousins, and holes where messages were expunged.
fn family(server: &Dovecot, user: &str) -> Account {
    let mut account = Account::new(user);
    let inbox = account.mailbox("INBOX");
    for (uid, message) in [
        (1, letter(1)),
        (3, sibling('a')),
        (4, cousin('a')),
        (7, letter(7)),
        (8, sibling('b')),
        (9, sibling('a')),
        (12, cousin('b')),
        (26, letter(26)),
    ] {
        inbox.put(uid, message);
    }
    inbox.uid_next = 31;
    account.write_to(server);
    account
}

fn findings(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |found: &Value| {
        let uid = found["uid"].as_u64().map_or_else(|| "-".to_owned(), |uid| uid.to_string());
        format!("{} {} {} {uid}", text(&found["class"]), text(&found["rule"]), text(&found["mailbox"]))
    };
    report["findings"].as_array().unwrap().iter().map(line).collect()
}

fn seen(server: &Dovecot, user: &str) -> Vec<Vec<u8>> {
    let mut imap = Imap::connect(server.imap_port());
    imap.login(user, server.password(user));
    imap.examine("INBOX");
    imap.ok("FETCH 1:* (FLAGS)")
}

/// Copies and verifies; gives the report, which must be clean, and what POP3 shows on both sides.
fn moved(ferry: &Ferry, pair: &Pair, user: &str) -> (Value, Shown) {
    sync(ferry, pair, user);
    let (report, code) = verify(ferry, pair, user, "none");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    let (old, new) = (maildrop::shown(&pair.old, user), maildrop::shown(&pair.new, user));
    assert_eq!(old, new, "{report:#}");
    (report, new)
}

#[test]
fn uidls_arrive_with_twins_and_holes_and_nothing_becomes_seen() {
    for format in [Format::Maildir, Format::Mdbox] {
        twins_and_holes(|users| Spec { format, ..Spec::new_side(users) });
    }
}

/// UIDLs of messages that look alike, with holes between their UIDs, on a new side that `new` says.
pub(crate) fn twins_and_holes(new: impl Fn(&[&str]) -> Spec) {
    let pair = pair_with(new(&["u1", "u2"]));
    family(&pair.old, "u1");
    let ferry = with_pop3(&pair, Ferry::prepare);
    let before = seen(&pair.old, "u1");
    let (report, shown) = moved(&ferry, &pair, "u1");
    assert_eq!(report["pop3"], "8 UIDLs identical, same order, template %08xu%08xv", "{report:#}");
    assert_eq!(shown[0].0, "0000000159682f01");
    assert_eq!(seen(&pair.old, "u1"), before, "reading by POP3 leaves no trace on the old side");

    nasty::small(&pair.old, "u2");
    let empty: Vec<_> = (1..=9).map(|uid| format!("UID STORE {uid} +FLAGS (\\Deleted)")).collect();
    let mut imap = Imap::connect(pair.old.imap_port());
    imap.login("u2", pair.old.password("u2"));
    imap.select("INBOX");
    empty.iter().for_each(|command| drop(imap.ok(command)));
    imap.ok("EXPUNGE");
    let (report, shown) = moved(&ferry, &pair, "u2");
    assert_eq!((report["pop3"].as_str(), shown.len()), (Some("no messages on both sides"), 0));
    lmtp::deliver(&pair.old, "u2", b"Subject: the first again\n\nx\n");
    let (report, shown) = moved(&ferry, &pair, "u2");
    assert_eq!((report["pop3"].as_str().unwrap().starts_with("1 UIDLs identical"), shown.len()), (true, 1));
}

#[test]
fn every_format_that_is_made_of_uid_and_uidvalidity_is_recognised() {
    let formats = ["%08Xv%08Xu", "%v.%u", "%u", "%v-%u", "%u.%v", "%u-%v"];
    let users: Vec<String> = (0..formats.len()).map(|number| format!("f{number}")).collect();
    let mut pair = pair(Format::Mdbox, &users.iter().map(String::as_str).collect::<Vec<_>>());
    let ferry = with_pop3(&pair, Ferry::prepare);
    let config = fs::read_to_string(pair.old.config_path()).unwrap();
    for (format, user) in formats.iter().zip(&users) {
        fs::write(pair.old.config_path(), format!("{config}pop3_uidl_format = {format}\n")).unwrap();
        pair.old.kill9();
        pair.old.start_again();
        family(&pair.old, user);
        let (report, shown) = moved(&ferry, &pair, user);
        assert_eq!(shown.len(), 8);
        let said = report["pop3"].as_str().unwrap();
        let template = if *format == "%08Xv%08Xu" { "%08xv%08xu" } else { format };
        assert!(said.ends_with(&format!("template {template}")), "{format}: {said}");
        assert!(format != &"%v.%u" || shown[1].0 == "1500000001.3", "{shown:?}");
    }
}

#[test]
fn a_shuffled_list_keeps_its_order_and_so_does_what_comes_later() {
    for format in [Format::Maildir, Format::Mdbox] {
        shuffled(|users| Spec { format, ..Spec::new_side(users) });
    }
}

/// A list that doesn't follow the UIDs, on a new side that `new` says.
pub(crate) fn shuffled(new: impl Fn(&[&str]) -> Spec) {
    let pair = pair_with(new(&["u1"]));
    family(&pair.old, "u1");
    // UID 3 and 26 have none: they come last on the old side.
    let orders = [(1, 50_u32), (4, 7), (7, 4_000_000_000), (8, 1), (9, 30), (12, 31)];
    let fields: Vec<_> = orders.iter().map(|(uid, order)| (*uid, format!("O{order}"))).collect();
    set_fields(&pair.old, "u1", &fields);
    let ferry = with_pop3(&pair, Ferry::prepare);
    let (report, before) = moved(&ferry, &pair, "u1");
    let uids: Vec<u32> = before.iter().map(|(uidl, _)| u32::from_str_radix(&uidl[..8], 16).unwrap()).collect();
    assert_eq!(uids, [8, 4, 9, 12, 1, 7, 3, 26], "{report:#}");
    lmtp::deliver(&pair.old, "u1", b"Subject: later\n\nx\n");
    lmtp::deliver(&pair.old, "u1", b"Subject: and later still\n\nx\n");
    let (_, after) = moved(&ferry, &pair, "u1");
    assert_eq!((after.len(), &after[..before.len()]), (before.len() + 2, &before[..]));
}

#[test]
fn new_mail_after_the_copy_keeps_its_uidl_and_the_pop3_client_downloads_nothing_twice() {
    let pair = pair(Format::Mdbox, &["u1"]);
    family(&pair.old, "u1");
    let ferry = with_pop3(&pair, Ferry::start);
    let password = pair.old.password("u1");
    let client = Mpop::new();
    assert_eq!(client.run(pair.old.pop3_port(), "u1", password), 8);
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", password);
    ferry.wait_phase("u1", "following", LONG);
    lmtp::deliver(&pair.old, "u1", b"Subject: after the copy\n\nx\n");
    assert_eq!(client.run(pair.old.pop3_port(), "u1", password), 1);
    imap.ok("LOGOUT");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    assert_eq!(client.run(pair.new.pop3_port(), "u1", password), 0, "everything is known already");
    assert_eq!(maildrop::shown(&pair.new, "u1").len(), 9);
}

/// Follows a user to the point where only a switch is left, which must be refused; gives what it said.
fn refused(ferry: &Ferry, pair: &Pair, user: &str) -> String {
    let output = ferry.run(&["switch", user]);
    assert!(!output.status.success(), "{}", shown(&output));
    let status = ferry.status(user);
    assert_eq!(
        (status["authority"].as_str(), status["last_report"]["identical"].as_bool()),
        (Some("old"), Some(false))
    );
    assert!(pair.new.mail_dir(user).exists());
    shown(&output)
}

fn followed(ferry: &Ferry, pair: &Pair, user: &str) {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(user, pair.old.password(user));
    ferry.wait_phase(user, "following", LONG);
    imap.ok("LOGOUT");
}

#[test]
fn where_the_uidls_are_not_certain_the_mail_is_copied_and_the_user_stays() {
    let pair = pair(Format::Mdbox, &["twice"]);
    family(&pair.old, "twice");
    set_fields(&pair.old, "twice", &[(4, "P0000000c59682f01".to_owned())]);
    let ferry = with_pop3(&pair, Ferry::start);
    followed(&ferry, &pair, "twice");
    let why = "messages 3 and 7 have the same UIDL 0000000c59682f01";
    let said = refused(&ferry, &pair, "twice");
    assert!(said.contains("pop3-pairing") && said.contains(why), "{said}");
    let (report, code) = verify(&ferry, &pair, "twice", "none");
    assert_eq!((findings(&report), code), (vec!["difference pop3-pairing INBOX -".to_owned()], 1), "{report:#}");
    assert!(report["pop3"].as_str().unwrap().contains(why), "{report:#}");
    assert_eq!(maildrop::shown(&pair.new, "twice").len(), 8, "the mail is there");
}

#[test]
fn a_template_that_gives_every_uidl_for_other_messages_is_not_believed() {
    let pair = pair(Format::Mdbox, &["swapped", "size"]);
    let uidl = |uid: u32| format!("P{uid:08x}59682f01");
    // Of one size; and of two.
    for (user, one, other) in [("swapped", 4, 12), ("size", 1, 7)] {
        family(&pair.old, user);
        set_fields(&pair.old, user, &[(one, uidl(other)), (other, uidl(one))]);
    }
    let ferry = with_pop3(&pair, Ferry::start);
    for user in ["swapped", "size"] {
        followed(&ferry, &pair, user);
        ferry.run_ok(&["switch", user]);
        assert_eq!(maildrop::shown(&pair.old, user), maildrop::shown(&pair.new, user));
        let (report, code) = verify(&ferry, &pair, user, "none");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        let methods = &report["pop3_methods"];
        assert!(methods["template"].as_u64() < Some(8) && methods["text"].as_u64() >= Some(2), "{report:#}");
        let status = ferry.status(user);
        assert!(status["last_report"]["pop3"].as_str().unwrap().contains("8 UIDLs identical"), "{status:#}");
    }
}

#[test]
fn what_pop3_hides_by_a_flag_keeps_the_user_unless_it_is_ignored() {
    let users = ["u1"];
    let hiding = "pop3_deleted_flag = \"$POP3Deleted\"\n".to_owned();
    for flagged in [true, false] {
        let extra = if flagged { hiding.clone() } else { String::new() };
        let new = Dovecot::start(Spec { own_uidls: true, extra, ..Spec::new_side(&users) });
        let pair = Pair { old: Dovecot::start(Spec { extra: hiding.clone(), ..Spec::old(&users) }), new };
        family(&pair.old, "u1");
        let mut imap = Imap::connect(pair.old.imap_port());
        imap.login("u1", pair.old.password("u1"));
        imap.select("INBOX");
        imap.ok("UID STORE 4 +FLAGS ($POP3Deleted)");
        imap.ok("LOGOUT");
        let before = maildrop::shown(&pair.old, "u1");
        assert_eq!(before.len(), 7, "POP3 doesn't show it");
        let stopping = with_pop3(&pair, Ferry::prepare);
        sync(&stopping, &pair, "u1");
        let (report, _) = verify(&stopping, &pair, "u1", "none");
        assert_eq!(report["pop3"], "not certain: POP3 does not show UID 4 of INBOX", "{report:#}");
        let ignoring = with_pop3(&pair, |mut spec| {
            spec.extra.push(("migration", "pop3_missing = \"ignore\""));
            Ferry::prepare(spec)
        });
        let (report, code) = verify(&ignoring, &pair, "u1", "none");
        assert_eq!(
            (report["identical"].as_bool(), report["notes"].as_u64(), code),
            (Some(true), Some(1), 0),
            "{report:#}"
        );
        let after = maildrop::shown(&pair.new, "u1");
        let known: Vec<_> = after.iter().filter(|shown| before.contains(shown)).cloned().collect();
        assert_eq!((known, after.len()), (before, if flagged { 7 } else { 8 }));
    }
}

#[test]
fn uidls_that_are_guids_are_read_by_imap() {
    let users = ["u1"];
    let old = Dovecot::start(Spec { extra: "pop3_uidl_format = %g\n".to_owned(), ..Spec::old(&users) });
    let new = Dovecot::start(Spec { own_uidls: true, ..Spec::new_side(&users) });
    let pair = Pair { old, new };
    for number in 0..30 {
        lmtp::deliver(&pair.old, "u1", format!("Subject: of one size {number:02}\n\nx\n").as_bytes());
    }
    let ferry = with_pop3(&pair, Ferry::prepare);
    let (report, shown) = moved(&ferry, &pair, "u1");
    assert_eq!((report["pop3_methods"]["x-guid"].as_u64(), shown.len()), (Some(30), 30), "{report:#}");
}

#[test]
fn uidls_that_no_template_gives_are_found_by_what_the_messages_are() {
    for format in [Format::Maildir, Format::Mdbox] {
        let pair = pair(format, &["one", "all"]);
        // One was moved from elsewhere; and all were, in another order, with twins, siblings and cousins among them.
        family(&pair.old, "one");
        set_fields(&pair.old, "one", &[(4, "Pmoved-from-elsewhere-4".to_owned())]);
        family(&pair.old, "all");
        let own: Vec<_> = [9, 4, 26, 1, 12, 3, 8, 7]
            .iter()
            .zip(1..)
            .map(|(uid, order)| (*uid, format!("PUID{order}-77 O{order}")))
            .collect();
        set_fields(&pair.old, "all", &own);
        let ferry = with_pop3(&pair, Ferry::start);
        let twins = "2 twin (twins are the same to every client: any UIDL of theirs fits each)";
        for (user, how) in
            [("one", "4 template, 1 size, 3 text".to_owned()), ("all", format!("3 size, 2 header, 1 text, {twins}"))]
        {
            followed(&ferry, &pair, user);
            ferry.run_ok(&["switch", user]);
            assert_eq!(ferry.status(user)["phase"], "new");
            assert_eq!(maildrop::shown(&pair.old, user), maildrop::shown(&pair.new, user));
            let (report, code) = verify(&ferry, &pair, user, "none");
            assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
            assert_eq!(report["pop3"], format!("8 UIDLs identical, same order, paired by {how}"), "{report:#}");
        }
    }
}

#[test]
fn a_uidl_that_was_tampered_with_on_the_new_side_stops_the_switch_and_is_named() {
    let pair = pair(Format::Maildir, &["u1", "u2", "u3"]);
    let ferry = with_pop3(&pair, Ferry::start);
    for (user, fields, finding) in [
        ("u1", vec![(7, "Ptampered".to_owned())], "uidl in INBOX UID 7: old 0000000759682f01, new tampered"),
        ("u2", vec![(26, "P0000001a59682f01 O1".to_owned())], "pop3-order in INBOX UID 1: old number 1"),
        // List and sizes are right: only the messages tell.
        (
            "u3",
            vec![(4, "P0000000c59682f01".to_owned()), (12, "P0000000459682f01".to_owned())],
            "pop3-order in INBOX UID 4",
        ),
    ] {
        family(&pair.old, user);
        followed(&ferry, &pair, user);
        set_fields(&pair.new, user, &fields);
        let said = refused(&ferry, &pair, user);
        assert!(said.contains(finding), "{said}");
        if user == "u3" {
            // With the orders swapped, too.
            let orders: Vec<(u32, String)> = [1, 3, 12, 7, 8, 9, 4, 26]
                .iter()
                .zip(1..)
                .map(|(uid, order)| {
                    let shown = match uid {
                        4 => 12,
                        12 => 4,
                        other => *other,
                    };
                    (*uid, format!("P{shown:08x}59682f01 O{order}"))
                })
                .collect();
            set_fields(&pair.new, user, &orders);
            assert_eq!(maildrop::shown(&pair.old, user), maildrop::shown(&pair.new, user));
            let said = refused(&ferry, &pair, user);
            assert!(said.contains("pop3-pairing") && said.contains("UID 4 is not 0000000459682f01"), "{said}");
        }
    }
}

#[test]
fn nothing_of_inbox_is_written_while_the_old_sides_pop3_is_down() {
    let pair = pair(Format::Mdbox, &["u1"]);
    nasty::small(&pair.old, "u1");
    let nowhere = "pop3 = \"pop3://127.0.0.1:1\"";
    let new = format!("pop3 = \"pop3://127.0.0.1:{}\"", pair.new.pop3_port());
    let spec = FerrySpec::between(&pair.old, &pair.new);
    let ferry = Ferry::prepare(FerrySpec { extra: vec![("old", nowhere), ("new", &new)], ..spec });
    let output = on_user(&ferry, &pair, &["sync"], "u1");
    assert_eq!(output.status.code(), Some(75), "{}", shown(&output));
    let mut imap = Imap::connect(pair.new.imap_port());
    imap.login("u1", pair.new.password("u1"));
    assert_eq!(imap.select("INBOX").exists, 0);
    assert_eq!(imap.select("Sent").exists, 3, "everything else is");
}

#[test]
fn a_nasty_inbox_is_paired_too() {
    let pair = pair(Format::Mdbox, &["u1"]);
    nasty::without_large(&pair.old, "u1");
    let ferry = with_pop3(&pair, Ferry::prepare);
    let (report, shown) = moved(&ferry, &pair, "u1");
    assert!(report["pop3"].as_str().unwrap().starts_with(&format!("{} UIDLs identical", shown.len())), "{report:#}");
}

#[test]
fn our_session_ends_when_it_has_read() {
    let pair = pair(Format::Mdbox, &["u1"]);
    family(&pair.old, "u1");
    let ferry = with_pop3(&pair, Ferry::prepare);
    moved(&ferry, &pair, "u1");
    // The maildrop is free, and everything in it can still be deleted by its owner.
    let mut session = Session::open(pair.old.pop3_port(), "u1", pair.old.password("u1"));
    assert!(session.command("DELE 1").starts_with("+OK"));
    assert!(session.command("QUIT").starts_with("+OK"));
    let (_, shown) = moved(&ferry, &pair, "u1");
    assert_eq!(shown.len(), 7);
}
