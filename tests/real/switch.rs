//! The whole way of a user through `mailferry serve`: login, copy, verification, switch, and what clients see of it.

use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_equal_everywhere, assert_foreign_judge_agrees, shown};
use crate::lab::foreign::Mbsync;
use crate::lab::{Ferry, FerrySpec, Imap, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn login(ferry: &Ferry, pair: &Pair, name: &str, user: &str) -> Imap {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(name, pair.old.password(user));
    imap
}

/// Which server answers: only the old one lists a mailbox in Maildir, so the two differ in a message made there alone.
fn logins(log: &str, user: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("imap-login: Info: Login:") && line.contains(&format!("user=<{user}>")))
        .count()
}

fn history(ferry: &Ferry, user: &str) -> Vec<String> {
    let store = mailferry::store::Store::open(&ferry.store_path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let entries = runtime.block_on(store.history(user)).unwrap();
    entries.iter().map(|entry| format!("{} > {}", entry.from, entry.to)).collect()
}

#[test]
fn a_nasty_account_is_moved_while_its_user_looks_and_the_next_login_is_on_the_new_side() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::full(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec {
        default_domain: "example.net",
        max_pause: "5s",
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    assert_eq!(ferry.status("u1")["phase"], "old");

    let mut session = login(&ferry, &pair, "U1", "u1");
    assert!(session.select("INBOX").exists > 0);
    let status = ferry.wait_phase("u1@example.net", "following", LONG);
    assert_eq!((status["user"].as_str(), status["authority"].as_str()), (Some("u1@example.net"), Some("old")));
    let progress = &status["progress"];
    assert_eq!(progress["messages_done"], progress["messages_total"]);
    assert_eq!(progress["messages_total"].as_u64(), Some(account.message_count() as u64));
    session.ok("NOOP");

    let mut second = login(&ferry, &pair, "u1", "u1");
    // Long after it could have been switched.
    second.ok("NOOP");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), &status["reason"]), (Some("following"), &Value::Null), "{status:#}");

    second.ok("LOGOUT");
    session.ok("LOGOUT");
    let status = ferry.wait_phase("u1", "new", LONG);
    assert_eq!((status["authority"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)));
    assert_eq!(status["last_report"]["identical"], true);
    assert_eq!(
        history(&ferry, "u1@example.net"),
        ["old > copying", "copying > following", "following > switching", "switching > new"]
    );

    let before = logins(&pair.old.log(), "u1");
    let mut after = login(&ferry, &pair, "u1@example.net", "u1");
    assert!(after.select("INBOX").exists > 0);
    assert_eq!(logins(&pair.old.log(), "u1"), before, "nobody is sent to the old side any more");
    drop(after);
    assert_equal_everywhere(&ferry, &pair, &account);
}

#[test]
fn clients_download_nothing_twice() {
    let pair = Pair::start(&["u1"]);
    // (mbsync itself gives up on the nasty account: empty messages, a line of 1 MB.)
    let account = nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let client = Mbsync::new(ferry.imap(), "u1", pair.old.password("u1"));
    let first = client.run();
    assert!(first.success && first.downloaded == account.message_count(), "{first:?}");
    ferry.wait_phase("u1", "following", LONG);
    let files = client.files();
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    let second = client.run();
    assert!(second.success, "{second:?}");
    assert_eq!(second.downloaded, 0, "{second:?}");
    assert_eq!(client.files(), files);
}

#[test]
fn sessions_that_are_open_end_politely_only_after_an_operator_has_switched_them() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    let mut busy = login(&ferry, &pair, "u1", "u1");
    let mut idle = login(&ferry, &pair, "u1", "u1");
    idle.select("INBOX");
    idle.send(b"i IDLE\r\n");
    assert!(idle.response().starts_with(b"+ "));
    ferry.wait_phase("u1", "following", LONG);
    busy.ok("NOOP");
    let said = ferry.run_ok(&["switch", "u1"]);
    assert!(said.contains("switched to the new side (epoch 1)"), "{said}");
    for session in [&mut busy, &mut idle] {
        let (told, ended) = session.read_to_end(LONG);
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(ended && told.starts_with("* BYE [UNAVAILABLE] ") && told.lines().count() == 1, "{told:?}");
    }
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    assert_equal_everywhere(&ferry, &pair, &account);
}

