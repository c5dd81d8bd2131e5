//! The flag back: the authority returns to the old side through the same gate, and ends where only an operator moves the
//! user again. Where mail would be lost, or a client's cached UID would become another message, it doesn't.

use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_equal_everywhere, assert_foreign_judge_agrees, shown};
use crate::lab::account::Account;
use crate::lab::foreign::Mbsync;
use crate::lab::imap::lossy;
use crate::lab::{Ferry, FerrySpec, Imap, World, deliver, nasty, wait_for};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A user on the new side.
struct Moved {
    ferry: Ferry,
    pair: Pair,
    account: Account,
}

impl Moved {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(env: &[(&str, &str)]) -> Self {
        let pair = Pair::start(&["u1"]);
        let account = nasty::small(&pair.old, "u1");
        let ferry =
            Ferry::start(FerrySpec { auto: false, env: env.to_vec(), ..FerrySpec::between(&pair.old, &pair.new) });
        let moved = Self { ferry, pair, account };
        moved.session().ok("LOGOUT");
        moved.ferry.wait_phase("u1", "following", LONG);
        moved.switch();
        moved
    }

    fn switch(&self) {
        self.ferry.run_ok(&["switch", "u1"]);
        assert_eq!(self.ferry.status("u1")["phase"], "new");
    }

    fn session(&self) -> Imap {
        let mut imap = Imap::connect(self.ferry.imap());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }

    /// Phase, authority and epoch.
    fn stands(&self) -> (String, String, u64) {
        let status = self.ferry.status("u1");
        let word = |key: &str| status[key].as_str().unwrap().to_owned();
        (word("phase"), word("authority"), status["epoch"].as_u64().unwrap())
    }

    /// A rollback that must be refused, with this in its reason; nothing has happened then.
    fn refused(&self, args: &[&str], words: &[&str]) {
        let output = self.ferry.run(&[&["rollback", "u1"], args].concat());
        let said = shown(&output);
        assert!(output.status.code() == Some(1) && words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(self.stands(), ("new".to_owned(), "new".to_owned(), 1));
    }

    /// Whether the old side serves the user: only there is this mailbox.
    fn served_by_old(&self) -> bool {
        let mut session = self.session();
        let names: Vec<String> = session.ok("LIST \"\" \"*\"").iter().map(|line| lossy(line)).collect();
        names.iter().any(|name| name.contains("Only here"))
    }
}

fn held() -> (String, String, u64) {
    ("held".to_owned(), "old".to_owned(), 2)
}

/// Something that tells the two sides apart, made when they need not be equal any more.
fn mark_old(pair: &Pair) {
    let mut direct = Imap::connect(pair.old.imap_port());
    direct.login("u1", pair.old.password("u1"));
    direct.ok("CREATE \"Only here\"");
}

#[test]
fn a_user_goes_back_and_clients_notice_nothing_but_a_new_connection() {
    let moved = Moved::start();
    let client = Mbsync::new(moved.ferry.imap(), "u1", moved.pair.old.password("u1"));
    let first = client.run();
    assert!(first.success && first.downloaded == moved.account.message_count(), "{first:?}");
    let mut open = moved.session();
    open.ok("NOOP");
    let said = moved.ferry.run_ok(&["rollback", "u1"]);
    assert!(said.contains("rolled back to the old side (epoch 2), and held there"), "{said}");
    assert_eq!(moved.stands(), held());
    let (told, ended) = open.read_to_end(LONG);
    let told = lossy(&told);
    assert!(ended && told.starts_with("* BYE [UNAVAILABLE] ") && told.lines().count() == 1, "{told:?}");
    mark_old(&moved.pair);
    assert!(moved.served_by_old());
    let second = client.run();
    assert!(second.success && second.downloaded == 0, "{second:?}");

    // Nobody moves again by logging in.
    let status = moved.ferry.status("u1");
    assert_eq!(status["phase"], "held");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.starts_with("rolled back by ") && reason.contains("mailferry resume"), "{reason}");
    let twice = moved.ferry.run(&["rollback", "u1"]);
    assert!(twice.status.code() == Some(1) && shown(&twice).contains("is on the old side"), "{}", shown(&twice));

    moved.ferry.run_ok(&["resume", "u1"]);
    moved.session().ok("LOGOUT");
    moved.ferry.wait_phase("u1", "following", LONG);
    moved.switch();
    assert_eq!(moved.stands(), ("new".to_owned(), "new".to_owned(), 3));
    assert_foreign_judge_agrees(&moved.pair, "u1");
    let third = client.run();
    assert!(third.success && third.downloaded == 0, "{third:?}");
    let steps: Vec<Value> = serde_json::from_str(&moved.ferry.run_ok(&["history", "u1", "--json"])).unwrap();
    let ways: Vec<&str> = steps.iter().map(|step| step["to"].as_str().unwrap()).collect();
    let once = ["copying", "following", "switching", "new"];
    assert_eq!(ways, [&once[..], &["returning", "held"], &once[..]].concat());
    assert_eq!(steps[5]["report"]["differences"], 0, "{steps:#?}");
}

#[test]
fn mail_of_the_new_side_is_never_lost_whatever_is_accepted() {
    let moved = Moved::start();
    let mut session = moved.session();
    session.append("INBOX", "", "", b"Subject: only on the new side\r\n\r\nmail\r\n");
    for args in [&[][..], &["--accept-loss"]] {
        moved.refused(args, &["would be lost", "uidnext in INBOX", "message in INBOX UID"]);
    }
    // Gone again, but a client may know its UID, which the old side would give to another message.
    session.select("INBOX");
    session.ok("STORE * +FLAGS.SILENT (\\Deleted)");
    session.ok("EXPUNGE");
    moved.refused(&["--accept-loss"], &["would be lost", "uidnext in INBOX"]);
    session.ok("CREATE Fresh");
    session.append("Fresh", "", "", b"Subject: x\r\n\r\n");
    session.select("Fresh");
    session.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    session.ok("EXPUNGE");
    moved.refused(&["--accept-loss"], &["mailbox in Fresh"]);
    session.ok("RENAME Sent Gesendet");
    moved.refused(&["--accept-loss"], &["mailbox in Gesendet"]);
    session.ok("NOOP");
    assert_eq!(moved.ferry.run(&["rollback", "nobody"]).status.code(), Some(1));
}

