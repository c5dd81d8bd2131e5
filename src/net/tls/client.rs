//! TLS towards a side.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{HANDSHAKE, TlsError, VERSIONS, pem, pin, provider};
use crate::config::{Endpoint, Security, TlsFiles, TlsVersion, Trust};
use crate::net::Stream;

/// Whom we trust as a server, and how we connect to it.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The name to ask for, if it is not the host's.
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// What `endpoint` says; nothing where it is in clear.
    ///
    /// # Errors
    /// As for [`ClientTls::new`].
    pub fn towards(endpoint: &Endpoint) -> Result<Option<Self>, TlsError> {
        match endpoint.security {
            Security::Clear => Ok(None),
            _ => Self::new(&endpoint.trust).map(Some),
        }
    }

    /// Trusts what `trust` says: the holder of one key, some certificates and nothing else, or the system's authorities.
    /// Reads files: not for use in a hot path.
    ///
    /// # Errors
    /// [`TlsError`] if a file is of no use, or the system has no authorities.
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        let name = trust.name.as_deref().map(server_name).transpose()?;
        let verifier: Arc<dyn ServerCertVerifier> = match trust.pin {
            Some(pin) => Arc::new(pin::Verifier::new(pin)),
            None => Arc::new(Verifier::trusting(trust.ca.as_deref())?),
        };
        let versions: &[_] = match trust.oldest {
            TlsVersion::V12 => &VERSIONS,
            TlsVersion::V13 => &[&TLS13],
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Handshake { peer: "any server".to_owned(), reason: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &trust.client {
            None => config.with_no_client_auth(),
            Some(TlsFiles { cert, key }) => {
                let refused = |error: Error| {
                    let (cert, key, reason) = (cert.clone(), key.clone(), error.to_string());
                    TlsError::Pair { cert, key, reason }
                };
                let chain = pem::certificates(cert)?;
                let mut config = config.with_client_auth_cert(chain, pem::private_key(key)?).map_err(refused)?;
                // A server on OpenSSL that asks for certificates breaks off resumed sessions, unless it has given them a
                // context (`SSL_CTX_set_session_id_context`): Dovecot 2.3 gives none.
                config.resumption = Resumption::disabled();
                config
            }
        };
        Ok(Self { config: Arc::new(config), name })
    }

    /// Starts TLS with `host`, whose certificate must be for that name (or address), unless another one is configured.
    /// Deadline 30 s.
    ///
    /// # Errors
    /// [`TlsError`], which names the host and what is wrong with its certificate.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> Result<Stream, TlsError> {
        let name = self.name.clone().map_or_else(|| server_name(host), Ok)?;
        let peer = match tcp.peer_addr() {
            Ok(address) if address.ip().to_string() != host => format!("{host} ({address})"),
            Ok(address) => address.to_string(),
            Err(_) => host.to_owned(),
        };
        match timeout(HANDSHAKE, TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp)).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(error)) => Err(TlsError::handshake(peer, &error)),
            Err(_) => Err(TlsError::Timeout { peer }),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))
}

fn roots_of(path: &Path, listed: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in listed {
        roots.add(certificate.clone()).map_err(|error| TlsError::file(path, error.to_string()))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that rustls can't read; the others are as good as before.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoSystemRoots { reason: errors.join("; ") });
    }
    Ok(roots)
}

/// Checks chains as the web does, and trusts a server's own certificate if it is listed in `ca_file`.
///
/// The latter because `openssl req -x509`, with which many mail servers were set up, makes certificates that say they
/// are an authority; the web's rules refuse those as a server's. Dates and name are checked all the same.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Trusts the certificates in `ca`, a file or a folder, and nothing else; or the system's authorities.
    fn trusting(ca: Option<&Path>) -> Result<Self, TlsError> {
        let listed = ca.map(pem::authorities).transpose()?.unwrap_or_default();
        let roots = match ca {
            Some(path) => roots_of(path, &listed)?,
            None => system_roots()?,
        };
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(
            |error| match ca {
                Some(path) => TlsError::file(path, error.to_string()),
                None => TlsError::NoSystemRoots { reason: error.to_string() },
            },
        )?;
        Ok(Self { chains, listed })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // `Other` is what "an authority used as a server" comes as. Dates are checked before either of the two.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.listed.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
