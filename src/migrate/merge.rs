//! Merges the old side's mail into an account that has mail of its own on the new side (`mailferry sync --mode merge`).
//!
//! Which message is which is known by the pairs in the store. A message that we write has a GUID that derives from its mailbox's seed,
//! UIDVALIDITY and UID, and the seed is stored before the first is written: so whatever interrupts us, the next look finds what
//! was written, and nothing is written twice. Nothing else is believed of a run: it ends when a look finds nothing to do.

mod look;
mod send;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use super::copy::{filter_by_labels, filter_by_use};
use super::dry_run::{Fate, Foretold, Steps};
use super::rebuild::emptying_command;
use super::write::shared_guid;
use super::{Job, Platform, Readers, Stop, preflight};
use crate::mailbox::merge::MergePlan;
use crate::mailbox::{Account, Filter, Listed, MailboxName, Uid, UidValidity};
use crate::store::{MergedMailbox, UnixSeconds, now};
use crate::target::dsync::NodeMailbox;
use look::Looked;

/// Passes through everything that still found changes: an account that changes under our hands is let rest then.
const PASSES_MAX: u32 = 5;

/// Looks at one mailbox, most of them after a message vanished or could not be read.
const LOOKS_MAX: u32 = 50;

/// What came of a merge.
#[derive(Debug)]
pub struct Merged {
    /// Messages that the old side can't give: mailbox, UID, and what it said.
    pub unreadable: Vec<String>,
    /// A look at everything found nothing to do.
    pub settled: bool,
}

/// The mailboxes of the new side with their GUIDs, which only dsync tells.
type Tree = BTreeMap<MailboxName, NodeMailbox>;

/// A merge of one user.
#[derive(Debug)]
struct Run<'a> {
    platform: &'a Platform,
    job: &'a Job,
    readers: &'a mut Readers,
    filter: &'a Filter,
    /// What the old side could not give in this run, and why.
    unreadable: BTreeMap<(MailboxName, UidValidity, Uid), String>,
    vanished: BTreeSet<(MailboxName, UidValidity, Uid)>,
    now: UnixSeconds,
}

/// What both sides listed at the start of a pass.
#[derive(Debug)]
struct Lists {
    old: Account,
    new: Account,
    tree: Tree,
    /// Mailboxes of which something is known, or wanted; INBOX first.
    names: Vec<MailboxName>,
}

/// Merges what `filter` takes until a look at everything finds nothing to do.
///
/// # Errors
/// [`Stop`]; what was written stays, and the next run goes on from there.
pub async fn converge(platform: &Platform, job: &Job, readers: &mut Readers, filter: &Filter) -> Result<Merged, Stop> {
    known_again(platform, job, readers).await?;
    let mut run = Run::new(platform, job, readers, filter);
    adopt(platform, job).await?;
    let mut settled = false;
    for _ in 0..PASSES_MAX {
        crate::fault::point("merge-pass").await;
        if !run.pass().await? {
            settled = true;
            break;
        }
    }
    let said = |((name, _, uid), why): (&(MailboxName, UidValidity, Uid), &String)| format!("{name} UID {uid}: {why}");
    Ok(Merged { unreadable: run.unreadable.iter().map(said).collect(), settled })
}

/// What a merge would do. Nothing is written anywhere.
///
/// # Errors
/// [`Stop`]
pub async fn foretell(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    filter: &Filter,
) -> Result<Foretold, Stop> {
    known_again(platform, job, readers).await?;
    let mut run = Run::new(platform, job, readers, filter);
    let known = known(platform, job).await?;
    let Lists { old, new, tree, names } = run.lists(&known).await?;
    let mut mailboxes = Vec::new();
    for name in names {
        let there = tree.get(&name).copied();
        let looked = match run.look(&name, (&old, &new), there, &known).await? {
            Some(looked) => looked,
            None => continue,
        };
        mailboxes.push((name, Fate::Steps(steps(&looked))));
    }
    let seen: BTreeSet<MailboxName> = mailboxes.iter().map(|(name, _)| name.clone()).collect();
    for (name, listed) in old.mailboxes.iter().filter(|(name, listed)| listed.selectable && !seen.contains(*name)) {
        let messages = listed.status.map(|status| status.messages).unwrap_or_default();
        mailboxes.push((name.clone(), Fate::LeftOut(messages)));
    }
    Ok(Foretold { user: job.user.to_string(), mailboxes })
}

