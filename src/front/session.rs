//! One client, from its connection to the end of the relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument as _, debug, error_span, info};
use zeroize::Zeroize as _;

use super::login::{self, LoggedIn};
use super::{Entry, Front, drain, relay};
use crate::net::Stream;
use crate::wire::imap::prelogin::{Action, INPUT_MAX, PreLogin, PreLoginConfig};

/// A client that has not logged in may take this long for a command: people type their password before the client connects.
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
    // Of the highest level, so that whatever is logged says which session it is about.
    let span = error_span!("session", id, %peer);
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
    async fn serve(self, tcp: TcpStream, entry: Entry) -> io::Result<()> {
        let stream = match (entry, &self.front.tls) {
            (Entry::Clear, _) => Stream::Plain(tcp),
            (Entry::Tls, Some(tls)) => tls.accept(tcp).await.map_err(io::Error::other)?,
            (Entry::Tls, None) => return Err(io::Error::other("no certificate for a TLS listener")),
        };
        let Some((client, logged_in)) = self.log_in(Client::new(stream, self.front), entry).await? else {
            return Ok(());
        };
        let LoggedIn { shown, backend, pipelined, pass } = logged_in;
        let side = pass.side;
        let moved = relay::run(client.stream, backend, &pipelined, client.shutdown, pass).await;
        let (sent, received) = (moved.to_client, moved.to_backend);
        info!(user = shown, %side, sent, received, "session ended: {}", moved.why);
        Ok(())
    }

    /// Talks to the client until it has logged in; `None` if it went away.
    async fn log_in(self, mut client: Client, entry: Entry) -> io::Result<Option<(Client, LoggedIn)>> {
        let cleartext_allowed = self.front.may_send_cleartext(self.peer);
        let tls_available = entry == Entry::Clear && self.front.tls.is_some();
        let config = PreLoginConfig { tls_available, tls_active: entry == Entry::Tls, cleartext_allowed };
        let mut talk = PreLogin::new(config);
        client.write(&talk.greeting()).await?;
        loop {
            let Some(action) = talk.next() else {
                match client.read(&mut talk).await? {
                    Heard::Something => continue,
                    Heard::End => return Ok(None),
                    Heard::Enough(words) => return client.last_words(words).await.map(|()| None),
                }
            };
            client.command_by = Instant::now() + COMMAND_DEADLINE;
            match action {
                Action::Reply(octets) => client.write(&octets).await?,
                Action::Close(words) => return client.last_words(&words).await.map(|()| None),
                Action::StartTls => {
                    client = client.start_tls(self.front).await?;
                    talk.tls_started();
                }
                Action::Login(login) => {
                    let outcome = tokio::select! {
                        outcome = login::log_in(self, login) => outcome,
                        () = client.server_ends() => return client.last_words(GOING_DOWN).await.map(|()| None),
                    };
                    match outcome {
                        Ok((logged_in, answer)) => {
                            client.write(&answer).await?;
                            return Ok(Some((client, LoggedIn { pipelined: talk.into_pipelined(), ..logged_in })));
                        }
                        Err(answer) => talk.login_failed(&answer),
                    }
                    client.command_by = Instant::now() + COMMAND_DEADLINE;
                }
            }
        }
    }
}

/// What came of reading.
enum Heard {
    Something,
    /// The client went away.
    End,
    /// No more is wanted of it; these are our last words.
    Enough(&'static [u8]),
}

/// The client's side of the connection before login.
struct Client {
    stream: Stream,
    /// When it must have logged in.
    login_by: Instant,
    /// When its next command must be complete.
    command_by: Instant,
    shutdown: watch::Receiver<bool>,
}

impl Client {
    fn new(stream: Stream, front: &Front) -> Self {
        let now = Instant::now();
        let (login_by, command_by) = (now + LOGIN_DEADLINE, now + COMMAND_DEADLINE);
        Self { stream, login_by, command_by, shutdown: front.shutdown.clone() }
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let written = timeout(WRITE_DEADLINE, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn last_words(&mut self, words: &[u8]) -> io::Result<()> {
        self.write(words).await?;
        timeout(WRITE_DEADLINE, self.stream.shutdown()).await.unwrap_or(Ok(()))?;
        drain::drain(&mut self.stream, drain::CLIENT).await;
        Ok(())
    }

    async fn server_ends(&mut self) {
        // An error means that the sender is gone, which is an end too.
        let _ = self.shutdown.wait_for(|ended| *ended).await;
    }

    /// Reads once.
    async fn read(&mut self, talk: &mut PreLogin) -> io::Result<Heard> {
        let mut buffer = [0; INPUT_MAX];
        let deadline = self.login_by.min(self.command_by);
        let Self { stream, shutdown, .. } = self;
        let read = tokio::select! {
            // In this order, or a client that always has something to say would never be too slow.
            biased;
            () = sleep_until(deadline) => return Ok(Heard::Enough(TOO_SLOW)),
            _ = shutdown.wait_for(|ended| *ended) => return Ok(Heard::Enough(GOING_DOWN)),
            read = stream.read(&mut buffer) => read,
        };
        match read? {
            0 => Ok(Heard::End),
            count => {
                talk.input(buffer.get(..count).unwrap_or_default());
                // A password may have been in it.
                buffer.zeroize();
                Ok(Heard::Something)
            }
        }
    }

    async fn start_tls(self, front: &Front) -> io::Result<Self> {
        let (Some(tls), Some(tcp)) = (&front.tls, self.stream.into_plain()) else {
            return Err(io::Error::other("STARTTLS on a connection that can't have it"));
        };
        let stream = tls.accept(tcp).await.map_err(io::Error::other)?;
        Ok(Self { stream, ..self })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
