//! A POP3 client, from its connection to the end of the relay.
//!
//! A POP3 session can't be carried over to another side, since its numbers and deletions live on one server (RFC 1939 §3):
//! the user's gate stays open while there is one. It ends as its client ends it: QUIT is the client's alone, and whoever
//! vanishes without it deletes nothing (RFC 1939 §6).

mod login;
mod relay;
mod share;

use std::io;

use tokio::net::TcpStream;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::client::{Client, Heard, LastWords};
use super::guard::Place;
use super::session::Session;
use super::{Entry, Front};
use crate::mailbox::Side;
use crate::mailbox::pop3::Pop3List;
use crate::user::CanonicalUser;
use crate::wire::pop3::harvest::Harvest;
use crate::wire::pop3::prelogin::{Action, PreLogin, PreLoginConfig};
use login::LoggedIn;
use relay::Wanted;
pub use share::HeldLists;

const LAST_WORDS: LastWords = LastWords {
    too_slow: b"-ERR Too slow to log in.\r\n",
    too_much: b"-ERR Too much was said without logging in.\r\n",
    going_down: b"-ERR [SYS/TEMP] The server is going down, connect again.\r\n",
};

/// The list of a user's maildrop on the old side, as their own session showed it.
#[derive(Clone, Debug)]
pub struct Pop3Harvest {
    /// Whose.
    pub user: CanonicalUser,
    /// All messages in the server's order.
    pub list: Pop3List,
}

/// Serves one client to its end.
pub(super) async fn serve(session: Session<'_>, tcp: TcpStream, entry: Entry, mut place: Place) -> io::Result<()> {
    let front = session.front;
    let Some((client, logged_in, pipelined)) = Box::pin(log_in(session, tcp, entry)).await? else {
        return Ok(());
    };
    place.known();
    let LoggedIn { user, shown, backend, pass, seat: _seat } = logged_in;
    let side = pass.side;
    // A list of the new side shows nothing that we don't know.
    let wanted =
        (side == Side::Old).then(|| Wanted { give: |harvest| give(front, &user, harvest), share: front.held.share() });
    let moved = relay::run(client.stream, backend, &pipelined, front.ending(), pass, wanted).await;
    let (sent, received) = (moved.to_client, moved.to_backend);
    info!(user = shown, %side, sent, received, "POP3 session ended: {}", moved.why);
    Ok(())
}

/// Hands a list over to whoever wants it. A client never waits for it: its next session is as good.
fn give(front: &Front, user: &CanonicalUser, harvest: Harvest) {
    match Pop3List::of_answers(harvest.uidls, &harvest.sizes) {
        Ok(list) => {
            if front.harvests.try_send(Pop3Harvest { user: user.clone(), list }).is_err() {
                debug!(%user, "nobody takes this session's POP3 list");
            }
        }
        Err(error) => debug!(%user, "the server's POP3 list is of no use: {error}"),
    }
}

/// A client that has logged in, and what it has said behind its login.
type Ready = (Client, LoggedIn, Zeroizing<Vec<u8>>);

/// Greets the client and talks to it until it has logged in; `None` if it went away.
async fn log_in(session: Session<'_>, tcp: TcpStream, entry: Entry) -> io::Result<Option<Ready>> {
    let cleartext_allowed = session.front.may_send_cleartext(session.peer);
    let tls_available = entry == Entry::Clear && session.front.tls.is_some();
    let config = PreLoginConfig {
        tls_available,
        tls_active: entry == Entry::Tls,
        cleartext_allowed,
        tokens: session.front.listen.tokens,
    };
    let mut talk = PreLogin::new(config);
    let mut client = Client::accept(session.front, tcp, entry, &talk.greeting(), LAST_WORDS).await?;
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
                client = client.start_tls(session.front).await?;
                talk.tls_started();
            }
            Action::Login(credentials) => {
                let outcome = tokio::select! {
                    outcome = login::log_in(session, credentials) => outcome,
                    () = client.server_ends() => {
                        return client.last_words(LAST_WORDS.going_down).await.map(|()| None);
                    }
                };
                match outcome {
                    Ok((logged_in, answer)) => {
                        client.write(&answer).await?;
                        return Ok(Some((client, logged_in, talk.into_pipelined())));
                    }
                    Err(answer) => talk.login_failed(&answer),
                }
                client.command_complete();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
