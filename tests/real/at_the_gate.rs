//! What is under way at the moment the gate closes: each command is executed exactly once, on one side, answered with its
//! own tag; nobody is told anything before the transaction; and after a switch that failed nobody has noticed anything.

use std::process::Output;
use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown};
use crate::lab::imap::lossy;
use crate::lab::{Dovecot, Ferry, FerrySpec, Hold, Imap, World, lmtp, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Longer than an answer takes that is not held back. (A slow machine makes these tests say less, not fail.)
const SILENCE: Duration = Duration::from_millis(300);
/// Longer than any answer takes on a machine that is busy with other tests.
const STANDSTILL: Duration = Duration::from_secs(2);

/// A user who is followed and can be switched.
struct Scene {
    ferry: Ferry,
    pair: Pair,
    hold: Hold,
}

impl Scene {
    /// The proxy stops at `place`.
    fn held_at(place: &str) -> Self {
        Self::with(place, "20s")
    }

    fn with(place: &str, max_pause: &str) -> Self {
        let (pair, hold) = (Pair::start(&["u1"]), Hold::at(place));
        nasty::small(&pair.old, "u1");
        let fault = hold.fault();
        let ferry = Ferry::start(FerrySpec {
            auto: false,
            max_pause,
            env: vec![("MAILFERRY_FAULTS", &fault)],
            ..FerrySpec::between(&pair.old, &pair.new)
        });
        let scene = Self { ferry, pair, hold };
        scene.session().ok("LOGOUT");
        scene.ferry.wait_phase("u1", "following", LONG);
        scene
    }

    fn session(&self) -> Imap {
        let mut imap = Imap::connect(self.ferry.imap());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }

    /// Has the user switched, and does `meanwhile`.
    fn switch_while(&self, meanwhile: impl FnOnce()) -> Output {
        std::thread::scope(|scope| {
            let switch = scope.spawn(|| self.ferry.run(&["switch", "u1"]));
            let _release = ReleaseAtEnd(&self.hold);
            meanwhile();
            switch.join().unwrap()
        })
    }

    /// The user is on the new side, and both sides are equal.
    fn assert_switched(&self, output: &Output) {
        assert!(output.status.success(), "{}", shown(output));
        let status = self.ferry.status("u1");
        assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
        assert_foreign_judge_agrees(&self.pair, "u1");
    }

    /// The switch failed, nothing has happened.
    fn assert_not_switched(&self, output: &Output, reason: &str) {
        let said = shown(output);
        assert!(output.status.code() == Some(75) && said.contains(reason), "{said}");
        let status = self.ferry.status("u1");
        assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("following"), Some(0)), "{status:#}");
    }
}

/// However a test ends: a proxy that is held would not.
struct ReleaseAtEnd<'a>(&'a Hold);

impl Drop for ReleaseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn raw(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nmail\r\n").into_bytes()
}

/// An APPEND that does not wait to be asked for its literal.
fn append(tag: &str, subject: &str) -> String {
    let raw = raw(subject);
    format!("{tag} APPEND INBOX (\\Flagged) {{{}+}}\r\n{}\r\n", raw.len(), lossy(&raw))
}

/// How often a message of this subject is there.
fn count(server: &Dovecot, subject: &str) -> usize {
    let world = World::of(server, "u1");
    world.mailboxes.values().flat_map(|shelf| shelf.mails.values()).filter(|mail| mail.subject() == subject).count()
}

/// Waits until a session stands still: its gate is closed, or closing. The tag that waits for its answer.
fn wait_parked(imap: &mut Imap) -> String {
    let deadline = std::time::Instant::now() + LONG;
    loop {
        let tag = imap.start("NOOP");
        if !imap.hears_within(STANDSTILL) {
            return tag;
        }
        assert!(imap.finish(&tag).0.starts_with("OK"));
        assert!(std::time::Instant::now() < deadline, "the gate does not close");
    }
}

