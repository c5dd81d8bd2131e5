//! The relay between two sockets, with scripted peers.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::front::Drain;
use crate::front::pop3::share::{ALL_MAX, HeldLists};
use crate::store::Store;
use crate::user::{NameRules, Protocol, Registry, UserGate};

/// Far above what any of this takes, far below the relay's own patience with a peer that has gone.
const SOON: Duration = Duration::from_secs(15);

/// A relay at work, and what its two peers hold.
struct Stage {
    client: TcpStream,
    backend: TcpStream,
    relay: JoinHandle<Moved>,
    /// The gate of the relay's user: open on no session when the relay has let its pass go.
    gate: UserGate,
    harvests: mpsc::Receiver<Harvest>,
    shutdown: watch::Sender<bool>,
}

async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

async fn stage(pipelined: &'static [u8]) -> Stage {
    stage_among(pipelined, &HeldLists::default()).await
}

/// Among other sessions that hold lists.
async fn stage_among(pipelined: &'static [u8], held: &HeldLists) -> Stage {
    let share = held.share();
    let ((client, ours), (backend, theirs)) = (socket_pair().await, socket_pair().await);
    let (shutdown, ends) = watch::channel(false);
    let ends = Ending::new(ends, Drain::at_once());
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Store::open(&folder.path().join("s.db")).unwrap(), None);
    let user = NameRules::default().canonical("u1");
    let gate = registry.gate(&user).await.unwrap();
    let pass = registry.attempt(&user, Protocol::Pop3, SOON).await.unwrap().admit(SOON).await.unwrap();
    let (give, harvests) = mpsc::channel(4);
    let relay = tokio::spawn(async move {
        let backend = (Stream::Plain(theirs), BytesMut::new());
        let wanted = Wanted { give: |harvest| give.try_send(harvest).unwrap(), share };
        run(Stream::Plain(ours), backend, pipelined, ends, pass, Some(wanted)).await
    });
    Stage { client, backend, relay, gate, harvests, shutdown }
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
async fn a_session_to_its_end_and_its_harvest() {
    let mut at = stage(b"STAT\r\nUI").await;
    expect(&mut at.backend, "STAT\r\n").await;
    say(&mut at.client, "DL\r\nLIST\r\nDELE 1\r\nQUIT\r\n").await;
    expect(&mut at.backend, "UIDL\r\nLIST\r\nDELE 1\r\nQUIT\r\n").await;
    let answers = "+OK 1 5\r\n+OK\r\n1 a\r\n.\r\n+OK\r\n1 5\r\n.\r\n+OK\r\n+OK bye\r\n";
    say(&mut at.backend, answers).await;
    drop(at.backend);
    expect_end(&mut at.client, answers).await;
    drop(at.client);
    assert_eq!(soon(at.relay).await.unwrap().why, Why::LoggedOut.as_str());
    assert!(at.harvests.recv().await.is_none(), "DELE came before the lists were complete");

    let mut at = stage(b"LIST\r\nUIDL\r\n").await;
    say(&mut at.backend, "+OK\r\n1 5\r\n.\r\n+OK\r\n1 a\r\n.\r\n").await;
    let harvest = soon(at.harvests.recv()).await.unwrap();
    assert_eq!((harvest.uidls, harvest.sizes), (vec![(1, b"a".to_vec())], vec![(1, 5)]));
}

#[tokio::test]
async fn a_list_that_is_too_much_for_all_together_passes_by_unused() {
    let held = HeldLists::default();
    let mut others = held.share();
    assert!(others.set(ALL_MAX));
    let mut at = stage_among(b"LIST\r\nUIDL\r\n", &held).await;
    for answer in ["+OK\r\n1 5\r\n.\r\n", "+OK\r\n1 a\r\n.\r\n"] {
        say(&mut at.backend, answer).await;
        expect(&mut at.client, answer).await;
    }
    drop((at.backend, at.client));
    assert!(soon(at.harvests.recv()).await.is_none());
    assert!(others.set(ALL_MAX), "and what it held is given back");
}

