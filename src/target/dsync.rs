//! The driver of a one-way dsync session: it connects, keeps both directions moving, and turns every failure into an
//! error that names the user, the host and what the target's log said.
//!
//! One session writes one user. Everything is streamed: a message is never in memory as a whole. The target's own
//! answers are checked as they come, but an empty result proves nothing (dsync reference §16b): read back.

mod error;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use sha1::{Digest as _, Sha1};

use crate::config::Endpoint;
use crate::mailbox::{Guid, MailboxName, ModSeq, SystemFlags, Uid, UidNext, UidValidity};
use crate::net::TlsError;
use crate::net::doveadm::Doveadm;
use crate::wire::dsync::{item, master};

pub use crate::wire::dsync::item::Mode;
pub use error::{Reaction, Reason, TargetError};
pub use session::Session;

/// Sorts after every host name, so the slave takes the user's dsync lock for us (dsync reference §8.5).
const HOSTNAME: &str = "~mailferry";

/// Seconds to wait while another dsync of the same user holds the lock.
const LOCK_TIMEOUT: u32 = 30;

/// Added to a first import's message count, so that our UIDVALIDITY wins over that of an empty mailbox which the target
/// made by itself: the side with more messages wins (dsync reference §7.2).
const INFLATION: u32 = 1_000_000;

/// A Dovecot's doveadm service.
#[derive(Clone, Debug)]
pub struct DsyncTarget {
    doveadm: Doveadm,
}

/// What a session begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// [`Mode::State`] uses `states`; mailboxes without one are compared by their full list in the same session.
    pub mode: Mode,
    /// What both sides have in common.
    pub states: Vec<MailboxState>,
    /// Prefixes of the namespaces that are written; none: those that the target writes unasked, which are a user's own.
    pub namespaces: Vec<String>,
    /// The mailbox tree; what is not in it stays as it is on the target.
    pub nodes: Vec<Node>,
    /// Mailboxes to delete with all their mails. Not INBOX on Maildir: it is emptied, and then the session fails.
    pub delete: Vec<Deletion>,
    /// Folders to delete that nothing is below any more: an mdbox keeps them when their last mailbox goes, and clients
    /// would see them.
    pub delete_folders: Vec<FolderDeletion>,
    /// A virtual mailbox of all mail on the target: a message whose GUID it has is copied from there.
    pub virtual_all: Option<Arc<str>>,
}

/// What both sides have in common of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxState {
    /// Which mailbox.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The last UID that is the same on both sides; below the target's UIDNEXT.
    pub last_common_uid: u32,
    /// Not above the target's HIGHESTMODSEQ; 1 is always right.
    pub last_common_modseq: ModSeq,
    /// Messages at or below `last_common_uid`.
    pub messages: u32,
}

/// A name in the mailbox tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: MailboxName,
    /// What can be selected under it; `None` for a `\NoSelect` parent or a subscription to nothing.
    pub mailbox: Option<NodeMailbox>,
    /// When it was created or renamed, in seconds since the epoch; the newer side's name wins.
    pub changed_at: u64,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// When that changed, in seconds since the epoch; the newer side wins, `subscribed` if they are equal. The target
    /// keeps its own clock's time of the change, not this one, so a time in the future is fit to win.
    pub subscription_changed_at: u64,
}

/// The selectable mailbox under a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMailbox {
    /// Its GUID.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UIDNEXT.
    pub uid_next: UidNext,
}

/// A mailbox to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Which mailbox.
    pub guid: Guid,
    /// When, in seconds since the epoch: above the target's own creation or rename time of it. Its GUID can't be used
    /// again for this user.
    pub at: u64,
}

/// A `\NoSelect` folder to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderDeletion {
    /// Its name.
    pub name: MailboxName,
    /// The target's hierarchy separator.
    pub separator: char,
    /// When, in seconds since the epoch: above the target's own creation or rename time of it.
    pub at: u64,
}

