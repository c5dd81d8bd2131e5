//! The API over real sockets: through its client, and by hand where that one behaves too well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::super::client::{AdminClient, ClientError};
use super::*;
use crate::config::Admin;
use crate::store::Phase;

/// Knows `anna` and everything that can be said of a user's name.
#[derive(Default)]
struct Desk {
    switched: AtomicUsize,
    begun: Notify,
    go_on: Notify,
    ended: Notify,
}

impl Control for Desk {
    async fn status_all(&self) -> Result<StatusAll, ControlError> {
        Ok(StatusAll::new([(Phase::Old, 1)], vec![UserStatus::without_record("anna")]))
    }

    async fn status(&self, user: &str) -> Result<UserStatus, ControlError> {
        match user {
            "nobody" => Err(ControlError::UnknownUser(user.to_owned())),
            "broken" => Err(ControlError::Failed("store: disk full".to_owned())),
            user => Ok(UserStatus::without_record(user)),
        }
    }

    async fn users(&self, scope: Scope, after: Option<String>) -> Result<Page, ControlError> {
        Ok(Page { users: vec![(format!("{scope} behind {after:?}"), Phase::New)], next: after })
    }

    async fn history(&self, user: &str) -> Result<Vec<Transition>, ControlError> {
        Err(ControlError::UnknownUser(user.to_owned()))
    }

    async fn rule(&self, order: Order, scope: Scope) -> Result<Outcome, ControlError> {
        Ok(Outcome::Done { what: format!("{order:?} {scope}") })
    }

    async fn order(&self, user: &str, order: Order, wait: bool) -> Result<Outcome, ControlError> {
        if order != Order::Switch {
            return Ok(Outcome::Done { what: format!("{order:?} {user}") });
        }
        let reason = || "2 sessions open".to_owned();
        match user {
            "busy" => return Ok(Outcome::TryAgain { reason: reason() }),
            "held" => return Ok(Outcome::Refused { reason: reason() }),
            "panics" => panic!("a mistake of ours"),
            "slow" => {
                self.begun.notify_one();
                self.go_on.notified().await;
            }
            _ => {}
        }
        self.switched.fetch_add(1, Ordering::SeqCst);
        self.ended.notify_one();
        if wait { Ok(Outcome::Switched { epoch: 1 }) } else { Ok(Outcome::Started) }
    }
}

