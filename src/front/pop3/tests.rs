//! Clients before login, and sides that don't answer.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::front::client::{COMMAND_DEADLINE, LOGIN_DEADLINE};
use crate::front::drain;
use crate::front::stage::Stage as Ready;

struct Stage {
    _folder: tempfile::TempDir,
    client: TcpStream,
    session: JoinHandle<io::Result<()>>,
    shutdown: watch::Sender<bool>,
}

/// A client of a proxy whose sides both are the server at `port`.
async fn stage(port: u16, entry: Entry, allow_cleartext: &[&str]) -> Stage {
    let Ready { folder, front, client, accepted: (tcp, peer), shutdown } = Ready::before(port, allow_cleartext).await;
    let session = tokio::spawn(async move {
        let place = front.guard.enter(peer.ip()).unwrap();
        serve(Session { front: &front, peer, local: peer, id: "s1" }, tcp, entry, place).await
    });
    Stage { _folder: folder, client, session, shutdown }
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

/// Says `words` every ten seconds until the session ends; gives how long that took, and what was heard.
async fn repeat(words: &'static [u8]) -> (Duration, String) {
    let at = stage(1, Entry::Clear, LOOPBACK).await;
    let since = Instant::now();
    let (mut reader, mut writer) = at.client.into_split();
    let talking = tokio::spawn(async move {
        while writer.write_all(words).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let mut heard = String::new();
    reader.read_to_string(&mut heard).await.unwrap();
    let lasted = since.elapsed();
    talking.abort();
    (lasted, heard)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_completes_a_command_has_a_minute() {
    let (lasted, heard) = repeat(b"x").await;
    assert_eq!(heard, "+OK mailferry ready.\r\n-ERR Too slow to log in.\r\n");
    assert!(lasted >= COMMAND_DEADLINE && lasted < COMMAND_DEADLINE + drain::CLIENT, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_auth_asked_for_and_never_comes_has_a_minute() {
    let mut at = stage(1, Entry::Clear, LOOPBACK).await;
    let since = Instant::now();
    at.client.write_all(b"AUTH PLAIN\r\nAHUx").await.unwrap();
    let mut heard = String::new();
    at.client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "+OK mailferry ready.\r\n+ \r\n-ERR Too slow to log in.\r\n");
    assert!(since.elapsed() >= COMMAND_DEADLINE && since.elapsed() < COMMAND_DEADLINE + drain::CLIENT);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_logs_in_has_three_minutes() {
    let (lasted, heard) = repeat(b"CAPA\r\n").await;
    assert!(heard.ends_with("SASL PLAIN LOGIN\r\n.\r\n-ERR Too slow to log in.\r\n"), "{heard}");
    assert!(lasted >= LOGIN_DEADLINE && lasted < LOGIN_DEADLINE + drain::CLIENT, "{lasted:?}");
}

/// What a client hears that says all this.
async fn heard(port: u16, entry: Entry, allow_cleartext: &[&str], words: &[u8]) -> String {
    let mut at = stage(port, entry, allow_cleartext).await;
    at.client.write_all(words).await.unwrap();
    let mut heard = String::new();
    at.client.read_to_string(&mut heard).await.unwrap();
    drop(at.client);
    let _ = at.session.await.unwrap();
    heard
}

#[tokio::test]
async fn a_side_that_is_down_leaves_the_client_to_try_again() {
    let login = b"USER u\r\nPASS p\r\nPASS p\r\nQUIT\r\n";
    let down = "-ERR [SYS/TEMP] The mail server can't be reached, try again later.\r\n";
    let heard = heard(1, Entry::Clear, LOOPBACK, login).await;
    assert_eq!(heard, format!("+OK mailferry ready.\r\n+OK\r\n{down}{down}+OK Logging out.\r\n"));
}

#[tokio::test]
async fn without_tls_only_clients_of_allowed_networks_may_log_in() {
    for (networks, answer) in
        [(LOOPBACK, "-ERR [SYS/TEMP] "), (&["10.0.0.0/8"], "-ERR Logging in needs TLS."), (&[], "-ERR Logging")]
    {
        let heard = heard(1, Entry::Clear, networks, b"AUTH PLAIN AHUAcA==\r\nQUIT\r\n").await;
        assert!(heard.lines().nth(1).unwrap().starts_with(answer), "{networks:?}: {heard}");
    }
}

#[tokio::test]
async fn a_tls_listener_without_a_certificate_says_nothing_in_clear() {
    assert_eq!(heard(1, Entry::Tls, LOOPBACK, b"").await, "");
}

#[tokio::test]
async fn when_the_server_ends_a_client_before_login_is_told() {
    let mut at = stage(1, Entry::Clear, &[]).await;
    at.client.write_all(b"CA").await.unwrap();
    at.shutdown.send(true).unwrap();
    let mut heard = Vec::new();
    at.client.read_to_end(&mut heard).await.unwrap();
    assert!(heard.ends_with(LAST_WORDS.going_down));
}

/// A server that greets with `greeting`, answers each line of `answers` in turn, and then says no more.
async fn side(script: &[&'static str]) -> (u16, JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = script.to_vec();
    let side = tokio::spawn(async move {
        let mut tcp = listener.accept().await.unwrap().0;
        for (number, words) in script.into_iter().enumerate() {
            if number > 0 {
                line(&mut tcp).await;
            }
            tcp.write_all(words.as_bytes()).await.unwrap();
        }
        tcp
    });
    (port, side)
}

async fn line(tcp: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), what).await.expect("took too long")
}

#[tokio::test(start_paused = true)]
async fn a_side_that_does_not_answer_a_login_is_unavailable_before_the_client_gives_up() {
    let (port, side) = side(&["+OK\r\n", "+OK\r\nSASL PLAIN\r\n.\r\n"]).await;
    let mut at = stage(port, Entry::Clear, LOOPBACK).await;
    let since = Instant::now();
    at.client.write_all(b"AUTH PLAIN AHUAcA==\r\n").await.unwrap();
    assert_eq!(line(&mut at.client).await, "+OK mailferry ready.\r\n");
    assert!(line(&mut at.client).await.starts_with("-ERR [SYS/TEMP] The mail server takes too long"));
    assert!(since.elapsed() <= Duration::from_secs(60), "{:?}", since.elapsed());
    let mut rest = Vec::new();
    side.await.unwrap().read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"AUTH PLAIN AHUAcA==\r\n", "no QUIT");
    at.client.write_all(b"QUIT\r\n").await.unwrap();
    assert_eq!(line(&mut at.client).await, "+OK Logging out.\r\n", "the client may go on");
}

#[tokio::test]
async fn when_the_server_ends_a_client_in_the_middle_of_a_login_is_told() {
    let (port, side) = side(&["+OK\r\n", "+OK\r\nSASL PLAIN\r\n.\r\n"]).await;
    let mut at = stage(port, Entry::Clear, LOOPBACK).await;
    at.client.write_all(b"AUTH PLAIN AHUAcA==\r\n").await.unwrap();
    let mut side = soon(side).await.unwrap();
    assert_eq!(soon(line(&mut side)).await, "AUTH PLAIN AHUAcA==\r\n");
    at.shutdown.send(true).unwrap();
    let mut heard = Vec::new();
    soon(at.client.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, [b"+OK mailferry ready.\r\n", LAST_WORDS.going_down].concat());
}

#[tokio::test]
async fn what_a_side_says_goes_on_and_what_makes_no_sense_is_a_temporary_trouble() {
    let known = "+OK\r\nSASL PLAIN\r\n.\r\n";
    for (script, answer) in [
        (&["+OK\r\n", known, "-ERR\r\n"][..], "-ERR"),
        (&["+OK\r\n", known, "-ERR [LOGIN-DELAY]  wait \n"], "-ERR [LOGIN-DELAY]  wait "),
        (&["+OK\r\n", known, "-err [auth] No.\r\n"], "-err [auth] No."),
        (&["+OK\r\n", known, "what?\r\n"], "-ERR [SYS/TEMP] The mail server can't be reached, try again later."),
        (&["-ERR [SYS/PERM] go away\r\n"], "-ERR [SYS/TEMP] The mail server can't be reached, try again later."),
        (&["* OK IMAP4 ready\r\n"], "-ERR [SYS/TEMP] The mail server can't be reached, try again later."),
    ] {
        let (port, _side) = side(script).await;
        let heard = soon(heard(port, Entry::Clear, LOOPBACK, b"AUTH PLAIN AHUAcA==\r\nQUIT\r\n")).await;
        assert_eq!(heard, format!("+OK mailferry ready.\r\n{answer}\r\n+OK Logging out.\r\n"), "{script:?}");
    }
}
