//! Old sides whose POP3 shows something else than their IMAP does: a scripted POP3 beside a real Dovecot's IMAP. Each ends with
//! the right UIDL on each message, or with a refusal that says why; the mail is copied in any case.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{findings, followed, refused};
use crate::copy::{Pair, shown, sync, verify};
use crate::lab::account::{Account, Message};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Letter, Maildrops, Pop3, Spec};

struct Scripted {
    pair: Pair,
    drops: Maildrops,
    ferry: Ferry,
}

impl Scripted {
    fn with(users: &[&str], extra: &[(&str, &str)], make: impl FnOnce(FerrySpec<'_>) -> Ferry) -> Self {
        let old = Dovecot::start(Spec::old(users));
        let new = Dovecot::start(Spec { own_uidls: true, ..Spec::new_side(users) });
        let (pair, drops) = (Pair { old, new }, Maildrops::start());
        let ferry = ferry(&pair, &drops, extra, make);
        Self { pair, drops, ferry }
    }

    fn prepared(users: &[&str]) -> Self {
        Self::with(users, &[], Ferry::prepare)
    }

    /// INBOX as IMAP has it, UIDs from 1 on, and what POP3 shows.
    fn put(&self, user: &str, imap: &[Vec<u8>], pop3: Vec<Letter>) {
        self.put_all(user, imap, &[], pop3);
    }

    fn put_all(&self, user: &str, imap: &[Vec<u8>], archive: &[Vec<u8>], pop3: Vec<Letter>) {
        let mut account = Account::new(user);
        for (mailbox, mails) in [("INBOX", imap), ("Archive", archive)] {
            let mailbox = account.mailbox(mailbox);
            for (uid, text) in (1..).zip(mails) {
                mailbox.put(uid, Message::new(text.clone(), "", 1_700_000_000));
            }
            mailbox.uid_next = 31;
        }
        account.write_to(&self.pair.old);
        self.drops.put(user, pop3);
    }

    /// Copies and verifies: the report.
    fn moved(&self, user: &str) -> Value {
        sync(&self.ferry, &self.pair, user);
        let (report, code) = verify(&self.ferry, &self.pair, user, "none");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        report
    }

    /// Copies and verifies: what keeps the user.
    fn kept(&self, user: &str) -> String {
        sync(&self.ferry, &self.pair, user);
        let (report, code) = verify(&self.ferry, &self.pair, user, "none");
        assert_eq!((findings(&report), code), (vec!["difference pop3-pairing INBOX -".to_owned()], 1), "{report:#}");
        report["pop3"].as_str().unwrap().to_owned()
    }

    /// What the new side's POP3 gives, in its order: UIDL and text.
    fn given(&self, user: &str) -> Vec<(String, String)> {
        let mut pop3 = Pop3::connect(self.pair.new.pop3_port());
        pop3.login(user, self.pair.new.password(user));
        let uidls = pop3.list("UIDL");
        let texts: Vec<String> =
            (1..=uidls.len()).map(|number| String::from_utf8(pop3.body(&format!("RETR {number}"))).unwrap()).collect();
        uidls.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).zip(texts).collect()
    }

    fn assert_copied(&self, user: &str, messages: usize) {
        let mut imap = Imap::connect(self.pair.new.imap_port());
        imap.login(user, self.pair.new.password(user));
        assert_eq!(imap.select("INBOX").exists, messages, "the mail is there");
    }
}