struct Running {
    folder: TempDir,
    admin: Admin,
    token: String,
    desk: Arc<Desk>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        let token = Token::load_or_create(&token_file).unwrap();
        let listener = crate::net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let admin = Admin { listen: listener.local_addr().unwrap(), token_file };
        let desk = Arc::new(Desk::default());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let server = tokio::spawn(serve(listener, token, Arc::clone(&desk), shutdown));
        let token = std::fs::read_to_string(&admin.token_file).unwrap().trim_end().to_owned();
        Self { folder, admin, token, desk, stop, server }
    }

    fn client(&self) -> AdminClient {
        AdminClient::from_config(&self.admin).unwrap()
    }

    /// The whole answer to a request written by hand.
    async fn raw(&self, request: &str) -> String {
        raw(self.admin.listen, request).await
    }

    /// Status line and body of `METHOD path` with the right token.
    async fn ask(&self, line: &str) -> (String, String) {
        let token = &self.token;
        let request =
            format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        let answer = self.raw(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

async fn raw(address: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn status_comes_through() {
    let running = Running::start();
    let all = running.client().status_all().await.unwrap();
    assert_eq!((all.counts[&Phase::Old], all.users.len()), (1, 1));
    for user in ["anna", "Anna@Example.NET", "ünal", "a/b", "a b?c#d%2Fe", "x*master", "..", "a+b"] {
        assert_eq!(running.client().status(user).await.unwrap().user, user);
    }
}

#[tokio::test]
async fn errors_come_through_in_the_servers_words() {
    let running = Running::start();
    for (user, status, message) in [
        ("nobody", 404, "no such user: nobody"),
        ("broken", 500, "store: disk full"),
        ("tab\there", 400, "this is not a user name"),
        (" ", 400, "this is not a user name"),
        (&"x".repeat(600), 400, "this is not a user name"),
    ] {
        match running.client().status(user).await {
            Err(ClientError::Server { status: found, message: text }) => {
                assert_eq!((found, text.as_str()), (status, message));
            }
            other => panic!("{user}: {other:?}"),
        }
    }
    let error = switch(&running.client(), "panics", true).await.unwrap_err().to_string();
    assert!(error.contains("broke off"), "{error}");
    assert_eq!(running.client().status("anna").await.unwrap().user, "anna");
}

async fn switch(client: &AdminClient, user: &str, wait: bool) -> Result<Outcome, ClientError> {
    client.order(Verb::Switch, user, "anna", (false, wait)).await
}

#[tokio::test]
async fn orders_and_scopes_come_through() {
    let running = Running::start();
    let client = running.client();
    let done = |what: &str| Outcome::Done { what: what.to_owned() };
    let rollback = client.order(Verb::Rollback, "a/b", "Bert & Co\n", (true, true)).await.unwrap();
    assert_eq!(rollback, done("Rollback { accept_loss: true, by: \"Bert & Co\" } a/b"));
    let hold = client.order(Verb::Hold, "anna", "", (false, true)).await.unwrap();
    assert_eq!(hold, done("Hold { by: \"an operator\" } anna"));
    let share = Scope::Share("12.5".parse().unwrap());
    for (scope, shown) in [
        (Scope::All, "all users"),
        (Scope::Domain("Ex&mple.net".to_owned()), "the users of ex&mple.net"),
        (share, "12.50 percent of all users"),
    ] {
        assert_eq!(client.rule(Verb::Enroll, &scope, "x").await.unwrap(), done(&format!("Enroll {shown}")));
        let page = client.users(&scope, Some("a&b=c")).await.unwrap();
        assert_eq!(
            (page.users[0].0.as_str(), page.next.as_deref()),
            (&*format!("{shown} behind Some(\"a&b=c\")"), Some("a&b=c"))
        );
    }
    assert!(client.history("nobody").await.unwrap_err().to_string().contains("no such user: nobody"));
    for (line, status) in [
        ("POST /v1/rules/enroll", "400"),
        ("POST /v1/rules/enroll?all=true&domain=x", "400"),
        ("POST /v1/rules/enroll?percent=101", "400"),
        ("POST /v1/rules/fly?all=true", "404"),
        ("POST /v1/fly/anna", "404"),
        ("POST /v1/switch/anna?hurry=true", "400"),
        ("GET /v1/users", "400"),
        ("GET /v1/hold/anna", "405"),
    ] {
        let (head, body) = running.ask(line).await;
        assert!(head.contains(status) && body.contains("error"), "{line}: {head} {body}");
    }
}

#[tokio::test]
async fn a_switch_has_its_outcome() {
    let running = Running::start();
    let client = running.client();
    assert_eq!(switch(&client, "anna", true).await.unwrap(), Outcome::Switched { epoch: 1 });
    assert_eq!(switch(&client, "anna", false).await.unwrap(), Outcome::Started);
    let reason = "2 sessions open".to_owned();
    assert_eq!(switch(&client, "busy", true).await.unwrap(), Outcome::TryAgain { reason: reason.clone() });
    assert_eq!(switch(&client, "held", true).await.unwrap(), Outcome::Refused { reason });
    for (line, status) in [
        ("POST /v1/switch/anna", "HTTP/1.1 200 OK"),
        ("POST /v1/switch/anna?wait=false", "HTTP/1.1 202 Accepted"),
        ("POST /v1/switch/held", "HTTP/1.1 409 Conflict"),
        ("POST /v1/switch/busy", "HTTP/1.1 503 Service Unavailable"),
        ("POST /v1/switch/anna?wait=maybe", "HTTP/1.1 400 Bad Request"),
        ("GET /v1/switch/anna", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        assert_eq!(running.ask(line).await.0, status, "{line}");
    }
    assert_eq!(running.desk.switched.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_switch_goes_on_when_the_caller_hangs_up() {
    let running = Running::start();
    let client = running.client();
    let caller = tokio::spawn(async move { switch(&client, "slow", true).await });
    running.desk.begun.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // The server has seen the end of that connection once it has answered on this one, sent later.
    running.client().status_all().await.unwrap();
    running.desk.go_on.notify_one();
    let ended = tokio::time::timeout(Duration::from_secs(20), running.desk.ended.notified()).await;
    ended.expect("the switch was stopped half-way");
    assert_eq!(running.desk.switched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_without_the_token() {
    let running = Running::start();
    let token = &running.token;
    let wrong = [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("X-Token: {token}\r\n"),
    ];
    for line in ["GET /v1/status", "GET /v1/status/anna", "POST /v1/switch/anna"] {
        for header in &wrong {
            let answer = running.raw(&format!("{line} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{line} {header}: {answer}");
            assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
            assert!(answer.contains(r#"{"error":"#), "{answer}");
        }
    }
    assert_eq!(running.desk.switched.load(Ordering::SeqCst), 0);
    // Another server's token.
    let other = running.folder.path().join("other");
    Token::load_or_create(&other).unwrap();
    let url = format!("http://{}", running.admin.listen);
    let client = AdminClient::from_url(&url, &other).unwrap();
    assert!(matches!(client.status_all().await, Err(ClientError::Unauthorized { .. })));
    let client = AdminClient::from_url(&url, &running.admin.token_file).unwrap();
    assert!(client.status_all().await.is_ok());
}

#[tokio::test]
async fn health_needs_no_token() {
    let running = Running::start();
    let answer = running.raw("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn every_error_is_json() {
    let running = Running::start();
    for line in
        ["GET /", "GET /v1/nothing", "DELETE /v1/status", "POST /healthz", "GET /v1/status/%ff", "GET /v1/status/%00"]
    {
        let (status, body) = running.ask(line).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}: {status} {body}"));
        assert!(json["error"].is_string(), "{line}: {body}");
    }
}

#[tokio::test]
async fn long_requests_are_refused_and_others_go_on() {
    let running = Running::start();
    let token = &running.token;
    let head = format!("POST /v1/switch/anna HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let answer = running.raw(&format!("{head}Content-Length: 1000000000\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = running.raw(&format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut endless = TcpStream::connect(running.admin.listen).await.unwrap();
    let mut sent = 0_usize;
    // Ends when the server has closed: it reads no more than its buffer.
    while endless.write_all(&[b'A'; 4096]).await.is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "the server goes on reading");
    }
    assert_eq!(running.desk.switched.load(Ordering::SeqCst), 0);
    assert!(running.client().status_all().await.is_ok());
}

#[tokio::test]
async fn without_a_server_the_client_says_so() {
    let running = Running::start();
    let client = running.client();
    // A connection that waits for its next request does not hold up the end.
    let mut idle = TcpStream::connect(running.admin.listen).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    running.stop.send(()).unwrap();
    running.server.await.unwrap();
    let error = client.status_all().await.unwrap_err().to_string();
    let address = running.admin.listen.to_string();
    assert!(error.contains(&address) && error.contains("is `mailferry serve` running"), "{error}");
}

#[tokio::test]
async fn what_is_no_admin_api_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    Token::load_or_create(&token_file).unwrap();
    for answer in ["* OK IMAP4rev1 ready\r\n", "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope", ""] {
        let listener = crate::net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 1024]).await;
            let _ = tcp.write_all(answer.as_bytes()).await;
        });
        let error = AdminClient::from_url(&url, &token_file).unwrap().status_all().await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{answer}: {error}");
        other.await.unwrap();
    }
}
