//! TLS towards clients, with certificates that may change while we run.
//!
//! One [`ServerConfig`] for the life of the process, so that session tickets outlive a renewal; what changes is which
//! certificates its resolver ([`choice`](super::choice)) gives out.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use super::choice::{Choice, Offer, covers};
use super::{HANDSHAKE, TlsError, VERSIONS, pem, provider};
use crate::config::{Tls, TlsFiles};
use crate::net::Stream;

/// How often the files are looked at, at most: two `stat` calls for each pair, and a renewed certificate is never urgent.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Our certificates and keys. Looks at the files when a client comes; a changed pair is used from then on, one that is of
/// no use is logged and the pair before it is kept.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
    look_again: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    looked: Instant,
    pairs: Vec<Watched>,
}

/// A certificate and key in use, and the files they came from.
#[derive(Clone)]
struct Watched {
    files: TlsFiles,
    /// The names that it is for; none: whatever name a client wants.
    names: Arc<[String]>,
    key: Arc<CertifiedKey>,
    /// The files that `key` was read from, or that were refused.
    stamps: Stamps,
    /// Why the files at `stamps` are not in use.
    refused: Option<String>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

type Stamps = [Option<Stamp>; 2];

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<TlsFiles> = self.with_state(|state| state.pairs.iter().map(|pair| pair.files.clone()).collect());
        f.debug_struct("ServerTls").field("files", &files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and what is wrong with it.
    pub fn load(tls: &Tls) -> Result<Self, TlsError> {
        Self::load_with(tls, LOOK_AGAIN)
    }

    /// Like [`ServerTls::load`], with another interval between two looks at the files.
    pub(super) fn load_with(tls: &Tls, look_again: Duration) -> Result<Self, TlsError> {
        let default = tls.pairs.iter().map(|files| (files, Arc::default()));
        let named = tls.sni.iter().flat_map(|sni| {
            let names: Arc<[String]> = sni.names.clone().into();
            sni.pairs.iter().map(move |files| (files, Arc::clone(&names)))
        });
        let pairs =
            default.chain(named).map(|(files, names)| Watched::load(files, names)).collect::<Result<Vec<_>, _>>()?;
        let choice = Arc::new(Choice::new(offers(&pairs)));
        let tickets = |error: &dyn fmt::Display| TlsError::Unavailable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .map_err(|error| tickets(&error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&choice) as Arc<_>);
        // A session is in the client's ticket and costs us nothing. The keys change every six hours and are never written.
        config.ticketer = Ticketer::new().map_err(|error| tickets(&error))?;
        let state = State { looked: Instant::now(), pairs };
        Ok(Self { config: Arc::new(config), choice, look_again, state: Arc::new(Mutex::new(state)) })
    }

    /// Takes a client's TLS handshake. Deadline 30 s.
    ///
    /// # Errors
    /// [`TlsError`], which names the client's address.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Stream, TlsError> {
        self.accept_saying(tcp, b"").await
    }

    /// The same, with the first words inside TLS, which go out together with what ends the handshake. At most some thousand octets.
    ///
    /// # Errors
    /// [`TlsError`], which names the client's address.
    pub async fn accept_saying(&self, tcp: TcpStream, words: &[u8]) -> Result<Stream, TlsError> {
        let peer = tcp.peer_addr().map_or_else(|_| "a client".to_owned(), |address| address.to_string());
        self.look_if_due().await;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        // Into memory, until there is TLS; what fails there fails in the handshake as well.
        let say = |tls: &mut ServerConnection| drop(tls.writer().write_all(words));
        match timeout(HANDSHAKE, acceptor.accept_with(tcp, say)).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(error)) => Err(TlsError::handshake(peer, &error)),
            Err(_) => Err(TlsError::Timeout { peer }),
        }
    }

    /// Looks at the files now, whenever the last look was.
    pub async fn reload(&self) {
        let this = self.clone();
        // Files may lie on a slow disk. A panic in there has been reported by its own hook, and changes nothing.
        let _ = tokio::task::spawn_blocking(move || this.look()).await;
    }

    async fn look_if_due(&self) {
        let due = self.with_state(|state| {
            let due = state.looked.elapsed() >= self.look_again;
            if due {
                // Other clients that come meanwhile use what is there.
                state.looked = Instant::now();
            }
            due
        });
        if due {
            self.reload().await;
        }
    }

    /// Looks at the files, and reads those that have changed or were refused the last time.
    fn look(&self) {
        let before = self.with_state(|state| state.pairs.clone());
        let after: Vec<Watched> = before.iter().map(Watched::looked_at_again).collect();
        let changed = before.iter().zip(&after).any(|(before, after)| !Arc::ptr_eq(&before.key, &after.key));
        self.with_state(|state| {
            if changed {
                self.choice.replace(offers(&after));
            }
            state.pairs = after;
        });
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watched {
    fn load(files: &TlsFiles, names: Arc<[String]>) -> Result<Self, TlsError> {
        // Before the content: a change in between is then seen at the next look.
        let stamps = stamps(files);
        let key = read(files, &names)?;
        Ok(Self { files: files.clone(), names, key, stamps, refused: None })
    }

    fn looked_at_again(&self) -> Self {
        let stamps = stamps(&self.files);
        if self.stamps == stamps && self.refused.is_none() {
            return self.clone();
        }
        let (key, refused) = match read(&self.files, &self.names) {
            Ok(key) => {
                tracing::info!(cert = %self.files.cert.display(), "certificate and key reloaded");
                (key, None)
            }
            Err(error) => {
                let reason = error.to_string();
                // Once, and not with every look.
                if self.refused.as_ref() != Some(&reason) {
                    tracing::error!(%error, "the new certificate and key are of no use; the old ones stay in use");
                }
                (Arc::clone(&self.key), Some(reason))
            }
        };
        Self { key, stamps, refused, ..self.clone() }
    }
}

fn offers(pairs: &[Watched]) -> Vec<Offer> {
    pairs.iter().map(|pair| Offer { names: Arc::clone(&pair.names), key: Arc::clone(&pair.key) }).collect()
}

fn read(files: &TlsFiles, names: &[String]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = pem::certificates(&files.cert)?;
    let key = pem::private_key(&files.key)?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    })?;
    for name in names {
        covers(&key, name).map_err(|reason| TlsError::file(&files.cert, format!("not for {name}: {reason}")))?;
    }
    Ok(Arc::new(key))
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() })
    };
    [stamp(&files.cert), stamp(&files.key)]
}
