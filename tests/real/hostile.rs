//! Clients that break off anywhere, talk nonsense or never listen, before and after login: each of them comes to an end,
//! costs little, and a well-behaved session beside them notices nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::lab::imap::lossy;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec};

/// No end that is waited for may take longer; the proxy's patience with the silent ones is not tested here.
const SOON: Duration = Duration::from_secs(30);
/// Growth of the proxy's memory that is no growth: allocator, page cache of code.
const NOISE_KIB: u64 = 8 * 1024;

struct Bench {
    ferry: Ferry,
    server: Dovecot,
}

impl Bench {
    /// Nobody moves; no login is made to wait for those that failed.
    fn start() -> Self {
        let no_penalty = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
        let extra = format!("auth_failure_delay = 0\n{no_penalty}");
        let server = Dovecot::start(Spec { extra, ..Spec::old(&["u1", "u2"]) });
        let new_imap = Some("imap://127.0.0.1:9".to_owned());
        let ferry = Ferry::start(FerrySpec { enroll: "none", new_imap, ..FerrySpec::between(&server, &server) });
        Self { ferry, server }
    }

    fn client(&self) -> Imap {
        Imap::connect(self.ferry.imap())
    }

    fn session(&self, user: &str) -> Imap {
        let mut imap = self.client();
        imap.login(user, self.server.password(user));
        imap
    }

    /// Does `work` while another user goes on with theirs; in the end nothing of it may be lost.
    fn beside_a_good_session(&self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let good = scope.spawn(|| {
                let mut imap = self.session("u2");
                let mut count = 0;
                while !done.load(Ordering::SeqCst) || count == 0 {
                    imap.append("INBOX", "", "", format!("Subject: {count}\r\n\r\n").as_bytes());
                    count += 1;
                    assert_eq!(imap.select("INBOX").exists, count);
                    std::thread::sleep(Duration::from_millis(5));
                }
                imap.ok("LOGOUT");
            });
            let end = SetAtEnd(&done);
            work();
            drop(end);
            good.join().unwrap();
        });
    }
}

/// Sets it however a thread ends: otherwise one that fails would leave the others running.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Where a client breaks off: what it says, piece by piece, and what it hears before each next piece.
const BEFORE_LOGIN: &[&[&str]] = &[
    &[],
    &["a"],
    &["a LOGIN u1 "],
    &["a LOGIN {2}\r\n"],
    &["a LOGIN {2}\r\n", "u"],
    &["a LOGIN {2}\r\n", "u1 {8}\r\n"],
    &["a LOGIN {2+}\r\nu1 {8+}\r\npw"],
    &["a AUTHENTICATE PLAIN\r\n"],
    &["a AUTHENTICATE PLAIN\r\n", "AHUx"],
    &["a AUTHENTICATE LOGIN\r\n"],
    &["a STARTTLS\r\n"],
    &["a LOGIN u1 wrong\r\n"],
    &["a LOGIN u1 pw-of-u1\r\n"],
    &["a NOOP\r\nb LOGIN u1 pw-of-u1\r\nc SEL"],
];

const AFTER_LOGIN: &[&[&str]] = &[
    &[],
    &["a"],
    &["a SELECT INBOX"],
    &["a APPEND INBOX {100}\r\n"],
    &["a APPEND INBOX {100}\r\n", "Subject: half"],
    &["a APPEND INBOX {100+}\r\nSubject: half"],
    &["a SELECT INBOX\r\n", "b IDLE\r\n"],
    &["a SELECT INBOX\r\n", "b IDLE\r\n", "DON"],
    &["a SELECT INBOX\r\nb FETCH 1 BODY.PEEK[]\r\n"],
    &["a SEARCH {3}\r\n"],
    &["a AUTHENTICATE PLAIN\r\n"],
];

/// Goes to that place.
fn walk_to(mut imap: Imap, pieces: &[&str]) -> Imap {
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            imap.response();
        }
        imap.send(piece.as_bytes());
    }
    imap
}

