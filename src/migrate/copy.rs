//! Copies an account until both sides are equal: look, plan, write, read back, look again.

use std::collections::BTreeSet;

use tracing::{debug, info};

use super::plan::{Records, Work, on_new_side};
use super::rename::{self, Rename, Step};
use super::verify::Verified;
use super::write::{Stops, Writer, Written};
use super::{Job, Platform, Readers, Stop, preflight};
use crate::mailbox::{Account, Filter, Listed, MailboxName};
use crate::store::now;

/// Passes in a row, most of them cut short by messages that vanished or could not be read.
const PASSES_MAX: u32 = 50;

/// Passes through everything that still found changes: an account that changes under our hands is let rest then, so
/// that the old server can.
const WHOLE_PASSES_MAX: u32 = 5;

/// What came of a copy.
#[derive(Debug)]
pub struct Copied {
    /// Passes that found something to do.
    pub passes: u32,
    /// Messages that the old side can't give and that keep the user there, mostly because their mailbox ends before them:
    /// mailbox, UID, and what the old side said.
    pub unreadable: Vec<String>,
    /// Both sides were found equal; else the account changes faster than it can be looked at.
    pub settled: bool,
}

impl Copied {
    /// Whether it is whole.
    ///
    /// # Errors
    /// [`Stop::Later`] with the first message that is not there.
    pub(super) fn readable(&self) -> Result<(), Stop> {
        let unreadable = self.unreadable.first();
        unreadable.map_or(Ok(()), |first| Err(Stop::Later(format!("the old side can't give {first}"))))
    }
}

/// Copies all of the account, for a user who shall be switched one day.
///
/// # Errors
/// [`Stop`]; what was written stays, and the next run goes on from there. [`Stop::Refused`] for an account that an operator
/// has to make whole first.
pub async fn converge(platform: &Platform, job: &Job, readers: &mut Readers) -> Result<Copied, Stop> {
    if let Some(mark) = platform.store.mark(job.user.as_str()).await? {
        return Err(Stop::Refused(mark.to_string()));
    }
    converge_part(platform, job, readers, &Filter::default()).await
}

/// Copies what `filter` takes until a pass finds nothing to do, or the account turns out to change all the time.
///
/// # Errors
/// [`Stop`]; what was written stays, and the next run goes on from there.
pub async fn converge_part(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    filter: &Filter,
) -> Result<Copied, Stop> {
    let mut stops = Stops::of(platform, job).await?;
    stops.filter.clone_from(filter);
    let mut looked = BTreeSet::new();
    let mut tried = BTreeSet::new();
    let mut whole_passes = 0;
    for passes in 0..PASSES_MAX {
        crate::fault::point("copy-pass").await;
        let mut records = records(platform, job).await?;
        let mut old = source(readers, &records).await?;
        let new = readers.new.account().await?;
        if records.is_empty()
            && passes == 0
            && let Some(unlike) = readers.unlike(&mut old).await?
        {
            return Err(Stop::Refused(unlike));
        }
        if passes == 0 {
            filter_by_use(readers, &old, filter)?;
            filter_by_labels(readers, &old, filter)?;
            stops.left_out.tend((platform, job), readers, (&old, &new)).await?;
            // What can be read again is looked for in full.
            records = self::records(platform, job).await?;
        }
        for name in rename::left_behind(&new, &records) {
            platform.store.delete_mailbox(job.user.as_str(), &name).await?;
            records.remove(&name);
        }
        filter.narrow(&mut old, &new, |name| records.contains_key(name));
        remember_carried(platform, job, &old).await?;
        preflight::check(&old, &new, &records)?;
        let mut work = Work::of(&old, &new, &records, &looked);
        measure(job, &old, &new);
        platform.store.set_progress(job.user.as_str(), job.progress.read()).await?;
        work.look.retain(|name| filter.takes_name(name, &old) && !stops.is_done(name));
        let settled = work.is_empty();
        if whole_passes >= WHOLE_PASSES_MAX
            && let Some(why) = unshown(&old, &new, &work)
        {
            return Err(Stop::Refused(why));
        }
        if settled || whole_passes >= WHOLE_PASSES_MAX {
            let unreadable = stops.reasons();
            if settled && unreadable.is_empty() && filter.is_empty() {
                platform.store.set_clean(job.user.as_str()).await?;
            }
            return Ok(Copied { passes, unreadable, settled });
        }
        debug!(user = %job.user, pass = passes, look = work.look.len(), gone = work.gone.len(), tree = work.tree, "copying");
        if renamed(platform, job, readers, (&old, &new), &mut records, &mut tried).await? {
            continue;
        }
        let written = pass(platform, job, readers, (&old, &new), &mut records, &mut stops, &work).await?;
        if written.idle && work.gone.is_empty() && stops.reasons().is_empty() {
            // Both sides are as they were listed, and equal: there is nothing to list again.
            if filter.is_empty() {
                platform.store.set_clean(job.user.as_str()).await?;
            }
            return Ok(Copied { passes, unreadable: Vec::new(), settled: true });
        }
        whole_passes += u32::from(!written.interrupted);
        looked.extend(written.done);
    }
    Err(Stop::Later(format!("messages vanished or could not be read in {PASSES_MAX} passes one after the other")))
}

/// Remembers how many mailboxes the account carries for everybody, if that is news.
async fn remember_carried(platform: &Platform, job: &Job, old: &Account) -> Result<(), Stop> {
    let user = job.user.as_str();
    let carried = old.carried.as_ref().map(|carried| carried.mailboxes.len());
    if platform.store.carried(user).await? != carried.map(|count| count as u64) {
        platform.store.set_carried(user, carried).await?;
    }
    Ok(())
}

