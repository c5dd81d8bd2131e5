//! A POP3 client connection: dials a server, logs in, sends commands and reads responses one by one, or several at a time
//! where the server takes that. Message bodies are handed over in pieces, never held.

mod access;
mod login;
mod read;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::breaker::{self, Breaker};
use super::dial::{DialError, dial};
use super::imap::printable;
use super::proxied::send_header;
use super::stream::Stream;
use super::tls::{ClientTls, TlsError};
use crate::config::{Endpoint, Security};
use crate::mailbox::Side;
use crate::wire::pop3::Capabilities;
use crate::wire::pop3::reply::Reply;
use crate::wire::proxy::Ends;

/// How long a connection may take to be made, and a server to greet.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// How long a server may be silent inside a command before we give it up. Old servers open huge maildrops slowly.
const SILENCE_DEADLINE: Duration = Duration::from_secs(180);

/// What can go wrong with a POP3 server.
#[derive(Debug, thiserror::Error)]
pub enum Pop3Error {
    /// It can't be reached.
    #[error("{side} side: {source}")]
    Dial {
        /// Which side.
        side: Side,
        /// Why.
        source: DialError,
    },
    /// TLS failed.
    #[error("{side} side {server}: {source}")]
    Tls {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// Why.
        source: TlsError,
    },
    /// The connection broke.
    #[error("{side} side {server}: {what}")]
    Lost {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// How.
        what: String,
    },
    /// It ended the connection in place of a greeting: there may be too many from us already.
    #[error("{side} side {server}: {what}")]
    TurnedAway {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// How.
        what: String,
    },
    /// It refused a command of ours, or the connection, with `-ERR`.
    #[error("{side} side {server}: refused {what}: {text}")]
    Refused {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// The command without its arguments, or `the connection`.
        what: &'static str,
        /// What it said.
        text: String,
    },
    /// It said something that makes no sense to us, or can't do what is needed.
    #[error("{side} side {server}: {what}")]
    Protocol {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// What.
        what: String,
    },
}

impl Pop3Error {
    /// Whether it may be that the server takes no more connections from us.
    #[must_use]
    pub const fn is_turned_away(&self) -> bool {
        matches!(self, Self::TurnedAway { .. } | Self::Tls { source: TlsError::HungUp { .. }, .. })
    }
}

/// One side's POP3 server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pop3Server {
    side: Side,
    endpoint: Arc<Endpoint>,
    tls: Option<ClientTls>,
    name: Arc<str>,
    breaker: Option<Breaker>,
}

impl Pop3Server {
    /// The server at `endpoint`.
    ///
    /// # Errors
    /// If the certificates to trust can't be read.
    pub fn new(side: Side, endpoint: &Endpoint) -> Result<Self, TlsError> {
        let tls = ClientTls::towards(endpoint)?;
        let name = format!("{}:{}", endpoint.host, endpoint.port).into();
        Ok(Self { side, endpoint: Arc::new(endpoint.clone()), tls, name, breaker: None })
    }

    /// The same server behind a [`Breaker`], for the many connections of clients.
    #[must_use]
    pub fn behind_breaker(mut self) -> Self {
        let name = format!("{} side, POP3 {}", self.side, self.name);
        self.breaker = Some(Breaker::new(name, breaker::AT_ONCE));
        self
    }

    /// Which side it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// `host:port`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connects, reads the greeting, and starts TLS where it is configured.
    ///
    /// # Errors
    /// If the server can't be reached, its certificate is not trusted, or it does not greet with `+OK`.
    pub async fn connect(&self) -> Result<Pop3Connection, Pop3Error> {
        self.connect_for(None).await
    }

    /// The same for a client, whose address the server is told if it wants a PROXY header.
    ///
    /// # Errors
    /// As for [`Pop3Server::connect`].
    pub async fn connect_for(&self, client: Option<Ends>) -> Result<Pop3Connection, Pop3Error> {
        let turn = match &self.breaker {
            Some(breaker) => Some(breaker.turn().await.map_err(|source| {
                let source = DialError::Resting { endpoint: self.name.to_string(), source };
                Pop3Error::Dial { side: self.side, source }
            })?),
            None => None,
        };
        let opened = timeout(CONNECT_DEADLINE, Pop3Connection::open(self, client)).await;
        let silent = opened.is_err();
        let opened =
            opened.unwrap_or_else(|_| Err(self.lost(format!("no greeting within {} s", CONNECT_DEADLINE.as_secs()))));
        match (turn, &opened) {
            (Some(turn), Err(error)) if silent || matches!(error, Pop3Error::Dial { .. }) => turn.failed(error),
            (Some(turn), _) => turn.answered(),
            (None, _) => {}
        }
        opened
    }

    fn lost(&self, what: String) -> Pop3Error {
        Pop3Error::Lost { side: self.side, server: Arc::clone(&self.name), what }
    }

    fn protocol(&self, what: String) -> Pop3Error {
        Pop3Error::Protocol { side: self.side, server: Arc::clone(&self.name), what }
    }

