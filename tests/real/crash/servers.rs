//! `kill -9` of the old or the new server while the proxy stands at one place after the other: the user is served, or told
//! that their server is not there; a switch that was going on has not happened, and the next one does.

use std::process::Output;

use super::{LONG, Scene, mail};
use crate::copy::shown;
use crate::lab::{Dovecot, Hold, Imap, World, deliver};

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Old,
    New,
}

impl Scene {
    fn server(&mut self, which: Which) -> &mut Dovecot {
        if which == Which::Old { &mut self.pair.old } else { &mut self.pair.new }
    }

    /// Whoever is served by a server that is gone is told so, and nobody else notices.
    fn assert_told(&self, gone: bool) {
        let mut client = Imap::connect(self.ferry.imap());
        let said = client.try_login("u1", self.pair.old.password("u1"));
        assert!(said.starts_with(if gone { "NO [UNAVAILABLE]" } else { "OK" }), "{said}");
    }

    /// The server is gone, and it is there again: the user's session goes on, or they come back.
    fn comes_back_from(&mut self, which: Which, session: &mut Imap, place: &str) {
        self.assert_told(which == Which::Old);
        self.server(which).start_again();
        if which == Which::Old {
            let (told, ended) = session.read_to_end(LONG);
            assert!(ended && told.starts_with(b"* BYE [UNAVAILABLE] "), "{place}: {}", String::from_utf8_lossy(&told));
            *session = self.session();
        }
        self.append(session, &format!("written ({place})"));
        self.deliver(&format!("delivered ({place})"));
    }
}

/// Holds the proxy when everything has been compared: mail that comes then makes a delta inside the gate, so that each step
/// needs both servers.
const DELTA: &str = "gate-closing";

/// Has the user switched; the server dies when the proxy stands at `hold`.
fn dies_in_switch(scene: &mut Scene, which: Which, delta: &Hold, hold: &Hold) -> Output {
    let output = std::thread::scope(|scope| {
        let ferry = &scene.ferry;
        let switch = scope.spawn(move || ferry.run(&["switch", "u1"]));
        delta.wait(LONG);
        deliver(&scene.pair.old, "u1", &mail("in the delta"));
        delta.release();
        hold.wait(LONG);
        let server = if which == Which::Old { &mut scene.pair.old } else { &mut scene.pair.new };
        server.kill9();
        hold.release();
        switch.join().unwrap()
    });
    scene.accepted.push("in the delta".to_owned());
    output
}

/// Killed while the user is copied, while they are followed, and at each of these places in the gate; then once more before
/// the transaction, which happens all the same.
fn dies(which: Which, steps: &[&str], pop3: bool) {
    let first = |place: &&str| Hold::at(&format!("{place}#1"));
    let outside = ["copy-mailbox", "follow-round"].each_ref().map(first);
    let inside: Vec<Hold> = steps.iter().map(first).collect();
    let (delta, commit) = (Hold::at(DELTA), Hold::at("gate-commit#1"));
    let faults: Vec<String> = outside.iter().chain(&inside).chain([&delta, &commit]).map(Hold::fault).collect();
    let mut scene = Scene::start(&faults.join(","), |spec| spec.pop3 = pop3);
    let mut session = scene.session();
    for (hold, phase) in outside.iter().zip(["copying", "following"]) {
        if phase == "following" {
            scene.ferry.wait_phase("u1", phase, LONG);
            scene.append(&mut session, "written while followed");
        }
        hold.wait(LONG);
        scene.server(which).kill9();
        hold.release();
        let status = scene.ferry.wait_status("u1", LONG, |status| status["reason"].is_string());
        assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some(phase), Some("old")), "{status:#}");
        scene.comes_back_from(which, &mut session, phase);
    }
    for (hold, place) in inside.iter().zip(steps) {
        let output = dies_in_switch(&mut scene, which, &delta, hold);
        let said = shown(&output);
        // (A refused connection to the doveadm service names that.)
        let names = |text: &str| match which {
            Which::Old => text.contains("old side"),
            Which::New => text.contains("new side") || text.contains("doveadm://"),
        };
        assert!(output.status.code() == Some(75) && names(&said), "{place}: {said}");
        let status = scene.ferry.status("u1");
        assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("following"), Some(0)), "{status:#}");
        assert!(names(status["reason"].as_str().unwrap()), "{place}: {status:#}");
        scene.comes_back_from(which, &mut session, place);
    }
    committed(scene, which, (&delta, &commit), session);
}

/// Killed at a place where everything has been compared: the user is on the new side.
fn committed(mut scene: Scene, which: Which, (delta, hold): (&Hold, &Hold), mut session: Imap) {
    let output = dies_in_switch(&mut scene, which, delta, hold);
    assert!(output.status.success(), "{}", shown(&output));
    let (told, ended) = session.read_to_end(LONG);
    assert!(ended && told.starts_with(b"* BYE [UNAVAILABLE] "), "{}", String::from_utf8_lossy(&told));
    assert_eq!(scene.stands(), ("new".to_owned(), 1));
    scene.assert_told(which == Which::New);
    scene.server(which).start_again();
    scene.assert_identical();
    let before = World::of(&scene.pair.old, "u1");
    scene.assert_ends_well(&before);
}

fn dies_right_after_the_transaction(which: Which) {
    let (delta, hold) = (Hold::at(DELTA), Hold::at("gate-committed"));
    let scene = Scene::start(&[delta.fault(), hold.fault()].join(","), |_| {});
    let session = scene.session();
    scene.ferry.wait_phase("u1", "following", LONG);
    committed(scene, which, (&delta, &hold), session);
}

#[test]
fn the_old_server_dies_at_every_step() {
    dies(Which::Old, &["gate-closed", "gate-fingerprint", "gate-delta", "gate-verified"], false);
}

#[test]
fn the_new_server_dies_at_every_step() {
    dies(Which::New, &["gate-closed", "gate-fingerprint", "gate-delta", "gate-verified"], true);
}

#[test]
fn the_old_server_dies_right_after_the_transaction() {
    dies_right_after_the_transaction(Which::Old);
}

#[test]
fn the_new_server_dies_right_after_the_transaction() {
    dies_right_after_the_transaction(Which::New);
}
