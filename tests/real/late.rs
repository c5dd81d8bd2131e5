//! Mail that reaches the old side after the switch: on the new side once, whatever is killed meanwhile.

mod crash;
mod odd;
mod refused;

use std::time::Duration;

use mailferry::migrate::sweep::{self, Swept};
use mailferry::migrate::{Job, Platform, ProgressMeter, Readers, Stop};
use mailferry::source::Login;
use mailferry::store::Store;
use mailferry::user::CanonicalUser;

use crate::copy::Pair;
use crate::lab::world::{Mail, Next};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, World, deliver};

const LONG: Duration = Duration::from_secs(120);
/// An INTERNALDATE with a zone of its own, and what it is.
const DATE: &str = "17-Jul-1996 02:44:25 -0700";
const DATE_SECONDS: i64 = 837_596_665;

fn log_in(server: &Dovecot) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login("u1", server.password("u1"));
    imap
}

fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nmail\r\n").into_bytes()
}

/// The user `u1` after the switch.
struct Switched {
    ferry: Ferry,
    pair: Pair,
    /// What the new side must hold.
    model: World,
}

impl Switched {
    /// A small account, switched. The proxy is stopped: the user's worker looks by itself, and tests look when they want.
    fn start(pair: Pair) -> Self {
        Self::with(pair, |_| {})
    }

    fn with(pair: Pair, change: impl FnOnce(&mut FerrySpec<'_>)) -> Self {
        let mut old = log_in(&pair.old);
        for name in ["Sent", "a/Entw&APw-rfe"] {
            old.ok(&format!("CREATE \"{name}\""));
        }
        old.append("INBOX", "\\Seen early", DATE, &mail("early"));
        old.append("Sent", "", DATE, &mail("early, sent"));
        old.ok("LOGOUT");
        let mut spec = FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) };
        change(&mut spec);
        let mut ferry = Ferry::start(spec);
        Self::login(&ferry, &pair);
        ferry.wait_phase("u1", "following", LONG);
        ferry.run_ok(&["switch", "u1"]);
        assert!(ferry.stop());
        let model = World::of(&pair.new, "u1");
        assert_eq!(model, World::of(&pair.old, "u1"));
        Self { ferry, pair, model }
    }

    fn login(ferry: &Ferry, pair: &Pair) {
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", pair.old.password("u1"));
        imap.ok("LOGOUT");
    }

    /// Brings a message into a mailbox of the old side, and into the model: `home`, as it goes over the wire, is where it is
    /// to be in the end.
    fn late(&mut self, mailbox: &str, flags: &str, body: &[u8], home: &str) {
        log_in(&self.pair.old).append(mailbox, flags, DATE, body);
        let flags: Vec<&str> = flags.split_whitespace().collect();
        self.model.shelf(home).push(Mail::new(&flags, DATE_SECONDS, body.to_vec()));
    }

    /// One look, without the proxy.
    fn try_sweep(&self) -> Result<Swept, Stop> {
        let config = mailferry::config::load(&self.ferry.config_path()).unwrap();
        let store = Store::open(&self.ferry.store_path()).unwrap();
        let platform = Platform::new(config.into(), store).unwrap();
        let password = self.pair.old.password("u1").as_bytes().to_vec().into();
        let job = Job {
            user: CanonicalUser::from_stored("u1".to_owned()),
            login: Login { name: "u1".to_owned(), password: Some(std::sync::Arc::new(password)) },
            progress: ProgressMeter::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut readers = Readers::open(&platform, &job.login).await?;
            let swept = sweep::round(&platform, &job, &mut readers).await?;
            readers.close().await;
            Ok(swept)
        })
    }

    fn sweep(&self) -> Swept {
        self.try_sweep().unwrap()
    }

    /// The new side holds what the model says, and nothing else.
    fn assert_new_side(&self) {
        let found = self.model.differences(&World::of(&self.pair.new, "u1"), Next::Equal);
        assert!(found.is_empty(), "{found:#?}\n--- log:\n{}", self.ferry.log());
    }
}

#[test]
fn what_comes_late_is_on_the_new_side_once_and_the_old_side_stays_as_it_is() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    assert_eq!(switched.sweep(), Swept::default(), "nothing came");
    switched.late("INBOX", "\\Flagged \\Deleted kw $Junk", &mail("late"), "INBOX");
    switched.late("Sent", "\\Seen \\Answered", &mail("late, sent"), "Sent");
    switched.late("a/Entwürfe", "\\Draft", &mail("late, draft"), "a/Entw&APw-rfe");
    // Larger than what is kept in memory, so it is read twice.
    let big = [mail("big"), b"0123456789 and so on\r\n".repeat(70_000)].concat();
    switched.late("INBOX", "", &big, "INBOX");
    deliver(&switched.pair.old, "u1", b"Subject: by lmtp\n\n.\nmail\n");
    let old = World::of(&switched.pair.old, "u1");
    let delivered = old.mailboxes["INBOX"].mails.values().last().unwrap().clone();
    assert_eq!(delivered.subject(), "by lmtp");
    switched.model.shelf("INBOX").push(delivered);

    let swept = switched.sweep();
    assert_eq!((swept.appended, swept.pending, swept.reason()), (5, 0, None));
    switched.assert_new_side();
    for _ in 0..3 {
        assert_eq!(switched.sweep(), Swept::default());
    }
    switched.assert_new_side();
    switched.late("INBOX", "", &mail("later"), "INBOX");
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
    let later = World::of(&switched.pair.old, "u1");
    assert_eq!(later.mailboxes["Sent"], old.mailboxes["Sent"]);
    let inbox: Vec<_> = later.mailboxes["INBOX"].mails.iter().take(4).collect();
    assert_eq!(inbox, old.mailboxes["INBOX"].mails.iter().collect::<Vec<_>>());
}

#[test]
fn twins_are_two_messages() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    for _ in 0..3 {
        switched.late("INBOX", "", &mail("twin"), "INBOX");
    }
    // And one that is on both sides already.
    switched.late("INBOX", "\\Seen early", &mail("early"), "INBOX");
    assert_eq!(switched.sweep().appended, 4);
    switched.assert_new_side();
}

#[test]
fn the_running_proxy_looks_by_itself_and_reports() {
    let mut switched = Switched::start(Pair::start(&["u1"]));
    switched.ferry.start_again();
    let status = switched.ferry.status("u1");
    assert_eq!(status["late_arrivals"], serde_json::json!({ "appended": 0, "pending": 0, "last_at": null }));
    switched.late("INBOX", "\\Seen", &mail("late"), "INBOX");
    let mut session = Imap::connect(switched.ferry.imap());
    session.login("u1", switched.pair.new.password("u1"));
    let before = session.select("INBOX").exists;
    let status = switched.ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 1);
    assert_eq!(status["late_arrivals"]["pending"], 0);
    assert!(status["late_arrivals"]["last_at"].as_i64().unwrap() > 1_700_000_000);
    session.ok("NOOP");
    assert_eq!(session.uids().len(), before + 1, "an open session sees it come");
    let shown = switched.ferry.run_ok(&["status", "u1"]);
    assert!(shown.contains("late mail    1 carried over"), "{shown}");
    let log = switched.ferry.log();
    let line = log.lines().find(|line| line.contains("a late arrival was carried over")).unwrap();
    for word in ["mailbox=INBOX", "uid=2", "new_mailbox=\"INBOX\"", "new_uid=2"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    switched.assert_new_side();
}
