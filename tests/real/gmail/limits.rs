//! What Gmail gives an account: sessions at once, and octets a day.

use super::{LONG, fill, log_in, new_side, spec};
use crate::lab::server::Format;
use crate::lab::{Ferry, FerrySpec, Gmail, Hold, Imap, Tongue};

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
