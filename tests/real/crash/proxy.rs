//! `kill -9` of the proxy, at one place after the other: each time it starts again, the user comes back, and the next place is
//! reached from what the last one left.

use super::{LONG, Scene};
use crate::lab::{Hold, Imap, Spec, World, wait_for};

/// When everything has been compared and the gate is about to close: mail that comes now makes a delta inside it.
const DELTA: &str = "gate-closing#1";

/// Before, between and after all steps in the gate.
const GATE: [&str; 8] = [
    "gate-closing",
    "gate-parked",
    "gate-closed",
    "gate-fingerprint",
    "gate-delta",
    "gate-verified",
    "gate-commit",
    "gate-committed",
];

/// How a user comes to be switched.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// By an operator, in the middle of an open session.
    Ordered,
    /// By their login, which waits for it.
    ByLogin,
}

/// The faults that kill the proxy at `place`, with a moment in which mail can come just before the gate.
fn kill_at(place: &str, hold: &Hold) -> String {
    if place == "gate-closing" { format!("{place}=kill") } else { format!("{},{place}=kill", hold.fault()) }
}

impl Scene {
    /// The proxy has killed itself, at `place`: the user is where they were, or, behind the transaction, on the new side. It
    /// starts again, the next time with `faults`, and mail comes before and after that.
    fn comes_back(&mut self, place: &str, committed: bool, faults: &str) -> Option<World> {
        wait_for(&format!("the proxy to end at {place}"), LONG, || (!self.ferry.is_running()).then_some(()));
        self.ferry.kill9();
        // Nothing has come since the switch.
        let before = committed.then(|| World::of(&self.pair.old, "u1"));
        if committed {
            self.assert_identical();
        }
        self.come_behind_the_proxy(&format!("while the proxy was down ({place})"));
        self.ferry.set_env("MAILFERRY_FAULTS", faults);
        self.ferry.start_again();
        assert_eq!(self.stands(), if committed { ("new".to_owned(), 1) } else { ("old".to_owned(), 0) }, "{place}");
        self.come_behind_the_proxy(&format!("after the restart ({place})"));
        before
    }

    /// Everything up to the moment in which the proxy kills itself at a place in the gate.
    fn run_into(&mut self, place: &str, how: How, hold: &Hold, session: &mut Imap) {
        std::thread::scope(|scope| {
            let ferry = &self.ferry;
            let switch = scope.spawn(move || match how {
                How::Ordered => drop(ferry.run(&["switch", "u1"])),
                How::ByLogin => {}
            });
            if place != "gate-closing" {
                hold.wait(LONG);
                crate::lab::deliver(&self.pair.old, "u1", &super::mail(&format!("in the delta ({place})")));
                self.accepted.push(format!("in the delta ({place})"));
                hold.release();
            }
            switch.join().unwrap();
        });
        // Nobody has said a word before.
        let (told, ended) = session.read_to_end(LONG);
        let told = String::from_utf8_lossy(&told);
        let opened = place == "gate-opened" && told.starts_with("* BYE [UNAVAILABLE] ");
        assert!(ended && (told.is_empty() || opened), "{place}: {told}");
    }
}

/// Killed at one place in the gate after the other.
fn killed(places: &[&str], how: How, pop3: bool) {
    let mut hold = Hold::at(DELTA);
    let mut scene = Scene::start(&kill_at(places[0], &hold), |spec| {
        (spec.pop3, spec.auto) = (pop3, how == How::ByLogin);
    });
    let mut session = scene.session();
    scene.ferry.wait_phase("u1", "following", LONG);
    let mut at_the_switch = None;
    for (at, place) in places.iter().enumerate() {
        match how {
            How::Ordered if at > 0 => {
                session = scene.session();
                scene.append(&mut session, &format!("written ({place})"));
            }
            How::Ordered => scene.append(&mut session, "written while followed"),
            // The first one was not kept waiting: it is the end of its session that makes room for the switch.
            How::ByLogin if at == 0 => drop(session.start("LOGOUT")),
            How::ByLogin => {
                session = Imap::connect(scene.ferry.imap());
                session.start(&format!("LOGIN u1 {}", scene.pair.old.password("u1")));
            }
        }
        if how == How::ByLogin && at == 0 {
            let _ = session.read_to_end(LONG);
        }
        scene.run_into(place, how, &hold, &mut session);
        hold = Hold::at(DELTA);
        let faults = places.get(at + 1).map(|next| kill_at(next, &hold)).unwrap_or_default();
        at_the_switch = scene.comes_back(place, matches!(*place, "gate-committed" | "gate-opened"), &faults);
    }
    scene.assert_ends_well(&at_the_switch.expect("the last place lies behind the transaction"));
}

/// Killed in the copy and inside the gate, where `new` is the new side.
pub(crate) fn killed_into(new: Spec) {
    let hold = Hold::at(DELTA);
    let mut scene = Scene::between(new, "copy-mailbox#2=kill", |_| {});
    let mut session = scene.session();
    let (told, ended) = session.read_to_end(LONG);
    assert!(ended && told.is_empty(), "{}", String::from_utf8_lossy(&told));
    scene.comes_back("copy-mailbox#2", false, &kill_at("gate-delta", &hold));
    let mut session = scene.session();
    scene.ferry.wait_phase("u1", "following", LONG);
    scene.run_into("gate-delta", How::Ordered, &hold, &mut session);
    scene.comes_back("gate-delta", false, "");
    let session = scene.session();
    scene.switch(session);
    let before = World::of(&scene.pair.old, "u1");
    scene.assert_ends_well(&before);
}

#[test]
fn killed_at_every_step_of_a_switch_with_a_session_open() {
    killed(&GATE, How::Ordered, true);
}

#[test]
fn killed_at_every_step_of_a_switch_that_a_login_waits_for() {
    killed(&GATE, How::ByLogin, false);
}

#[test]
fn killed_when_the_gate_is_open_again() {
    killed(&["gate-opened"], How::Ordered, true);
}

#[test]
fn killed_while_copied_and_followed() {
    let places = ["pop3-read", "copy-mailbox", "copy-mailbox#2", "copy-pass#2", "follow-round"];
    let mut scene = Scene::start(&format!("{}=kill", places[0]), |_| {});
    for (at, place) in places.iter().enumerate() {
        let mut session = scene.session();
        if *place == "follow-round" {
            scene.ferry.wait_phase("u1", "following", LONG);
            scene.append(&mut session, "written while followed");
        }
        let (told, ended) = session.read_to_end(LONG);
        assert!(ended && told.is_empty(), "{place}: {}", String::from_utf8_lossy(&told));
        let faults = places.get(at + 1).map(|next| format!("{next}=kill")).unwrap_or_default();
        scene.comes_back(place, false, &faults);
    }
    let mut session = scene.session();
    scene.append(&mut session, "written in the end");
    scene.switch(session);
    let before = World::of(&scene.pair.old, "u1");
    scene.assert_ends_well(&before);
}