#[tokio::test]
async fn whoever_vanishes_has_said_no_quit_and_counts_until_the_backend_has_closed() {
    let mut at = stage(b"DELE 1\r\n").await;
    expect(&mut at.backend, "DELE 1\r\n").await;
    say(&mut at.backend, "+OK\r\n").await;
    expect(&mut at.client, "+OK\r\n").await;
    say(&mut at.client, "QUIT").await;
    drop(at.client);
    expect_end(&mut at.backend, "").await;
    tokio::select! {
        () = at.gate.idle() => panic!("the session counted no longer while the backend was at work"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    drop(at.backend);
    soon(at.gate.idle()).await;
    assert_eq!(soon(at.relay).await.unwrap().why, Why::ClientGone.as_str());
}

#[tokio::test]
async fn a_client_that_says_no_more_gets_all_its_answers() {
    let mut at = stage(b"").await;
    say(&mut at.client, "STAT\r\nRETR 1\r\n").await;
    at.client.shutdown().await.unwrap();
    expect(&mut at.backend, "STAT\r\nRETR 1\r\n").await;
    for part in ["+OK 1 5\r\n", "+OK\r\nbo", "dy\r\n.\r\n"] {
        say(&mut at.backend, part).await;
        expect(&mut at.client, part).await;
    }
    expect_end(&mut at.backend, "").await;
}

#[tokio::test]
async fn a_lost_backend_is_told_of_behind_a_whole_response_only() {
    for (said, words) in [
        ("", "-ERR [SYS/TEMP] The connection to the mail server was lost, connect again.\r\n"),
        ("+OK\r\nbody\r\n", ""),
        ("+OK\r\nbody\r\n.", ""),
        ("+OK\r\nbody\r\n.\r\n", "-ERR [SYS/TEMP] The connection to the mail server was lost, connect again.\r\n"),
        ("+O", ""),
        ("what?\r\n", ""),
        ("+OK\r\n.\r\n-ERR Disconnected for inactivity.\r\n", ""),
        ("-ERR Too many bad commands.\r\n", ""),
    ] {
        let mut at = stage(b"RETR 1\r\n").await;
        expect(&mut at.backend, "RETR 1\r\n").await;
        say(&mut at.backend, said).await;
        drop(at.backend);
        expect_end(&mut at.client, &format!("{said}{words}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_waits_for_a_response_and_then_no_longer() {
    let mut at = stage(b"RETR 1\r\n").await;
    expect(&mut at.backend, "RETR 1\r\n").await;
    say(&mut at.backend, "+OK\r\n").await;
    expect(&mut at.client, "+OK\r\n").await;
    at.shutdown.send(true).unwrap();
    say(&mut at.backend, "body\r\n.\r\n").await;
    let down = "-ERR [SYS/TEMP] The server is going down, connect again.\r\n";
    expect_end(&mut at.client, &format!("body\r\n.\r\n{down}")).await;
    expect_end(&mut at.backend, "").await;

    let mut at = stage(b"RETR 1\r\n").await;
    expect(&mut at.backend, "RETR 1\r\n").await;
    say(&mut at.backend, "+OK\r\nbody\r\n").await;
    expect(&mut at.client, "+OK\r\nbody\r\n").await;
    at.shutdown.send(true).unwrap();
    expect_end(&mut at.client, "").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_session_ends() {
    let mut at = stage(b"").await;
    let since = Instant::now();
    let mut heard = String::new();
    at.client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "-ERR Nothing was heard of you for too long.\r\n");
    assert!(since.elapsed() >= Duration::from_secs(600), "RFC 1939 wants ten minutes");
}

#[tokio::test]
async fn a_line_without_end_ends_the_session() {
    let mut at = stage(b"").await;
    say(&mut at.client, &"x".repeat(9000)).await;
    expect_end(&mut at.client, "-ERR The command line is too long.\r\n").await;
    expect_end(&mut at.backend, "").await;
}

#[tokio::test]
async fn what_was_said_before_a_line_without_end_is_answered_first() {
    let mut at = stage(b"RETR 1\r\n").await;
    expect(&mut at.backend, "RETR 1\r\n").await;
    say(&mut at.client, &"x".repeat(9000)).await;
    say(&mut at.backend, "+OK\r\nbo").await;
    expect(&mut at.client, "+OK\r\nbo").await;
    say(&mut at.backend, "dy\r\n.\r\n").await;
    expect_end(&mut at.client, "dy\r\n.\r\n-ERR The command line is too long.\r\n").await;
    expect_end(&mut at.backend, "").await;
}
