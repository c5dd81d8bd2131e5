//! TLS over real sockets with certificates made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{ClientTls, ServerTls, TlsError, pem, provider};
use crate::config::{Sni, Tls, TlsFiles, TlsVersion, Trust};
use crate::net::Stream;

mod names;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Trust in what a file or folder holds.
fn trusting(ca: &Path) -> Trust {
    Trust { ca: Some(ca.to_owned()), ..Trust::default() }
}

/// A folder with our certificate and key, and authorities to sign with.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.path("cert.pem"), key: self.path("key.pem") }
    }

    fn tls(&self) -> Tls {
        Tls { pairs: vec![self.files()], sni: vec![] }
    }

    /// Makes an authority, with its certificate in the file `name`.
    fn authority(&self, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(self.path(name), authority.pem()).unwrap();
        authority
    }

    /// Writes a certificate for `host`, signed by `authority`, and its key.
    fn issue(&self, authority: &Authority, host: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    /// Writes a certificate for `host` that signs itself.
    fn issue_self_signed(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        fs::write(self.path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }
}

/// A TCP connection, both ends.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// A handshake between the two.
async fn shake(
    client: &ClientTls,
    server: &ServerTls,
    host: &str,
) -> (Result<Stream, TlsError>, Result<Stream, TlsError>) {
    let (near, far) = pair().await;
    tokio::join!(client.connect(near, host), server.accept(far))
}

/// Why `client` refuses `server` as `host`.
async fn refusal(client: &ClientTls, server: &ServerTls, host: &str) -> String {
    shake(client, server, host).await.0.expect_err("must be refused").to_string()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_is_seen() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let client = ClientTls::new(&trusting(&desk.path("ca.pem"))).unwrap();
    let server = ServerTls::load(&desk.tls()).unwrap();
    let (near, far) = shake(&client, &server, "localhost").await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert!(near.is_tls() && far.is_tls());
    assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
    near.write_all(b"a1 NOOP\r\n").await.unwrap();
    near.flush().await.unwrap();
    let mut line = [0; 9];
    far.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"a1 NOOP\r\n");
    far.write_all(b"a1 OK\r\n").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"a1 OK\r\n");
}

#[tokio::test]
async fn a_peer_that_just_closes_has_closed() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let client = ClientTls::new(&trusting(&desk.path("ca.pem"))).unwrap();
    let server = ServerTls::load(&desk.tls()).unwrap();
    let (near, far) = shake(&client, &server, "localhost").await;
    let mut near = near.unwrap();
    drop(far.unwrap());
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn another_name_than_the_hosts_is_asked_for_and_checked() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "mail.example");
    let server = ServerTls::load(&desk.tls()).unwrap();
    let named = |name: &str| {
        let name = Some(name.to_owned());
        ClientTls::new(&Trust { name, ..trusting(&desk.path("ca.pem")) }).unwrap()
    };
    assert!(shake(&named("mail.example"), &server, "localhost").await.0.is_ok());
    let said = refusal(&named("other.example"), &server, "mail.example").await;
    assert!(said.contains("other.example"), "{said}");
    let error = ClientTls::new(&Trust { name: Some("no name".to_owned()), ..trusting(&desk.path("ca.pem")) });
    assert!(error.unwrap_err().to_string().contains("no name"));
}

#[tokio::test]
async fn the_oldest_version_that_is_spoken_can_be_raised() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    for (oldest, versions, spoken) in [
        (TlsVersion::V12, &[&TLS12][..], true),
        (TlsVersion::V12, &[&TLS13][..], true),
        (TlsVersion::V13, &[&TLS13][..], true),
        (TlsVersion::V13, &[&TLS12][..], false),
    ] {
        let client = ClientTls::new(&Trust { oldest, ..trusting(&desk.path("ca.pem")) }).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                pem::certificates(&desk.files().cert).unwrap(),
                pem::private_key(&desk.files().key).unwrap(),
            )
            .unwrap();
        let (near, far) = pair().await;
        let server = TlsAcceptor::from(Arc::new(config));
        let (near, _) = tokio::join!(client.connect(near, "localhost"), server.accept(far));
        assert_eq!(near.is_ok(), spoken, "{oldest:?} {versions:?}");
    }
}