/// All that a session hears is that it ends.
fn assert_farewell(mut imap: Imap) {
    let (told, ended) = imap.read_to_end(LONG);
    let told = lossy(&told);
    assert!(ended && told.starts_with("* BYE [UNAVAILABLE] ") && told.lines().count() == 1, "{told:?}");
}

#[test]
fn a_literal_half_sent_is_finished_first_with_all_that_is_pipelined_behind_it() {
    let scene = Scene::held_at("gate-closed");
    let (mut half, mut other) = (scene.session(), scene.session());
    half.send(format!("h APPEND INBOX {{{}}}\r\n", raw("half").len()).as_bytes());
    assert!(half.response().starts_with(b"+"));
    half.send(&raw("half")[..10]);
    let output = scene.switch_while(|| {
        let held = wait_parked(&mut other);
        assert!(!scene.hold.is_reached(), "the gate is closed on half a message");
        let mut rest = lossy(&raw("half")[10..]);
        rest.push_str("\r\ns SELECT INBOX\r\n");
        for number in 0..50 {
            match number % 3 {
                0 => rest.push_str(&append(&format!("p{number}"), &format!("pipelined {number}"))),
                1 => rest.push_str(&format!("p{number} UID STORE 1 +FLAGS (k{number})\r\n")),
                _ => rest.push_str(&format!("p{number} UID COPY 2 Sent\r\n")),
            }
        }
        half.send(rest.as_bytes());
        let mut missing: Vec<String> = (0..50).map(|number| format!("p{number}")).collect();
        missing.extend(["h".to_owned(), "s".to_owned()]);
        while !missing.is_empty() {
            let line = lossy(&half.response());
            let (tag, rest) = line.split_once(' ').unwrap();
            if tag != "*" {
                let at = missing.iter().position(|known| known == tag);
                missing.remove(at.unwrap_or_else(|| panic!("not asked for, or twice: {line}")));
                assert!(rest.starts_with("OK"), "{line}");
            }
        }
        scene.hold.wait(LONG);
        for session in [&mut half, &mut other] {
            assert!(!session.hears_within(SILENCE), "told before the transaction: {:?}", lossy(&session.response()));
        }
        scene.hold.release();
        assert_farewell(half);
        let (last, untagged) = other.finish(&held);
        assert!(last.starts_with("* BYE [UNAVAILABLE] ") && untagged.is_empty(), "{last} {untagged:?}");
    });
    scene.assert_switched(&output);
    let world = World::of(&scene.pair.new, "u1");
    for number in 0..50 {
        match number % 3 {
            0 => assert_eq!(count(&scene.pair.new, &format!("pipelined {number}")), 1, "{number}"),
            1 => assert!(world.mailboxes["INBOX"].mails[&1].flags.contains(&format!("k{number}")), "{number}"),
            _ => {}
        }
    }
    // Three were there.
    assert_eq!(world.mailboxes["Sent"].mails.len(), 3 + 16);
    assert_eq!(count(&scene.pair.new, "half"), 1);
}

#[test]
fn a_client_that_was_asked_for_its_literal_keeps_the_gate_open_and_loses_nothing() {
    let scene = Scene::with("nowhere", "500ms");
    let (mut asked, mut other) = (scene.session(), scene.session());
    asked.send(format!("h APPEND INBOX {{{}}}\r\n", raw("asked").len()).as_bytes());
    assert!(asked.response().starts_with(b"+"));
    let output = scene.switch_while(|| {});
    scene.assert_not_switched(&output, "1 of 2 sessions had a command going all the time");
    other.ok("NOOP");
    asked.send(&[&raw("asked")[..], b"\r\n"].concat());
    assert!(asked.finish("h").0.starts_with("OK"));
    let output = scene.switch_while(|| {});
    scene.assert_switched(&output);
    assert_farewell(asked);
    assert_eq!(count(&scene.pair.new, "asked"), 1);
}

