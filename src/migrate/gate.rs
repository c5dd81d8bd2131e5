//! The switch of one user (DESIGN §3): everything slow before the gate; inside it a last delta, the verification of what
//! moved, and one transaction.

mod steps;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, info, warn};

use super::copy;
use super::halt::Halt;
use super::plan::Work;
use super::quarantine::Quarantine;
use super::verify::{Depth, KnownBodies, Verification, Verified};
use super::write::{Stops, Writer};
use super::{Job, Platform, Readers, Stop, lease, quota, scripts};
use crate::fault;
use crate::mailbox::{Account, MailboxName, Report, compare};
use crate::store::{Fence, Phase, ReportRow, Transition, now};
use crate::user::{Busy, CanonicalUser, Close, Event, IllegalEvent, Life, UserGate};
use steps::Steps;

/// Between two questions to a store that does not answer.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// How an attempt to switch ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The authority is the new side.
    Switched,
    /// Sessions are open: the gate was not closed, or nobody but them noticed that it was.
    Busy(Busy),
    /// The pause ran out; what took how long.
    TooSlow(String),
}

impl From<IllegalEvent> for Stop {
    fn from(error: IllegalEvent) -> Self {
        Self::Later(error.to_string())
    }
}

/// The report as it is stored.
///
/// # Errors
/// If it can't be written as JSON.
pub(super) fn row(report: &Report) -> Result<ReportRow, Stop> {
    Ok(ReportRow {
        at: report.at,
        identical: report.identical,
        differences: report.differences,
        altered: report.altered,
        notes: report.notes,
        json: serde_json::to_string(report).map_err(|error| Stop::Later(error.to_string()))?,
    })
}

/// What a change of authority is committed with.
#[derive(Debug)]
pub(super) struct Proof {
    /// What both sides look like.
    pub(super) report: ReportRow,
    /// The old side as the last look saw it: what comes above it comes late.
    pub(super) fences: Vec<Fence>,
}

/// A change of authority.
pub(super) struct Change {
    /// It is committed.
    pub(super) done: Event,
    /// It is not.
    pub(super) failed: fn(String) -> Event,
}

/// Moves a user's life on by `event`, in the store first.
///
/// # Errors
/// If the event can't happen now, or the store can't be written: then nothing has happened.
pub(super) async fn advance(
    platform: &Platform,
    user: &CanonicalUser,
    life: &Life,
    event: &Event,
    proof: Option<&Proof>,
) -> Result<Life, Stop> {
    let next = life.after(event)?;
    platform
        .store
        .transition(Transition {
            user: user.as_str(),
            from: life.phase,
            from_epoch: life.epoch,
            to: next.phase,
            authority: next.authority,
            epoch: next.epoch,
            reason: next.reason.as_deref(),
            cause: event.cause(),
            leased_to: event.needs_lease().then_some(&*platform.owner),
            report: proof.map(|proof| &proof.report),
            fences: proof.map(|proof| proof.fences.as_slice()),
        })
        .await?;
    info!(%user, from = %life.phase, to = %next.phase, epoch = next.epoch, reason = next.reason, "{}", event.cause());
    Ok(next)
}

const SWITCH: Change = Change { done: Event::Switched, failed: |reason| Event::SwitchFailed { reason } };

/// One attempt: catch up and verify with the gate open, then close it as `close` says and finish.
///
/// # Errors
/// [`Stop`] if it could not be done; `life` is then what it was, and the user stays on the old side.
pub(super) async fn attempt(
    platform: &Platform,
    (job, lease): (&Job, &lease::Held),
    (gate, close): (&UserGate, Close),
    life: &mut Life,
    readers: &mut Readers,
    known: &mut KnownBodies,
    halt: &Halt,
) -> Result<Attempt, Stop> {
    // From the gate on nothing is broken off: it is short.
    let verified = halt.unless(lease.during(Box::pin(before(platform, job, readers, known)))).await?;
    fault::point("gate-closing").await;
    let mut steps = Steps::begin();
    let pause = platform.config.switch.max_pause;
    let end = Instant::now() + pause;
    let guard = match gate.close(close, end).await {
        Ok(guard) => guard,
        Err(busy) => return Ok(Attempt::Busy(busy)),
    };
    steps.done("sessions");
    fault::point("gate-parked").await;
    *life = advance(platform, &job.user, life, &Event::GateClosed, None).await?;
    let within =
        timeout_at(end, lease.during(Box::pin(inside(platform, job, readers, &verified, known, &mut steps)))).await;
    let (ended, too_slow) = match within {
        // From here on nothing is cancelled: the gate stays closed until it is known what the store says.
        Ok(Ok(proof)) => (commit(platform, job, life, &proof, SWITCH).await, false),
        Ok(Err(stop)) => (Err(stop), false),
        Err(_) => (Err(Stop::Later(format!("the switch took longer than max_pause ({pause:?}): {steps}"))), true),
    };
    let Err(stop) = ended else {
        fault::point("gate-committed").await;
        guard.open_on(life.authority, life.epoch);
        fault::point("gate-opened").await;
        info!(user = %job.user, pause_ms = steps.all().as_millis(), "switched: {steps}");
        return Ok(Attempt::Switched);
    };
    // Opened on the old side: nothing has happened.
    drop(guard);
    warn!(user = %job.user, pause_ms = steps.all().as_millis(), "switch failed: {stop}");
    if life.phase == Phase::Switching {
        *life = advance(platform, &job.user, life, &Event::SwitchFailed { reason: stop.to_string() }, None).await?;
    }
    if too_slow { Ok(Attempt::TooSlow(steps.to_string())) } else { Err(stop) }
}

