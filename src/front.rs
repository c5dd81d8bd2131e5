//! What clients talk to: accept, greet, login, relay.
//!
//! The data's way: [`Front::serve`] accepts → `session` drives [`crate::wire::imap::prelogin`] → `login` asks the side that
//! is the user's authority → `relay` drives [`crate::wire::imap::tracker`] between the two connections. `pop3` has its own of
//! these three.

mod buffers;
mod client;
mod drain;
mod ending;
mod guard;
mod login;
mod passthrough;
mod peer;
mod pipe;
mod pop3;
mod relay;
mod session;
#[cfg(test)]
mod stage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{Config, Listen, Passthrough, SideNames};
use crate::mailbox::Side;
use crate::net::imap::ImapServer;
use crate::net::pop3::Pop3Server;
use crate::net::proxied::{ProxiedError, read_header};
use crate::net::{Accepted, Acceptor, ServerTls, TlsError};
use crate::user::{LoginSucceeded, NameRules, Protocol, Realms, Registry};
use crate::wire::proxy::Ends;

pub use ending::Drain;
use ending::Ending;
pub use guard::Guard;
pub use pop3::{HeldLists, Pop3Harvest};

/// What a client above the limit is told.
const FULL: &[u8] = b"* BYE [UNAVAILABLE] Too many connections, try again later.\r\n";

/// The same over POP3.
const FULL_POP3: &[u8] = b"-ERR [SYS/TEMP] Too many connections, try again later.\r\n";

/// How long sessions may take to say goodbye once the last one has been told that the server ends: to finish a command, to
/// take the last words, and some.
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
    /// How sessions hear of that.
    pub drain: Drain,
    /// Who may come in, and how fast.
    pub guard: Guard,
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
        let imap = |side, endpoint| ImapServer::new(side, endpoint).map(ImapServer::behind_breaker);
        let pop3 = |side, endpoint| Pop3Server::new(side, endpoint).map(Pop3Server::behind_breaker);
        let pop3 = match (&old.pop3, &new.pop3) {
            (Some(old), Some(new)) => Some(BothSides { old: pop3(Side::Old, old)?, new: pop3(Side::New, new)? }),
            _ => None,
        };
        let imap = BothSides { old: imap(Side::Old, &old.imap)?, new: imap(Side::New, &new.imap)? };
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
    /// What is handed through, and where to.
    pub passthrough: Vec<(TcpListener, Passthrough)>,
}

/// How a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Clear,
    Tls,
}

/// What is behind a listener.
#[derive(Clone, Debug)]
enum Door {
    Mail(Protocol, Entry),
    Through(Arc<Passthrough>),
}

impl Front {
    /// Serves clients until the shutdown, then gives sessions a moment to end politely.
    pub async fn serve(self, listeners: Listeners) {
        let slots = self.drain.slots.clone();
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
                accepting.spawn(Arc::clone(&front).accept(acceptor, Door::Mail(protocol, entry)));
            }
        }
        for (listener, route) in listeners.passthrough {
            if let Ok(address) = listener.local_addr() {
                info!(%address, to = %route.to, "listening for connections to hand through");
            }
            // What could be said depends on what they speak.
            let acceptor = Acceptor::new(listener, slots.clone(), b"");
            accepting.spawn(Arc::clone(&front).accept(acceptor, Door::Through(Arc::new(route))));
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, acceptor: Acceptor, door: Door) {
        let mut shutdown = self.shutdown.clone();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|ended| *ended) => break,
                accepted = acceptor.next() => {
                    let Accepted { tcp, peer, slot } = accepted;
                    let (front, door) = (Arc::clone(&self), door.clone());
                    sessions.spawn(async move {
                        match door {
                            Door::Mail(protocol, entry) => session::run(front, tcp, peer, protocol, entry).await,
                            Door::Through(route) => passthrough::run(front, tcp, peer, route).await,
                        }
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
        let ended = tokio::time::timeout(self.at_most(), async { while sessions.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            warn!(sessions = sessions.len(), "sessions were cut off at the end");
        }
    }

    /// The longest time from the end of the server to the end of its last session.
    #[must_use]
    pub fn at_most(&self) -> Duration {
        self.drain.limit + GOODBYE
    }

    fn ending(&self) -> Ending {
        Ending::new(self.shutdown.clone(), self.drain.clone())
    }

    /// Whose connection it is that `peer` has made: its own, or where `peer` is a proxy of ours, that of the client which it
    /// names. None if it names nobody though it should: nothing that came through it can be believed then.
    async fn whose(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Option<Ends> {
        let own = Ends { client: peer, server: tcp.local_addr().ok()? };
        if !self.listen.proxy_protocol.iter().any(|network| network.contains(peer.ip())) {
            return Some(own);
        }
        match read_header(tcp).await {
            Ok(ends) => Some(ends.unwrap_or(own)),
            // Whoever only looks whether we are there sends nothing.
            Err(ProxiedError::Lost(_)) => None,
            Err(error) => {
                warn!(%peer, "connection refused: {error}");
                None
            }
        }
    }

    fn may_send_cleartext(&self, peer: SocketAddr) -> bool {
        self.listen.allow_cleartext.iter().any(|network| network.contains(peer.ip()))
    }
}
