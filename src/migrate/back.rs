//! The way back (DESIGN §3, RETURNING): the authority returns to the old side through the same gate.
//!
//! Nothing is mirrored: what the user has done on the new side since the switch is lost with it. So it is refused where
//! that would be mail, or where a client's cached UID would become another message, and everything else needs the operator's
//! word. Both sides are compared in full before the gate, and what moved since is compared again inside it.

mod loss;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::gate::{Attempt, Change, Proof, advance, both, commit, moved_since, row};
use super::halt::Halt;
use super::quarantine::Quarantine;
use super::verify::{Depth, KnownBodies, Verification, Verified};
use super::{Job, Platform, Readers, Stop, lease, scripts};
use crate::fault;
use crate::mailbox::{Report, compare};
use crate::store::now;
use crate::user::{Close, Event, Life, UserGate};
use loss::Losses;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Back {
    /// Flags, subscriptions and expunges of the new side may be lost.
    pub(super) accept_loss: bool,
    /// Who wants it, for the record.
    pub(super) by: String,
}

impl Back {
    /// Why the user stands where they stand afterwards.
    fn reason(&self) -> String {
        format!("rolled back by {}; `mailferry resume` lets the user move again", self.by)
    }
}

/// One attempt: compare with the gate open, close it, compare what moved, and finish.
///
/// # Errors
/// [`Stop`] if it could not be done; `life` is then what it was, and the user stays on the new side. [`Stop::Refused`]
/// names what would be lost.
pub(super) async fn attempt(
    platform: &Platform,
    (job, lease): (&Job, &lease::Held),
    gate: &UserGate,
    life: &mut Life,
    readers: &mut Readers,
    (back, halt): (&Back, &Halt),
) -> Result<Attempt, Stop> {
    let mut known = KnownBodies::new();
    let losses = Losses::since(&platform.store.fences(job.user.as_str()).await?, back.accept_loss);
    let verified = halt.unless(lease.during(Box::pin(before(platform, job, readers, &mut known, &losses)))).await?;
    let pause = platform.config.switch.max_pause;
    let (began, end) = (Instant::now(), Instant::now() + pause);
    let guard = match gate.close(Close::Live, end).await {
        Ok(guard) => guard,
        Err(busy) => return Ok(Attempt::Busy(busy)),
    };
    *life = advance(platform, &job.user, life, &Event::ReturnBegun, None).await?;
    let inside = Box::pin(inside(platform, job, readers, &verified, &mut known, &losses));
    let ended = match timeout_at(end, lease.during(inside)).await {
        Ok(Ok(proof)) => {
            let done = Event::RolledBack { reason: back.reason() };
            let change = Change { done, failed: |reason| Event::ReturnFailed { reason } };
            commit(platform, job, life, &proof, change).await
        }
        Ok(Err(stop)) => Err(stop),
        Err(_) => Err(Stop::Later(format!("the rollback took longer than max_pause ({pause:?})"))),
    };
    let Err(stop) = ended else {
        fault::point("back-committed").await;
        guard.open_on(life.authority, life.epoch);
        info!(user = %job.user, pause_ms = began.elapsed().as_millis(), "rolled back");
        return Ok(Attempt::Switched);
    };
    // Opened on the new side: nothing has happened.
    drop(guard);
    warn!(user = %job.user, "rollback failed: {stop}");
    if life.phase == crate::store::Phase::Returning {
        *life = advance(platform, &job.user, life, &Event::ReturnFailed { reason: stop.to_string() }, None).await?;
    }
    Err(stop)
}

/// Compares everything.
async fn before(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    known: &mut KnownBodies,
    losses: &Losses,
) -> Result<Verified, Stop> {
    let (user, depth, all_from) = (job.user.as_str(), depth(platform), Some(losses.fences()));
    let left_out = &Quarantine::of(platform, job).await?;
    let verified = Verification { user, depth, readers, known, all_from, left_out }.full().await?;
    let report = verified.report(now());
    if let Err(stop) = losses.judge(&report, &verified.new) {
        platform.store.add_report(job.user.as_str(), &row(&report)?).await?;
        return Err(stop);
    }
    Ok(verified)
}

/// What happens while logins wait.
async fn inside(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    verified: &Verified,
    known: &mut KnownBodies,
    losses: &Losses,
) -> Result<Proof, Stop> {
    fault::point("back-closed").await;
    let (old, new) = both(readers).await?;
    let mut parts = verified.mailboxes.clone();
    let left_out = &Quarantine::of(platform, job).await?;
    for name in moved_since(verified, &old, &new)? {
        let (user, depth, all_from) = (job.user.as_str(), depth(platform), Some(losses.fences()));
        let part = Verification { user, depth, readers, known, all_from, left_out }.again(&name, &old, &new).await?;
        parts.insert(name, part);
    }
    let (old_after, new_after) = both(readers).await?;
    if new_after != new {
        return Err(Stop::Later("the new side changed inside the gate: a delivery came in".to_owned()));
    }
    let mut account = Report::new(job.user.as_str(), depth(platform).strict);
    compare::accounts(&old_after, &new_after, &mut account);
    let scripts = scripts::compared(readers, &mut account).await?;
    let sharing = verified.sharing.clone();
    let whole = Verified { account, mailboxes: parts, old: old_after, new: new_after, sharing, scripts };
    let report = whole.report(now());
    losses.judge(&report, &whole.new)?;
    fault::point("back-commit").await;
    Ok(Proof { report: row(&report)?, fences: Vec::new() })
}

/// Altered messages are those of the switch: they stand in nobody's way.
fn depth(platform: &Platform) -> Depth {
    Depth { bodies: platform.config.verify.bodies, strict: false }
}
