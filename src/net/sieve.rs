//! A ManageSieve client connection: dials a server, logs in, reads and writes scripts.

mod access;
mod login;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

pub use login::SieveLogin;

use super::dial::{DialError, dial};
use super::imap::printable;
use super::proxied::send_header;
use super::stream::Stream;
use super::tls::{ClientTls, TlsError};
use crate::config::{Endpoint, Security};
use crate::mailbox::{Scripts, Side};
use crate::wire::sieve::command::{self, NAME_MAX};
use crate::wire::sieve::scan::{self, Bad, End, Line, Status};

/// How long a connection may take to be made, and a server to greet.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// How long a server may be silent inside a command before we give it up.
const SILENCE_DEADLINE: Duration = Duration::from_secs(60);

/// How long a server may take to answer LOGOUT.
const LOGOUT_PATIENCE: Duration = Duration::from_secs(2);

/// Octets read from the socket at once.
const READ_SIZE: usize = 16 * 1024;

/// Scripts of one user: people have a handful.
const SCRIPTS_MAX: usize = 256;

/// Octets of all scripts of one user.
const OCTETS_MAX: usize = 16 << 20;

/// Octets of one answer: a script, or a list of names.
const ANSWER_MAX: usize = scan::SCRIPT_MAX + (256 << 10);

/// Octets shown of a line that makes no sense.
const SHOWN_MAX: usize = 200;

/// Lines of one answer.
const LINES_MAX: usize = 1024;

/// What can go wrong with a ManageSieve server.
#[derive(Debug, thiserror::Error)]
pub enum SieveError {
    /// It can't be reached.
    #[error("{side} side ManageSieve: {source}")]
    Dial {
        /// Which side.
        side: Side,
        /// Why.
        source: DialError,
    },
    /// TLS failed.
    #[error("{side} side ManageSieve {server}: {source}")]
    Tls {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// Why.
        source: TlsError,
    },
    /// The connection broke, or something came that makes no sense to us.
    #[error("{side} side ManageSieve {server}: {what}")]
    Lost {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// How.
        what: String,
    },
    /// It refused a command of ours.
    #[error("{side} side ManageSieve {server} refuses {what}: {text}")]
    Refused {
        /// Which side.
        side: Side,
        /// Which server.
        server: Arc<str>,
        /// The command without its arguments.
        what: &'static str,
        /// Its code, if it gave one, and what it said.
        text: String,
    },
}

/// One side's ManageSieve server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SieveServer {
    side: Side,
    endpoint: Arc<Endpoint>,
    tls: Option<ClientTls>,
    name: Arc<str>,
}

