//! `kill -9` of the proxy, of the old and of the new server, while a user is copied, followed and switched: before and after
//! every step in the gate, and after every write of the store. Mail comes in all the time, by a client through the proxy, by
//! one that knows the old server's own address, and by LMTP straight into it. The move ends where it would have ended, and
//! judges that share no code with the crate find nothing lost, nothing twice, and no UID or UIDL another one than before.

mod lease;
pub(crate) mod proxy;
mod servers;
mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown, verify};
use crate::lab::world::Mail;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, World, deliver, nasty};
use crate::uidl::maildrop;

/// Far above what any of this takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A user who is about to move, and the mail that comes meanwhile.
pub(crate) struct Scene {
    pub(crate) ferry: Ferry,
    pub(crate) pair: Pair,
    pop3: bool,
    /// Subjects of everything in INBOX that was ever accepted.
    pub(crate) accepted: Vec<String>,
}

impl Scene {
    /// Begins the move with these faults. `change`: what is not as usual.
    pub(crate) fn start(faults: &str, change: impl FnOnce(&mut FerrySpec<'_>)) -> Self {
        // The new side gives UIDLs of its own form: what is as before was written.
        Self::between(Spec { own_uidls: true, ..Spec::new_side(&["u1"]) }, faults, change)
    }

    /// The same with another new side, for `u1`.
    pub(crate) fn between(new: Spec, faults: &str, change: impl FnOnce(&mut FerrySpec<'_>)) -> Self {
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) };
        nasty::small(&pair.old, "u1");
        let known = World::of(&pair.old, "u1");
        let mut spec = FerrySpec { pop3: true, auto: false, ..FerrySpec::between(&pair.old, &pair.new) };
        change(&mut spec);
        spec.env.push(("MAILFERRY_FAULTS", faults));
        let pop3 = spec.pop3;
        let ferry = Ferry::start(spec);
        Self { ferry, pair, pop3, accepted: subjects(&known) }
    }

    /// A session through the proxy.
    pub(crate) fn session(&self) -> Imap {
        let mut imap = Imap::connect(self.ferry.imap());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }

    /// A client writes.
    pub(crate) fn append(&mut self, session: &mut Imap, what: &str) {
        session.append("INBOX", "\\Seen kw", "17-Jul-1996 02:44:25 -0700", &mail(what));
        self.accepted.push(what.to_owned());
    }

    /// Mail comes straight into the old server.
    pub(crate) fn deliver(&mut self, what: &str) {
        deliver(&self.pair.old, "u1", &mail(what));
        self.accepted.push(what.to_owned());
    }

    /// A client that knows the old server's own address writes there, and mail is delivered there.
    fn come_behind_the_proxy(&mut self, when: &str) {
        let mut direct = Imap::connect(self.pair.old.imap_port());
        direct.login("u1", self.pair.old.password("u1"));
        self.append(&mut direct, &format!("written behind the proxy {when}"));
        self.deliver(&format!("delivered {when}"));
    }

    /// The side that serves the user, and the epoch.
    fn stands(&self) -> (String, u64) {
        let status = self.ferry.status("u1");
        (status["authority"].as_str().unwrap().to_owned(), status["epoch"].as_u64().unwrap())
    }

    /// Both sides are the same: the model of what clients see, somebody else's comparison and our own say so.
    pub(crate) fn assert_identical(&self) {
        let [old, new] = [&self.pair.old, &self.pair.new].map(|server| World::of(server, "u1"));
        assert_eq!(old, new);
        let (mut found, mut accepted) = (subjects(&old), self.accepted.clone());
        found.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(found, accepted, "everything once");
        assert_foreign_judge_agrees(&self.pair, "u1");
        let (report, code) = verify(&self.ferry, &self.pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
        let [old, new] = [&self.pair.old, &self.pair.new].map(|server| maildrop::shown(server, "u1"));
        if self.pop3 {
            assert_eq!(old, new);
        }
    }

    /// The user is switched now, whatever came before, and both sides are the same.
    pub(crate) fn switch(&mut self, mut session: Imap) {
        let switched = self.ferry.run(&["switch", "u1"]);
        assert!(switched.status.success(), "{}\n--- log:\n{}", shown(&switched), self.ferry.log());
        let (told, ended) = session.read_to_end(LONG);
        assert!(ended && told.starts_with(b"* BYE [UNAVAILABLE] "), "{}", String::from_utf8_lossy(&told));
        assert_eq!(self.stands(), ("new".to_owned(), 1));
        self.assert_identical();
    }

    /// The user is on the new side, and `before` is what both sides were at the switch: what was there has the same UIDs and
    /// UIDLs, and what was accepted since, on either side, is there once, as it came.
    pub(crate) fn assert_ends_well(mut self, before: &World) {
        let mut session = self.session();
        self.append(&mut session, "written on the new side");
        self.come_behind_the_proxy("after the switch");
        session.ok("LOGOUT");
        let known = before.mailboxes["INBOX"].mails.len();
        let late = World::of(&self.pair.old, "u1").mailboxes["INBOX"].mails.len() - known;
        let status = self
            .ferry
            .wait_status("u1", LONG, |status| status["late_arrivals"]["appended"].as_u64() >= Some(late as u64));
        assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
        let after = World::of(&self.pair.new, "u1");
        for (name, shelf) in &before.mailboxes {
            let found = &after.mailboxes[name];
            assert_eq!(found.uid_validity, shelf.uid_validity, "{name}");
            let kept: BTreeMap<&u32, &Mail> = found.mails.iter().take(shelf.mails.len()).collect();
            assert_eq!(kept, shelf.mails.iter().collect(), "{name}");
            if name != "INBOX" {
                assert_eq!(found.mails.len(), shelf.mails.len(), "{name}");
            }
        }
        let (mut found, mut accepted) = (subjects(&after), self.accepted.clone());
        found.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(found, accepted, "everything once");
        let old = World::of(&self.pair.old, "u1");
        let sames: Vec<&Mail> = after.mailboxes["INBOX"].mails.values().collect();
        for mail in old.mailboxes["INBOX"].mails.values() {
            assert!(sames.contains(&mail), "as it came: {}", mail.subject());
        }
        assert_eq!(after.subscriptions, before.subscriptions);
        if self.pop3 {
            let [old, new] = [&self.pair.old, &self.pair.new].map(|server| maildrop::shown(server, "u1"));
            assert_eq!(old[..known], new[..known]);
        }
    }
}

pub(crate) fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nmail\r\n").into_bytes()
}

fn subjects(world: &World) -> Vec<String> {
    world.mailboxes["INBOX"].mails.values().map(Mail::subject).collect()
}
