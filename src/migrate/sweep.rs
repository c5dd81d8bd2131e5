//! Late arrivals (DESIGN §2, I3): after the switch, what still reaches the old side is appended to the new one, once.
//!
//! Late is what has a UID at or above its mailbox's *fence*, the UIDNEXT of the last look before the switch. The old side is
//! only read. Each message has a line in the journal. Before the line end is sent that makes its APPEND count, the journal says
//! so; a round that finds such a line without an answer looks on the new side first. So nothing is appended twice, and
//! nothing is left out, wherever the work was cut off.

mod append;
mod doubt;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::{Job, Platform, Readers, Stop};
use crate::mailbox::{Account, Uid, UidNext};
use crate::net::imap::ImapError;
use crate::source::ReadError;
use crate::store::{LateMessage, StoreError};
use crate::target::{AppendError, ImapTarget};
use append::Outcome;
use plan::{Due, plan};

/// Reasons kept of one round: what an operator reads; the log has them all.
const REASONS_MAX: usize = 3;

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Late messages that are on the new side since.
    pub appended: u64,
    /// Messages that wait for a later round, and mailboxes that can't be watched.
    pub pending: u64,
    reasons: Vec<String>,
}

impl Swept {
    /// Why something waits, for an operator.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let more = self.pending.saturating_sub(self.reasons.len() as u64);
        let text = self.reasons.join("; ");
        (!text.is_empty()).then(|| if more > 0 { format!("{text}; and {more} more") } else { text })
    }

    fn wait(&mut self, user: &str, reason: String) {
        warn!(user, "{reason}");
        self.pending += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }
}

/// Why one message or mailbox can't be worked on, or nothing more at all.
#[derive(Debug)]
enum Failed {
    /// Only this one; the others go on.
    Here(String),
    All(Stop),
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Mailbox { .. } | ReadError::Gone { .. } => Self::Here(error.to_string()),
            other => Self::All(other.into()),
        }
    }
}

impl From<AppendError> for Failed {
    fn from(error: AppendError) -> Self {
        Self::All(match error {
            AppendError::LoginRefused(refusal) => refusal.into(),
            AppendError::Imap(_) | AppendError::Busy(_) => Stop::Later(error.to_string()),
        })
    }
}

impl From<ImapError> for Failed {
    fn from(error: ImapError) -> Self {
        Self::All(Stop::Later(error.to_string()))
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::All(stop)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::All(error.into())
    }
}

/// Looks once for late arrivals of a user whose authority is the new side, and carries them over. If nothing came, the old
/// side is asked for the STATUS of its mailboxes, and the new side for nothing.
///
/// # Errors
/// [`Stop`] if a side or the store can't be used. What was appended is in the journal; the next round goes on from there.
pub async fn round(platform: &Platform, job: &Job, readers: &mut Readers) -> Result<Swept, Stop> {
    let user = job.user.as_str();
    readers.old.revive().await?;
    let old = super::copy::source(readers, &super::copy::records(platform, job).await?).await?;
    let plan = plan(&old, &platform.store.fences(user).await?);
    for fence in &plan.appeared {
        platform.store.watch_new_mailbox(user, fence).await?;
    }
    let mut swept = Swept::default();
    for reason in plan.unclear {
        swept.wait(user, reason);
    }
    for fence in &plan.gone {
        let known = platform.store.late_messages(user, fence, Uid(1)).await?;
        forget(platform, user, &known).await?;
    }
    let doubtful = platform.store.late_in_doubt(user).await?;
    if plan.due.is_empty() && doubtful.is_empty() {
        return Ok(swept);
    }
    readers.new.revive().await?;
    let new = readers.new.account().await?;
    let mut round = Round { platform, job, readers, new, target: None, swept };
    for message in doubtful {
        round.resolve(message).await?;
    }
    for due in &plan.due {
        round.mailbox(due).await?;
    }
    round.readers.old.close().await?;
    round.readers.new.close().await?;
    if let Some(target) = round.target.take() {
        target.logout().await;
    }
    Ok(round.swept)
}

