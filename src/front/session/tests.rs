//! Clients before login, where no side is asked.

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
use crate::net::Stream;

struct Stage {
    _folder: tempfile::TempDir,
    client: TcpStream,
    session: JoinHandle<()>,
    shutdown: watch::Sender<bool>,
}

async fn stage(entry: Entry, allow_cleartext: &[&str]) -> Stage {
    stage_before(1, entry, allow_cleartext).await
}

/// A client of a proxy whose sides both are the server at `port`.
async fn stage_before(port: u16, entry: Entry, allow_cleartext: &[&str]) -> Stage {
    let Ready { folder, front, client, accepted: (tcp, peer), shutdown } = Ready::before(port, allow_cleartext).await;
    let session = tokio::spawn(run(Arc::new(front), tcp, peer, Protocol::Imap, entry));
    Stage { _folder: folder, client, session, shutdown }
}

/// Says `words` every ten seconds until the session ends; gives how long that took, and what was heard.
async fn repeat(words: &'static [u8]) -> (Duration, String) {
    let at = stage(Entry::Clear, &["127.0.0.0/8"]).await;
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

#[tokio::test]
async fn a_session_is_small() {
    let Ready { folder: _folder, front, accepted: (tcp, peer), .. } = Ready::before(1, &[]).await;
    let session = run(Arc::new(front), tcp, peer, Protocol::Imap, Entry::Clear);
    assert!(size_of_val(&session) <= 4096, "{} octets for as long as it lasts", size_of_val(&session));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_completes_a_command_has_a_minute() {
    let (lasted, heard) = repeat(b"x").await;
    assert!(heard.ends_with("* BYE Too slow to log in.\r\n"), "{heard}");
    assert!(lasted >= COMMAND_DEADLINE && lasted < COMMAND_DEADLINE + drain::CLIENT, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_logs_in_has_three_minutes() {
    let (lasted, heard) = repeat(b"a NOOP\r\n").await;
    assert!(heard.ends_with("a OK NOOP completed.\r\n* BYE Too slow to log in.\r\n"), "{heard}");
    assert!(lasted >= LOGIN_DEADLINE && lasted < LOGIN_DEADLINE + drain::CLIENT, "{lasted:?}");
}

#[tokio::test]
async fn a_client_that_always_has_something_to_say_is_too_slow_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    client.unwrap().write_all(b"a NOOP\r\n").await.unwrap();
    let tcp = accepted.unwrap().0;
    tcp.readable().await.unwrap();
    let (_shutdown, ends) = watch::channel(false);
    let past = Instant::now() - Duration::from_secs(1);
    let stream = Stream::Plain(tcp);
    let mut client = Client { stream, login_by: past, command_by: past, shutdown: ends, words: LAST_WORDS, octets: 0 };
    let heard = client.read(|_| panic!("too late")).await.unwrap();
    assert_eq!(heard, Heard::Enough(LAST_WORDS.too_slow));
}

#[tokio::test]
async fn a_backend_that_is_down_leaves_the_client_to_try_again() {
    let mut at = stage(Entry::Clear, &["127.0.0.0/8"]).await;
    at.client.write_all(b"a LOGIN u p\r\nb LOGIN u p\r\nc LOGOUT\r\n").await.unwrap();
    let mut heard = String::new();
    at.client.read_to_string(&mut heard).await.unwrap();
    let tags: Vec<&str> = heard.lines().map(|line| line.split(". ").next().unwrap()).collect();
    let down = "NO [UNAVAILABLE] The mail server can't be reached, try again later.";
    assert_eq!(&tags[1..3], [format!("a {down}"), format!("b {down}")], "{heard}");
    assert!(heard.ends_with("c OK LOGOUT completed.\r\n"));
    drop(at.client);
    at.session.await.unwrap();
}

/// A server that greets and never says more; gives the client's stage once the client's login has come there.
async fn stage_before_silence() -> (Stage, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut at = stage_before(listener.local_addr().unwrap().port(), Entry::Clear, &["127.0.0.0/8"]).await;
    at.client.write_all(b"a LOGIN u p\r\n").await.unwrap();
    let mut backend = listener.accept().await.unwrap().0;
    backend.write_all(b"* OK [CAPABILITY IMAP4rev1] hello\r\n").await.unwrap();
    let mut login = [0; 5];
    backend.read_exact(&mut login).await.unwrap();
    (at, backend)
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_a_login_is_unavailable_before_the_client_gives_up() {
    let (mut at, mut backend) = stage_before_silence().await;
    let since = Instant::now();
    let mut heard = vec![0; 4096];
    let mut words = String::new();
    while !words.contains("a NO ") {
        let count = at.client.read(&mut heard).await.unwrap();
        words.push_str(std::str::from_utf8(&heard[..count]).unwrap());
    }
    assert!(words.contains("a NO [UNAVAILABLE] The mail server takes too long"), "{words}");
    assert!(since.elapsed() <= Duration::from_secs(60), "{:?}", since.elapsed());
    let mut rest = Vec::new();
    backend.read_to_end(&mut rest).await.unwrap();
    at.client.write_all(b"b LOGOUT\r\n").await.unwrap();
    at.client.read_exact(&mut heard[..5]).await.unwrap();
    assert_eq!(&heard[..5], b"* BYE", "the client may go on");
}

#[tokio::test]
async fn when_the_server_ends_a_client_in_the_middle_of_a_login_is_told() {
    let (mut at, _backend) = stage_before_silence().await;
    at.shutdown.send(true).unwrap();
    let mut heard = Vec::new();
    at.client.read_to_end(&mut heard).await.unwrap();
    let lines: Vec<&[u8]> = heard.split_inclusive(|octet| *octet == b'\n').collect();
    assert_eq!((lines.len(), lines[1]), (2, LAST_WORDS.going_down), "at once: the login itself is not answered");
}

#[tokio::test]
async fn without_tls_only_clients_of_allowed_networks_may_log_in() {
    for (networks, offered) in [(&["127.0.0.0/8"][..], true), (&["10.0.0.0/8"], false), (&[], false)] {
        let mut at = stage(Entry::Clear, networks).await;
        at.client.write_all(b"a LOGIN u p\r\nb LOGOUT\r\n").await.unwrap();
        let mut heard = String::new();
        at.client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard.contains("AUTH=PLAIN"), offered, "{heard}");
        assert_eq!(heard.contains("LOGINDISABLED"), !offered, "{heard}");
        assert_eq!(heard.contains("a NO [PRIVACYREQUIRED]"), !offered, "{heard}");
        assert_eq!(heard.contains("a NO [UNAVAILABLE]"), offered, "{heard}");
    }
}

#[tokio::test]
async fn a_tls_listener_without_a_certificate_says_nothing_in_clear() {
    let mut at = stage(Entry::Tls, &["127.0.0.0/8"]).await;
    let mut heard = Vec::new();
    at.client.read_to_end(&mut heard).await.unwrap();
    assert!(heard.is_empty());
}

#[tokio::test]
async fn when_the_server_ends_a_client_before_login_is_told() {
    let mut at = stage(Entry::Clear, &[]).await;
    at.client.write_all(b"a NO").await.unwrap();
    at.shutdown.send(true).unwrap();
    let mut heard = Vec::new();
    at.client.read_to_end(&mut heard).await.unwrap();
    assert!(heard.ends_with(LAST_WORDS.going_down));
}
