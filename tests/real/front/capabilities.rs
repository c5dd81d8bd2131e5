//! What is announced when, TLS, and who may log in without it.

use super::*;

const BEFORE: &str = "CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID";

fn announced(imap: &mut Imap) -> String {
    let untagged = imap.ok("CAPABILITY");
    assert_eq!(untagged.len(), 1, "{untagged:?}");
    String::from_utf8(untagged[0].clone()).unwrap()
}

#[test]
fn before_login_the_fixed_list_and_the_few_commands() {
    let bench = Bench::start(&["u1"]);
    let (imap, imaps, ca) = (bench.ferry.imap(), bench.ferry.imaps(), &bench.ferry.tls().ca);
    let clients = [
        (Imap::connect(imap), "STARTTLS AUTH=PLAIN AUTH=LOGIN"),
        (Imap::connect_tls(imaps, ca), "AUTH=PLAIN AUTH=LOGIN"),
        (Imap::connect_starttls(imap, ca), "AUTH=PLAIN AUTH=LOGIN"),
    ];
    for (mut imap, more) in clients {
        assert_eq!(announced(&mut imap), format!("* {BEFORE} {more}"));
        let greeted = if more.starts_with("STARTTLS") { more } else { imap.greeting.split_once("ID ").unwrap().1 };
        assert!(imap.greeting.starts_with(&format!("* OK [{BEFORE} ")), "{}", imap.greeting);
        assert!(imap.greeting.contains(greeted), "{}", imap.greeting);
        for id in ["ID NIL", "ID (\"name\" \"tests\" \"version\" NIL)", "ID (\"name\" {5+}\r\ntests)"] {
            assert_eq!(imap.ok(id), [b"* ID (\"name\" \"mailferry\")"], "{id}");
        }
        assert!(imap.ok("NOOP").is_empty());
        assert!(imap.cmd("SELECT INBOX").0.starts_with("BAD "));
        assert!(imap.cmd("ENABLE CONDSTORE").0.starts_with("BAD "));
        let (tagged, untagged) = imap.cmd("LOGOUT");
        assert!(tagged.starts_with("OK ") && untagged[0].starts_with(b"* BYE "), "{tagged} {untagged:?}");
        assert_eq!(imap.try_line(), None);
    }
}

#[test]
fn after_login_the_backends_own_list_without_compression_which_is_refused() {
    let mut spec = quick(&["u1"]);
    spec.extra.push_str("protocol imap {\n  mail_plugins = $mail_plugins imap_zlib\n}\n");
    let bench = Bench::with(spec, |_| {});
    let mut direct = Imap::connect(bench.server.imap_port());
    let own_login = direct.try_login("u1", "pw-of-u1");
    let own = announced(&mut direct);
    assert!(own.contains(" COMPRESS=DEFLATE") && own_login.contains(" COMPRESS=DEFLATE"), "{own_login}");

    let mut imap = bench.client();
    // But for the text, in which Dovecot says a session's id.
    let code = |line: &str| line.split("] ").next().unwrap().to_owned();
    assert_eq!(code(&imap.try_login("u1", "pw-of-u1")), code(&own_login).replace(" COMPRESS=DEFLATE", ""));
    assert_eq!(announced(&mut imap), own.replace(" COMPRESS=DEFLATE", ""));
    imap.send(b"a NOOP\r\nb COMPRESS DEFLATE\r\nc NOOP\r\n");
    let said: Vec<String> = (0..3).map(|_| say(&mut imap)).collect();
    assert!(said[0].starts_with("a OK ") && said[1].starts_with("b NO ") && said[2].starts_with("c OK "), "{said:?}");
    imap.select("INBOX");
    assert_eq!(announced(&mut imap), own.replace(" COMPRESS=DEFLATE", ""));
}

#[test]
fn logins_over_tls() {
    let bench = Bench::without_cleartext(&["u1"]);
    let (imap, imaps, ca) = (bench.ferry.imap(), bench.ferry.imaps(), &bench.ferry.tls().ca);
    for mut imap in [Imap::connect_tls(imaps, ca), Imap::connect_starttls(imap, ca)] {
        assert!(imap.cmd("STARTTLS").0.starts_with("BAD "), "only once");
        imap.login("u1", "pw-of-u1");
        imap.append("INBOX", "", "", &message(200_000));
        imap.select("INBOX");
        let uid = *imap.uids().last().unwrap();
        assert_eq!(imap.body(uid).unwrap(), message(200_000));
        assert!(imap.cmd("STARTTLS").0.starts_with("BAD "), "not after login");
        imap.ok("LOGOUT");
    }
    assert_eq!(bench.logins("u1").len(), 2);
}

#[test]
fn who_may_not_log_in_without_tls_is_told_so_before_the_password_is_looked_at() {
    let bench = Bench::without_cleartext(&["u1"]);
    let mut imap = bench.client();
    assert_eq!(announced(&mut imap), format!("* {BEFORE} STARTTLS LOGINDISABLED"));
    assert!(imap.greeting.contains("STARTTLS LOGINDISABLED") && !imap.greeting.contains("AUTH=PLAIN"));
    let initial = format!("AUTHENTICATE PLAIN {}", plain("", "u1", b"pw-of-u1"));
    for command in ["LOGIN u1 pw-of-u1", "LOGIN u1 {8}", "AUTHENTICATE PLAIN", &initial] {
        let (tagged, _) = imap.cmd(command);
        assert!(tagged.starts_with("NO [PRIVACYREQUIRED] "), "{command}: {tagged}");
    }
    imap.send(b"n LOGIN u1 {8+}\r\npw-of-u1\r\n");
    assert!(imap.finish("n").0.starts_with("NO [PRIVACYREQUIRED] "));
    imap.ok("STARTTLS");
    let mut imap = imap.encrypted(&bench.ferry.tls().ca);
    assert_eq!(announced(&mut imap), format!("* {BEFORE} AUTH=PLAIN AUTH=LOGIN"));
    assert!(!bench.server.log().contains("user=<u1>"), "the server was not asked: {}", bench.server.log());
    imap.login("u1", "pw-of-u1");
}

#[test]
fn what_is_injected_behind_starttls_is_never_executed() {
    let bench = Bench::start(&["u1", "mallory"]);
    let injections = [
        "b LOGIN mallory pw-of-mallory\r\n",
        "b NOOP\r\nc LOGIN mallory pw-of-mallory\r\nd SELECT INBOX\r\n",
        "b AUTHENTICATE PLAIN\r\n",
        "b LOGIN mallory {12}\r\n",
        "b APPEND x {500+}\r\n",
        "half a line",
    ];
    for injected in injections {
        let mut imap = bench.client();
        imap.send(format!("a STARTTLS\r\n{injected}").as_bytes());
        assert!(say(&mut imap).starts_with("a OK "));
        let mut imap = imap.encrypted(&bench.ferry.tls().ca);
        imap.send(b"x NOOP\r\n");
        let first = say(&mut imap);
        assert!(first.starts_with("x OK "), "{injected:?}: {first}");
        imap.login("u1", "pw-of-u1");
        imap.ok("SELECT INBOX");
    }
    assert_eq!((bench.logins("mallory").len(), bench.logins("u1").len()), (0, injections.len()));
}
