//! With what our own connections log in at a side: the user's own password, or what opens every account there.
//!
//! What clients bring never comes here: their logins are passed on as they are.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::token::{Token, TokenError, Tokens};
use crate::config::{Form, MasterUser};
use crate::mailbox::Side;
use crate::wire::sasl::Bearer;

/// Who logs in at a server, and with what. Nothing of the password is in its `Debug`.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whose account it is.
    user: String,
    means: Means,
}

/// With what.
#[derive(Clone, Debug)]
enum Means {
    /// A password.
    Password {
        /// Whose it is.
        authcid: String,
        /// SASL authorization identity, where that is how a master user names the account.
        authzid: Option<String>,
        /// It is named by PROXYAUTH, after the login.
        proxyauth: bool,
        password: Arc<SecretSlice<u8>>,
        whose: Whose,
    },
    /// A token from the operator's command.
    Token(Tokens),
}

/// Whose login it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    /// The user's own.
    Own,
    /// That of the master user of this name.
    MasterUser(String),
    /// The user's, with the master password.
    MasterPassword,
}

/// What one login sends.
#[derive(Debug)]
pub(super) enum Proof<'a> {
    Password {
        authcid: &'a str,
        authzid: Option<&'a str>,
        password: &'a [u8],
        /// The account to ask for by PROXYAUTH after the login.
        then: Option<&'a str>,
    },
    Token {
        mechanism: Bearer,
        user: &'a str,
        token: Arc<Token>,
        /// This login tries no other one.
        last: bool,
    },
}

impl Access {
    /// The user's own login.
    #[must_use]
    pub fn own(user: &str, password: Arc<SecretSlice<u8>>) -> Self {
        Self::by_own_name(user, password, Whose::Own)
    }

    /// The user's login with the master password.
    #[must_use]
    pub fn master_password(user: &str, password: Arc<SecretSlice<u8>>) -> Self {
        Self::by_own_name(user, password, Whose::MasterPassword)
    }

    /// A master user's login to the account of `user`; none if the name could be read as another account's.
    #[must_use]
    pub fn master_user(user: &str, master: &MasterUser) -> Option<Self> {
        let (authcid, authzid, proxyauth) = match master.form {
            // `a*b*master` would be the account `a` for some servers, and `a*b` for others.
            Form::Suffix(separator) if user.contains(separator) => return None,
            Form::Suffix(separator) => (format!("{user}{separator}{}", master.user), None, false),
            Form::Authzid => (master.user.clone(), Some(user.to_owned()), false),
            Form::ProxyAuth => (master.user.clone(), None, true),
        };
        let (password, whose) = (Arc::clone(&master.password), Whose::MasterUser(master.user.clone()));
        let means = Means::Password { authcid, authzid, proxyauth, password, whose };
        Some(Self { user: user.to_owned(), means })
    }

    /// A login with a token.
    #[must_use]
    pub fn token(user: &str, tokens: &Tokens) -> Self {
        Self { user: user.to_owned(), means: Means::Token(tokens.clone()) }
    }

    fn by_own_name(user: &str, password: Arc<SecretSlice<u8>>, whose: Whose) -> Self {
        let authcid = user.to_owned();
        let means = Means::Password { authcid, authzid: None, proxyauth: false, password, whose };
        Self { user: user.to_owned(), means }
    }

    /// Whose account it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether it needs no password of the user's: what the server thinks of it is not the user's fault.
    #[must_use]
    pub const fn is_master(&self) -> bool {
        !matches!(&self.means, Means::Password { whose: Whose::Own, .. })
    }

    /// Whether it may be over in the middle of a session: a new login brings another token then.
    #[must_use]
    pub const fn expires(&self) -> bool {
        matches!(&self.means, Means::Token(_))
    }

    /// What is sent at first.
    pub(super) async fn proof(&self) -> Result<Proof<'_>, TokenError> {
        match &self.means {
            Means::Password { authcid, authzid, proxyauth, password, .. } => Ok(Proof::Password {
                authcid,
                authzid: authzid.as_deref(),
                password: password.expose_secret(),
                then: proxyauth.then_some(self.user.as_str()),
            }),
            Means::Token(tokens) => {
                let (token, last) = tokens.get(&self.user).await?;
                Ok(Proof::Token { mechanism: tokens.command().mechanism, user: &self.user, token, last })
            }
        }
    }

    /// What is sent after a server has refused that: another token, unless that one was made for this login. (It may have
    /// been over.)
    pub(super) async fn after<'a>(&'a self, refused: &Proof<'_>) -> Result<Option<Proof<'a>>, TokenError> {
        let (Means::Token(tokens), Proof::Token { token, last, .. }) = (&self.means, refused) else { return Ok(None) };
        tokens.refused(&self.user, token).await;
        if *last {
            return Ok(None);
        }
        let (token, _) = tokens.get(&self.user).await?;
        Ok(Some(Proof::Token { mechanism: tokens.command().mechanism, user: &self.user, token, last: true }))
    }

    /// That `server` of `side` said `text` to this login; `protocol` is empty, or a word with a blank.
    #[must_use]
    pub fn refused(&self, side: Side, server: &str, protocol: &str, text: &str) -> Refusal {
        let user = &self.user;
        let login = match &self.means {
            Means::Password { whose: Whose::Own, .. } => format!("login of {user}"),
            Means::Password { whose: Whose::MasterUser(master), .. } => {
                format!("login of the master user {master} ({side}.credentials) as {user}")
            }
            Means::Password { whose: Whose::MasterPassword, .. } => {
                format!("login of {user} with the master password ({side}.credentials)")
            }
            Means::Token(_) => format!("login of {user} with a token ({side}.credentials)"),
        };
        Refusal {
            said: format!("{side} side {server} refuses the {protocol}{login}: {text}"),
            master: self.is_master(),
        }
    }

    /// That there is no token to log in with at a server of `side`.
    #[must_use]
    pub(super) fn without_token(&self, side: Side, error: &TokenError) -> Refusal {
        let said = format!("{side} side: no token for {} ({side}.credentials): {error}", self.user);
        Refusal { said, master: true }
    }
}