impl SieveServer {
    /// The server at `endpoint`.
    ///
    /// # Errors
    /// If the certificates to trust can't be read.
    pub fn new(side: Side, endpoint: &Endpoint) -> Result<Self, TlsError> {
        let tls = ClientTls::towards(endpoint)?;
        let name = format!("{}:{}", endpoint.host, endpoint.port).into();
        Ok(Self { side, endpoint: Arc::new(endpoint.clone()), tls, name })
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
    /// If the server can't be reached, its certificate is not trusted, or it does not greet.
    pub async fn connect(&self) -> Result<SieveConnection, SieveError> {
        match timeout(CONNECT_DEADLINE, SieveConnection::open(self)).await {
            Ok(connection) => connection,
            Err(_) => Err(self.lost(format!("no greeting within {} s", CONNECT_DEADLINE.as_secs()))),
        }
    }

    fn lost(&self, what: String) -> SieveError {
        SieveError::Lost { side: self.side, server: Arc::clone(&self.name), what }
    }

    fn tls_error(&self, source: TlsError) -> SieveError {
        SieveError::Tls { side: self.side, server: Arc::clone(&self.name), source }
    }

    fn refused(&self, what: &'static str, end: &End) -> SieveError {
        SieveError::Refused { side: self.side, server: Arc::clone(&self.name), what, text: said(end) }
    }
}

/// What a server said, for people: its code, and its text on one line.
fn said(end: &End) -> String {
    let text: Vec<u8> = end.text.iter().map(|octet| if octet.is_ascii_whitespace() { b' ' } else { *octet }).collect();
    let text = printable(&text);
    match &end.code {
        Some(code) => format!("({code}) {text}"),
        None => text,
    }
}

/// A connection to a ManageSieve server.
#[derive(Debug)]
pub struct SieveConnection {
    server: SieveServer,
    stream: Stream,
    input: BytesMut,
    /// What it announced last: names in upper case, and their values.
    capabilities: Vec<(String, String)>,
}

impl SieveConnection {
    async fn open(server: &SieveServer) -> Result<Self, SieveError> {
        let Endpoint { host, port, .. } = server.endpoint.as_ref();
        let mut tcp = dial(host, *port, CONNECT_DEADLINE)
            .await
            .map_err(|source| SieveError::Dial { side: server.side, source })?;
        if server.endpoint.proxy_protocol {
            send_header(&mut tcp, None)
                .await
                .map_err(|error| server.lost(format!("takes no PROXY header: {error}")))?;
        }
        let stream = match (&server.endpoint.security, &server.tls) {
            (Security::Tls, Some(tls)) => tls.connect(tcp, host).await.map_err(|source| server.tls_error(source))?,
            _ => Stream::Plain(tcp),
        };
        let mut connection = Self { server: server.clone(), stream, input: BytesMut::new(), capabilities: Vec::new() };
        connection.announced("the connection").await?;
        if server.endpoint.security == Security::StartTls {
            connection = connection.start_tls().await?;
        }
        Ok(connection)
    }

    /// The server at the other end.
    #[must_use]
    pub const fn server(&self) -> &SieveServer {
        &self.server
    }

    /// Under which address the server sees us.
    #[must_use]
    pub fn local_address(&self) -> String {
        self.stream.local_addr().map_or_else(|_| "?".to_owned(), |address| address.ip().to_string())
    }

    /// Whether the server announces a capability.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.capabilities.iter().any(|(known, _)| known == name)
    }

