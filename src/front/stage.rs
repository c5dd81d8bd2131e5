//! A front for tests: both its sides are one server, and a client has just come in.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::{Backends, BothSides, Drain, Front, Guard, HeldLists};
use crate::config::{Endpoint, Limits, Listen, SideNames};
use crate::mailbox::Side;
use crate::net::imap::ImapServer;
use crate::net::pop3::Pop3Server;
use crate::store::Store;
use crate::user::{NameRules, Realms, Registry};

/// All that a session needs, and its client.
pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) front: Front,
    pub(super) client: TcpStream,
    pub(super) accepted: (TcpStream, SocketAddr),
    pub(super) shutdown: watch::Sender<bool>,
}

impl Stage {
    /// Before the server at `port`.
    pub(super) async fn before(port: u16, allow_cleartext: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Endpoint::clear("127.0.0.1", port);
        let imap = |side| ImapServer::new(side, &server).unwrap();
        let pop3 = |side| Pop3Server::new(side, &server).unwrap();
        let backends = Backends {
            imap: BothSides { old: imap(Side::Old), new: imap(Side::New) },
            pop3: Some(BothSides { old: pop3(Side::Old), new: pop3(Side::New) }),
            names: BothSides { old: SideNames::default(), new: SideNames::default() },
        };
        let allow_cleartext = allow_cleartext.iter().map(|network| network.parse().unwrap()).collect();
        let (shutdown, ends) = watch::channel(false);
        let front = Front {
            listen: Arc::new(Listen { allow_cleartext, ..Listen::default() }),
            tls: None,
            registry: Registry::new(Store::open(&folder.path().join("s.db")).unwrap(), None),
            names: NameRules::default(),
            backends: Realms::single(backends),
            harvests: mpsc::channel(1).0,
            held: HeldLists::default(),
            patience: Duration::from_secs(1),
            logins: mpsc::channel(1).0,
            shutdown: ends,
            drain: Drain::at_once(),
            guard: Guard::new(&Limits::none()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        Self { folder, front, client: client.unwrap(), accepted: accepted.unwrap(), shutdown }
    }
}
