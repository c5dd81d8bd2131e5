//! Mailboxes that are not what they were at the switch.

use super::{DATE, DATE_SECONDS, LONG, Switched, log_in, mail};
use crate::copy::Pair;
use crate::lab::World;
use crate::lab::world::Mail;

#[test]
fn a_mailbox_that_the_user_has_deleted_on_the_new_side_is_not_made_again() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    let mut new = log_in(&switched.pair.new);
    new.ok("DELETE Sent");
    new.ok("RENAME a/Entw&APw-rfe elsewhere");
    switched.model = World::of(&switched.pair.new, "u1");
    switched.late("Sent", "\\Seen", &mail("late, sent"), "INBOX");
    switched.late("a/Entwürfe", "", &mail("late, draft"), "INBOX");
    assert_eq!(switched.sweep().appended, 2);
    switched.assert_new_side();
    assert_eq!(switched.sweep().appended, 0);
    switched.assert_new_side();
}

#[test]
fn a_mailbox_that_comes_after_the_switch_is_late_as_a_whole() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    log_in(&switched.pair.old).ok("CREATE \"b/n&AOk-o\"");
    assert_eq!(switched.sweep().appended, 0);
    switched.assert_new_side();
    log_in(&switched.pair.new).ok("CREATE \"b/n&AOk-o\"");
    switched.model = World::of(&switched.pair.new, "u1");
    log_in(&switched.pair.new).ok("DELETE \"b/n&AOk-o\"");
    switched.model.shelf("b/n&AOk-o").uid_validity = None;
    switched.late("b/néo", "\\Seen", &mail("one"), "b/n&AOk-o");
    switched.late("b/néo", "", &mail("two"), "b/n&AOk-o");
    assert_eq!(switched.sweep().appended, 2);
    switched.assert_new_side();

    // It is the user's own from now on.
    log_in(&switched.pair.new).ok("DELETE \"b/n&AOk-o\"");
    switched.model = World::of(&switched.pair.new, "u1");
    switched.late("b/néo", "", &mail("three"), "INBOX");
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
}

#[test]
fn a_mailbox_made_anew_on_the_old_side_is_named_and_not_carried_over_twice() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    let mut old = log_in(&switched.pair.old);
    old.ok("DELETE Sent");
    old.ok("CREATE Sent");
    old.append("Sent", "", DATE, &mail("early, sent"));
    switched.late("INBOX", "", &mail("late"), "INBOX");
    let swept = switched.sweep();
    assert_eq!((swept.appended, swept.pending), (1, 1));
    let reason = swept.reason().unwrap();
    assert!(reason.contains("`Sent`") && reason.contains("UIDVALIDITY has changed"), "{reason}");
    switched.assert_new_side();
}

#[test]
fn a_mailbox_renamed_on_the_old_side_is_not_new() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    log_in(&switched.pair.old).ok("RENAME Sent Gesendet");
    assert_eq!(switched.sweep().appended, 0);
    switched.assert_new_side();
    switched.late("Gesendet", "", &mail("late, sent"), "Sent");
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
}

#[test]
fn what_is_taken_away_on_the_old_side_before_the_look_is_not_missed() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    switched.late("INBOX", "", &mail("stays"), "INBOX");
    let mut old = log_in(&switched.pair.old);
    old.append("INBOX", "\\Deleted", DATE, &mail("goes"));
    old.select("INBOX");
    old.ok("EXPUNGE");
    assert_eq!(switched.sweep().appended, 1);
    let old = World::of(&switched.pair.old, "u1");
    assert_eq!(old.mailboxes["INBOX"].mails[&2], Mail::new(&[], DATE_SECONDS, mail("stays")));
    switched.assert_new_side();
}

/// The time of the switch lies ahead of now.
#[test]
fn a_clock_that_was_set_back_stops_no_look() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    let store = rusqlite::Connection::open(switched.ferry.store_path()).unwrap();
    assert_eq!(store.execute("UPDATE users SET switched_at = switched_at + 86400", []).unwrap(), 1);
    drop(store);
    switched.late("INBOX", "\\Seen", &mail("late"), "INBOX");
    switched.ferry.start_again();
    Switched::login(&switched.ferry, &switched.pair);
    switched.ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 1);
    switched.assert_new_side();
}
