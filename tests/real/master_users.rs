//! Master users and master passwords: our own connections need no user's password, the work goes on by itself after a
//! restart, and nobody is switched to a side that refuses them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown};
use crate::front::secrets::assert_silent;
use crate::lab::{Dovecot, Ferry, FerrySpec, Hold, Imap, Porter, Release, Spec, World, deliver, nasty, wait_for};
use crate::uidl::maildrop;

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(180);

const SECRET: &str = "correct-horse-of-the-boss";
const WRONG: &str = "wrong-staple-of-the-boss";

/// How a side takes a master user: as `USER%boss`, or by an authorization identity; or it has a master password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Suffix,
    Authzid,
    Password,
}

/// Two servers, each with a master user `boss` who has a password of their own there, or with a master password.
struct Platform {
    folder: tempfile::TempDir,
    pair: Pair,
    forms: [Form; 2],
}

impl Platform {
    fn start(users: &[&str], forms: [Form; 2]) -> Self {
        Self::with(Spec::new_side(users), forms)
    }

    /// With this new side, of the same users.
    fn with(new: Spec, forms: [Form; 2]) -> Self {
        let users: Vec<&str> = new.users.iter().map(|(user, _)| user.as_str()).collect();
        let extra = |side: usize, release| {
            // Only the form that is tested is there: a side without a separator knows no other.
            let separator = if forms[side] == Form::Suffix { "auth_master_user_separator = %\n" } else { "" };
            let passdb = match (forms[side], release) {
                // Asked after that of the users.
                (Form::Password, Release::V23) => {
                    format!("passdb {{\n  driver = static\n  args = password={SECRET}-{side}\n}}\n")
                }
                (Form::Password, Release::V24) => format!("passdb static {{\n  password = {SECRET}-{side}\n}}\n"),
                (_, Release::V23) => {
                    "passdb {\n  driver = passwd-file\n  args = {dir}/masters\n  master = yes\n}\n".to_owned()
                }
                (_, Release::V24) => "passdb masters {\n  driver = passwd-file\n  passwd_file_path = {dir}/masters\n  \
                                      master = yes\n}\n"
                    .to_owned(),
            };
            format!("{separator}{passdb}auth_failure_delay = 0\n")
        };
        let old = Spec::old(&users);
        let pair = Pair {
            old: Dovecot::start(Spec { extra: extra(0, old.release), ..old }),
            new: Dovecot::start(Spec { extra: extra(1, new.release), own_uidls: true, ..new.clone() }),
        };
        for (side, server) in [&pair.old, &pair.new].into_iter().enumerate() {
            fs::write(server.dir().join("masters"), format!("boss:{{PLAIN}}{SECRET}-{side}\n")).unwrap();
        }
        let platform = Self { folder: tempfile::Builder::new().prefix("mfboss").tempdir().unwrap(), pair, forms };
        platform.keep_secrets([SECRET; 2]);
        platform
    }

    /// What the proxy believes the master users' passwords to be.
    fn keep_secrets(&self, secrets: [&str; 2]) {
        for (side, secret) in secrets.iter().enumerate() {
            fs::write(self.folder.path().join(format!("secret-{side}")), format!("{secret}-{side}\n")).unwrap();
        }
    }

    fn credentials(&self, side: usize) -> String {
        let file = self.folder.path().join(format!("secret-{side}"));
        let kind = match self.forms[side] {
            Form::Suffix => "kind = \"master-user\", user = \"boss\", separator = \"%\"",
            Form::Authzid => "kind = \"master-user\", user = \"boss\"",
            Form::Password => "kind = \"master-password\"",
        };
        format!("{{ {kind}, password_file = \"{}\" }}", file.display())
    }

