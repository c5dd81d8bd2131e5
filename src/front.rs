//! What clients talk to: accept, greet, login, relay.
//!
//! The data's way: [`Front::serve`] accepts → `session` drives [`crate::wire::imap::prelogin`] → `login` asks the side that
//! is the user's authority → `relay` drives [`crate::wire::imap::tracker`] between the two connections.

mod drain;
mod login;
mod relay;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::Listen;
use crate::net::imap::ImapServer;
use crate::net::{Accepted, Acceptor, ConnectionSlots, ServerTls};
use crate::user::{LoginSucceeded, NameRules, Registry};

/// What a client above the limit is told.
const FULL: &[u8] = b"* BYE [UNAVAILABLE] Too many connections, try again later.\r\n";

/// How long sessions may take to say goodbye when the server ends.
const GOODBYE: Duration = Duration::from_secs(10);

/// What every session needs.
#[derive(Clone, Debug)]
pub struct Front {
    /// Who may log in without TLS.
    pub listen: Arc<Listen>,
    /// The certificate, if there is one.
    pub tls: Option<ServerTls>,
    /// Gates and counters.
    pub registry: Registry,
    /// How login names become users.
    pub names: NameRules,
    /// The old side.
    pub old: ImapServer,
    /// The new side.
    pub new: ImapServer,
    /// How long a login waits at a closed gate.
    pub patience: Duration,
    /// Who wants to hear of logins.
    pub logins: mpsc::Sender<LoginSucceeded>,
    /// Becomes true when the server ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Bound sockets of the two kinds.
#[derive(Debug)]
pub struct Listeners {
    /// IMAP with STARTTLS.
    pub imap: Vec<TcpListener>,
    /// IMAP inside TLS.
    pub imaps: Vec<TcpListener>,
}

/// How a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Clear,
    Tls,
}

impl Front {
    /// Serves clients until the shutdown, then gives sessions a moment to end politely.
    pub async fn serve(self, listeners: Listeners, slots: ConnectionSlots) {
        let front = Arc::new(self);
        let mut accepting = JoinSet::new();
        let clear = listeners.imap.into_iter().map(|listener| (listener, Entry::Clear, FULL));
        let tls = listeners.imaps.into_iter().map(|listener| (listener, Entry::Tls, &b""[..]));
        for (listener, entry, refusal) in clear.chain(tls) {
            if let Ok(address) = listener.local_addr() {
                info!(%address, imaps = entry == Entry::Tls, "listening for clients");
            }
            let acceptor = Acceptor::new(listener, slots.clone(), refusal);
            accepting.spawn(Arc::clone(&front).accept(acceptor, entry));
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, acceptor: Acceptor, entry: Entry) {
        let mut shutdown = self.shutdown.clone();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|ended| *ended) => break,
                accepted = acceptor.next() => {
                    let Accepted { tcp, peer, slot } = accepted;
                    let front = Arc::clone(&self);
                    sessions.spawn(async move {
                        session::run(front, tcp, peer, entry).await;
                        drop(slot);
                    });
                }
                Some(ended) = sessions.join_next() => {
                    if let Err(error) = ended {
                        warn!("a session ended by itself: {error}");
                    }
                }
            }
        }
        drop(acceptor);
        let ended = tokio::time::timeout(GOODBYE, async { while sessions.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            warn!(sessions = sessions.len(), "sessions were cut off at the end");
        }
    }

    fn may_send_cleartext(&self, peer: SocketAddr) -> bool {
        self.listen.allow_cleartext.iter().any(|network| network.contains(peer.ip()))
    }
}
