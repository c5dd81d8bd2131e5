//! Clients before login, where no side is asked.

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Endpoint, Listen, Security};
use crate::mailbox::Side;
use crate::net::imap::ImapServer;
use crate::store::Store;
use crate::user::{NameRules, Registry};

struct Stage {
    _folder: tempfile::TempDir,
    client: TcpStream,
    session: JoinHandle<()>,
    shutdown: watch::Sender<bool>,
}

async fn stage(entry: Entry, allow_cleartext: &[&str]) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Endpoint { host: "127.0.0.1".to_owned(), port: 1, security: Security::Clear, ca_file: None };
    let allow_cleartext = allow_cleartext.iter().map(|network| network.parse().unwrap()).collect();
    let (shutdown, ends) = watch::channel(false);
    let front = Front {
        listen: Arc::new(Listen { allow_cleartext, ..Listen::default() }),
        tls: None,
        registry: Registry::new(Store::open(&folder.path().join("s.db")).unwrap()),
        names: NameRules::default(),
        old: ImapServer::new(Side::Old, &nowhere).unwrap(),
        new: ImapServer::new(Side::New, &nowhere).unwrap(),
        patience: Duration::from_secs(1),
        logins: mpsc::channel(1).0,
        shutdown: ends,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (tcp, peer) = accepted.unwrap();
    let session = tokio::spawn(run(Arc::new(front), tcp, peer, entry));
    Stage { _folder: folder, client: client.unwrap(), session, shutdown }
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
    let mut client = Client { stream: Stream::Plain(tcp), login_by: past, command_by: past, shutdown: ends };
    let config = PreLoginConfig { tls_available: false, tls_active: false, cleartext_allowed: true };
    let heard = client.read(&mut PreLogin::new(config)).await.unwrap();
    assert!(matches!(heard, Heard::Enough(TOO_SLOW)));
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
    assert!(heard.ends_with(GOING_DOWN));
}
