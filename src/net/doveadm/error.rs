//! What can go wrong with the connection of a dsync session, in words that a postmaster can act on.

use std::io;
use std::time::Duration;

use crate::net::TlsError;
use crate::net::dial::DialError;
use crate::wire::dsync::doveadm::LoginError;
use crate::wire::dsync::error::MasterError;

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No TLS.
    #[error(transparent)]
    Tls(TlsError),
    /// No TLS after STARTTLS.
    #[error(
        "STARTTLS was refused or failed, and nothing is sent in clear text: {0}; it needs Dovecot 2.3.9 or later there, with ssl = yes"
    )]
    StartTls(#[source] TlsError),
    /// No login.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The connection was closed instead of starting dsync.
    #[error(
        "the server closed the connection instead of starting dsync-server: if doveadm_allowed_commands is set there, \
         it must contain dsync-server"
    )]
    Forbidden,
    /// The slave sent nothing for too long.
    #[error("{state}, the server sent nothing for {idle:?}")]
    Silent {
        /// What was waited for.
        state: &'static str,
        /// How long.
        idle: Duration,
    },
    /// The slave read nothing for too long.
    #[error("{state}, the server read nothing for {idle:?}")]
    Stalled {
        /// What was going on.
        state: &'static str,
        /// How long.
        idle: Duration,
    },
    /// The connection ended in the middle.
    #[error("{state}, the server closed the connection: its dsync-server crashed or was killed")]
    Closed {
        /// What was going on.
        state: &'static str,
    },
    /// The connection broke.
    #[error("{state}, the connection broke: {error}")]
    Io {
        /// What was going on.
        state: &'static str,
        /// How.
        error: io::Error,
    },
    /// The slave did something else than expected.
    #[error(transparent)]
    Peer(#[from] MasterError),
}