/// The transaction. One that reports an error may have happened all the same: the store is asked until it answers, and an
/// authority that stayed what it was is written down before the gate opens on it.
pub(super) async fn commit(
    platform: &Platform,
    job: &Job,
    life: &mut Life,
    proof: &Proof,
    change: Change,
) -> Result<(), Stop> {
    let begun = (life.phase, life.epoch);
    let failed = match advance(platform, &job.user, life, &change.done, Some(proof)).await {
        Ok(done) => {
            *life = done;
            return Ok(());
        }
        Err(stop) => stop,
    };
    if matches!(&failed, Stop::Store(error) if error.is_no_space()) {
        // It did not happen for certain, and to write that down there is no space either: the user is served meanwhile.
        return Err(failed);
    }
    loop {
        error!(user = %job.user, "the switch could not be written; its gate stays closed until the store answers: {failed}");
        match platform.store.user(job.user.as_str()).await {
            Ok(Some(record)) if record.epoch > begun.1 => {
                *life = Life::of(&record);
                return Ok(());
            }
            Ok(Some(record)) if record.phase != begun.0 => {
                *life = Life::of(&record);
                return Err(failed);
            }
            Ok(Some(_)) => {
                let event = (change.failed)(failed.to_string());
                if let Ok(back) = advance(platform, &job.user, life, &event, None).await {
                    *life = back;
                    return Err(failed);
                }
            }
            // Without a record there is no new authority either.
            Ok(None) => return Err(failed),
            Err(_) => {}
        }
        sleep(STORE_PATIENCE).await;
    }
}

/// Catches up and verifies everything, until both sides are equal.
async fn before(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    known: &mut KnownBodies,
) -> Result<Verified, Stop> {
    /// Verifications of an account that changes while it is verified, before it is left alone.
    const ROUNDS: u32 = 3;
    let depth = Depth { bodies: platform.config.verify.bodies, strict: platform.config.verify.strict };
    quota::check(readers).await?;
    let mut doubted = BTreeSet::new();
    for round in 1.. {
        let copied = copy::converge(platform, job, readers).await?;
        copied.readable()?;
        if !copied.settled {
            return Err(Stop::Later("the account keeps changing".to_owned()));
        }
        let in_the_way = scripts::carry(platform, job, readers).await?;
        if !in_the_way.is_empty() {
            return Err(Stop::Later(in_the_way.join("; ")));
        }
        let left_out = &Quarantine::of(platform, job).await?;
        let user = job.user.as_str();
        let verified = Verification { user, depth, readers, known, all_from: None, left_out }.full().await?;
        platform.store.set_shared_with(user, verified.sharing.0.with_whom()).await?;
        let report = verified.report(now());
        if report.identical {
            return Ok(verified);
        }
        // A difference that was not looked for yet may be mended by a look in full; one that stays needs an operator.
        let differing = copy::doubt(platform, job, &verified).await?;
        let fresh = !differing.is_subset(&doubted);
        doubted.extend(differing);
        let moved = readers.seen().await?.0.account().await? != verified.old;
        if !(moved || fresh) || round >= ROUNDS {
            platform.store.add_report(job.user.as_str(), &row(&report)?).await?;
            return Err(Stop::Later(format!("the two sides differ: {}", report.summary())));
        }
    }
    Err(Stop::Later("the account kept changing".to_owned()))
}