/// A name in the target's tree, as it was before the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNode {
    /// The decoded parts; `None` in place of a name that has an empty part.
    pub name: Option<MailboxName>,
    /// What can be selected under it.
    pub mailbox: Option<NodeMailbox>,
    /// When it was created or renamed, 0 if the target doesn't say.
    pub changed_at: u64,
    /// Whether it is subscribed.
    pub subscribed: bool,
}

/// What [`Session::begin_mailbox`] announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxHead {
    /// Which mailbox of the tree.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The UIDNEXT it shall have after this run: read before the UID list, and for a part the part's last UID + 1.
    pub uid_next: UidNext,
    /// Its messages.
    pub messages: u32,
    /// Whether our UIDVALIDITY must win although the target's mailbox exists. For the first import only.
    pub inflate: bool,
    /// The first UID that is `\Recent`; the UIDNEXT for none.
    pub first_recent_uid: u32,
    /// HIGHESTMODSEQ, a minimum.
    pub highest_modseq: ModSeq,
}

/// The target's own status of a mailbox before anything is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteBox {
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UIDNEXT: a message below it can't be added.
    pub uid_next: UidNext,
    /// Its messages.
    pub messages: u32,
    /// Its HIGHESTMODSEQ: a flag change must carry a higher one.
    pub highest_modseq: ModSeq,
}

/// A change to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new message; its body follows after [`Session::end_changes`].
    Save {
        /// Its UID, at or above the target's UIDNEXT.
        uid: Uid,
        /// Its GUID, its own.
        guid: Guid,
        /// Its mod-sequence, a minimum.
        modseq: ModSeq,
        /// Its system flags.
        flags: SystemFlags,
        /// Its keywords, only those that the target can hold.
        keywords: Vec<String>,
    },
    /// Other flags on a message that both sides have.
    Flags {
        /// Its UID, at or below the last common one.
        uid: Uid,
        /// Its GUID.
        guid: Guid,
        /// Above the target's HIGHESTMODSEQ, else the change may be ignored.
        modseq: ModSeq,
        /// System flags it shall have.
        flags: SystemFlags,
        /// System flags it has on the target.
        had: SystemFlags,
        /// Keywords it keeps, **in the target's spelling**: a keyword that is sent in another case than the mailbox
        /// knows it is lost from a message that has it.
        keep: Vec<String>,
        /// Keywords it gains.
        add: Vec<String>,
        /// Keywords it loses.
        remove: Vec<String>,
    },
    /// A message that is gone.
    Expunge {
        /// Its UID, at or below the last common one.
        uid: Uid,
        /// Its GUID.
        guid: Guid,
    },
}

impl DsyncTarget {
    /// A target at `endpoint`. `idle` is the longest time without progress in either direction before the session is
    /// given up.
    ///
    /// # Errors
    /// If the certificates to trust can't be read.
    pub fn new(endpoint: Endpoint, password: SecretString, idle: Duration) -> Result<Self, TlsError> {
        Ok(Self { doveadm: Doveadm::new(endpoint, password, idle)? })
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.doveadm.address()
    }

    /// Connects and logs in to the doveadm service, and does nothing there.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn probe(&self) -> Result<(), TargetError> {
        let probed = self.doveadm.probe().await;
        probed.map_err(|reason| TargetError::new("", &self.doveadm.url(), reason.into(), Vec::new()))
    }

    /// Connects, logs in and exchanges the trees for `user`. The target creates, renames, deletes, subscribes and
    /// unsubscribes mailboxes now.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn open(&self, user: &str, opening: Opening) -> Result<Session, TargetError> {
        session::open(self, user, opening.into_wire()).await
    }
}

impl Opening {
    fn into_wire(self) -> master::Opening {
        let states = match self.mode {
            Mode::Full => Vec::new(),
            Mode::State => self.states.into_iter().map(MailboxState::to_wire).collect(),
        };
        let delete = self.delete.iter().map(|gone| item::Deletion { guid: gone.guid.0, at: gone.at }).collect();
        master::Opening {
            hostname: HOSTNAME.to_owned(),
            lock_timeout: LOCK_TIMEOUT,
            mode: self.mode,
            states,
            namespaces: self.namespaces,
            nodes: self.nodes.iter().map(Node::to_wire).collect(),
            delete,
            delete_folders: self.delete_folders.iter().map(FolderDeletion::to_wire).collect(),
            virtual_all: self.virtual_all.as_deref().map(str::to_owned),
        }
    }
}

