//! One reading session, step by step.

use std::time::Duration;

use super::{DsyncError, DsyncServer};
use crate::mailbox::{Guid, ModSeq, Status, UidNext, UidValidity};
use crate::net::doveadm::{Link, Reason};
use crate::wire::dsync::Role as _;
use crate::wire::dsync::doveadm::Level;
use crate::wire::dsync::error::{MasterError, Misuse};
use crate::wire::dsync::item::{MailboxState, MailboxStatus, Node, StatusReply};
use crate::wire::dsync::listed::Listed;
use crate::wire::dsync::reader::{Event, Reader};

/// How long the end of a session that we ended may take.
const CLOSING: Duration = Duration::from_secs(10);

/// A session that is open. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Session {
    link: Link<Reader>,
    user: String,
    url: String,
    /// A mailbox could not be told from its state on: the result will say so, too.
    lost: bool,
}

/// What was told of a mailbox.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: Status,
    /// None if there was more than was wanted.
    pub(super) list: Option<Vec<Listed>>,
}

impl Session {
    pub(super) async fn open(server: &DsyncServer, user: &str, known: Vec<MailboxState>) -> Result<Self, DsyncError> {
        let opened = server.doveadm.open(user, Reader::new(known)).await;
        let link = opened.map_err(|reason| server.failed(user, reason))?;
        let mut session = Self { link, user: user.to_owned(), url: server.url(), lost: false };
        session.event().await?;
        Ok(session)
    }

    pub(super) fn tree(&self) -> &[Node] {
        self.link.role().tree()
    }

    pub(super) fn separator(&self) -> Option<char> {
        self.link.role().separator()
    }

    /// The next thing that the slave tells.
    pub(super) async fn event(&mut self) -> Result<Event, DsyncError> {
        match self.link.event().await {
            Ok(event) => Ok(event),
            Err(reason) => Err(self.fail(reason).await),
        }
    }

    /// Asks for a mailbox, of whose messages not more than `room` are kept. `None` if it is gone, or can't be told from its
    /// state on; else texts may be wanted next.
    pub(super) async fn ask(&mut self, guid: Guid, room: usize) -> Result<Option<Told>, DsyncError> {
        let asked = self.link.role_mut().ask(guid.0);
        self.said(asked)?;
        let status = match self.event().await? {
            Event::Status(StatusReply::Known(status)) => self::status(&status),
            Event::Status(StatusReply::Lost | StatusReply::Ignored) => {
                self.lost = true;
                return Ok(None);
            }
            other => return Err(self.unexpected(&other)),
        };
        let mut list = Some(Vec::new());
        loop {
            match self.event().await? {
                Event::Listed(listed) => {
                    if let Some(kept) = list.as_mut().filter(|kept| kept.len() < room) {
                        kept.push(listed);
                    } else {
                        list = None;
                    }
                }
                Event::ListEnd => return Ok(Some(Told { status, list })),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Wants the texts of messages, ascending; events follow.
    pub(super) fn want(&mut self, uids: Vec<u32>) -> Result<(), DsyncError> {
        let wanted = self.link.role_mut().want(uids);
        self.said(wanted)
    }

    /// Wants none, and is ready for the next mailbox.
    pub(super) async fn pass(&mut self) -> Result<(), DsyncError> {
        self.want(Vec::new())?;
        match self.event().await? {
            Event::MailboxEnd => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Ends the session.
    pub(super) async fn finish(mut self) -> Result<(), DsyncError> {
        let asked = self.link.role_mut().finish();
        self.said(asked)?;
        match self.event().await? {
            Event::Finished(finish) if finish.is_clean() || self.lost && finish.error.is_none() => {
                self.link.close(CLOSING).await;
                for line in self.link.take_log().into_iter().filter(|line| line.level >= Level::Warning && !self.lost) {
                    tracing::warn!(user = self.user, url = self.url, "the old side logged: {}", line.text);
                }
                Ok(())
            }
            Event::Finished(finish) => {
                let state = self.link.role().state();
                Err(self.fail(Reason::Peer(MasterError::Failed { state, finish })).await)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// What our own role refuses to say.
    fn said(&self, said: Result<(), Misuse>) -> Result<(), DsyncError> {
        said.map_err(|misuse| {
            self.error(Reason::Peer(MasterError::Unexpected {
                state: self.link.role().state(),
                line: misuse.to_string(),
            }))
        })
    }

    fn unexpected(&self, event: &Event) -> DsyncError {
        let mut line = format!("{event:?}");
        line.truncate(line.char_indices().nth(80).map_or(line.len(), |(at, _)| at));
        self.error(Reason::Peer(MasterError::Unexpected { state: self.link.role().state(), line }))
    }

    fn error(&self, reason: Reason) -> DsyncError {
        DsyncError::new(&self.user, &self.url, reason, &[])
    }

    async fn fail(&mut self, reason: Reason) -> DsyncError {
        let state = self.link.role().state();
        let (reason, log) = self.link.last_words(Some(reason)).await;
        DsyncError::new(&self.user, &self.url, reason.unwrap_or(Reason::Closed { state }), &log)
    }
}

/// What `B` tells of a mailbox. Messages that are not seen are not counted there.
fn status(status: &MailboxStatus) -> Status {
    Status {
        uid_validity: UidValidity(status.uid_validity),
        uid_next: UidNext(status.uid_next),
        messages: status.messages.into(),
        unseen: 0,
        highest_modseq: Some(ModSeq(status.highest_modseq)).filter(|modseq| modseq.0 > 0),
        guid: Some(Guid(status.guid)),
    }
}
