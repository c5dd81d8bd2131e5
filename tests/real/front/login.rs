//! From the greeting to the login.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{LONG, Stage, alone, text, without_penalties};
use crate::copy::Pair;
use crate::lab::imap::{lossy, quoted};
use crate::lab::process::wait_for;
use crate::lab::{Ferry, FerrySpec, Imap, Spec};

/// Everything that quoting, literals and base64 must carry.
const ODD_PASSWORD: &str = "p\"a\\ss wörd {3}%* (x)";

/// Each answers the whole login with its tagged line.
type Way = fn(&mut Imap, &str, &str) -> String;

fn quoted_strings(imap: &mut Imap, user: &str, password: &str) -> String {
    imap.cmd(&format!("login {} {}", quoted(user), quoted(password))).0
}

fn synchronising_literals(imap: &mut Imap, user: &str, password: &str) -> String {
    let tag = imap.start(&format!("LOGIN {{{}}}", user.len()));
    for (string, rest) in [(user, format!(" {{{}}}\r\n", password.len())), (password, "\r\n".to_owned())] {
        let asked = lossy(&imap.response());
        assert!(asked.starts_with('+'), "{asked}");
        imap.send(format!("{string}{rest}").as_bytes());
    }
    imap.finish(&tag).0
}

fn literals_that_wait_for_nothing(imap: &mut Imap, user: &str, password: &str) -> String {
    let command = format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n{password}", user.len(), password.len());
    imap.cmd(&command).0
}

fn atom_and_literal(imap: &mut Imap, user: &str, password: &str) -> String {
    imap.cmd(&format!("LOGIN {user} {{{}+}}\r\n{password}", password.len())).0
}

fn sasl(authzid: &str, user: &str, password: &str) -> String {
    STANDARD.encode(format!("{authzid}\0{user}\0{password}"))
}

fn plain_at_once(imap: &mut Imap, user: &str, password: &str) -> String {
    imap.cmd(&format!("AUTHENTICATE PLAIN {}", sasl("", user, password))).0
}

fn plain_when_asked(imap: &mut Imap, user: &str, password: &str) -> String {
    let tag = imap.start("AUTHENTICATE plain");
    let asked = lossy(&imap.response());
    assert!(asked.starts_with('+'), "{asked}");
    imap.send(format!("{}\r\n", sasl("", user, password)).as_bytes());
    imap.finish(&tag).0
}

fn plain_as_oneself(imap: &mut Imap, user: &str, password: &str) -> String {
    imap.cmd(&format!("AUTHENTICATE PLAIN {}", sasl(user, user, password))).0
}

const WAYS: [(&str, Way); 7] = [
    ("quoted", quoted_strings),
    ("{n}", synchronising_literals),
    ("{n+}", literals_that_wait_for_nothing),
    ("atom and literal", atom_and_literal),
    ("PLAIN at once", plain_at_once),
    ("PLAIN when asked", plain_when_asked),
    ("PLAIN as oneself", plain_as_oneself),
];

