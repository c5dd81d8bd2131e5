//! Every kind of damage to a copy is found by `mailferry verify`, by its rule, mailbox and UID, and nothing else is.
//!
//! Each case has a user of its own: filled on the old side, brought to the new side, verified as identical, damaged, and
//! verified again. The verification knows nothing of who wrote the copy: where the damage is put in by an import, it was
//! Dovecot's own `doveadm backup`.

pub(crate) mod files;

use std::fs;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::account::Account;
use crate::lab::{Dovecot, Ferry, Spec, nasty};
use crate::uidl::{maildrop, with_pop3};

/// A user's damage, and every finding it must make: `class rule mailbox UID`, `-` for none.
struct Case {
    what: &'static str,
    damage: fn(&Scene<'_>),
    findings: &'static [&'static str],
}

/// What a case works on.
struct Scene<'a> {
    pair: &'a Pair,
    ferry: &'a Ferry,
    account: Account,
}

impl Scene<'_> {
    fn user(&self) -> &str {
        &self.account.user
    }

    /// One session on the new side, in `mailbox`.
    fn by_imap(&self, mailbox: &str, commands: &[&str]) {
        let mut imap = self.account.log_in(&self.pair.new);
        imap.select(mailbox);
        for command in commands {
            imap.ok(command);
        }
        imap.ok("LOGOUT");
    }

    fn doveadm(&self, args: &[&str], mailbox: &str) {
        let (verb, options) = args.split_at(2);
        self.pair.new.doveadm_ok(&[verb, &["-u", self.user()], options, &[mailbox]].concat());
    }

    /// Puts a changed account in the place of the copy. Dovecot's own dsync writes it.
    fn import(&self, change: impl FnOnce(&mut Account)) {
        self.import_with(change, &[]);
    }

    /// The same with UIDLs and orders of INBOX.
    fn import_with(&self, change: impl FnOnce(&mut Account), fields: &[(u32, &str)]) {
        let mut other = self.account.clone();
        let number = (0..).find(|number| !self.pair.old.mail_dir(&format!("{}-{number}", self.user())).exists());
        other.user = format!("{}-{}", self.user(), number.unwrap());
        change(&mut other);
        other.write_to(&self.pair.old);
        let fields: Vec<_> = fields.iter().map(|(uid, own)| (*uid, (*own).to_owned())).collect();
        if !fields.is_empty() {
            maildrop::set_fields(&self.pair.old, &other.user, &fields);
        }
        let _ = fs::remove_dir_all(self.pair.new.mail_dir(self.user()));
        let output = self.pair.new.import(self.user(), &self.pair.old, &other.user);
        assert!(output.status.success(), "{}", shown(&output));
    }
}

fn findings(report: &serde_json::Value) -> Vec<String> {
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let line = |finding: &serde_json::Value| {
        let uid = finding["uid"].as_u64().map_or_else(|| "-".to_owned(), |uid| uid.to_string());
        [word(&finding["class"]), word(&finding["rule"]), word(&finding["mailbox"]), uid].join(" ")
    };
    report["findings"].as_array().unwrap().iter().map(line).collect()
}

/// Verifies, and holds the report against what must be found.
fn expect(ferry: &Ferry, pair: &Pair, user: &str, what: &str, wanted: &[&str]) {
    let (report, code) = verify(ferry, pair, user, "all");
    assert_eq!(findings(&report), wanted, "{what}: {report:#}");
    let differences = wanted.iter().filter(|line| line.starts_with("difference ")).count();
    assert_eq!(report["differences"].as_u64(), Some(differences as u64), "{what}: {report:#}");
    let identical = differences == 0;
    assert_eq!((report["identical"].as_bool(), code), (Some(identical), i32::from(!identical)), "{what}: {report:#}");
}

/// The table for people tells the same.
fn expect_in_table(ferry: &Ferry, pair: &Pair, user: &str, wanted: &[&str]) {
    let output = on_user(ferry, pair, &["verify", "--bodies", "all"], user);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in wanted {
        let row = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line);
        assert!(table.lines().any(row), "{line:?} is not in\n{table}");
    }
    assert!(table.contains("DIFFERENT"), "{table}");
}

