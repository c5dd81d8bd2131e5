//! Several certificates, and clients that come back.

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::{HandshakeKind, SignatureScheme};

use super::*;
use crate::net::tls::choice::{Choice, Offer};

/// Names and the files of their certificate.
fn sni(desk: &Desk, names: &[&str], file: &str) -> Sni {
    Sni { names: names.iter().map(|name| (*name).to_owned()).collect(), pairs: vec![files(desk, file)] }
}

fn files(desk: &Desk, file: &str) -> TlsFiles {
    TlsFiles { cert: desk.path(&format!("{file}.pem")), key: desk.path(&format!("{file}.key")) }
}

/// A certificate for these names, under an authority of the same name as its file.
fn issue(desk: &Desk, file: &str, hosts: &[&str]) -> ClientTls {
    let authority = desk.authority(&format!("{file}-ca.pem"));
    reissue(desk, &authority, file, hosts);
    ClientTls::new(&trusting(&desk.path(&format!("{file}-ca.pem")))).unwrap()
}

fn reissue(desk: &Desk, authority: &Authority, file: &str, hosts: &[&str]) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, authority).unwrap();
    fs::write(files(desk, file).cert, certificate.pem()).unwrap();
    fs::write(files(desk, file).key, key.serialize_pem()).unwrap();
}

async fn is_let_in(client: &ClientTls, server: &ServerTls, host: &str) -> bool {
    shake(client, server, host).await.0.is_ok()
}

#[tokio::test]
async fn each_name_has_its_certificate_and_the_others_get_the_first_one() {
    let desk = Desk::new();
    let default = issue(&desk, "default", &["localhost", "unlisted.example", "deep.a.example.org"]);
    let exact = issue(&desk, "exact", &["mail.example.net", "imap.example.net"]);
    let wild = issue(&desk, "wild", &["*.example.org"]);
    let exact_below = issue(&desk, "below", &["own.example.org"]);
    let server = ServerTls::load(&Tls {
        pairs: vec![files(&desk, "default")],
        sni: vec![
            sni(&desk, &["mail.example.net", "imap.example.net"], "exact"),
            sni(&desk, &["*.example.org"], "wild"),
            sni(&desk, &["own.example.org"], "below"),
        ],
    })
    .unwrap();
    for (client, host) in [
        (&default, "localhost"),
        (&default, "unlisted.example"),
        (&default, "deep.a.example.org"),
        (&exact, "mail.example.net"),
        (&exact, "IMAP.example.NET"),
        (&wild, "pop.example.org"),
        (&exact_below, "own.example.org"),
    ] {
        assert!(is_let_in(client, &server, host).await, "{host}");
    }
    assert!(!is_let_in(&default, &server, "mail.example.net").await, "another one's certificate");
}

#[tokio::test]
async fn one_bad_file_keeps_its_own_certificate_and_holds_no_other_one_up() {
    let desk = Desk::new();
    let (first, second) = (desk.authority("first.pem"), desk.authority("second.pem"));
    for file in ["a", "b"] {
        reissue(&desk, &first, file, &[&format!("{file}.example.net")]);
    }
    let tls = Tls { pairs: vec![files(&desk, "a")], sni: vec![sni(&desk, &["b.example.net"], "b")] };
    let server = ServerTls::load_with(&tls, Duration::from_secs(3600)).unwrap();
    let trusts_first = ClientTls::new(&trusting(&desk.path("first.pem"))).unwrap();
    let trusts_second = ClientTls::new(&trusting(&desk.path("second.pem"))).unwrap();

    reissue(&desk, &second, "a", &["a.example.net"]);
    fs::write(files(&desk, "b").cert, "nonsense").unwrap();
    assert!(is_let_in(&trusts_first, &server, "a.example.net").await, "nobody has looked yet");
    server.reload().await;
    assert!(is_let_in(&trusts_second, &server, "a.example.net").await);
    assert!(is_let_in(&trusts_first, &server, "b.example.net").await);
    // A renewed one that is no longer for the name is of no use either.
    reissue(&desk, &second, "b", &["elsewhere.example.net"]);
    server.reload().await;
    assert!(is_let_in(&trusts_first, &server, "b.example.net").await);
    reissue(&desk, &second, "b", &["b.example.net"]);
    server.reload().await;
    assert!(is_let_in(&trusts_second, &server, "b.example.net").await);
}

#[test]
fn a_certificate_that_is_not_for_its_name_is_named() {
    let desk = Desk::new();
    issue(&desk, "one", &["mail.example.net"]);
    for name in ["imap.example.net", "*.example.net"] {
        let tls = Tls { pairs: vec![files(&desk, "one")], sni: vec![sni(&desk, &[name], "one")] };
        let error = ServerTls::load(&tls).unwrap_err().to_string();
        assert!(error.contains("one.pem") && error.contains(&format!("not for {name}")), "{error}");
    }
}

#[test]
fn a_client_gets_the_first_certificate_that_it_can_check() {
    let desk = Desk::new();
    let pair = |algorithm, file: &str| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(files(&desk, file).cert, certificate.pem()).unwrap();
        fs::write(files(&desk, file).key, key.serialize_pem()).unwrap();
        let (chain, key) = (pem::certificates(&files(&desk, file).cert), pem::private_key(&files(&desk, file).key));
        let key = tokio_rustls::rustls::sign::CertifiedKey::from_der(chain.unwrap(), key.unwrap(), &provider());
        Offer { names: Arc::default(), key: Arc::new(key.unwrap()) }
    };
    let ecdsa = pair(&rcgen::PKCS_ECDSA_P256_SHA256, "ecdsa");
    let edwards = pair(&rcgen::PKCS_ED25519, "edwards");
    let keys = [Arc::clone(&ecdsa.key), Arc::clone(&edwards.key)];
    let choice = Choice::new(vec![ecdsa, edwards]);
    let (p256, ed25519) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
    for (schemes, expected) in [
        (vec![p256], &keys[0]),
        (vec![ed25519], &keys[1]),
        // Ours is the order that counts.
        (vec![ed25519, p256], &keys[0]),
        // It will say so itself.
        (vec![SignatureScheme::RSA_PSS_SHA256], &keys[0]),
    ] {
        assert!(Arc::ptr_eq(&choice.pick(None, &schemes).unwrap(), expected), "{schemes:?}");
    }
}

/// How the second of two handshakes went; in between the certificate is renewed.
async fn second_handshake(version: &'static SupportedProtocolVersion) -> HandshakeKind {
    let desk = Desk::new();
    let authority = desk.authority("ca.pem");
    desk.issue(&authority, "localhost");
    let server = ServerTls::load(&desk.tls()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pem::certificates(&desk.path("ca.pem")).unwrap());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    let connector = TlsConnector::from(Arc::new(config));
    let mut last = HandshakeKind::Full;
    for _ in 0..2 {
        let (near, far) = pair().await;
        let name = ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(connector.connect(name, near), server.accept(far));
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        // Tickets come with the first octets behind the handshake.
        far.write_all(b"x").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        last = near.get_ref().1.handshake_kind().unwrap();
        desk.issue(&authority, "localhost");
        server.reload().await;
    }
    last
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session_also_after_a_renewal() {
    for version in [&TLS12, &TLS13] {
        assert_eq!(second_handshake(version).await, HandshakeKind::Resumed, "{version:?}");
    }
}
