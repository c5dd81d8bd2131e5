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

/// More than a system has.
const MAX_FILES: usize = 2000;

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

/// All certificates of a file, or of the files of a folder that look like some by their names (`.pem`, `.crt`, `.cer`, or
/// a hash and a number, as OpenSSL names them); at least one.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if !path.is_dir() {
        return certificates(path);
    }
    let failed = |error: std::io::Error| TlsError::file(path, format!("can't read it: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if is_named_as_certificate(&file) && file.is_file() {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(TlsError::file(
                path,
                format!("more than {MAX_FILES} certificates: not a folder of authorities"),
            ));
        }
    }
    // One certificate often has two names there.
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    files.sort();
    for file in &files {
        for certificate in certificates(file)? {
            if !found.contains(&certificate) {
                found.push(certificate);
            }
        }
    }
    if found.is_empty() {
        return Err(TlsError::file(path, "no certificate in this folder: their files end in .pem, .crt or .cer"));
    }
    Ok(found)
}

fn is_named_as_certificate(file: &Path) -> bool {
    let Some(ending) = file.extension().and_then(|ending| ending.to_str()) else { return false };
    let hash = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let hashed = hash.len() == 8 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    ["pem", "crt", "cer"].contains(&ending) || hashed && ending.bytes().all(|digit| digit.is_ascii_digit())
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