/// A round that has found something to do.
#[derive(Debug)]
struct Round<'a> {
    platform: &'a Platform,
    job: &'a Job,
    readers: &'a mut Readers,
    /// The new side as it was listed, and what was made there since.
    new: Account,
    /// The connection that writes, once it is needed.
    target: Option<ImapTarget>,
    swept: Swept,
}

impl Round<'_> {
    fn user(&self) -> &str {
        self.job.user.as_str()
    }

    /// Carries over what came into one mailbox.
    async fn mailbox(&mut self, due: &Due) -> Result<(), Stop> {
        let fence = &due.watched.fence;
        let first = Uid(due.watched.swept.0);
        let failed = match self.readers.old.arrivals(&due.listed, first).await {
            Ok(arrivals) if arrivals.uid_validity != fence.uid_validity => {
                Failed::Here(format!("`{}` was made anew on the old side just now", fence.name))
            }
            Ok(arrivals) => {
                let known = self.platform.store.late_messages(self.job.user.as_str(), fence, first).await?;
                return self.messages(due, &arrivals.list, arrivals.uid_next, known).await;
            }
            Err(error) => error.into(),
        };
        match failed {
            Failed::Here(why) => self.swept.wait(self.job.user.as_str(), format!("late mail can't be listed: {why}")),
            Failed::All(stop) => return Err(stop),
        }
        Ok(())
    }

    async fn messages(
        &mut self,
        due: &Due,
        list: &[crate::source::Arrival],
        uid_next: UidNext,
        known: Vec<LateMessage>,
    ) -> Result<(), Stop> {
        let (platform, fence) = (self.platform, &due.watched.fence);
        let mut fresh = due.watched.appeared && due.watched.swept.0 <= 1 && !known.iter().any(|message| message.done);
        let mut known: BTreeMap<Uid, LateMessage> = known.into_iter().map(|message| (message.uid, message)).collect();
        let mut waiting = BTreeSet::new();
        for arrival in list {
            let uid = arrival.message.uid;
            let mut late = known.remove(&uid).unwrap_or_else(|| append::unread(fence, arrival));
            if late.done {
                continue;
            }
            let why = match self.message(due, arrival, &mut late, fresh).await {
                Ok(Outcome::Appended) => {
                    fresh = false;
                    self.swept.appended += 1;
                    continue;
                }
                Ok(Outcome::Vanished) => {
                    forget(platform, self.user(), [&late]).await?;
                    continue;
                }
                Ok(Outcome::Pending(why)) | Err(Failed::Here(why)) => why,
                Err(Failed::All(stop)) => return Err(stop),
            };
            waiting.insert(uid);
            // Nothing of it is on its way: the server has refused it, or never had all of it.
            (late.home, late.sent_at) = (None, None);
            platform.store.put_late(self.user(), &late).await?;
            let reason = format!("late arrival UID {uid} of `{}` waits: {why}", fence.name);
            self.swept.wait(self.job.user.as_str(), reason);
        }
        forget(platform, self.user(), known.values()).await?;
        let swept = waiting.first().map_or(uid_next, |uid| UidNext(uid.0));
        platform.store.set_swept(self.user(), fence, swept).await?;
        Ok(())
    }
}

/// Forgets messages that waited and have been taken away on the old side. What is in doubt stays: it may be on the new one.
async fn forget(platform: &Platform, user: &str, messages: impl IntoIterator<Item = &LateMessage>) -> Result<(), Stop> {
    for message in messages.into_iter().filter(|message| !message.done && message.sent_at.is_none()) {
        let (mailbox, uid) = (&message.mailbox, message.uid);
        info!(user, %mailbox, %uid, "a late arrival was taken away on the old side before it was carried over");
        platform.store.forget_late(user, message).await?;
    }
    Ok(())
}
