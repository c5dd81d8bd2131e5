//! `credentials` under `[old]` and `[new]`: with what our own connections log in at a side. Clients always log in with what
//! they bring.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::raw::{Entry, Keys, Section};
use super::scalar;
use super::token_command::{TokenCommand, token_command};
use crate::wire::credentials::is_name;
use crate::wire::sasl::Bearer;

const USER: Keys = Keys { known: &["kind"], later: &[] };
const MASTER_USER: Keys = Keys { known: &["kind", "user", "separator", "password_file"], later: &[] };
const PROXYAUTH: Keys = Keys { known: &["kind", "user", "password_file"], later: &[] };
const MASTER_PASSWORD: Keys = Keys { known: &["kind", "password_file"], later: &[] };
const TOKEN: Keys = Keys { known: &["kind", "token_command"], later: &[] };

/// `credentials = { kind = …, … }`.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `user`: what the user's own login brought.
    User,
    /// Any other kind: what opens every account without its user's password.
    Master(Master),
}

impl Credentials {
    /// What opens every account, if there is such a thing.
    #[must_use]
    pub const fn master(&self) -> Option<&Master> {
        match self {
            Self::User => None,
            Self::Master(master) => Some(master),
        }
    }
}

/// What opens every account of a side.
#[derive(Clone, Debug)]
pub enum Master {
    /// `master-user`, `proxyauth`: a user of that side.
    User(MasterUser),
    /// `master-password`: a password that the side takes in place of any user's own, read from `password_file`.
    Password(Arc<SecretSlice<u8>>),
    /// `oauthbearer`, `xoauth2`: tokens from a command.
    Token(TokenCommand),
}

impl Master {
    /// What stands between a user's name and the master user's, where that is how it logs in.
    #[must_use]
    pub const fn separator(&self) -> Option<char> {
        match self {
            Self::User(MasterUser { form: Form::Suffix(separator), .. }) => Some(*separator),
            Self::User(_) => None,
            Self::Password(_) | Self::Token(_) => None,
        }
    }
}

impl Master {
    /// Why it can't log in over a protocol of its side.
    pub(super) const fn cant_log_in(&self, pop3: bool, sieve: bool) -> Option<&'static str> {
        match self {
            Self::User(MasterUser { form: Form::ProxyAuth, .. }) if pop3 || sieve => Some(
                "\"proxyauth\" can't log in over POP3 or ManageSieve, and this side has `pop3` or `sieve`: they have no such \
                 command; if the server takes an administrator by SASL PLAIN with an authorization identity, take \
                 \"master-user\" without a separator",
            ),
            _ => None,
        }
    }
}

/// A user of a side who may log in as anybody.
#[derive(Clone, Debug)]
pub struct MasterUser {
    /// Its name.
    pub user: String,
    /// How it says whose account it wants.
    pub form: Form,
    /// Its password, read from `password_file` with its line end removed.
    pub password: Arc<SecretSlice<u8>>,
}

/// How a master user says whose account it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It logs in as `USER<separator>MASTER`.
    Suffix(char),
    /// By SASL PLAIN, with USER as authorization identity.
    Authzid,
    /// By `PROXYAUTH USER` after its own login, which is IMAP's alone.
    ProxyAuth,
}

/// Reads the table.
pub(super) fn credentials(section: &Section<'_>) -> Option<Credentials> {
    let kind = section.require("kind", "\"user\"")?;
    let master = match kind.text()? {
        "user" => {
            section.check(&USER, &[]);
            return Some(Credentials::User);
        }
        "master-user" => {
            section.check(&MASTER_USER, &[]);
            master_user(section).map(Master::User)
        }
        "proxyauth" => {
            section.check(&PROXYAUTH, &[]);
            master_user(section).map(|user| Master::User(MasterUser { form: Form::ProxyAuth, ..user }))
        }
        "master-password" => {
            section.check(&MASTER_PASSWORD, &[]);
            password(section).map(Master::Password)
        }
        "oauthbearer" => token(section, Bearer::OAuthBearer),
        "xoauth2" => token(section, Bearer::XOAuth2),
        other => kind.fail(format!(
            "\"{other}\" is none of \"user\", \"master-user\", \"proxyauth\", \"master-password\", \"oauthbearer\", \"xoauth2\""
        )),
    };
    master.map(Credentials::Master)
}

fn token(section: &Section<'_>, mechanism: Bearer) -> Option<Master> {
    section.check(&TOKEN, &[]);
    token_command(section, mechanism).map(Master::Token)
}

fn master_user(section: &Section<'_>) -> Option<MasterUser> {
    let separator = section.or("separator", None, |entry| separator(entry).map(Some));
    let user = section.require("user", "\"master\"").and_then(|entry| match (entry.text()?, separator) {
        (name, _) if !is_name(name) => entry.fail("is no user name: too long, or with control characters"),
        (name, Some(Some(separator))) if name.contains(separator) => {
            entry.fail(format!("\"{name}\" has the separator `{separator}` in it: the server would split it there"))
        }
        (name, _) => Some(name.to_owned()),
    });
    let password = password(section);
    Some(MasterUser { user: user?, form: separator?.map_or(Form::Authzid, Form::Suffix), password: password? })
}

fn password(section: &Section<'_>) -> Option<Arc<SecretSlice<u8>>> {
    let entry = section.require("password_file", "\"/etc/mailferry/master.secret\"")?;
    let path = entry.path()?;
    let text = entry.parse(|_| scalar::secret(&path))?;
    Some(Arc::new(text.expose_secret().as_bytes().to_vec().into()))
}

/// One character that stands in no ordinary user name: a login whose name has it is taken for a master user's.
fn separator(entry: &Entry<'_>) -> Option<char> {
    let text = entry.text()?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii_punctuation() && !"@.-_".contains(one) => Some(one),
        _ => entry.fail(format!("\"{text}\" is no separator such as \"*\": one character that stands in no user name")),
    }
}