fn ferry(pair: &Pair, drops: &Maildrops, extra: &[(&str, &str)], make: impl FnOnce(FerrySpec<'_>) -> Ferry) -> Ferry {
    let (old, new) = (drops.key(), format!("pop3 = \"pop3://127.0.0.1:{}\"", pair.new.pop3_port()));
    let sides = [("old", old.as_str()), ("new", new.as_str()), ("verify", "bodies = \"none\"")];
    make(FerrySpec {
        auto: false,
        extra: sides.into_iter().chain(extra.iter().copied()).collect(),
        ..FerrySpec::between(&pair.old, &pair.new)
    })
}

fn mail(header: &str, body: &str) -> Vec<u8> {
    format!("{header}\r\nDate: Fri, 3 Nov 2023 10:00:00 +0000\r\n\r\n{body}\r\n").into_bytes()
}

/// A message with a size of its own.
fn letter(number: usize) -> Vec<u8> {
    mail(&format!("Subject: letter {number:02}"), &"x".repeat(100 + number))
}

/// Letters of POP3 with these UIDLs, whose text is the message's own.
fn shows(letters: &[(&str, &Vec<u8>)]) -> Vec<Letter> {
    letters.iter().map(|(uidl, text)| Letter::new(uidl, (*text).clone())).collect()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// Each UIDL on the message that POP3 showed under it, in POP3's order.
fn assert_given(scripted: &Scripted, user: &str, letters: &[Letter]) {
    let wanted: Vec<(String, String)> = letters.iter().map(|one| (text(&one.uidl), text(&one.text))).collect();
    assert_eq!(scripted.given(user), wanted, "{user}");
}

fn methods(report: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(report["pop3_methods"].clone()).unwrap()
}

fn counted(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(method, count)| ((*method).to_owned(), *count)).collect()
}

#[test]
fn what_pairing_by_size_and_place_gets_wrong_is_paired_rightly() {
    let scripted = Scripted::prepared(&["swapped", "tied", "order", "template"]);
    let ones: Vec<Vec<u8>> = (1..=3).map(letter).collect();
    let [cousin_a, cousin_b] = ["a", "b"].map(|name| mail(&format!("Subject: cousin {name}"), "x"));
    let [sibling_a, sibling_b] = ["a", "b"].map(|name| mail("Subject: sibling", name));
    let with = |more: [&Vec<u8>; 2]| [&ones[..], &more.map(Clone::clone)].concat();
    let [one, two, three] = [0, 1, 2].map(|at| &ones[at]);

    // Two of one size, in another order than IMAP has them.
    let swapped = shows(&[("s1", one), ("s2", two), ("s3", three), ("s4", &cousin_b), ("s5", &cousin_a)]);
    scripted.put("swapped", &with([&cousin_a, &cousin_b]), swapped.clone());
    // Two of one size and one header.
    let tied = shows(&[("t1", one), ("t2", two), ("t3", three), ("t4", &sibling_b), ("t5", &sibling_a)]);
    scripted.put("tied", &with([&sibling_a, &sibling_b]), tied.clone());
    let order = shows(&[("o5", &sibling_b), ("o4", &cousin_a), ("o3", three), ("o2", one), ("o1", two)]);
    scripted.put("order", &with([&cousin_a, &sibling_b]), order.clone());
    // Every UIDL is one that a template gives, and every size is right: only the messages are others.
    let template = shows(&[("1", one), ("2", two), ("3", three), ("4", &cousin_b), ("5", &cousin_a)]);
    scripted.put("template", &with([&cousin_a, &cousin_b]), template.clone());
    for (user, letters, by) in [
        ("swapped", swapped, &[("size", 3), ("header", 2)][..]),
        ("tied", tied, &[("size", 3), ("text", 2)]),
        ("order", order, &[("size", 3), ("header", 2)]),
        ("template", template, &[("template", 3), ("header", 2)]),
    ] {
        let report = scripted.moved(user);
        assert_given(&scripted, user, &letters);
        let found = methods(&report);
        assert_eq!(found.values().sum::<u64>(), 5, "{report:#}");
        if user != "order" && user != "template" {
            assert_eq!(found, counted(by), "{report:#}");
        }
        assert_eq!(scripted.drops.asked(user, "RETR") + scripted.drops.asked(user, "DELE"), 0);
    }
}

#[test]
fn headers_and_sizes_that_pop3_shows_otherwise_hide_no_message() {
    let scripted = Scripted::prepared(&["added", "folded", "sizes"]);
    let mails = [mail("Subject: one and two", "x"), mail("Subject: two of two", "y"), letter(3), letter(4)];
    let added = |text: &Vec<u8>| [b"X-Scanned: yes, by somebody\r\nX-UIDL: 77\r\n".to_vec(), text.clone()].concat();
    let [a, b, c, d] = &mails;
    let texts = [d, b, a, c].map(added);
    let letters: Vec<Letter> =
        ["a1", "a2", "a3", "a4"].iter().zip(&texts).map(|(uidl, text)| Letter::new(uidl, text.clone())).collect();
    scripted.put("added", &mails, letters);
    let folded = [d, b, a, c].map(|mail| text(mail).replace("Subject: ", "Subject:\r\n ").into_bytes());
    let letters: Vec<Letter> =
        ["f1", "f2", "f3", "f4"].iter().zip(&folded).map(|(uidl, text)| Letter::new(uidl, text.clone())).collect();
    scripted.put("folded", &mails, letters);
    // LF counted once, as by servers that keep mail without CR.
    let lines = |mail: &Vec<u8>| mail.iter().filter(|octet| **octet == b'\n').count() as u64;
    let letters = ["s1", "s2", "s3", "s4"].iter().zip([d, b, a, c]);
    let letters =
        letters.map(|(uidl, mail)| Letter { size: mail.len() as u64 - lines(mail), ..Letter::new(uidl, mail.clone()) });
    scripted.put("sizes", &mails, letters.collect());
    for (user, prefix, how) in [("added", "a", "body"), ("folded", "f", "body"), ("sizes", "s", "text")] {
        let report = scripted.moved(user);
        let wanted = [d, b, a, c].into_iter().zip(1..).map(|(mail, number)| (format!("{prefix}{number}"), text(mail)));
        assert_eq!(scripted.given(user), wanted.collect::<Vec<_>>(), "{report:#}");
        assert_eq!(methods(&report), counted(&[(how, 4)]), "{report:#}");
        assert_eq!(findings(&report), ["note pop3-size INBOX -"], "{report:#}");
        // What was found stays.
        let asked = scripted.drops.asked(user, "TOP");
        scripted.moved(user);
        assert_eq!(scripted.drops.asked(user, "TOP"), asked, "nothing is read again");
    }
}

#[test]
fn messages_that_only_one_list_has_keep_the_user_unless_the_configuration_says_otherwise() {
    let users = ["hidden", "extra", "merged"];
    let scripted = Scripted::with(&users, &[], Ferry::start);
    let mails: Vec<Vec<u8>> = (1..=4).map(letter).collect();
    let archived: Vec<Vec<u8>> = (7..=9).map(letter).collect();
    let unknown = letter(20);
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| &mails[at]);
    scripted.put("hidden", &mails, shows(&[("h1", a), ("h3", c), ("h4", d)]));
    scripted.put("extra", &mails, shows(&[("e1", a), ("e2", b), ("ex", &unknown), ("e3", c), ("e4", d)]));
    let [e, f] = [0, 1].map(|at| &archived[at]);
    scripted.put_all(
        "merged",
        &mails,
        &archived,
        shows(&[("m1", a), ("m2", b), ("m3", c), ("m4", d), ("mx", f), ("my", e)]),
    );
    for (user, why) in [
        ("hidden", "POP3 does not show UID 2 of INBOX"),
        ("extra", "POP3 shows messages that are not in INBOX: ex"),
        ("merged", "POP3 shows more mailboxes than INBOX, also Archive: mx, my"),
    ] {
        followed(&scripted.ferry, &scripted.pair, user);
        let said = refused(&scripted.ferry, &scripted.pair, user);
        assert!(said.contains("pop3-pairing") && said.contains(why), "{user}: {said}");
        scripted.assert_copied(user, 4);
        let status = scripted.ferry.status(user);
        assert!(status["last_report"]["pop3"].as_str().unwrap().contains(why), "{status:#}");
        let file = scripted.ferry.password_file(scripted.pair.old.password(user));
        let checked = shown(&scripted.ferry.run(&["check", user, "--password-file", &file]));
        assert!(checked.contains(why), "{checked}");
    }
    // Those that both lists have got their UIDLs at once: nothing has to be copied again.
    let ignore = [("migration", "pop3_missing = \"ignore\"\npop3_extra = \"ignore\"")];
    let ignoring = ferry(&scripted.pair, &scripted.drops, &ignore, Ferry::prepare);
    for (user, note, wanted) in [
        ("hidden", "note pop3-hidden INBOX -", &["h1", "h3", "h4"][..]),
        ("extra", "note pop3-left-out INBOX -", &["e1", "e2", "e3", "e4"]),
        ("merged", "note pop3-left-out INBOX -", &["m1", "m2", "m3", "m4"]),
    ] {
        let (report, code) = verify(&ignoring, &scripted.pair, user, "none");
        assert_eq!((findings(&report), code), (vec![note.to_owned()], 0), "{report:#}");
        let given: Vec<String> = scripted.given(user).into_iter().map(|(uidl, _)| uidl).collect();
        let known: Vec<&str> = given.iter().map(String::as_str).filter(|uidl| wanted.contains(uidl)).collect();
        assert_eq!((known.as_slice(), given.len()), (wanted, 4), "{given:?}");
        let file = ignoring.password_file(scripted.pair.old.password(user));
        let checked = shown(&ignoring.run(&["check", user, "--password-file", &file]));
        assert!(checked.contains("UIDLs, paired by") && checked.contains("ignored"), "{checked}");
    }
}

