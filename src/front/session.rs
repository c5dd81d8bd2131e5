//! One client, from its connection to the end of the relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument as _, debug, info, info_span};
use zeroize::Zeroize as _;

use super::login::{self, LoggedIn};
use super::{Entry, Front, relay};
use crate::net::Stream;
use crate::wire::imap::prelogin::{Action, INPUT_MAX, PreLogin, PreLoginConfig};

/// A client that has not logged in may be silent this long: people type their password before the client connects.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// All the time a client has for logging in.
const LOGIN_DEADLINE: Duration = Duration::from_secs(180);

/// A client that takes nothing we say for this long before login is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

const TOO_SLOW: &[u8] = b"* BYE Too slow to log in.\r\n";
const GOING_DOWN: &[u8] = b"* BYE [UNAVAILABLE] The server is going down, connect again.\r\n";

/// Serves one client to its end.
pub(super) async fn run(front: Arc<Front>, tcp: TcpStream, peer: SocketAddr, entry: Entry) {
    let id = format!("{:016x}", rand::random::<u64>());
    let span = info_span!("session", id, %peer);
    async move {
        let ended = Session { front: &front, peer, id: &id }.serve(tcp, entry).await;
        if let Err(why) = ended {
            debug!("ended: {why}");
        }
    }
    .instrument(span)
    .await;
}

/// What a session knows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session<'a> {
    pub(super) front: &'a Front,
    pub(super) peer: SocketAddr,
    pub(super) id: &'a str,
}

impl Session<'_> {
    async fn serve(self, tcp: TcpStream, entry: Entry) -> std::io::Result<()> {
        let stream = match (entry, &self.front.tls) {
            (Entry::Tls, Some(tls)) => tls.accept(tcp).await.map_err(std::io::Error::other)?,
            _ => Stream::Plain(tcp),
        };
        let deadline = Instant::now() + LOGIN_DEADLINE;
        let client = Client { stream, deadline, shutdown: self.front.shutdown.clone() };
        let Some((client, logged_in)) = self.log_in(client, entry).await? else { return Ok(()) };
        let LoggedIn { pass, backend, input, pipelined } = logged_in;
        let (moved, leaving) = relay::run(client.stream, backend, &pipelined, input, client.shutdown).await;
        info!(side = %pass.side, sent = moved.to_client, received = moved.to_backend, "session ended: {}", moved.why);
        // The pass counts this session as one that can still reach its side: it goes when the backend is closed.
        drop(pass);
        leaving.gone().await;
        Ok(())
    }

    /// Talks to the client until it has logged in; `None` if it went away.
    async fn log_in(self, mut client: Client, entry: Entry) -> std::io::Result<Option<(Client, LoggedIn)>> {
        let cleartext_allowed = self.front.may_send_cleartext(self.peer);
        let tls_available = entry == Entry::Clear && self.front.tls.is_some();
        let config = PreLoginConfig { tls_available, tls_active: entry == Entry::Tls, cleartext_allowed };
        let mut talk = PreLogin::new(config);
        client.write(&talk.greeting()).await?;
        loop {
            match talk.next() {
                Some(Action::Reply(octets)) => client.write(&octets).await?,
                Some(Action::Close(words)) => {
                    client.last_words(&words).await?;
                    return Ok(None);
                }
                Some(Action::StartTls) => {
                    client = client.start_tls(self.front).await?;
                    talk.tls_started();
                }
                Some(Action::Login(login)) => match login::log_in(self, login).await {
                    Ok((logged_in, answer)) => {
                        client.write(&answer).await?;
                        return Ok(Some((client, LoggedIn { pipelined: talk.into_pipelined(), ..logged_in })));
                    }
                    Err(answer) => talk.login_failed(&answer),
                },
                None => {
                    if !client.read(&mut talk).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// The client's side of the connection before login.
struct Client {
    stream: Stream,
    deadline: Instant,
    shutdown: watch::Receiver<bool>,
}

impl Client {
    async fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        let written = timeout(WRITE_DEADLINE, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        written.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    async fn last_words(&mut self, words: &[u8]) -> std::io::Result<()> {
        self.write(words).await?;
        timeout(WRITE_DEADLINE, self.stream.shutdown()).await.unwrap_or(Ok(()))?;
        super::wait_for_close(&mut self.stream).await;
        Ok(())
    }

    /// Reads once. False if the client went away or was too slow.
    async fn read(&mut self, talk: &mut PreLogin) -> std::io::Result<bool> {
        let mut buffer = [0; INPUT_MAX];
        let deadline = self.deadline.min(Instant::now() + COMMAND_DEADLINE);
        let read = tokio::select! {
            read = timeout_at(deadline, self.stream.read(&mut buffer)) => Some(read),
            _ = self.shutdown.wait_for(|ended| *ended) => None,
        };
        let Some(read) = read else {
            self.last_words(GOING_DOWN).await?;
            return Ok(false);
        };
        match read {
            Ok(Ok(0)) => Ok(false),
            Ok(Ok(count)) => {
                talk.input(buffer.get(..count).unwrap_or_default());
                // A password may have been in it.
                buffer.zeroize();
                Ok(true)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.last_words(TOO_SLOW).await?;
                Ok(false)
            }
        }
    }

    async fn start_tls(self, front: &Front) -> std::io::Result<Self> {
        let (Some(tls), Some(tcp)) = (&front.tls, self.stream.into_plain()) else {
            return Err(std::io::Error::other("STARTTLS on a connection that can't have it"));
        };
        let stream = tls.accept(tcp).await.map_err(std::io::Error::other)?;
        Ok(Self { stream, ..self })
    }
}
