//! What can go wrong while writing a side, in words that a postmaster can act on.

use std::fmt;

use crate::mailbox::Guid;
use crate::net::doveadm;
use crate::wire::dsync::doveadm::{LogLine, is_out_of_room, said};
use crate::wire::dsync::item::{Finish, MailboxState};
use crate::wire::dsync::master::{MasterError, Misuse, Refusal};

/// A session that failed. Messages that the target stored before stay there.
#[derive(Debug)]
pub struct TargetError(Box<Details>);

#[derive(Debug)]
struct Details {
    user: String,
    url: String,
    reason: Reason,
    log: Vec<LogLine>,
}

/// What can be done about a [`TargetError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The same again, later.
    Retry,
    /// Again, without the stored state of the mailbox.
    FullRun,
    /// Nothing, until somebody has changed something.
    Operator,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The connection.
    #[error(transparent)]
    Link(#[from] doveadm::Reason),
    /// The mailbox is gone on the target, or its stored state is stale.
    #[error("the target can't continue mailbox {0} from its stored state, or has lost it; it needs a full run")]
    MailboxLost(Guid),
    /// The target passes the mailbox over.
    #[error("the target refuses to write mailbox {0}")]
    MailboxIgnored(Guid),
    /// The mailbox on the target is not what it should be now.
    #[error(
        "after writing mailbox {guid} the target has {got_messages} messages up to UID {got_uid} where {messages} up to \
         UID {uid} were sent: something else writes to this mailbox, or UIDs collided"
    )]
    StateDiffers {
        /// Which mailbox.
        guid: Guid,
        /// Messages expected.
        messages: u32,
        /// Last common UID expected.
        uid: u32,
        /// Messages there.
        got_messages: u32,
        /// Last common UID there.
        got_uid: u32,
    },
    /// A message is not the one that we take it for.
    #[error(
        "mailbox {0} on the target is not what the stored state says: it changed behind our back, or has another \
         message under one of our UIDs; it needs a full run"
    )]
    Conflict(Guid),
    /// The slave's own result is a failure.
    #[error("the target reports a failure: {0}")]
    Finish(Finish),
    /// A mistake of ours; nothing of it was sent.
    #[error("a mistake in the writer: {0}")]
    Misuse(#[from] Misuse),
}

impl Reason {
    pub(super) fn state_differs(ours: &MailboxState, theirs: &MailboxState) -> Self {
        Self::StateDiffers {
            guid: Guid(ours.guid),
            messages: ours.messages,
            uid: ours.last_common_uid,
            got_messages: theirs.messages,
            got_uid: theirs.last_common_uid,
        }
    }
}

impl TargetError {
    pub(super) fn new(user: &str, url: &str, reason: Reason, log: Vec<LogLine>) -> Self {
        // A login name comes from a client: no control characters into a log.
        let user = user.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self(Box::new(Details { user, url: url.to_owned(), reason, log }))
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The last lines that the target logged.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.0.log
    }

    /// What can be done.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        use doveadm::Reason as Link;
        match &self.0.reason {
            Reason::MailboxLost(_) | Reason::Conflict(_) => Reaction::FullRun,
            Reason::Finish(finish) | Reason::Link(Link::Peer(MasterError::Failed { finish, .. }))
                if finish.full_resync =>
            {
                Reaction::FullRun
            }
            Reason::Misuse(_)
            | Reason::MailboxIgnored(_)
            | Reason::StateDiffers { .. }
            | Reason::Link(
                Link::Login(_)
                | Link::Tls(_)
                | Link::StartTls(_)
                | Link::Forbidden
                | Link::Peer(MasterError::Refused(Refusal::UnknownUser | Refusal::Other(_)) | MasterError::Version(_)),
            ) => Reaction::Operator,
            _ => Reaction::Retry,
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { user, url, reason, log } = &*self.0;
        match user.as_str() {
            "" => write!(f, "can't use {url}: {reason}")?,
            user => write!(f, "can't write {user} to {url}: {reason}")?,
        }
        f.write_str(&said(log))?;
        if is_out_of_room(log) {
            f.write_str(
                "; there is no room on the new side: free space on its disk, or raise the limit of its file system; what was \
                 copied stays, and the copy goes on from there",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.reason.source()
    }
}