#[test]
fn every_way_to_log_in_works_over_every_listener_and_no_log_ever_holds_a_password() {
    let mut at = Stage::with(without_penalties(&["u1"]), &[("RUST_LOG", "trace")]);
    at.server.add_user("odd", ODD_PASSWORD);
    let ca = at.ferry.tls().ca.clone();
    for listener in ["imap", "starttls", "imaps"] {
        for (name, way) in WAYS {
            let mut imap = match listener {
                "imap" => Imap::connect(at.ferry.imap()),
                "starttls" => Imap::connect_starttls(at.ferry.imap(), &ca),
                _ => Imap::connect_tls(at.ferry.imaps(), &ca),
            };
            if listener == "imap" {
                let refused = way(&mut imap, "odd", "wrong-Zu7aeGh4");
                assert!(refused.starts_with("NO [AUTHENTICATIONFAILED]"), "{name}: {refused}");
            }
            let accepted = way(&mut imap, "odd", ODD_PASSWORD);
            assert!(accepted.starts_with("OK [CAPABILITY IMAP4rev1 "), "{listener}, {name}: {accepted}");
            assert!(accepted.contains(" IDLE ") && accepted.ends_with("] Logged in"), "{accepted}");
            assert_eq!(imap.select("INBOX").exists, 0);
        }
    }
    let log = at.ferry.log();
    assert!(log.contains("logged in"), "{log}");
    for secret in [ODD_PASSWORD, "wrong-Zu7aeGh4", &sasl("", "odd", ODD_PASSWORD), "wörd"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn before_login_a_client_can_ask_what_it_needs_and_nothing_else() {
    let at = Stage::start(&["u1"]);
    let mut imap = Imap::connect(at.ferry.imap());
    let capabilities = "CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS AUTH=PLAIN";
    assert_eq!(imap.greeting, format!("* OK [{capabilities}] mailferry ready."));
    assert_eq!(text(&imap.ok("CAPABILITY")), [format!("* {capabilities}")]);
    assert_eq!(text(&imap.ok("ID (\"name\" \"x\" \"version\" NIL)")), ["* ID (\"name\" \"mailferry\")"]);
    assert_eq!(text(&imap.ok("ID NIL")).len(), 1);
    assert!(imap.ok("NOOP").is_empty());
    for command in ["SELECT INBOX", "LIST \"\" *", "XYZZY", "AUTHENTICATE GSSAPI", "UID FETCH 1 BODY[]"] {
        let (answer, untagged) = imap.cmd(command);
        assert!(answer.starts_with("BAD ") || answer.starts_with("NO "), "{command}: {answer}");
        assert!(untagged.is_empty());
    }
    let cancelled = imap.start("AUTHENTICATE PLAIN");
    assert!(imap.response().starts_with(b"+"));
    imap.send(b"*\r\n");
    assert!(imap.finish(&cancelled).0.starts_with("BAD "));
    assert_eq!(text(&imap.ok("LOGOUT")), ["* BYE Logging out"]);
    assert_eq!(imap.try_response(), None);

    let mut imap = Imap::connect_tls(at.ferry.imaps(), &at.ferry.tls().ca);
    assert_eq!(text(&imap.ok("CAPABILITY")), ["* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN"]);
    assert!(imap.cmd("STARTTLS").0.starts_with("BAD "));
    // (The lab itself, when it started.)
    assert_eq!(at.server.log().matches("imap-login:").count(), 1, "nobody asked the server: {}", at.server.log());
}

#[test]
fn what_is_injected_behind_starttls_is_not_executed() {
    let at = Stage::start(&["u1"]);
    let login = format!("evil LOGIN u1 {}\r\nevil2 LOGOUT\r\n", at.server.password("u1"));
    let mut imap = Imap::connect(at.ferry.imap());
    imap.send(format!("a STARTTLS\r\n{login}").as_bytes());
    assert!(lossy(&imap.response()).starts_with("a OK "));
    let mut imap = imap.encrypted(&at.ferry.tls().ca);
    let (answer, untagged) = imap.cmd("CAPABILITY");
    assert_eq!((answer.as_str(), untagged.len()), ("OK CAPABILITY completed.", 1), "{untagged:?}");
    assert!(!at.server.log().contains("Login:"), "{}", at.server.log());
    imap.login("u1", at.server.password("u1"));
}

#[test]
fn a_refusal_is_the_servers_own_and_starts_nothing() {
    let spec = without_penalties(&["u1"]);
    let extra = format!("{}passdb {{\n  driver = passwd-file\n  args = {{dir}}/closed\n}}\n", spec.extra);
    let at = Stage::with(Spec { extra, ..spec }, &[]);
    let closed = "closed:{PLAIN}pw::::::nologin reason=Closed_for_a_while\n";
    std::fs::write(at.server.dir().join("closed"), closed).unwrap();
    let ferry = Ferry::start(alone(&at.server));
    for (user, password, expected) in
        [("u1", "wrong", "[AUTHENTICATIONFAILED]"), ("closed", "pw", "Closed_for_a_while"), ("none", "x", "[AUTH")]
    {
        let direct = Imap::connect(at.server.imap_port()).try_login(user, password);
        let mut imap = Imap::connect(ferry.imap());
        assert_eq!(imap.try_login(user, password), direct);
        assert!(direct.starts_with("NO ") && direct.contains(expected), "{direct}");
        imap.login("u1", at.server.password("u1"));
    }
    // Whoever has logged in has a record before long; nobody else has one.
    ferry.wait_status("u1", LONG, |status| status["phase"] != "old");
    let all: serde_json::Value = serde_json::from_str(&ferry.run_ok(&["status", "--json"])).unwrap();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(1), "{all:#}");
}

#[test]
fn a_server_that_is_down_is_unavailable_and_back_when_it_is_back() {
    let mut at = Stage::start(&["u1"]);
    let password = at.server.password("u1").to_owned();
    let mut lost = at.session("u1");
    let mut waiting = Imap::connect(at.ferry.imap());
    at.server.kill9();
    let (bytes, ended) = lost.read_to_end(LONG);
    assert!(ended && lossy(&bytes).starts_with("* BYE [UNAVAILABLE]"), "{}", lossy(&bytes));
    for _ in 0..2 {
        let refused = waiting.try_login("u1", &password);
        assert!(refused.starts_with("NO [UNAVAILABLE] "), "{refused}");
    }
    at.server.start_again();
    waiting.login("u1", &password);
    waiting.select("INBOX");
}

#[test]
fn wrong_passwords_are_counted_for_the_client_that_gave_them() {
    let at = Stage::start(&["u1"]);
    // At once, or each would have to wait for the one before it.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut guesser = Imap::connect_as("127.0.0.2", at.ferry.imap());
                assert!(guesser.try_login("u1", "wrong").starts_with("NO [AUTHENTICATIONFAILED]"));
            });
        }
    });
    let mut honest = Imap::connect_as("127.0.0.3", at.ferry.imap());
    honest.login("u1", at.server.password("u1"));
    honest.ok("NOOP");
    let lines = |word: &str, address: &str| {
        let log = at.server.log();
        let found = log.lines().filter(|line| line.contains(word) && line.contains(&format!("rip={address},")));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    wait_for("the guesses in the server's log", LONG, || (!lines("auth failed", "127.0.0.2").is_empty()).then_some(()));
    let login = wait_for("the login in the server's log", LONG, || lines("Login:", "127.0.0.3").pop());
    let ours = [lines("auth failed", "127.0.0.1"), lines("Login:", "127.0.0.1")].concat();
    assert!(ours.is_empty(), "taken for ours: {ours:?}");
    // One id leads from the server's log to ours.
    let id = login.split("session=<").nth(1).unwrap().split('>').next().unwrap();
    let ours = at.ferry.log();
    let line =
        ours.lines().find(|line| line.contains(id) && line.contains("logged in")).unwrap_or_else(|| panic!("{ours}"));
    assert!(line.contains("peer=127.0.0.3:") && line.contains("user=\"u1\"") && line.contains("side=old"), "{line}");
    // The server itself has no reason to be slow to anybody but the guesser.
    let penalties = at.server.doveadm_ok(&["penalty"]);
    assert!(penalties.contains("127.0.0.2") && !penalties.contains("127.0.0.3"), "{penalties}");
}

