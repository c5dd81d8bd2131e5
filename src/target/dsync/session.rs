//! One user's session, step by step.

use std::time::Duration;

use super::error::{Reason, TargetError};
use super::{Change, DsyncTarget, MailboxHead, MailboxState, RemoteBox, RemoteNode};
use crate::mailbox::Guid;
use crate::net::doveadm::{self, Link};
use crate::wire::dsync::Role as _;
use crate::wire::dsync::doveadm::{Level, LogLine};
use crate::wire::dsync::item::{Mail, StatusReply};
use crate::wire::dsync::master::{Event, Master, Opening};

/// How long the end of a session that we ended may take; the slave has stored everything before.
const CLOSING: Duration = Duration::from_secs(10);

/// A session that is open. Dropping it closes the connection, as [`Session::abort`] does, without waiting.
#[derive(Debug)]
pub struct Session {
    link: Link<Master>,
    user: String,
    url: String,
    tree: Vec<RemoteNode>,
}

pub(super) async fn open(target: &DsyncTarget, user: &str, opening: Opening) -> Result<Session, TargetError> {
    let url = target.doveadm.url();
    let opened = target.doveadm.open(user, Master::new(opening)).await;
    let link = opened.map_err(|reason| TargetError::new(user, &url, reason.into(), Vec::new()))?;
    let mut session = Session { link, user: user.to_owned(), url, tree: Vec::new() };
    if let Err(reason) = session.link.event().await {
        return Err(session.fail(reason.into()).await);
    }
    session.tree = session.link.role().tree().iter().map(RemoteNode::from_wire).collect();
    session.log_warnings();
    Ok(session)
}

impl Session {
    /// The target's tree as it was when the session began.
    #[must_use]
    pub fn remote_tree(&self) -> &[RemoteNode] {
        &self.tree
    }

    /// Announces a mailbox and asks for the target's own status of it.
    ///
    /// # Errors
    /// [`Reason::MailboxLost`] or [`Reason::MailboxIgnored`]; the session goes on with another mailbox. Others end it.
    pub async fn begin_mailbox(&mut self, head: MailboxHead) -> Result<RemoteBox, TargetError> {
        let asked = self.link.role_mut().begin_mailbox(&head.to_wire()).map_err(Reason::from);
        let answer = match asked {
            Ok(()) => self.link.event().await.map_err(Reason::from),
            Err(reason) => Err(reason),
        };
        let reason = match answer {
            Ok(Event::Status(StatusReply::Known(theirs))) => return Ok(RemoteBox::from_wire(&theirs)),
            Ok(Event::Status(StatusReply::Lost)) => Reason::MailboxLost(head.guid),
            Ok(Event::Status(StatusReply::Ignored)) => Reason::MailboxIgnored(head.guid),
            Ok(_) => self.closed(),
            Err(reason) => return Err(self.fail(reason).await),
        };
        let log = self.link.take_log();
        Err(TargetError::new(&self.user, &self.url, reason, log))
    }

    /// Sends one change; UIDs must ascend.
    ///
    /// # Errors
    /// [`TargetError`]; [`Reason::Misuse`] for a change that the target would renumber, ignore or die of.
    pub async fn change(&mut self, change: &Change) -> Result<(), TargetError> {
        let done = self.link.role_mut().change(&change.to_wire()).map_err(Reason::from);
        self.then(done).await
    }

