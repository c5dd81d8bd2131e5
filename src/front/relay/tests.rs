//! The relay between two sockets, with scripted peers.

use std::future::Future;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::front::Drain;
use crate::mailbox::Side;
use crate::net::ConnectionSlots;
use crate::store::Store;
use crate::user::{Close, NameRules, Protocol, Registry, UserGate};

/// Far above what any of this takes, far below the relay's own patience with a peer that has gone.
const SOON: Duration = Duration::from_secs(15);

async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// A relay at work, and what its two peers hold.
struct Stage {
    client: TcpStream,
    backend: TcpStream,
    relay: JoinHandle<Moved>,
    /// The gate of the relay's user: open on no session when the relay has let its pass go.
    gate: UserGate,
    shutdown: watch::Sender<bool>,
}

async fn stage(pipelined: &'static [u8], said: &'static [u8]) -> Stage {
    stage_ending(pipelined, said, Drain::at_once()).await
}

async fn stage_ending(pipelined: &'static [u8], said: &'static [u8], drain: Drain) -> Stage {
    let ((client, ours), (backend, theirs)) = (socket_pair().await, socket_pair().await);
    let (shutdown, ends) = watch::channel(false);
    let ends = Ending::new(ends, drain);
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Store::open(&folder.path().join("s.db")).unwrap(), None);
    let user = NameRules::default().canonical("u1");
    let gate = registry.gate(&user).await.unwrap();
    let pass = registry.attempt(&user, Protocol::Imap, SOON).await.unwrap().admit(SOON).await.unwrap();
    let relay = tokio::spawn(async move {
        let backend = (Stream::Plain(theirs), BytesMut::from(said));
        run(Stream::Plain(ours), backend, pipelined, ends, pass).await
    });
    Stage { client, backend, relay, gate, shutdown }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("took too long")
}

/// Reads exactly `expected`.
async fn expect(stream: &mut TcpStream, expected: &str) {
    let mut read = vec![0; expected.len()];
    soon(stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), expected);
}

/// Reads to the end.
async fn expect_end(stream: &mut TcpStream, expected: &str) {
    let mut read = Vec::new();
    soon(stream.read_to_end(&mut read)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), expected);
}