    /// A proxy with a master user on both sides.
    fn ferry(&self, make: impl FnOnce(FerrySpec<'_>) -> Ferry) -> Ferry {
        let both = [self.credentials(0), self.credentials(1)];
        make(FerrySpec {
            credentials: [&both[0], &both[1]],
            pop3: true,
            env: vec![("RUST_LOG", "mailferry=trace")],
            ..FerrySpec::between(&self.pair.old, &self.pair.new)
        })
    }

    fn log_in(&self, ferry: &Ferry) -> Imap {
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", self.pair.old.password("u1"));
        imap
    }
}

fn reason(status: &Value) -> &str {
    status["reason"].as_str().unwrap_or_default()
}

/// `sync` and `verify` without a password: everything arrives, the UIDLs too.
fn copied_and_verified(ferry: &Ferry, platform: &Platform) {
    let pair = &platform.pair;
    ferry.run_ok(&["sync", "u1"]);
    let report: Value = serde_json::from_str(&ferry.run_ok(&["verify", "u1", "--json", "--bodies", "all"])).unwrap();
    assert_eq!(report["identical"], true, "{report:#}");
    assert!(report["pop3"].as_str().unwrap().contains("UIDLs identical, same order"), "{report:#}");
    assert_eq!(maildrop::shown(&pair.old, "u1"), maildrop::shown(&pair.new, "u1"));
    assert_foreign_judge_agrees(pair, "u1");
}

#[test]
fn all_forms_copy_and_verify_without_any_users_password_pop3_included() {
    all_forms(Spec::new_side);
}

/// On a new side that `new` says.
pub(crate) fn all_forms(new: impl Fn(&[&str]) -> Spec) {
    for forms in [[Form::Suffix, Form::Authzid], [Form::Authzid, Form::Suffix], [Form::Password; 2]] {
        let platform = Platform::with(new(&["u1"]), forms);
        nasty::small(&platform.pair.old, "u1");
        copied_and_verified(&platform.ferry(Ferry::prepare), &platform);
    }
}

#[test]
fn a_side_with_a_master_user_is_not_asked_with_the_users_password_and_the_other_one_is() {
    for side in [0, 1] {
        let mut platform = Platform::start(&["u1"], [Form::Suffix, Form::Authzid]);
        nasty::small(&platform.pair.old, "u1");
        let credentials = platform.credentials(side);
        let mut both = ["{ kind = \"user\" }"; 2];
        both[side] = &credentials;
        let ferry = Ferry::prepare(FerrySpec {
            credentials: both,
            ..FerrySpec::between(&platform.pair.old, &platform.pair.new)
        });
        // Where the master user goes in, the user's password is another one.
        let (there, other) = [("old", "new"), ("new", "old")][side];
        let server = if side == 0 { &mut platform.pair.old } else { &mut platform.pair.new };
        server.add_user("u1", "another password");
        for command in ["sync", "verify"] {
            let output = ferry.run(&[command, "u1"]);
            let said = shown(&output);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("the {other} side is asked with the password of u1")), "{there}: {said}");
            assert!(said.contains("--password-file") && said.contains(&format!("{other}.credentials")), "{said}");
        }
        let file = ferry.password_file("pw-of-u1");
        ferry.run_ok(&["sync", "u1", "--password-file", &file]);
        ferry.run_ok(&["verify", "u1", "--password-file", &file]);
        assert_foreign_judge_agrees(&platform.pair, "u1");
    }
}

#[test]
fn after_a_restart_everything_goes_on_without_a_login() {
    let platform = Platform::start(&["u1"], [Form::Suffix, Form::Authzid]);
    let pair = &platform.pair;
    nasty::small(&pair.old, "u1");
    let hold = Hold::at("copy-pass");
    let fault = hold.fault();
    let mut ferry = platform.ferry(|spec| {
        let env = vec![("RUST_LOG", "mailferry=trace"), ("MAILFERRY_FAULTS", &*fault)];
        Ferry::start(FerrySpec { auto: false, env, ..spec })
    });
    // In the middle of the copy.
    platform.log_in(&ferry).ok("LOGOUT");
    hold.wait(LONG);
    assert_eq!(ferry.status("u1")["phase"], "copying");
    ferry.kill9();
    ferry.set_env("MAILFERRY_FAULTS", "");
    ferry.start_again();
    ferry.wait_phase("u1", "following", LONG);

    // While it is followed: nobody has logged in since.
    ferry.kill9();
    deliver(&pair.old, "u1", b"Subject: while the proxy was down\n\nmail\n");
    ferry.start_again();
    assert_eq!(ferry.status("u1")["reason"], Value::Null);
    ferry.run_ok(&["switch", "u1"]);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("new"), Some("new")), "{status:#}");
    let moved = World::of(&pair.new, "u1");
    assert_eq!(moved, World::of(&pair.old, "u1"));
    assert_eq!(maildrop::shown(&pair.old, "u1"), maildrop::shown(&pair.new, "u1"));

    // After the switch: mail that came late is carried over.
    ferry.kill9();
    deliver(&pair.old, "u1", b"Subject: late\n\nmail\n");
    ferry.start_again();
    ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 1);
    let subjects: Vec<String> =
        World::of(&pair.new, "u1").mailboxes["INBOX"].mails.values().map(|mail| mail.subject()).collect();
    assert_eq!(subjects.iter().filter(|subject| *subject == "late").count(), 1, "{subjects:?}");

    let log = ferry.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "much is logged");
    assert_silent(&log, SECRET);
    assert_silent(&log, pair.old.password("u1"));
}

