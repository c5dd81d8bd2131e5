//! `mailferry sync` and `mailferry verify` between two real Dovecots: Maildir on the old side, mdbox on the new one.

use std::process::Output;

use serde_json::Value;

use crate::lab::account::Account;
use crate::lab::{Dovecot, Ferry, FerrySpec, Spec, View, foreign, nasty};

/// Two servers with the same users and passwords.
pub(crate) struct Pair {
    pub(crate) old: Dovecot,
    pub(crate) new: Dovecot,
}

impl Pair {
    pub(crate) fn start(users: &[&str]) -> Self {
        Self { old: Dovecot::start(Spec::old(users)), new: Dovecot::start(Spec::new_side(users)) }
    }

    pub(crate) fn ferry(&self) -> Ferry {
        Ferry::prepare(FerrySpec::between(&self.old, &self.new))
    }
}

/// A command on one user, with their password.
pub(crate) fn on_user(ferry: &Ferry, pair: &Pair, command: &[&str], user: &str) -> Output {
    let file = ferry.password_file(pair.old.password(user));
    ferry.run(&[command, &[user, "--password-file", &file]].concat())
}

pub(crate) fn sync(ferry: &Ferry, pair: &Pair, user: &str) {
    let output = on_user(ferry, pair, &["sync"], user);
    assert!(output.status.success(), "{}", shown(&output));
}

/// The report of `mailferry verify` and its exit code.
pub(crate) fn verify(ferry: &Ferry, pair: &Pair, user: &str, bodies: &str) -> (Value, i32) {
    let output = on_user(ferry, pair, &["verify", "--json", "--bodies", bodies], user);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
    (report, output.status.code().unwrap())
}

pub(crate) fn shown(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Somebody else's IMAP library finds the two sides identical.
pub(crate) fn assert_foreign_judge_agrees(pair: &Pair, user: &str) {
    let side = |server: &Dovecot| (server.imap_port(), server.password(user).to_owned());
    let (old, new) = (side(&pair.old), side(&pair.new));
    let foreign = foreign::compare((old.0, user, &old.1), (new.0, user, &new.1));
    assert_eq!(foreign["identical"], true, "{foreign:#}");
}

/// Compared by ourselves, by the model of what was made, and by somebody else's IMAP library.
pub(crate) fn assert_equal_everywhere(ferry: &Ferry, pair: &Pair, account: &Account) -> Value {
    let (report, code) = verify(ferry, pair, &account.user, "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(report["messages"].as_u64(), Some(account.message_count() as u64));
    assert_eq!(report["bodies"], report["messages"]);
    assert_eq!(report["altered"], 0, "{report:#}");
    let found = account.differences(&mut account.log_in(&pair.new), View::Copy);
    assert!(found.is_empty(), "{found:#?}");
    assert_foreign_judge_agrees(pair, &account.user);
    report
}

#[test]
fn a_small_account_arrives_whole_and_a_second_run_has_nothing_to_do() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    let report = assert_equal_everywhere(&ferry, &pair, &account);
    assert_eq!(report["pop3"], "not configured");
    let again = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(String::from_utf8_lossy(&again.stdout).contains("0 octets copied in this run"), "{}", shown(&again));
}

#[test]
fn a_nasty_account_arrives_whole() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::full(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}

#[test]
fn the_corpus_arrives_whole() {
    let pair = Pair::start(&["u1"]);
    let Some(account) = nasty::corpus(&pair.old, "u1") else { return };
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}