#[test]
fn a_master_login_is_served_and_moves_nobody() {
    let extra =
        "auth_master_user_separator = *\npassdb {\n  driver = passwd-file\n  master = yes\n  args = {dir}/masters\n}\n";
    let spec = Spec { extra: extra.to_owned(), ..Spec::old(&["u1", "u2"]) };
    let pair =
        Pair { old: crate::lab::Dovecot::start(spec), new: crate::lab::Dovecot::start(Spec::new_side(&["u1", "u2"])) };
    std::fs::write(pair.old.dir().join("masters"), "boss:{PLAIN}master-pw::::::\n").unwrap();
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut direct = Imap::connect(pair.old.imap_port());
    direct.login("u1", pair.old.password("u1"));
    direct.append("INBOX", "", "", b"Subject: of u1\r\n\r\n");

    let mut suffixed = Imap::connect(ferry.imap());
    suffixed.login("U1*boss", "master-pw");
    let mut named = Imap::connect(ferry.imap());
    let answer = named.cmd(&format!("AUTHENTICATE PLAIN {}", sasl("u1", "boss", "master-pw"))).0;
    assert!(answer.starts_with("OK "), "{answer}");
    for session in [&mut suffixed, &mut named] {
        assert_eq!(session.select("INBOX").exists, 1);
    }
    // Logins are looked at in their order, so this one's record shows that the others made none.
    Imap::connect(ferry.imap()).login("u2", pair.old.password("u2"));
    ferry.wait_status("u2", LONG, |status| status["phase"] != "old");
    assert_eq!(ferry.status("u1")["phase"], "old");
}

#[test]
fn when_the_server_ends_every_client_is_told() {
    let mut at = Stage::start(&["u1"]);
    let (mut quiet, mut idle, mut stranger) = (at.session("u1"), at.session("u1"), Imap::connect(at.ferry.imap()));
    quiet.select("INBOX");
    idle.select("INBOX");
    idle.start("IDLE");
    assert!(idle.response().starts_with(b"+"));
    assert!(at.ferry.stop(), "{}", at.ferry.log());
    for imap in [&mut quiet, &mut idle, &mut stranger] {
        let (bytes, ended) = imap.read_to_end(LONG);
        assert!(ended && lossy(&bytes).starts_with("* BYE [UNAVAILABLE] "), "{}", lossy(&bytes));
    }
}