#[tokio::test]
async fn a_folder_of_authorities_is_trusted_whatever_else_lies_there() {
    let desk = Desk::new();
    fs::create_dir(desk.path("cas")).unwrap();
    let client = || ClientTls::new(&trusting(&desk.path("cas")));
    assert!(client().unwrap_err().to_string().contains("no certificate in this folder"));
    fs::write(desk.path("cas/README"), "not one").unwrap();
    let (first, second) = (desk.authority("cas/0a1b2c3d.0"), desk.authority("cas/second.crt"));
    fs::copy(desk.path("cas/second.crt"), desk.path("cas/again.pem")).unwrap();
    for authority in [first, second] {
        desk.issue(&authority, "localhost");
        let server = ServerTls::load(&desk.tls()).unwrap();
        assert!(shake(&client().unwrap(), &server, "localhost").await.0.is_ok());
    }
    let other = desk.authority("other.pem");
    desk.issue(&other, "localhost");
    let said = refusal(&client().unwrap(), &ServerTls::load(&desk.tls()).unwrap(), "localhost").await;
    assert!(said.contains("isn't trusted"), "{said}");
    fs::write(desk.path("cas/broken.pem"), "nothing").unwrap();
    assert!(client().unwrap_err().to_string().contains("broken.pem"));
}

#[tokio::test]
async fn both_versions_are_spoken_and_no_older_one() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let server = ServerTls::load(&desk.tls()).unwrap();
    let versions: [(&'static SupportedProtocolVersion, ProtocolVersion); 2] =
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    for (offered, spoken) in versions {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pem::certificates(&desk.path("ca.pem")).unwrap());
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[offered])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = pair().await;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(connector.connect(name, near), server.accept(far));
        assert_eq!(near.unwrap().get_ref().1.protocol_version(), Some(spoken));
        assert!(far.unwrap().is_tls());
    }
    // A ClientHello of TLS 1.1 without any extension.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let (mut near, far) = pair().await;
    near.write_all(&hello).await.unwrap();
    let error = server.accept(far).await.expect_err("TLS 1.1").to_string();
    assert!(error.contains(&near.local_addr().unwrap().to_string()), "{error}");
    assert!(error.contains("incompatible"), "{error}");
}

#[tokio::test]
async fn who_isnt_trusted_is_refused_with_advice() {
    let desk = Desk::new();
    let (authority, _) = (desk.authority("ca.pem"), desk.authority("other.pem"));
    desk.issue(&authority, "localhost");
    let server = ServerTls::load(&desk.tls()).unwrap();

    let other = ClientTls::new(&trusting(&desk.path("other.pem"))).unwrap();
    let error = refusal(&other, &server, "localhost").await;
    assert!(error.contains("isn't trusted") && error.contains("ca_file") && error.contains("localhost"), "{error}");

    let right = ClientTls::new(&trusting(&desk.path("ca.pem"))).unwrap();
    let error = refusal(&right, &server, "mail.example").await;
    assert!(error.contains("mail.example") && error.contains("localhost"), "{error}");
    assert!(refusal(&right, &server, "127.0.0.1").await.contains("127.0.0.1"));
    assert!(refusal(&right, &server, "no host").await.contains("not a host name"));
}

