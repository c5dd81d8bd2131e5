//! Clients that want too much, talk nonsense, break off anywhere or never listen, before and after login: each comes to an
//! end, costs little, and leaves nothing behind; a well-behaved session beside them notices nothing.

use std::io::Write as _;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::*;

/// No end that is waited for may take longer; our patience with the silent ones is tested elsewhere.
const SOON: Duration = Duration::from_secs(30);

/// Growth of the proxy's memory that is no growth: allocator, page cache of code.
const NOISE_KIB: u64 = 8 * 1024;

const TOO_LONG: &str = "-ERR The command line is too long.";

/// A proxy, and how many sockets it has when nobody is there.
struct Quiet {
    bench: Bench,
    sockets: usize,
}

impl Quiet {
    fn start(users: &[&str]) -> Self {
        let bench = Bench::start(users);
        // What is made once is made.
        bench.session(users[0]).quit();
        Pop3::connect_tls(bench.ferry.pop3s(), &bench.ferry.tls().ca).quit();
        let mut sockets = usize::MAX;
        wait_for("the proxy to be alone", LONG, || {
            let before = std::mem::replace(&mut sockets, bench.ferry.sockets());
            std::thread::sleep(Duration::from_millis(100));
            (before == sockets).then_some(())
        });
        Self { bench, sockets }
    }

    /// Nothing is left of anybody: no connection, here or at the server, and no session that would keep a user from being moved.
    fn assert_alone(&self) {
        wait_for("the connections to go", LONG, || (self.bench.ferry.sockets() <= self.sockets).then_some(()));
        // (The end is told of once the connections are gone.)
        let logins = self.bench.ferry.log().matches("logged in over POP3").count();
        self.bench.ferry.wait_logged_times("POP3 session ended: ", logins, LONG);
        let log = self.bench.server.log();
        let (logins, ends) = (log.matches("pop3-login: Info: Login:").count(), log.matches("size=").count());
        assert_eq!(ends, logins, "{log}");
    }
}

/// What a client hears that keeps sending until it is cut off.
fn flooded(mut pop3: Pop3, start: &[u8], flood: &[u8], times: usize) -> String {
    let _ = pop3.wire().try_send(start);
    for _ in 0..times {
        if pop3.wire().try_send(flood).is_err() {
            break;
        }
    }
    String::from_utf8_lossy(&pop3.read_to_end()).into_owned()
}

#[test]
fn over_long_input_before_login_is_refused_and_costs_nothing() {
    let quiet = Quiet::start(&["u1"]);
    let bench = &quiet.bench;
    let ca = &bench.ferry.tls().ca;
    let mut other = bench.session("u1");
    let mut fresh = bench.client();
    let before = bench.ferry.peak_rss_kib();
    let (junk, nuls, blanks) = (vec![b'x'; 1 << 16], vec![0; 1 << 16], vec![b' '; 1 << 16]);
    let floods: [(&[u8], &[u8]); 7] = [
        (b"", &junk),
        (b"USER ", &junk),
        (b"USER u1\r\nPASS ", &junk),
        (b"USER ", &nuls),
        (b"", &blanks),
        (b"AUTH PLAIN ", &junk),
        (b"AUTH PLAIN\r\n", &junk),
    ];
    for (start, flood) in floods {
        // 64 MB: far more than the buffers of two sockets take.
        for pop3 in [bench.client(), Pop3::connect_tls(bench.ferry.pop3s(), ca)] {
            let said = flooded(pop3, start, flood, 1024);
            let refusals = said.lines().filter(|line| line.starts_with("-ERR")).count();
            assert!(refusals == 1 && said.lines().last() == Some(TOO_LONG), "{start:?}: {said:?}");
        }
    }
    other.ok("STAT");
    fresh.login("u1", "pw-of-u1");
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
    other.quit();
    fresh.quit();
    quiet.assert_alone();
}

