//! The lease on a user is lost inside the gate: somebody else may have worked on them, so they stay where they are.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::{LONG, Scene};
use crate::copy::shown;
use crate::lab::Hold;

impl Scene {
    /// Writes straight into the store who has the lease on the user.
    fn lease_to(&self, owner: Option<&str>) {
        let store = Connection::open(self.ferry.store_path()).unwrap();
        store.busy_timeout(Duration::from_secs(60)).unwrap();
        let until = owner.map(|_| i64::MAX);
        let sql = "UPDATE users SET lease_owner = ?1, lease_until = ?2 WHERE user = 'u1'";
        assert_eq!(store.execute(sql, params![owner, until]).unwrap(), 1);
    }
}

/// Held at `place`, the lease goes to a stranger. `and_back`: who has done their work when the proxy notices.
fn lost(place: &str, and_back: bool, why: &str) {
    let hold = Hold::at(&format!("{place}#1"));
    let mut scene = Scene::start(&hold.fault(), |_| {});
    let mut session = scene.session();
    scene.ferry.wait_phase("u1", "following", LONG);
    scene.append(&mut session, "written while followed");
    let output = std::thread::scope(|scope| {
        let ferry = &scene.ferry;
        let switch = scope.spawn(move || ferry.run(&["switch", "u1"]));
        hold.wait(LONG);
        scene.lease_to(if and_back { None } else { Some("another-machine 1 1") });
        // What waits inside the gate is dropped when the loss is noticed, and else at the transaction.
        if place != "gate-commit" {
            scene.ferry.wait_status("u1", LONG, |status| status["phase"] == "following");
        }
        hold.release();
        switch.join().unwrap()
    });
    let said = shown(&output);
    assert!(output.status.code() == Some(75) && said.contains(why), "{said}");
    let status = scene.ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("following"), Some(0)), "{status:#}");
    assert!(status["reason"].as_str().unwrap().contains(why), "{status:#}");
    // The session was not told a word.
    scene.append(&mut session, "written afterwards");
    scene.lease_to(None);
    scene.switch(session);
}

/// (Side by side: a lease is renewed every ten seconds.)
#[test]
fn a_lease_that_is_lost_inside_the_gate_keeps_the_user_where_they_are() {
    std::thread::scope(|scope| {
        scope.spawn(|| lost("gate-closed", false, "was lost"));
        // Somebody had it for a while.
        scope.spawn(|| lost("gate-closed", true, "was lost"));
    });
}

#[test]
fn a_lease_that_is_lost_just_before_the_transaction_stops_it() {
    lost("gate-commit", false, "changed by somebody else");
}
