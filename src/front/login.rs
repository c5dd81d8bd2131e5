//! Logs a client in at the side that is their authority, with their own credentials.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use secrecy::SecretSlice;
use tokio::time::timeout;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::guard::Seat;
use super::session::Session;
use crate::mailbox::Side;
use crate::net::Stream;
use crate::net::imap::{ImapConnection, ImapError, LoginAnswer, printable};
use crate::user::{EnterError, LoginName, LoginSucceeded, Protocol, SessionPass};
use crate::wire::imap::prelogin::Login;
use crate::wire::imap::scan::Status;
use crate::wire::imap::tracker;
use crate::wire::sasl::Bearer;

/// A side must have answered a login by then: less than clients wait, more than a Dovecot lets an address wait that has
/// given many wrong passwords (15 s).
pub(super) const SIDE_DEADLINE: Duration = Duration::from_secs(55);

/// How a response code of capabilities begins.
const CAPABILITY: &[u8] = b"[CAPABILITY ";

/// A client whose side has accepted them.
#[derive(Debug)]
pub(super) struct LoggedIn {
    /// Who it is, fit for a log line.
    pub(super) shown: String,
    /// The connection to that side, and what it has said behind its answer.
    pub(super) backend: (Stream, BytesMut),
    /// What the client has said behind its login.
    pub(super) pipelined: Zeroizing<Vec<u8>>,
    /// Counts it among the user's sessions.
    pub(super) seat: Seat,
    /// Counts the session at its side. The last field, so that it goes when the connection has gone.
    pub(super) pass: SessionPass,
}

/// Tries `login`. Gives the session and the answer for the client, or only the answer if it was refused.
pub(super) async fn log_in(session: Session<'_>, login: Login) -> Result<(LoggedIn, Vec<u8>), Vec<u8>> {
    let Login { tag, user, authzid, password, bearer } = login;
    let name = session.front.names.login(&user, authzid.as_deref());
    let shown = printable(name.user.as_str().as_bytes());
    let front = session.front;
    let not_let_in = |error: EnterError| {
        warn!(user = shown, "login not let in: {error}");
        let text = match error {
            EnterError::Held { .. } => "Your mailbox is being moved, try again in a moment.",
            EnterError::Store(_) => "Temporary failure, try again later.",
        };
        unavailable(&tag, text)
    };
    if let Err(busy) = front.guard.before_login(session.peer.ip(), &name.user).await {
        warn!(user = shown, "login not tried: {busy}");
        return Err(unavailable(&tag, "Too many logins at once, try again in a moment."));
    }
    let attempt = front.registry.attempt(&name.user, Protocol::Imap, front.patience).await.map_err(not_let_in)?;
    let side = attempt.side();
    let ask = async |side| {
        let proof = (authzid.as_deref(), password.as_slice(), bearer);
        answered(session, side, &name, proof).await.map_err(|said| said.under(&tag))
    };
    let mut accepted = ask(side).await?;
    let seat = front.guard.seat(&name.user).map_err(|full| {
        warn!(user = shown, "login refused: {full}");
        format!("{tag} NO [LIMIT] You have too many sessions open, close one of them.\r\n").into_bytes()
    })?;
    tell(session, &name, (&password, bearer), side);
    let pass = attempt.admit(front.patience).await.map_err(not_let_in)?;
    if pass.side != side {
        // The switch came first: the side that accepted this login serves the user no more.
        accepted = ask(pass.side).await?;
        tell(session, &name, (&password, bearer), pass.side);
    }
    let (connection, raw) = accepted;
    info!(user = shown, side = %pass.side, "logged in");
    let answer = greeting(&tag, &raw, connection.capabilities().iter());
    let backend = connection.into_stream();
    Ok((LoggedIn { shown, backend, pipelined: Zeroizing::default(), seat, pass }, answer))
}