    fn tls_error(&self, source: TlsError) -> Pop3Error {
        Pop3Error::Tls { side: self.side, server: Arc::clone(&self.name), source }
    }

    fn refused(&self, what: &'static str, line: &[u8]) -> Pop3Error {
        Pop3Error::Refused { side: self.side, server: Arc::clone(&self.name), what, text: printable(line) }
    }
}

/// How a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pop3Answer {
    /// `+OK`.
    Accepted {
        /// What stood behind it, without the blank between.
        text: Vec<u8>,
    },
    /// `-ERR`.
    Refused {
        /// The whole line, without its end.
        raw: Vec<u8>,
    },
}

impl Pop3Answer {
    fn read(line: &[u8], reply: Reply<'_>) -> Self {
        match reply {
            Reply::Ok(text) => Self::Accepted { text: text.to_vec() },
            Reply::Err(_) => Self::Refused { raw: line.to_vec() },
        }
    }
}

/// A connection to a POP3 server. Dropping it ends the session without QUIT, so that nothing is deleted.
#[derive(Debug)]
pub struct Pop3Connection {
    server: Pop3Server,
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    xclient: bool,
    capabilities: Option<Capabilities>,
}

impl Pop3Connection {
    async fn open(server: &Pop3Server, client: Option<Ends>) -> Result<Self, Pop3Error> {
        let Endpoint { host, port, .. } = server.endpoint.as_ref();
        let mut tcp = dial(host, *port, CONNECT_DEADLINE)
            .await
            .map_err(|source| Pop3Error::Dial { side: server.side, source })?;
        if server.endpoint.proxy_protocol {
            send_header(&mut tcp, client).await.map_err(|error| {
                let what = format!("takes no PROXY header: {error}");
                server.lost(what)
            })?;
        }
        let stream = match (&server.endpoint.security, &server.tls) {
            (Security::Tls, Some(tls)) => tls.connect(tcp, host).await.map_err(|source| server.tls_error(source))?,
            _ => Stream::Plain(tcp),
        };
        let mut connection = Self {
            server: server.clone(),
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            xclient: false,
            capabilities: None,
        };
        connection.greeting().await.map_err(|error| match error {
            Pop3Error::Lost { side, server, what } => Pop3Error::TurnedAway { side, server, what },
            other => other,
        })?;
        if server.endpoint.security == Security::StartTls {
            connection = connection.start_tls().await?;
        }
        Ok(connection)
    }

    /// The server at the other end.
    #[must_use]
    pub const fn server(&self) -> &Pop3Server {
        &self.server
    }

    /// Under which address the server sees us.
    #[must_use]
    pub fn local_address(&self) -> String {
        self.stream.local_addr().map_or_else(|_| "?".to_owned(), |address| address.ip().to_string())
    }

    /// Whether the server would take our word for a client's address.
    #[must_use]
    pub const fn offers_xclient(&self) -> bool {
        self.xclient
    }

    /// Puts a command (without line end) on its way; it may wait in a buffer until [`Self::flush`]. Several may be sent
    /// before their answers are read if the server announces PIPELINING (RFC 2449 §6.8).
    ///
    /// # Errors
    /// If it is no single line.
    pub fn send(&mut self, line: &str) -> Result<(), Pop3Error> {
        if line.bytes().any(|octet| octet.is_ascii_control()) {
            return Err(self.server.protocol("a command of ours holds a control character".to_owned()));
        }
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Sends what was put on its way.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn flush(&mut self) -> Result<(), Pop3Error> {
        let output = self.output.split();
        self.write(&output).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Pop3Error> {
        let written = timeout(SILENCE_DEADLINE, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.server.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.server.lost(format!("takes nothing for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }

    /// Sends a command that has a single line as its answer, and reads that.
    ///
    /// # Errors
    /// If the connection breaks. A refusal is an answer, not an error.
    pub async fn command(&mut self, line: &str) -> Result<Pop3Answer, Pop3Error> {
        self.send(line)?;
        self.flush().await?;
        self.answer().await
    }

    /// Sends a command that has several lines as its answer; `each` sees every line behind the first, without its end.
    ///
    /// # Errors
    /// If the connection breaks, or a line is longer than we hold. A refusal is an answer, not an error.
    pub async fn multiline(
        &mut self,
        line: &str,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Pop3Answer, Pop3Error> {
        let answer = self.command(line).await?;
        if let Pop3Answer::Accepted { .. } = answer {
            self.lines(each).await?;
        }
        Ok(answer)
    }

    /// The bare stream and the octets that were read and not used.
    #[must_use]
    pub fn into_stream(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Ends the session with QUIT, which carries out its deletions, and waits until the server has closed the connection:
    /// then the maildrop is free.
    ///
    /// # Errors
    /// If the connection breaks before the answer, or the server refuses.
    pub async fn quit(mut self) -> Result<(), Pop3Error> {
        let answer = self.command("QUIT").await?;
        if let Pop3Answer::Refused { raw } = answer {
            return Err(self.server.refused("QUIT", &raw));
        }
        self.closed().await;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
