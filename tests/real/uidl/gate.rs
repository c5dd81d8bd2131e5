//! UIDLs while mail comes in: after the POP3 list was read, and in the gate.

use std::process::Output;

use super::{LONG, family, followed, maildrop, moved, pair, with_pop3};
use crate::copy::{Pair, on_user, shown};
use crate::lab::{Ferry, FerrySpec, Format, Hold, lmtp};

const LATE: &[u8] = b"Subject: in between\n\nx\n";

/// A proxy that stops at each of `holds`.
fn holding(pair: &Pair, holds: &[&Hold], make: impl FnOnce(FerrySpec<'_>) -> Ferry) -> Ferry {
    let faults = holds.iter().map(|hold| hold.fault()).collect::<Vec<_>>().join(",");
    with_pop3(pair, |spec| make(FerrySpec { env: vec![("MAILFERRY_FAULTS", &faults)], ..spec }))
}

#[test]
fn mail_that_comes_while_the_list_is_used_keeps_its_uidl_whatever_the_order() {
    for shuffled in [false, true] {
        let pair = pair(Format::Mdbox, &["u1"]);
        family(&pair.old, "u1");
        if shuffled {
            maildrop::set_fields(&pair.old, "u1", &[(26, "O1".to_owned())]);
        }
        let hold = Hold::at("pop3-read#1");
        let ferry = holding(&pair, &[&hold], Ferry::prepare);
        let output: Output = std::thread::scope(|scope| {
            let sync = scope.spawn(|| on_user(&ferry, &pair, &["sync"], "u1"));
            hold.wait(LONG);
            lmtp::deliver(&pair.old, "u1", LATE);
            hold.release();
            sync.join().unwrap()
        });
        assert!(output.status.success(), "{}", shown(&output));
        // (The next runs would stop, too.)
        let again = with_pop3(&pair, Ferry::prepare);
        std::fs::copy(ferry.store_path(), again.store_path()).unwrap();
        let (_, list) = moved(&again, &pair, "u1");
        assert_eq!(list.len(), 9, "shuffled: {shuffled}");
    }
}

/// Switches `u1` while mail comes in after the gate was closed, and `damage` is done after it was copied.
fn switched(damage: impl Fn(&Pair)) -> (Pair, Ferry, Output) {
    let pair = pair(Format::Maildir, &["u1"]);
    family(&pair.old, "u1");
    let (closed, delta) = (Hold::at("gate-closed#1"), Hold::at("gate-delta#1"));
    let ferry = holding(&pair, &[&closed, &delta], Ferry::start);
    followed(&ferry, &pair, "u1");
    let output = std::thread::scope(|scope| {
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        closed.wait(LONG);
        lmtp::deliver(&pair.old, "u1", LATE);
        closed.release();
        delta.wait(LONG);
        damage(&pair);
        delta.release();
        switch.join().unwrap()
    });
    (pair, ferry, output)
}

#[test]
fn mail_that_comes_in_the_gate_is_on_the_new_side_with_its_uidl_when_it_opens() {
    let (pair, ferry, output) = switched(|_| {});
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(ferry.status("u1")["phase"], "new");
    let lists = [&pair.old, &pair.new].map(|server| maildrop::shown(server, "u1"));
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0].len(), 9);
}

#[test]
fn what_is_tampered_with_inside_the_gate_stops_the_switch() {
    let (_pair, ferry, output) = switched(|pair| maildrop::set_fields(&pair.new, "u1", &[(7, "Ptampered".to_owned())]));
    let said = shown(&output);
    assert!(said.contains("uidl in INBOX UID 7: old 0000000759682f01, new tampered"), "{said}");
    assert_eq!(ferry.status("u1")["authority"], "old");
}
