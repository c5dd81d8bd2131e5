//! How sessions end: by the backend, by the client, by the server. Only QUIT deletes anything (RFC 1939 §6).

use std::net::Shutdown;

use super::*;

/// At once, not when some patience has run out: a phone that loses its network would keep its user from being moved.
const AT_ONCE: Duration = Duration::from_secs(15);

/// What the proxy logs of each session that has ended.
const ENDED: &str = "POP3 session ended: ";

/// The last line before the end of the connection.
fn last_words(pop3: &mut Pop3) -> String {
    let said = String::from_utf8(pop3.read_to_end()).unwrap();
    assert!(said.ends_with("\r\n"), "{said:?}");
    said.lines().last().unwrap().to_owned()
}

fn encrypted(bench: &Bench, user: &str) -> Pop3 {
    let mut pop3 = Pop3::connect_tls(bench.ferry.pop3s(), &bench.ferry.tls().ca);
    pop3.login(user, bench.server.password(user));
    pop3
}

/// How many messages `user` has, asked past the proxy.
fn messages(bench: &Bench, user: &str) -> usize {
    let mut direct = bench.direct(user);
    let count = direct.ok("STAT").split(' ').next().unwrap().parse().unwrap();
    direct.quit();
    count
}

#[test]
fn a_backend_that_dies_ends_its_sessions_with_a_temporary_trouble() {
    let mut bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    let mut sessions = [bench.session("u1"), encrypted(&bench, "u1")];
    sessions[0].ok("DELE 1");
    // Killed while it opens a maildrop, a server may leave a lock behind.
    sessions[1].ok("STAT");
    let mut waiting = bench.client();
    bench.server.kill9();
    for pop3 in &mut sessions {
        assert_eq!(last_words(pop3), "-ERR [SYS/TEMP] The connection to the mail server was lost, connect again.");
    }
    bench.ferry.wait_logged_times(ENDED, 2, LONG);
    // Whoever had not logged in yet has lost nothing, and nobody has lost a message.
    bench.server.start_again();
    waiting.login("u1", "pw-of-u1");
    assert!(waiting.ok("STAT").starts_with("1 "));
}

#[test]
fn a_backend_that_dies_within_a_message_ends_it_without_a_word() {
    let mut bench = Bench::start(&["u1"]);
    let raw = large(20_000_000);
    let mut imap = Imap::connect(bench.server.imap_port());
    imap.login("u1", "pw-of-u1");
    imap.append("INBOX", "", "", &raw);
    let mut pop3 = bench.session("u1");
    pop3.send(b"RETR 1\r\n");
    assert!(pop3.wire().hears_within(LONG));
    bench.server.kill9();
    let said = pop3.read_to_end();
    // Anything behind it would be taken for a part of the message.
    assert!(said.len() < raw.len() && !String::from_utf8_lossy(&said).contains("[SYS/TEMP]"), "{}", said.len());
}

#[test]
fn a_backend_that_says_itself_why_it_ends_is_not_contradicted() {
    let bench = Bench::start(&["u1"]);
    let (mut own, mut through) = (bench.direct("u1"), bench.session("u1"));
    bench.wait_counted("u1", 2);
    bench.server.doveadm_ok(&["kick", "u1"]);
    let own = String::from_utf8(own.read_to_end()).unwrap();
    let through = String::from_utf8(through.read_to_end()).unwrap();
    assert!(own.starts_with("-ERR "), "{own}");
    assert_eq!(through, own);
    let mut pop3 = bench.session("u1");
    pop3.send(b"QUIT\r\n");
    assert_eq!(pop3.read_to_end(), b"+OK Logging out.\r\n");
}

#[test]
fn a_sigterm_tells_everybody_deletes_nothing_and_the_process_ends_by_itself() {
    let mut bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    let (mut half, mut deleting) = (bench.session("u1"), bench.session("u1"));
    half.send(b"NOO");
    deleting.ok("DELE 1");
    let mut named = bench.client();
    named.ok("USER u1");
    let tls = Pop3::connect_tls(bench.ferry.pop3s(), &bench.ferry.tls().ca);
    let mut clients = [bench.client(), named, tls, bench.session("u1"), encrypted(&bench, "u1"), half, deleting];
    assert!(bench.ferry.stop(), "it ended by itself:\n{}", bench.ferry.log());
    for pop3 in &mut clients {
        assert_eq!(last_words(pop3), "-ERR [SYS/TEMP] The server is going down, connect again.");
    }
    assert_eq!(messages(&bench, "u1"), 1);
    bench.ferry.start_again();
    assert!(bench.session("u1").ok("STAT").starts_with("1 "));
}

