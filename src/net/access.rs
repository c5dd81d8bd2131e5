//! With what our own connections log in at a side: the user's own password, or a master user's.
//!
//! What clients bring never comes here: their logins are passed on as they are.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use crate::config::MasterUser;
use crate::mailbox::Side;

/// Who logs in at a server, and with what. Nothing of the password is in its `Debug`.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whose account it is.
    user: String,
    /// Whose password it is.
    authcid: String,
    /// SASL authorization identity, where that is how a master user names the account.
    authzid: Option<String>,
    password: Arc<SecretSlice<u8>>,
    /// The master user, if it is one.
    master: Option<String>,
}

impl Access {
    /// The user's own login.
    #[must_use]
    pub fn own(user: &str, password: Arc<SecretSlice<u8>>) -> Self {
        Self { user: user.to_owned(), authcid: user.to_owned(), authzid: None, password, master: None }
    }

    /// A master user's login to the account of `user`; none if the name could be read as another account's.
    #[must_use]
    pub fn master(user: &str, master: &MasterUser) -> Option<Self> {
        let (authcid, authzid) = match master.separator {
            // `a*b*master` would be the account `a` for some servers, and `a*b` for others.
            Some(separator) if user.contains(separator) => return None,
            Some(separator) => (format!("{user}{separator}{}", master.user), None),
            None => (master.user.clone(), Some(user.to_owned())),
        };
        let password = Arc::clone(&master.password);
        Some(Self { user: user.to_owned(), authcid, authzid, password, master: Some(master.user.clone()) })
    }

    /// Whose account it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether a master user logs in: what the server thinks of it is not the user's fault.
    #[must_use]
    pub const fn is_master(&self) -> bool {
        self.master.is_some()
    }

    /// The name that is sent with the password.
    #[must_use]
    pub fn authcid(&self) -> &str {
        &self.authcid
    }

    /// The account that is asked for besides it, if there is one.
    #[must_use]
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        self.password.expose_secret()
    }

    /// That `server` of `side` said `text` to this login; `protocol` is empty, or a word with a blank.
    #[must_use]
    pub fn refused(&self, side: Side, server: &str, protocol: &'static str, text: String) -> Refusal {
        Refusal {
            side,
            server: server.to_owned(),
            protocol,
            user: self.user.clone(),
            master: self.master.clone(),
            text,
        }
    }
}

/// A server refused a login of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    side: Side,
    server: String,
    protocol: &'static str,
    user: String,
    master: Option<String>,
    text: String,
}

impl Refusal {
    /// Whether it was a master user's.
    #[must_use]
    pub const fn is_masters(&self) -> bool {
        self.master.is_some()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, server, protocol, user, master, text } = self;
        match master {
            None => write!(f, "{side} side {server} refuses the {protocol}login of {user}: {text}"),
            Some(master) => write!(
                f,
                "{side} side {server} refuses the {protocol}login of the master user {master} ({side}.credentials) as \
                 {user}: {text}"
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn master(separator: Option<char>) -> MasterUser {
        let password = Arc::new(b"geheim".to_vec().into());
        MasterUser { user: "boss".to_owned(), separator, password }
    }

    #[test]
    fn both_forms_of_a_master_login() {
        let suffixed = Access::master("u1@example.net", &master(Some('*'))).unwrap();
        assert_eq!((suffixed.authcid(), suffixed.authzid()), ("u1@example.net*boss", None));
        let named = Access::master("u1*x", &master(None)).unwrap();
        assert_eq!((named.authcid(), named.authzid()), ("boss", Some("u1*x")));
        assert!(Access::master("u1*x", &master(Some('*'))).is_none());
        let own = Access::own("u1*x", Arc::new(b"pw".to_vec().into()));
        assert_eq!((own.authcid(), own.authzid(), own.is_master()), ("u1*x", None, false));
    }

    #[test]
    fn a_refusal_names_the_side_and_whose_login_it_was_and_no_password() {
        let access = Access::master("u1", &master(None)).unwrap();
        let refusal = access.refused(Side::Old, "h:143", "", "NO no".to_owned());
        assert_eq!(
            refusal.to_string(),
            "old side h:143 refuses the login of the master user boss (old.credentials) as u1: NO no"
        );
        assert!(!format!("{access:?} {refusal:?}").contains("geheim"));
    }
}