#[test]
fn over_long_lines_after_login_end_the_session_and_delete_nothing() {
    let quiet = Quiet::start(&["u1"]);
    let bench = &quiet.bench;
    deliver(&bench.server, "u1", &numbered(1));
    let before = bench.ferry.peak_rss_kib();
    for flood in [vec![b'x'; 1 << 16], vec![0; 1 << 16]] {
        let mut pop3 = bench.session("u1");
        pop3.ok("DELE 1");
        let said = flooded(pop3, b"STAT\r\nRETR ", &flood, 1024);
        assert_eq!(said.lines().collect::<Vec<_>>(), ["+OK 0 0", TOO_LONG]);
    }
    // What the server itself finds too long is its own business.
    let line = [vec![b'x'; 6000], b"\r\n".to_vec()].concat();
    let [own, through] = [bench.direct("u1"), bench.session("u1")].map(|pop3| flooded(pop3, &line, b"", 0));
    assert!(own.starts_with("-ERR "), "{own}");
    assert_eq!(through, own);
    // And so is how many commands it does not know.
    let [own, through] = [bench.direct("u1"), bench.session("u1")].map(|mut pop3| {
        let mut said = String::new();
        for _ in 0..30 {
            let _ = pop3.wire().try_send(b"x\r\n");
            said.push_str(&pop3.line());
        }
        said
    });
    assert!(own.contains("-ERR ") && own.matches("-ERR").count() < 30, "{own}");
    assert_eq!(through, own);
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
    assert!(bench.direct("u1").ok("STAT").starts_with("1 "));
    quiet.assert_alone();
}

#[test]
fn a_nul_in_a_login_is_no_login() {
    let bench = Bench::start(&["u1"]);
    for login in [
        &b"USER u1\0\r\nPASS pw-of-u1\r\n"[..],
        b"USER \0u1\r\nPASS pw-of-u1\r\n",
        b"USER u1\r\nPASS pw-of-u1\0\r\n",
        b"USER u1\r\nPASS \0pw-of-u1\r\n",
        b"USER\0u1\r\nPASS pw-of-u1\r\n",
        b"\0USER u1\r\nPASS pw-of-u1\r\n",
        b"USER u1\r\nPA\0SS pw-of-u1\r\n",
        b"AUTH PLAIN\0AHUxAHB3LW9mLXUx\r\n",
        // u1, NUL, a NUL in the password; two NULs in front; in base64.
        b"AUTH PLAIN AHUxAHB3LW9mLXUxAA==\r\n",
        b"AUTH PLAIN AAB1MQBwdy1vZi11MQ==\r\n",
        b"AUTH PLAIN\r\nAHUxAHB3\0LW9mLXUx\r\n",
    ] {
        let mut pop3 = bench.client();
        pop3.send(&[login, b"CAPA\r\n"].concat());
        let mut said = Vec::new();
        while said.last().is_none_or(|line| line != ".") {
            said.push(pop3.line());
            assert_ne!(said.last().unwrap(), "", "{said:?}");
        }
        let shown = String::from_utf8_lossy(login);
        assert!(said.iter().any(|line| line.starts_with("-ERR ")), "{shown:?}: {said:?}");
        assert!(said.iter().all(|line| !line.contains("[AUTH]")), "nobody was asked about a password: {said:?}");
        pop3.login("u1", "pw-of-u1");
        pop3.quit();
    }
    let log = bench.server.log();
    assert_eq!(bench.logins("u1").len(), 11);
    assert!(!log.contains("auth failed") && !log.contains("pop3-login: Info: Disconnected"), "{log}");
}

#[test]
fn endless_faults_end_the_connection() {
    let quiet = Quiet::start(&["u1"]);
    let bench = &quiet.bench;
    for fault in ["x y z\r\n", "\r\n", "PASS x\r\n", "USER \r\n", "AUTH X\r\n", "AUTH PLAIN !\r\n", "APOP a b\r\n"] {
        let said = flooded(bench.client(), b"", &fault.repeat(9000).into_bytes(), 100);
        assert_eq!(said.lines().filter(|line| line.starts_with("-ERR ")).count(), 20, "{fault}: {said}");
    }
    // A wrong password is a fault like any other, and an abandoned AUTH as well.
    let said = flooded(bench.client(), &b"x\r\n".repeat(19), b"USER u1\r\nPASS wrong\r\n", 3);
    assert!(said.lines().count() == 21 && said.lines().last().unwrap().starts_with("-ERR [AUTH] "), "{said}");
    let said = flooded(bench.client(), b"", b"AUTH PLAIN\r\n*\r\n", 100);
    assert_eq!(said.lines().filter(|line| *line == "-ERR Authentication cancelled.").count(), 20, "{said}");
    bench.session("u1").quit();
    wait_for("the connections to go", LONG, || (bench.ferry.sockets() <= quiet.sockets).then_some(()));
}