#[test]
fn what_is_said_at_a_closed_gate_is_done_nowhere_when_the_user_has_moved() {
    let scene = Scene::held_at("gate-closed");
    let (mut piping, mut waiting, mut gone) = (scene.session(), scene.session(), scene.session());
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        let commands: String = (0..50).map(|number| append(&format!("p{number}"), "said too late")).collect();
        piping.send(commands.as_bytes());
        // This one waits to be asked for its literal.
        waiting.send(b"w APPEND INBOX {10}\r\n");
        gone.send(append("g", "said too late").as_bytes());
        drop(gone);
        // Logins wait, and are served by the new side.
        let mut login = Imap::connect(scene.ferry.imap());
        let tag = login.start(&format!("LOGIN u1 {}\r\nn SELECT INBOX", scene.pair.old.password("u1")));
        for session in [&mut piping, &mut waiting, &mut login] {
            assert!(!session.hears_within(SILENCE), "answered at a closed gate");
        }
        scene.hold.release();
        assert!(login.finish(&tag).0.starts_with("OK"));
        assert!(login.finish("n").0.starts_with("OK"));
        assert_farewell(piping);
        assert_farewell(waiting);
        append_and_find(&mut login, &scene.pair.new);
    });
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!((count(&scene.pair.old, "said too late"), count(&scene.pair.new, "said too late")), (0, 0));
}

/// The session is one with this server.
fn append_and_find(imap: &mut Imap, server: &Dovecot) {
    assert_eq!(count(server, "whose session"), 0);
    imap.append("INBOX", "", "", &raw("whose session"));
    assert_eq!(count(server, "whose session"), 1);
}

#[test]
fn what_is_said_at_a_closed_gate_is_done_once_when_the_switch_fails() {
    // A delivery comes in: the verified old side is not the old side any more.
    let scene = Scene::held_at("gate-verified#1");
    let (mut piping, mut waiting, mut gone) = (scene.session(), scene.session(), scene.session());
    piping.select("INBOX");
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        let commands: String = (0..50).map(|number| append(&format!("p{number}"), &format!("held {number}"))).collect();
        piping.send(commands.as_bytes());
        waiting.send(format!("w APPEND INBOX {{{}}}\r\n", raw("held literal").len()).as_bytes());
        gone.send(append("g", "held and gone").as_bytes());
        drop(gone);
        assert!(!piping.hears_within(SILENCE) && !waiting.hears_within(SILENCE), "answered at a closed gate");
        lmtp::deliver(&scene.pair.old, "u1", b"Subject: in the gate\n\nmail\n");
        scene.hold.release();
    });
    scene.assert_not_switched(&output, "changed inside the gate");
    for number in 0..50 {
        assert!(piping.finish(&format!("p{number}")).0.starts_with("OK"), "{number}");
    }
    assert!(waiting.response().starts_with(b"+"));
    waiting.send(&[&raw("held literal")[..], b"\r\n"].concat());
    assert!(waiting.finish("w").0.starts_with("OK"));
    // The next attempt carries everything over.
    let output = scene.switch_while(|| {});
    scene.assert_switched(&output);
    assert_farewell(waiting);
    for number in 0..50 {
        assert_eq!(count(&scene.pair.new, &format!("held {number}")), 1, "{number}");
    }
    assert_eq!((count(&scene.pair.new, "held literal"), count(&scene.pair.new, "in the gate")), (1, 1));
    assert!(count(&scene.pair.new, "held and gone") <= 1);
}

#[test]
fn an_idle_hears_of_a_switch_only_after_the_transaction() {
    let scene = Scene::held_at("gate-commit");
    let mut idle = idling(scene.session());
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        assert!(!idle.hears_within(SILENCE), "told before the transaction");
        assert_eq!(scene.ferry.status("u1")["authority"], "old");
        scene.hold.release();
        let mut idle = idle;
        let (told, ended) = idle.read_to_end(LONG);
        assert!(ended && lossy(&told).starts_with("* BYE [UNAVAILABLE] "), "{}", lossy(&told));
        assert_eq!(scene.ferry.status("u1")["authority"], "new");
    });
    scene.assert_switched(&output);
}

