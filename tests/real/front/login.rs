//! Every way to log in, and what follows it in the same breath.

use super::*;

/// Passwords that quoting, framing and decoding can each break.
const ODD: [(&str, &str); 8] = [
    ("blanks", " two  blanks "),
    ("quotes", "a\"b\"\"c"),
    ("backslashes", "\\a\\\\b\\"),
    ("umlauts", "Grüße-ß-€-密-🦀"),
    ("braces", "x{3}"),
    ("marks", "(%*]){+}~{5+}"),
    ("nil", "NIL"),
    ("base64", "+/=="),
];

/// A way to log in; gives the tagged answer without the tag.
type Way = fn(&mut Imap, &str, &[u8]) -> String;

/// Sends `{n}` literals one by one, each when the server asks for it.
fn with_sync_literals(imap: &mut Imap, user: &str, password: &[u8]) -> String {
    let tag = imap.start(&format!("LOGIN {{{}}}", user.len()));
    for (text, next) in [(user.as_bytes(), format!(" {{{}}}", password.len())), (password, String::new())] {
        let answer = say(imap);
        if !answer.starts_with('+') {
            return answer;
        }
        imap.send(&[text, next.as_bytes(), b"\r\n"].concat());
    }
    imap.finish(&tag).0
}

const WAYS: [(&str, Way); 9] = [
    ("quoted", |imap, user, password| {
        let escaped: Vec<u8> = password
            .iter()
            .flat_map(|octet| if b"\"\\".contains(octet) { vec![b'\\', *octet] } else { vec![*octet] })
            .collect();
        imap.send(&[format!("q login \"{user}\" \"").as_bytes(), &escaped, b"\"\r\n"].concat());
        imap.finish("q").0
    }),
    ("literals", with_sync_literals),
    ("non-synchronising literals", |imap, user, password| {
        let start = format!("q LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n", user.len(), password.len());
        imap.send(&[start.as_bytes(), password, b"\r\n"].concat());
        imap.finish("q").0
    }),
    ("an atom and a literal", |imap, user, password| {
        let tag = imap.start(&format!("LOGIN {user} {{{}}}", password.len()));
        assert!(say(imap).starts_with('+'));
        imap.send(&[password, b"\r\n"].concat());
        imap.finish(&tag).0
    }),
    ("AUTHENTICATE", |imap, user, password| {
        let tag = imap.start("AUTHENTICATE PLAIN");
        assert_eq!(say(imap), "+ ");
        imap.send(format!("{}\r\n", plain("", user, password)).as_bytes());
        imap.finish(&tag).0
    }),
    ("AUTHENTICATE with an initial response", |imap, user, password| {
        imap.cmd(&format!("authenticate plain {}", plain("", user, password))).0
    }),
    ("AUTHENTICATE LOGIN", |imap, user, password| {
        let tag = imap.start("AUTHENTICATE LOGIN");
        assert_eq!(say(imap), "+ VXNlcm5hbWU6");
        imap.send(format!("{}\r\n", base64(user.as_bytes())).as_bytes());
        assert_eq!(say(imap), "+ UGFzc3dvcmQ6");
        imap.send(format!("{}\r\n", base64(password)).as_bytes());
        imap.finish(&tag).0
    }),
    ("AUTHENTICATE LOGIN with the name at once", |imap, user, password| {
        let tag = imap.start(&format!("authenticate login {}", base64(user.as_bytes())));
        assert_eq!(say(imap), "+ UGFzc3dvcmQ6");
        imap.send(format!("{}\r\n", base64(password)).as_bytes());
        imap.finish(&tag).0
    }),
    ("AUTHENTICATE as oneself", |imap, user, password| {
        imap.cmd(&format!("AUTHENTICATE PLAIN {}", plain(user, user, password))).0
    }),
];