#[tokio::test]
async fn a_servers_own_certificate_may_be_listed() {
    let desk = Desk::new();
    let other = Desk::new();
    for authority in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        for desk in [&desk, &other] {
            desk.issue_self_signed("localhost", |params| params.is_ca = authority);
        }
        let server = ServerTls::load(&desk.tls()).unwrap();
        let client = ClientTls::new(&trusting(&desk.files().cert)).unwrap();
        let (near, far) = shake(&client, &server, "localhost").await;
        assert!(near.is_ok() && far.is_ok(), "{authority:?}: {:?}", near.err());
        assert!(refusal(&client, &server, "mail.example").await.contains("mail.example"));
        // The same name, signed by itself, but another key.
        let other = ServerTls::load(&other.tls()).unwrap();
        assert!(shake(&client, &other, "localhost").await.0.is_err(), "{authority:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_even_if_listed() {
    for authority in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let desk = Desk::new();
        desk.issue_self_signed("localhost", |params| {
            params.is_ca = authority;
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        });
        let client = ClientTls::new(&trusting(&desk.files().cert)).unwrap();
        let error = refusal(&client, &ServerTls::load(&desk.tls()).unwrap(), "localhost").await;
        assert!(error.contains("expired") && error.contains("renew"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_clear_text_is_told_apart() {
    let desk = Desk::new();
    desk.authority("ca.pem");
    let client = ClientTls::new(&trusting(&desk.path("ca.pem"))).unwrap();
    let (near, mut far) = pair().await;
    far.write_all(b"* OK IMAP ready\r\n").await.unwrap();
    let error = client.connect(near, "localhost").await.expect_err("no TLS").to_string();
    assert!(error.contains("doesn't speak TLS here"), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_a_bad_one_is_not() {
    let desk = Desk::new();
    let (first, second) = (desk.authority("first.pem"), desk.authority("second.pem"));
    desk.issue(&first, "localhost");
    let server = ServerTls::load_with(&desk.tls(), Duration::ZERO).unwrap();
    let trusts_first = ClientTls::new(&trusting(&desk.path("first.pem"))).unwrap();
    let trusts_second = ClientTls::new(&trusting(&desk.path("second.pem"))).unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
    assert!(shake(&trusts_second, &server, "localhost").await.0.is_err());

    let (good_cert, good_key) = (fs::read(desk.files().cert).unwrap(), fs::read(desk.files().key).unwrap());
    desk.issue(&second, "localhost");
    let (new_cert, new_key) = (fs::read(desk.files().cert).unwrap(), fs::read(desk.files().key).unwrap());

    // Half of a renewal, an empty file, no file, garbage: the first pair stays in use.
    fs::write(desk.files().key, &good_key).unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
    fs::write(desk.files().cert, b"").unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
    fs::remove_file(desk.files().cert).unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
    fs::write(desk.files().cert, b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
    assert!(shake(&trusts_second, &server, "localhost").await.0.is_err());

    // The other half arrives.
    fs::write(desk.files().cert, &new_cert).unwrap();
    fs::write(desk.files().key, &new_key).unwrap();
    assert!(shake(&trusts_second, &server, "localhost").await.0.is_ok());
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_err());

    // And back, by renaming, as certbot and friends do.
    fs::write(desk.path("cert.new"), &good_cert).unwrap();
    fs::write(desk.files().key, &good_key).unwrap();
    fs::rename(desk.path("cert.new"), desk.files().cert).unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
}

#[tokio::test]
async fn the_files_are_not_read_for_every_client() {
    let desk = Desk::new();
    let (first, second) = (desk.authority("first.pem"), desk.authority("second.pem"));
    desk.issue(&first, "localhost");
    let server = ServerTls::load_with(&desk.tls(), Duration::from_secs(3600)).unwrap();
    desk.issue(&second, "localhost");
    let trusts_first = ClientTls::new(&trusting(&desk.path("first.pem"))).unwrap();
    assert!(shake(&trusts_first, &server, "localhost").await.0.is_ok());
}

#[test]
fn files_of_no_use_are_named_with_the_reason() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let files = desk.files();
    let load = |cert: &str, key: &str| {
        let pairs = vec![TlsFiles { cert: desk.path(cert), key: desk.path(key) }];
        ServerTls::load(&Tls { pairs, sni: vec![] }).unwrap_err().to_string()
    };
    fs::write(desk.path("empty"), b"").unwrap();
    fs::write(desk.path("binary"), [0xff; 100]).unwrap();
    fs::write(desk.path("huge"), vec![b'\n'; 3 << 20]).unwrap();
    fs::write(
        desk.path("locked"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(desk.path("other-key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (cert, key, file, reason) in [
        ("none", "key.pem", "none", "can't read it"),
        ("empty", "key.pem", "empty", "no certificate in it"),
        ("binary", "key.pem", "binary", "no certificate in it"),
        ("huge", "key.pem", "huge", "longer than"),
        ("cert.pem", "none", "none", "can't read it"),
        ("cert.pem", "cert.pem", "cert.pem", "no private key in it"),
        ("cert.pem", "locked", "locked", "encrypted"),
        ("cert.pem", "other-key", "other-key", "can't be used together"),
    ] {
        let error = load(cert, key);
        assert!(error.contains(&desk.path(file).display().to_string()) && error.contains(reason), "{error}");
    }
    let error = ClientTls::new(&trusting(&files.key)).unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("no certificate in it"), "{error}");
}

#[test]
fn keys_are_not_shown() {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let shown = format!("{:?}", ServerTls::load(&desk.tls()).unwrap());
    assert!(!shown.to_lowercase().contains("private"), "{shown}");
}