/// What happens while logins wait: the last delta, the verification of what moved, the fingerprint.
async fn inside(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    verified: &Verified,
    known: &mut KnownBodies,
    steps: &mut Steps,
) -> Result<Proof, Stop> {
    fault::point("gate-closed").await;
    let (old, new) = both(readers).await?;
    steps.done("fingerprint");
    fault::point("gate-fingerprint").await;
    let moved = moved_since(verified, &old, &new)?;
    let new = if moved.is_empty() && old.subscriptions == new.subscriptions {
        new
    } else {
        delta(platform, job, readers, (&old, &new), &moved).await?;
        readers.new.account().await?
    };
    steps.done("delta");
    fault::point("gate-delta").await;
    let depth = Depth { bodies: platform.config.verify.bodies, strict: platform.config.verify.strict };
    let mut parts = verified.mailboxes.clone();
    let left_out = &Quarantine::of(platform, job).await?;
    for name in &moved {
        let user = job.user.as_str();
        let part =
            Verification { user, depth, readers, known, all_from: None, left_out }.again(name, &old, &new).await?;
        parts.insert(name.clone(), part);
    }
    steps.done("verification");
    fault::point("gate-verified").await;
    let (old_after, new_after) = both(readers).await?;
    steps.done("fingerprint again");
    if old_after != old {
        return Err(Stop::Later("the old side changed inside the gate: a delivery came in".to_owned()));
    }
    if new_after != new {
        return Err(Stop::Later("the new side changed inside the gate: something else writes there".to_owned()));
    }
    let mut account = Report::new(job.user.as_str(), depth.strict);
    compare::accounts(&old_after, &new_after, &mut account);
    let sharing = verified.sharing.clone();
    compare::sharing(&sharing.0, &sharing.1, &mut account);
    let scripts = scripts::compared(readers, &mut account).await?;
    if scripts != verified.scripts {
        return Err(Stop::Later("Sieve scripts were changed since the verification".to_owned()));
    }
    if scripts.is_some() {
        steps.done("scripts");
    }
    let fences = Fence::all(&old_after);
    let whole = Verified { account, mailboxes: parts, old: old_after, new: new_after, sharing, scripts };
    let report = whole.report(now());
    fault::point("gate-commit").await;
    if report.identical {
        Ok(Proof { report: row(&report)?, fences })
    } else {
        Err(Stop::Later(format!("the two sides differ: {}", report.summary())))
    }
}

pub(super) async fn both(readers: &mut Readers) -> Result<(Account, Account), Stop> {
    let (old, new, _) = readers.seen().await?;
    let (old, new) = tokio::join!(old.account(), new.account());
    Ok((old?, new?))
}

/// Mailboxes whose fingerprint is not the verified one. New, lost or changed names need more time than the gate has.
pub(super) fn moved_since(verified: &Verified, old: &Account, new: &Account) -> Result<Vec<MailboxName>, Stop> {
    let names = |account: &Account| account.mailboxes.keys().cloned().collect::<Vec<_>>();
    if names(old) != names(&verified.old) || names(new) != names(&verified.new) {
        return Err(Stop::Later("mailboxes were made, renamed or deleted since the verification".to_owned()));
    }
    let same = |before: &Account, after: &Account, name| {
        let status = |account: &Account| account.mailboxes.get(name).and_then(|listed| listed.status);
        status(before) == status(after) && status(after).is_none_or(|status| status.sees_flags())
    };
    Ok(old
        .mailboxes
        .iter()
        .filter(|(_, listed)| listed.selectable)
        .map(|(name, _)| name)
        .filter(|name| !same(&verified.old, old, name) || !same(&verified.new, new, name))
        .cloned()
        .collect())
}

/// The last delta: one dsync run over what moved.
async fn delta(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    (old, new): (&Account, &Account),
    moved: &[MailboxName],
) -> Result<(), Stop> {
    let mut records = copy::records(platform, job).await?;
    super::preflight::check(old, new, &records)?;
    let told = if readers.old.is_imap() { None } else { Some(copy::source(readers, &records).await?) };
    let old = told.as_ref().unwrap_or(old);
    let work = Work::of(old, new, &records, &BTreeSet::new());
    let look: Vec<_> = work.look.into_iter().filter(|name| moved.contains(name)).collect();
    if look.is_empty() && !work.tree {
        return Ok(());
    }
    let mut stops = Stops::of(platform, job).await?;
    let mut writer = Writer { platform, job, readers, old, new, records: &mut records, stops: &mut stops, now: now() };
    let written = writer.write(&look).await?;
    if written.interrupted || !written.rebuild.is_empty() {
        return Err(Stop::Later("a message vanished or can't be read inside the gate".to_owned()));
    }
    Ok(())
}