#[test]
fn half_closed_connections_end_wherever_they_were() {
    let bench = Bench::start();
    let mut seed = bench.session("u1");
    seed.append("INBOX", "", "", &b"0123456789 and so on\r\n".repeat(20_000));
    drop(seed);
    bench.beside_a_good_session(|| {
        std::thread::scope(|scope| {
            let before = BEFORE_LOGIN.iter().map(|pieces| (bench.client(), *pieces));
            let after = AFTER_LOGIN.iter().map(|pieces| (bench.session("u1"), *pieces));
            for (imap, pieces) in before.chain(after) {
                scope.spawn(move || {
                    let mut imap = walk_to(imap, pieces);
                    imap.end_sending();
                    let (said, closed) = imap.read_to_end(SOON);
                    assert!(closed, "still connected after {pieces:?}: {}", lossy(&said));
                });
            }
        });
        let mut tls = Imap::connect_silently("127.0.0.1", bench.ferry.imaps());
        tls.end_sending();
        assert!(tls.read_to_end(SOON).1, "still connected before TLS");
    });
    // What was begun has not been done.
    assert_eq!(bench.session("u1").select("INBOX").exists, 1);
}

/// A well-mixed soup of everything that means something, and of octets that mean nothing.
fn soup(noise: &mut u64, length: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 32] = [
        b"a ",
        b"b1 ",
        b"* ",
        b"+ ",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\"",
        b"\\",
        b"{3}",
        b"{3+}\r\n",
        b"{0}\r\n",
        b"{99999999999999999999}\r\n",
        b"(",
        b"((((((((",
        b")",
        b"LOGIN ",
        b"u1 ",
        b"AUTHENTICATE PLAIN",
        b"IDLE\r\n",
        b"DONE\r\n",
        b"STARTTLS\r\n",
        b"FETCH 1:* ",
        b"BODY[]",
        b"APPEND INBOX ",
        b"SELECT INBOX\r\n",
        b"NOOP\r\n",
        b"UID ",
        b"\xff\xfe\x80",
        b"[TOOBIG] ",
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
    octets
}

#[test]
fn nonsense_before_and_after_login_ends_and_costs_little() {
    const CLIENTS: u64 = 24;
    let bench = Bench::start();
    bench.session("u1").ok("LOGOUT");
    let before = bench.ferry.peak_rss_kib();
    bench.beside_a_good_session(|| {
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let bench = &bench;
                scope.spawn(move || {
                    let mut noise = number;
                    let mut imap = bench.client();
                    if number % 2 == 0 {
                        // Nonsense in the same segment as the login, and more of it later.
                        let login = b"a LOGIN u1 pw-of-u1\r\n".to_vec();
                        let _ = imap.try_send(&[login, soup(&mut noise, 500)].concat());
                    }
                    let _ = imap.try_send(&soup(&mut noise, 4000));
                    imap.end_sending();
                    let (said, closed) = imap.read_to_end(SOON);
                    assert!(closed, "client {number} is still connected: {}", lossy(&said));
                });
            }
        });
    });
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
    bench.session("u1").ok("NOOP");
}

#[test]
fn a_nul_in_a_login_is_no_password() {
    let bench = Bench::start();
    for command in [
        &b"a LOGIN u1 pw-of-u1\0\r\n"[..],
        b"a LOGIN u1 \"pw-of-u1\0\"\r\n",
        b"a LOGIN \"u1\0\" pw-of-u1\r\n",
        b"a LO\0GIN u1 pw-of-u1\r\n",
        b"\0a LOGIN u1 pw-of-u1\r\n",
        b"a LOGIN u1 {9+}\r\npw-of-u1\0\r\n",
        // u1, NUL, a NUL in the password: in base64.
        b"a AUTHENTICATE PLAIN AHUxAHB3LW9mLXUxAA==\r\n",
    ] {
        let mut imap = bench.client();
        imap.send(command);
        imap.send(b"z NOOP\r\n");
        let (mut said, mut line) = (String::new(), String::new());
        while !line.starts_with("z ") && !line.starts_with("* BYE") {
            line = lossy(&imap.response());
            let _ = writeln!(said, "{line}");
        }
        assert!(!said.contains("a OK"), "{:?}: {said}", lossy(command));
        assert!(said.contains("BAD") || said.contains("NO "), "{:?}: {said}", lossy(command));
    }
    bench.session("u1").ok("NOOP");
}