impl FolderDeletion {
    /// A folder has no GUID: dsync knows it by a hash of its name.
    fn to_wire(&self) -> item::Deletion {
        let mut guid = [0; 16];
        let hash = Sha1::digest(self.name.parts().join(&self.separator.to_string()));
        guid.iter_mut().zip(hash).for_each(|(octet, hashed)| *octet = hashed);
        item::Deletion { guid, at: self.at }
    }
}

impl MailboxState {
    fn to_wire(self) -> item::MailboxState {
        item::MailboxState {
            guid: self.guid.0,
            uid_validity: self.uid_validity.0,
            last_common_uid: self.last_common_uid,
            last_common_modseq: self.last_common_modseq.0,
            messages: self.messages,
            conflict: false,
        }
    }

    fn from_wire(wire: item::MailboxState) -> Self {
        Self {
            guid: Guid(wire.guid),
            uid_validity: UidValidity(wire.uid_validity),
            last_common_uid: wire.last_common_uid,
            last_common_modseq: ModSeq(wire.last_common_modseq),
            messages: wire.messages,
        }
    }
}

impl Node {
    fn to_wire(&self) -> item::Node {
        item::Node {
            name: self.name.parts().to_vec(),
            mailbox: self.mailbox.map(|mailbox| item::NodeMailbox {
                guid: mailbox.guid.0,
                uid_validity: mailbox.uid_validity.0,
                uid_next: mailbox.uid_next.0,
            }),
            changed_at: self.changed_at,
            subscribed: self.subscribed,
            subscription_changed_at: self.subscription_changed_at,
        }
    }
}

impl RemoteNode {
    fn from_wire(wire: &item::Node) -> Self {
        Self {
            name: MailboxName::from_parts(wire.name.clone()).ok(),
            mailbox: wire.mailbox.map(|mailbox| NodeMailbox {
                guid: Guid(mailbox.guid),
                uid_validity: UidValidity(mailbox.uid_validity),
                uid_next: UidNext(mailbox.uid_next),
            }),
            changed_at: wire.changed_at,
            subscribed: wire.subscribed,
        }
    }
}

impl MailboxHead {
    fn to_wire(self) -> item::MailboxStatus {
        let inflation = if self.inflate { INFLATION } else { 0 };
        item::MailboxStatus {
            guid: self.guid.0,
            uid_validity: self.uid_validity.0,
            uid_next: self.uid_next.0,
            messages: self.messages.saturating_add(inflation),
            first_recent_uid: self.first_recent_uid,
            highest_modseq: self.highest_modseq.0,
        }
    }
}

impl RemoteBox {
    const fn from_wire(wire: &item::MailboxStatus) -> Self {
        Self {
            uid_validity: UidValidity(wire.uid_validity),
            uid_next: UidNext(wire.uid_next),
            messages: wire.messages,
            highest_modseq: ModSeq(wire.highest_modseq),
        }
    }
}

impl Change {
    fn to_wire(&self) -> item::Change<'_> {
        match self {
            Self::Save { uid, guid, modseq, flags, keywords } => item::Change {
                uid: uid.0,
                guid: guid.0,
                kind: item::ChangeKind::Save { modseq: modseq.0, flags: flags.0, keywords },
            },
            Self::Flags { uid, guid, modseq, flags, had, keep, add, remove } => item::Change {
                uid: uid.0,
                guid: guid.0,
                kind: item::ChangeKind::Flags {
                    modseq: modseq.0,
                    add: flags.without(*had).0,
                    remove: had.without(*flags).0,
                    final_flags: flags.0,
                    keep,
                    gain: add,
                    lose: remove,
                },
            },
            Self::Expunge { uid, guid } => item::Change { uid: uid.0, guid: guid.0, kind: item::ChangeKind::Expunge },
        }
    }
}