#[test]
fn a_switch_by_itself_comes_after_a_restart_too() {
    let platform = Platform::start(&["u1"], [Form::Password; 2]);
    nasty::small(&platform.pair.old, "u1");
    let mut ferry = platform.ferry(Ferry::start);
    let session = platform.log_in(&ferry);
    ferry.wait_phase("u1", "following", LONG);
    ferry.kill9();
    drop(session);
    ferry.start_again();
    ferry.wait_phase("u1", "new", LONG);
    assert_foreign_judge_agrees(&platform.pair, "u1");
}

#[test]
fn a_refused_master_user_is_named_with_its_side_and_holds_nobody_up_for_good() {
    refused(
        |name| format!("refuses the login of the master user boss ({name}.credentials) as u1"),
        [Form::Authzid, Form::Suffix],
    );
}

#[test]
fn a_refused_master_password_is_named_with_its_side_and_holds_nobody_up_for_good() {
    refused(
        |name| format!("refuses the login of u1 with the master password ({name}.credentials)"),
        [Form::Password; 2],
    );
}

fn refused(told: impl Fn(&str) -> String, forms: [Form; 2]) {
    for side in [0, 1] {
        let platform = Platform::start(&["u1"], forms);
        nasty::small(&platform.pair.old, "u1");
        let mut secrets = [SECRET; 2];
        secrets[side] = WRONG;
        platform.keep_secrets(secrets);
        let mut ferry = platform.ferry(|spec| Ferry::start(FerrySpec { auto: false, ..spec }));
        let name = ["old", "new"][side];
        platform.log_in(&ferry).ok("LOGOUT");
        let told = told(name);
        let status = ferry.wait_status("u1", LONG, |status| reason(status).contains(&told));
        assert!(reason(&status).starts_with(&format!("{name} side 127.0.0.1:")), "{status:#}");
        assert!(!reason(&status).contains("next login"), "{status:#}");
        assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("copying"), Some("old")));
        // Logging in doesn't make us try again: it is not the user's password that is wrong.
        for _ in 0..20 {
            platform.log_in(&ferry).ok("LOGOUT");
        }
        let tries = ferry.log().matches(&told).count();
        assert!(tries < 10, "{tries} tries: {}", ferry.log());
        let output = ferry.run(&["sync", "u1"]);
        assert!(output.status.code() == Some(1) && shown(&output).contains(&told), "{}", shown(&output));
        assert_silent(&ferry.log(), WRONG);

        platform.keep_secrets([SECRET; 2]);
        assert!(ferry.stop());
        ferry.start_again();
        ferry.wait_phase("u1", "following", LONG);
    }
}

#[test]
fn nobody_is_switched_whose_own_password_the_new_side_refuses_not_even_after_a_restart() {
    locked_out([Form::Suffix; 2]);
}

#[test]
fn a_master_password_switches_nobody_whose_own_password_the_new_side_refuses() {
    locked_out([Form::Password; 2]);
}

