//! POP3 UIDLs and their order: what the old side's POP3 shows is paired with the UIDs of INBOX, proved on the messages,
//! written with them, and compared again by the verification.

mod assign;
mod find;
mod harvest;
mod kept;
mod read;

use std::sync::Arc;

use super::{Platform, Stop};
use crate::config::{Config, Unmatched};
use crate::mailbox::Side;
use crate::mailbox::pop3::{Doubt, Pairing, Policy};
use crate::net::Access;
use crate::net::TlsError;
use crate::net::pop3::Pop3Server;
use crate::source::{Login, MaildropError};
use crate::store::Store;
use crate::user::Registry;

pub(super) use assign::{Uidls, prepare};
pub use harvest::Harvests;
pub(super) use kept::assert_kept;
pub(super) use read::{Content, Inbox, compare_sides};

/// Both sides over POP3, where the platform has it.
#[derive(Clone, Debug)]
pub struct Pop3Sides {
    /// The old side.
    pub old: Pop3Server,
    /// The new side.
    pub new: Pop3Server,
}

impl Pop3Sides {
    /// What `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// If certificates to trust can't be read.
    pub fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let (Some(old), Some(new)) = (&config.old.pop3, &config.new.pop3) else { return Ok(None) };
        Ok(Some(Self { old: Pop3Server::new(Side::Old, old)?, new: Pop3Server::new(Side::New, new)? }))
    }
}

/// What reading one user's POP3 takes.
#[derive(Clone, Debug)]
pub(super) struct Pop3Reader {
    sides: Pop3Sides,
    /// Or why there is nothing to log in with: mail can be read without.
    old: Result<Access, String>,
    new: Access,
    store: Store,
    /// Where the user's own sessions are known: ours must not lock them out.
    registry: Option<Registry>,
    harvests: Harvests,
    /// What becomes of messages that only one of the two lists has.
    policy: Policy,
    /// The keyword of messages that POP3 hides.
    hidden: Option<Arc<str>>,
}

impl Pop3Reader {
    /// A reader, if the platform has POP3.
    ///
    /// # Errors
    /// If there is nothing to log in with.
    pub(super) fn of(platform: &Platform, login: &Login) -> Result<Option<Self>, Stop> {
        let Some(sides) = platform.pop3.clone() else { return Ok(None) };
        Ok(Some(Self {
            sides,
            old: match platform.access(Side::Old, login) {
                Err(Stop::LoginRefused(why)) if platform.source.is_some() => Err(why),
                access => Ok(access?),
            },
            new: platform.access(Side::New, login)?,
            store: platform.store.clone(),
            registry: platform.registry.clone(),
            harvests: platform.harvests.clone(),
            policy: Policy {
                ignore_missing: platform.config.migration.pop3_missing == Unmatched::Ignore,
                ignore_extra: platform.config.migration.pop3_extra == Unmatched::Ignore,
            },
            hidden: platform.config.new.pop3_deleted_flag.clone(),
        }))
    }

    /// With what to log in at the old side.
    ///
    /// # Errors
    /// [`Stop::Later`] if there is nothing.
    fn may_read_old(&self) -> Result<&Access, Stop> {
        self.old.as_ref().map_err(|why| Stop::Later(format!("POP3: {why}")))
    }

    /// What is in doubt of a pairing, as the configuration wants it.
    pub(super) fn doubt(&self, pairing: &Pairing) -> Option<Doubt> {
        pairing.doubt(self.policy)
    }
}

/// A result that may be a doubt: that is nothing to try again, it is what the report says.
type Certain<T> = Result<T, Doubt>;

impl From<MaildropError> for Stop {
    fn from(error: MaildropError) -> Self {
        match error {
            MaildropError::LoginRefused(refusal) => refusal.into(),
            other => Self::Later(other.to_string()),
        }
    }
}
