//! Trust in one key: what `pin` in the configuration asks for.
//!
//! The sum is that of the public key as it stands in the certificate (`SubjectPublicKeyInfo`), so that a renewed
//! certificate for the same key goes on working. The handshake's signature, which proves that the server has the key, is
//! checked as always.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme, SupportedCipherSuite,
};

use super::provider;
use crate::config::Pin;

/// A server has another key than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error(
    "its key is not the pinned one: the server has {found}, pin is {pinned}; either this is not the server, or it has a \
     new key: look there, then set pin"
)]
pub(super) struct WrongKey {
    pinned: Pin,
    found: Pin,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(pin: Pin) -> Self {
        Self { pin, provider: provider() }
    }
}

/// The pin of the key in a certificate.
fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    // The TLS library's own SHA-256.
    let sum = match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.hash(&key),
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider.hash(&key),
    };
    let sum = <[u8; 32]>::try_from(sum.as_ref()).map_err(|_| Error::General("no SHA-256".to_owned()))?;
    Ok(Pin(sum))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = pin_of(end_entity)?;
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongKey { pinned: self.pin, found };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