#[test]
fn many_half_finished_logins_cost_a_fixed_buffer_each() {
    const CLIENTS: usize = 200;
    let bench = Bench::start(&["u1"]);
    bench.session("u1").quit();
    let before = bench.ferry.peak_rss_kib();
    let mut clients: Vec<Pop3> = (0..CLIENTS).map(|_| bench.client()).collect();
    for (at, pop3) in clients.iter_mut().enumerate() {
        // Half of them never give the response that AUTH asked for.
        if at % 2 == 0 {
            assert_eq!(pop3.cmd("AUTH PLAIN"), "+ ");
        } else {
            pop3.ok(&format!("USER {}", "n".repeat(500)));
        }
        pop3.send(format!("PASS {}", "y".repeat(8000)).as_bytes());
    }
    bench.session("u1").ok("STAT");
    let grown = bench.ferry.peak_rss_kib() - before;
    let each = 40;
    assert!(grown < NOISE_KIB + CLIENTS as u64 * each, "{grown} KiB more");
    // They are still there, and still nothing but half a login.
    let said = clients[0].cmd("");
    assert!(said.starts_with("-ERR Invalid SASL response"), "{said}");
    clients[0].login("u1", "pw-of-u1");
}

#[test]
fn what_is_no_tls_on_the_tls_port_is_closed() {
    let quiet = Quiet::start(&["u1"]);
    let bench = &quiet.bench;
    let mut tls = Pop3::connect_tls(bench.ferry.pop3s(), &bench.ferry.tls().ca);
    for garbage in [&b"USER u1\r\nPASS pw-of-u1\r\nSTAT\r\n"[..], &large(100_000), &[0; 5000], b"\x16\x03\x01\xff\xff"]
    {
        let mut wire = Imap::connect_silently("127.0.0.1", bench.ferry.pop3s());
        let _ = wire.try_send(garbage);
        // Unless it is closed already.
        let _ = wire.clone_socket().shutdown(std::net::Shutdown::Write);
        let (said, closed) = wire.read_to_end(LONG);
        // A TLS alert at most.
        assert!(closed && said.len() < 10, "{said:?}");
    }
    // Nor is it TLS what follows STLS.
    let mut pop3 = bench.client();
    pop3.ok("STLS");
    pop3.send(b"USER u1\r\nPASS pw-of-u1\r\nSTAT\r\n");
    assert!(pop3.read_to_end().len() < 10);
    tls.login("u1", "pw-of-u1");
    tls.quit();
    quiet.assert_alone();
    assert_eq!(bench.logins("u1").len(), 2, "the first and the last");
}

#[test]
fn commands_injected_behind_stls_are_never_executed() {
    let bench = Bench::start(&["u1", "evil"]);
    deliver(&bench.server, "u1", &numbered(1));
    let injected = format!(
        "USER evil\r\nPASS pw-of-evil\r\nAUTH PLAIN {}\r\nDELE 1\r\nQUIT\r\n",
        plain("", "evil", b"pw-of-evil")
    );
    for before in ["", "USER evil\r\n", "AUTH PLAIN\r\n*\r\n"] {
        let mut pop3 = bench.client();
        pop3.send(format!("{before}STLS\r\n{injected}").as_bytes());
        while !pop3.line().starts_with("+OK Begin TLS") {}
        let mut pop3 = pop3.encrypted(&bench.ferry.tls().ca);
        // A name given before counts no more, and there is an answer to each command, and to no other.
        assert_eq!(pop3.cmd("PASS pw-of-evil"), "-ERR USER comes first.");
        pop3.login("u1", "pw-of-u1");
        assert!(pop3.ok("STAT").starts_with("1 "));
        pop3.quit();
    }
    assert_eq!(bench.logins("evil").len(), 0);
    assert_eq!(bench.direct("u1").ok("STAT").split(' ').next(), Some("1"));
}

