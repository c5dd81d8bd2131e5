//! The talk before login, line by line.

use super::{Action, FAULTS_MAX, INPUT_MAX, LINE_MAX, PreLogin, PreLoginConfig};
use crate::wire::sasl;
use proptest::prelude::*;

const CLEAR: PreLoginConfig =
    PreLoginConfig { tls_available: true, tls_active: false, cleartext_allowed: false, tokens: false };
const TRUSTED: PreLoginConfig =
    PreLoginConfig { tls_available: false, tls_active: false, cleartext_allowed: true, tokens: false };
const TLS: PreLoginConfig =
    PreLoginConfig { tls_available: false, tls_active: true, cleartext_allowed: false, tokens: false };

const UNKNOWN: &str = "-ERR The command is unknown, or needs a login first.\r\n";
const NO_TLS: &str = "-ERR Logging in needs TLS.\r\n";

/// What the client hears when its octets come in pieces of `size`; what is for the driver is shown in angle brackets.
fn talk_by(machine: &mut PreLogin, input: &[u8], size: usize) -> String {
    let mut heard = String::new();
    for piece in input.chunks(size.min(INPUT_MAX)) {
        machine.input(piece);
        while let Some(action) = machine.next() {
            heard.push_str(&shown(&action));
        }
    }
    heard
}

fn talk(machine: &mut PreLogin, input: &[u8]) -> String {
    talk_by(machine, input, INPUT_MAX)
}

fn shown(action: &Action) -> String {
    match action {
        Action::Reply(words) => String::from_utf8_lossy(words).into_owned(),
        Action::StartTls => "<tls>".to_owned(),
        Action::Login(login) => {
            let authzid = login.authzid.as_deref().unwrap_or("-");
            format!("<{} {authzid} {}>", login.user, login.password.escape_ascii())
        }
        Action::Close(words) => format!("{}<close>", String::from_utf8_lossy(words)),
    }
}

fn fresh(config: PreLoginConfig, input: &[u8]) -> String {
    talk(&mut PreLogin::new(config), input)
}

#[test]
fn capabilities_say_what_is_true() {
    let always = "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n";
    let login = "USER\r\nSASL PLAIN LOGIN\r\n";
    let both = PreLoginConfig { cleartext_allowed: true, ..CLEAR };
    for (config, stls, login) in
        [(CLEAR, "STLS\r\n", ""), (TRUSTED, "", login), (TLS, "", login), (both, "STLS\r\n", login)]
    {
        assert_eq!(fresh(config, b"capa \r\n"), format!("{always}{stls}{login}.\r\n"));
        let mechanisms = if login.is_empty() { "" } else { "PLAIN\r\nLOGIN\r\n" };
        assert_eq!(fresh(config, b"AUTH\r\n"), format!("+OK\r\n{mechanisms}.\r\n"));
    }
    assert!(!PreLogin::new(TLS).greeting().contains(&b'<'), "no APOP");
}

#[test]
fn every_way_to_log_in() {
    for (input, heard) in [
        (&b"USER u1\r\nPASS pw\r\n"[..], "+OK\r\n<u1 - pw>"),
        (b"user u1\npass pw\n", "+OK\r\n<u1 - pw>"),
        (b"USER u 1\r\nPASS  two  blanks \r\n", "+OK\r\n<u 1 -  two  blanks >"),
        (b"USER a\r\nUSER u1\r\nPASS \xfc\r\n", "+OK\r\n+OK\r\n<u1 - \\xfc>"),
        (b"USER u1\r\nPASS\r\n", "+OK\r\n<u1 - >"),
        (b"USER u1\r\nCAPA\r\n", "+OK\r\n"),
        (b"AUTH PLAIN AHUxAHB3\r\n", "<u1 - pw>"),
        (b"auth plain  YQB1MQBwdw== \r\n", "<u1 a pw>"),
        (b"AUTH PLAIN\r\nAHUxAHB3\r\n", "+ \r\n<u1 - pw>"),
        (b"AUTH LOGIN\r\ndTE=\r\ncHc=\r\n", "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n<u1 - pw>"),
        (b"auth login dTE\r\ncHc\r\n", "+ UGFzc3dvcmQ6\r\n<u1 - pw>"),
        (b"AUTH PLAIN \r\n AHUxAHB3\r\n", "+ \r\n<u1 - pw>"),
    ] {
        let heard_all = fresh(TRUSTED, input);
        assert!(heard_all.starts_with(heard), "{input:?}: {heard_all}");
        for size in 1..input.len() {
            assert_eq!(talk_by(&mut PreLogin::new(TLS), input, size), heard_all.replace("STLS\r\n", ""), "by {size}");
        }
    }
}

