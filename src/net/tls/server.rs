//! TLS towards clients, with a certificate that may change while we run.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::{HANDSHAKE, TlsError, VERSIONS, pem, provider};
use crate::config::TlsFiles;
use crate::net::Stream;

/// How often the files are looked at, at most: two `stat` calls, and a renewed certificate is never urgent.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Our certificate and key. Looks at the files when a client comes; a changed pair is used from then on, one that is of
/// no use is logged and the pair before it is kept.
#[derive(Clone)]
pub struct ServerTls {
    files: TlsFiles,
    look_again: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    config: Arc<ServerConfig>,
    looked: Instant,
    /// The files that `config` was read from, or that were refused.
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
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and what is wrong with it.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Self::load_with(files, LOOK_AGAIN)
    }

    /// Like [`ServerTls::load`], with another interval between two looks at the files.
    pub(super) fn load_with(files: &TlsFiles, look_again: Duration) -> Result<Self, TlsError> {
        // Before the content: a change in between is then seen at the next look.
        let stamps = stamps(files);
        let config = read(files)?;
        let state = State { config, looked: Instant::now(), stamps, refused: None };
        Ok(Self { files: files.clone(), look_again, state: Arc::new(Mutex::new(state)) })
    }

    /// Takes a client's TLS handshake. Deadline 30 s.
    ///
    /// # Errors
    /// [`TlsError`], which names the client's address.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Stream, TlsError> {
        let peer = tcp.peer_addr().map_or_else(|_| "a client".to_owned(), |address| address.to_string());
        let acceptor = TlsAcceptor::from(self.current().await);
        match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
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

    /// The pair to use now.
    async fn current(&self) -> Arc<ServerConfig> {
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
        self.with_state(|state| Arc::clone(&state.config))
    }

    /// Looks at the files, and reads them if they have changed or were refused the last time.
    fn look(&self) {
        let stamps = stamps(&self.files);
        if self.with_state(|state| state.stamps == stamps && state.refused.is_none()) {
            return;
        }
        let read = read(&self.files);
        self.with_state(|state| {
            state.stamps = stamps;
            match read {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "certificate and key reloaded");
                    state.config = config;
                    state.refused = None;
                }
                Err(error) => {
                    let reason = error.to_string();
                    // Once, and not with every look.
                    if state.refused.as_ref() != Some(&reason) {
                        tracing::error!(%error, "the new certificate and key are of no use; the old ones stay in use");
                        state.refused = Some(reason);
                    }
                }
            }
        });
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = pem::certificates(&files.cert)?;
    let key = pem::private_key(&files.key)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsError::Pair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            reason: error.to_string(),
        })?;
    Ok(Arc::new(config))
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() })
    };
    [stamp(&files.cert), stamp(&files.key)]
}
