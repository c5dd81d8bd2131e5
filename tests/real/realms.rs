//! Several domains behind one proxy: users of each are served by their own servers and move to their own.

use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown};
use crate::lab::account::{Account, Message};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Pop3, World, nasty};
use crate::uidl::maildrop;

const LONG: Duration = Duration::from_secs(120);

/// Two platforms that know a user of the same name, who is somebody else.
struct Platforms {
    a: Pair,
    b: Pair,
}

impl Platforms {
    fn start() -> Self {
        let platforms = Self { a: Pair::start(&["u1"]), b: Pair::start(&["u1"]) };
        nasty::small(&platforms.a.old, "u1");
        other_mail(&platforms.b.old);
        platforms
    }

    /// A proxy before both; the users of `b.example` and `c.example` are those of `b`.
    fn ferry(&self, make: impl FnOnce(FerrySpec<'_>) -> Ferry, realm: &str) -> Ferry {
        make(FerrySpec { pop3: true, extra: vec![("[realm]", realm)], ..FerrySpec::between(&self.a.old, &self.a.new) })
    }
}

/// What no other account of these tests holds.
fn other_mail(server: &Dovecot) {
    let mut account = Account::new("u1");
    for number in 0..4 {
        let raw = format!("Subject: b {number}\r\n\r\n{}\r\n", "b".repeat(number + 1));
        account.mailbox("INBOX").push(Message::new(raw.into_bytes(), "S", 1_600_000_000));
    }
    account.mailbox("Only at b").push(nasty::plain("b", 7, "kb"));
    account.write_to(server);
}

/// `[realm.old]` for a server.
fn old(server: &Dovecot) -> String {
    let (imap, pop3) = (server.imap_port(), server.pop3_port());
    format!("[realm.old]\nimap = \"imap://127.0.0.1:{imap}\"\npop3 = \"pop3://127.0.0.1:{pop3}\"\n")
}

/// `[realm.new]` for a server; its password lies beside the other one, which is the same.
fn new(server: &Dovecot) -> String {
    let (imap, pop3, doveadm) = (server.imap_port(), server.pop3_port(), server.doveadm_port());
    format!(
        "[realm.new]\nimap = \"imap://127.0.0.1:{imap}\"\npop3 = \"pop3://127.0.0.1:{pop3}\"\n\
         target = {{ kind = \"dsync\", url = \"doveadm://127.0.0.1:{doveadm}\", password_file = \"doveadm.secret\" }}\n"
    )
}

fn log_in(ferry: &Ferry, user: &str) -> Imap {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(user, "pw-of-u1");
    imap
}

fn is_at_b(imap: &mut Imap) -> bool {
    let listed = imap.ok("LIST \"\" *").concat();
    String::from_utf8_lossy(&listed).contains("Only at b")
}

/// Logins that a server has let in.
fn logins(server: &Dovecot) -> usize {
    server.log().matches("Info: Login: ").count()
}

#[test]
fn users_of_each_domain_are_served_by_their_own_servers_and_move_to_their_own() {
    let platforms = Platforms::start();
    let Platforms { a, b } = &platforms;
    let realm = format!("domains = [\"b.example\", \"c.example\"]\n{}{}", old(&b.old), new(&b.new));
    let ferry = platforms.ferry(Ferry::start, &realm);
    let before = [&a.old, &b.old].map(|server| World::of(server, "u1"));
    let known = [&a.old, &a.new, &b.old, &b.new].map(logins);

    // Domains in whatever case; POP3 as IMAP.
    let mut imap = log_in(&ferry, "u1@B.Example");
    assert!(is_at_b(&mut imap));
    imap.ok("LOGOUT");
    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.login("u1@b.example", "pw-of-u1");
    assert_eq!(pop3.list("UIDL").len(), 4);
    pop3.quit();
    ferry.wait_phase("u1@b.example", "new", LONG);
    assert_eq!([&a.old, &a.new].map(logins), [known[0], known[1]], "nobody has asked the other domains' servers");
    assert!(logins(&b.old) > known[2] && logins(&b.new) > known[3]);
    assert_eq!(World::of(&b.new, "u1"), before[1]);
    assert_eq!(maildrop::shown(&b.new, "u1"), maildrop::shown(&b.old, "u1"));
    assert_foreign_judge_agrees(b, "u1");

    // Somebody of a domain without a realm, who has the same name.
    let known = [&b.old, &b.new].map(logins);
    log_in(&ferry, "u1@a.example").ok("LOGOUT");
    ferry.wait_phase("u1@a.example", "new", LONG);
    assert_eq!([&b.old, &b.new].map(logins), known);
    assert_eq!(World::of(&a.new, "u1"), before[0]);

    // Both where they belong after the switch, and after a restart.
    let mut ferry = ferry;
    ferry.kill9();
    ferry.start_again();
    assert!(is_at_b(&mut log_in(&ferry, "u1@b.example")));
    assert!(!is_at_b(&mut log_in(&ferry, "u1@a.example")));
    ferry.run_ok(&["rollback", "u1@b.example", "--no-wait"]);
    let status = ferry.wait_phase("u1@b.example", "held", LONG);
    assert_eq!(status["authority"], "old", "{status:#}");
    assert_eq!([&a.old, &b.old].map(|server| World::of(server, "u1")), before);
}

#[test]
fn two_old_servers_may_go_to_one_new_one_and_commands_find_each_users_own() {
    let platforms = Platforms::start();
    let Platforms { a, b } = &platforms;
    // The account of the realm's user on the new side of the others.
    let realm = format!("domains = [\"b.example\"]\n{}", old(&b.old));
    let ferry = platforms.ferry(Ferry::prepare, &realm);
    let file = ferry.password_file("pw-of-u1");
    let on = |command: &[&str], user: &str| ferry.run(&[command, &[user, "--password-file", &file]].concat());
    for command in ["sync", "verify"] {
        let output = on(&[command], "u1@b.example");
        assert!(output.status.success(), "{}", shown(&output));
    }
    assert_eq!(World::of(&a.new, "u1"), World::of(&b.old, "u1"));
    // The other domains' user of that name has the same account on that new side: it holds what is not theirs.
    let output = on(&["check"], "u1@a.example");
    let said = shown(&output);
    assert!(output.status.code() == Some(1) && said.contains("not ours"), "{said}");
    assert!(said.contains("users of no realm") && !said.contains("realm b.example"), "{said}");
}

#[test]
fn check_looks_at_every_realm_or_at_one() {
    let platforms = Platforms::start();
    let Platforms { a, b } = &platforms;
    let realm = format!("domains = [\"b.example\"]\n{}{}", old(&b.old), new(&b.new));
    let ferry = platforms.ferry(Ferry::prepare, &realm);
    let (all, one) = (ferry.run_ok(&["check"]), ferry.run_ok(&["check", "--domain", "B.example"]));
    let address = |server: &Dovecot| format!("127.0.0.1:{}", server.imap_port());
    for server in [&a.old, &a.new, &b.old, &b.new] {
        assert!(all.contains(&address(server)), "{all}");
    }
    assert!(all.contains("\nusers of no realm") && all.contains("\nrealm b.example\n"), "{all}");
    assert!(one.contains(&address(&b.new)) && !one.contains(&address(&a.new)), "{one}");

    // The lines for each new host, and which one is looked over.
    let lines = ferry.run_ok(&["check", "--new-config"]);
    for server in [&a.new, &b.new] {
        assert!(lines.contains(&format!("port = {}\n", server.doveadm_port())), "{lines}");
    }
    let lines = ferry.run_ok(&["check", "--new-config", "--domain", "b.example"]);
    assert!(!lines.contains(&format!("port = {}\n", a.new.doveadm_port())), "{lines}");
    let file = ferry.dir().join("doveconf");
    let output = std::process::Command::new("doveconf").arg("-n").arg("-c").arg(b.new.config_path()).output().unwrap();
    std::fs::write(&file, &output.stdout).unwrap();
    let file = file.to_str().unwrap();
    let output = ferry.run(&["check", "--doveconf", file]);
    assert!(output.status.code() == Some(2) && shown(&output).contains("--domain"), "{}", shown(&output));
    let said = shown(&ferry.run(&["check", "--doveconf", file, "--domain", "b.example"]));
    assert!(said.contains("to change:") && !said.contains("new.target.url"), "{said}");
    // Of the other new host's port there is none in it.
    let said = shown(&ferry.run(&["check", "--doveconf", file, "--domain", "elsewhere.example"]));
    assert!(said.contains("new.target.url"), "{said}");

    // A server that can't be reached is one realm's trouble, and said so.
    let nobody =
        "domains = [\"b.example\"]\n[realm.old]\nimap = \"imap://127.0.0.1:1\"\npop3 = \"pop3://127.0.0.1:1\"\n";
    let ferry = platforms.ferry(Ferry::prepare, nobody);
    let output = ferry.run(&["check"]);
    let said = shown(&output);
    assert!(output.status.code() == Some(1) && said.contains("FAILED"), "{said}");
    ferry.run_ok(&["check", "--domain", "a.example"]);
}

/// A realm whose server is down troubles nobody else.
#[test]
fn a_realm_that_is_down_is_only_its_own_users_trouble() {
    let platforms = Platforms::start();
    let nobody =
        "domains = [\"b.example\"]\n[realm.old]\nimap = \"imap://127.0.0.1:1\"\npop3 = \"pop3://127.0.0.1:1\"\n";
    let ferry = platforms.ferry(Ferry::start, nobody);
    let mut imap = Imap::connect(ferry.imap());
    let answer = imap.cmd("LOGIN u1@b.example pw-of-u1").0;
    assert!(answer.contains("UNAVAILABLE"), "{answer}");
    log_in(&ferry, "u1@a.example").ok("LOGOUT");
    ferry.wait_phase("u1@a.example", "new", LONG);
}
