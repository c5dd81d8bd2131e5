//! What can be wrong with a session: on the slave's side, and on ours. The slave is the Dovecot, whichever way mail goes.

use crate::wire::dsync::item::Finish;
use crate::wire::dsync::layout::ItemError;

/// What is wrong with a session, on the slave's side.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// The command did not start.
    #[error("the server refused to start dsync-server: {0}")]
    Refused(Refusal),
    /// It speaks another dsync.
    #[error("the server speaks {0:?} instead of dsync 3: a Dovecot from 2.2 on is needed")]
    Version(String),
    /// The slave sent something that does not belong here.
    #[error("{state}, the slave sent {line:?}")]
    Unexpected {
        /// What was waited for.
        state: &'static str,
        /// What came.
        line: String,
    },
    /// An item can't be read.
    #[error("{state}, the slave sent a bad item: {error}")]
    Item {
        /// What was waited for.
        state: &'static str,
        /// What is wrong with it.
        error: ItemError,
    },
    /// More than we are willing to keep.
    #[error("the slave's {0} is beyond every limit")]
    TooMuch(&'static str),
    /// The slave ended the session before we did.
    #[error("{state}, the slave failed: {finish}")]
    Failed {
        /// What was going on.
        state: &'static str,
        /// How it says it went.
        finish: Finish,
    },
    /// The slave gave up.
    #[error("{0}, the slave gave up")]
    GaveUp(&'static str),
    /// It can't tell what a reader must know.
    #[error("the server's dsync does not tell {0}: a Dovecot from 2.2.28 on is needed")]
    Untold(&'static str),
    /// A message's text is not framed as a text is.
    #[error("{0}, the slave sent a line that begins with a single dot")]
    Dot(&'static str),
}

/// Why the doveadm service did not start dsync.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user is in no userdb.
    #[error("it does not know the user (NOUSER)")]
    UnknownUser,
    /// Try again.
    #[error("it can't now (TEMPFAIL)")]
    Temporary,
    /// Anything else, with its code; empty for an unknown command.
    #[error("code {0:?}")]
    Other(String),
}

/// A call that must not be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// Not now.
    #[error("{call} while {state}")]
    State {
        /// The call.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// UIDs must grow.
    #[error("UID {uid} after UID {last}: changes must be strictly ascending")]
    Order {
        /// This one.
        uid: u32,
        /// The one before.
        last: u32,
    },
    /// Below a mailbox's state only flags and expunges, above it only saves.
    #[error("a {kind} of UID {uid} where the last common UID is {common:?}")]
    Kind {
        /// `save`, `flag change` or `expunge`.
        kind: &'static str,
        /// The message.
        uid: u32,
        /// The state's last common UID; none for a full list.
        common: Option<u32>,
    },
    /// The target can't take it under this UID.
    #[error("UID {uid} can't be added: the target's UIDNEXT is {uid_next}")]
    BelowUidNext {
        /// The message.
        uid: u32,
        /// The target's UIDNEXT.
        uid_next: u32,
    },
    /// The announced UIDNEXT is too low.
    #[error("UID {uid} is not below the announced UIDNEXT {uid_next}")]
    AboveUidNext {
        /// The last message saved.
        uid: u32,
        /// What was announced.
        uid_next: u32,
    },
    /// A flag is both added and removed.
    #[error("UID {0}: flags are added and removed at once")]
    Overlap(u32),
    /// Bodies come in the order of the changes, one for each save.
    #[error("a body that was not announced, out of order, or missing")]
    Body,
    /// A state or GUID of another mailbox.
    #[error("not the mailbox that was begun")]
    OtherMailbox,
}