/// Why a login of ours came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError<E> {
    /// The server can't be talked to.
    #[error("{0}")]
    Server(E),
    /// It refused it: don't try again with the same password.
    #[error("{0}")]
    Refused(Refusal),
    /// It refused it for a reason that says nothing about the password: this is what it said.
    #[error("not now: {0}")]
    Busy(Refusal, String),
}

/// A server refused a login of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct Refusal {
    said: String,
    master: bool,
}

impl Refusal {
    /// Whether it says nothing of the user and their password.
    #[must_use]
    pub const fn is_masters(&self) -> bool {
        self.master
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::config::TokenCommand;

    fn secret() -> Arc<SecretSlice<u8>> {
        Arc::new(b"geheim".to_vec().into())
    }

    fn master(user: &str, form: Form) -> Option<Access> {
        Access::master_user(user, &MasterUser { user: "boss".to_owned(), form, password: secret() })
    }

    fn token() -> Access {
        let command = TokenCommand::new(Bearer::XOAuth2, &["/bin/echo", "geheim"]).unwrap();
        Access::token("u1", &Tokens::of(&command))
    }

    /// The name whose password is sent, and the account that is asked for besides, or behind it.
    async fn names(access: &Access) -> (&str, Option<&str>, Option<&str>) {
        match access.proof().await.unwrap() {
            Proof::Password { authcid, authzid, password: b"geheim", then } => (authcid, authzid, then),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_forms_of_a_login_with_a_password() {
        let suffixed = master("u1@example.net", Form::Suffix('*')).unwrap();
        assert_eq!(names(&suffixed).await, ("u1@example.net*boss", None, None));
        assert_eq!(names(&master("u1*x", Form::Authzid).unwrap()).await, ("boss", Some("u1*x"), None));
        assert_eq!(names(&master("u1*x", Form::ProxyAuth).unwrap()).await, ("boss", None, Some("u1*x")));
        assert!(master("u1*x", Form::Suffix('*')).is_none());
        for access in [Access::own("u1*x", secret()), Access::master_password("u1*x", secret())] {
            assert_eq!(names(&access).await, ("u1*x", None, None), "whatever is in the name");
        }
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_asked_for_anew_once() {
        let access = token();
        let first = access.proof().await.unwrap();
        assert!(access.after(&first).await.unwrap().is_none(), "it was made for this login");
        drop(access.proof().await.unwrap());
        let known = access.proof().await.unwrap();
        let second = access.after(&known).await.unwrap().unwrap();
        assert!(access.after(&second).await.unwrap().is_none());
        let own = Access::own("u1", secret());
        let proof = own.proof().await.unwrap();
        assert!(own.after(&proof).await.unwrap().is_none(), "no password is tried twice");
    }

    #[tokio::test]
    async fn a_refusal_names_the_side_and_whose_login_it_was_and_no_password() {
        let with_token = token();
        drop(with_token.proof().await.unwrap());
        for (access, masters, login) in [
            (Access::own("u1", secret()), false, "login of u1"),
            (master("u1", Form::Authzid).unwrap(), true, "login of the master user boss (old.credentials) as u1"),
            (Access::master_password("u1", secret()), true, "login of u1 with the master password (old.credentials)"),
            (with_token, true, "login of u1 with a token (old.credentials)"),
        ] {
            let refusal = access.refused(Side::Old, "h:143", "POP3 ", "NO no");
            assert_eq!(refusal.to_string(), format!("old side h:143 refuses the POP3 {login}: NO no"));
            assert_eq!((refusal.is_masters(), access.is_master()), (masters, masters));
            // (As the argument of the command it is no secret.)
            let shown = format!("{access:?} {refusal:?}").replace("[\"/bin/echo\", \"geheim\"]", "");
            assert!(!shown.contains("geheim"), "{shown}");
        }
    }
}