    /// The words that the server gives with a capability.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.capabilities.iter().filter(move |(known, _)| known == name);
        values.flat_map(|(_, value)| value.split_ascii_whitespace())
    }

    /// All scripts, and which one is active.
    ///
    /// # Errors
    /// If the connection breaks, the server refuses, or there are more or larger scripts than we hold.
    pub async fn scripts(&mut self) -> Result<Scripts, SieveError> {
        let (mut scripts, mut names, mut octets) = (Scripts::default(), Vec::new(), 0);
        for (strings, active) in self.ask("LISTSCRIPTS", &command::bare("LISTSCRIPTS")).await? {
            let name = strings.into_iter().next().unwrap_or_default();
            let name = String::from_utf8(name).ok().filter(|name| name.len() <= NAME_MAX);
            let name = name.ok_or_else(|| self.server.lost("has a script whose name is no name".to_owned()))?;
            if active {
                scripts.active = Some(name.clone());
            }
            names.push(name);
        }
        if names.len() > SCRIPTS_MAX {
            return Err(self.server.lost(format!("has more than {SCRIPTS_MAX} scripts of one user")));
        }
        for name in names {
            let answer = self.ask("GETSCRIPT", &command::with("GETSCRIPT", &[name.as_bytes()])).await?;
            let script = answer.into_iter().find_map(|(strings, _)| strings.into_iter().next());
            let script = script.ok_or_else(|| self.server.lost(format!("gives nothing as script {name:?}")))?;
            octets += script.len();
            if octets > OCTETS_MAX {
                return Err(self.server.lost(format!("has more than {OCTETS_MAX} octets of scripts of one user")));
            }
            scripts.all.insert(name, script);
        }
        Ok(scripts)
    }

    /// What the server has against a script, without keeping it. A server that can't be asked (RFC 5804 §1.7: one without
    /// VERSION) has nothing against it yet.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn check(&mut self, script: &[u8]) -> Result<Result<(), String>, SieveError> {
        if !self.has("VERSION") {
            return Ok(Ok(()));
        }
        self.judged("CHECKSCRIPT", &[script]).await
    }

    /// Puts a script in its place, or says what the server has against it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn put(&mut self, name: &str, script: &[u8]) -> Result<Result<(), String>, SieveError> {
        self.judged("PUTSCRIPT", &[name.as_bytes(), script]).await
    }

    async fn judged(&mut self, what: &'static str, strings: &[&[u8]]) -> Result<Result<(), String>, SieveError> {
        self.write(&command::with(what, strings)).await?;
        let (_, end) = self.answer().await?;
        Ok(match end.status {
            Status::Ok => Ok(()),
            _ if end.code.as_deref() == Some("TRYLATER") => return Err(self.server.refused(what, &end)),
            _ => Err(said(&end)),
        })
    }

    /// Makes a script the active one, or none.
    ///
    /// # Errors
    /// If the connection breaks, or the server refuses.
    pub async fn set_active(&mut self, name: Option<&str>) -> Result<(), SieveError> {
        let name = name.unwrap_or_default();
        self.ask("SETACTIVE", &command::with("SETACTIVE", &[name.as_bytes()])).await.map(drop)
    }

    /// Deletes a script that is not active.
    ///
    /// # Errors
    /// If the connection breaks, or the server refuses.
    pub async fn delete(&mut self, name: &str) -> Result<(), SieveError> {
        self.ask("DELETESCRIPT", &command::with("DELETESCRIPT", &[name.as_bytes()])).await.map(drop)
    }

    /// Ends the session. Errors don't matter any more.
    pub async fn logout(mut self) {
        let said = async {
            self.write(&command::bare("LOGOUT")).await?;
            self.answer().await.map(drop)
        };
        let _ = timeout(LOGOUT_PATIENCE, said).await;
    }

    /// Sends a command and reads its answer; a refusal is an error.
    async fn ask(&mut self, what: &'static str, octets: &[u8]) -> Result<Vec<(Vec<Vec<u8>>, bool)>, SieveError> {
        self.write(octets).await?;
        let (lines, end) = self.answer().await?;
        if end.status == Status::Ok { Ok(lines) } else { Err(self.server.refused(what, &end)) }
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), SieveError> {
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

    /// The lines of an answer, and its end.
    async fn answer(&mut self) -> Result<(Vec<(Vec<Vec<u8>>, bool)>, End), SieveError> {
        let (mut lines, mut octets) = (Vec::new(), 0);
        loop {
            match self.line().await? {
                Line::End(end) => return Ok((lines, end)),
                Line::Data { strings, active } => {
                    octets += strings.iter().map(Vec::len).sum::<usize>();
                    lines.push((strings, active));
                }
            }
            if lines.len() > LINES_MAX || octets > ANSWER_MAX {
                return Err(self.server.lost("an answer of it has no end".to_owned()));
            }
        }
    }

    async fn line(&mut self) -> Result<Line, SieveError> {
        loop {
            match scan::line(&self.input) {
                Ok(Some((line, octets))) => {
                    self.input.advance(octets);
                    return Ok(line);
                }
                Ok(None) => self.fill().await?,
                Err(Bad::Syntax) => {
                    let line = self.input[..].split(|octet| *octet == b'\n').next().unwrap_or_default();
                    let shown = printable(line.get(..SHOWN_MAX).unwrap_or(line).trim_ascii_end());
                    return Err(self.server.lost(format!("{}: {shown}", Bad::Syntax)));
                }
                Err(bad) => return Err(self.server.lost(bad.to_string())),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), SieveError> {
        self.input.reserve(READ_SIZE);
        match timeout(SILENCE_DEADLINE, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.server.lost("closed the connection".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.server.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.server.lost(format!("silent for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }
}
