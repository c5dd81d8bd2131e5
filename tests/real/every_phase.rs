//! Mail in every phase of a move, written by a client through the proxy and delivered straight into the old server: all of it
//! is on the new side in the end, exactly once.

use std::time::Duration;

use crate::copy::shown;
use crate::crash::Scene;
use crate::lab::Hold;
use crate::lab::imap::lossy;

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn mail_of_every_phase_is_on_the_new_side_once() {
    let holds = ["copy-mailbox#1", "gate-closed#1", "gate-committed#1"].map(Hold::at);
    let [copying, closed, committed] = &holds;
    let mut scene = Scene::start(&holds.each_ref().map(Hold::fault).join(","));
    let mut session = scene.session();

    copying.wait(LONG);
    assert_eq!(scene.ferry.status("u1")["phase"], "copying");
    scene.append(&mut session, "while copied");
    scene.deliver("while copied");
    copying.release();

    scene.ferry.wait_phase("u1", "following", LONG);
    scene.append(&mut session, "while followed");
    scene.deliver("while followed");

    let waiting = "Subject: written at the gate\r\n\r\nmail\r\n";
    let switched = std::thread::scope(|scope| {
        let (ferry, came) = (&scene.ferry, &mut scene.came);
        let switch = scope.spawn(move || ferry.run(&["switch", "u1"]));
        closed.wait(LONG);
        let mut deliver = |when: &str| {
            let raw = format!("Subject: delivered {when}\n\nmail\n");
            crate::lab::deliver(&scene.pair.old, "u1", raw.as_bytes());
            came.push(format!("delivered {when}"));
        };
        deliver("in the gate");
        // The session stands still: this is done nowhere.
        session.send(format!("w APPEND INBOX {{{}+}}\r\n{waiting}\r\n", waiting.len()).as_bytes());
        closed.release();
        committed.wait(LONG);
        deliver("right after the transaction");
        committed.release();
        switch.join().unwrap()
    });
    assert!(switched.status.success(), "{}", shown(&switched));
    let (told, ended) = session.read_to_end(LONG);
    let told = lossy(&told);
    assert!(ended && told.starts_with("* BYE [UNAVAILABLE] ") && told.lines().count() == 1, "{told:?}");

    // The client does again what it was not told the end of.
    let mut session = scene.session();
    session.append("INBOX", "", "", waiting.as_bytes());
    scene.came.push("written at the gate".to_owned());
    scene.append(&mut session, "after the switch");
    scene.deliver("after the switch");
    session.ok("LOGOUT");
    scene.assert_ends_well(2);
}
