//! A user who is copied and not switched yet: whatever happens to the account on the old side is on the new side a moment
//! later, from a server that knows mod-sequences and from one that knows nothing but IMAP4rev1; and what is asked of the
//! old server grows with what changed, not with what there is.

mod behind;
mod cost;
mod noticed;

use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees};
use crate::lab::account::Account;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, Tap, World, deliver, nasty, wait_for};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// What the old side announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// All that a Dovecot has.
    Everything,
    /// No mod-sequences.
    NoModSeq,
    /// IMAP4rev1 and nothing else.
    Nothing,
}

impl Knows {
    /// The server's setting for it.
    fn capability(self) -> String {
        let known = match self {
            Self::Everything => "",
            Self::NoModSeq => {
                "imap_capability = IMAP4rev1 LITERAL+ NAMESPACE UIDPLUS LIST-EXTENDED SPECIAL-USE MOVE UNSELECT ESEARCH\n"
            }
            Self::Nothing => "imap_capability = IMAP4rev1\n",
        };
        known.to_owned()
    }
}

/// A user who is followed, with a session that stays open.
struct Followed {
    /// The session through the proxy.
    session: Imap,
    ferry: Ferry,
    /// Between the proxy and the old side's IMAP.
    tap: Tap,
    pair: Pair,
}

impl Followed {
    fn start(knows: Knows, fill: impl FnOnce(&Dovecot)) -> Self {
        let old = Spec { extra: knows.capability(), ..Spec::old(&["u1"]) };
        let pair = Pair { old: Dovecot::start(old), new: Dovecot::start(Spec::new_side(&["u1"])) };
        fill(&pair.old);
        let tap = Tap::to(pair.old.imap_port());
        let ferry = Ferry::start(FerrySpec {
            auto: false,
            old_imap: Some(format!("imap://127.0.0.1:{}", tap.port)),
            ..FerrySpec::between(&pair.old, &pair.new)
        });
        let mut session = Imap::connect(ferry.imap());
        session.login("u1", pair.old.password("u1"));
        ferry.wait_phase("u1", "following", LONG);
        let mut followed = Self { session, ferry, tap, pair };
        followed.quiet();
        followed
    }

    /// A session past the proxy.
    fn direct(&self) -> Imap {
        let mut imap = Imap::connect(self.pair.old.imap_port());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }

    /// Has the session write, so that the account is looked at in a moment; nothing changes by it.
    fn touch(&mut self) {
        self.session.select("INBOX");
        self.session.ok("UID STORE 4000000000 +FLAGS.SILENT (\\Seen)");
        self.session.ok("UNSELECT");
    }

