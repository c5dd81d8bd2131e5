//! The move of one user: copy, verify, switch, way back, and the worker that does them in order (DESIGN §3).

mod back;
mod copies;
pub mod copy;
mod credentials;
pub mod dry_run;
mod enrolled;
mod gate;
mod halt;
pub mod lease;
mod look;
pub mod merge;
pub mod outlook;
mod plan;
mod preflight;
pub mod progress;
pub mod quarantine;
pub mod quota;
pub mod rebuild;
mod rename;
pub mod scripts;
mod sight;
pub mod supervisor;
pub mod sweep;
mod tally;
pub mod uidl;
pub mod verify;
mod worker;
mod write;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Source};
use crate::mailbox::Side;
use crate::net::imap::ImapServer;
use crate::net::{Refusal, TlsError};
use crate::source::{DsyncServer, Login, ReadError, is_spent};
use crate::store::{Store, StoreError};
use crate::target::{DsyncTarget, TargetError};
use crate::user::{CanonicalUser, NameRules, Realms, Registry};

pub use credentials::{Masters, PasswordFor, side_without_password};
pub use progress::ProgressMeter;
pub use scripts::SieveSides;
pub use sight::Readers;
pub use supervisor::{Order, Outcome, Supervisor};
pub use uidl::{Harvests, Pop3Sides};

/// How long an old side that is read by dsync may say nothing: it may have to make the sizes of a huge mailbox first.
const SOURCE_SILENCE: Duration = Duration::from_secs(300);

/// How long the target may take nothing and say nothing: it commits message after message, and the old side may take long
/// to open a huge mailbox meanwhile.
const TARGET_SILENCE: Duration = Duration::from_secs(300);

/// Both sides of a realm, the store, and who we are: what every piece of work on a user needs.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The configuration, as it is for the users of this realm.
    pub config: Arc<Config>,
    /// The records.
    pub store: Store,
    /// The old side over IMAP.
    pub old: ImapServer,
    /// The old side's doveadm service, where mail is read there.
    pub source: Option<DsyncServer>,
    /// The new side over IMAP.
    pub new: ImapServer,
    /// The new side for writing.
    pub target: Arc<DsyncTarget>,
    /// This process, as holder of leases.
    pub owner: Arc<str>,
    /// Who is logged in, where this process is the proxy.
    pub registry: Option<Registry>,
    /// Both sides over POP3, where the platform has it.
    pub pop3: Option<Pop3Sides>,
    /// Both sides over ManageSieve, where the platform has it.
    pub sieve: Option<SieveSides>,
    /// POP3 lists that passed by in users' sessions.
    pub harvests: Harvests,
    /// How login names are read.
    pub names: NameRules,
    /// How what opens every account fares.
    pub masters: Masters,
}

impl Platform {
    /// The platform of each realm; nothing is connected yet. `registry` knows who is logged in, where this is the proxy.
    ///
    /// # Errors
    /// If certificates to trust can't be read.
    pub fn all(config: &Arc<Config>, store: &Store, registry: Option<&Registry>) -> Result<Realms<Self>, TlsError> {
        let (owner, harvests) = (Arc::<str>::from(lease::owner()), Harvests::default());
        Realms::build(config, |within| {
            let one = Self::new(within, store.clone())?;
            Ok(Self { owner: Arc::clone(&owner), harvests: harvests.clone(), registry: registry.cloned(), ..one })
        })
    }

    /// Everything that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// If certificates to trust can't be read.
    pub fn new(config: Arc<Config>, store: Store) -> Result<Self, TlsError> {
        Ok(Self {
            old: ImapServer::new(Side::Old, &config.old.imap)?,
            source: match &config.old.source {
                Source::Imap => None,
                Source::Dsync(doveadm) => Some(DsyncServer::new(
                    Side::Old,
                    doveadm.endpoint.clone(),
                    doveadm.password.clone(),
                    SOURCE_SILENCE,
                )?),
            },
            new: ImapServer::new(Side::New, &config.new.imap)?,
            target: Arc::new(DsyncTarget::new(
                config.new.target.endpoint.clone(),
                config.new.target.password.clone(),
                TARGET_SILENCE,
            )?),
            owner: lease::owner().into(),
            registry: None,
            pop3: Pop3Sides::new(&config)?,
            sieve: SieveSides::new(&config)?,
            harvests: Harvests::default(),
            names: NameRules::of(&config),
            masters: Masters::of(&config),
            config,
            store,
        })
    }

    /// Whether the user of this name carries the mailboxes of the *Shared* namespace for everybody.
    #[must_use]
    pub fn carries_shared(&self, name: &str) -> bool {
        let carrier = self.config.migration.shared_account.as_deref();
        carrier.is_some_and(|carrier| self.names.canonical(carrier) == self.names.canonical(name))
    }
}

/// Who is moved, and with what.
#[derive(Clone, Debug)]
pub struct Job {
    /// The user.
    pub user: CanonicalUser,
    /// How the sides know the user, and the user's own password where it is known.
    pub login: Login,
    /// Where progress is shown.
    pub progress: ProgressMeter,
}

/// Why a piece of work stopped. The user stays where they are in every case.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Only an operator can help.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Later(String),
    /// The account has had what the old side gives it, or what we take of it: it rests for long, and goes on where it is.
    #[error("{0}; it goes on by itself")]
    Paused(String),
    /// A side refused the user's password: it must not be tried again.
    #[error("{0}: waiting for the user's next login")]
    LoginRefused(String),
    /// The operator wants it broken off.
    #[error("broken off by the operator")]
    Halted,
    /// A side refused what opens every account: nothing is wrong with the user.
    #[error("{0}")]
    MasterRefused(String),
    /// The new side refuses the user's own password, though it can be written and read: they would be locked out there.
    #[error("{0}")]
    LockedOut(String),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::LoginRefused(refusal) => refusal.into(),
            spent if is_spent(&spent) => Self::Paused(spent.to_string()),
            other => Self::Later(other.to_string()),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        let said = refusal.to_string();
        if refusal.is_masters() { Self::MasterRefused(said) } else { Self::LoginRefused(said) }
    }
}

impl From<TargetError> for Stop {
    fn from(error: TargetError) -> Self {
        Self::Later(error.to_string())
    }
}