#[test]
fn uidls_that_can_not_be_carried_over_are_named_and_odd_ones_that_can_are() {
    let scripted = Scripted::prepared(&["twice", "blank", "long", "odd"]);
    let mails: Vec<Vec<u8>> = (1..=3).map(letter).collect();
    let [a, b, c] = [0, 1, 2].map(|at| &mails[at]);
    let (longest, longer) = ("~".repeat(70), "~".repeat(71));
    for (user, uidls, why) in [
        ("twice", ["x", "y", "x"], "messages 1 and 3 have the same UIDL x"),
        ("blank", ["x", "y z", "w"], "message 2 has a UIDL that RFC 1939 forbids: \"y z\""),
        ("long", ["x", "y", &longer], "message 3 has a UIDL that RFC 1939 forbids"),
    ] {
        scripted.put(
            user,
            &mails,
            uidls.iter().zip([a, b, c]).map(|(uidl, mail)| Letter::new(uidl, mail.clone())).collect(),
        );
        let said = scripted.kept(user);
        assert!(said.contains(why), "{user}: {said}");
        scripted.assert_copied(user, 3);
    }
    let odd = shows(&[(&longest, c), ("%v|\"\\'`$()<>&;:,*?!#=@^{}[]", a), (".", b)]);
    scripted.put("odd", &mails, odd.clone());
    scripted.moved("odd");
    assert_given(&scripted, "odd", &odd);
}

