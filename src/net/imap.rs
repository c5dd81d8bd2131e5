//! An IMAP client connection: dials a server, logs in, sends commands and reads responses one by one. Message bodies are
//! handed over in pieces, never held.

mod access;
mod login;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

pub use login::LoginAnswer;

use super::breaker::{self, Breaker};
use super::dial::{DialError, dial};
use super::meter::Meter;
use super::proxied::send_header;
use super::stream::Stream;
use super::tls::{ClientTls, TlsError};
use crate::config::{Endpoint, Security};
use crate::mailbox::Side;
use crate::wire::imap::command::{CommandError, Fragment};
use crate::wire::imap::framer::{Event, Framer, Role};
use crate::wire::imap::scan::{self, Response, Status};
use crate::wire::proxy::Ends;

/// How long a connection may take to be made, and a server to greet.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// How long a server may be silent inside a command before we give it up. Old servers open huge mailboxes slowly.
const SILENCE_DEADLINE: Duration = Duration::from_secs(180);

/// Octets of one response without its bodies: far above the longest LIST, FLAGS or FETCH line that a server sends.
const RESPONSE_MAX: usize = 1 << 20;

/// Octets of a literal that is no message body: a name, a keyword list.
const LITERAL_MAX: u64 = 64 * 1024;

/// Octets read from the socket at once, of a server that has more to say than [`LITTLE`].
const READ_SIZE: usize = 64 * 1024;

/// Octets read at once of one that answers shortly: all of a login, and what most clients' connections begin with.
const LITTLE: usize = 4 * 1024;

/// What can go wrong with an IMAP server.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
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
    /// It refused a command.
    #[error("{side} side {server}: refused {command}: {text}")]
    Refused {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// The command, without its arguments.
        command: &'static str,
        /// What it said.
        text: String,
    },
    /// It said something that makes no sense to us.
    #[error("{side} side {server}: {what}")]
    Protocol {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// What.
        what: String,
    },
    /// A command can't be written.
    #[error("{side} side {server}: {source}")]
    Command {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// Why.
        source: CommandError,
    },
}

impl ImapError {
    /// Whether it may be that the server takes no more connections from us.
    #[must_use]
    pub const fn is_turned_away(&self) -> bool {
        matches!(self, Self::TurnedAway { .. } | Self::Tls { source: TlsError::HungUp { .. }, .. })
    }
}

/// One side's IMAP server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ImapServer {
    side: Side,
    endpoint: Arc<Endpoint>,
    tls: Option<ClientTls>,
    name: Arc<str>,
    breaker: Option<Breaker>,
}

impl ImapServer {
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
        let name = format!("{} side, IMAP {}", self.side, self.name);
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

    /// Connects, reads the greeting, starts TLS where it is configured and learns the capabilities.
    ///
    /// # Errors
    /// If the server can't be reached, its certificate is not trusted, or it does not greet.
    pub async fn connect(&self) -> Result<ImapConnection, ImapError> {
        self.connect_for(None).await
    }

    /// The same for a client, whose address the server is told if it wants a PROXY header.
    ///
    /// # Errors
    /// As for [`ImapServer::connect`].
    pub async fn connect_for(&self, client: Option<Ends>) -> Result<ImapConnection, ImapError> {
        let turn = match &self.breaker {
            Some(breaker) => Some(breaker.turn().await.map_err(|source| {
                let source = DialError::Resting { endpoint: self.name.to_string(), source };
                ImapError::Dial { side: self.side, source }
            })?),
            None => None,
        };
        let opened = timeout(CONNECT_DEADLINE, ImapConnection::open(self, client)).await;
        let silent = opened.is_err();
        let opened = opened.unwrap_or_else(|_| {
            Err(ImapError::Lost {
                side: self.side,
                server: Arc::clone(&self.name),
                what: format!("no greeting within {} s", CONNECT_DEADLINE.as_secs()),
            })
        });
        match (turn, &opened) {
            (Some(turn), Err(error)) if silent || matches!(error, ImapError::Dial { .. }) => turn.failed(error),
            (Some(turn), _) => turn.answered(),
            (None, _) => {}
        }
        opened
    }
}

/// What the server announced.
#[derive(Clone, Debug, Default)]
pub struct Capabilities(Vec<String>);

impl Capabilities {
    fn read(words: &[&[u8]]) -> Self {
        Self(words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect())
    }