fn steps(looked: &Looked) -> Steps {
    let mut steps = Steps::default();
    if let Some((live, source)) = looked.live.as_ref().zip(looked.source.as_ref()) {
        let saved = live.plan.save.iter().filter_map(|(at, _)| source.messages.get(*at));
        steps.copy = live.plan.save.len() as u64;
        steps.octets = saved.map(|message| message.size).sum();
        steps.left_out = live.plan.left_out;
        steps.there = source.messages.len() as u64 - steps.copy - steps.left_out;
    }
    for MergePlan { flags, expunge, .. } in looked.all().map(|known| &known.plan) {
        steps.flags += flags.len() as u64;
        steps.delete += expunge.len() as u64;
    }
    steps
}

/// What was merged of a user, and what a copy has written that a merge goes on from.
async fn known(platform: &Platform, job: &Job) -> Result<Vec<MergedMailbox>, Stop> {
    let user = job.user.as_str();
    let mut known = platform.store.merged_mailboxes(user).await?;
    for record in platform.store.mailboxes(user).await? {
        if known.iter().all(|merged| merged.seed != record.guid)
            && known.iter().all(|merged| merged.name != record.name)
        {
            known.push(MergedMailbox {
                seed: record.guid,
                name: record.name,
                uid_validity: record.uid_validity,
                target_uid_validity: Some(record.uid_validity),
                made: true,
            });
        }
    }
    Ok(known)
}