#[test]
fn ten_thousand_tags_that_nobody_reads_are_all_answered_in_the_end() {
    const TAGS: usize = 10_000;
    let bench = Bench::start();
    let mut imap = bench.session("u1");
    let before = bench.ferry.peak_rss_kib();
    bench.beside_a_good_session(|| {
        let long = "x".repeat(100);
        let commands: String = (0..TAGS).fold(String::new(), |mut text, number| {
            let _ = write!(text, "{long}{number} NOOP\r\n");
            text
        });
        let mut sending = imap.clone_socket();
        let sender = std::thread::spawn(move || sending.write_all(commands.as_bytes()).unwrap());
        for number in 0..TAGS {
            let line = lossy(&imap.response());
            assert!(line.starts_with(&format!("{long}{number} OK")), "{number}: {line}");
        }
        sender.join().unwrap();
    });
    let grown = bench.ferry.peak_rss_kib() - before;
    assert!(grown < NOISE_KIB, "{grown} KiB more");
}

#[test]
fn nested_parentheses_are_no_stack() {
    let bench = Bench::start();
    bench.beside_a_good_session(|| {
        for depth in [100, 3000, 30_000] {
            let (open, close) = ("(".repeat(depth), ")".repeat(depth));
            let mut imap = bench.client();
            let _ = imap.try_send(format!("a ID {open}{close}\r\n").as_bytes());
            let line = lossy(&imap.response());
            assert!(line.starts_with("a BAD"), "{depth}: {line}");
            let mut imap = bench.session("u1");
            imap.select("INBOX");
            imap.send(format!("a SEARCH {open}ALL{close}\r\nb FETCH 1 {open}FLAGS{close}\r\nc NOOP\r\n").as_bytes());
            let mut said = Vec::new();
            // The backend may have enough of it, but it is the one who says so.
            while let Some(line) = imap.try_line() {
                said.push(lossy(&line));
                if said.last().is_some_and(|line| line.starts_with("c ")) {
                    break;
                }
            }
            assert!(said.last().is_some_and(|line| line.starts_with("c OK") || line.starts_with("* BYE")), "{said:?}");
        }
    });
}

#[test]
fn sockets_that_are_never_read_cost_bounded_memory_before_and_after_login() {
    const CLIENTS: usize = 4;
    let bench = Bench::start();
    bench.session("u1").append("INBOX", "", "", &b"0123456789 and so on\r\n".repeat(500_000));
    let (before, port) = (bench.ferry.peak_rss_kib(), bench.ferry.imap());
    bench.beside_a_good_session(|| {
        let stuck: Vec<_> = std::thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|number| scope.spawn(move || stuff(port, number % 2 == 0)));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(stuck.len(), CLIENTS);
    });
    let grown = bench.ferry.peak_rss_kib() - before;
    // Buffers of both directions, each.
    assert!(grown < NOISE_KIB + CLIENTS as u64 * 400, "{grown} KiB more");
}

/// A client that says all it can, until nothing more is taken, and never reads.
fn stuff(port: u16, before_login: bool) -> Socket {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Or the system would take megabytes for it.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let burst = if before_login {
        b"a CAPABILITY\r\n".repeat(2000)
    } else {
        socket.write_all(b"a LOGIN u1 pw-of-u1\r\nb SELECT INBOX\r\n").unwrap();
        b"c FETCH 1 BODY.PEEK[]\r\n".repeat(2000)
    };
    let mut sent = 0;
    while sent < 2000 && socket.write_all(&burst).is_ok() {
        sent += 1;
    }
    assert!(sent < 2000, "nobody stops it");
    socket
}