/// Runs the cases, `bring` being how the accounts get to the new side.
fn run(cases: &[Case], bring: fn(&Scene<'_>)) {
    run_on(Spec::new_side, cases, bring);
}

/// The same on a new side that `new` says.
fn run_on(new: impl Fn(&[&str]) -> Spec, cases: &[Case], bring: fn(&Scene<'_>)) {
    let users: Vec<String> = (0..cases.len()).map(|number| format!("d{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let pair = Pair { old: Dovecot::start(Spec::old(&users)), new: Dovecot::start(new(&users)) };
    run_between(&pair, &pair.ferry(), cases, bring);
}

fn run_between(pair: &Pair, ferry: &Ferry, cases: &[Case], bring: fn(&Scene<'_>)) {
    for (case, number) in cases.iter().zip(0..) {
        let user = &format!("d{number}");
        let scene = Scene { account: nasty::small(&pair.old, user), pair, ferry };
        bring(&scene);
        expect(ferry, pair, user, &format!("before {}", case.what), &[]);
        (case.damage)(&scene);
        expect(ferry, pair, user, case.what, case.findings);
        if case.findings.iter().any(|line| line.starts_with("difference ")) {
            expect_in_table(ferry, pair, user, case.findings);
        }
    }
}

/// `mailferry sync` brings the account over.
fn by_mailferry(scene: &Scene<'_>) {
    sync(scene.ferry, scene.pair, scene.user());
}

/// Dovecot's own dsync brings the account over, from a Maildir: mailferry has never written it and has no record of it.
fn by_dovecot(scene: &Scene<'_>) {
    scene.import(|_| {});
}

#[test]
fn what_a_client_or_an_administrator_can_do_to_a_copy_is_found() {
    by_clients(Spec::new_side);
}

/// What clients and administrators can do, on a new side that `new` says.
pub(crate) fn by_clients(new: impl Fn(&[&str]) -> Spec) {
    let cases = [
        Case { what: "nothing", damage: |_| {}, findings: &[] },
        Case {
            what: "a flag added",
            damage: |scene| scene.by_imap("INBOX", &["UID STORE 5 +FLAGS (\\Flagged)"]),
            findings: &["difference flags INBOX 5"],
        },
        Case {
            what: "a flag removed",
            damage: |scene| scene.by_imap("Sent", &["UID STORE 3 -FLAGS (\\Seen)"]),
            findings: &["difference flags Sent 3"],
        },
        Case {
            what: "a keyword added",
            damage: |scene| scene.by_imap("Projekte/Größe", &["UID STORE 8 +FLAGS (Damage)"]),
            findings: &["difference keywords Projekte/Größe 8"],
        },
        Case {
            what: "a keyword removed",
            damage: |scene| scene.by_imap("INBOX", &["UID STORE 5 -FLAGS ($Forwarded)"]),
            findings: &["difference keywords INBOX 5"],
        },
        Case {
            what: "a message in the middle expunged",
            damage: |scene| scene.by_imap("INBOX", &["UID STORE 6 +FLAGS (\\Deleted)", "EXPUNGE"]),
            findings: &["difference message INBOX 6"],
        },
        Case {
            what: "the last message expunged",
            damage: |scene| scene.by_imap("Projekte/Größe", &["UID STORE 9 +FLAGS (\\Deleted)", "EXPUNGE"]),
            findings: &["difference message Projekte/Größe 9"],
        },
        Case {
            what: "a message appended",
            damage: |scene| {
                scene.account.log_in(&scene.pair.new).append("Sent", "", "", b"Subject: more\r\n\r\n");
            },
            findings: &["difference uidnext Sent -", "difference message Sent 4"],
        },
        Case {
            what: "UIDVALIDITY changed",
            damage: |scene| scene.doveadm(&["mailbox", "update", "--uid-validity", "4242"], "Sent"),
            findings: &["difference uidvalidity Sent -"],
        },
        Case {
            what: "UIDNEXT raised",
            damage: |scene| scene.doveadm(&["mailbox", "update", "--min-next-uid", "1001"], "Empty"),
            findings: &["difference uidnext Empty -"],
        },
        Case {
            what: "a mailbox deleted",
            damage: |scene| scene.by_imap("INBOX", &["DELETE Sent"]),
            findings: &["difference mailbox Sent -"],
        },
        Case {
            what: "an empty mailbox deleted",
            damage: |scene| scene.by_imap("INBOX", &["DELETE Empty"]),
            findings: &["difference mailbox Empty -"],
        },
        Case {
            what: "a mailbox renamed",
            damage: |scene| scene.by_imap("INBOX", &["RENAME Sent Post"]),
            findings: &["difference mailbox Sent -", "difference mailbox Post -"],
        },
        Case {
            what: "a mailbox emptied",
            damage: |scene| scene.by_imap("Sent", &["STORE 1:* +FLAGS (\\Deleted)", "EXPUNGE"]),
            findings: &["difference message Sent 1", "difference message Sent 2", "difference message Sent 3"],
        },
        Case {
            what: "a parent that can be selected now",
            damage: |scene| scene.by_imap("INBOX", &["CREATE Projekte"]),
            findings: &["difference noselect Projekte -"],
        },
        Case {
            what: "a subscription added",
            damage: |scene| scene.by_imap("INBOX", &["SUBSCRIBE Empty"]),
            findings: &["difference subscription Empty -"],
        },
        Case {
            what: "a subscription removed",
            damage: |scene| scene.by_imap("INBOX", &["UNSUBSCRIBE Sent"]),
            findings: &["difference subscription Sent -"],
        },
        Case {
            what: "a subscription to nothing removed",
            damage: |scene| scene.by_imap("INBOX", &["UNSUBSCRIBE \"Gone/for good\""]),
            findings: &["difference subscription Gone/for good -"],
        },
        Case {
            what: "an empty mailbox of the new side's own: nobody minds",
            damage: |scene| scene.by_imap("INBOX", &["CREATE Spam"]),
            findings: &["note mailbox Spam -"],
        },
    ];
    run_on(new, &cases, by_mailferry);
}

#[test]
fn accounts_that_mailferry_has_never_written_are_compared_as_well() {
    let cases = [
        Case { what: "the same", damage: |_| {}, findings: &[] },
        Case {
            what: "a body made longer",
            damage: |scene| {
                scene.import(|account| {
                    let message = account.mailbox("INBOX").messages.get_mut(&5).unwrap();
                    message.raw = [&message.raw[..], b"and a line more\r\n"].concat().into();
                });
            },
            findings: &["difference body INBOX 5"],
        },
        Case {
            what: "INTERNALDATE changed",
            damage: |scene| {
                scene.import(|account| account.mailbox("Sent").messages.get_mut(&2).unwrap().date += 1);
            },
            findings: &["difference internaldate Sent 2"],
        },
        Case {
            what: "two messages swapped",
            damage: |scene| {
                scene.import(|account| {
                    let inbox = &mut account.mailbox("INBOX").messages;
                    let (one, nine) = (inbox[&1].clone(), inbox[&9].clone());
                    inbox.insert(1, nine);
                    inbox.insert(9, one);
                });
            },
            findings: &[
                "difference flags INBOX 1",
                "difference keywords INBOX 1",
                "difference internaldate INBOX 1",
                "difference flags INBOX 9",
                "difference keywords INBOX 9",
                "difference internaldate INBOX 9",
                "difference body INBOX 1",
                "difference body INBOX 9",
            ],
        },
        Case {
            what: "renumbered",
            damage: |scene| {
                scene.import(|account| {
                    let inbox = account.mailbox("INBOX");
                    let last = inbox.messages.remove(&9).unwrap();
                    inbox.messages.insert(10, last);
                });
            },
            findings: &["difference message INBOX 9", "difference message INBOX 10"],
        },
        Case {
            what: "UIDNEXT lower",
            damage: |scene| scene.import(|account| account.mailbox("INBOX").uid_next = 10),
            findings: &["difference uidnext INBOX -"],
        },
        Case {
            what: "a whole mailbox with another UIDVALIDITY",
            damage: |scene| scene.import(|account| account.mailbox("Sent").uid_validity += 1),
            findings: &["difference uidvalidity Sent -"],
        },
        Case {
            what: "a copy that starts again with small mod-sequences",
            damage: |scene| {
                let mut imap = scene.account.log_in(&scene.pair.old);
                imap.select("INBOX");
                for _ in 0..5 {
                    imap.ok("UID STORE 5 +FLAGS.SILENT (\\Flagged)");
                    imap.ok("UID STORE 5 -FLAGS.SILENT (\\Flagged)");
                }
                scene.import(|_| {});
            },
            findings: &["difference highestmodseq INBOX -", "difference modseq INBOX 5"],
        },
        Case {
            what: "nothing came over",
            damage: |scene| {
                scene.import(|account| {
                    account.mailboxes.clear();
                    account.subscriptions.clear();
                });
            },
            findings: &[
                "difference mailbox Empty -",
                "difference mailbox Projekte -",
                "difference mailbox Projekte/Größe -",
                "difference mailbox Sent -",
                "difference subscription Gone/for good -",
                "difference subscription INBOX -",
                "difference subscription Sent -",
                "difference uidvalidity INBOX -",
                "difference uidnext INBOX -",
                "difference highestmodseq INBOX -",
                "difference message INBOX 1",
                "difference message INBOX 2",
                "difference message INBOX 5",
                "difference message INBOX 6",
                "difference message INBOX 9",
            ],
        },
    ];
    run(&cases, by_dovecot);
}

#[test]
fn what_only_a_pop3_client_would_notice_is_found() {
    by_pop3(Spec::new_side);
}

/// What only a POP3 client would notice, on a new side that `new` says.
pub(crate) fn by_pop3(new: impl Fn(&[&str]) -> Spec) {
    let cases = [
        Case { what: "nothing", damage: |scene| scene.import(|_| {}), findings: &[] },
        Case {
            what: "a UIDL changed",
            damage: |scene| scene.import_with(|_| {}, &[(5, "Panother")]),
            findings: &["difference uidl INBOX 5"],
        },
        Case {
            what: "all UIDLs changed",
            damage: |scene| scene.import_with(|_| {}, &[(1, "Pa"), (2, "Pb"), (5, "Pc"), (6, "Pd"), (9, "Pe")]),
            findings: &[
                "difference uidl INBOX 1",
                "difference uidl INBOX 2",
                "difference uidl INBOX 5",
                "difference uidl INBOX 6",
                "difference uidl INBOX 9",
            ],
        },
        Case {
            what: "two UIDLs exchanged",
            damage: |scene| scene.import_with(|_| {}, &[(1, "P0000000259682f01"), (2, "P0000000159682f01")]),
            findings: &["difference pop3-order INBOX 1", "difference pop3-pairing INBOX -"],
        },
        Case {
            what: "two messages have one UIDL",
            damage: |scene| scene.import_with(|_| {}, &[(5, "P0000000659682f01")]),
            findings: &["difference pop3-pairing INBOX -"],
        },
        Case {
            what: "the last message comes first",
            damage: |scene| scene.import_with(|_| {}, &[(9, "O1")]),
            findings: &["difference pop3-order INBOX 1"],
        },
        Case {
            what: "a message expunged",
            damage: |scene| scene.by_imap("INBOX", &["UID STORE 6 +FLAGS (\\Deleted)", "EXPUNGE"]),
            findings: &["difference message INBOX 6", "difference pop3-missing INBOX 6"],
        },
        Case {
            what: "a message appended",
            damage: |scene| {
                scene.account.log_in(&scene.pair.new).append("INBOX", "", "", b"Subject: more\r\n\r\n");
            },
            findings: &["difference uidnext INBOX -", "difference message INBOX 12", "difference pop3-extra INBOX -"],
        },
    ];
    let users: Vec<String> = (0..cases.len()).map(|number| format!("d{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut pair = Pair { old: Dovecot::start(Spec::old(&users)), new: Dovecot::start(new(&users)) };
    let ferry = with_pop3(&pair, Ferry::prepare);
    run_between(&pair, &ferry, &cases, by_dovecot);

    // A server can hide from POP3 what IMAP shows.
    let good = fs::read_to_string(pair.new.config_path()).unwrap();
    fs::write(pair.new.config_path(), format!("{good}pop3_deleted_flag = NonJunk\n")).unwrap();
    pair.new.kill9();
    pair.new.start_again();
    expect(&ferry, &pair, "d0", "hidden on the new side", &["difference pop3-missing INBOX 9"]);
}

#[test]
fn a_configuration_that_changes_what_clients_see_is_found() {
    let mut pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    expect(&ferry, &pair, "u1", "before", &[]);
    let good = fs::read_to_string(pair.new.config_path()).unwrap();
    for (from, to, findings) in [
        ("special_use = \\Sent", "special_use = \\Archive", ["difference special-use Sent -"]),
        ("separator = /", "separator = .", ["difference separator - -"]),
    ] {
        assert!(good.contains(from));
        fs::write(pair.new.config_path(), good.replace(from, to)).unwrap();
        pair.new.kill9();
        pair.new.start_again();
        expect(&ferry, &pair, "u1", to, &findings);
        expect_in_table(&ferry, &pair, "u1", &findings);
    }
}