#[test]
fn twins_are_paired_in_their_place_and_the_report_says_that_they_are_twins() {
    let scripted = Scripted::prepared(&["twins", "headless"]);
    let twin = mail("Subject: twin", "x");
    let mails = [twin.clone(), letter(1), twin.clone(), letter(2)];
    let letters = shows(&[("a", &mails[1]), ("b", &twin), ("c", &mails[3]), ("d", &twin)]);
    scripted.put("twins", &mails, letters.clone());
    let report = scripted.moved("twins");
    assert_given(&scripted, "twins", &letters);
    let said = report["pop3"].as_str().unwrap();
    assert_eq!(
        said,
        "4 UIDLs identical, same order, paired by 2 size, 2 twin (twins are the same to every client: any UIDL of theirs fits each)"
    );
    // A header that POP3 leaves out would tell these apart: nobody can know which is which.
    let mails = ["a", "b"].map(|to| mail(&format!("To: {to}\r\nSubject: s"), "x"));
    let shown = mail("Subject: s", "x");
    scripted.put("headless", &mails, shows(&[("h1", &shown), ("h2", &shown)]));
    let said = scripted.kept("headless");
    assert!(
        said.contains("POP3 shows other headers than IMAP, and without them UID 1, 2 can't be told apart"),
        "{said}"
    );
    scripted.assert_copied("headless", 2);
}

#[test]
fn a_field_of_the_message_that_imap_shows_tells_its_uidl() {
    let scripted = Scripted::prepared(&["field", "foreign"]);
    // All of one size: without the field every header would have to be read by POP3.
    let mails: Vec<Vec<u8>> = (1..=40)
        .map(|number| mail(&format!("X-UIDL: {number:032x}\r\nSubject: of one size {number:02}"), "x"))
        .collect();
    let uidls: Vec<String> = (1..=40).map(|number| format!("{number:032x}")).collect();
    let letters: Vec<(&str, &Vec<u8>)> = uidls.iter().rev().map(String::as_str).zip(mails.iter().rev()).collect();
    let letters = shows(&letters);
    scripted.put("field", &mails, letters.clone());
    let report = scripted.moved("field");
    assert_eq!(methods(&report), counted(&[("x-uidl", 40)]), "{report:#}");
    assert_given(&scripted, "field", &letters);
    let read = scripted.drops.asked("field", "TOP");
    assert!(read <= 12, "{read} of 40 messages were read");
    // Fields from another server, which are the UIDLs of other messages here: 1 and 2 swapped.
    let mails: Vec<Vec<u8>> =
        (1..=3).map(|number| mail(&format!("X-UIDL: {number}\r\nSubject: {number}"), "x")).collect();
    let letters = shows(&[("2", &mails[0]), ("1", &mails[1]), ("x", &mails[2])]);
    scripted.put("foreign", &mails, letters.clone());
    let report = scripted.moved("foreign");
    assert_given(&scripted, "foreign", &letters);
    assert!(!methods(&report).contains_key("x-uidl"), "{report:#}");
}
