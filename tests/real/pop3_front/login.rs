//! Every way to log in, and what follows it in the same breath.

use super::*;

/// Passwords that framing and decoding can each break.
const ODD: [(&str, &str); 6] = [
    ("blanks", " two  blanks "),
    ("quotes", "a\"b\"\"c\\"),
    ("umlauts", "Grüße-ß-€-密-🦀"),
    ("marks", "(%*]){+}~{5+}."),
    ("command", "QUIT"),
    ("base64", "+/=="),
];

/// A way to log in; gives the answer.
type Way = fn(&mut Pop3, &str, &[u8]) -> String;

const WAYS: [(&str, Way); 7] = [
    ("USER and PASS", |pop3, user, password| {
        pop3.ok(&format!("user {user}"));
        pop3.send(&[b"pass ", password, b"\r\n"].concat());
        pop3.line()
    }),
    ("USER and PASS in one packet", |pop3, user, password| {
        pop3.send(&[b"USER ", user.as_bytes(), b"\nPASS ", password, b"\n"].concat());
        assert!(pop3.line().starts_with("+OK"));
        pop3.line()
    }),
    ("AUTH", |pop3, user, password| {
        assert_eq!(pop3.cmd("AUTH PLAIN"), "+ ");
        pop3.cmd(&plain("", user, password))
    }),
    ("AUTH with an initial response", |pop3, user, password| {
        pop3.cmd(&format!("auth plain {}", plain("", user, password)))
    }),
    ("AUTH LOGIN", |pop3, user, password| {
        assert_eq!(pop3.cmd("AUTH LOGIN"), "+ VXNlcm5hbWU6");
        assert_eq!(pop3.cmd(&base64(user.as_bytes())), "+ UGFzc3dvcmQ6");
        pop3.cmd(&base64(password))
    }),
    ("AUTH LOGIN with the name at once", |pop3, user, password| {
        assert_eq!(pop3.cmd(&format!("auth login {}", base64(user.as_bytes()))), "+ UGFzc3dvcmQ6");
        pop3.cmd(&base64(password))
    }),
    ("AUTH as oneself", |pop3, user, password| pop3.cmd(&format!("AUTH PLAIN {}", plain(user, user, password)))),
];

#[test]
fn every_way_to_log_in_carries_every_password_over_every_connection() {
    let mut spec = quick(&[]);
    spec.users = ODD.map(|(user, password)| (user.to_owned(), password.to_owned())).into();
    spec.users.push(("long".to_owned(), "0123456789abcdef".repeat(100)));
    let bench = Bench::with(spec, |_, _| {});
    let ca = &bench.ferry.tls().ca;
    // At once: the server takes its time for each wrong password.
    std::thread::scope(|scope| {
        for (number, (user, password)) in bench.server.spec().users.iter().enumerate() {
            let bench = &bench;
            scope.spawn(move || {
                let password = password.as_bytes();
                for (at, (name, way)) in WAYS.into_iter().enumerate() {
                    let mut pop3 = match (at + number) % 3 {
                        0 => bench.client(),
                        1 => Pop3::connect_stls(bench.ferry.pop3(), ca),
                        _ => Pop3::connect_tls(bench.ferry.pop3s(), ca),
                    };
                    if (number + at) % 2 == 0 {
                        let said = way(&mut pop3, user, &[password, b"x".as_slice()].concat());
                        assert!(said.starts_with("-ERR [AUTH] "), "{user}, {name}: {said}");
                    }
                    let said = way(&mut pop3, user, password);
                    assert_eq!(said, "+OK Logged in.", "{user}, {name}");
                    assert_eq!(pop3.ok("STAT"), "0 0");
                    pop3.quit();
                }
                assert_eq!(bench.logins(user).len(), WAYS.len());
            });
        }
    });
}

#[test]
fn the_backend_may_want_tls_of_either_kind() {
    for scheme in ["pop3+starttls", "pop3s"] {
        let bench = Bench::with(quick(&["u1"]), |wanted, server| {
            let port = if scheme == "pop3s" { server.pop3s_port() } else { server.pop3_port() };
            wanted.old_pop3 = Some(format!("{scheme}://localhost:{port}"));
        });
        assert_eq!(bench.session("u1").ok("STAT"), "0 0");
        // (Where it takes our word for the client's address it says `secured` in either case.)
        let seen = bench.logins("u1");
        assert!(seen.len() == 1 && seen[0].contains("TLS"), "{scheme}: {seen:?}");
    }
}

#[test]
fn what_is_announced_before_login_is_true() {
    let bench = Bench::start(&["u1"]);
    let mut pop3 = bench.client();
    assert_eq!(pop3.greeting, "+OK mailferry ready.");
    let announced = ["CAPA", "TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE"];
    assert_eq!(pop3.list("CAPA"), [&announced[..], &["STLS", "USER", "SASL PLAIN LOGIN"]].concat());
    assert_eq!(pop3.list("AUTH"), ["PLAIN", "LOGIN"]);
    pop3.ok("STLS");
    let mut pop3 = pop3.encrypted(&bench.ferry.tls().ca);
    assert_eq!(pop3.list("CAPA"), [&announced[..], &["USER", "SASL PLAIN LOGIN"]].concat());
    assert!(pop3.cmd("STLS").starts_with("-ERR"));
    pop3.login("u1", "pw-of-u1");
    assert_eq!(pop3.list("CAPA"), announced, "the backend's own");
}

