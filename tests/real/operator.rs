//! What an operator can say of users, one by one and many at once, and what they are shown.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_equal_everywhere, shown};
use crate::lab::{Ferry, FerrySpec, Hold, Imap, nasty, wait_for};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn login(ferry: &Ferry, pair: &Pair, name: &str) -> Imap {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(name, pair.old.password(name.split('@').next().unwrap()));
    imap
}

fn phase(ferry: &Ferry, user: &str) -> String {
    ferry.status(user)["phase"].as_str().unwrap().to_owned()
}

/// Where a user stands after a login. The proxy looks at logins one after the other, so that when one of somebody who
/// moves is through, those before it are, too.
fn after_login(ferry: &Ferry, pair: &Pair, name: &str) -> String {
    login(ferry, pair, name).ok("LOGOUT");
    login(ferry, pair, "witness").ok("LOGOUT");
    ferry.wait_status("witness", LONG, |status| status["phase"] != "old");
    phase(ferry, name)
}

#[test]
fn the_choice_at_login_follows_the_operators_word_at_once() {
    let pair = Pair::start(&["a", "b", "c", "d", "e", "f", "witness"]);
    let ferry = Ferry::start(FerrySpec { enroll: "none", auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    ferry.run_ok(&["enroll", "witness"]);
    let moves = |user: &str| after_login(&ferry, &pair, user) != "old";

    assert!(!moves("a"));
    assert_eq!(ferry.run_ok(&["enroll", "A"]), "A: enrolled: the next login starts the move\n");
    assert!(moves("a"));

    let list = ferry.dir().join("list");
    std::fs::write(&list, "# the first ones\n\nb\n").unwrap();
    ferry.run_ok(&["enroll", "--list", list.to_str().unwrap()]);
    assert!(moves("b") && !moves("c"));

    ferry.run_ok(&["enroll", "--domain", "Example.NET"]);
    assert!(moves("c@example.net") && !moves("d@example.org"));

    assert_eq!(ferry.run_ok(&["enroll", "--percent", "0"]), "enrolled: 0 percent of all users\n");
    assert!(!moves("d"));
    ferry.run_ok(&["enroll", "--percent", "100"]);
    assert!(moves("d"));

    ferry.run_ok(&["hold", "--all"]);
    assert!(!moves("e"), "the newest word counts");
    assert_eq!(phase(&ferry, "a"), "held", "and those who move already stop");
    ferry.run_ok(&["resume", "--all"]);
    assert_eq!(phase(&ferry, "a"), "copying");
    assert!(moves("e"));

    // Somebody who is held before they were ever seen.
    ferry.run_ok(&["hold", "F@Example.net"]);
    assert_eq!(after_login(&ferry, &pair, "f@example.net"), "held");
    let refused = ferry.run(&["enroll", "f@example.net"]);
    assert!(refused.status.code() == Some(1) && shown(&refused).contains("mailferry resume"), "{}", shown(&refused));
    ferry.run_ok(&["resume", "f@example.net"]);
    login(&ferry, &pair, "f@example.net").ok("LOGOUT");
    ferry.wait_phase("f@example.net", "following", LONG);
    let usage = ferry.run(&["enroll"]);
    assert_eq!(usage.status.code(), Some(2), "{}", shown(&usage));
}

#[test]
fn a_part_of_all_users_is_the_same_in_the_configuration_and_on_the_command_line() {
    let pair = Pair::start(&["a", "b", "c", "d", "e", "f", "witness"]);
    let ferry = Ferry::start(FerrySpec { enroll: "none", auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    ferry.run_ok(&["enroll", "witness"]);
    ferry.run_ok(&["enroll", "--percent", "50"]);
    let users = ["a", "b", "c", "d", "e", "f"];
    let by_order = users.map(|user| after_login(&ferry, &pair, user) != "old");
    assert!(by_order.contains(&true) && by_order.contains(&false), "{by_order:?}");

    let mut configured = Ferry::prepare(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let text = configured.config_text().replace("enroll = \"all\"", "enroll = { percent = 50 }");
    std::fs::write(configured.config_path(), text).unwrap();
    configured.start_again();
    configured.run_ok(&["enroll", "witness"]);
    let by_config = users.map(|user| after_login(&configured, &pair, user) != "old");
    assert_eq!(by_config, by_order);
}

#[test]
fn a_copy_that_is_held_stops_at_once_and_goes_on_where_it_was() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::bulk(&pair.old, "u1", 300, 2000);
    // In the middle of a mailbox.
    let hold = Hold::at("copy-mailbox#1");
    let fault = hold.fault();
    let ferry =
        Ferry::start(FerrySpec { env: vec![("MAILFERRY_FAULTS", &fault)], ..FerrySpec::between(&pair.old, &pair.new) });
    login(&ferry, &pair, "u1").ok("LOGOUT");
    hold.wait(LONG);
    let said = ferry.run_ok(&["hold", "u1"]);
    assert!(said.starts_with("u1: held by "), "{said}");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("held"), Some("old")), "{status:#}");
    assert!(status["reason"].as_str().unwrap().starts_with("held by "), "{status:#}");
    login(&ferry, &pair, "u1").ok("NOOP");
    assert_eq!(phase(&ferry, "u1"), "held");
    assert!(ferry.run_ok(&["hold", "u1"]).contains("is held already"));
    hold.release();
    assert_eq!(ferry.run_ok(&["resume", "u1"]), "u1: moves on at the next login\n");
    let again = ferry.run(&["resume", "u1"]);
    assert!(again.status.code() == Some(1) && shown(&again).contains("not resumed: is not held"), "{}", shown(&again));
    login(&ferry, &pair, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
    assert_equal_everywhere(&ferry, &pair, &account);
    let late = ferry.run(&["hold", "u1"]);
    assert!(late.status.code() == Some(1) && shown(&late).contains("is on the new side already"), "{}", shown(&late));
}

#[test]
fn a_history_shows_every_transition_with_its_cause_and_report() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    login(&ferry, &pair, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    let steps: Vec<Value> = serde_json::from_str(&ferry.run_ok(&["history", "u1", "--json"])).unwrap();
    let short: Vec<String> = steps
        .iter()
        .map(|step| {
            let word = |key: &str| step[key].as_str().unwrap().to_owned();
            format!("{} > {}, {} {}: {}", word("from"), word("to"), word("authority"), step["epoch"], word("cause"))
        })
        .collect();
    assert_eq!(
        short,
        [
            "old > copying, old 0: enrolled user logged in",
            "copying > following, old 0: copied",
            "following > switching, old 0: gate closed",
            "switching > new, new 1: verified and switched",
        ]
    );
    assert_eq!(steps[3]["report"]["identical"], true, "{steps:#?}");
    assert!(steps[3]["at"].as_i64().unwrap() > 1_700_000_000);
    let text = ferry.run_ok(&["history", "u1"]);
    assert_eq!(text.lines().count(), 4);
    let last = text.lines().last().unwrap();
    assert!(
        last.contains("switching > new  (authority new, epoch 1)  verified and switched; report: identical"),
        "{last}"
    );
    let unknown = ferry.run(&["history", "nobody"]);
    assert!(unknown.status.code() == Some(1) && shown(&unknown).contains("no such user"), "{}", shown(&unknown));
}

#[test]
fn a_status_that_is_watched_is_printed_whenever_it_changes() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let file = ferry.dir().join("watched");
    let out = std::fs::File::create(&file).unwrap();
    let mut watching =
        ferry.command(&["status", "u1", "--watch", "--json"]).stdin(Stdio::null()).stdout(out).spawn().unwrap();
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let seen = |phase: &str| {
        wait_for(phase, LONG, || lines().last().is_some_and(|status| status["phase"] == phase).then_some(()));
    };
    seen("old");
    login(&ferry, &pair, "u1").ok("LOGOUT");
    seen("following");
    ferry.run_ok(&["switch", "u1"]);
    seen("new");
    let shown = lines();
    assert!(shown.windows(2).all(|pair| pair[0] != pair[1]), "nothing is said twice in a row: {shown:#?}");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_settled_user_has_no_way_back_and_windows_end_by_themselves() {
    let pair = Pair::start(&["u1", "u2"]);
    nasty::small(&pair.old, "u1");
    let mut ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    for user in ["u1", "u2"] {
        login(&ferry, &pair, user).ok("LOGOUT");
        ferry.wait_phase(user, "new", LONG);
    }
    let early = ferry.run(&["rollback", "--domain", "example.org"]);
    assert!(early.status.success(), "nobody is there: {}", shown(&early));
    assert_eq!(ferry.run_ok(&["settle", "u1"]), "u1: settled\n");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("settled"), Some("new")), "{status:#}");
    let back = ferry.run(&["rollback", "u1"]);
    assert!(back.status.code() == Some(1) && shown(&back).contains("no way back"), "{}", shown(&back));
    login(&ferry, &pair, "u1").ok("NOOP");

    // The window of the other one is over when the proxy starts again.
    ferry.stop();
    let text = ferry.config_text().replace("max_pause", "rollback_window = \"1s\"\nmax_pause");
    std::fs::write(ferry.config_path(), text).unwrap();
    wait_for("the window to be over", LONG, || {
        ferry.start_again();
        let settled = phase(&ferry, "u2") == "settled";
        if !settled {
            ferry.stop();
        }
        settled.then_some(())
    });
    let history = ferry.run_ok(&["history", "u2"]);
    assert!(history.trim_end().ends_with("new > settled  (authority new, epoch 1)  rollback window over"), "{history}");
}
