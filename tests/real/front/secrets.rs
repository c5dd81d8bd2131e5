//! No password stands in the log, however much is logged.

use super::*;
use crate::copy::Pair;
use crate::lab::{Pop3, nasty};

/// Every form in which a careless line might show these octets.
fn forms(secret: &[u8]) -> Vec<String> {
    let base64 = |octets: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(octets);
    let mut forms =
        vec![String::from_utf8_lossy(secret).into_owned(), String::from_utf8_lossy(secret).escape_debug().to_string()];
    // In base64 the same octets look different at each of three places; the characters that hang over are cut off.
    for before in 0..3 {
        let text = base64(&[vec![0; before], secret.to_vec()].concat());
        let start = (before * 8).div_ceil(6);
        let whole = (before + secret.len()) * 8 / 6;
        forms.push(text[start..whole].to_owned());
    }
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    forms.push(numbers.join(", "));
    forms.push(secret.iter().map(|octet| format!("{octet:02x}")).collect());
    forms
}

pub(crate) fn assert_silent(log: &str, secret: &str) {
    for form in forms(secret.as_bytes()) {
        assert!(form.len() > 5, "{form}");
        let line = log.lines().find(|line| line.to_lowercase().contains(&form.to_lowercase()));
        assert!(line.is_none(), "{secret:?} as {form:?} in: {}", line.unwrap_or_default());
    }
}

#[test]
fn the_forms_are_found_where_they_are() {
    for before in 0..4 {
        let secret = "correct horse";
        let message = [vec![b'u'; before], secret.as_bytes().to_vec(), b"more".to_vec()].concat();
        let text = base64::engine::general_purpose::STANDARD.encode(message);
        assert!(forms(secret.as_bytes()).iter().any(|form| text.contains(form)), "{text}");
    }
}

#[test]
fn no_password_stands_in_the_log_even_where_everything_is_traced() {
    const RIGHT: &str = "correct \"horse\" battery";
    const WRONG: &str = "wrong-staple-42";
    let quick_new = Spec { extra: quick(&[]).extra, ..Spec::new_side(&["u1"]) };
    let mut pair = Pair { old: Dovecot::start(quick(&["u1"])), new: Dovecot::start(quick_new) };
    for server in [&mut pair.old, &mut pair.new] {
        server.add_user("u1", RIGHT);
    }
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec {
        env: vec![("RUST_LOG", "trace")],
        default_domain: "example.net",
        pop3: true,
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let ca = &ferry.tls().ca;
    let mut wrong = Imap::connect_tls(ferry.imaps(), ca);
    for command in [
        login_command("u1", WRONG),
        format!("LOGIN u1 {{{}+}}\r\n{WRONG}", WRONG.len()),
        format!("AUTHENTICATE PLAIN {}", plain("", "u1", WRONG.as_bytes())),
        // No right form, but a password all the same.
        format!("LOGIN u1 {WRONG} more"),
        format!("LOGON u1 {WRONG}"),
        format!("AUTHENTICATE PLAIN {}", base64::engine::general_purpose::STANDARD.encode(WRONG)),
        // With the password where the name belongs, and that thought better of.
        format!("AUTHENTICATE LOGIN {}\r\n*", base64::engine::general_purpose::STANDARD.encode(WRONG)),
    ] {
        let tagged = wrong.cmd(&command).0;
        assert!(tagged.starts_with("NO ") || tagged.starts_with("BAD "), "{command}: {tagged}");
        assert!(!tagged.contains(WRONG), "{tagged}");
    }
    let mut imap = Imap::connect_starttls(ferry.imap(), ca);
    imap.login("u1", RIGHT);
    imap.ok("LOGOUT");
    let mut imap = Imap::connect(ferry.imap());
    imap.send(format!("a AUTHENTICATE PLAIN {}\r\nb LOGOUT\r\n", plain("", "u1", RIGHT.as_bytes())).as_bytes());
    assert!(imap.finish("a").0.starts_with("OK "));
    assert!(imap.finish("b").0.starts_with("OK "));
    by_pop3(&ferry, RIGHT, WRONG);
    // The copy and the switch use the password too.
    ferry.wait_phase("u1", "new", LONG);
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", RIGHT);
    imap.select("INBOX");
    imap.ok("LOGOUT");
    wait_logged(&ferry, "side=new");

    let log = ferry.log();
    let said = ["TRACE", "logged in user", "logged in over POP3"];
    assert!(said.iter().all(|words| log.contains(words)), "everything is logged");
    assert_silent(&log, RIGHT);
    assert_silent(&log, WRONG);
    assert_silent(&log, pair.new.doveadm_password());
    let token = fs::read_to_string(ferry.dir().join("admin.token")).unwrap();
    assert_silent(&log, token.trim());
}

fn by_pop3(ferry: &Ferry, right: &str, wrong: &str) {
    let ca = &ferry.tls().ca;
    let mut pop3 = Pop3::connect_tls(ferry.pop3s(), ca);
    for command in [
        format!("PASS {wrong}"),
        "USER u1".to_owned(),
        format!("PASS {wrong}"),
        format!("PASS {wrong}\0"),
        format!("AUTH PLAIN {}", plain("", "u1", wrong.as_bytes())),
        format!("AUTH PLAIN {}", base64::engine::general_purpose::STANDARD.encode(wrong)),
        format!("AUTH PLAIN {wrong}"),
        format!("APOP u1 {wrong}"),
        format!("PASSWD {wrong}"),
    ] {
        let said = pop3.cmd(&command);
        assert!(said.starts_with("-ERR ") || command == "USER u1" && said == "+OK", "{command}: {said}");
        assert!(!said.contains(wrong), "{said}");
    }
    let mut pop3 = Pop3::connect_stls(ferry.pop3(), ca);
    pop3.login("u1", right);
    pop3.quit();
    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.send(format!("AUTH PLAIN {}\r\nSTAT\r\nQUIT\r\n", plain("", "u1", right.as_bytes())).as_bytes());
    let said = String::from_utf8(pop3.read_to_end()).unwrap();
    assert_eq!(said.matches("+OK").count(), 3, "{said}");
}
