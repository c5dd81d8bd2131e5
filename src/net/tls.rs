//! TLS on both ends: our certificate towards clients, the sides' certificates towards us.

mod choice;
mod client;
mod pem;
mod pin;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, CertificateError, SupportedProtocolVersion};

pub use client::ClientTls;
pub use server::ServerTls;

/// A handshake takes three round trips and some milliseconds; whoever needs longer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What we speak, on both ends (RFC 8996 has done away with the older ones).
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file is of no use.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key don't fit together, or TLS refuses them.
    #[error("{} and {} can't be used together: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// TLS itself can't be had.
    #[error("no TLS: {0}")]
    Unavailable(String),
    /// The system has no certificates of authorities.
    #[error("the system has no trusted certificates ({reason}): install ca-certificates, or set ca_file")]
    NoSystemRoots {
        /// What was looked at.
        reason: String,
    },
    /// A host name that no certificate can be for.
    #[error("\"{0}\" is not a host name that a certificate can be checked against")]
    HostName(String),
    /// The handshake failed.
    #[error("no TLS with {peer}: {reason}")]
    Handshake {
        /// Host or address of the other end.
        peer: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The other end closed the connection instead of a handshake.
    #[error("no TLS with {peer}: {reason}")]
    HungUp {
        /// Host or address of the other end.
        peer: String,
        /// How.
        reason: String,
    },
    /// The handshake took too long.
    #[error("no TLS with {peer}: no end of the handshake within {} s", HANDSHAKE.as_secs())]
    Timeout {
        /// Host or address of the other end.
        peer: String,
    },
}

impl TlsError {
    fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }

    /// Explains what a handshake's I/O error holds.
    fn handshake(peer: String, error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let reason = match tls {
            Some(rustls::Error::InvalidCertificate(certificate)) => explain(certificate),
            Some(rustls::Error::InvalidMessage(_)) => {
                "the other end doesn't speak TLS here: is this a port for STARTTLS, or for clear text?".to_owned()
            }
            Some(tls) => tls.to_string(),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let reason = "the other end closed the connection during the handshake".to_owned();
                return Self::HungUp { peer, reason };
            }
            None if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Self::HungUp { peer, reason: error.to_string() };
            }
            None => error.to_string(),
        };
        Self::Handshake { peer, reason }
    }
}

/// What is wrong with a server's certificate, and what a postmaster can do.
fn explain(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "its certificate is signed by an authority that isn't trusted: \
             set ca_file to the certificate of that authority, or of the server itself"
            .to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{error}: connect by a name that its certificate is for")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{error}: renew the server's certificate")
        }
        CertificateError::Other(other) if other.0.is::<pin::WrongKey>() => other.0.to_string(),
        _ => format!("its certificate is refused: {error}"),
    }
}

#[cfg(test)]
mod tests;
