//! PEM files: the only user of rustls-pemfile.
//!
//! That crate has no maintainer any more (RUSTSEC-2025-0134); it is a wrapper on rustls-pki-types' parser, and kept in
//! this one file so that it can be replaced.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::TlsError;

/// The system's whole set of authorities takes some 250 KB; a longer file is something else given by mistake.
const MAX_FILE: usize = 2 << 20;

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes.as_slice()).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(TlsError::file(path, "no certificate in it: it should hold \"-----BEGIN CERTIFICATE-----\""))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::file(path, format!("not a PEM file: {error}"))),
    }
}

/// The first private key of a file: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    match rustls_pemfile::private_key(&mut bytes.as_slice()) {
        Ok(Some(key)) => Ok(key),
        Ok(None) if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) => {
            Err(TlsError::file(path, "the private key is encrypted: store it without a passphrase"))
        }
        Ok(None) => Err(TlsError::file(path, "no private key in it: it should hold \"-----BEGIN PRIVATE KEY-----\"")),
        Err(error) => Err(TlsError::file(path, format!("not a PEM file: {error}"))),
    }
}

const ENCRYPTED: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |error: std::io::Error| TlsError::file(path, format!("can't read it: {error}"));
    let file = File::open(path).map_err(failed)?;
    // Room for all of it from the start: a buffer that grows would leave copies of the key behind.
    let length = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(usize::MAX).min(MAX_FILE);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 64));
    let limit = u64::try_from(MAX_FILE + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(TlsError::file(path, format!("longer than {MAX_FILE} bytes: not a certificate or key")));
    }
    Ok(bytes)
}