#[test]
fn what_is_no_login_is_refused_and_the_next_one_is_not() {
    for (input, answer) in [
        (&b"PASS pw\r\n"[..], "-ERR USER comes first.\r\n"),
        (b"USER\r\n", "-ERR The user name is empty, too long, not UTF-8 or has control characters.\r\n"),
        (b"USER a\tb\r\n", "-ERR The user name is empty, too long, not UTF-8 or has control characters.\r\n"),
        (b"USER \xfc\r\n", "-ERR The user name is empty, too long, not UTF-8 or has control characters.\r\n"),
        (b"USER u1\r\nPASS a\0b\r\n", "+OK\r\n-ERR The password holds a NUL.\r\n"),
        (b"AUTH CRAM-MD5\r\n", "-ERR Unsupported authentication mechanism.\r\n"),
        (b"AUTH PLAIN AHUxAHB3 x\r\n", "-ERR Too many arguments.\r\n"),
        (b"AUTH PLAIN =\r\n", "-ERR Invalid SASL response: not a PLAIN message of three parts.\r\n"),
        (b"AUTH PLAIN !\r\n", "-ERR Invalid SASL response: invalid base64.\r\n"),
        (b"AUTH PLAIN\r\n*\r\n", "+ \r\n-ERR Authentication cancelled.\r\n"),
        (b"AUTH PLAIN\r\nQUIT\r\n", "+ \r\n-ERR Invalid SASL response: not a PLAIN message of three parts.\r\n"),
        (b"APOP u1 0123\r\n", "-ERR APOP is not available here.\r\n"),
        (b"STAT\r\n", UNKNOWN),
        (b"\r\n", UNKNOWN),
        (b"\0\r\n", UNKNOWN),
        (b"\0USER u1\r\n", UNKNOWN),
        (b" USER u1\r\n", UNKNOWN),
        (b"STLS\r\n", "-ERR TLS is not available here.\r\n"),
    ] {
        let mut machine = PreLogin::new(TRUSTED);
        assert_eq!(talk(&mut machine, input), answer, "{input:?}");
        assert_eq!(talk(&mut machine, b"USER u1\r\nPASS pw\r\n"), "+OK\r\n<u1 - pw>", "{input:?}");
    }
    let long = format!("USER {}\r\n", "u".repeat(512));
    assert_eq!(fresh(TLS, long.as_bytes()), "+OK\r\n");
    assert!(fresh(TLS, format!("USER u{}", &long[5..]).as_bytes()).starts_with("-ERR The user name"));
}

#[test]
fn without_tls_nothing_of_a_login_is_looked_at() {
    for input in ["USER u1\r\n", "PASS pw\r\n", "AUTH PLAIN AHUxAHB3\r\n", "AUTH PLAIN\r\n", "AUTH X\r\n"] {
        assert_eq!(fresh(CLEAR, input.as_bytes()), NO_TLS, "{input}");
    }
}

