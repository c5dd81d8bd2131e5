//! What a look at an account costs the old server.

use super::*;
use crate::lab::tap::Talk;

/// An account of many mailboxes, one of them large.
fn large(old: &Dovecot, mailboxes: u32, messages: u32) {
    let mut account = Account::new("u1");
    for number in 1..=messages {
        account.mailbox("INBOX").push(nasty::plain("INBOX", number, ["", "\\Seen", "kw"][number as usize % 3]));
    }
    for number in 1..=mailboxes {
        let name = format!("Folder {number}");
        account.mailbox(&name).push(nasty::plain(&name, number, "\\Seen"));
    }
    account.write_to(old);
}

fn sum(talks: &[Talk], of: fn(&Talk) -> usize) -> usize {
    talks.iter().map(of).sum()
}

#[test]
fn a_look_that_finds_nothing_costs_a_handful_of_round_trips_however_large_the_account_is() {
    let (few, many) = nothing_to_do(Knows::Everything);
    for talk in [&few, &many] {
        let asked = talk.asked();
        assert!(!asked.contains("EXAMINE") && !asked.contains("FETCH"), "{asked}");
    }
    // Log in, lists, STATUS of all mailboxes (64 at a time), goodbye.
    let trips = (few.round_trips(), many.round_trips());
    assert!(trips.0 <= 6 && trips.1 <= trips.0 + 1, "{trips:?}: {}", many.asked());
    assert!(many.answered() < 25_000, "{} octets for 91 mailboxes", many.answered());
}

#[test]
fn a_look_that_finds_nothing_costs_a_handful_of_round_trips_without_mod_sequences_too() {
    for knows in [Knows::NoModSeq, Knows::Nothing] {
        let (few, many) = nothing_to_do(knows);
        // The flags of all messages have to be asked for, and in as few turns.
        let trips = (few.round_trips(), many.round_trips());
        assert!(trips.0 <= 7 && trips.1 <= trips.0 + 2, "{knows:?} {trips:?}: {}", many.asked());
        let asked = many.asked();
        assert!(asked.matches("EXAMINE").count() == 91 && !asked.contains("INTERNALDATE"), "{knows:?}: {asked}");
    }
}

/// What the old server was asked for a small account and for a large one in which nothing happened.
fn nothing_to_do(knows: Knows) -> (Talk, Talk) {
    let mut small = Followed::start(knows, |old| large(old, 3, 10));
    let mut big = Followed::start(knows, |old| large(old, 90, 3000));
    // (A machine that is slower than this makes the count too high, not too low.)
    for followed in [&small, &big] {
        followed.tap.slow_down(Duration::from_millis(200));
    }
    let (mut few, mut many) = (small.round(), big.round());
    assert_eq!((few.len(), many.len()), (1, 1), "one connection");
    (few.remove(0), many.remove(0))
}

#[test]
fn one_changed_flag_costs_as_much_in_a_large_mailbox_as_in_a_small_one() {
    let mut small = Followed::start(Knows::Everything, |old| large(old, 3, 10));
    let mut big = Followed::start(Knows::Everything, |old| large(old, 3, 4000));
    let cost = |followed: &mut Followed| {
        let before = followed.tap.count();
        let mut direct = followed.direct();
        direct.select("INBOX");
        direct.ok("UID STORE 7 +FLAGS (\\Flagged)");
        followed.touch();
        followed.settle("a flag");
        // Our own look at both sides for the comparison went past the wire.
        let talks = followed.tap.since(before);
        assert!(talks.iter().all(|talk| !talk.asked().contains("BODY.PEEK")), "no mail is read for a flag");
        sum(&talks, Talk::answered)
    };
    let (little, much) = (cost(&mut small), cost(&mut big));
    assert!(much < little + little / 2 + 2000, "{little} octets in a mailbox of 10, {much} in one of 4000");
}

#[test]
fn without_mod_sequences_flags_are_read_and_nothing_else() {
    let mut followed = Followed::start(Knows::NoModSeq, |old| large(old, 3, 500));
    let before = followed.tap.count();
    let mut direct = followed.direct();
    direct.select("INBOX");
    direct.ok("UID STORE 7 +FLAGS (\\Flagged)");
    followed.touch();
    followed.settle("a flag");
    let asked: String = followed.tap.since(before).iter().map(Talk::asked).collect();
    assert!(asked.contains("FLAGS") && !asked.contains("BODY.PEEK") && !asked.contains("INTERNALDATE"), "{asked}");
}

#[test]
fn a_renamed_mailbox_is_renamed_and_its_mail_is_not_read_again() {
    for knows in [Knows::Everything, Knows::Nothing] {
        let mut followed = Followed::start(knows, |old| large(old, 3, 10));
        let before = followed.tap.count();
        let mut direct = followed.direct();
        direct.ok("RENAME \"Folder 1\" \"Another name\"");
        direct.ok("RENAME \"Folder 2\" \"Folder 3/below\"");
        followed.touch();
        followed.settle("a rename");
        let asked: String = followed.tap.since(before).iter().map(Talk::asked).collect();
        assert!(!asked.contains("BODY.PEEK"), "{knows:?}: {asked}");
    }
}
