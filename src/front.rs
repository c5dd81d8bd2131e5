//! What clients talk to: accept, greet, login, relay.
//!
//! The data's way: [`Front::serve`] accepts → `session` drives [`crate::wire::imap::prelogin`] → `login` asks the side that
//! is the user's authority → `relay` drives [`crate::wire::imap::tracker`] between the two connections. `pop3` has its own of
//! these three.

mod client;
mod drain;
mod login;
mod peer;
mod pop3;
mod relay;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{Config, Listen, SideNames};
use crate::mailbox::Side;
use crate::net::imap::ImapServer;
use crate::net::pop3::Pop3Server;
use crate::net::{Accepted, Acceptor, ConnectionSlots, ServerTls, TlsError};
use crate::user::{LoginSucceeded, NameRules, Protocol, Realms, Registry};

pub use pop3::{HeldLists, Pop3Harvest};

/// What a client above the limit is told.
const FULL: &[u8] = b"* BYE [UNAVAILABLE] Too many connections, try again later.\r\n";

/// The same over POP3.
const FULL_POP3: &[u8] = b"-ERR [SYS/TEMP] Too many connections, try again later.\r\n";

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
    /// The servers of each realm.
    pub backends: Realms<Backends>,
    /// Who wants the POP3 lists that users' sessions on the old side show.
    pub harvests: mpsc::Sender<Pop3Harvest>,
    /// What of those lists is on its way.
    pub held: HeldLists,
    /// How long a login waits at a closed gate.
    pub patience: Duration,
    /// Who wants to hear of logins.
    pub logins: mpsc::Sender<LoginSucceeded>,
    /// Becomes true when the server ends.
    pub shutdown: watch::Receiver<bool>,
}

/// The servers of a realm.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Over IMAP.
    pub imap: BothSides<ImapServer>,
    /// By which names they know users.
    pub names: BothSides<SideNames>,
    /// Over POP3; none where nothing listens for POP3 clients.
    pub pop3: Option<BothSides<Pop3Server>>,
}

impl Backends {
    /// What `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// If certificates to trust can't be read.
    pub fn of(config: &Config) -> Result<Self, TlsError> {
        let Config { old, new, .. } = config;
        let pop3 = match (&old.pop3, &new.pop3) {
            (Some(old), Some(new)) => {
                Some(BothSides { old: Pop3Server::new(Side::Old, old)?, new: Pop3Server::new(Side::New, new)? })
            }
            _ => None,
        };
        let imap =
            BothSides { old: ImapServer::new(Side::Old, &old.imap)?, new: ImapServer::new(Side::New, &new.imap)? };
        let names = BothSides { old: old.names.clone(), new: new.names.clone() };
        Ok(Self { imap, names, pop3 })
    }
}

/// One thing for each side.
#[derive(Clone, Debug)]
pub struct BothSides<T> {
    /// The old side's.
    pub old: T,
    /// The new side's.
    pub new: T,
}

impl<T> BothSides<T> {
    /// The one of `side`.
    pub const fn of(&self, side: Side) -> &T {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }
}

/// Bound sockets of each kind.
#[derive(Debug)]
pub struct Listeners {
    /// IMAP with STARTTLS.
    pub imap: Vec<TcpListener>,
    /// IMAP inside TLS.
    pub imaps: Vec<TcpListener>,
    /// POP3 with STLS.
    pub pop3: Vec<TcpListener>,
    /// POP3 inside TLS.
    pub pop3s: Vec<TcpListener>,
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
        // Inside TLS nothing can be said before the handshake.
        let kinds = [
            (listeners.imap, Protocol::Imap, Entry::Clear, FULL),
            (listeners.imaps, Protocol::Imap, Entry::Tls, &b""[..]),
            (listeners.pop3, Protocol::Pop3, Entry::Clear, FULL_POP3),
            (listeners.pop3s, Protocol::Pop3, Entry::Tls, &b""[..]),
        ];
        for (listeners, protocol, entry, refusal) in kinds {
            for listener in listeners {
                if let Ok(address) = listener.local_addr() {
                    info!(%address, ?protocol, tls = entry == Entry::Tls, "listening for clients");
                }
                let acceptor = Acceptor::new(listener, slots.clone(), refusal);
                accepting.spawn(Arc::clone(&front).accept(acceptor, protocol, entry));
            }
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, acceptor: Acceptor, protocol: Protocol, entry: Entry) {
        let mut shutdown = self.shutdown.clone();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|ended| *ended) => break,
                accepted = acceptor.next() => {
                    let Accepted { tcp, peer, slot } = accepted;
                    let front = Arc::clone(&self);
                    sessions.spawn(async move {
                        session::run(front, tcp, peer, protocol, entry).await;
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
