//! `kill -9` of the proxy, of the old and of the new server, while a user is copied, followed and switched: before and after
//! every step in the gate. Mail comes in all the time, by a client through the proxy and straight into the old server. The
//! move ends where it would have ended, and a model that shares no code with the crate finds nothing lost, nothing twice,
//! and no UID or UIDL another one than before.

use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees};
use crate::lab::{Dovecot, Ferry, FerrySpec, Hold, Imap, Spec, World, deliver, nasty, wait_for};
use crate::uidl::maildrop;

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A user who is about to move, and the mail that comes meanwhile.
pub(crate) struct Scene {
    pub(crate) ferry: Ferry,
    pub(crate) pair: Pair,
    /// What there was before.
    before: World,
    /// Subjects of what came since.
    pub(crate) came: Vec<String>,
    /// A session that stays open, so that its user is followed and not switched.
    open: Option<Imap>,
}

impl Scene {
    /// Begins the move with these faults.
    pub(crate) fn start(faults: &str) -> Self {
        // The new side gives UIDLs of its own form: what is as before was written.
        Self::between(Spec { own_uidls: true, ..Spec::new_side(&["u1"]) }, faults)
    }

    /// The same with another new side, for `u1`.
    pub(crate) fn between(new: Spec, faults: &str) -> Self {
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) };
        nasty::small(&pair.old, "u1");
        let before = World::of(&pair.old, "u1");
        let env = vec![("MAILFERRY_FAULTS", faults)];
        let ferry = Ferry::start(FerrySpec { pop3: true, env, ..FerrySpec::between(&pair.old, &pair.new) });
        Self { ferry, pair, before, came: Vec::new(), open: None }
    }

    pub(crate) fn session(&self) -> Imap {
        let mut imap = Imap::connect(self.ferry.imap());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }

    /// A client writes through the proxy.
    pub(crate) fn append(&mut self, session: &mut Imap, what: &str) {
        let raw = format!("Subject: written {what}\r\n\r\nmail\r\n");
        session.append("INBOX", "\\Seen", "17-Jul-1996 02:44:25 -0700", raw.as_bytes());
        self.came.push(format!("written {what}"));
    }

    /// Mail comes straight into the old server.
    pub(crate) fn deliver(&mut self, when: &str) {
        deliver(&self.pair.old, "u1", format!("Subject: delivered {when}\n\nmail\n").as_bytes());
        self.came.push(format!("delivered {when}"));
    }

    /// Brings the move to where `place` lies: the last session goes where the user is to be switched.
    fn drive(&mut self, place: &str) {
        let mut session = self.session();
        if place.starts_with("copy") || place.starts_with("pop3") {
            return;
        }
        self.ferry.wait_phase("u1", "following", LONG);
        self.append(&mut session, "while followed");
        if place.starts_with("gate") {
            session.ok("LOGOUT");
        } else {
            self.open = Some(session);
        }
    }

    /// The proxy has killed itself: it starts again without faults, and mail comes meanwhile and afterwards.
    fn restart(&mut self) {
        wait_for("the proxy to end", LONG, || (!self.ferry.is_running()).then_some(()));
        self.ferry.kill9();
        self.deliver("while the proxy was down");
        self.ferry.set_env("MAILFERRY_FAULTS", "");
        self.ferry.start_again();
    }

    /// The user comes back, and everything ends as if nothing had happened. `late`: mail that came into the old side after
    /// the switch.
    pub(crate) fn assert_ends_well(mut self, late: u64) {
        self.open = None;
        let mut session = self.session();
        self.append(&mut session, "in the end");
        session.ok("LOGOUT");
        let status = self.ferry.wait_status("u1", LONG, |status| {
            assert_ne!(status["phase"], "held", "{status:#}");
            status["phase"] == "new" && status["late_arrivals"]["appended"].as_u64() >= Some(late)
        });
        assert_eq!((status["epoch"].as_u64(), status["authority"].as_str()), (Some(1), Some("new")), "{status:#}");
        let after = World::of(&self.pair.new, "u1");
        for (name, shelf) in &self.before.mailboxes {
            let found = &after.mailboxes[name];
            assert_eq!(found.uid_validity, shelf.uid_validity, "{name}");
            for (uid, mail) in &shelf.mails {
                assert_eq!(found.mails.get(uid), Some(mail), "{name} UID {uid}");
            }
        }
        let mut subjects: Vec<String> = after.mailboxes["INBOX"].mails.values().map(|mail| mail.subject()).collect();
        let known = self.before.mailboxes["INBOX"].mails.values();
        subjects.sort_unstable();
        let mut wanted: Vec<String> = known.map(|mail| mail.subject()).chain(self.came.iter().cloned()).collect();
        wanted.sort_unstable();
        assert_eq!(subjects, wanted, "everything once");
        assert_eq!(after.subscriptions, self.before.subscriptions);
        let [old, new] = [&self.pair.old, &self.pair.new].map(|server| maildrop::shown(server, "u1"));
        if late == 0 && !self.wrote_to_new_alone() {
            assert_foreign_judge_agrees(&self.pair, "u1");
            assert_eq!(old, new);
        }
        // What both have, POP3 clients know by the same UIDL, in the same order.
        let common = self.before.mailboxes["INBOX"].mails.len();
        assert_eq!(old[..common], new[..common]);
    }

    /// Whether the last session wrote to a user who had been switched before.
    fn wrote_to_new_alone(&self) -> bool {
        let old = World::of(&self.pair.old, "u1");
        !old.mailboxes["INBOX"].mails.values().any(|mail| mail.subject() == "written in the end")
    }
}