/// Subscriptions to shared mailboxes that the new side was given again and again and does not show, where nothing else differs.
fn unshown(old: &Account, new: &Account, work: &Work) -> Option<String> {
    let differ = || old.subscriptions.symmetric_difference(&new.subscriptions);
    let only_that = work.look.is_empty() && work.gone.is_empty() && differ().all(|name| old.carries(name));
    let name = differ().next().filter(|_| only_that)?;
    Some(format!(
        "the new side takes the subscription to the shared mailbox `{name}` and does not show it: a Dovecot does so where \
         the namespace has `subscriptions = no` and is stored in another format than the users' own mail; use one format \
         for both"
    ))
}

/// Whether the old side tells what mailboxes are for, if the filter goes by it: else it would do nothing, and not say so.
pub(super) fn filter_by_use(readers: &Readers, old: &Account, filter: &Filter) -> Result<(), Stop> {
    let Some(pattern) = filter.special_uses().next() else { return Ok(()) };
    let tells = readers.old.capabilities().any(|capability| capability.eq_ignore_ascii_case("SPECIAL-USE"))
        || old.mailboxes.values().any(|listed| !listed.special_use.is_empty());
    if tells {
        return Ok(());
    }
    Err(Stop::Refused(format!(
        "the old side doesn't tell what its mailboxes are for (SPECIAL-USE), so {pattern} can't be found: name the mailbox"
    )))
}

/// Has the old side tell which messages of all mail have labels, if the filter goes by it.
pub(super) fn filter_by_labels(readers: &mut Readers, old: &Account, filter: &Filter) -> Result<(), Stop> {
    if !filter.asks_for_labels() || !readers.old.has_labels() {
        // (A server that is no Gmail may have the keyword itself.)
        return Ok(());
    }
    if !old.mailboxes.values().any(Listed::is_all_mail) {
        return Err(Stop::Refused(
            "Gmail shows no mailbox of all mail (\\All) over IMAP, so $GmailHaveLabels says nothing, and archived mail can't be \
             read: the user has to let it be shown in IMAP (Gmail's settings of labels)"
                .to_owned(),
        ));
    }
    readers.old.mark_labelled_by(filter.labels(old));
    Ok(())
}

/// Renames on the new side what was renamed on the old side, one step. False if there was nothing to rename; what can't be
/// renamed is deleted and copied under its new name.
async fn renamed(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    (old, new): (&Account, &Account),
    records: &mut Records,
    tried: &mut BTreeSet<Rename>,
) -> Result<bool, Stop> {
    let mut renames = Vec::new();
    for rename in rename::found(old, new, records) {
        let Some(listed) = old.mailboxes.get(&rename.to) else { continue };
        // What did not work once in this run will not work now.
        let fresh = !tried.contains(&rename);
        if fresh && rename::agree(readers, (listed, &on_new_side(&rename.from, new))).await? {
            renames.push(rename);
        }
    }
    let step = Step::of(&renames, new, records);
    if step.is_empty() {
        return Ok(false);
    }
    tried.extend(step.renames.iter().cloned());
    let mut stops = Stops::of(platform, job).await?;
    let mut writer = Writer { platform, job, readers, old, new, records, stops: &mut stops, now: now() };
    writer.rename(&step).await?;
    Ok(true)
}

async fn pass(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    (old, new): (&Account, &Account),
    records: &mut Records,
    stops: &mut Stops,
    work: &Work,
) -> Result<Written, Stop> {
    let mut writer = Writer { platform, job, readers, old, new, records, stops, now: now() };
    writer.delete_ours(&work.gone).await?;
    let written = writer.write(&work.look).await?;
    if !written.rebuild.is_empty() {
        info!(user = %job.user, mailboxes = ?written.rebuild.iter().map(ToString::to_string).collect::<Vec<_>>(),
              "mailboxes on the new side are made anew");
        writer.delete(&written.rebuild).await?;
    }
    Ok(written)
}

/// Makes the next copy look in full at every mailbox in which a verification found a difference, whatever STATUS and
/// mod-sequences say: what was remembered of it led to that difference. Gives their names.
///
/// # Errors
/// If the store can't be written.
pub async fn doubt(platform: &Platform, job: &Job, verified: &Verified) -> Result<BTreeSet<MailboxName>, Stop> {
    let differing = verified.mailboxes.iter().filter(|(_, report)| !report.identical);
    let names: BTreeSet<MailboxName> = differing.map(|(name, _)| name.clone()).collect();
    platform.store.forget_seen(job.user.as_str(), names.iter().cloned().collect()).await?;
    Ok(names)
}

/// The old side as the copy reads it, at a cost that grows with what happened since.
///
/// # Errors
/// If it can't be read.
pub(super) async fn source(readers: &mut Readers, records: &Records) -> Result<Account, Stop> {
    readers.old.know(records.values().filter_map(|record| record.old_seen.as_deref()));
    Ok(readers.old.account().await?)
}

/// A user's mailbox records by name.
///
/// # Errors
/// If the store can't be read.
pub(super) async fn records(platform: &Platform, job: &Job) -> Result<Records, Stop> {
    let records = platform.store.mailboxes(job.user.as_str()).await?;
    Ok(records.into_iter().map(|record| (record.name.clone(), record)).collect())
}

/// Sets the meter to what STATUS of both sides says.
fn measure(job: &Job, old: &Account, new: &Account) {
    let messages = |account: &Account| -> u64 {
        account.mailboxes.values().filter_map(|listed| listed.status).map(|status| status.messages).sum()
    };
    job.progress.update(|progress| {
        progress.mailboxes = old.mailboxes.values().filter(|listed| listed.selectable).count() as u64;
        progress.messages_total = messages(old);
        progress.messages_done = messages(new).min(progress.messages_total);
    });
}
