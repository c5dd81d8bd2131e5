//! Which login our own connections use at which side: the user's own, or one that opens every account there, which is a
//! *master*'s (DESIGN §5): a master user's, or one with the master password or a token.
//!
//! A master is not the user: its refusal holds nobody up for good, but neither is it repeated for one user after the
//! other. And that a master may read an account says nothing of its owner: before a switch they must be able to log in
//! on the new side themselves, as far as we can know.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::Instant;

use super::{Job, Platform, Stop};
use crate::config::{Config, Credentials, Master, MasterUser, Source};
use crate::mailbox::Side;
use crate::net::{Access, Tokens};
use crate::source::{ImapReader, Login, ReadError, Reader};
use crate::target::TargetError;
use crate::target::dsync::{Opening, Session};

/// Users for whom a side has refused its master, one after the other, when it is left alone for a while. (Fewer may be
/// users whom that side doesn't know.)
const REFUSED_MAX: usize = 3;

/// How long it is left alone: doubled with each further refusal.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// The masters of both sides: how they fare, over all users, and the tokens that they have. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Masters {
    old: One,
    new: One,
}

/// That of one side.
#[derive(Clone, Debug, Default)]
struct One {
    refused: Arc<Mutex<Refused>>,
    /// With what it logs in; none: this side has no master.
    key: Option<Key>,
}

/// With what a master logs in.
#[derive(Clone, Debug)]
enum Key {
    User(MasterUser),
    Password(Arc<SecretSlice<u8>>),
    Tokens(Tokens),
}

impl Key {
    fn of(master: &Master) -> Self {
        match master {
            Master::User(user) => Self::User(user.clone()),
            Master::Password(password) => Self::Password(Arc::clone(password)),
            Master::Token(command) => Self::Tokens(Tokens::of(command)),
        }
    }

    /// The login to the account of `name`; none if no master user can, for what is in the name.
    fn access(&self, name: &str) -> Option<Access> {
        match self {
            Self::User(user) => Access::master_user(name, user),
            Self::Password(password) => Some(Access::master_password(name, Arc::clone(password))),
            Self::Tokens(tokens) => Some(Access::token(name, tokens)),
        }
    }
}

/// Refusals since a login of a side's master was accepted.
#[derive(Debug, Default)]
struct Refused {
    users: BTreeSet<String>,
    /// Until when nobody is tried, how long that pause is, and what the side said.
    rest: Option<(Instant, Duration, String)>,
}

impl Refused {
    fn check(&self, now: Instant) -> Result<(), Stop> {
        match &self.rest {
            Some((until, _, said)) if now < *until => {
                let seconds = (*until - now).as_secs() + 1;
                Err(Stop::MasterRefused(format!("not tried again for {seconds} s: {said}")))
            }
            _ => Ok(()),
        }
    }

    fn accepted(&mut self) {
        *self = Self::default();
    }

    fn refused(&mut self, user: &str, said: String, now: Instant) {
        if self.users.len() < REFUSED_MAX {
            self.users.insert(user.to_owned());
        }
        if self.users.len() >= REFUSED_MAX {
            let pause = self.rest.as_ref().map_or(PAUSE_MIN, |(_, pause, _)| (*pause * 2).min(PAUSE_MAX));
            self.rest = Some((now + pause, pause, said));
        }
    }
}

