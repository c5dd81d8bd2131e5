//! Mail in every phase of a move, written by a client through the proxy and delivered straight into the old server: all of it
//! is on the new side in the end, exactly once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::copy::shown;
use crate::crash::{LONG, Scene, mail};
use crate::lab::imap::lossy;
use crate::lab::{Dovecot, Hold, Imap, World, deliver, wait_for};

/// Mails that come in each phase at least, from each sender.
const SOME: usize = 3;

/// Longer than an answer takes that is not held back. (A slow machine makes this test say less, not fail.)
const SILENCE: Duration = Duration::from_millis(300);

/// One who sends numbered mail as long as the flow goes.
#[derive(Default)]
struct Sender {
    /// Mails that were accepted.
    sent: AtomicUsize,
    stopped: AtomicBool,
    /// It has seen that it is to stop.
    rests: AtomicBool,
    ended: AtomicBool,
}

impl Sender {
    /// Sends one mail after the other by `send`, which gets the number of a mail and comes back when it was accepted.
    fn run(&self, mut send: impl FnMut(usize)) {
        while !self.ended.load(Ordering::SeqCst) {
            if self.stopped.load(Ordering::SeqCst) {
                self.rests.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            send(self.sent());
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until some more mails were accepted.
    fn wait_for_some(&self, when: &str) {
        let before = self.sent();
        wait_for(&format!("mail {when}"), LONG, || (self.sent() >= before + SOME).then_some(()));
    }

    /// Returns when nothing is on its way any more.
    fn stop(&self) {
        self.rests.store(false, Ordering::SeqCst);
        self.stopped.store(true, Ordering::SeqCst);
        wait_for("the last mail on its way", LONG, || self.rests.load(Ordering::SeqCst).then_some(()));
    }

    fn go_on(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }
}

/// However a test ends: senders that go on would keep it from ending.
struct EndAll<'a>(&'a [&'a Sender], &'a [&'a Hold]);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|sender| sender.ended.store(true, Ordering::SeqCst));
        self.1.iter().for_each(|hold| hold.release());
    }
}

/// A client that sends a mail again when its session ends before it was told that the mail has arrived, as clients do.
struct Client<'a> {
    port: u16,
    old: &'a Dovecot,
    session: Option<Imap>,
}

impl Client<'_> {
    fn send(&mut self, number: usize) {
        loop {
            let session = self.session.get_or_insert_with(|| {
                let mut imap = Imap::connect(self.port);
                imap.login("u1", self.old.password("u1"));
                imap
            });
            let raw = mail(&format!("written {number}"));
            let command = format!("a APPEND INBOX (\\Seen kw) {{{}+}}\r\n{}\r\n", raw.len(), lossy(&raw));
            if session.try_send(command.as_bytes()).is_ok() {
                let (tagged, _) = session.finish("a");
                if tagged.starts_with("OK") {
                    return;
                }
                assert!(tagged.is_empty() || tagged.starts_with("* BYE [UNAVAILABLE] "), "{tagged}");
            }
            self.session = None;
        }
    }
}

fn in_every_phase(pop3: bool) {
    let holds = ["copy-mailbox#1", "gate-closed#1", "gate-committed#1"].map(Hold::at);
    let [copying, closed, committed] = &holds;
    let scene = Scene::start(&holds.each_ref().map(Hold::fault).join(","), |spec| spec.pop3 = pop3);
    let (ferry, pair) = (&scene.ferry, &scene.pair);
    let (writer, mta) = (Sender::default(), Sender::default());
    let before_the_switch = std::thread::scope(|scope| {
        let _end = EndAll(&[&writer, &mta], &[copying, closed, committed]);
        scope.spawn(|| {
            let mut client = Client { port: ferry.imap(), old: &pair.old, session: None };
            writer.run(|number| client.send(number));
        });
        scope.spawn(|| mta.run(|number| deliver(&pair.old, "u1", &mail(&format!("delivered {number}")))));
        let both = |when: &str| {
            writer.wait_for_some(when);
            mta.wait_for_some(when);
        };

        copying.wait(LONG);
        both("while the user is copied");
        assert_eq!(ferry.status("u1")["phase"], "copying");
        // (A copy never ends while mail comes faster than it can be looked for.)
        writer.stop();
        mta.stop();
        copying.release();
        ferry.wait_phase("u1", "following", LONG);
        writer.go_on();
        mta.go_on();
        both("while the user is followed");

        mta.stop();
        writer.stop();
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        closed.wait(LONG);
        // What a client writes now waits, and so does a login; what is delivered to the old side is there.
        writer.go_on();
        mta.go_on();
        mta.wait_for_some("in the gate");
        mta.stop();
        let (written, delivered) = (writer.sent(), mta.sent());
        let mut login = Imap::connect(ferry.imap());
        let tag = login.start(&format!("LOGIN u1 {}", pair.old.password("u1")));
        assert!(!login.hears_within(SILENCE), "answered at a closed gate");
        assert_eq!(writer.sent(), written, "accepted at a closed gate");
        closed.release();

        committed.wait(LONG);
        assert!(!login.hears_within(Duration::ZERO) && writer.sent() == written, "the gate is open");
        let before_the_switch = World::of(&pair.old, "u1");
        mta.go_on();
        mta.wait_for_some("right after the transaction");
        assert!(delivered < mta.sent());
        committed.release();
        let output = switch.join().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        let (answer, _) = login.finish(&tag);
        assert!(answer.starts_with("OK"), "{answer}");
        let seen = login.select("INBOX").exists;
        assert!(seen >= before_the_switch.mailboxes["INBOX"].mails.len(), "the login landed on the new side");
        both("after the switch");
        before_the_switch
    });
    let mut scene = scene;
    scene.accepted.extend((0..writer.sent()).map(|number| format!("written {number}")));
    scene.accepted.extend((0..mta.sent()).map(|number| format!("delivered {number}")));
    scene.assert_ends_well(&before_the_switch);
}

#[test]
fn mail_of_every_phase_is_on_the_new_side_once() {
    in_every_phase(false);
}

#[test]
fn mail_of_every_phase_is_on_the_new_side_once_for_pop3_clients_too() {
    in_every_phase(true);
}