fn locked_out(forms: [Form; 2]) {
    let mut platform = Platform::start(&["u1"], forms);
    nasty::small(&platform.pair.old, "u1");
    platform.pair.new.add_user("u1", "another password");
    let mut ferry = platform.ferry(Ferry::start);
    platform.log_in(&ferry).ok("LOGOUT");
    let blocked = |status: &Value| {
        reason(status).contains("new side") && reason(status).contains("could not log in after a switch")
    };
    let status = ferry.wait_status("u1", LONG, blocked);
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("following"), Some("old")));

    // The password is gone, what is known of it is not.
    ferry.kill9();
    ferry.start_again();
    wait_for("the work to go on", LONG, || ferry.log().lines().any(|line| line.contains("goes on")).then_some(()));
    let output = ferry.run(&["switch", "u1"]);
    let said = shown(&output);
    assert!(output.status.code() == Some(75) && said.contains("could not log in after a switch"), "{said}");
    let status = ferry.status("u1");
    assert!(blocked(&status) && status["phase"] == "following", "{status:#}");
    let refusals = |platform: &Platform| platform.pair.new.log().matches("auth failed").count();
    assert!(refusals(&platform) <= 2, "it is not tried again and again");

    // Once the new side knows the password, the next login brings the switch.
    platform.pair.new.add_user("u1", "pw-of-u1");
    platform.log_in(&ferry).ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
    platform.log_in(&ferry).ok("LOGOUT");
}

#[test]
fn what_would_happen_to_a_user_is_told_without_their_password_and_with_it_whether_they_could_log_in() {
    let mut platform = Platform::start(&["u1", "u2"], [Form::Suffix, Form::Authzid]);
    platform.pair.new.add_user("u2", "another password");
    let ferry = platform.ferry(Ferry::prepare);
    for (user, code) in [("u1", 0), ("u2", 1)] {
        nasty::small(&platform.pair.old, user);
        let without = ferry.run_ok(&["check", user]);
        assert!(without.contains("nothing that can be seen before the copy"), "{without}");
        let file = ferry.password_file(platform.pair.old.password(user));
        let output = ferry.run(&["check", user, "--password-file", &file]);
        let said = shown(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("could not log in after a switch"), user == "u2", "{said}");
    }
}

#[test]
fn the_way_back_needs_no_login_either_not_even_after_a_restart() {
    let platform = Platform::start(&["u1"], [Form::Authzid, Form::Suffix]);
    nasty::small(&platform.pair.old, "u1");
    let mut ferry = platform.ferry(Ferry::start);
    platform.log_in(&ferry).ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
    ferry.kill9();
    ferry.start_again();
    ferry.run_ok(&["rollback", "u1"]);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("held"), Some("old")), "{status:#}");
    // And it goes on from there as anybody's does.
    ferry.run_ok(&["resume", "u1"]);
    platform.log_in(&ferry).ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
}

/// Whether a move can go on by itself is a matter of each realm's own sides.
#[test]
fn in_a_realm_with_master_users_the_work_goes_on_by_itself_and_elsewhere_it_waits() {
    let elsewhere = Pair::start(&["u1"]);
    let platform = Platform::start(&["u1"], [Form::Suffix, Form::Authzid]);
    let servers = [&platform.pair.old, &platform.pair.new];
    let sides = [0, 1].map(|side| {
        format!(
            "imap = \"imap://127.0.0.1:{}\"\npop3 = \"pop3://127.0.0.1:{}\"\ncredentials = {}\n",
            servers[side].imap_port(),
            servers[side].pop3_port(),
            platform.credentials(side)
        )
    });
    let realm = format!(
        "domains = [\"b.example\"]\n[realm.old]\n{}[realm.new]\n{}target = {{ kind = \"dsync\", \
         url = \"doveadm://127.0.0.1:{}\", password_file = \"doveadm.secret\" }}\n",
        sides[0],
        sides[1],
        servers[1].doveadm_port()
    );
    let mut ferry = Ferry::start(FerrySpec {
        auto: false,
        pop3: true,
        extra: vec![("[realm]", &realm)],
        ..FerrySpec::between(&elsewhere.old, &elsewhere.new)
    });
    for (server, user) in [(&elsewhere.old, "u1@a.example"), (&platform.pair.old, "u1@b.example")] {
        nasty::small(server, "u1");
        let mut imap = Imap::connect(ferry.imap());
        imap.login(user, "pw-of-u1");
        imap.ok("LOGOUT");
        ferry.wait_phase(user, "following", LONG);
    }
    ferry.kill9();
    ferry.start_again();
    ferry.run_ok(&["switch", "u1@b.example"]);
    assert_eq!(ferry.status("u1@b.example")["phase"], "new");
    let status = ferry.status("u1@a.example");
    assert_eq!(reason(&status), "waiting for the user's next login", "{status:#}");
    let output = ferry.run(&["check", "u1@a.example"]);
    assert!(output.status.code() == Some(2) && shown(&output).contains("--password-file"), "{}", shown(&output));
    ferry.run_ok(&["check", "u1@b.example"]);
}

