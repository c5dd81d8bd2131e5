//! What a look at an account costs: next to nothing over IMAP, and over the doveadm service as much as has changed.

use std::process::Output;

use super::by_dsync;
use crate::copy::{Pair, assert_foreign_judge_agrees, on_user, shown};
use crate::lab::tap::Talk;
use crate::lab::{Account, Dovecot, Ferry, FerrySpec, Imap, Spec, Tap, nasty};

/// A user who was copied once, and wires to both services of the old side.
struct Copied {
    ferry: Ferry,
    imap: Tap,
    doveadm: Tap,
    pair: Pair,
}

impl Copied {
    fn start(messages: u32) -> Self {
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(Spec::new_side(&["u1"])) };
        let mut account = Account::new("u1");
        for number in 1..=messages {
            account.mailbox("INBOX").push(nasty::plain("INBOX", number, ["", "\\Seen", "kw"][number as usize % 3]));
        }
        account.mailbox("Sent").push(nasty::plain("Sent", 1, "\\Seen"));
        account.write_to(&pair.old);
        let (imap, doveadm) = (Tap::to(pair.old.imap_port()), Tap::to(pair.old.doveadm_port()));
        let ferry = Ferry::prepare(FerrySpec {
            old_imap: Some(format!("imap://127.0.0.1:{}", imap.port)),
            source: Some(format!("doveadm://127.0.0.1:{}", doveadm.port)),
            ..by_dsync(&pair)
        });
        let copied = Self { ferry, imap, doveadm, pair };
        copied.sync();
        // (The second one finds that nothing is left to be done, and remembers it.)
        copied.sync();
        copied
    }

    fn sync(&self) -> Output {
        let output = on_user(&self.ferry, &self.pair, &["sync"], "u1");
        assert!(output.status.success(), "{}", shown(&output));
        output
    }

    /// One look after `change`: connections for IMAP, and octets that the doveadm service answered.
    fn look(&self, change: impl FnOnce(&mut Imap)) -> (usize, usize) {
        let mut direct = Imap::connect(self.pair.old.imap_port());
        direct.login("u1", self.pair.old.password("u1"));
        direct.select("INBOX");
        change(&mut direct);
        direct.ok("LOGOUT");
        let before = (self.imap.count(), self.doveadm.count());
        self.sync();
        assert_foreign_judge_agrees(&self.pair, "u1");
        let answered = self.doveadm.since(before.1).iter().map(Talk::answered).sum();
        (self.imap.count() - before.0, answered)
    }
}

/// What a client does in INBOX.
type Change = fn(&mut Imap);

#[test]
fn a_look_costs_what_has_changed_and_nothing_over_imap() {
    let (small, large) = (Copied::start(10), Copied::start(4000));
    let first: String = large.imap.since(0).iter().map(Talk::asked).collect();
    assert!(!first.contains("FETCH") && first.matches("STATUS").count() <= 2 * 2, "a whole copy by IMAP: {first}");
    assert_eq!(large.imap.count(), 1, "the first look at what clients see, and no other");
    let nothing: Change = |_| {};
    let flag: Change = |imap| drop(imap.ok("UID STORE 7 +FLAGS (\\Flagged fresh)"));
    let gone: Change = |imap| {
        imap.ok("UID STORE 3 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
        imap.append("INBOX", "\\Seen", "17-Jul-2006 02:44:25 -0700", b"Subject: new\r\n\r\nmail\r\n");
    };
    let changes: [(&str, Change); 3] = [("nothing", nothing), ("a flag", flag), ("one gone, one come", gone)];
    for (what, change) in changes {
        let (little, much) = (small.look(change), large.look(change));
        assert_eq!((little.0, much.0), (0, 0), "{what}: IMAP connections to the old side");
        assert!(
            much.1 < little.1 + little.1 / 2 + 2000,
            "{what}: {} octets of 10 messages, {} of 4000",
            little.1,
            much.1
        );
    }
}