#[test]
fn an_idle_goes_on_after_a_switch_that_failed() {
    let scene = Scene::held_at("gate-verified#1");
    let mut idle = idling(scene.session());
    let exists = World::of(&scene.pair.old, "u1").mailboxes["INBOX"].mails.len();
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        assert!(!idle.hears_within(SILENCE));
        lmtp::deliver(&scene.pair.old, "u1", b"Subject: in the gate\n\nmail\n");
        scene.hold.release();
    });
    scene.assert_not_switched(&output, "changed inside the gate");
    assert_eq!(lossy(&idle.response()), format!("* {} EXISTS", exists + 1));
    lmtp::deliver(&scene.pair.old, "u1", b"Subject: after the gate\n\nmail\n");
    while lossy(&idle.response()) != format!("* {} EXISTS", exists + 2) {}
    idle.send(b"DONE\r\n");
    assert!(idle.finish("i").0.starts_with("OK"));
    idle.ok("NOOP");
}

/// DONE at a closed gate is held like a command, and answered once.
#[test]
fn a_done_at_a_closed_gate_is_answered_after_a_switch_that_failed() {
    let scene = Scene::held_at("gate-verified#1");
    let mut idle = idling(scene.session());
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        idle.send(b"DONE\r\nn NOOP\r\n");
        lmtp::deliver(&scene.pair.old, "u1", b"Subject: in the gate\n\nmail\n");
        scene.hold.release();
    });
    scene.assert_not_switched(&output, "changed inside the gate");
    assert!(idle.finish("i").0.starts_with("OK"));
    assert!(idle.finish("n").0.starts_with("OK"));
}

fn idling(mut imap: Imap) -> Imap {
    imap.select("INBOX");
    imap.send(b"i IDLE\r\n");
    assert!(imap.response().starts_with(b"+"));
    imap
}

#[test]
fn a_client_that_goes_away_at_the_gate_does_not_stop_the_switch() {
    let scene = Scene::held_at("gate-closed");
    let sessions = [scene.session(), idling(scene.session()), scene.session()];
    let output = scene.switch_while(|| {
        scene.hold.wait(LONG);
        let [mut half_closed, idle, quiet] = sessions;
        drop((idle, quiet));
        half_closed.end_sending();
        scene.hold.release();
        let (_, ended) = half_closed.read_to_end(LONG);
        assert!(ended);
    });
    scene.assert_switched(&output);
}

#[test]
fn three_pauses_that_run_out_hold_the_user_and_no_session_notices() {
    let scene = Scene::with("gate-delta", "700ms");
    let mut session = idling(scene.session());
    let mut busy = scene.session();
    for pause in 1..=3 {
        let output = scene.switch_while(|| {
            scene.hold.wait(LONG);
            busy.send(append("b", &format!("in pause {pause}")).as_bytes());
            assert!(busy.finish("b").0.starts_with("OK"), "when the pause has run out");
        });
        let said = shown(&output);
        let status = scene.ferry.status("u1");
        assert_eq!((status["authority"].as_str(), status["epoch"].as_u64()), (Some("old"), Some(0)), "{status:#}");
        if pause < 3 {
            assert!(output.status.code() == Some(75) && said.contains("max_pause"), "{said}");
            assert_eq!(status["phase"], "following");
        } else {
            assert!(output.status.code() == Some(1) && said.contains("too slow to verify"), "{said}");
            let reason = status["reason"].as_str().unwrap();
            let measured = ["too slow to verify", "sessions ", "fingerprint ", " ms"];
            assert!(measured.iter().all(|words| reason.contains(words)), "{reason}");
            assert_eq!(status["phase"], "held");
        }
        assert_eq!(count(&scene.pair.old, &format!("in pause {pause}")), 1);
    }
    // It has heard of new messages, and of nothing else.
    session.send(b"DONE\r\n");
    let (tagged, untagged) = session.finish("i");
    assert!(tagged.starts_with("OK"), "{tagged}");
    for line in untagged.iter().map(|line| lossy(line)) {
        assert!(line.ends_with(" EXISTS") || line.ends_with(" RECENT") || line.starts_with("* OK"), "{line}");
    }
    session.ok("NOOP");
}