#[test]
fn what_the_user_did_on_the_new_side_is_undone_only_on_the_operators_word() {
    let moved = Moved::start();
    let before = World::of(&moved.pair.old, "u1");
    let mut session = moved.session();
    session.select("INBOX");
    session.ok("UID STORE 1 +FLAGS (\\Flagged later)");
    session.ok("UID STORE 5 +FLAGS.SILENT (\\Deleted)");
    session.ok("EXPUNGE");
    session.ok("UNSUBSCRIBE Sent");
    session.ok("LOGOUT");
    let undone = [
        "--accept-loss",
        "flags in INBOX UID 1",
        "keywords in INBOX UID 1",
        "message in INBOX UID 5",
        "subscription in Sent",
    ];
    moved.refused(&[], &undone);
    moved.ferry.run_ok(&["rollback", "u1", "--accept-loss"]);
    assert_eq!(moved.stands(), held());
    let mut after = moved.session();
    assert_eq!(World::read(&mut after), before, "the old side as it was");
    after.ok("LOGOUT");

    // The gap can't be filled in an INBOX: the operator is told what to do, and then the user moves again.
    moved.ferry.run_ok(&["resume", "u1"]);
    moved.session().ok("LOGOUT");
    let status = moved.ferry.wait_phase("u1", "held", LONG);
    let reason = status["reason"].as_str().unwrap();
    let command = "doveadm mailbox delete -u u1 -s INBOX";
    assert!(reason.contains(command) && reason.contains("mailferry resume u1"), "{reason}");
    moved.pair.new.doveadm_ok(&command.split(' ').skip(1).collect::<Vec<_>>());
    moved.ferry.run_ok(&["resume", "u1"]);
    moved.session().ok("LOGOUT");
    moved.ferry.wait_phase("u1", "following", LONG);
    moved.switch();
    assert_equal_everywhere(&moved.ferry, &moved.pair, &moved.account);
}

#[test]
fn late_mail_goes_back_with_its_user_and_is_never_doubled() {
    let moved = Moved::start();
    for number in 1..=3 {
        deliver(&moved.pair.old, "u1", format!("Subject: late {number}\n\nx\n").as_bytes());
    }
    moved.ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 3);
    // One more that nobody has carried over yet.
    let mut direct = Imap::connect(moved.pair.old.imap_port());
    direct.login("u1", moved.pair.old.password("u1"));
    direct.append("Sent", "\\Seen", "17-Jul-1996 02:44:25 -0700", b"Subject: late 4\r\n\r\nx\r\n");
    moved.ferry.run_ok(&["rollback", "u1"]);
    assert_eq!(moved.stands(), held());
    deliver(&moved.pair.old, "u1", b"Subject: later than late\n\nx\n");
    moved.ferry.run_ok(&["resume", "u1"]);
    moved.session().ok("LOGOUT");
    moved.ferry.wait_phase("u1", "following", LONG);
    moved.switch();
    assert_foreign_judge_agrees(&moved.pair, "u1");
    let world = World::of(&moved.pair.new, "u1");
    let subjects = |subject: &str| {
        world.mailboxes.values().flat_map(|shelf| shelf.mails.values()).filter(|mail| mail.subject() == subject).count()
    };
    for subject in ["late 1", "late 2", "late 3", "late 4", "later than late"] {
        assert_eq!(subjects(subject), 1, "{subject}");
    }
}

#[test]
fn a_killed_proxy_is_on_one_side_or_the_other_and_knows_which() {
    for (place, there) in [("back-closed", "new"), ("back-commit", "new"), ("back-committed", "held")] {
        let mut moved = Moved::with(&[("MAILFERRY_FAULTS", &format!("{place}=kill"))]);
        let output = moved.ferry.run(&["rollback", "u1"]);
        assert!(!output.status.success(), "{place}: {}", shown(&output));
        wait_for("the proxy to end", LONG, || (!moved.ferry.is_running()).then_some(()));
        moved.ferry.kill9();
        moved.ferry.set_env("MAILFERRY_FAULTS", "");
        moved.ferry.start_again();
        let (phase, authority, epoch) = moved.stands();
        assert_eq!(phase, there, "{place}");
        assert_eq!((authority.as_str(), epoch), if there == "held" { ("old", 2) } else { ("new", 1) }, "{place}");
        if there == "new" {
            moved.session().ok("LOGOUT");
            moved.ferry.run_ok(&["rollback", "u1"]);
        }
        assert_eq!(moved.stands(), held(), "{place}");
        mark_old(&moved.pair);
        assert!(moved.served_by_old(), "{place}");
    }
}

#[test]
fn a_user_whose_password_is_not_known_has_to_log_in_first() {
    let mut moved = Moved::start();
    moved.ferry.stop();
    moved.ferry.start_again();
    let output = moved.ferry.run(&["rollback", "u1"]);
    let said = shown(&output);
    assert!(output.status.code() == Some(75) && said.contains("waiting for the user's next login"), "{said}");
    moved.session().ok("LOGOUT");
    moved.ferry.run_ok(&["rollback", "u1"]);
    assert_eq!(moved.stands(), held());
}