#[test]
fn a_sigterm_lets_a_message_finish() {
    let mut bench = Bench::start(&["u1"]);
    let raw = large(20_000_000);
    let mut imap = Imap::connect(bench.server.imap_port());
    imap.login("u1", "pw-of-u1");
    imap.append("INBOX", "", "", &raw);
    let mut pop3 = bench.session("u1");
    pop3.send(b"RETR 1\r\n");
    // It has begun and is far longer than all buffers on the way.
    assert!(pop3.wire().hears_within(LONG));
    let reading = std::thread::spawn(move || pop3.read_to_end());
    assert!(bench.ferry.stop());
    let said = reading.join().unwrap();
    let words = b"\r\n.\r\n-ERR [SYS/TEMP] The server is going down, connect again.\r\n";
    assert!(said.len() > raw.len() && said.ends_with(words));
}

#[test]
fn only_quit_deletes() {
    let bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    deliver(&bench.server, "u1", &numbered(2));
    let mut left = 0;
    for (last, sessions) in [
        ("", [bench.session("u1"), encrypted(&bench, "u1")]),
        ("QUIT", [bench.session("u1"), encrypted(&bench, "u1")]),
        ("RSET\r\nQUIT\r\n", [bench.session("u1"), encrypted(&bench, "u1")]),
    ] {
        for (mut pop3, politely) in sessions.into_iter().zip([true, false]) {
            pop3.ok("DELE 1");
            pop3.send(last.as_bytes());
            let socket = pop3.wire().clone_socket();
            if politely {
                socket.shutdown(Shutdown::Write).unwrap();
                pop3.read_to_end();
            } else {
                // With a reset instead of a FIN.
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop((pop3, socket));
            left += 1;
            bench.ferry.wait_logged_times(ENDED, left, LONG);
            assert_eq!(messages(&bench, "u1"), 2, "{last:?} {politely}");
        }
    }
    let log_in: [fn(&Bench, &str) -> Pop3; 2] = [Bench::session, encrypted];
    for log_in in log_in {
        let mut pop3 = log_in(&bench, "u1");
        pop3.ok("DELE 1");
        pop3.quit();
    }
    assert_eq!(messages(&bench, "u1"), 0);
    // A QUIT was said, whether its answer is waited for or not.
    deliver(&bench.server, "u1", &numbered(3));
    let mut hurried = bench.session("u1");
    hurried.send(b"DELE 1\r\nQUIT\r\n");
    drop(hurried);
    wait_for("the message to go", LONG, || (messages(&bench, "u1") == 0).then_some(()));
}

#[test]
fn a_client_that_goes_away_leaves_no_session_behind() {
    let bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &large(3_000_000));
    let mut torn = vec![bench.session("u1"), encrypted(&bench, "u1")];
    // These have begun what they will never end, and this one has never listened.
    for words in ["RET", "TOP 1 ", "RETR 1\r\n"] {
        let mut pop3 = bench.session("u1");
        pop3.send(words.as_bytes());
        torn.push(pop3);
    }
    drop(torn);
    bench.ferry.wait_logged_times(ENDED, 5, AT_ONCE);
    let gone = || bench.server.log().matches("pop3(u1)").count() >= 5;
    wait_for("the backend to notice", AT_ONCE, || gone().then_some(()));
    assert!(bench.session("u1").ok("STAT").starts_with("1 "));
}

#[test]
fn above_the_limit_of_connections_one_is_told_and_the_next_one_fits() {
    let bench = Bench::with(quick(&["u1"]), |spec, _| spec.extra.push(("limits", "connections = 3")));
    let places = wait_for("the start's own look to be over", LONG, || {
        let mut clients: Vec<Pop3> = Vec::new();
        while clients.len() < 3 {
            let pop3 = bench.client();
            if !pop3.greeting.starts_with("+OK ") {
                return None;
            }
            clients.push(pop3);
        }
        Some(clients)
    });
    for _ in 0..3 {
        let mut refused = bench.client();
        assert_eq!(refused.greeting, "-ERR [SYS/TEMP] Too many connections, try again later.");
        assert_eq!(refused.line(), "");
    }
    // Inside TLS nothing can be said, and IMAP shares the places.
    let (said, closed) = Imap::connect_silently("127.0.0.1", bench.ferry.pop3s()).read_to_end(LONG);
    assert!(said.is_empty() && closed);
    assert!(Imap::connect(bench.ferry.imap()).greeting.starts_with("* BYE [UNAVAILABLE] "));
    let mut places = places.into_iter();
    let (mut first, second) = (places.next().unwrap(), places.next().unwrap());
    drop(second);
    let mut next = wait_for("a place", LONG, || Some(bench.client()).filter(|pop3| pop3.greeting.starts_with("+OK ")));
    for pop3 in [&mut first, &mut next] {
        pop3.login("u1", "pw-of-u1");
    }
}
