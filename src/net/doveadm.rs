//! A Dovecot's doveadm service, on which dsync sessions run: connecting, TLS, logging in, and the bytes of a session.

mod error;
mod link;

use std::time::Duration;

use secrecy::SecretString;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::dial::dial;
use super::{ClientTls, Stream, TlsError};
use crate::config::{Endpoint, Security};
use crate::wire::dsync::Role;
use crate::wire::dsync::doveadm::{self, Login};

pub use error::Reason;
pub use link::Link;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Seconds of silence after which the slave gives up: it also counts while we wait for the other side, whose own deadlines are
/// shorter.
const SLAVE_IDLE: u64 = 1800;

/// A Dovecot's doveadm service.
#[derive(Clone, Debug)]
pub struct Doveadm {
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    password: SecretString,
    idle: Duration,
}

impl Doveadm {
    /// A service at `endpoint`. `idle` is the longest time without progress in either direction before a session is given up.
    ///
    /// # Errors
    /// If the certificates to trust can't be read.
    pub fn new(endpoint: Endpoint, password: SecretString, idle: Duration) -> Result<Self, TlsError> {
        Ok(Self { tls: ClientTls::towards(&endpoint)?, endpoint, password, idle })
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// As it stands in the configuration, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.endpoint.security {
            Security::Clear => "doveadm",
            Security::StartTls => "doveadm+starttls",
            Security::Tls => "doveadm+tls",
        };
        format!("{scheme}://{}", self.endpoint)
    }

    /// Connects and logs in, and does nothing there.
    ///
    /// # Errors
    /// [`Reason`].
    pub async fn probe(&self) -> Result<(), Reason> {
        self.log_in().await.map(|_| ())
    }

    /// Connects, logs in and starts dsync for `user`, in which we have `role`.
    ///
    /// # Errors
    /// [`Reason`].
    pub async fn open<R: Role>(&self, user: &str, role: R) -> Result<Link<R>, Reason> {
        let (mut stream, multiplexed, rest) = self.log_in().await?;
        let state = "sending the command";
        let command = doveadm::dsync_server(user, SLAVE_IDLE);
        let sent = timeout(self.idle, async {
            stream.write_all(&command).await?;
            stream.flush().await
        });
        sent.await
            .map_err(|_| Reason::Stalled { state, idle: self.idle })?
            .map_err(|error| Reason::Io { state, error })?;
        let mut link = Link::new(stream, multiplexed, role, self.idle);
        link.ingest(&rest)?;
        Ok(link)
    }

    /// Connects and authenticates.
    async fn log_in(&self) -> Result<(Stream, bool, Vec<u8>), Reason> {
        let Endpoint { host, port, security, .. } = &self.endpoint;
        let password = self.password.clone();
        let login = if *security == Security::StartTls { Login::starttls(password) } else { Login::new(password) };
        let tcp = dial(host, *port, CONNECT).await?;
        let stream = match (&self.tls, security) {
            (Some(tls), Security::Tls) => tls.connect(tcp, host).await.map_err(Reason::Tls)?,
            _ => Stream::Plain(tcp),
        };
        link::login(stream, login, self.tls.as_ref().map(|tls| (tls, host.as_str())), self.idle).await
    }
}
