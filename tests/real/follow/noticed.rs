//! When a round begins: whatever way a client writes, and whatever happened while nobody watched.

use super::*;

#[test]
fn a_write_with_an_idle_right_behind_it_is_followed_while_the_idle_goes_on() {
    let mut followed = Followed::start(Knows::Everything, |old| drop(nasty::small(old, "u1")));
    followed.session.select("INBOX");
    followed.session.send(b"a UID STORE 1:* +FLAGS (idled)\r\nb IDLE\r\n");
    followed.settle("a write before an IDLE");
    assert!(World::of(&followed.pair.new, "u1").has_flag("idled"), "it was executed");
    followed.session.send(b"DONE\r\n");
    followed.session.finish("b");
}

#[test]
fn a_write_whose_client_does_not_wait_for_the_answer_is_followed() {
    let mut followed = Followed::start(Knows::Nothing, |old| drop(nasty::small(old, "u1")));
    followed.session.select("INBOX");
    followed.session.send(b"a UID STORE 1:* +FLAGS (unheard)\r\n");
    followed.session.clone_socket().shutdown(std::net::Shutdown::Both).unwrap();
    wait_for("the old side to execute it", LONG, || {
        World::of(&followed.pair.old, "u1").has_flag("unheard").then_some(())
    });
    followed.settle("a write whose client went away");
}

#[test]
fn what_happened_while_the_proxy_was_down_is_followed_at_the_next_login() {
    let mut followed = Followed::start(Knows::Everything, |old| drop(nasty::small(old, "u1")));
    followed.ferry.kill9();
    followed.direct().append("INBOX", "kw", "", b"Subject: meanwhile\r\n\r\nmail\r\n");
    followed.ferry.start_again();
    followed.session = Imap::connect(followed.ferry.imap());
    followed.session.login("u1", followed.pair.old.password("u1"));
    followed.settle("a delivery while the proxy was down");
}
