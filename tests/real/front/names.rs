//! Whom a login name names, and what it can't do.

use super::*;
use crate::copy::Pair;

#[test]
fn a_master_login_is_served_and_moves_nobody() {
    let mut spec = quick(&["u1", "u2"]);
    let master =
        "auth_master_user_separator = *\npassdb {\n  driver = passwd-file\n  master = yes\n  args = {dir}/masters\n}\n";
    spec.extra.push_str(master);
    let pair = Pair { old: Dovecot::start(spec), new: Dovecot::start(Spec::new_side(&["u1", "u2"])) };
    fs::write(pair.old.dir().join("masters"), "boss:{PLAIN}master-pw::::::\n").unwrap();
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut direct = Imap::connect(pair.old.imap_port());
    direct.login("u1", pair.old.password("u1"));
    direct.append("INBOX", "", "", b"Subject: of u1\r\n\r\n");

    let mut suffixed = Imap::connect(ferry.imap());
    suffixed.login("U1*boss", "master-pw");
    let mut named = Imap::connect(ferry.imap());
    let tagged = named.cmd(&format!("AUTHENTICATE PLAIN {}", plain("u1", "boss", b"master-pw"))).0;
    assert!(tagged.starts_with("OK "), "{tagged}");
    for session in [&mut suffixed, &mut named] {
        assert_eq!(session.select("INBOX").exists, 1);
    }
    // Logins are looked at in their order, so this one's record shows that the others made none.
    Imap::connect(ferry.imap()).login("u2", pair.old.password("u2"));
    ferry.wait_status("u2", LONG, |status| status["phase"] != "old");
    assert_eq!(ferry.status("u1")["phase"], "old");
    let all: serde_json::Value = serde_json::from_str(&ferry.run_ok(&["status", "--json"])).unwrap();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(1), "{all:#}");
}

#[test]
fn a_name_can_neither_forge_nor_break_a_line_of_the_log() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    for name in ["a\r\nb", "a\nb", "a\0b", "u1\u{1b}[31m", "u1\u{7f}", "u1\u{85}"] {
        let tagged = imap.cmd(&format!("LOGIN {{{}+}}\r\n{name} x", name.len())).0;
        assert!(tagged.starts_with("BAD "), "{name:?}: {tagged}");
        let tagged = imap.cmd(&format!("AUTHENTICATE PLAIN {}", plain("", name, b"x"))).0;
        assert!(tagged.starts_with("BAD "), "{name:?}: {tagged}");
    }
    let odd = "x} user=\"u1 logged in\u{2028}y";
    assert!(imap.try_login(odd, "x").starts_with("NO [AUTHENTICATIONFAILED]"));
    let log = bench.ferry.log();
    assert!(log.contains("login refused") && log.contains(r#"user="x} user=\"u1 logged in\u{2028}y""#), "{log}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}

#[test]
fn the_log_tells_of_a_session_who_it_was_and_what_became_of_it() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    let peer = imap.local_addr();
    imap.login("U1", "pw-of-u1");
    imap.ok("NOOP");
    imap.ok("LOGOUT");
    wait_logged(&bench.ferry, "session ended: ");
    let log = bench.ferry.log();
    let line = log.lines().find(|line| line.contains("session ended: ")).unwrap();
    for part in [format!("peer={peer}"), "user=\"u1\"".into(), "side=old".into(), "the mail server said goodbye".into()]
    {
        assert!(line.contains(&part), "no {part} in {line}");
    }
    // `t2 NOOP`, `t3 LOGOUT`.
    assert!(line.contains("received=20"), "{line}");
    let id = line.split("session{id=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(id.len() == 16 && log.lines().any(|line| line.contains(id) && line.contains("logged in")), "{log}");
}
