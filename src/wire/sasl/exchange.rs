//! What a client that logs in by SASL is asked, message by message, whatever the protocol (RFC 4422 §3).
//!
//! PLAIN is one message (RFC 4616). LOGIN has no standard but many clients: a name and a password, each on its own, asked
//! for by words that no client reads. A client may send the first message with its command (RFC 4959 §3, RFC 5034 §4).

use std::fmt;

use zeroize::Zeroizing;

use super::bearer::Bearer;
use super::from_base64;
use crate::wire::credentials::{Credentials, Unfit};

/// The mechanisms that clients are offered, the better one first.
pub const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];

/// Those for tokens, which are offered where both sides take them.
pub const TOKENS: [Bearer; 2] = [Bearer::OAuthBearer, Bearer::XOAuth2];

/// The names of all that are offered.
pub fn offered(tokens: bool) -> impl Iterator<Item = &'static str> {
    MECHANISMS.into_iter().chain(TOKENS.map(Bearer::name).into_iter().filter(move |_| tokens))
}

/// An exchange that waits for the client's next message.
#[derive(Clone, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN's only message.
    Plain,
    /// LOGIN's first: the name.
    LoginName,
    /// LOGIN's second: the password.
    LoginPassword {
        /// What was given as name.
        user: Vec<u8>,
    },
    /// The only message of a mechanism for tokens.
    Token(Bearer),
}

/// What follows a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Another one: [`Exchange::challenge`] is to be said first.
    Ask(Exchange),
    /// Credentials to try.
    LogIn(Credentials),
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::LoginName => "LoginName",
            Self::LoginPassword { .. } => "LoginPassword",
            Self::Token(mechanism) => mechanism.name(),
        })
    }
}

impl Exchange {
    /// Begins with the mechanism of that name, whatever its case; `None` if it isn't [`offered`].
    #[must_use]
    pub fn begin(mechanism: &[u8], tokens: bool) -> Option<Self> {
        let named = |name: &str| mechanism.eq_ignore_ascii_case(name.as_bytes());
        if let Some(mechanism) = TOKENS.into_iter().find(|one| tokens && named(one.name())) {
            return Some(Self::Token(mechanism));
        }
        match MECHANISMS.into_iter().find(|name| named(name))? {
            "PLAIN" => Some(Self::Plain),
            _ => Some(Self::LoginName),
        }
    }

    /// What the client is asked with, in base64.
    #[must_use]
    pub const fn challenge(&self) -> &'static str {
        match self {
            Self::Plain | Self::Token(_) => "",
            // "Username:" and "Password:", as every server says it.
            Self::LoginName => "VXNlcm5hbWU6",
            Self::LoginPassword { .. } => "UGFzc3dvcmQ6",
        }
    }

    /// Takes the client's message, in base64 without line end.
    ///
    /// # Errors
    /// [`Unfit`], which ends the exchange.
    pub fn answer(self, line: &[u8]) -> Result<Step, Unfit> {
        match self {
            Self::Plain => Credentials::from_plain(line).map(Step::LogIn),
            Self::Token(mechanism) => Credentials::from_bearer(mechanism, line).map(Step::LogIn),
            Self::LoginName => {
                let user = from_base64(line)?.to_vec();
                Ok(Step::Ask(Self::LoginPassword { user }))
            }
            Self::LoginPassword { user } => {
                let password: Zeroizing<Vec<u8>> = from_base64(line)?;
                Credentials::new(&user, password).map(Step::LogIn)
            }
        }
    }

    /// Takes the message that came with the command; `=` is one of no octets.
    ///
    /// # Errors
    /// [`Unfit`], which ends the exchange.
    pub fn initial(self, word: &[u8]) -> Result<Step, Unfit> {
        self.answer(if word == b"=" { b"" } else { word })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{Exchange, MECHANISMS, Step, offered};
    use crate::wire::credentials::Unfit;
    use crate::wire::sasl::Bearer;
    use crate::wire::sasl::{SaslError, to_base64};

    fn asked(step: Result<Step, Unfit>) -> Exchange {
        match step.unwrap() {
            Step::Ask(exchange) => exchange,
            Step::LogIn(credentials) => panic!("{credentials:?}"),
        }
    }

    #[test]
    fn login_asks_for_the_name_and_then_for_the_password() {
        let exchange = Exchange::begin(b"login", false).unwrap();
        assert_eq!(exchange.challenge(), to_base64(b"Username:").escape_ascii().to_string());
        let exchange = asked(exchange.answer(&to_base64("änna".as_bytes())));
        assert_eq!(exchange.challenge(), to_base64(b"Password:").escape_ascii().to_string());
        assert_eq!(format!("{exchange:?}"), "LoginPassword");
        let Ok(Step::LogIn(credentials)) = exchange.answer(&to_base64(b"s\xe4cret")) else { panic!() };
        assert_eq!((credentials.user.as_str(), credentials.authzid.as_deref()), ("änna", None));
        assert_eq!(credentials.password.as_slice(), b"s\xe4cret");
    }

    #[test]
    fn what_is_no_login() {
        let named = |name: &[u8]| asked(Exchange::LoginName.initial(name));
        assert_eq!(named(b"=").answer(b"YQ=="), Err(Unfit::User), "a name of no octets");
        assert_eq!(named(&to_base64(b"a\0b")).answer(b"YQ=="), Err(Unfit::User));
        assert_eq!(named(b"YQ==").answer(&to_base64(b"a\0b")), Err(Unfit::Nul));
        assert_eq!(named(b"YQ==").answer(b"!"), Err(Unfit::Sasl(SaslError::Base64)));
        assert_eq!(Exchange::LoginName.answer(b"!"), Err(Unfit::Sasl(SaslError::Base64)));
        for no in [&b""[..], b"CRAM-MD5", b"PLAI", b"PLAIN ", b"XLOGIN", b"XOAUTH2"] {
            assert_eq!(Exchange::begin(no, false), None);
        }
        assert!(offered(true).all(|name| Exchange::begin(name.as_bytes(), true).is_some()));
        assert_eq!(offered(false).collect::<Vec<_>>(), MECHANISMS);
    }

    #[test]
    fn a_token_comes_with_its_name() {
        let message = to_base64(b"user=u1\x01auth=Bearer abc\x01\x01");
        let exchange = Exchange::begin(b"xoauth2", true).unwrap();
        assert_eq!(exchange.challenge(), "");
        let Ok(Step::LogIn(credentials)) = exchange.answer(&message) else { panic!() };
        assert_eq!((credentials.user.as_str(), credentials.password.as_slice()), ("u1", b"abc".as_slice()));
        assert_eq!(credentials.bearer, Some(Bearer::XOAuth2));
        assert!(!format!("{credentials:?}").contains("abc"));
        let other = Exchange::Token(Bearer::OAuthBearer).answer(&message);
        assert_eq!(other, Err(Unfit::Sasl(SaslError::Bearer)));
    }
}