#[test]
fn every_way_to_log_in_carries_every_password() {
    let users: Vec<&str> = ODD.iter().map(|(user, _)| *user).collect();
    let mut spec = quick(&users);
    spec.users = ODD.map(|(user, password)| (user.to_owned(), password.to_owned())).into();
    spec.users.push(("long".to_owned(), "0123456789abcdef".repeat(100)));
    let bench = Bench::with(spec, |_| {});
    // Octets that are no UTF-8: what an old client sends for `ü`.
    let users_file = bench.server.dir().join("users");
    let latin: &[u8] = b"latin:{PLAIN}\xfcber\xdf::::::\n";
    fs::write(&users_file, [fs::read(&users_file).unwrap().as_slice(), latin].concat()).unwrap();

    let spec = bench.server.spec().users.clone();
    let mut all: Vec<(String, Vec<u8>)> = spec.into_iter().map(|(user, word)| (user, word.into_bytes())).collect();
    all.push(("latin".to_owned(), b"\xfcber\xdf".to_vec()));
    // At once: the server takes half a second for each wrong password.
    std::thread::scope(|scope| {
        for (number, (user, password)) in all.iter().enumerate() {
            let bench = &bench;
            scope.spawn(move || {
                for (at, (name, way)) in WAYS.into_iter().enumerate() {
                    let mut imap = bench.client();
                    let wrong = if at % 2 == 0 { &password[1..] } else { &[password, b"x".as_slice()].concat() };
                    if (number + at) % 3 == 0 {
                        let tagged = way(&mut imap, user, wrong);
                        assert!(tagged.starts_with("NO [AUTHENTICATIONFAILED] "), "{user}, {name}: {tagged}");
                    }
                    let tagged = way(&mut imap, user, password);
                    assert!(tagged.starts_with("OK [CAPABILITY IMAP4rev1 "), "{user}, {name}: {tagged}");
                    imap.ok("NOOP");
                    imap.ok("LOGOUT");
                }
                assert_eq!(bench.logins(user).len(), WAYS.len());
            });
        }
    });
}

#[test]
fn a_login_that_is_none_is_refused_and_the_next_one_succeeds() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    let tag = imap.start("AUTHENTICATE PLAIN");
    assert_eq!(say(&mut imap), "+ ");
    imap.send(b"*\r\n");
    assert!(imap.finish(&tag).0.starts_with("BAD "), "cancelled");
    for names in [&[][..], &["dTE="]] {
        let tag = imap.start("AUTHENTICATE LOGIN");
        for name in names {
            assert_eq!(say(&mut imap), "+ VXNlcm5hbWU6");
            imap.send(format!("{name}\r\n").as_bytes());
        }
        assert!(say(&mut imap).starts_with("+ "));
        imap.send(b"*\r\n");
        assert!(imap.finish(&tag).0.starts_with("BAD "), "cancelled after {names:?}");
    }
    for command in [
        "AUTHENTICATE PLAIN =",
        "AUTHENTICATE PLAIN !!!!",
        "AUTHENTICATE PLAIN dTE=",
        "AUTHENTICATE PLAIN AHUxAHB3AG1vcmU=",
        "LOGIN u1",
        "LOGIN \"u1 pw\"",
        "LOGIN u1 pw more",
        "LOGIN \"\" pw",
    ] {
        let (tagged, untagged) = imap.cmd(command);
        assert!(tagged.starts_with("BAD ") && untagged.is_empty(), "{command}: {tagged}");
    }
    assert!(imap.cmd("AUTHENTICATE CRAM-MD5").0.starts_with("NO "));
    imap.login("u1", "pw-of-u1");
    imap.ok("NOOP");
    assert!(imap.cmd("LOGIN u1 pw-of-u1").0.starts_with("BAD "), "the backend's own word");
    assert_eq!(bench.logins("u1").len(), 1);
}