/// Why a client is not logged in, in words for it.
enum Said {
    /// The side's own.
    Refusal(Status, Vec<u8>),
    /// Ours: the side could not be asked.
    Unavailable(&'static str),
}

impl Said {
    fn under(self, tag: &str) -> Vec<u8> {
        match self {
            Self::Refusal(status, raw) => {
                let word = if status == Status::Bad { "BAD" } else { "NO" };
                [tag.as_bytes(), b" ", word.as_bytes(), b" ", raw.as_slice(), b"\r\n"].concat()
            }
            Self::Unavailable(text) => unavailable(tag, text),
        }
    }
}

/// As whom to act, and the password, or a token in its place with its mechanism.
type Proof<'a> = (Option<&'a str>, &'a [u8], Option<Bearer>);

/// Logs in at a side, within its deadline.
async fn answered(
    session: Session<'_>,
    side: Side,
    name: &LoginName,
    proof: Proof<'_>,
) -> Result<(ImapConnection, Vec<u8>), Said> {
    let shown = printable(name.user.as_str().as_bytes());
    match timeout(SIDE_DEADLINE, at_side(session, side, name, proof)).await {
        Ok(Ok((connection, LoginAnswer::Accepted { raw }))) => {
            session.front.guard.logged_in(session.peer.ip(), &name.user);
            Ok((connection, raw))
        }
        Ok(Ok((_, LoginAnswer::Refused { status, raw }))) => {
            info!(user = shown, %side, "login refused: {}", printable(&raw));
            let turned_away = LoginAnswer::Refused { status, raw: raw.clone() }.is_turned_away();
            if !turned_away && is_about_the_password(&raw) {
                session.front.guard.login_failed(session.peer.ip(), &name.user);
            }
            Err(Said::Refusal(status, raw))
        }
        Ok(Err(error)) => {
            warn!(user = shown, "login failed: {error}");
            Err(Said::Unavailable("The mail server can't be reached, try again later."))
        }
        Err(_) => {
            warn!(user = shown, "login failed: {side} side: no answer within {} s", SIDE_DEADLINE.as_secs());
            Err(Said::Unavailable("The mail server takes too long to answer, try again later."))
        }
    }
}

/// Whether a refusal that begins with `raw` says that the password is wrong. Other codes (RFC 5530, RFC 3206) say that it may
/// be right; without a code it is as good as wrong.
pub(super) fn is_about_the_password(raw: &[u8]) -> bool {
    let Some(code) = raw.strip_prefix(b"[") else { return true };
    let code = code.split(|octet| b" ]".contains(octet)).next().unwrap_or_default();
    let wrong: [&[u8]; 4] = [b"AUTHENTICATIONFAILED", b"AUTHORIZATIONFAILED", b"AUTH", b"ALERT"];
    wrong.iter().any(|wrong| code.eq_ignore_ascii_case(wrong))
}

async fn at_side(
    session: Session<'_>,
    side: Side,
    name: &LoginName,
    (authzid, password, bearer): Proof<'_>,
) -> Result<(ImapConnection, LoginAnswer), ImapError> {
    let backends = session.front.backends.of(&name.user);
    let (user, authzid) = session.front.names.both_at(backends.names.of(side), &name.typed, authzid);
    let server = backends.imap.of(side);
    // Without the client's own address a server would take all clients for one, and punish all for one's wrong password.
    let (address, port) = (session.peer.ip().to_canonical().to_string(), session.peer.port().to_string());
    let fields =
        [("x-originating-ip", address.as_str()), ("x-originating-port", port.as_str()), ("x-session-id", session.id)];
    let registry = &session.front.registry;
    let log_in = async || {
        let connect = || server.connect_for(Some(session.ends()));
        let mut connection = registry.crowd().connect(connect, ImapError::is_turned_away).await?;
        let answer = match bearer {
            None => {
                connection.identify_with_login(&fields).await?;
                connection.login(&user, authzid.as_deref(), password).await?
            }
            Some(mechanism) => {
                connection.identify(&fields).await?;
                connection.login_with_token(mechanism, &user, password).await?
            }
        };
        if answer.is_turned_away() { Err(Away::Full(Box::new((connection, answer)))) } else { Ok((connection, answer)) }
    };
    // Only the user's own sessions count here, and only what we do for this user gives way.
    let logged_in = match registry.gate(&name.user).await {
        Ok(gate) => gate.crowd().connect(log_in, |away| matches!(away, Away::Full(_))).await,
        Err(_) => log_in().await,
    };
    match logged_in {
        Ok(done) => Ok(done),
        Err(Away::Full(refused)) => Ok(*refused),
        Err(Away::Failed(error)) => Err(error),
    }
}

/// Why a session can't be had at a side.
enum Away {
    Failed(ImapError),
    /// It has too many of this user.
    Full(Box<(ImapConnection, LoginAnswer)>),
}

impl From<ImapError> for Away {
    fn from(error: ImapError) -> Self {
        Self::Failed(error)
    }
}

/// The side's OK under the client's tag, with the capabilities that the client can use through us.
fn greeting<'a>(tag: &str, raw: &[u8], capabilities: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let line = [tag.as_bytes(), b" OK ", raw, b"\r\n"].concat();
    let coded = raw.get(..CAPABILITY.len()).is_some_and(|start| start.eq_ignore_ascii_case(CAPABILITY));
    if coded {
        return tracker::visible(&line).into_owned();
    }
    let words: Vec<&str> = capabilities.filter(|word| !tracker::is_hidden(word.as_bytes())).collect();
    let words = words.join(" ");
    if raw.starts_with(b"[") {
        // The OK has a code of its own and can't have two.
        return [b"* CAPABILITY ", words.as_bytes(), b"\r\n", &line].concat();
    }
    [tag.as_bytes(), b" OK [CAPABILITY ", words.as_bytes(), b"] ", raw, b"\r\n"].concat()
}

