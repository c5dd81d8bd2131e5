//! Logs a POP3 client in at the side that is their authority, with their own credentials.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::SideNames;
use crate::front::guard::Seat;
use crate::front::login::{SIDE_DEADLINE, is_about_the_password, tell};
use crate::front::session::Session;
use crate::mailbox::Side;
use crate::net::Stream;
use crate::net::imap::printable;
use crate::net::pop3::{Pop3Answer, Pop3Connection, Pop3Error, Pop3Server};
use crate::user::{CanonicalUser, EnterError, LoginName, Protocol, SessionPass};
use crate::wire::credentials::Credentials;

/// How long a session that makes room for a switch may take to end. Later its lock is the switch's own trouble.
const QUIT_PATIENCE: Duration = Duration::from_secs(10);

/// A client whose side has accepted them.
pub(super) struct LoggedIn {
    /// Who it is.
    pub(super) user: CanonicalUser,
    /// The same, fit for a log line.
    pub(super) shown: String,
    /// The connection to that side, and what it has said behind its answer.
    pub(super) backend: (Stream, BytesMut),
    /// Counts it among the user's sessions.
    pub(super) seat: Seat,
    /// Counts the session at its side. The last field, so that it goes when the connection has gone.
    pub(super) pass: SessionPass,
}

/// Tries to log in. Gives the session and the answer for the client, or only the answer if it was refused.
pub(super) async fn log_in(session: Session<'_>, credentials: Credentials) -> Result<(LoggedIn, Vec<u8>), Vec<u8>> {
    let front = session.front;
    let name = front.names.login(&credentials.user, credentials.authzid.as_deref());
    let shown = printable(name.user.as_str().as_bytes());
    // (A configuration with a POP3 listener has POP3 on all sides.)
    let backends = front.backends.of(&name.user);
    let Some(sides) = &backends.pop3 else {
        return Err(unavailable("There is no POP3 server for this user."));
    };
    if let Err(busy) = front.guard.before_login(session.peer.ip(), &name.user).await {
        warn!(user = shown, "POP3 login not tried: {busy}");
        return Err(unavailable("Too many logins at once, try again in a moment."));
    }
    let attempt =
        front.registry.attempt(&name.user, Protocol::Pop3, front.patience).await.map_err(|e| not_let_in(&shown, &e))?;
    let side = attempt.side();
    let ask =
        async |side| answered(session, (sides.of(side), backends.names.of(side)), side, &name, &credentials).await;
    let (connection, mut text) = ask(side).await?;
    let seat = front.guard.seat(&name.user).map_err(|full| {
        warn!(user = shown, "POP3 login refused: {full}");
        unavailable("You have too many sessions open, close one of them.")
    })?;
    // A switch may come before this login is answered: our session must not stand in its way with a lock. It has gone
    // before the switch hears of this login.
    let mut connection = Some(connection);
    if attempt.may_move()
        && let Some(first) = connection.take()
    {
        make_room(first).await;
    }
    tell(session, &name, (&credentials.password, credentials.bearer), side);
    let pass = attempt.admit(front.patience).await.map_err(|e| not_let_in(&shown, &e))?;
    let connection = match connection.filter(|_| pass.side == side) {
        Some(connection) => connection,
        None => {
            let (again, theirs) = ask(pass.side).await?;
            text = theirs;
            if pass.side != side {
                tell(session, &name, (&credentials.password, credentials.bearer), pass.side);
            }
            again
        }
    };
    info!(user = shown, side = %pass.side, "logged in over POP3");
    let answer = [b"+OK ".as_slice(), &text].concat();
    let answer = [answer.trim_ascii_end(), b"\r\n"].concat();
    Ok((LoggedIn { user: name.user, shown, backend: connection.into_stream(), seat, pass }, answer))
}

fn not_let_in(shown: &str, error: &EnterError) -> Vec<u8> {
    warn!(user = shown, "POP3 login not let in: {error}");
    unavailable(match error {
        EnterError::Held { .. } => "Your mailbox is being moved, try again in a moment.",
        EnterError::Store(_) => "Temporary failure, try again later.",
    })
}

async fn make_room(connection: Pop3Connection) {
    match timeout(QUIT_PATIENCE, connection.quit()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a session that makes room for a switch: {error}"),
        Err(_) => debug!("a session that makes room for a switch takes too long to end"),
    }
}

/// Logs in at a side, within its deadline: the text of its `+OK`, or the answer for the client.
async fn answered(
    session: Session<'_>,
    at: (&Pop3Server, &SideNames),
    side: Side,
    name: &LoginName,
    credentials: &Credentials,
) -> Result<(Pop3Connection, Vec<u8>), Vec<u8>> {
    let shown = printable(name.user.as_str().as_bytes());
    match timeout(SIDE_DEADLINE, at_side(session, at, credentials)).await {
        Ok(Ok((connection, Pop3Answer::Accepted { text }))) => {
            session.front.guard.logged_in(session.peer.ip(), &name.user);
            Ok((connection, text))
        }
        Ok(Ok((_, Pop3Answer::Refused { mut raw }))) => {
            info!(user = shown, %side, "POP3 login refused: {}", printable(&raw));
            if is_about_the_password(raw.strip_prefix(b"-ERR ").unwrap_or(&raw)) {
                session.front.guard.login_failed(session.peer.ip(), &name.user);
            }
            raw.extend_from_slice(b"\r\n");
            Err(raw)
        }
        Ok(Err(error)) => {
            warn!(user = shown, "POP3 login failed: {error}");
            Err(unavailable("The mail server can't be reached, try again later."))
        }
        Err(_) => {
            warn!(user = shown, "POP3 login failed: {side} side: no answer within {} s", SIDE_DEADLINE.as_secs());
            Err(unavailable("The mail server takes too long to answer, try again later."))
        }
    }
}

async fn at_side(
    session: Session<'_>,
    (server, names): (&Pop3Server, &SideNames),
    credentials: &Credentials,
) -> Result<(Pop3Connection, Pop3Answer), Pop3Error> {
    let connect = || server.connect_for(Some(session.ends()));
    let mut connection = session.front.registry.crowd().connect(connect, Pop3Error::is_turned_away).await?;
    // Without the client's own address a server would take all clients for one, and punish all for one's wrong password.
    connection.identify(session.peer, session.id).await?;
    let Credentials { user, authzid, password, bearer } = credentials;
    let (user, authzid) = session.front.names.both_at(names, user, authzid.as_deref());
    let answer = match bearer {
        None => connection.login(&user, authzid.as_deref(), password).await?,
        Some(mechanism) => connection.login_with_token(*mechanism, &user, password).await?,
    };
    Ok((connection, answer))
}

/// Not `[AUTH]`, which would make the client ask for another password (RFC 3206 §4).
fn unavailable(text: &str) -> Vec<u8> {
    format!("-ERR [SYS/TEMP] {text}\r\n").into_bytes()
}
