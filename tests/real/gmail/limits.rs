//! What Gmail gives an account: sessions at once, and octets a day.

use serde_json::Value;

use super::{DATE, LONG, assert_read_once, fill, letter, log_in, new_side, spec};
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, FerrySpec, Gmail, Hold, Imap, Tongue, World, wait_for};

#[test]
fn the_users_own_session_comes_before_ours_where_gmail_takes_no_more() {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill(&old, "u1");
    old.state().limits.connections = 1;
    let new = new_side(&old, "u1", Format::Mdbox, "");
    let hold = Hold::at("copy-pass#1");
    let fault = hold.fault();
    let ferry = Ferry::start(FerrySpec { env: vec![("MAILFERRY_FAULTS", &fault)], ..spec(&old, &new) });
    log_in(&ferry, "u1").ok("LOGOUT");
    hold.wait(LONG);
    // Ours is the one that there may be; it gives way.
    let mut session = Imap::connect(ferry.imap());
    let said = session.try_login("u1", "pw-of-u1");
    assert!(said.starts_with("OK"), "{said}");
    hold.release();
    // Now it is theirs, and nothing is wrong with the password.
    let status = ferry.wait_status("u1", LONG, |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains("Too many simultaneous connections"))
    });
    assert_eq!(status["phase"], "copying", "{status:#}");
    let mut second = Imap::connect(ferry.imap());
    let said = second.try_login("u1", "pw-of-u1");
    assert!(said.contains("Too many simultaneous connections"), "{said}");
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    assert_eq!(old.state().most_open, 1);
}

/// Fifteen messages of 20 kB each.
fn fill_large(gmail: &Gmail) {
    for number in 1..=15_usize {
        gmail.deliver("u1", &["\\Inbox", "Work"], DATE, &letter(number, 20_000));
    }
}

fn assert_copied(old: &Gmail, new: &Dovecot) {
    let found = World::of(old, "u1").differences(&World::of(new, "u1"), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    assert_read_once(old, "u1");
}

fn reason_has(ferry: &Ferry, words: &str) -> Value {
    let status = ferry.wait_status("u1", LONG, |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains(words) && reason.contains("goes on by itself"))
    });
    assert_eq!(
        (status["phase"].as_str(), status["quarantined"]["count"].as_u64()),
        (Some("copying"), Some(0)),
        "{status:#}"
    );
    status
}

#[test]
fn a_copy_that_has_used_up_its_part_of_a_day_goes_on_the_next_day_where_it_was() {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill_large(&old);
    let new = new_side(&old, "u1", Format::Mdbox, "");
    let mut with = spec(&old, &new);
    with.extra.extend([("old", "octets_per_day = \"200kB\""), ("old", "overquota_pause = \"1s\"")]);
    let mut ferry = Ferry::start(with);
    log_in(&ferry, "u1").ok("LOGOUT");
    reason_has(&ferry, "of 200000 octets of today (old.octets_per_day");
    let read = old.octets("u1");
    assert!((100_000..200_000).contains(&read), "{read}");
    // It is in the records: a process that begins anew has no more.
    ferry.kill9();
    ferry.start_again();
    log_in(&ferry, "u1").ok("LOGOUT");
    reason_has(&ferry, "of 200000 octets of today");
    assert_eq!(old.octets("u1"), read);
    // The next day, and the one after it.
    let records = rusqlite::Connection::open(ferry.store_path()).unwrap();
    ferry.wait_status("u1", LONG, |status| {
        records.execute("UPDATE old_octets SET day = day - 1 WHERE octets > 150000", []).unwrap();
        status["phase"] == "following"
    });
    assert_copied(&old, &new);
}

#[test]
fn what_gmail_refuses_for_the_day_is_no_broken_mail_and_is_asked_for_again() {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill_large(&old);
    old.state().limits.octets = 100_000;
    let new = new_side(&old, "u1", Format::Maildir, "");
    let mut with = spec(&old, &new);
    with.extra.extend([("migration", "unreadable = \"skip\""), ("old", "overquota_pause = \"1s\"")]);
    let ferry = Ferry::start(with);
    log_in(&ferry, "u1").ok("LOGOUT");
    reason_has(&ferry, "[OVERQUOTA] Account exceeded command or bandwidth limits");
    let refused = old.state().refused;
    wait_for("it to ask again", LONG, || (old.state().refused > refused + 1).then_some(()));
    // The next day it only says that we are too fast, for some time.
    old.state().limits.throttled = 6;
    ferry.wait_status("u1", LONG, |status| {
        old.new_day();
        status["phase"] == "following"
    });
    assert!(ferry.log().contains("the server says that we are too fast"), "{}", ferry.log());
    assert_copied(&old, &new);
}