    /// Waits for the new side to be what the old side is.
    fn settle(&mut self, after: &str) {
        let mut last = Vec::new();
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let (old, new) = (World::of(&self.pair.old, "u1"), World::of(&self.pair.new, "u1"));
            if old == new {
                return;
            }
            if std::time::Instant::now() > deadline {
                last = old.differences(&new, crate::lab::world::Next::Equal);
            }
            assert!(last.is_empty(), "after {after}: {last:#?}\n{:#}", self.ferry.status("u1"));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// One more look at the account; what was said for it.
    fn round(&mut self) -> Vec<crate::lab::tap::Talk> {
        let before = self.tap.count();
        self.touch();
        let over = || {
            let talks = self.tap.since(before);
            // Where nothing was to be done, nothing follows the goodbye.
            (!talks.is_empty() && talks.iter().all(|talk| talk.asked().contains(" LOGOUT\r\n"))).then_some(talks)
        };
        wait_for("a round to be over", LONG, over)
    }

    /// Rounds until one has found nothing to do.
    fn quiet(&mut self) {
        wait_for("a round that finds nothing", LONG, || {
            let talks = self.round();
            let asked: String = talks.iter().map(crate::lab::tap::Talk::asked).collect();
            (!asked.contains("EXAMINE") || !asked.contains("BODY.PEEK")).then_some(())
        });
    }
}

/// What happens to an account, in steps; some through the proxy, some behind its back.
type Change = fn(&mut Imap);

const CHANGES: [(&str, Change); 27] = [
    ("new mail", |imap| {
        imap.append("INBOX", "\\Flagged work", "17-Jul-1996 02:44:25 -0700", b"Subject: new\r\n\r\nmail\r\n");
    }),
    ("flags and keywords added", |imap| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:2 +FLAGS (\\Answered later)");
    }),
    ("flags and keywords removed", |imap| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:* -FLAGS (\\Seen work later $Forwarded)");
    }),
    ("flags replaced", |imap| {
        imap.select("INBOX");
        imap.ok("UID STORE 1:* FLAGS (\\Draft)");
    }),
    ("one flag removed and another set, the same number unseen", |imap| {
        imap.select("INBOX");
        imap.ok("UID STORE 1 FLAGS (\\Seen)");
        imap.ok("UID STORE 2 FLAGS (\\Seen)");
        imap.ok("UID STORE 1 FLAGS ()");
    }),
    ("an expunge in the middle", |imap| {
        imap.select("INBOX");
        imap.ok("UID STORE 5 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("an expunge and a new message, as many as before", |imap| {
        imap.append("INBOX", "", "", b"Subject: one for one\r\n\r\nmail\r\n");
        imap.select("INBOX");
        imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("the newest message expunged", |imap| {
        imap.append("INBOX", "", "", b"Subject: short\r\n\r\nlived\r\n");
        imap.select("INBOX");
        imap.ok("STORE * +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("a message moved", |imap| {
        imap.select("INBOX");
        imap.ok("UID COPY 1 Sent");
        imap.ok("UID STORE 1 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("a new mailbox with mail", |imap| {
        imap.ok("CREATE Fresh/inner");
        imap.append("Fresh/inner", "\\Seen", "", b"Subject: inner\r\n\r\nmail\r\n");
    }),
    ("an empty mailbox", |imap| drop(imap.ok("CREATE \"Gro&AN8-\""))),
    ("a mailbox renamed", |imap| drop(imap.ok("RENAME Sent Gesendet"))),
    ("a mailbox renamed with those below it", |imap| drop(imap.ok("RENAME Fresh Stale"))),
    ("a mailbox renamed and written to", |imap| {
        imap.ok("RENAME Gesendet Sent");
        imap.append("Sent", "", "", b"Subject: to Sent\r\n\r\nmail\r\n");
    }),
    ("two mailboxes that change names", |imap| {
        imap.ok("RENAME Sent Between");
        imap.ok("RENAME Stale/inner Sent");
        imap.ok("RENAME Between Stale/inner");
    }),
    ("a mailbox deleted and made anew", |imap| {
        imap.ok("DELETE Sent");
        imap.ok("CREATE Sent");
        imap.append("Sent", "", "", b"Subject: in another one\r\n\r\nmail\r\n");
    }),
    ("a mailbox deleted, and its name given to another one", |imap| {
        imap.ok("DELETE Sent");
        imap.ok("RENAME Stale/inner Sent");
    }),
    ("a mailbox emptied", |imap| {
        imap.select("Sent");
        imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)");
        imap.ok("EXPUNGE");
    }),
    ("a mailbox deleted", |imap| drop(imap.ok("DELETE Sent"))),
    ("subscriptions", |imap| {
        imap.ok("SUBSCRIBE \"Gro&AN8-\"");
        imap.ok("UNSUBSCRIBE Sent");
    }),
    ("a subscription taken back", |imap| drop(imap.ok("UNSUBSCRIBE \"Gro&AN8-\""))),
    ("a mailbox below INBOX, and one renamed to there", |imap| {
        imap.ok("CREATE INBOX/below");
        imap.append("INBOX/below", "\\Seen", "", b"Subject: below\r\n\r\nmail\r\n");
        imap.ok("CREATE Away");
        imap.append("Away", "", "", b"Subject: away\r\n\r\nmail\r\n");
        imap.ok("RENAME Away INBOX/away");
    }),
    ("a keyword of many, in another case, and back", |imap| {
        imap.select("INBOX/below");
        imap.ok("STORE 1 +FLAGS (One two THREE)");
        imap.ok("STORE 1 -FLAGS (oNE Three)");
        imap.ok("STORE 1 +FLAGS (four)");
    }),
    ("a mailbox with one below it", |imap| {
        imap.ok("CREATE Above");
        imap.append("Above", "", "", b"Subject: above\r\n\r\nmail\r\n");
        imap.ok("CREATE Above/child");
        imap.append("Above/child", "\\Seen", "", b"Subject: child\r\n\r\nmail\r\n");
    }),
    ("a family that moves below another mailbox", |imap| drop(imap.ok("RENAME Above INBOX/below/Above"))),
    ("a mailbox deleted and made anew, empty", |imap| {
        imap.ok("DELETE INBOX/away");
        imap.ok("CREATE INBOX/away");
    }),
    ("many at once", |imap| {
        for number in 0..20 {
            let raw = format!("Subject: many {number}\r\n\r\nmail\r\n");
            imap.append("INBOX", ["", "\\Seen", "many"][number % 3], "", raw.as_bytes());
        }
    }),
];

fn every_change(knows: Knows) {
    let mut account = None::<Account>;
    let mut followed = Followed::start(knows, |old| account = Some(nasty::small(old, "u1")));
    for (number, (what, change)) in CHANGES.iter().enumerate() {
        // By turns: a client of ours, whose writes are seen, and something behind our back, which a look finds.
        if number % 2 == 0 {
            change(&mut followed.session);
            // What the last command was is no matter: the session has written.
            followed.session.ok("NOOP");
        } else {
            change(&mut followed.direct());
            followed.touch();
        }
        followed.settle(what);
    }
    deliver(&followed.pair.old, "u1", b"Subject: delivered\n\nmail\n");
    followed.touch();
    followed.settle("a delivery");
    let asked: String = followed.tap.since(0).iter().map(crate::lab::tap::Talk::asked).collect();
    assert_eq!(asked.contains("HIGHESTMODSEQ"), knows == Knows::Everything, "it asks only for what the server knows");
    followed.ferry.run_ok(&["switch", "u1"]);
    assert_eq!(followed.ferry.status("u1")["phase"], "new");
    assert_foreign_judge_agrees(&followed.pair, "u1");
}

#[test]
fn every_change_is_followed_from_a_server_with_mod_sequences() {
    every_change(Knows::Everything);
}

#[test]
fn every_change_is_followed_from_a_server_without_mod_sequences() {
    every_change(Knows::NoModSeq);
}

#[test]
fn every_change_is_followed_from_a_server_that_knows_nothing_but_imap() {
    every_change(Knows::Nothing);
}