#[test]
fn garbage_after_login_is_the_backends_business() {
    let bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    let lines: [&[u8]; 12] = [
        b"",
        b"\0",
        b"x\0y",
        b"\xff\xfe\x80",
        b"+OK",
        b"-ERR",
        b".",
        b"RETR \0",
        b"RETR 1\0",
        b"DELE -1",
        b"TOP 1 99999999999999999999",
        b"\x16\x03\x01\x02\x00",
    ];
    for line in lines {
        let [own, through] = [bench.direct("u1"), bench.session("u1")].map(|mut pop3| {
            // In the same breath as something sensible, too.
            pop3.send(&[line, b"\r\n", line, b"\r\nSTAT\r\nQUIT\r\n"].concat());
            String::from_utf8_lossy(&pop3.read_to_end()).into_owned()
        });
        assert_eq!(through, own, "{}", line.escape_ascii());
        assert!(own.contains("+OK 1 "), "{own}");
    }
    // And right behind a login.
    let mut pop3 = bench.client();
    pop3.send(b"USER u1\r\nPASS pw-of-u1\r\n\0\r\n\xff\r\nSTAT\r\nQUIT\r\n");
    let said = String::from_utf8_lossy(&pop3.read_to_end()).into_owned();
    let words: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["+OK", "+OK", "-ERR", "-ERR", "+OK", "+OK"], "{said}");
}

/// Where a client breaks off: what it says, piece by piece, and what it hears before each next piece.
const BEFORE_LOGIN: &[&[&str]] = &[
    &[],
    &["USER u1"],
    &["USER u1\r\n"],
    &["USER u1\r\n", "PASS pw-of"],
    &["AUTH"],
    &["AUTH PLAIN\r\n"],
    &["AUTH PLAIN\r\n", "AHUx"],
    &["STLS\r\n"],
    &["CAPA\r\n"],
    &["USER u1\r\nPASS wrong\r\n"],
    &["QUIT"],
];

const AFTER_LOGIN: &[&[&str]] = &[
    &[],
    &["STAT"],
    &["STAT\r\n"],
    &["RETR 1\r\n"],
    &["RETR 1\r\nDELE 1\r\n"],
    &["DELE 1\r\n"],
    &["DELE 1\r\n", "QUIT"],
    &["AUTH PLAIN\r\n"],
    &["STLS\r\n"],
    &["no such command\r\n"],
];

#[test]
fn half_closed_connections_end_wherever_they_were_and_get_their_answers() {
    let quiet = Quiet::start(&["u1", "u2"]);
    let bench = &quiet.bench;
    let raw = large(400_000);
    deliver(&bench.server, "u1", &raw);
    let stored = bench.direct("u1").body("RETR 1");
    let mut good = bench.session("u2");
    std::thread::scope(|scope| {
        let before = BEFORE_LOGIN.iter().map(|pieces| (bench.client(), *pieces));
        let after = AFTER_LOGIN.iter().map(|pieces| (bench.session("u1"), *pieces));
        for (mut pop3, pieces) in before.chain(after) {
            let stored = &stored;
            scope.spawn(move || {
                for (number, piece) in pieces.iter().enumerate() {
                    if number > 0 {
                        pop3.line();
                    }
                    pop3.send(piece.as_bytes());
                }
                pop3.wire().end_sending();
                let (said, closed) = pop3.wire().read_to_end(SOON);
                let text = String::from_utf8_lossy(&said);
                assert!(closed, "still connected after {pieces:?}: {text}");
                // One answer to each whole line since the last one that was read.
                let last = pieces.last().copied().unwrap_or_default();
                let wanted = last.matches("\r\n").count();
                let statuses = |text: &str| text.lines().filter(|line| line.starts_with(['+', '-'])).count();
                if last.contains("RETR") {
                    let body = text.split_once("\r\n").unwrap().1.split_once("\r\n.\r\n").unwrap();
                    assert_eq!(body.0.replace("\r\n..", "\r\n.").len() + 2, stored.len());
                    assert_eq!(statuses(body.1), wanted - 1, "{pieces:?}");
                } else {
                    assert_eq!(statuses(&text), wanted, "{pieces:?}: {text}");
                }
            });
        }
    });
    let mut tls = Imap::connect_silently("127.0.0.1", bench.ferry.pop3s());
    tls.end_sending();
    assert!(tls.read_to_end(SOON).1, "still connected before TLS");
    good.ok("STAT");
    good.quit();
    // What was begun has not been done.
    assert_eq!(bench.direct("u1").ok("STAT").split(' ').next(), Some("1"));
    quiet.assert_alone();
}