impl Masters {
    /// Those that `config` names; nothing is asked for yet.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let [old, new] =
            [Side::Old, Side::New].map(|side| One { key: of(config, side).master().map(Key::of), ..One::default() });
        Self { old, new }
    }

    const fn at(&self, side: Side) -> &One {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }

    fn with<T>(&self, side: Side, job: impl FnOnce(&mut Refused) -> T) -> T {
        job(&mut self.at(side).refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn of(config: &Config, side: Side) -> &Credentials {
    match side {
        Side::Old => &config.old.credentials,
        Side::New => &config.new.credentials,
    }
}

/// What a password may be needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFor {
    /// Copying and following: the old side is read as `old.source` says.
    Copy,
    /// Comparing as well: the old side is read over IMAP.
    Verify,
}

/// A side that can only be asked with the user's own password.
#[must_use]
pub fn side_without_password(config: &Config, work: PasswordFor) -> Option<Side> {
    let spared = |side: &Side| {
        let by_dsync = *side == Side::Old && work == PasswordFor::Copy && matches!(config.old.source, Source::Dsync(_));
        by_dsync || of(config, *side).master().is_some()
    };
    [Side::Old, Side::New].into_iter().find(|side| !spared(side))
}

/// Whether mail can be copied without any user's password.
#[must_use]
pub(super) fn need_no_password(config: &Config) -> bool {
    side_without_password(config, PasswordFor::Copy).is_none()
}

/// Whether a user can be verified with what is known of their login.
#[must_use]
pub(super) fn may_verify(platform: &Platform, login: &Login) -> bool {
    login.password.is_some() || side_without_password(&platform.config, PasswordFor::Verify).is_none()
}

/// A login without the user's own password, where none is needed and the user's name is known.
pub(super) fn without_password(platform: &Platform, name: &str) -> Option<Login> {
    let enough = need_no_password(&platform.config) && !name.is_empty();
    enough.then(|| Login { name: name.to_owned(), password: None })
}

/// What is kept of a login once nothing but reading and writing is to be done.
pub(super) fn spared(platform: &Platform, login: Login) -> Login {
    let enough = side_without_password(&platform.config, PasswordFor::Verify).is_none();
    if enough { without_password(platform, &login.name).unwrap_or(login) } else { login }
}

impl Platform {
    /// With what to log in at a side for a user.
    ///
    /// # Errors
    /// If that needs the user's own password and it is not known; if the side's master has been refused too often just now.
    pub(super) fn access(&self, side: Side, login: &Login) -> Result<Access, Stop> {
        let name = self.name_at(side, login);
        let Some(key) = &self.masters.at(side).key else {
            let own = login.password.as_ref().map(|password| Access::own(&name, Arc::clone(password)));
            return own.ok_or_else(|| Stop::LoginRefused(format!("the {side} side needs the user's own password")));
        };
        self.masters.with(side, |refused| refused.check(Instant::now()))?;
        key.access(&name).ok_or_else(|| {
            Stop::Refused(format!(
                "the name {name} has the separator of {side}.credentials in it: no master user can log in for it"
            ))
        })
    }

    /// Whether a client has logged in with a side's master password: it is not the user then, and the password not theirs.
    #[must_use]
    pub(super) fn is_master_password(&self, password: &SecretSlice<u8>) -> bool {
        // (Digests compare in the same time wherever they differ.)
        let digest = |secret: &SecretSlice<u8>| blake3::hash(secret.expose_secret());
        [Side::Old, Side::New].into_iter().any(|side| match of(&self.config, side).master() {
            Some(Master::Password(master)) => digest(master) == digest(password),
            _ => false,
        })
    }

    /// By which name the new side knows the user, for its doveadm.
    pub(super) fn name_on_new(&self, login: &Login) -> String {
        self.name_at(Side::New, login)
    }

    /// A dsync session on the new side, for the user who logs in as `login`.
    ///
    /// # Errors
    /// [`TargetError`]
    pub(super) async fn open_target(&self, login: &Login, opening: Opening) -> Result<Session, TargetError> {
        self.target.open(&self.name_on_new(login), opening).await
    }

    /// By which name a side knows the user.
    pub(super) fn name_at(&self, side: Side, login: &Login) -> String {
        let names = match side {
            Side::Old => &self.config.old.names,
            Side::New => &self.config.new.names,
        };
        self.names.at(names, &login.name)
    }
}

/// Opens a side for reading.
///
/// # Errors
/// [`Stop`].
pub(super) async fn open(platform: &Platform, side: Side, login: &Login) -> Result<Reader, Stop> {
    let access = platform.access(side, login)?;
    let server = match side {
        Side::Old => &platform.old,
        Side::New => &platform.new,
    };
    let opened = ImapReader::open(server, &access).await;
    if access.is_master() {
        platform.masters.with(side, |refused| match &opened {
            Ok(_) => refused.accepted(),
            Err(ReadError::LoginRefused(refusal)) => refused.refused(&login.name, refusal.to_string(), Instant::now()),
            // It says nothing of the master.
            Err(_) => {}
        });
    }
    Ok(Reader::Imap(Box::new(opened?)))
}

/// Whether the user can be expected to log in on the new side after a switch (DESIGN §3): with their own password where it
/// is known. Where it is not, the master's login has to do, unless the user's own was refused before: that is `known`.
///
/// # Errors
/// [`Stop::LockedOut`] if they can't; any other if it is not known.
pub(super) async fn admits(platform: &Platform, job: &Job, known: Option<&str>) -> Result<(), Stop> {
    if of(&platform.config, Side::New).master().is_none() {
        // Reading it takes that very login.
        return Ok(());
    }
    if let Some(reason) = known {
        return Err(Stop::LockedOut(reason.to_owned()));
    }
    let user = job.user.as_str();
    match own_login(platform, &job.login).await? {
        None => Ok(()),
        Some(Ok(())) => Ok(platform.store.set_locked_out(user, None).await?),
        Some(Err(refusal)) => {
            let reason = format!("{refusal}; waiting for the user's next login");
            platform.store.set_locked_out(user, Some(&reason)).await?;
            Err(Stop::LockedOut(reason))
        }
    }
}

/// Tries the user's own password on the new side, if a master asks there and the password is known; the error says
/// what keeps the user out.
///
/// # Errors
/// [`Stop`] if the new side can't be asked.
pub(super) async fn own_login(platform: &Platform, login: &Login) -> Result<Option<Result<(), String>>, Stop> {
    let (Some(_), Some(password)) = (of(&platform.config, Side::New).master(), &login.password) else {
        return Ok(None);
    };
    let name = platform.name_at(Side::New, login);
    match ImapReader::open(&platform.new, &Access::own(&name, Arc::clone(password))).await {
        Ok(reader) => {
            reader.logout().await;
            Ok(Some(Ok(())))
        }
        Err(ReadError::LoginRefused(refusal)) => {
            Ok(Some(Err(format!("{refusal}: the user could not log in after a switch"))))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_master_who_is_refused_for_three_users_in_a_row_is_left_alone_ever_longer() {
        let now = Instant::now();
        let mut refused = Refused::default();
        for _ in 0..10 {
            refused.refused("u1", "NO".to_owned(), now);
            refused.refused("u2", "NO".to_owned(), now);
        }
        assert!(refused.check(now).is_ok(), "that may be two users whom the side doesn't know");
        refused.accepted();
        refused.refused("u3", "NO".to_owned(), now);
        assert!(refused.check(now).is_ok(), "another one was accepted in between");
        refused.refused("u1", "NO".to_owned(), now);
        refused.refused("u2", "NO that".to_owned(), now);
        let stop = refused.check(now).unwrap_err();
        assert_eq!(stop.to_string(), "not tried again for 61 s: NO that");
        let mut later = now;
        for pause in [60, 120, 240, 480, 900, 900] {
            assert!(refused.check(later + Duration::from_secs(pause - 1)).is_err(), "{pause}");
            later += Duration::from_secs(pause);
            assert!(refused.check(later).is_ok(), "{pause}");
            refused.refused("u9", "NO".to_owned(), later);
        }
        refused.accepted();
        assert!(refused.check(later).is_ok());
    }
}
