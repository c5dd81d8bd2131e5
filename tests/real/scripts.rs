//! Sieve scripts by ManageSieve, between two Dovecots with Pigeonhole: put on the new side, followed, compared at the gate,
//! and never taken from whoever else has some there.

use std::time::Duration;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::sieve::Scripts;
use crate::lab::{Dovecot, Ferry, FerrySpec, Hold, Imap, Release, Sieve, SieveDoor, Spec, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const VACATION: &str = "require [\"vacation\"];\r\nvacation \"Bin weg. \\\"Bald\\\" zur\u{fc}ck\";\r\n";
const SORT: &str = "require [\"fileinto\"];\nif header :contains \"subject\" \"x\" { fileinto \"Sent\"; }\n";

/// Two servers with ManageSieve.
struct Platform {
    pair: Pair,
    doors: [SieveDoor; 2],
}

impl Platform {
    /// With these settings of Pigeonhole on the new side.
    fn start(new_settings: &str) -> Self {
        Self::with(["", ""], ["", new_settings])
    }

    fn with(extra: [&str; 2], settings: [&str; 2]) -> Self {
        // (A Dovecot 2.4 would be another package in another place.)
        let spec = |spec: Spec, side: usize| {
            let spec = Spec { release: Release::V23, extra: extra[side].to_owned(), ..spec };
            SieveDoor::into(spec, settings[side])
        };
        let ((old, old_door), (new, new_door)) = (spec(Spec::old(&["u1"]), 0), spec(Spec::new_side(&["u1"]), 1));
        let pair = Pair { old: Dovecot::start(old), new: Dovecot::start(new) };
        nasty::small(&pair.old, "u1");
        Self { pair, doors: [old_door, new_door] }
    }

    fn ferry(&self, env: Vec<(&str, &str)>) -> Ferry {
        let keys = self.doors.each_ref().map(SieveDoor::key);
        let extra = vec![("old", keys[0].as_str()), ("new", keys[1].as_str())];
        Ferry::start(FerrySpec { auto: false, extra, env, ..FerrySpec::between(&self.pair.old, &self.pair.new) })
    }

    fn sieve(&self, side: usize) -> Sieve {
        Sieve::login(self.doors[side].port(), "u1", self.pair.old.password("u1"))
    }

    fn scripts(&self) -> [Scripts; 2] {
        [0, 1].map(|side| self.sieve(side).scripts())
    }

    /// Has the move begun and waits until the user is followed.
    fn follow(&self, ferry: &Ferry) {
        let mut session = Imap::connect(ferry.imap());
        session.login("u1", self.pair.old.password("u1"));
        session.ok("LOGOUT");
        ferry.wait_phase("u1", "following", LONG);
    }
}

#[test]
fn scripts_are_put_on_the_new_side_and_followed_and_nobody_elses_are_touched() {
    let platform = Platform::start("");
    let ferry = platform.ferry(vec![]);
    let names = ["Urlaub \"\u{f6}\\\"", "sort", "draft"];
    let mut old = platform.sieve(0);
    for (name, script) in names.into_iter().zip([VACATION, SORT, ""]) {
        old.put(name, script);
    }
    old.set_active(names[0]);
    let mut new = platform.sieve(1);
    new.put("theirs", "keep;\n");
    new.set_active("theirs");
    let copied = |active: Option<&str>| {
        sync(&ferry, &platform.pair, "u1");
        let [(old, old_active), (mut new, new_active)] = platform.scripts();
        assert_eq!(new.remove("theirs").as_deref(), Some("keep;\n"));
        assert_eq!((&old, &old_active, old_active.as_deref()), (&new, &new_active, active));
        let (report, code) = verify(&ferry, &platform.pair, "u1", "none");
        assert_eq!((code, report["notes"].as_u64()), (0, Some(1)), "{report:#}");
        (old.len(), report["sieve"].as_str().unwrap().to_owned())
    };
    let checked = on_user(&ferry, &platform.pair, &["check"], "u1");
    let said = shown(&checked);
    assert!(said.contains("old sieve      ok: ") && said.contains("new sieve      ok: "), "{said}");
    assert!(
        said.contains("Sieve      old side: 3 scripts, \"Urlaub ") && said.contains("new side: 1 script,"),
        "{said}"
    );
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert_eq!(new.scripts().0.len(), 1, "looking changes nothing");
    assert_eq!(copied(Some(names[0])).0, 3);

    old.put("sort", "require \"fileinto\";\nfileinto \"Trash\";\n");
    old.set_active("sort");
    old.delete(names[0]);
    assert_eq!(copied(Some("sort")), (2, "2 scripts, \"sort\" is active".to_owned()));
    old.set_active("");
    old.delete("sort");
    assert_eq!(copied(None), (1, "1 script, none is active".to_owned()));

    // What was changed on the new side is not ours any more.
    new.put("draft", "discard;\n");
    let refused = on_user(&ferry, &platform.pair, &["sync"], "u1");
    let said = shown(&refused);
    assert!(
        refused.status.code() == Some(1) && said.contains("the script \"draft\" on the new side is not ours"),
        "{said}"
    );
    let (report, code) = verify(&ferry, &platform.pair, "u1", "none");
    assert_eq!((code, report["findings"][0]["rule"].as_str()), (1, Some("sieve")), "{report:#}");
    assert_eq!(new.scripts().0["draft"], "discard;\n");
}

#[test]
fn a_script_that_the_new_side_refuses_is_named_and_keeps_the_user_on_the_old_one() {
    let platform = Platform::start("  sieve_extensions = -vacation\n");
    let mut old = platform.sieve(0);
    old.put("sort", SORT);
    old.put("away", VACATION);
    old.set_active("away");
    let ferry = platform.ferry(vec![]);
    let checked = shown(&on_user(&ferry, &platform.pair, &["check"], "u1"));
    assert!(checked.contains("lacks Sieve extensions of the old side: vacation;"), "{checked}");
    assert!(checked.contains("blocks     the new side's ManageSieve refuses the script \"away\": "), "{checked}");
    platform.follow(&ferry);
    let told = |text: &str| text.contains("refuses the script \"away\": ") && text.contains("vacation");
    let status = ferry.wait_status("u1", LONG, |status| status["reason"].is_string());
    assert!(told(status["reason"].as_str().unwrap()), "{status:#}");
    let refused = ferry.run(&["switch", "u1"]);
    assert!(refused.status.code() == Some(75) && told(&shown(&refused)), "{}", shown(&refused));
    assert_eq!(ferry.status("u1")["authority"], "old");
    let [_, (new, active)] = platform.scripts();
    assert_eq!((new.into_keys().collect::<Vec<_>>(), active), (vec!["sort".to_owned()], None));

    old.put("away", "keep;\n");
    ferry.run_ok(&["switch", "u1"]);
    let [old, new] = platform.scripts();
    assert!(old == new && new.1.as_deref() == Some("away"), "{new:?}");

    // The way back undoes what the user did there, and says so.
    platform.sieve(1).put("mine", "keep;\n");
    let back = ferry.run(&["rollback", "u1"]);
    let said = shown(&back);
    assert!(back.status.code() == Some(1) && said.contains("sieve in -: old missing, new \"mine\""), "{said}");
    ferry.run_ok(&["rollback", "--accept-loss", "u1"]);
    assert_eq!(ferry.status("u1")["authority"], "old");
}

#[test]
fn a_script_that_changes_while_the_gate_is_closed_stops_the_switch() {
    let platform = Platform::start("");
    let mut old = platform.sieve(0);
    old.put("main", SORT);
    let hold = Hold::at("gate-closed#1");
    let fault = hold.fault();
    let ferry = platform.ferry(vec![("MAILFERRY_FAULTS", &fault)]);
    platform.follow(&ferry);
    let stopped = std::thread::scope(|scope| {
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        hold.wait(LONG);
        old.put("main", "keep;\n");
        hold.release();
        switch.join().unwrap()
    });
    let said = shown(&stopped);
    assert!(stopped.status.code() == Some(75) && said.contains("Sieve scripts were changed"), "{said}");
    assert_eq!(ferry.status("u1")["authority"], "old");
    ferry.run_ok(&["switch", "u1"]);
    let [old, new] = platform.scripts();
    assert_eq!((&old, new.0["main"].as_str()), (&new, "keep;\n"));
}

#[test]
fn after_a_crash_between_two_writes_it_is_known_whose_a_script_is() {
    let platform = Platform::start("");
    let mut old = platform.sieve(0);
    old.put("main", SORT);
    old.set_active("main");
    let hold = Hold::at("script-put#1");
    let fault = hold.fault();
    let mut ferry = platform.ferry(vec![("MAILFERRY_FAULTS", &fault)]);
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", platform.pair.old.password("u1"));
    hold.wait(LONG);
    ferry.kill9();
    // It came as far as the new side, but nobody heard the answer.
    platform.sieve(1).put("main", SORT);
    old.put("main", "keep;\n");
    ferry.set_env("MAILFERRY_FAULTS", "");
    ferry.start_again();
    platform.follow(&ferry);
    ferry.run_ok(&["switch", "u1"]);
    let [old, new] = platform.scripts();
    assert_eq!((&old, new.0["main"].as_str(), new.1.as_deref()), (&new, "keep;\n", Some("main")));
}

/// By STARTTLS and an authorization identity on one side, inside TLS and by a suffix on the other.
#[test]
fn a_master_user_carries_scripts_over_inside_tls() {
    let masters =
        "passdb {\n  driver = passwd-file\n  args = {dir}/masters\n  master = yes\n}\nauth_failure_delay = 0\n";
    let suffixed = format!("{masters}auth_master_user_separator = %\n");
    let platform = Platform::with([masters, &suffixed], ["", ""]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "of-the-boss").unwrap();
    for server in [&platform.pair.old, &platform.pair.new] {
        std::fs::write(server.dir().join("masters"), "boss:{PLAIN}of-the-boss\n").unwrap();
    }
    let mut old = platform.sieve(0);
    old.put("main", VACATION);
    old.set_active("main");
    let kind = |more: &str| {
        format!("{{ kind = \"master-user\", user = \"boss\", {more}password_file = \"{}\" }}", secret.path().display())
    };
    let (authzid, suffix) = (kind(""), kind("separator = \"%\", "));
    let key = |server: &Dovecot, url: String| format!("sieve = \"{url}\"\nca_file = \"{}\"", server.tls().ca.display());
    let [old_door, new_door] = &platform.doors;
    let old_key = key(&platform.pair.old, format!("sieve+starttls://localhost:{}", old_door.port()));
    let new_key = key(&platform.pair.new, format!("sieves://localhost:{}", new_door.tls_port()));
    let ferry = Ferry::prepare(FerrySpec {
        credentials: [&authzid, &suffix],
        extra: vec![("old", &old_key), ("new", &new_key)],
        ..FerrySpec::between(&platform.pair.old, &platform.pair.new)
    });
    ferry.run_ok(&["sync", "u1"]);
    ferry.run_ok(&["verify", "u1"]);
    let [old, new] = platform.scripts();
    assert!(old == new && new.1.as_deref() == Some("main"), "{new:?}");
}

#[test]
fn a_passthrough_to_the_old_sides_managesieve_is_warned_of_once_users_are_on_the_new_side() {
    let platform = Platform::start("");
    let keys = platform.doors.each_ref().map(SieveDoor::key);
    let (to_old, to_new) = (crate::lab::ports::claim(), crate::lab::ports::claim());
    let door = |port: u16, to: &SieveDoor| format!("listen = \"127.0.0.1:{port}\"\nto = \"127.0.0.1:{}\"\n", to.port());
    let doors = format!(
        "{}\n[[passthrough]]\n{}",
        door(to_old.number, &platform.doors[0]),
        door(to_new.number, &platform.doors[1])
    );
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        extra: vec![("old", keys[0].as_str()), ("new", keys[1].as_str()), ("[passthrough]", &doors)],
        ..FerrySpec::between(&platform.pair.old, &platform.pair.new)
    });
    platform.follow(&ferry);
    let warned = || {
        let said = shown(&ferry.run(&["check"]));
        said.lines().filter(|line| line.starts_with("passthrough ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warned(), [""; 0]);
    ferry.run_ok(&["switch", "u1"]);
    let lines = warned();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let from = format!("127.0.0.1:{} leads to 127.0.0.1:{}", to_old.number, platform.doors[0].port());
    assert!(line.contains(&from) && line.contains("1 users are on the new side"), "{line}");
}
