//! A mail client that counts what it gets, octet by octet.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore};

use crate::backend::{BODY, LOGOUT, MESSAGE, NOOP, password};

/// Octets read at once of a message.
const CHUNK: usize = 256 << 10;

/// Users that log in by turns.
const USERS: usize = 500;

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where to connect to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsConnector>,
}

/// TLS as all proxies must speak it: the same version, cipher and group for each of them, a full handshake every time.
pub(crate) fn tls(certificate: CertificateDer<'static>) -> TlsConnector {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

pub(crate) struct Client {
    io: Box<dyn Io>,
    input: Vec<u8>,
}

impl Client {
    /// Connects and logs in, as the `number`-th of all.
    pub(crate) async fn log_in(target: &Target, number: usize) -> Self {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let io: Box<dyn Io> = match &target.tls {
            None => Box::new(tcp),
            Some(connector) => {
                let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
                assert_eq!(tls.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
                Box::new(tls)
            }
        };
        let mut client = Self { io, input: Vec::new() };
        let greeting = client.line().await;
        assert!(greeting.starts_with("* OK"), "{greeting}");
        let user = format!("user{}", number % USERS);
        client.say(&format!("a LOGIN {user} \"{}\"\r\n", password(&user))).await;
        loop {
            let line = client.line().await;
            if line.starts_with("a ") {
                assert!(line.starts_with("a OK"), "{line}");
                return client;
            }
            assert!(line.starts_with("* CAPABILITY"), "{line}");
        }
    }

    pub(crate) async fn log_out(mut self) {
        self.say("b LOGOUT\r\n").await;
        self.expect(&format!("{}b{}", LOGOUT.0, LOGOUT.1)).await;
        // Whoever closes TLS without a word has closed.
        let end = self.io.read_buf(&mut self.input).await.unwrap_or(0);
        assert_eq!(end, 0, "something came behind the goodbye");
    }

    pub(crate) async fn noop(&mut self) {
        self.say("c NOOP\r\n").await;
        self.expect(&format!("c{NOOP}")).await;
    }

    /// Fetches the message and looks at each of its octets.
    pub(crate) async fn fetch(&mut self, buffer: &mut Vec<u8>) {
        self.say("d FETCH 1 BODY[]\r\n").await;
        let head = self.line().await;
        assert_eq!(head, format!("* 1 FETCH (BODY[] {{{MESSAGE}}}\r\n"));
        let mut seen = 0;
        while seen < MESSAGE {
            let here = if self.input.is_empty() {
                buffer.resize(CHUNK, 0);
                let count = self.io.read(buffer).await.unwrap();
                assert!(count > 0, "the connection ended at octet {seen}");
                buffer.truncate(count);
                &mut *buffer
            } else {
                &mut self.input
            };
            let count = here.len().min(MESSAGE - seen);
            assert!(here[..count] == BODY[seen..seen + count], "not what was sent, at octet {seen}");
            seen += count;
            let rest = here.split_off(count);
            self.input = rest;
        }
        self.expect(")\r\nd OK Fetch completed.\r\n").await;
    }

    pub(crate) async fn idle(&mut self) {
        self.say("e IDLE\r\n").await;
        self.expect("+ idling\r\n").await;
    }

    pub(crate) async fn done(&mut self) {
        self.say("DONE\r\n").await;
        self.expect("e OK Idle completed.\r\n").await;
    }

    async fn say(&mut self, words: &str) {
        self.io.write_all(words.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.input.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return String::from_utf8(line).unwrap();
            }
            self.read().await;
        }
    }

    /// Exactly these words, and nothing behind them.
    async fn expect(&mut self, words: &str) {
        while self.input.len() < words.len() {
            self.read().await;
        }
        assert_eq!(String::from_utf8_lossy(&self.input), words);
        self.input.clear();
    }

    async fn read(&mut self) {
        let count = self.io.read_buf(&mut self.input).await.unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.input));
    }
}