/// Mail that comes when everything has been compared and the gate is about to close: there is a delta inside it.
const DELTA: &str = "gate-closing#1";

fn killed(place: &str) {
    killed_on(place, Spec { own_uidls: true, ..Spec::new_side(&["u1"]) });
}

/// The proxy is killed at `place`, where `new` is the new side.
pub(crate) fn killed_on(place: &str, new: Spec) {
    let hold = Hold::at(DELTA);
    let in_gate = place.starts_with("gate") && place != "gate-closing";
    let kill = format!("{place}=kill");
    let mut scene = Scene::between(new, &if in_gate { format!("{},{kill}", hold.fault()) } else { kill });
    scene.drive(place);
    if in_gate {
        hold.wait(LONG);
        scene.deliver("before the gate");
        hold.release();
    }
    scene.restart();
    let status = scene.ferry.status("u1");
    let committed = matches!(place, "gate-committed" | "gate-opened");
    let stands = (status["authority"].as_str(), status["epoch"].as_u64());
    assert_eq!(stands, if committed { (Some("new"), Some(1)) } else { (Some("old"), Some(0)) }, "{status:#}");
    scene.deliver("after the restart");
    scene.assert_ends_well(if committed { 2 } else { 0 });
}

/// Which server is killed.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    Old,
    New,
}

fn server_killed(which: Which, place: &str) {
    let hold = Hold::at(&format!("{place}#1"));
    let mut scene = Scene::start(&hold.fault());
    scene.drive(place);
    hold.wait(LONG);
    let server = if which == Which::Old { &mut scene.pair.old } else { &mut scene.pair.new };
    server.kill9();
    if !place.starts_with("gate") {
        // Whoever is served by the server that is gone is told so, and nobody else notices.
        let mut client = Imap::connect(scene.ferry.imap());
        let said = client.try_login("u1", "pw-of-u1");
        assert!(said.starts_with(if which == Which::Old { "NO [UNAVAILABLE]" } else { "OK" }), "{said}");
    }
    let server = if which == Which::Old { &mut scene.pair.old } else { &mut scene.pair.new };
    server.start_again();
    hold.release();
    scene.assert_ends_well(0);
}

macro_rules! crashes {
    ($($name:ident: $what:expr;)*) => {
        $(#[test]
        fn $name() {
            $what;
        })*
    };
}

crashes! {
    killed_when_a_copy_begins: killed("copy-pass#2");
    killed_when_a_mailbox_is_written: killed("copy-mailbox#2");
    killed_when_the_pop3_list_was_read: killed("pop3-read");
    killed_while_followed: killed("follow-round");
    killed_before_the_gate: killed("gate-closing");
    killed_when_the_sessions_stand_still: killed("gate-parked");
    killed_when_the_gate_is_closed: killed("gate-closed");
    killed_after_the_fingerprint: killed("gate-fingerprint");
    killed_after_the_last_delta: killed("gate-delta");
    killed_after_the_verification: killed("gate-verified");
    killed_before_the_transaction: killed("gate-commit");
    killed_after_the_transaction: killed("gate-committed");
    killed_when_the_gate_is_open_again: killed("gate-opened");
    the_old_server_is_killed_while_a_mailbox_is_written: server_killed(Which::Old, "copy-mailbox");
    the_new_server_is_killed_while_a_mailbox_is_written: server_killed(Which::New, "copy-mailbox");
    the_old_server_is_killed_while_its_user_is_followed: server_killed(Which::Old, "follow-round");
    the_new_server_is_killed_while_its_user_is_followed: server_killed(Which::New, "follow-round");
    the_old_server_is_killed_when_the_gate_is_closed: server_killed(Which::Old, "gate-closed");
    the_new_server_is_killed_when_the_gate_is_closed: server_killed(Which::New, "gate-closed");
    the_old_server_is_killed_after_the_last_delta: server_killed(Which::Old, "gate-delta");
    the_new_server_is_killed_after_the_last_delta: server_killed(Which::New, "gate-delta");
    the_old_server_is_killed_before_the_transaction: server_killed(Which::Old, "gate-commit");
    the_new_server_is_killed_before_the_transaction: server_killed(Which::New, "gate-commit");
    the_old_server_is_killed_after_the_transaction: server_killed(Which::Old, "gate-committed");
    the_new_server_is_killed_after_the_transaction: server_killed(Which::New, "gate-committed");
}
