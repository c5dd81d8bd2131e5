//! Messages that the old server can't give as it should: read in another way, taken for gone, or named; never an empty mail in
//! their place.

mod left_out;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown};
use crate::lab::account::Message;
use crate::lab::{Account, Answer, Ferry, FerrySpec, Imap, Liar, Lie, World, nasty};

/// Two servers, the old one reached over a wire that lies.
struct Broken {
    pair: Pair,
    liar: Liar,
    ferry: Ferry,
}

impl Broken {
    fn start(users: &[&str]) -> Self {
        let pair = Pair::start(users);
        let liar = Liar::to(pair.old.imap_port(), Vec::new());
        let ferry =
            Ferry::prepare(FerrySpec { old_imap: Some(liar.url()), ..FerrySpec::between(&pair.old, &pair.new) });
        Self { pair, liar, ferry }
    }

    fn account(&self, user: &str) -> Account {
        nasty::small(&self.pair.old, user)
    }

    /// Copies; gives the exit code and what was said.
    fn sync(&self, user: &str) -> (Option<i32>, String) {
        let output = on_user(&self.ferry, &self.pair, &["sync"], user);
        (output.status.code(), shown(&output))
    }

    fn uids(&self, account: &Account, mailbox: &str) -> Vec<u32> {
        let mut imap = account.log_in(&self.pair.new);
        imap.examine(mailbox);
        imap.uids()
    }
}

/// How servers fail at a message.
fn failures() -> [Answer; 5] {
    let refused = Answer::Refused("[SERVERBUG] Internal error");
    [Answer::Nil, Answer::Text(Vec::new()), Answer::Silence, Answer::HangUp, refused]
}

#[test]
fn a_text_that_is_not_given_whole_is_read_in_parts_and_else_as_rfc822() {
    let users = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9"];
    let broken = Broken::start(&users);
    let whole = failures().map(|failure| Lie { whole: failure, ..Lie::always("INBOX", 5, &Answer::True) });
    // A third connection lost is the message's fault.
    let parts = failures().into_iter().filter(|failure| !matches!(failure, Answer::HangUp));
    let parts = parts.map(|failure| Lie { rfc822: Answer::True, ..Lie::always("INBOX", 5, &failure) });
    for (user, lie) in users.iter().zip(whole.into_iter().chain(parts)) {
        eprintln!("{user}: {lie:?}");
        let account = broken.account(user);
        let before = World::of(&broken.pair.old, user);
        let asked = broken.liar.asked("BODY.PEEK[]");
        broken.liar.tell(vec![lie]);
        let (code, said) = broken.sync(user);
        assert_eq!(code, Some(0), "{said}");
        assert!(broken.liar.asked("BODY.PEEK[]") >= asked + 2, "alone, too, before anything else is tried");
        assert_eq!(World::of(&broken.pair.old, user), before, "the other ways set no flag");
        assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
    }
}

#[test]
fn what_no_way_gives_ends_its_mailbox_there_with_all_that_was_said() {
    let users = ["u1", "u2", "u3", "u4", "u5"];
    let broken = Broken::start(&users);
    for (user, failure) in users.iter().zip(failures()) {
        eprintln!("{user}: {failure:?}");
        let account = broken.account(user);
        let connections = broken.liar.connections();
        let hangs_up = matches!(failure, Answer::HangUp);
        broken.liar.tell(vec![Lie::always("INBOX", 5, &failure)]);
        let (code, said) = broken.sync(user);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("INBOX UID 5: BODY[]: ") && said.contains("; BODY[HEADER] and BODY[TEXT]: "), "{said}");
        assert!(hangs_up || said.contains("; RFC822: "), "{said}");
        assert_eq!(broken.uids(&account, "INBOX"), [1, 2]);
        assert_eq!(broken.uids(&account, "Sent"), [1, 2, 3], "the other mailboxes are complete");
        if hangs_up {
            let more = broken.liar.connections() - connections;
            assert_eq!(more, 1 + 3, "one to begin with, and no more than three for the message");
        }
        broken.liar.tell(Vec::new());
        let (code, said) = broken.sync(user);
        assert_eq!(code, Some(0), "{said}");
        assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
    }
}

/// Shorter than its RFC822.SIZE: a size that lies, if it is the same when it is read again.
#[test]
fn a_text_shorter_than_its_size_is_read_twice_and_must_be_the_same() {
    let broken = Broken::start(&["u1", "u2", "u3"]);
    let truth = Lie::always("INBOX", 5, &Answer::True);
    let account = broken.account("u1");
    broken.liar.tell(vec![Lie { size: Some(5_000_000), ..truth.clone() }]);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);

    // Half a text in one way of asking, the whole in another: the half is not taken.
    let account = broken.account("u2");
    let half = Answer::Growing(Arc::new(AtomicUsize::new(0)));
    broken.liar.tell(vec![Lie { whole: half.clone(), ..truth }]);
    let (code, said) = broken.sync("u2");
    assert_eq!(code, Some(0), "{said}");
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);

    let account = broken.account("u3");
    broken.liar.tell(vec![Lie::always("INBOX", 5, &half)]);
    let (code, said) = broken.sync("u3");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("less than RFC822.SIZE, and other octets each time"), "{said}");
    assert_eq!(broken.uids(&account, "INBOX"), [1, 2]);
}

#[test]
fn a_message_expunged_while_it_is_read_is_no_fault() {
    let broken = Broken::start(&["u1"]);
    let mut account = broken.account("u1");
    account.mailbox("INBOX").expunge(5);
    let (port, password) = (broken.pair.old.imap_port(), broken.pair.old.password("u1").to_owned());
    let expunge = Answer::First(Arc::new(move || {
        let mut imap = Imap::connect(port);
        imap.login("u1", &password);
        imap.select("INBOX");
        imap.ok("UID STORE 5 +FLAGS.SILENT (\\Deleted)");
        imap.ok("EXPUNGE");
    }));
    broken.liar.tell(vec![Lie::always("INBOX", 5, &expunge)]);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
}

/// Empty header, NUL and 8-bit octets in it, no text at all: what is there arrives, and what is not is not made up.
#[test]
fn broken_texts_arrive_as_they_are() {
    let broken = Broken::start(&["u1"]);
    let mut account = Account::new("u1");
    for raw in [
        &b"\r\n"[..],
        b"\r\nno header at all\r\n",
        b"Subject: f\xfcr dich\r\nX: \xff\xfe\r\n\r\n8 bit: \xe4\xf6\xfc\r\n",
        b"Subject: a header and no end of it",
        b"no header\r\nand no colon\r\n",
        b"Subject: lines\r\n\r\na\r\n.\r\n..\r\n",
    ] {
        account.mailbox("INBOX").push(Message::new(raw, "", 1_700_000_000));
    }
    account.write_to(&broken.pair.old);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
}