    /// Ends the changes of this mailbox; one body for each [`Change::Save`] follows, in the same order.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn end_changes(&mut self) -> Result<(), TargetError> {
        let done = self.link.role_mut().end_changes().map_err(Reason::from);
        self.then(done).await
    }

    /// Begins the body of the next save. `received` is INTERNALDATE in seconds since the epoch, `pop3` the UIDL to keep
    /// and its order in POP3's list, if it has one.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn begin_mail(
        &mut self,
        guid: Guid,
        received: i64,
        pop3: Option<(&str, Option<u32>)>,
    ) -> Result<(), TargetError> {
        let (uidl, order) = pop3.unzip();
        let mail = Mail { guid: guid.0, received, uidl, order: order.flatten() };
        let done = self.link.role_mut().begin_mail(&mail).map_err(Reason::from);
        self.then(done).await
    }

    /// Sends the next octets of the body as they are.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn mail_chunk(&mut self, chunk: &[u8]) -> Result<(), TargetError> {
        let done = self.link.role_mut().mail_chunk(chunk).map_err(Reason::from);
        self.then(done).await
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn end_mail(&mut self) -> Result<(), TargetError> {
        let done = self.link.role_mut().end_mail().map_err(Reason::from);
        self.then(done).await
    }

    /// Ends the mailbox: `ours` is what both sides must have in common now. When this returns, the mailbox is on the
    /// target's disk.
    ///
    /// # Errors
    /// [`Reason::StateDiffers`] if the target has something else; the session can go on. Others end it.
    pub async fn end_mailbox(&mut self, ours: MailboxState) -> Result<MailboxState, TargetError> {
        let ours = ours.to_wire();
        let ended = self.link.role_mut().end_mailbox(&ours).map_err(Reason::from);
        let answer = match ended {
            Ok(()) => self.link.event().await.map_err(Reason::from),
            Err(reason) => Err(reason),
        };
        let theirs = match answer {
            Ok(Event::State(theirs)) => theirs,
            Ok(_) => {
                let reason = self.closed();
                return Err(self.fail(reason).await);
            }
            Err(reason) => return Err(self.fail(reason).await),
        };
        if theirs.conflict || theirs.uid_validity == 0 {
            return Err(self.fail(Reason::Conflict(Guid(theirs.guid))).await);
        }
        if (theirs.messages, theirs.last_common_uid) != (ours.messages, ours.last_common_uid) {
            let log = self.link.take_log();
            return Err(TargetError::new(&self.user, &self.url, Reason::state_differs(&ours, &theirs), log));
        }
        self.log_warnings();
        Ok(MailboxState::from_wire(theirs))
    }

    /// Ends the session and waits for the slave's result.
    ///
    /// # Errors
    /// [`Reason::Finish`] if it reports a failure.
    pub async fn finish(mut self) -> Result<(), TargetError> {
        let asked = self.link.role_mut().finish().map_err(Reason::from);
        let answer = match asked {
            Ok(()) => self.link.event().await.map_err(Reason::from),
            Err(reason) => Err(reason),
        };
        match answer {
            Ok(Event::Finished(finish)) if finish.is_clean() => {
                self.link.close(CLOSING).await;
                self.log_warnings();
                Ok(())
            }
            Ok(Event::Finished(finish)) => Err(self.fail(Reason::Finish(finish)).await),
            Ok(_) => {
                let reason = self.closed();
                Err(self.fail(reason).await)
            }
            Err(reason) => Err(self.fail(reason).await),
        }
    }

    /// Gives up: messages that were sent as a whole stay on the target, a begun one does not, and the open mailbox's
    /// UIDNEXT and HIGHESTMODSEQ are not raised. Waits until the target has let go.
    pub async fn abort(mut self) {
        self.link.role_mut().abort();
        let _ = self.link.flush().await;
        self.link.close(CLOSING).await;
        self.log_warnings();
    }

    async fn then(&mut self, done: Result<(), Reason>) -> Result<(), TargetError> {
        let done = match done {
            Ok(()) => self.link.relieve().await.map_err(Reason::from),
            Err(reason) => Err(reason),
        };
        match done {
            Ok(()) => Ok(()),
            Err(reason) => Err(self.fail(reason).await),
        }
    }

    async fn fail(&mut self, reason: Reason) -> TargetError {
        let (reason, log) = match reason {
            Reason::Misuse(_) => (reason, Vec::new()),
            Reason::Link(reason) => {
                let (reason, log) = self.link.last_words(Some(reason)).await;
                (reason.map_or_else(|| self.closed(), Reason::Link), log)
            }
            reason => (reason, self.link.last_words(None).await.1),
        };
        TargetError::new(&self.user, &self.url, reason, log)
    }

    fn closed(&self) -> Reason {
        Reason::Link(doveadm::Reason::Closed { state: self.link.role().state() })
    }

    fn log_warnings(&mut self) {
        for LogLine { level, text } in self.link.take_log() {
            if level >= Level::Warning {
                tracing::warn!(user = self.user, url = self.url, "the target logged: {text}");
            }
        }
    }
}
