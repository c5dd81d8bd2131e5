//! What the store holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::late::Fence;
use crate::mailbox::{Guid, MailboxName, Side, UidValidity};

/// Seconds since the epoch, as the operating system's clock has them.
pub type UnixSeconds = i64;

/// Where a user stands (DESIGN §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Authority old, nothing runs.
    Old,
    /// The first full copy.
    Copying,
    /// Copied; waits for a good moment to switch.
    Following,
    /// The gate is closed.
    Switching,
    /// Authority new.
    New,
    /// The gate is closed on the way back to the old side.
    Returning,
    /// Authority new for good: the old side is no longer looked at.
    Settled,
    /// Stopped with a reason an operator can read.
    Held,
}

impl Phase {
    /// All phases, in the order of a user's life.
    pub const ALL: [Self; 8] = [
        Self::Old,
        Self::Copying,
        Self::Following,
        Self::Switching,
        Self::New,
        Self::Returning,
        Self::Settled,
        Self::Held,
    ];

    /// The word used in records, JSON and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Copying => "copying",
            Self::Following => "following",
            Self::Switching => "switching",
            Self::New => "new",
            Self::Returning => "returning",
            Self::Settled => "settled",
            Self::Held => "held",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = StoreError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == word)
            .ok_or_else(|| StoreError::Unreadable { what: "phase", value: word.to_owned() })
    }
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Mailboxes seen on the source.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages_total: u64,
    /// Messages that are on the target.
    pub messages_done: u64,
    /// Octets of bodies written to the target.
    pub bytes_done: u64,
}

/// A user's durable record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The canonical user.
    pub user: String,
    /// The name as typed by the login that started the move; what the sides are given. Empty before such a login.
    pub login_name: String,
    /// Where the user stands.
    pub phase: Phase,
    /// Which side serves the user.
    pub authority: Side,
    /// Grows with each change of authority, never shrinks.
    pub epoch: u64,
    /// Why the user stands here, for an operator.
    pub reason: Option<String>,
    /// How far the copy has come.
    pub progress: Progress,
    /// When the two sides were last found equal.
    pub clean_at: Option<UnixSeconds>,
    /// When the authority moved last.
    pub switched_at: Option<UnixSeconds>,
}

/// One change of a user's record: applied only if the record is still as `from` says.
#[derive(Clone, Debug)]
pub struct Transition<'a> {
    /// The canonical user.
    pub user: &'a str,
    /// The phase the record must have.
    pub from: Phase,
    /// The epoch the record must have.
    pub from_epoch: u64,
    /// The new phase.
    pub to: Phase,
    /// The new authority.
    pub authority: Side,
    /// The new epoch.
    pub epoch: u64,
    /// The new reason.
    pub reason: Option<&'a str>,
    /// What brought the change about, for the history.
    pub cause: &'a str,
    /// Who must hold the lease, where the work is done under one.
    pub leased_to: Option<&'a str>,
    /// A report that is stored in the same transaction.
    pub report: Option<&'a ReportRow>,
    /// The old side's mailboxes as of a change of authority, stored in the same transaction: what lies above them came
    /// late. None at all on the way back: nothing comes late any more.
    pub fences: Option<&'a [Fence]>,
}

/// A verification report as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRow {
    /// When it was made.
    pub at: UnixSeconds,
    /// No difference was found.
    pub identical: bool,
    /// Number of differences.
    pub differences: u64,
    /// Number of altered messages.
    pub altered: u64,
    /// Number of notes.
    pub notes: u64,
    /// The whole report.
    pub json: String,
}

/// One line of a user's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: UnixSeconds,
    /// From which phase.
    pub from: Phase,
    /// To which phase.
    pub to: Phase,
    /// Authority afterwards.
    pub authority: Side,
    /// Epoch afterwards.
    pub epoch: u64,
    /// Why.
    pub cause: String,
    /// More about it, for an operator.
    pub reason: Option<String>,
    /// What the verification had found that the change rests on.
    pub report: Option<ReportRow>,
}

/// What we wrote to the target under a mailbox's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxRecord {
    /// The mailbox.
    pub name: MailboxName,
    /// The GUID we gave it: random, so that a rename doesn't look like the same mailbox (dsync reference §8).
    pub guid: Guid,
    /// The UIDVALIDITY we gave it.
    pub uid_validity: UidValidity,
    /// When it was first written; dsync decides renames by it.
    pub created_at: UnixSeconds,
    /// STATUS of the old side when both sides were last proved equal.
    pub old_seen: Option<String>,
    /// STATUS of the new side at that time.
    pub new_seen: Option<String>,
}

/// Who may work on a user, and until when (a crashed owner's lease ends by itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A text that tells one process from every other.
    pub owner: String,
    /// When it ends if it is not renewed.
    pub until: UnixSeconds,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file can't be opened or is damaged.
    #[error("store {path}: {message}")]
    Open {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A newer mailferry wrote this store.
    #[error(
        "store {path}: written by a newer mailferry (schema {found}, this one knows {known}): start that version again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Schema version found.
        found: i64,
        /// The newest schema version this program knows.
        known: i64,
    },
    /// Another process serves from this store.
    #[error(
        "store {path}: {by} serves from it already: stop that one first, two would not know of each other's sessions"
    )]
    Served {
        /// The file.
        path: String,
        /// Which process.
        by: String,
    },
    /// A value in the store is not one we write.
    #[error("store: unreadable {what} `{value}`: restore the store from a backup")]
    Unreadable {
        /// Which value.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// The record is not what the transition expected: somebody else changed it.
    #[error("the record of {user} was changed by somebody else (expected {from} in epoch {epoch}); nothing was done")]
    Stale {
        /// The user.
        user: String,
        /// Expected phase.
        from: Phase,
        /// Expected epoch.
        epoch: u64,
    },
    /// The account on the new side is no whole copy.
    #[error("{user} can't be switched: {mark}; nothing was done")]
    Marked {
        /// The user.
        user: String,
        /// In what way.
        mark: String,
    },
    /// Somebody else works on this user.
    #[error("{owner} works on {user} just now; try again when it has finished")]
    Leased {
        /// The user.
        user: String,
        /// Who holds the lease.
        owner: String,
    },
    /// The blocking task of a query was cancelled.
    #[error("store: query was interrupted")]
    Interrupted,
}

impl StoreError {
    /// Whether there was no space for a transaction: then it has not happened, and can't come to light later either. (SQLite
    /// says so when a write failed, and what makes a transaction count is written last. A failed *sync* is another error,
    /// after which a crash may show that it did happen.)
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}