#[test]
fn sessions_that_never_end_are_switched_when_patience_is_over() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec {
        extra: vec![("switch", "wait_for_idle = \"1s\"")],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let mut session = login(&ferry, &pair, "u1", "u1");
    let (told, ended) = session.read_to_end(LONG);
    assert!(ended && told.starts_with(b"* BYE [UNAVAILABLE] "), "{:?}", String::from_utf8_lossy(&told));
    assert_eq!(ferry.status("u1")["phase"], "new");
}

/// After a restart the password is gone, and with it the chance to switch before somebody comes: the login that brings it
/// is the moment.
#[test]
fn a_login_that_is_the_only_session_is_answered_by_the_new_side() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let mut ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    let session = login(&ferry, &pair, "u1", "u1");
    ferry.wait_phase("u1", "following", LONG);
    ferry.kill9();
    drop(session);
    ferry.start_again();
    let mut only = login(&ferry, &pair, "u1", "u1");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("new"), Some("new")), "{status:#}");
    only.ok("NOOP");
}

#[test]
fn many_spellings_and_parallel_logins_start_one_move() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec {
        default_domain: "default.domain",
        auto: false,
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    std::thread::scope(|scope| {
        for name in ["u1", "U1", "u1@default.domain", "U1@DEFAULT.domain", "u1", "U1"] {
            let (ferry, pair) = (&ferry, &pair);
            scope.spawn(move || login(ferry, pair, name, "u1").ok("LOGOUT"));
        }
    });
    ferry.wait_phase("u1", "following", LONG);
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    let all: Value = serde_json::from_str(&ferry.run_ok(&["status", "--json"])).unwrap();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(1), "{all:#}");
    assert_eq!(history(&ferry, "u1@default.domain"), ["old > copying", "copying > following"]);
    ferry.run_ok(&["switch", "U1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
}

#[test]
fn nobody_is_moved_who_is_not_enrolled_or_whose_password_is_wrong() {
    let pair = Pair::start(&["u1", "u2"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { enroll: "none", ..FerrySpec::between(&pair.old, &pair.new) });
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    let refused = ferry.run(&["switch", "u1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    assert_eq!(ferry.status("u1")["phase"], "old");
    drop(ferry);

    let ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    assert!(Imap::connect(ferry.imap()).try_login("u2", "wrong").starts_with("NO [AUTHENTICATIONFAILED]"));
    let all: Value = serde_json::from_str(&ferry.run_ok(&["status", "--json"])).unwrap();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(0), "{all:#}");
}

#[test]
fn what_changes_after_the_copy_is_carried_over_by_the_switch() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut session = login(&ferry, &pair, "u1", "u1");
    ferry.wait_phase("u1", "following", LONG);
    session.select("INBOX");
    let uids = session.uids();
    session.ok(&format!("UID STORE {} +FLAGS (\\Deleted)", uids.last().unwrap()));
    session.ok("EXPUNGE");
    session.ok(&format!("UID STORE {} +FLAGS (\\Flagged fresh)", uids[0]));
    session.ok(&format!("UID STORE {} FLAGS ()", uids[1]));
    session.append("INBOX", "\\Seen late", "17-Jul-1996 02:44:25 -0700", b"Subject: late\r\n\r\nmail\r\n");
    session.ok("CREATE made/late");
    session.append("made/late", "", "17-Jul-2006 02:44:25 -0700", b"Subject: later\r\n\r\nmail\r\n");
    session.ok("SUBSCRIBE made/late");
    session.ok("LOGOUT");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    assert_foreign_judge_agrees(&pair, "u1");
    let mut after = login(&ferry, &pair, "u1", "u1");
    let inbox = after.select("INBOX");
    assert_eq!(inbox.exists, uids.len());
    assert_eq!(after.flags(uids[0]).unwrap().iter().filter(|flag| *flag == "fresh").count(), 1);
}

#[test]
fn damage_on_the_new_side_keeps_the_user_where_they_are_and_the_reason_names_it() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let mut intruder = Imap::connect(pair.new.imap_port());
    intruder.login("u1", pair.new.password("u1"));
    intruder.append("INBOX", "", "17-Jul-1996 02:44:25 -0700", b"Subject: foreign\r\n\r\nmail\r\n");
    drop(intruder);
    let refused = ferry.run(&["switch", "u1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("held"), Some("old")), "{status:#}");
    assert!(status["reason"].as_str().unwrap().contains("`INBOX`"), "{status:#}");
    login(&ferry, &pair, "u1", "u1").ok("NOOP");
    assert_eq!(ferry.status("u1")["phase"], "held", "a login alone moves nobody who is held");

    // The operator empties the account and lets the user move on: at their next login, since no password is kept.
    std::fs::remove_dir_all(pair.new.mail_dir("u1")).unwrap();
    let said = shown(&ferry.run(&["switch", "u1"]));
    assert!(said.contains("not switched: held (") && said.contains("`mailferry resume`"), "{said}");
    ferry.run_ok(&["resume", "u1"]);
    let waiting = ferry.run(&["switch", "u1"]);
    let said = shown(&waiting);
    assert!(waiting.status.code() == Some(75) && said.contains("waiting for the user's next login"), "{said}");
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
}

#[test]
fn a_killed_proxy_goes_on_at_the_next_login_and_nothing_is_twice() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::bulk(&pair.old, "u1", 3000, 4000);
    let mut ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    for part in 1..=3_u64 {
        let session = login(&ferry, &pair, "u1", "u1");
        ferry.wait_status("u1", LONG, |status| {
            let copied = status["progress"]["messages_done"].as_u64().unwrap() > part * 500;
            copied || !["old", "copying"].contains(&status["phase"].as_str().unwrap())
        });
        ferry.kill9();
        drop(session);
        ferry.start_again();
        let status = ferry.status("u1");
        assert_eq!(status["authority"], "old");
        assert_eq!(status["reason"], "waiting for the user's next login", "{status:#}");
    }
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
    assert_equal_everywhere(&ferry, &pair, &account);
}

/// The one delta that only the gate can carry over: what happens on the old side behind our back, to a mailbox that has
/// been compared already, before the gate closes.
#[test]
fn what_changes_between_the_verification_and_the_gate_is_carried_over_inside_it() {
    let pair = Pair::start(&["u1"]);
    nasty::bulk(&pair.old, "u1", 3000, 8000);
    let mut direct = Imap::connect(pair.old.imap_port());
    direct.login("u1", pair.old.password("u1"));
    direct.ok("CREATE AAA");
    for number in 1..=4 {
        direct.append(
            "AAA",
            "first",
            "17-Jul-1996 02:44:25 -0700",
            format!("Subject: {number}\r\n\r\nx\r\n").as_bytes(),
        );
    }
    direct.select("AAA");
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        extra: vec![("verify", "bodies = \"all\"")],
        env: vec![("RUST_LOG", "mailferry=debug")],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    login(&ferry, &pair, "u1", "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "--no-wait", "u1"]);
    let compared = || ferry.log().contains("mailbox=AAA identical=true");
    crate::lab::wait_for("AAA to be compared", LONG, || compared().then_some(()));
    direct.ok("UID STORE 1 FLAGS (\\Seen second)");
    direct.ok("UID STORE 2,4 +FLAGS (\\Deleted)");
    direct.ok("EXPUNGE");
    direct.append("AAA", "\\Flagged", "17-Jul-2006 02:44:25 -0700", b"Subject: late\r\n\r\nx\r\n");
    ferry.wait_phase("u1", "new", LONG);
    let attempts = history(&ferry, "u1").iter().filter(|line| line.ends_with("> switching")).count();
    assert_eq!(attempts, 1, "{}", ferry.log());
    let mut after = login(&ferry, &pair, "u1", "u1");
    after.select("AAA");
    assert_eq!(after.uids(), [1, 3, 5]);
    assert_eq!(after.flags(1).unwrap(), ["\\Seen", "second"]);
    assert!(after.flags(5).unwrap().contains(&"\\Flagged".to_owned()));
    assert_foreign_judge_agrees(&pair, "u1");
}