/// Whether what a copy has written has GUIDs by which a merge knows it again, and not those of other mailboxes' messages.
async fn known_again(platform: &Platform, job: &Job, readers: &mut Readers) -> Result<(), Stop> {
    let records = platform.store.mailboxes(job.user.as_str()).await?;
    if records.is_empty() || !readers.old.has_labels() {
        return Ok(());
    }
    let (old, new) = (readers.old.account().await?, readers.new.account().await?);
    for record in records {
        let (Some(source), Some(target)) = (old.mailboxes.get(&record.name), new.mailboxes.get(&record.name)) else {
            continue;
        };
        let is_it = |listed: &Listed| listed.status.is_some_and(|status| status.uid_validity == record.uid_validity);
        if !is_it(source) || !is_it(target) {
            continue;
        }
        let uids: Vec<Uid> = readers.new.contents(target).await?.messages.iter().map(|message| message.uid).collect();
        let Some((&first, &last)) = uids.first().zip(uids.last()) else { continue };
        let guids = readers.new.guids(target, record.uid_validity, &uids).await?;
        let numbers = readers.old.gm_msgids(source, record.uid_validity, first..=last).await?;
        if numbers.iter().any(|(uid, number)| guids.get(&shared_guid(*number)) == Some(uid)) {
            return Err(Stop::Refused(
                "the account was copied with `new.virtual_all`: its messages have the same GUIDs in several mailboxes, by which a \
                 merge can't know them again. It can be copied without `--mode merge` only"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// Remembers what a copy has written as merged: its messages have the same GUIDs.
async fn adopt(platform: &Platform, job: &Job) -> Result<(), Stop> {
    let user = job.user.as_str();
    let known = known(platform, job).await?;
    platform.store.put_merged_mailboxes(user, known).await?;
    for record in platform.store.mailboxes(user).await? {
        platform.store.delete_mailbox(user, &record.name).await?;
    }
    Ok(())
}

/// Ends a merge whose mail is gone from the new side, so that the account can be copied as any other.
///
/// # Errors
/// [`Stop::Refused`] with what to do, as long as there is anything.
pub async fn undo(platform: &Platform, job: &Job, readers: &mut Readers) -> Result<(), Stop> {
    let old = readers.old.account().await?;
    let new = readers.new.account().await?;
    if let Err(Stop::Refused(why)) = preflight::check(&old, &new, &BTreeMap::new()) {
        return Err(Stop::Refused(format!(
            "the account is merged with mail of the new side's own, so it can't become what the old side is: go on with `--mode \
             merge`; or, to undo the merge, save what is the new side's own, run `{}` on the new host, which deletes all mail of \
             the account there, and then run this again ({why})",
            emptying_command(&platform.name_on_new(&job.login))
        )));
    }
    Ok(platform.store.forget_merge(job.user.as_str()).await?)
}

impl<'a> Run<'a> {
    fn new(platform: &'a Platform, job: &'a Job, readers: &'a mut Readers, filter: &'a Filter) -> Self {
        let (unreadable, vanished) = (BTreeMap::new(), BTreeSet::new());
        Self { platform, job, readers, filter, unreadable, vanished, now: now() }
    }

    async fn lists(&mut self, known: &[MergedMailbox]) -> Result<Lists, Stop> {
        let mut old = self.readers.old.account().await?;
        let new = self.readers.new.account().await?;
        filter_by_use(self.readers, &old, self.filter)?;
        filter_by_labels(self.readers, &old, self.filter)?;
        preflight::names_fit(&old, self.filter)?;
        let mut narrowed = old.clone();
        self.filter.narrow(&mut narrowed, &new, |_| true);
        old.subscriptions = narrowed.subscriptions;
        let wanted =
            old.mailboxes.iter().filter(|(name, listed)| listed.selectable && self.filter.takes_mailbox(name, listed));
        let names: BTreeSet<&MailboxName> =
            wanted.map(|(name, _)| name).chain(known.iter().map(|merged| &merged.name)).collect();
        let mut names: Vec<MailboxName> = names.into_iter().cloned().collect();
        names.sort_by_key(|name| !name.is_inbox());
        let tree = self.tree().await?;
        Ok(Lists { old, new, tree, names })
    }

    /// Goes through everything once. False if there was nothing to do.
    async fn pass(&mut self) -> Result<bool, Stop> {
        let known = self.platform.store.merged_mailboxes(self.job.user.as_str()).await?;
        let mut lists = self.lists(&known).await?;
        self.measure(&lists.old);
        let mut changed = false;
        for name in std::mem::take(&mut lists.names) {
            changed |= self.mailbox(&name, &mut lists).await?;
        }
        Ok(changed | self.subscribe(&lists).await?)
    }

    /// Brings one mailbox to where a look at it finds nothing to do. False if the first one did.
    async fn mailbox(&mut self, name: &MailboxName, lists: &mut Lists) -> Result<bool, Stop> {
        let user = self.job.user.as_str();
        let mut last = None;
        for looks in 0..LOOKS_MAX {
            let known = self.platform.store.merged_mailboxes(user).await?;
            let there = lists.tree.get(name).copied();
            let Some(looked) = self.look(name, (&lists.old, &lists.new), there, &known).await? else {
                return Ok(looks > 0);
            };
            looked.remember(self.platform, self.job).await?;
            if looked.is_idle() {
                let ended = self.end(name, &looked, lists).await?;
                return Ok(ended || looks > 0);
            }
            let steps = looked.steps();
            if last.as_ref() == Some(&steps) {
                return Err(Stop::Later(format!(
                    "mailbox `{name}` is not on the new side as it was written: {} messages missing, {} with other flags, {} too \
                     many",
                    steps.0, steps.1, steps.2
                )));
            }
            crate::fault::point("merge-write").await;
            info!(user, mailbox = %name, add = steps.0, flags = steps.1, expunge = steps.2, "merging");
            last = self.write(name, &looked, lists).await?.then_some(steps);
            crate::fault::point("merge-written").await;
        }
        Err(Stop::Later(format!("mailbox `{name}`: messages vanished or could not be read {LOOKS_MAX} times")))
    }

    /// Takes away what is left of mailboxes that went from the old side. False if there is nothing.
    async fn end(&mut self, name: &MailboxName, looked: &Looked, lists: &mut Lists) -> Result<bool, Stop> {
        for gone in &looked.gone {
            let ours = lists.tree.get(name).is_some_and(|there| there.guid == gone.mailbox.seed);
            let empty = looked.target.as_ref().is_some_and(|target| target.messages.is_empty());
            if gone.mailbox.made && ours && empty && looked.live.is_none() && !name.is_inbox() {
                self.delete(name, lists).await?;
            }
            self.platform.store.drop_merged_mailbox(self.job.user.as_str(), gone.mailbox.seed).await?;
        }
        Ok(!looked.gone.is_empty())
    }

    fn measure(&self, old: &Account) {
        let selectable = || old.mailboxes.values().filter(|listed| listed.selectable);
        self.job.progress.update(|progress| {
            progress.mailboxes = selectable().count() as u64;
            progress.messages_total =
                selectable().filter_map(|listed| listed.status).map(|status| status.messages).sum();
        });
    }
}