async fn say(stream: &mut TcpStream, words: &str) {
    stream.write_all(words.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn what_was_said_before_the_relay_began_goes_first() {
    let mut at = stage(b"a1 NOOP\r\na2 ", b"* 1 EXISTS\r\n").await;
    expect(&mut at.backend, "a1 NOOP\r\n").await;
    expect(&mut at.client, "* 1 EXISTS\r\n").await;
    say(&mut at.client, "LOGOUT\r\n").await;
    expect(&mut at.backend, "a2 LOGOUT\r\n").await;
    say(&mut at.backend, "a1 OK\r\n* BYE\r\na2 OK\r\n").await;
    drop(at.backend);
    expect_end(&mut at.client, "a1 OK\r\n* BYE\r\na2 OK\r\n").await;
    drop(at.client);
    let moved = soon(at.relay).await.unwrap();
    assert_eq!((moved.to_backend, moved.to_client), (20, 33));
    assert_eq!(moved.why, Why::LoggedOut.as_str());
}

#[tokio::test]
async fn the_pass_lives_until_the_backend_has_closed_and_no_longer() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 STORE 1 FLAGS ()\r\n").await;
    expect(&mut at.backend, "a1 STORE 1 FLAGS ()\r\n").await;
    // The client resets its connection: unread octets make the system do that.
    say(&mut at.backend, "* 1 FETCH (FLAGS ())\r\n").await;
    at.client.readable().await.unwrap();
    drop(at.client);
    say(&mut at.backend, "a1 OK\r\n").await;
    expect_end(&mut at.backend, "").await;
    // The backend knows that nothing more will come, but may still be at work.
    tokio::select! {
        () = at.gate.idle() => panic!("the session counted no longer while the backend was at work"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    drop(at.backend);
    soon(at.gate.idle()).await;
    assert_eq!(soon(at.relay).await.unwrap().why, Why::ClientGone.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_time_to_leave_keeps_nobody_from_being_moved() {
    let mut at = stage(b"", b"").await;
    let since = Instant::now();
    say(&mut at.backend, "* BYE\r\n").await;
    drop(at.backend);
    soon(at.gate.idle()).await;
    assert!(since.elapsed() < drain::CLIENT, "{:?}", since.elapsed());
    assert_eq!(at.relay.await.unwrap().why, Why::LoggedOut.as_str());
    assert!(since.elapsed() >= drain::CLIENT, "{:?}", since.elapsed());
    expect_end(&mut at.client, "* BYE\r\n").await;
}

#[tokio::test]
async fn a_client_that_can_get_no_more_answers_is_gone_at_once() {
    for (words, answer) in [
        ("a1 NOOP\r\na2 IDLE\r\n", "a1 OK\r\n+ idling\r\n"),
        ("a1 NOOP\r\na2 APPEND x {9}\r\n", "a1 OK\r\n+ go on\r\n"),
        ("a1 NOOP\r\na2 APPEND x {9+}\r\nabc", "a1 OK\r\n"),
        ("a1 NOOP\r\na2 NOOP x", "a1 OK\r\n"),
    ] {
        let mut at = stage(b"", b"").await;
        say(&mut at.client, words).await;
        expect(&mut at.backend, words).await;
        say(&mut at.backend, answer).await;
        expect(&mut at.client, answer).await;
        drop(at.client);
        expect_end(&mut at.backend, "").await;
        drop(at.backend);
        assert_eq!(soon(at.relay).await.unwrap().why, Why::ClientGone.as_str(), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_may_wait_as_long_as_any_other() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 NOOP\r\n").await;
    at.client.shutdown().await.unwrap();
    expect(&mut at.backend, "a1 NOOP\r\n").await;
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    say(&mut at.backend, "a1 OK\r\n").await;
    expect_end(&mut at.client, "a1 OK\r\n").await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answers() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 NOOP\r\na2 NOOP\r\n").await;
    at.client.shutdown().await.unwrap();
    expect(&mut at.backend, "a1 NOOP\r\na2 NOOP\r\n").await;
    say(&mut at.backend, "a1 OK\r\n").await;
    expect(&mut at.client, "a1 OK\r\n").await;
    say(&mut at.backend, "a2 OK\r\n").await;
    expect_end(&mut at.client, "a2 OK\r\n").await;
}

#[tokio::test]
async fn a_lost_backend_is_told_only_where_a_line_can_begin() {
    let mut at = stage(b"", b"").await;
    say(&mut at.backend, "* 1 EXISTS\r\n").await;
    drop(at.backend);
    expect_end(&mut at.client, &format!("* 1 EXISTS\r\n{}", String::from_utf8_lossy(LOST))).await;

    // Inside a literal; inside a line that passes; inside one that is held back to be read whole.
    for torn in ["* 1 FETCH (BODY[] {50}\r\nabc\r\n", "* SEARCH 1 2", "* CAPABILITY IMAP4rev1 COMPRESS"] {
        let mut at = stage(b"", b"").await;
        say(&mut at.backend, torn).await;
        drop(at.backend);
        expect_end(&mut at.client, torn).await;
    }
}

#[tokio::test]
async fn when_the_server_ends_a_session_ends_at_a_boundary() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 NOOP\r\n").await;
    expect(&mut at.backend, "a1 NOOP\r\n").await;
    at.shutdown.send(true).unwrap();
    say(&mut at.backend, "* 2 EXISTS\r\n").await;
    expect(&mut at.client, "* 2 EXISTS\r\n").await;
    say(&mut at.backend, "a1 OK\r\n").await;
    expect_end(&mut at.client, &format!("a1 OK\r\n{}", String::from_utf8_lossy(GOING_DOWN))).await;
    expect_end(&mut at.backend, "").await;
    drop((at.client, at.backend));
    assert_eq!(soon(at.relay).await.unwrap().why, Why::ServerEnds.as_str());
}

#[tokio::test(start_paused = true)]
async fn among_many_a_session_goes_on_until_it_is_its_turn_to_end() {
    let drain = Drain { limit: Duration::from_secs(600), slots: ConnectionSlots::new(60_000) };
    let _others: Vec<_> = (0..60_000).map(|_| drain.slots.take().unwrap()).collect();
    let mut at = stage_ending(b"", b"", drain).await;
    let begun = Instant::now();
    at.shutdown.send(true).unwrap();
    // Once in 60,000 runs its turn comes within the 10 ms that this could take, were the clock not paused.
    say(&mut at.client, "a1 NOOP\r\n").await;
    expect(&mut at.backend, "a1 NOOP\r\n").await;
    say(&mut at.backend, "a1 OK\r\n").await;
    expect(&mut at.client, "a1 OK\r\n").await;
    let mut words = String::new();
    at.client.read_to_string(&mut words).await.unwrap();
    assert_eq!(words.as_bytes(), GOING_DOWN);
    assert!(begun.elapsed() <= Duration::from_secs(601), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_the_server_ends_a_command_that_never_ends_is_cut_off() {
    let mut at = stage(b"a1 SEARCH ALL\r\n", b"").await;
    expect(&mut at.backend, "a1 SEARCH ALL\r\n").await;
    at.shutdown.send(true).unwrap();
    expect_end(&mut at.client, &String::from_utf8_lossy(GOING_DOWN)).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_lives_longer_than_half_an_hour_and_not_for_ever() {
    let mut at = stage(b"", b"").await;
    let since = Instant::now();
    let (told, heard) = oneshot::channel();
    tokio::spawn(async move {
        let mut words = String::new();
        at.client.read_to_string(&mut words).await.unwrap();
        told.send(words).unwrap();
    });
    assert_eq!(heard.await.unwrap().as_bytes(), TOO_QUIET);
    assert!(since.elapsed() >= Duration::from_secs(30 * 60), "{:?}", since.elapsed());
}

#[tokio::test]
async fn large_octets_pass_both_ways_at_once_unchanged() {
    const COUNT: usize = 5_000_000;
    let octets: Vec<u8> = (0..COUNT).map(|n| (n % 251) as u8).collect();
    let at = stage(b"", b"").await;
    let append = [format!("a1 APPEND x {{{COUNT}+}}\r\n").as_bytes(), &octets, b"\r\n"].concat();
    let fetch = [format!("* 1 FETCH (BODY[] {{{COUNT}}}\r\n").as_bytes(), &octets, b")\r\n"].concat();
    let both = |mut stream: TcpStream, out: Vec<u8>, expected: usize| async move {
        let (mut reader, mut writer) = stream.split();
        let mut read = vec![0; expected];
        let (written, taken) = tokio::join!(writer.write_all(&out), reader.read_exact(&mut read));
        written.unwrap();
        taken.unwrap();
        (read, stream)
    };
    let (to_backend, to_client) = (append.len(), fetch.len());
    let client = tokio::spawn(both(at.client, append.clone(), to_client));
    let backend = tokio::spawn(both(at.backend, fetch.clone(), to_backend));
    let (client, backend) = tokio::join!(client, backend);
    let ((client_read, client), (backend_read, backend)) = (client.unwrap(), backend.unwrap());
    assert!(client_read == fetch && backend_read == append);
    drop(client);
    drop(backend);
    let moved = soon(at.relay).await.unwrap();
    assert_eq!(moved.to_backend, to_backend as u64);
    assert!(moved.to_client >= to_client as u64);
}

#[tokio::test]
async fn what_a_backend_has_sent_of_a_message_arrives_though_it_breaks_off() {
    const SENT: usize = 3_000_000;
    let octets: Vec<u8> = (0..SENT).map(|n| (n % 251) as u8).collect();
    let begun = [format!("* 1 FETCH (BODY[] {{{}}}\r\n", 2 * SENT).as_bytes(), &octets].concat();
    let mut at = stage(b"", b"").await;
    let backend = async {
        at.backend.write_all(&begun).await.unwrap();
        drop(at.backend);
    };
    let client = async {
        let mut heard = Vec::new();
        soon(at.client.read_to_end(&mut heard)).await.unwrap();
        heard
    };
    let ((), heard) = tokio::join!(backend, client);
    assert!(heard == begun, "{} of {} octets, and nothing of ours in the middle", heard.len(), begun.len());
    drop(at.client);
    let moved = soon(at.relay).await.unwrap();
    assert_eq!((moved.to_client, moved.why), (begun.len() as u64, Why::BackendGone.as_str()));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_message_is_gone() {
    let mut at = stage(b"", b"").await;
    let begun = [&b"* 1 FETCH (BODY[] {99999999}\r\n"[..], &vec![b'x'; 9_000_000]].concat();
    let client = async {
        at.client.read_exact(&mut vec![0; 100_000]).await.unwrap();
        drop(at.client);
    };
    let backend = async {
        // Whether it is taken to its end or not.
        let _ = at.backend.write_all(&begun).await;
        drop(at.backend);
    };
    soon(async { tokio::join!(client, backend) }).await;
    assert_eq!(soon(at.relay).await.unwrap().why, Why::ClientGone.as_str());
}

async fn quiet_pair() -> (Pair, [TcpStream; 2]) {
    let ((client, ours), (backend, theirs)) = (socket_pair().await, socket_pair().await);
    let peer = |tcp| Peer::new(Stream::Plain(tcp), BytesMut::new());
    let pair = Pair { client: peer(ours), backend: peer(theirs), relay: Relay::new(), torn: false, ends_by: None };
    (pair, [client, backend])
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_no_more_than_its_buffers() {
    let (mut pair, _others) = quiet_pair().await;
    for _ in 0..10_000 {
        if pair.client.may_be_read(&pair.backend) {
            // What we answer ourselves, where each answer is longer than the command.
            pair.client.input.extend_from_slice(&b"a COMPRESS\r\n".repeat(100));
        }
        if pair.backend.may_be_read(&pair.client) {
            pair.backend.input.extend_from_slice(&b"* OK still here\r\n".repeat(100));
        }
        assert_eq!(pair.shuffle(true), None);
    }
    assert!(!pair.client.may_be_read(&pair.backend) && !pair.backend.may_be_read(&pair.client));
    let held = pair.client.input.len() + pair.client.output.len() + pair.backend.input.len();
    assert!((ANSWERS..512 * 1024).contains(&held), "{held}");
}

#[tokio::test]
async fn a_command_that_a_client_has_sent_whole_is_passed_whole_though_the_client_has_closed() {
    let (mut pair, _others) = quiet_pair().await;
    let announced = "a1 APPEND x {400000+}\r\n";
    pair.client.input.extend_from_slice(format!("{announced}{}\r\n", "x".repeat(400_000)).as_bytes());
    // In two pieces, as the tracker passes each up to its end.
    let rest = pair.client.input.split_off(OUTPUT);
    assert_eq!((pair.shuffle(true), pair.client.input.len()), (None, 0));
    pair.client.input = rest;
    pair.client.ended = true;
    let mut passed = 0;
    loop {
        assert_eq!((pair.shuffle(true), pair.over()), (None, None), "after {passed} octets");
        if pair.backend.output.is_empty() {
            break;
        }
        passed += pair.backend.output.split().len();
    }
    assert_eq!(passed, announced.len() + 400_002);
    assert_eq!(pair.relay.answers_due(), 1);
}

#[tokio::test]
async fn a_backend_that_does_not_read_costs_no_more_than_its_buffers() {
    let (mut pair, _others) = quiet_pair().await;
    pair.client.input.extend_from_slice(b"a APPEND x {999999999+}\r\n");
    for _ in 0..10_000 {
        if pair.client.may_be_read(&pair.backend) {
            pair.client.input.extend_from_slice(&[b'x'; 1000]);
        }
        assert_eq!(pair.shuffle(true), None);
    }
    assert!(!pair.client.may_be_read(&pair.backend));
    let held = pair.client.input.len() + pair.backend.output.len();
    assert!((OUTPUT..256 * 1024).contains(&held), "{held}");
}

#[tokio::test]
async fn the_client_is_told_nothing_in_the_middle_of_a_response() {
    let (mut pair, _others) = quiet_pair().await;
    pair.backend.input.extend_from_slice(b"* 1 FETCH (BODY[] {9}\r\nabc");
    assert_eq!(pair.shuffle(true), None);
    pair.client.input.extend_from_slice(&[b'x'; 4096]);
    assert_eq!(pair.shuffle(true), Some(Why::Unfit), "a tag without end");
    for why in [Why::BackendGone, Why::ServerEnds, Why::Silence, Why::Unfit] {
        pair.farewell(why);
    }
    assert!(!String::from_utf8_lossy(&pair.client.output).contains("BYE"));
}

/// Closes the gate, which must succeed.
async fn closed(gate: &UserGate) -> crate::user::GateGuard<'_> {
    gate.close(Close::Live, Instant::now() + SOON).await.unwrap()
}

#[tokio::test]
async fn a_closed_gate_holds_commands_and_an_opened_one_lets_them_go_on() {
    let mut at = stage(b"", b"").await;
    let guard = closed(&at.gate).await;
    say(&mut at.client, "a1 NOOP\r\n").await;
    // What the backend says by itself still passes.
    say(&mut at.backend, "* 1 EXISTS\r\n").await;
    expect(&mut at.client, "* 1 EXISTS\r\n").await;
    let mut heard = [0];
    tokio::select! {
        biased;
        read = at.backend.read(&mut heard) => panic!("a command got through a closed gate: {read:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    drop(guard);
    expect(&mut at.backend, "a1 NOOP\r\n").await;
    say(&mut at.backend, "a1 OK\r\n").await;
    expect(&mut at.client, "a1 OK\r\n").await;
    drop(closed(&at.gate).await);
}

#[tokio::test]
async fn a_gate_waits_for_what_the_client_has_begun() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 APPEND x {4}\r\n").await;
    expect(&mut at.backend, "a1 APPEND x {4}\r\n").await;
    let closing = async { at.gate.close(Close::Live, Instant::now() + SOON).await.map(drop).unwrap() };
    let client = async {
        let finish = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            say(&mut at.backend, "+ go\r\n").await;
            expect(&mut at.client, "+ go\r\n").await;
            say(&mut at.client, "abcd\r\na2 NOOP\r\n").await;
            expect(&mut at.backend, "abcd\r\na2 NOOP\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        finish.await;
    };
    tokio::pin!(closing);
    tokio::select! {
        () = &mut closing => panic!("closed in the middle of two commands"),
        () = client => {}
    }
    say(&mut at.backend, "a1 OK\r\na2 OK\r\n").await;
    soon(closing).await;
    expect(&mut at.client, "a1 OK\r\na2 OK\r\n").await;
}

#[tokio::test]
async fn a_session_in_idle_stands_still_and_ends_only_after_the_switch() {
    let mut at = stage(b"", b"").await;
    say(&mut at.client, "a1 IDLE\r\n").await;
    expect(&mut at.backend, "a1 IDLE\r\n").await;
    say(&mut at.backend, "+ idling\r\n").await;
    expect(&mut at.client, "+ idling\r\n").await;
    drop(closed(&at.gate).await);
    let guard = closed(&at.gate).await;
    say(&mut at.client, "DONE\r\n").await;
    let mut heard = [0];
    tokio::select! {
        biased;
        read = at.client.read(&mut heard) => panic!("told something before the transaction: {read:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    guard.open_on(Side::New, 1);
    let mut told = vec![0; MOVED.len()];
    soon(at.client.read_exact(&mut told)).await.unwrap();
    assert_eq!(told, MOVED);
    expect_end(&mut at.backend, "").await;
    drop(at.backend);
    assert_eq!(soon(at.relay).await.unwrap().why, Why::Moved.as_str());
}
