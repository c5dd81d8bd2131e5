//! What happens inside the gate itself: the old side changes after the last delta.

use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, shown};
use crate::lab::account::Message;
use crate::lab::{Ferry, FerrySpec, Hold, Imap, nasty};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_delivery_after_the_last_delta_stops_the_switch_and_the_next_one_carries_it_over() {
    let pair = Pair::start(&["u1"]);
    let mut account = nasty::small(&pair.old, "u1");
    let raw = b"Subject: in the gate\r\n\r\nmail\r\n";
    let hold = Hold::at("gate-verified#1");
    let faults = hold.fault();
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        env: vec![("MAILFERRY_FAULTS", &faults)],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);

    let stopped = std::thread::scope(|scope| {
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        hold.wait(LONG);
        let mut direct = Imap::connect(pair.old.imap_port());
        direct.login("u1", pair.old.password("u1"));
        direct.append("INBOX", "\\Seen", "17-Jul-1996 09:44:25 +0000", raw);
        hold.release();
        switch.join().unwrap()
    });
    let said = shown(&stopped);
    assert!(stopped.status.code() == Some(75) && said.contains("changed inside the gate"), "{said}");
    let status = ferry.status("u1");
    assert_eq!(
        (status["phase"].as_str(), status["authority"].as_str()),
        (Some("following"), Some("old")),
        "{status:#}"
    );
    assert_eq!(status["epoch"], 0);

    account.mailbox("INBOX").push(Message::new(*raw, "\\Seen", 837_596_665));
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    assert_equal_everywhere(&ferry, &pair, &account);
}