#[test]
fn without_tls_no_password_goes_anywhere() {
    let bench = Bench::start(&["u1"]);
    let mut ferry = bench.ferry;
    ferry.stop();
    let strict = ferry.config_text().replace("[\"127.0.0.0/8\"]", "[\"192.0.2.0/24\"]");
    std::fs::write(ferry.config_path(), strict).unwrap();
    ferry.start_again();
    let mut pop3 = Pop3::connect(ferry.pop3());
    let known = pop3.list("CAPA");
    assert!(known.contains(&"STLS".to_owned()) && !known.iter().any(|word| word.starts_with("SASL") || word == "USER"));
    assert!(pop3.list("AUTH").is_empty());
    for command in ["USER u1", "PASS pw-of-u1", "AUTH PLAIN", &format!("AUTH PLAIN {}", plain("", "u1", b"pw-of-u1"))] {
        assert_eq!(pop3.cmd(command), "-ERR Logging in needs TLS.");
    }
    pop3.ok("STLS");
    let mut pop3 = pop3.encrypted(&ferry.tls().ca);
    pop3.login("u1", "pw-of-u1");
    assert_eq!(logins(&bench.server, "u1").len(), 1);
    let log = bench.server.log();
    let pop3: Vec<&str> = log.lines().filter(|line| line.contains("pop3-login: ")).collect();
    assert!(pop3.len() == 1, "nobody was at the server but the one who logged in: {pop3:?}");
}

#[test]
fn commands_behind_a_login_in_the_same_breath_are_done_once_and_in_order() {
    let bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    let commands = "STAT\r\nLIST 1\r\nRETR 1\r\nLIST 9\r\nNOOP\r\nQUIT\r\n";
    let mut direct = bench.direct("u1");
    direct.send(commands.as_bytes());
    let own = String::from_utf8(direct.read_to_end()).unwrap();
    assert!(own.contains("\r\n..dot 1\r\n") && own.contains("\r\n.\r\n-ERR ") && own.ends_with("+OK Logging out.\r\n"));
    let logins =
        ["USER u1\r\nPASS pw-of-u1\r\n".to_owned(), format!("AUTH PLAIN {}\r\n", plain("", "u1", b"pw-of-u1"))];
    for login in logins {
        let mut pop3 = bench.client();
        pop3.send(format!("{login}{commands}").as_bytes());
        let said = String::from_utf8(pop3.read_to_end()).unwrap();
        assert_eq!(said.strip_prefix("+OK\r\n").unwrap_or(&said), format!("+OK Logged in.\r\n{own}"));
    }
    let mut pop3 = bench.client();
    pop3.send(b"USER u1\r\nPASS wrong\r\nSTAT\r\nPASS pw-of-u1\r\nSTAT\r\nQUIT\r\n");
    let said = String::from_utf8(pop3.read_to_end()).unwrap();
    let words: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["+OK", "-ERR", "-ERR", "+OK", "+OK", "+OK"], "{said}");
}

#[test]
fn a_login_that_is_none_is_refused_and_the_next_one_succeeds() {
    let bench = Bench::start(&["u1"]);
    let mut pop3 = bench.client();
    assert_eq!(pop3.cmd("AUTH PLAIN"), "+ ");
    assert_eq!(pop3.cmd("*"), "-ERR Authentication cancelled.");
    assert_eq!(pop3.cmd("AUTH LOGIN dTE="), "+ UGFzc3dvcmQ6");
    assert_eq!(pop3.cmd("*"), "-ERR Authentication cancelled.");
    for command in [
        "PASS pw",
        "USER",
        "AUTH PLAIN =",
        "AUTH PLAIN !!",
        "AUTH CRAM-MD5",
        "APOP u1 x",
        "STAT",
        "",
        "XCLIENT ADDR=1.2.3.4",
    ] {
        assert!(pop3.cmd(command).starts_with("-ERR "), "{command}");
    }
    pop3.login("u1", "pw-of-u1");
    assert!(pop3.cmd("USER u1").starts_with("-ERR "), "the backend's own word");
    assert_eq!(bench.logins("u1").len(), 1);
}

#[test]
fn long_names_go_through() {
    let long = "n".repeat(255);
    let domain = format!("{}@{}.example", "n".repeat(150), "d".repeat(90));
    let mut spec = quick(&[]);
    spec.extra.push_str("auth_username_format = %Lu\n");
    spec.users = vec![(long.clone(), "pw".to_owned()), (domain.clone(), "pw".to_owned())];
    let bench = Bench::with(spec, |_, _| {});
    for user in [&long, &domain] {
        let mut pop3 = bench.client();
        pop3.login(user, "pw");
        assert_eq!(pop3.ok("STAT"), "0 0");
        pop3.quit();
        // (In the line that tells of a login the server cuts such names short.)
        let whole = format!("pop3({user})<");
        let ended = |line: &&str| line.contains(&whole) && line.contains("Disconnected: Logged out");
        assert_eq!(bench.server.log().lines().filter(ended).count(), 1);
        let mut pop3 = bench.client();
        assert!(pop3.cmd(&format!("AUTH PLAIN {}", plain("", user, b"pw"))).starts_with("+OK"));
    }
}