/// What is pipelined behind the login: each command once, in order.
fn pipeline(tag: &str, literal: &[u8]) -> Vec<u8> {
    let append = format!("{tag}2 APPEND INBOX (\\Seen) {{{}+}}\r\n", literal.len());
    let rest = format!(
        "\r\n{tag}3 CREATE \"made {tag}\"\r\n{tag}4 CREATE \"made {tag}\"\r\n{tag}5 STATUS INBOX (MESSAGES)\r\n\
         {tag}6 NOOP\r\n{tag}7 LOGOUT\r\n"
    );
    [b"", format!("{tag}1 SELECT INBOX\r\n").as_bytes(), append.as_bytes(), literal, rest.as_bytes()].concat()
}

/// The tagged lines of what a server said.
fn tagged_lines(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    text.lines()
        .filter(|line| !line.starts_with('*'))
        .map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn commands_behind_a_login_in_the_same_breath_are_done_once_and_in_order() {
    let bench = Bench::start(&["u1"]);
    let small = b"Subject: small\r\n\r\na9 LOGOUT\r\n".to_vec();
    let cases: [(&str, String, Vec<u8>); 4] = [
        ("a", "a0 LOGIN u1 pw-of-u1\r\n".to_owned(), small.clone()),
        ("b", format!("b0 AUTHENTICATE PLAIN {}\r\n", plain("", "u1", b"pw-of-u1")), small.clone()),
        ("c", "c0 LOGIN {2+}\r\nu1 {8+}\r\npw-of-u1\r\n".to_owned(), small),
        // More than anybody may send before login: what follows a LOGIN waits in the socket.
        ("d", "d0 LOGIN u1 pw-of-u1\r\n".to_owned(), message(1 << 20)),
    ];
    for (count, (tag, login, literal)) in cases.into_iter().enumerate() {
        let mut imap = bench.client();
        imap.send(&[login.as_bytes(), &pipeline(tag, &literal)].concat());
        let (said, closed) = imap.read_to_end(LONG);
        assert!(closed, "{tag}: {}", String::from_utf8_lossy(&said));
        // Dovecot itself answers an APPEND behind commands that came after it.
        let (append, others): (Vec<String>, Vec<String>) =
            tagged_lines(&said).into_iter().partition(|line| line.starts_with(&format!("{tag}2 ")));
        assert_eq!(append, [format!("{tag}2 OK")]);
        let expected = ["0 OK", "1 OK", "3 OK", "4 NO", "5 OK", "6 OK", "7 OK"].map(|rest| format!("{tag}{rest}"));
        assert_eq!(others, expected);
        let mut check = bench.direct("u1");
        assert_eq!(check.select("INBOX").exists, count + 1);
        let uid = *check.uids().last().unwrap();
        assert_eq!(check.body(uid).unwrap(), literal);
    }
}

#[test]
fn commands_behind_a_refused_login_are_answered_too() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    imap.send(b"a LOGIN u1 wrong\r\nb NOOP\r\nc LOGIN u1 pw-of-u1\r\nd SELECT INBOX\r\ne LOGOUT\r\n");
    let (said, closed) = imap.read_to_end(LONG);
    assert!(closed);
    assert_eq!(tagged_lines(&said), ["a NO", "b OK", "c OK", "d OK", "e OK"]);
}

#[test]
fn a_client_that_hangs_up_its_sending_half_gets_all_its_answers() {
    let bench = Bench::start(&["u1"]);
    // As `printf '…' | nc` does it.
    for end in ["e LOGOUT\r\n", "e NOOP\r\n"] {
        let mut imap = bench.client();
        imap.send(format!("a LOGIN u1 pw-of-u1\r\nb SELECT INBOX\r\nc LIST \"\" *\r\nd NOOP\r\n{end}").as_bytes());
        imap.end_sending();
        let (said, closed) = imap.read_to_end(LONG);
        assert!(closed, "{}", String::from_utf8_lossy(&said));
        assert_eq!(tagged_lines(&said), ["a OK", "b OK", "c OK", "d OK", "e OK"]);
    }
}