    /// Whether `name` (upper case) is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// In the server's order, upper case.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The next thing a server says.
#[derive(Debug)]
pub enum Received {
    /// A complete response. A body that was handed over before stands in it as [`scan::STREAMED`].
    Response(Vec<u8>),
    /// A FETCH response has come to a body: read it with [`ImapConnection::body_chunk`] to its end, then go on.
    Body {
        /// The response up to the body.
        line: Vec<u8>,
        /// Octets of the body.
        octets: u64,
    },
}

/// How a command ended with OK.
#[derive(Debug)]
pub struct Completed {
    /// What stood behind OK: response code and text.
    pub raw: Vec<u8>,
}

/// A connection to an IMAP server.
#[derive(Debug)]
pub struct ImapConnection {
    server: ImapServer,
    stream: Stream,
    input: BytesMut,
    framer: Framer,
    line: Vec<u8>,
    tags: u64,
    capabilities: Capabilities,
    greeting: String,
    software: Option<String>,
    farewell: Option<String>,
    meter: Option<Meter>,
    /// Goes out in front of the login.
    before_login: Vec<u8>,
    /// It fills whatever room it is offered.
    flows: bool,
}

impl ImapConnection {
    async fn open(server: &ImapServer, client: Option<Ends>) -> Result<Self, ImapError> {
        let Endpoint { host, port, .. } = server.endpoint.as_ref();
        let mut tcp = dial(host, *port, CONNECT_DEADLINE)
            .await
            .map_err(|source| ImapError::Dial { side: server.side, source })?;
        if server.endpoint.proxy_protocol {
            send_header(&mut tcp, client).await.map_err(|error| {
                let what = format!("takes no PROXY header: {error}");
                ImapError::Lost { side: server.side, server: Arc::clone(&server.name), what }
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
            framer: Framer::new(Role::Server),
            line: Vec::new(),
            tags: 0,
            capabilities: Capabilities::default(),
            greeting: String::new(),
            software: None,
            farewell: None,
            meter: None,
            before_login: Vec::new(),
            flows: false,
        };
        connection.greeting().await.map_err(|error| match error {
            ImapError::Lost { side, server, what } => ImapError::TurnedAway { side, server, what },
            other => other,
        })?;
        if server.endpoint.security == Security::StartTls {
            connection = connection.start_tls().await?;
        }
        Ok(connection)
    }

    /// What the server announced.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The text that it greeted with, without a response code, fit for a log line.
    #[must_use]
    pub fn greeting_text(&self) -> &str {
        &self.greeting
    }

    /// The name of its software, if it has told that in answer to ID.
    #[must_use]
    pub fn software(&self) -> Option<&str> {
        self.software.as_deref()
    }

    /// The server at the other end.
    #[must_use]
    pub const fn server(&self) -> &ImapServer {
        &self.server
    }

    /// Under which address the server sees us.
    #[must_use]
    pub fn local_address(&self) -> String {
        self.stream.local_addr().map_or_else(|_| "?".to_owned(), |address| address.ip().to_string())
    }

    /// Counts what it receives from now on.
    pub fn count_with(&mut self, meter: &Meter) {
        self.meter = Some(meter.clone());
    }

    /// A fresh tag.
    pub fn tag(&mut self) -> String {
        self.tags += 1;
        format!("m{}", self.tags)
    }

    /// The bare stream and the octets that were read and not used.
    #[must_use]
    pub fn into_stream(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Writes the fragments of a command; where one waits for the server's `+`, reads up to it. Returns the server's
    /// tagged refusal if it says that instead of `+`.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(&mut self, fragments: Vec<Fragment>) -> Result<Option<Vec<u8>>, ImapError> {
        for fragment in fragments {
            match fragment {
                Fragment::Bytes(octets) => self.write(&octets).await?,
                Fragment::AwaitContinuation => {
                    self.flush().await?;
                    loop {
                        let response = self.response().await?;
                        match scan::response(&response) {
                            Response::Continuation(_) => break,
                            Response::Tagged { .. } => return Ok(Some(response)),
                            _ => {}
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Sends a command and reads up to its end; `each` sees every untagged response.
    ///
    /// # Errors
    /// [`ImapError::Refused`] if the command ends with NO or BAD.
    pub async fn run(
        &mut self,
        name: &'static str,
        tag: &str,
        fragments: Result<Vec<Fragment>, CommandError>,
        each: &mut (dyn FnMut(Response<'_>) + Send),
    ) -> Result<Completed, ImapError> {
        let fragments = self.encoded(fragments)?;
        let mut next = self.send(fragments).await?;
        self.flush().await?;
        loop {
            let response = match next.take() {
                Some(response) => response,
                None => self.response().await?,
            };
            if let Some(ended) = self.ended(name, tag, &response)? {
                return Ok(ended);
            }
            each(scan::response(&response));
        }
    }

    /// Whether `response` ends the command with `tag`.
    ///
    /// # Errors
    /// [`ImapError::Refused`] if it ends it with NO or BAD.
    pub fn ended(&self, name: &'static str, tag: &str, response: &[u8]) -> Result<Option<Completed>, ImapError> {
        match scan::response(response) {
            Response::Tagged { tag: theirs, status, raw, .. } if theirs == tag.as_bytes() => match status {
                Status::Ok => Ok(Some(Completed { raw: raw.to_vec() })),
                // (RFC 5530 §3: to a command that is no login, these say that the login is over.)
                _ if [&b"[AUTHENTICATIONFAILED]"[..], b"[EXPIRED]"].iter().any(|code| raw.starts_with(code)) => {
                    Err(self.lost(format!("wants a new login: {}", printable(raw))))
                }
                _ => Err(ImapError::Refused {
                    side: self.server.side,
                    server: Arc::clone(&self.server.name),
                    command: name,
                    text: printable(raw),
                }),
            },
            _ => Ok(None),
        }
    }

    /// A command's fragments, or the error of a command that can't be written.
    ///
    /// # Errors
    /// [`ImapError::Command`].
    pub fn encoded(&self, fragments: Result<Vec<Fragment>, CommandError>) -> Result<Vec<Fragment>, ImapError> {
        fragments.map_err(|source| ImapError::Command {
            side: self.server.side,
            server: Arc::clone(&self.server.name),
            source,
        })
    }

    /// The next complete response; one with a body to hand over is an error here.
    ///
    /// # Errors
    /// If the connection breaks or a body comes unasked.
    pub async fn response(&mut self) -> Result<Vec<u8>, ImapError> {
        match self.receive().await? {
            Received::Response(response) => Ok(response),
            Received::Body { .. } => Err(self.protocol("sent a message body that nobody asked for".to_owned())),
        }
    }

    /// The next response, or the start of a body in it.
    ///
    /// # Errors
    /// If the connection breaks, or a response is longer than we hold.
    pub async fn receive(&mut self) -> Result<Received, ImapError> {
        loop {
            let (taken, event) = self.framer.advance(&self.input);
            self.line.extend_from_slice(self.input.get(..taken).unwrap_or_default());
            self.input.advance(taken);
            if self.line.len() > RESPONSE_MAX {
                return Err(self.protocol(format!("a response is longer than {RESPONSE_MAX} octets")));
            }
            match event {
                Some(Event::LineEnd) => return Ok(Received::Response(self.complete())),
                Some(Event::LiteralAnnounced { len, .. }) => {
                    if let Some(body) = self.body_start(len)? {
                        return Ok(body);
                    }
                }
                Some(Event::LiteralEnd) => {}
                None => self.fill().await?,
            }
        }
    }

    fn complete(&mut self) -> Vec<u8> {
        let response = std::mem::take(&mut self.line);
        match scan::response(&response) {
            Response::Capability(words) => self.capabilities = Capabilities::read(&words),
            Response::Status { status: Status::Bye, raw, .. } => self.farewell = Some(printable(raw)),
            _ => {}
        }
        response
    }

    /// Takes `{n}` off the line and puts the placeholder there, if the literal is a message body.
    fn body_start(&mut self, octets: u64) -> Result<Option<Received>, ImapError> {
        let text = self.line.iter().rposition(|&octet| octet == b'{').unwrap_or_default();
        let text = if text > 0 && self.line.get(text - 1) == Some(&b'~') { text - 1 } else { text };
        if scan::announces_body(self.line.get(..text).unwrap_or_default()) {
            self.line.truncate(text);
            let line = self.line.clone();
            self.line.extend_from_slice(scan::STREAMED);
            return Ok(Some(Received::Body { line, octets }));
        }
        if octets > LITERAL_MAX {
            return Err(self.protocol(format!("announced a literal of {octets} octets that is no message body")));
        }
        Ok(None)
    }

    /// The next piece of the body that [`Received::Body`] announced; `None` after its last octet.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn body_chunk(&mut self) -> Result<Option<Bytes>, ImapError> {
        loop {
            if !self.framer.in_literal() {
                return Ok(None);
            }
            let (taken, event) = self.framer.advance(&self.input);
            if taken > 0 {
                return Ok(Some(self.input.split_to(taken).freeze()));
            }
            if event.is_none() {
                self.fill().await?;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ImapError> {
        let room = if self.flows { READ_SIZE } else { LITTLE };
        self.input.reserve(room);
        match timeout(SILENCE_DEADLINE, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => {
                let farewell = self.farewell.take().map(|text| format!(" after BYE {text}")).unwrap_or_default();
                Err(self.lost(format!("closed the connection{farewell}")))
            }
            Ok(Ok(count)) => {
                self.flows = count >= LITTLE;
                if let Some(meter) = &self.meter {
                    meter.spend(count as u64);
                }
                Ok(())
            }
            Ok(Err(error)) => Err(self.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.lost(format!("silent for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }

    /// Writes octets; they may wait in a buffer until [`Self::flush`].
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), ImapError> {
        match timeout(SILENCE_DEADLINE, self.stream.write_all(octets)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.lost(format!("takes nothing for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn flush(&mut self) -> Result<(), ImapError> {
        match timeout(SILENCE_DEADLINE, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.lost(format!("takes nothing for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }

    fn lost(&self, what: String) -> ImapError {
        ImapError::Lost { side: self.server.side, server: Arc::clone(&self.server.name), what }
    }

    /// An error about what this server said.
    #[must_use]
    pub fn protocol(&self, what: String) -> ImapError {
        ImapError::Protocol { side: self.server.side, server: Arc::clone(&self.server.name), what }
    }
}

impl ImapServer {
    fn tls_error(&self, source: TlsError) -> ImapError {
        ImapError::Tls { side: self.side, server: Arc::clone(&self.name), source }
    }
}

/// What a server said, fit for a log line.
#[must_use]
pub fn printable(text: &[u8]) -> String {
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(text.trim_ascii());
    text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