fn unavailable(tag: &str, text: &str) -> Vec<u8> {
    format!("{tag} NO [UNAVAILABLE] {text}\r\n").into_bytes()
}

/// Lets whoever moves users know. A client never waits for it: the next login is as good.
pub(super) fn tell(session: Session<'_>, login: &LoginName, (secret, bearer): (&[u8], Option<Bearer>), side: Side) {
    // A token is over before it could be of any use.
    let password: Option<Arc<SecretSlice<u8>>> = bearer.is_none().then(|| Arc::new(secret.to_vec().into()));
    let login = LoginSucceeded { login: login.clone(), password, client: session.peer, side };
    if session.front.logins.try_send(login).is_err() {
        warn!("too many logins at once: this one starts no move, the user's next one will");
    }
}

#[cfg(test)]
mod tests {
    use super::{greeting, is_about_the_password};

    #[test]
    fn a_server_in_trouble_makes_no_password_wrong() {
        for raw in ["[AUTHENTICATIONFAILED] no", "Login failed", "[auth] no", "[ALERT] no", "[AUTH]"] {
            assert!(is_about_the_password(raw.as_bytes()), "{raw}");
        }
        for raw in ["[UNAVAILABLE] down", "[SYS/TEMP] down", "[IN-USE] locked", "[LIMIT] many", "[PRIVACYREQUIRED] TLS"]
        {
            assert!(!is_about_the_password(raw.as_bytes()), "{raw}");
        }
    }

    fn shown(raw: &str) -> String {
        let capabilities = ["IMAP4REV1", "COMPRESS=DEFLATE", "IDLE"].into_iter();
        String::from_utf8_lossy(&greeting("t1", raw.as_bytes(), capabilities)).into_owned()
    }

    #[test]
    fn the_ok_tells_what_the_client_can_use_whatever_the_backend_told() {
        assert_eq!(
            shown("[Capability IMAP4rev1 compress=deflate X] Logged in"),
            "t1 OK [Capability IMAP4rev1 X] Logged in\r\n"
        );
        assert_eq!(shown("Logged in"), "t1 OK [CAPABILITY IMAP4REV1 IDLE] Logged in\r\n");
        assert_eq!(shown("[ALERT] New"), "* CAPABILITY IMAP4REV1 IDLE\r\nt1 OK [ALERT] New\r\n");
        assert_eq!(shown(""), "t1 OK [CAPABILITY IMAP4REV1 IDLE] \r\n");
    }
}
