//! How sessions end: by the backend, by the client, by the server.

use super::*;

/// The last line before the end of the connection.
fn last_words(imap: &mut Imap) -> String {
    let (said, closed) = imap.read_to_end(LONG);
    let text = String::from_utf8_lossy(&said).into_owned();
    assert!(closed && text.ends_with("\r\n"), "{text:?}");
    text.lines().last().unwrap().to_owned()
}

fn idling(mut imap: Imap) -> Imap {
    imap.select("INBOX");
    imap.start("IDLE");
    assert!(say(&mut imap).starts_with("+ "));
    imap
}

#[test]
fn a_backend_that_dies_ends_its_sessions_with_a_bye() {
    let mut bench = Bench::start(&["u1"]);
    let mut tls = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
    tls.login("u1", "pw-of-u1");
    let mut sessions = [bench.session("u1"), idling(bench.session("u1")), tls];
    let mut waiting = bench.client();
    bench.server.kill9();
    for imap in &mut sessions {
        let words = last_words(imap);
        assert!(words.starts_with("* BYE [UNAVAILABLE] "), "{words}");
    }
    // Whoever had not logged in yet has lost nothing.
    bench.server.start_again();
    waiting.login("u1", "pw-of-u1");
}

#[test]
fn a_backend_that_says_bye_itself_is_not_contradicted() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.session("u1");
    imap.send(b"a LOGOUT\r\n");
    let (said, closed) = imap.read_to_end(LONG);
    let text = String::from_utf8_lossy(&said);
    assert!(closed && text.matches("* BYE").count() == 1 && text.ends_with("\r\n"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("a OK "));
}

#[test]
fn a_sigterm_says_bye_to_everybody_and_the_process_ends_by_itself() {
    let mut bench = Bench::start(&["u1"]);
    let mut tls = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
    tls.login("u1", "pw-of-u1");
    let mut half = bench.session("u1");
    half.send(b"a NOOP");
    let mut clients = [bench.client(), bench.session("u1"), idling(bench.session("u1")), tls, half];
    assert!(bench.ferry.stop(), "it ended by itself:\n{}", bench.ferry.log());
    for imap in &mut clients {
        let words = last_words(imap);
        assert!(words.starts_with("* BYE [UNAVAILABLE] "), "{words}");
    }
    bench.ferry.start_again();
    bench.session("u1").ok("NOOP");
}

#[test]
fn a_sigterm_lets_a_command_finish() {
    let mut bench = Bench::start(&["u1"]);
    let big = message(20_000_000);
    bench.direct("u1").append("INBOX", "", "", &big);
    let mut imap = bench.session("u1");
    imap.select("INBOX");
    imap.send(b"a FETCH 1 BODY.PEEK[]\r\n");
    // The response has begun and is far longer than all buffers on the way.
    assert!(imap.hears_within(LONG));
    let reading = std::thread::spawn(move || {
        let response = imap.response();
        (crate::lab::imap::literal(&response), imap.finish("a").0, last_words(&mut imap))
    });
    assert!(bench.ferry.stop());
    let (body, tagged, words) = reading.join().unwrap();
    assert!(body.is_some_and(|body| body == big) && tagged.starts_with("OK "), "{tagged}");
    assert!(words.starts_with("* BYE [UNAVAILABLE] "), "{words}");
}

#[test]
fn a_client_that_goes_away_leaves_no_session_behind() {
    let bench = Bench::start(&["u1"]);
    let sessions = [idling(bench.session("u1")), bench.session("u1"), {
        let mut tls = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
        tls.login("u1", "pw-of-u1");
        idling(tls)
    }];
    // These have begun what they will never end.
    let torn = ["a APPEND INBOX {100}\r\n", "a APPEND INBOX {100+}\r\nSubject: x", "a SELECT INBOX"].map(|words| {
        let mut imap = bench.session("u1");
        imap.send(words.as_bytes());
        imap
    });
    drop((sessions, torn));
    // At once, not when some patience has run out: a phone that loses its network would keep its user from being moved.
    let limit = Duration::from_secs(15);
    bench.ferry.wait_logged_times("session ended: ", 6, limit);
    wait_for("the backend to notice", limit, || (bench.server.log().matches("imap(u1)").count() >= 6).then_some(()));
    let mut check = bench.session("u1");
    assert_eq!(check.select("INBOX").exists, 0);
}

#[test]
fn above_the_limit_of_connections_one_is_told_and_the_next_one_fits() {
    let bench = Bench::with(quick(&["u1"]), |spec| spec.extra.push(("limits", "connections = 3")));
    let places = wait_for("the start's own look to be over", LONG, || {
        let mut clients: Vec<Imap> = Vec::new();
        while clients.len() < 3 {
            let imap = bench.client();
            if !imap.greeting.starts_with("* OK ") {
                return None;
            }
            clients.push(imap);
        }
        Some(clients)
    });
    for _ in 0..3 {
        let mut refused = bench.client();
        assert!(refused.greeting.starts_with("* BYE [UNAVAILABLE] "), "{}", refused.greeting);
        assert_eq!(refused.try_line(), None);
    }
    let mut places = places.into_iter();
    let (mut first, second) = (places.next().unwrap(), places.next().unwrap());
    drop(second);
    let mut next = wait_for("a place", LONG, || Some(bench.client()).filter(|imap| imap.greeting.starts_with("* OK ")));
    for imap in [&mut first, &mut next] {
        imap.login("u1", "pw-of-u1");
    }
}
