//! Limits for each address and each user: strangers pay, nobody else does.

use super::*;

fn with(limits: &'static str) -> Bench {
    Bench::with(quick(&["u1", "u2"]), |spec| {
        spec.extra.push(("limits", limits));
        spec.env.push(("RUST_LOG", "mailferry=debug"));
    })
}

/// What the proxy has said of sessions from `source`, where it waited for something.
fn waits(bench: &Bench, source: &str) -> usize {
    let from = format!("peer={source}:");
    bench.ferry.log().lines().filter(|line| line.contains("a login waits") && line.contains(&from)).count()
}

/// The greeting of a client from `source`, and the client.
fn greeted(bench: &Bench, source: &str) -> Imap {
    Imap::connect_from(source, bench.ferry.imap())
}

#[test]
fn an_address_has_few_places_for_strangers_and_more_for_those_who_have_logged_in() {
    let bench = with("strangers_per_address = 2\nconnections_per_address = 3");
    let mut clients = [greeted(&bench, "127.0.0.3"), greeted(&bench, "127.0.0.3")];
    let refused = greeted(&bench, "127.0.0.3");
    assert!(refused.greeting.starts_with("* BYE [UNAVAILABLE] "), "{}", refused.greeting);
    assert!(greeted(&bench, "127.0.0.4").greeting.starts_with("* OK "), "another address");
    wait_logged(&bench.ferry, "limits.strangers_per_address = 2 is reached");
    for client in &mut clients {
        client.login("u1", "pw-of-u1");
    }
    let third = greeted(&bench, "127.0.0.3");
    assert!(third.greeting.starts_with("* OK "), "{}", third.greeting);
    let refused = greeted(&bench, "127.0.0.3");
    assert!(refused.greeting.starts_with("* BYE [UNAVAILABLE] "), "{}", refused.greeting);
    wait_logged(&bench.ferry, "limits.connections_per_address = 3 is reached");
    clients[0].ok("LOGOUT");
    wait_for("the place of whoever has gone", LONG, || {
        greeted(&bench, "127.0.0.3").greeting.starts_with("* OK ").then_some(())
    });
}

#[test]
fn a_user_has_so_many_sessions_over_both_protocols() {
    let bench = Bench::with(quick(&["u1", "u2"]), |spec| {
        spec.pop3 = true;
        spec.new_pop3 = Some("pop3://127.0.0.1:9".to_owned());
        spec.extra.push(("limits", "sessions_per_user = 2"));
    });
    let mut first = bench.session("u1");
    let _second = bench.session("u1");
    let mut third = bench.client();
    let tagged = third.try_login("u1", "pw-of-u1");
    assert!(tagged.starts_with("NO [LIMIT] "), "{tagged}");
    let mut pop3 = crate::lab::Pop3::connect(bench.ferry.pop3());
    let said = pop3.try_login("u1", "pw-of-u1");
    assert!(said.starts_with("-ERR [SYS/TEMP] "), "{said}");
    third.login("u2", "pw-of-u2");
    first.ok("LOGOUT");
    wait_for("a seat", LONG, || bench.client().try_login("u1", "pw-of-u1").starts_with("OK ").then_some(()));
}

#[test]
fn wrong_passwords_make_whoever_gives_them_wait_and_not_the_user() {
    let bench = with("login_delay = \"2s\"");
    let mut attacker = greeted(&bench, "127.0.0.66");
    for _ in 0..4 {
        assert!(attacker.try_login("u1", "wrong").starts_with("NO [AUTHENTICATIONFAILED] "));
    }
    assert_eq!(waits(&bench, "127.0.0.66"), 1, "three are free");
    wait_logged(&bench.ferry, "a login failed again: the next one from there waits 2s");
    // Whom it was about, from elsewhere; and another one from there, for an address may be an office.
    greeted(&bench, "127.0.0.5").login("u1", "pw-of-u1");
    greeted(&bench, "127.0.0.66").login("u2", "pw-of-u2");
    assert_eq!((waits(&bench, "127.0.0.5"), waits(&bench, "127.0.0.66")), (0, 1));
    // With the right password at last, all is well again.
    attacker.login("u1", "pw-of-u1");
    greeted(&bench, "127.0.0.66").login("u1", "pw-of-u1");
    assert_eq!(waits(&bench, "127.0.0.66"), 2);
}

#[test]
fn a_server_in_trouble_makes_nobody_wait() {
    let mut bench = with("login_delay = \"2s\"");
    bench.server.kill9();
    // (One more, and it would be left alone for a moment.)
    for _ in 0..4 {
        let tagged = greeted(&bench, "127.0.0.3").try_login("u1", "pw-of-u1");
        assert!(tagged.starts_with("NO [UNAVAILABLE] "), "{tagged}");
    }
    bench.server.start_again();
    greeted(&bench, "127.0.0.3").login("u1", "pw-of-u1");
    assert_eq!(waits(&bench, "127.0.0.3"), 0);
}

#[test]
fn logins_that_come_too_fast_wait_for_their_turn_and_get_it() {
    let bench = with("logins_per_second_per_address = 1");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| greeted(&bench, "127.0.0.3").login("u1", "pw-of-u1"));
        }
    });
    assert!(waits(&bench, "127.0.0.3") >= 1, "{}", bench.ferry.log());
    greeted(&bench, "127.0.0.4").login("u1", "pw-of-u1");
    assert_eq!(waits(&bench, "127.0.0.4"), 0);
}

#[test]
fn an_exempt_address_is_many_users() {
    let bench = with("strangers_per_address = 1\nlogins_per_second_per_address = 1\nexempt = [\"127.0.0.9\"]");
    let mut clients: Vec<Imap> = (0..5).map(|_| greeted(&bench, "127.0.0.9")).collect();
    for client in &mut clients {
        assert!(client.greeting.starts_with("* OK "), "{}", client.greeting);
        client.login("u1", "pw-of-u1");
    }
    assert_eq!(waits(&bench, "127.0.0.9"), 0);
}

#[test]
fn a_client_that_talks_and_talks_without_logging_in_is_ended() {
    let bench = with("drain = \"1s\"");
    let mut imap = greeted(&bench, "127.0.0.3");
    let noops = "a NOOP\r\n".repeat(1000);
    let mut reader = imap.clone_socket();
    reader.set_read_timeout(Some(LONG)).unwrap();
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut reader, &mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    // What we say when it has been told goes nowhere.
    let _ = (0..1000).all(|_| imap.try_send(noops.as_bytes()).is_ok());
    let said = reading.join().unwrap();
    assert!(said.contains("* BYE Too much was said without logging in."), "{:?}", said.lines().last());
    let answered = said.matches("a OK ").count();
    assert!(answered < 70_000, "{answered} of a million commands were answered");
    greeted(&bench, "127.0.0.3").login("u1", "pw-of-u1");
}
