//! One client, from its connection to the end of the relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::{Instrument as _, debug, error_span, info, warn};

use super::client::{Client, Heard, LastWords};
use super::guard::Place;
use super::login::{self, LoggedIn};
use super::{Entry, FULL, FULL_POP3, Front, pop3, relay};
use crate::user::Protocol;
use crate::wire::imap::prelogin::{Action, PreLogin, PreLoginConfig};
use crate::wire::proxy::Ends;

const LAST_WORDS: LastWords = LastWords {
    too_slow: b"* BYE Too slow to log in.\r\n",
    too_much: b"* BYE Too much was said without logging in.\r\n",
    going_down: b"* BYE [UNAVAILABLE] The server is going down, connect again.\r\n",
};

/// Serves one client to its end.
pub(super) async fn run(front: Arc<Front>, mut tcp: TcpStream, peer: SocketAddr, protocol: Protocol, entry: Entry) {
    let Some(Ends { client: peer, server: local }) = front.whose(&mut tcp, peer).await else { return };
    let id = format!("{:016x}", rand::random::<u64>());
    // Of the highest level, so that whatever is logged says which session it is about.
    let span = error_span!("session", id, %peer);
    async move {
        let place = match front.guard.enter(peer.ip()) {
            Ok(place) => place,
            Err(full) => {
                warn!("connection refused: {full}");
                // The send buffer of a fresh connection has room for a line; inside TLS nothing can be said.
                let words = if protocol == Protocol::Imap { FULL } else { FULL_POP3 };
                let _ = (entry == Entry::Clear).then(|| tcp.try_write(words));
                return;
            }
        };
        let session = Session { front: &front, peer, local, id: &id };
        let ended = match protocol {
            Protocol::Imap => session.serve(tcp, entry, place).await,
            Protocol::Pop3 => pop3::serve(session, tcp, entry, place).await,
        };
        if let Err(why) = ended {
            debug!("ended: {why}");
        }
    }
    .instrument(span)
    .await;
}

/// What a session knows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session<'a> {
    pub(super) front: &'a Front,
    /// The client.
    pub(super) peer: SocketAddr,
    /// Where it has connected to.
    pub(super) local: SocketAddr,
    pub(super) id: &'a str,
}

impl Session<'_> {
    pub(super) fn ends(self) -> Ends {
        Ends { client: self.peer, server: self.local }
    }

    async fn serve(self, tcp: TcpStream, entry: Entry, mut place: Place) -> io::Result<()> {
        let Some((client, logged_in)) = Box::pin(self.log_in(tcp, entry)).await? else {
            return Ok(());
        };
        place.known();
        let LoggedIn { shown, backend, pipelined, pass, seat: _seat } = logged_in;
        let side = pass.side;
        let moved = relay::run(client.stream, backend, &pipelined, self.front.ending(), pass).await;
        let (sent, received) = (moved.to_client, moved.to_backend);
        info!(user = shown, %side, sent, received, "session ended: {}", moved.why);
        Ok(())
    }

    /// Greets the client and talks to it until it has logged in; `None` if it went away.
    async fn log_in(self, tcp: TcpStream, entry: Entry) -> io::Result<Option<(Client, LoggedIn)>> {
        let cleartext_allowed = self.front.may_send_cleartext(self.peer);
        let tls_available = entry == Entry::Clear && self.front.tls.is_some();
        let config = PreLoginConfig {
            tls_available,
            tls_active: entry == Entry::Tls,
            cleartext_allowed,
            tokens: self.front.listen.tokens,
        };
        let mut talk = PreLogin::new(config);
        let mut client = Client::accept(self.front, tcp, entry, &talk.greeting(), LAST_WORDS).await?;
        loop {
            let Some(action) = talk.next() else {
                match client.read(|octets| talk.input(octets)).await? {
                    Heard::Something => continue,
                    Heard::End => return Ok(None),
                    Heard::Enough(words) => return client.last_words(words).await.map(|()| None),
                }
            };
            client.command_complete();
            match action {
                Action::Reply(octets) => client.write(&octets).await?,
                Action::Close(words) => return client.last_words(&words).await.map(|()| None),
                Action::StartTls => {
                    client = client.start_tls(self.front).await?;
                    talk.tls_started();
                }
                Action::Login(login) => {
                    let outcome = tokio::select! {
                        outcome = login::log_in(self, login) => outcome,
                        () = client.server_ends() => {
                            return client.last_words(LAST_WORDS.going_down).await.map(|()| None);
                        }
                    };
                    match outcome {
                        Ok((logged_in, answer)) => {
                            client.write(&answer).await?;
                            return Ok(Some((client, LoggedIn { pipelined: talk.into_pipelined(), ..logged_in })));
                        }
                        Err(answer) => talk.login_failed(&answer),
                    }
                    client.command_complete();
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