#[test]
fn nonsense_before_and_after_login_ends_and_costs_little() {
    const CLIENTS: u64 = 24;
    let quiet = Quiet::start(&["u1"]);
    let bench = &quiet.bench;
    deliver(&bench.server, "u1", &numbered(1));
    let before = bench.ferry.peak_rss_kib();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let mut noise = number;
                let mut pop3 = bench.client();
                if number % 2 == 0 {
                    // Nonsense in the same segment as the login, and more of it later.
                    let login = b"USER u1\r\nPASS pw-of-u1\r\n".to_vec();
                    let _ = pop3.wire().try_send(&[login, soup(&mut noise, 500)].concat());
                }
                let _ = pop3.wire().try_send(&soup(&mut noise, 6000));
                pop3.wire().end_sending();
                let (said, closed) = pop3.wire().read_to_end(SOON);
                assert!(closed, "client {number} is still connected: {}", String::from_utf8_lossy(&said));
            });
        }
    });
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
    assert!(bench.session("u1").ok("STAT").starts_with("1 "));
    quiet.assert_alone();
}

/// A well-mixed soup of everything that means something (but deletes nothing), and of octets that mean nothing.
fn soup(noise: &mut u64, length: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 26] = [
        b"USER ",
        b"u1",
        b"PASS ",
        b"pw-of-u1",
        b"AUTH PLAIN ",
        b"AUTH PLAIN\r\n",
        b"AHUxAHB3LW9mLXUx",
        b"*\r\n",
        b"CAPA\r\n",
        b"STAT\r\n",
        b"LIST ",
        b"UIDL\r\n",
        b"RETR 1\r\n",
        b"TOP 1 ",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b".\r\n",
        b"+OK ",
        b"-ERR ",
        b"\xff\xfe\x80",
    ];
    let mut next = || {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*noise >> 33).unwrap()
    };
    let mut octets = Vec::new();
    while octets.len() < length {
        match next() % 5 {
            0 => octets.push(u8::try_from(next() % 256).unwrap()),
            _ => octets.extend_from_slice(WORDS[next() % WORDS.len()]),
        }
    }
    // Dovecot 2.3's pop3 process dies of a colon in a command word.
    octets.retain(|octet| *octet != b':');
    octets
}

#[test]
fn sockets_that_are_never_read_cost_bounded_memory_before_and_after_login() {
    const CLIENTS: usize = 6;
    let quiet = Quiet::start(&["u1", "u2"]);
    let bench = &quiet.bench;
    let mut imap = Imap::connect(bench.server.imap_port());
    imap.login("u1", "pw-of-u1");
    imap.append("INBOX", "", "", &large(1_000_000));
    let (before, port) = (bench.ferry.peak_rss_kib(), bench.ferry.pop3());
    let mut good = bench.session("u2");
    let stuck: Vec<_> = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| scope.spawn(move || stuff(port, number % 3)));
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    good.ok("STAT");
    good.quit();
    let grown = bench.ferry.peak_rss_kib() - before;
    // Buffers of both directions, each.
    assert!(grown < NOISE_KIB + CLIENTS as u64 * 400, "{grown} KiB more");
    drop(stuck);
    quiet.assert_alone();
}

/// A client that says all it can, until nothing more is taken, and never reads: before login, with large answers, and
/// with small ones.
fn stuff(port: u16, kind: usize) -> Socket {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Or the system would take megabytes for it.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    if kind > 0 {
        socket.write_all(b"USER u1\r\nPASS pw-of-u1\r\n").unwrap();
    }
    let burst = [&b"CAPA\r\n"[..], b"RETR 1\r\n", b"LIST 1\r\n"][kind].repeat(4000);
    let mut sent = 0;
    while sent < 2000 && socket.write_all(&burst).is_ok() {
        sent += 1;
    }
    assert!(sent < 2000, "nobody stops it");
    socket
}