#[test]
fn what_came_before_tls_is_forgotten() {
    let mut machine = PreLogin::new(PreLoginConfig { cleartext_allowed: true, ..CLEAR });
    let heard = talk(&mut machine, b"USER u1\r\nSTLS\r\nUSER evil\r\nPASS injected\r\n");
    assert_eq!(heard, "+OK\r\n+OK Begin TLS negotiation now.\r\n<tls>");
    machine.input(b"QUIT\r\n");
    assert_eq!(machine.next(), None);
    machine.tls_started();
    assert_eq!(machine.next(), None);
    assert_eq!(talk(&mut machine, b"PASS pw\r\nSTLS\r\n"), "-ERR USER comes first.\r\n-ERR TLS is active already.\r\n");
    assert_eq!(talk(&mut machine, b"USER u1\r\nPASS pw\r\n"), "+OK\r\n<u1 - pw>");
}

#[test]
fn what_follows_a_login_waits_for_its_end() {
    let mut machine = PreLogin::new(TLS);
    assert_eq!(talk(&mut machine, b"USER u1\r\nPASS wrong\r\nPASS pw\r\nSTAT\r\nQUI"), "+OK\r\n<u1 - wrong>");
    machine.login_failed(b"-ERR [AUTH] no\r\n");
    assert_eq!(talk(&mut machine, b"T\r\n"), "-ERR [AUTH] no\r\n<u1 - pw>");
    assert_eq!(machine.into_pipelined().as_slice(), b"STAT\r\nQUIT\r\n");
}

#[test]
fn faults_and_lines_have_an_end() {
    let bad = b"XYZ\r\n".repeat(FAULTS_MAX as usize);
    assert_eq!(fresh(TLS, &bad), format!("{}<close>", UNKNOWN.repeat(FAULTS_MAX as usize)));
    let mut machine = PreLogin::new(TLS);
    talk(&mut machine, &bad[..bad.len() - 5]);
    assert_eq!(talk(&mut machine, b"USER u1\r\nPASS wrong\r\n"), "+OK\r\n<u1 - wrong>");
    machine.login_failed(b"-ERR no\r\n");
    assert_eq!(talk(&mut machine, b"CAPA\r\n"), "-ERR no\r\n<close>");

    let too_long = "-ERR The command line is too long.\r\n<close>";
    for junk in [vec![b'x'; 3 * LINE_MAX], vec![0; 3 * LINE_MAX], vec![b' '; 3 * LINE_MAX]] {
        assert_eq!(fresh(TLS, &junk), too_long);
        assert_eq!(fresh(TLS, &[b"AUTH PLAIN\r\n", junk.as_slice()].concat()), format!("+ \r\n{too_long}"));
    }
    assert_eq!(fresh(TLS, &[vec![b'x'; LINE_MAX - 1], b"\n".to_vec()].concat()), UNKNOWN);
    assert_eq!(fresh(TLS, &[vec![b'x'; LINE_MAX], b"\n".to_vec()].concat()), too_long);
    assert_eq!(fresh(TLS, b"QUIT\r\nUSER u1\r\n"), "+OK Logging out.\r\n<close>");
    // A login that doesn't read on is not fed without end.
    let mut machine = PreLogin::new(TLS);
    talk(&mut machine, b"AUTH PLAIN AHUxAHB3\r\n");
    assert_eq!(talk(&mut machine, &vec![b'x'; 2 * LINE_MAX]), too_long);
}

#[test]
fn the_longest_message_fits() {
    let message = sasl::plain(None, "u1", &[b'p'; sasl::MESSAGE_MAX - 4]).unwrap();
    let line = [b"AUTH PLAIN ".as_slice(), &sasl::to_base64(&message), b"\r\n"].concat();
    assert!(fresh(TLS, &line).starts_with("<u1 - ppp"));
}

proptest! {
    #[test]
    fn no_octets_do_harm(input in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'A'), any::<u8>()], 0..300), size in 1_usize..50) {
        let whole = fresh(TLS, &input);
        let mut machine = PreLogin::new(TLS);
        prop_assert_eq!(talk_by(&mut machine, &input, size), whole);
        prop_assert!(machine.buffer.capacity() <= super::BUFFER_MAX.next_power_of_two());
    }
}
