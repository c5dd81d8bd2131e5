//! With what our own connections log in at a side: the user's own password, or what opens every account there.
//!
//! What clients bring never comes here: their logins are passed on as they are.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use crate::config::{Master, MasterUser};
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
    whose: Whose,
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

impl Access {
    /// The user's own login.
    #[must_use]
    pub fn own(user: &str, password: Arc<SecretSlice<u8>>) -> Self {
        Self { user: user.to_owned(), authcid: user.to_owned(), authzid: None, password, whose: Whose::Own }
    }

    /// A login to the account of `user` without their password; none if the name could be read as another account's.
    #[must_use]
    pub fn master(user: &str, master: &Master) -> Option<Self> {
        match master {
            Master::User(master) => Self::master_user(user, master),
            Master::Password(password) => {
                Some(Self { whose: Whose::MasterPassword, ..Self::own(user, Arc::clone(password)) })
            }
        }
    }

    fn master_user(user: &str, master: &MasterUser) -> Option<Self> {
        let (authcid, authzid) = match master.separator {
            // `a*b*master` would be the account `a` for some servers, and `a*b` for others.
            Some(separator) if user.contains(separator) => return None,
            Some(separator) => (format!("{user}{separator}{}", master.user), None),
            None => (master.user.clone(), Some(user.to_owned())),
        };
        let password = Arc::clone(&master.password);
        Some(Self { user: user.to_owned(), authcid, authzid, password, whose: Whose::MasterUser(master.user.clone()) })
    }

    /// Whose account it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether it needs no password of the user's: what the server thinks of it is not the user's fault.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.whose != Whose::Own
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
    pub fn refused(&self, side: Side, server: &str, protocol: &str, text: &str) -> Refusal {
        let user = &self.user;
        let login = match &self.whose {
            Whose::Own => format!("login of {user}"),
            Whose::MasterUser(master) => format!("login of the master user {master} ({side}.credentials) as {user}"),
            Whose::MasterPassword => format!("login of {user} with the master password ({side}.credentials)"),
        };
        Refusal {
            said: format!("{side} side {server} refuses the {protocol}{login}: {text}"),
            master: self.is_master(),
        }
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secret() -> Arc<SecretSlice<u8>> {
        Arc::new(b"geheim".to_vec().into())
    }

    fn master(separator: Option<char>) -> Master {
        Master::User(MasterUser { user: "boss".to_owned(), separator, password: secret() })
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
    fn a_master_password_goes_with_the_users_own_name_whatever_is_in_it() {
        let access = Access::master("u1*x", &Master::Password(secret())).unwrap();
        assert_eq!((access.authcid(), access.authzid(), access.password()), ("u1*x", None, &b"geheim"[..]));
        assert!(access.is_master());
    }

    #[test]
    fn a_refusal_names_the_side_and_whose_login_it_was_and_no_password() {
        for (access, login) in [
            (Access::own("u1", secret()), "login of u1"),
            (Access::master("u1", &master(None)).unwrap(), "login of the master user boss (old.credentials) as u1"),
            (
                Access::master("u1", &Master::Password(secret())).unwrap(),
                "login of u1 with the master password (old.credentials)",
            ),
        ] {
            let refusal = access.refused(Side::Old, "h:143", "POP3 ", "NO no");
            assert_eq!(refusal.to_string(), format!("old side h:143 refuses the POP3 {login}: NO no"));
            assert_eq!(refusal.is_masters(), access.is_master());
            assert!(!format!("{access:?} {refusal:?}").contains("geheim"));
        }
    }
}