/// A name with a separator of the configuration's is a master user's, for whichever client.
#[test]
fn a_client_that_logs_in_as_a_master_user_starts_no_move() {
    let platform = Platform::start(&["u1"], [Form::Suffix, Form::Suffix]);
    nasty::small(&platform.pair.old, "u1");
    let ferry = platform.ferry(Ferry::start);
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1%boss", &format!("{SECRET}-0"));
    imap.select("INBOX");
    imap.ok("LOGOUT");
    // The next login is looked at after it.
    platform.log_in(&ferry).ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
    let all: Value = serde_json::from_str(&ferry.run_ok(&["status", "--json"])).unwrap();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(1), "{all:#}");
    // And it lands where the user is by now.
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1%boss", &format!("{SECRET}-1"));
    imap.ok("LOGOUT");
}

/// No server in reach knows PROXYAUTH: a wire before one says so in its place.
#[test]
fn an_administrator_asks_for_an_account_by_proxyauth() {
    let pair = Pair::start(&["u1", "u2"]);
    nasty::small(&pair.old, "u1");
    let porter = Porter::with_admin(pair.old.imap_port(), "admin:geheim");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "geheim\n").unwrap();
    let credentials = format!("{{ kind = \"proxyauth\", user = \"admin\", password_file = \"{}\" }}", secret.display());
    let ferry = Ferry::prepare(FerrySpec {
        credentials: [&credentials, "{ kind = \"user\" }"],
        old_imap: Some(porter.url()),
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let file = ferry.password_file("pw-of-u1");
    ferry.run_ok(&["sync", "u1", "--password-file", &file]);
    ferry.run_ok(&["verify", "u1", "--bodies", "all", "--password-file", &file]);
    assert_foreign_judge_agrees(&pair, "u1");
    assert!(porter.logins().iter().all(|login| *login == ("u1".to_owned(), "PROXYAUTH".to_owned())));
    let refused = |because: &str| {
        let output = ferry.run(&["verify", "u1", "--password-file", &file]);
        let said = shown(&output);
        let told = "refuses the login of the master user admin (old.credentials) as u1";
        assert!(output.status.code() == Some(1) && said.contains(told) && said.contains(because), "{said}");
    };
    porter.refuse("u1");
    refused(": you may not have that account (PROXYAUTH)");
    fs::write(&secret, "wrong\n").unwrap();
    refused(": [AUTHENTICATIONFAILED] not you");
}

/// Whoever looks into an account with the master password is not its user, whichever side's it is.
#[test]
fn a_client_that_logs_in_with_a_master_password_starts_no_move() {
    let platform = Platform::start(&["u1", "u2"], [Form::Password; 2]);
    for user in ["u1", "u2"] {
        nasty::small(&platform.pair.old, user);
    }
    let ferry = platform.ferry(Ferry::start);
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", &format!("{SECRET}-0"));
    imap.select("INBOX");
    imap.ok("LOGOUT");
    // The next login is looked at after it.
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u2", platform.pair.old.password("u2"));
    imap.ok("LOGOUT");
    ferry.wait_phase("u2", "new", LONG);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("old"), Some(0)), "{status:#}");
    // On the new side it is the new side's that is taken, and it is no login of u2's there either.
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u2", &format!("{SECRET}-1"));
    imap.ok("LOGOUT");
    assert_silent(&ferry.log(), SECRET);
}
