//! Tokens as Gmail takes them (XOAUTH2 as Google documents it, OAUTHBEARER as RFC 7628): `ya29.NUMBER.USER`, of which those up to
//! some number are over. A session that began with such a one is ended, too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::State;
use super::wire::Wire;

/// What Gmail tells in its challenge before it refuses.
const REFUSAL: &str = r#"{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}"#;

/// Both mechanisms, as they are announced.
pub const MECHANISMS: [&str; 2] = ["XOAUTH2", "OAUTHBEARER"];

/// What is known of tokens.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Those up to this number are over.
    pub over: u64,
    /// Once so many bodies have been sent, the newest token is over.
    pub over_at_body: Option<usize>,
    /// The newest that was taken.
    newest: u64,
    /// Each that was taken: where ("IMAP", "POP3"), its text.
    pub taken: Vec<(&'static str, String)>,
    /// How many were refused.
    pub refused: usize,
}

impl Tokens {
    /// Another body was sent.
    pub fn sent(&mut self, bodies: usize) {
        if self.over_at_body.is_some_and(|at| bodies >= at) {
            self.over_at_body = None;
            self.over = self.newest;
        }
    }
}

/// Whose account a token is for, and its number, if it is not over.
fn read(state: &mut State, mechanism: &str, message: &[u8]) -> Option<(String, u64, String)> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.strip_suffix("\u{1}\u{1}")?.split('\u{1}');
    let head = parts.next()?;
    let named = match mechanism {
        "XOAUTH2" => head.strip_prefix("user=")?,
        _ => head.strip_prefix("n,a=")?.strip_suffix(',')?,
    };
    let token = parts.find_map(|part| part.strip_prefix("auth=Bearer "))?;
    let (number, user) = token.strip_prefix("ya29.")?.split_once('.')?;
    let number = number.parse().ok()?;
    let good = user == named && state.accounts.contains_key(user) && number > state.tokens.over;
    good.then(|| (user.to_owned(), number, token.to_owned()))
}

/// The exchange: gives the user and the number of their token, or `None` inside where it was refused.
pub fn exchange(
    wire: &mut Wire,
    state: &std::sync::Mutex<State>,
    place: &'static str,
    (mechanism, initial): (&str, Option<&str>),
) -> Option<Option<(String, u64)>> {
    let given = match initial {
        Some(given) => given.to_owned(),
        None => {
            wire.say(b"+ \r\n")?;
            wire.line()?
        }
    };
    let message = STANDARD.decode(given).unwrap_or_default();
    let found = {
        let mut state = state.lock().unwrap();
        let found = read(&mut state, mechanism, &message);
        match &found {
            Some((_, number, text)) => {
                state.tokens.newest = state.tokens.newest.max(*number);
                state.tokens.taken.push((place, text.clone()));
            }
            None => state.tokens.refused += 1,
        }
        found
    };
    if found.is_none() {
        wire.say(format!("+ {}\r\n", STANDARD.encode(REFUSAL)).as_bytes())?;
        let end = wire.line()?;
        // XOAUTH2 ends with an empty line, OAUTHBEARER with one octet 1 (RFC 7628 §3.2.3).
        assert_eq!(end, if mechanism == "XOAUTH2" { "" } else { "AQ==" }, "what ends a refused {mechanism}");
    }
    Some(found.map(|(user, number, _)| (user, number)))
}
