//! A certificate authority for one test process, and server certificates for `localhost` and `127.0.0.1`.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// PEM files of one server.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "mailferry lab CA");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    })
}

/// Writes `tls.pem`, `tls.key` and `ca.pem` into `folder`.
pub fn write(folder: &Path) -> TlsFiles {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority().issuer).unwrap();
    let files = TlsFiles { cert: folder.join("tls.pem"), key: folder.join("tls.key"), ca: folder.join("ca.pem") };
    fs::write(&files.cert, cert.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    fs::write(&files.ca, &authority().pem).unwrap();
    files
}

/// Writes a certificate for a client, and its key; gives their paths.
pub fn client(folder: &Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("client.pem"), folder.join("client.key"));
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "mailferry");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate().unwrap();
    fs::write(&cert, params.signed_by(&pair, &authority().issuer).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    (cert, key)
}

/// Writes a certificate that nobody here has signed or uses; gives its path.
pub fn stranger(folder: &Path) -> PathBuf {
    let path = folder.join("stranger.pem");
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(&path, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
    path
}

/// Writes a certificate for `host` that signs itself, whose time is over if `expired`, and its key; gives their paths.
pub fn self_signed(folder: &Path, host: &str, expired: bool) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let (cert, secret) = (folder.join("self-signed.pem"), folder.join("self-signed.key"));
    fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&secret, key.serialize_pem()).unwrap();
    (cert, secret)
}
