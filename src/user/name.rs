//! Who is a user (DESIGN §1): the canonical key of a record, and the name as it was typed.

use std::borrow::Cow;
use std::fmt;

use crate::config::{Config, SideNames};

/// The key of a user's record: lower case, default domain appended, master suffix stripped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalUser(String);

impl CanonicalUser {
    /// Takes a key that is canonical already, as read back from the store.
    #[must_use]
    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// What stands behind the `@`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.rsplit_once('@').map(|(_, domain)| domain)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CanonicalUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A login name as a client typed it, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginName {
    /// As typed: what the sides are given.
    pub typed: String,
    /// The user it names.
    pub user: CanonicalUser,
    /// A master user logs in as somebody else; such a login never starts a move.
    pub master: bool,
}

/// How login names become users.
#[derive(Clone, Debug, Default)]
pub struct NameRules {
    /// `[users] default_domain`, lower case.
    pub default_domain: Option<String>,
    /// What splits `user*master` besides `*`: separators of the sides' own.
    pub separators: Vec<char>,
}

/// Splits `user*master` (Dovecot's `auth_master_user_separator` as everybody sets it).
const MASTER_SEPARATOR: char = '*';

impl NameRules {
    /// The rules that `config` names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let realms = config.realms.iter().map(|realm| (&realm.old, &realm.new));
        let sides = std::iter::once((&config.old, &config.new)).chain(realms);
        let credentials = sides.flat_map(|(old, new)| [&old.credentials, &new.credentials]);
        let separators = credentials.filter_map(|side| side.master()?.separator()).collect();
        Self { default_domain: config.users.default_domain.clone(), separators }
    }

    /// What `typed` (with SASL authorization identity `authzid`, if there is a different one) means.
    #[must_use]
    pub fn login(&self, typed: &str, authzid: Option<&str>) -> LoginName {
        let authzid = authzid.filter(|name| !name.is_empty() && *name != typed);
        let (plain, suffixed) = match typed.split_once(|c| c == MASTER_SEPARATOR || self.separators.contains(&c)) {
            Some((user, _)) => (user, true),
            None => (typed, false),
        };
        LoginName {
            typed: typed.to_owned(),
            user: self.canonical(authzid.unwrap_or(plain)),
            master: suffixed || authzid.is_some(),
        }
    }

    /// The name by which a side knows who logs in as `typed`; a master user's suffix stays as it is.
    #[must_use]
    pub fn at(&self, side: &SideNames, typed: &str) -> String {
        let split = typed.find(|c| c == MASTER_SEPARATOR || self.separators.contains(&c)).unwrap_or(typed.len());
        let (plain, suffix) = typed.split_at(split);
        side.of(plain, self.canonical(plain).as_str()) + suffix
    }

    /// What `typed` and `authzid` are called at a side: of two different names the first one is a master user's own.
    #[must_use]
    pub fn both_at<'a>(
        &self,
        side: &SideNames,
        typed: &'a str,
        authzid: Option<&'a str>,
    ) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        if side.as_typed() {
            return (typed.into(), authzid.map(Into::into));
        }
        match authzid.filter(|name| !name.is_empty()) {
            Some(authzid) if authzid != typed => (typed.into(), Some(self.at(side, authzid).into())),
            Some(_) => (self.at(side, typed).into(), Some(self.at(side, typed).into())),
            None => (self.at(side, typed).into(), None),
        }
    }

    /// The canonical user of a plain name, as an operator types it.
    #[must_use]
    pub fn canonical(&self, name: &str) -> CanonicalUser {
        let mut key = name.trim().to_lowercase();
        if !key.contains('@')
            && let Some(domain) = &self.default_domain
        {
            key.push('@');
            key.push_str(domain);
        }
        CanonicalUser(key)
    }
}

#[cfg(test)]
mod tests {
    use super::NameRules;

    #[test]
    fn all_spellings_of_a_name_are_one_user() {
        let rules = NameRules { default_domain: Some("default.domain".to_owned()), ..NameRules::default() };
        for typed in ["u1", "U1", "u1@default.domain", "U1@Default.Domain", " u1 "] {
            let login = rules.login(typed, None);
            assert_eq!(login.user.as_str(), "u1@default.domain", "{typed}");
            assert_eq!(login.typed, typed);
            assert!(!login.master);
        }
        assert_eq!(rules.canonical("u1@other").as_str(), "u1@other");
    }

    #[test]
    fn a_master_login_names_the_user_and_is_marked() {
        let rules = NameRules::default();
        let login = rules.login("u1*master", None);
        assert_eq!((login.user.as_str(), login.master), ("u1", true));
        let login = rules.login("master", Some("U1"));
        assert_eq!((login.user.as_str(), login.master), ("u1", true));
        let login = rules.login("u1", Some("u1"));
        assert_eq!((login.user.as_str(), login.master), ("u1", false));
        let login = rules.login("u1%master", None);
        assert_eq!((login.user.as_str(), login.master), ("u1%master", false));
        let rules = NameRules { separators: vec!['%'], ..NameRules::default() };
        for typed in ["u1%master", "u1*master"] {
            let login = rules.login(typed, None);
            assert_eq!((login.user.as_str(), login.master), ("u1", true), "{typed}");
        }
    }
}
