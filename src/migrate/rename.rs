//! A mailbox that was renamed on the old side is renamed on the new one, too, instead of being copied again.
//!
//! One at a time, each to a name that is free: so at most two records tell of a mailbox, its old name's and its new
//! one's, both written before the target hears of it. Whatever interrupts us, the new side's list says which of the two
//! is true. Nothing depends on a rename being right: what is under the new name is compared in full afterwards.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use super::plan::{Records, SUBSCRIPTION_LEAD, namespaces, tree};
use super::write::Writer;
use super::{Readers, Stop};
use crate::mailbox::{Account, Contents, Guid, Listed, MailboxName, Status};
use crate::source::ReadError;
use crate::store::MailboxRecord;
use crate::target::dsync::{Mode, Node, NodeMailbox, Opening};

/// Added to now for a rename: dsync lets the newer of two changes win, and the target's clock may be ahead of ours. Less
/// than what is added for a deletion.
const RENAME_LEAD: i64 = 12 * 60 * 60;

/// A mailbox that has another name on the old side than on the new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rename {
    /// What we called it.
    pub(super) from: MailboxName,
    /// What it is called now.
    pub(super) to: MailboxName,
}

fn status(account: &Account, name: &MailboxName) -> Option<Status> {
    account.mailboxes.get(name).filter(|listed| listed.selectable).and_then(|listed| listed.status)
}

/// Records that a rename left behind: of those that tell of one mailbox, all but the one that the new side agrees with.
#[must_use]
pub(super) fn left_behind(new: &Account, records: &Records) -> Vec<MailboxName> {
    let mut by_guid: BTreeMap<Guid, Vec<&MailboxRecord>> = BTreeMap::new();
    for record in records.values() {
        by_guid.entry(record.guid).or_default().push(record);
    }
    let there = |record: &MailboxRecord| status(new, &record.name).map(|status| status.uid_validity);
    let twins = by_guid.into_values().filter(|twins| twins.len() > 1);
    twins
        .flat_map(|twins| {
            let (right, wrong): (Vec<_>, Vec<_>) =
                twins.into_iter().partition(|record| there(record) == Some(record.uid_validity));
            // If both could be it, neither is sure to be: a record must never name a mailbox that is another's.
            if right.len() == 1 { wrong } else { [right, wrong].concat() }
        })
        .map(|record| record.name.clone())
        .collect()
}

/// Mailboxes of ours that went from their name, each with the only name on the old side that it can have now.
#[must_use]
pub(super) fn found(old: &Account, new: &Account, records: &Records) -> Vec<Rename> {
    let mut renames: Vec<Rename> = Vec::new();
    for (from, record) in records.iter().filter(|(name, _)| !name.is_inbox()) {
        let Some(there) = status(new, from) else { continue };
        let ours = there.uid_validity == record.uid_validity && record.new_seen.as_deref() == Some(&there.to_string());
        let stays = status(old, from).is_some_and(|status| status.uid_validity == record.uid_validity);
        if !ours || stays || there.messages == 0 {
            continue;
        }
        let mut candidates = old.mailboxes.keys().filter(|name| !name.is_inbox()).filter(|name| {
            let known = records.get(name).is_some_and(|known| known.uid_validity == record.uid_validity);
            let same = |status: Status| status.uid_validity == record.uid_validity && status.uid_next >= there.uid_next;
            !known && status(old, name).is_some_and(same)
        });
        if let (Some(to), None) = (candidates.next(), candidates.next()) {
            renames.push(Rename { from: from.clone(), to: to.clone() });
        }
    }
    let mut wanted: BTreeMap<MailboxName, u32> = BTreeMap::new();
    for rename in &renames {
        *wanted.entry(rename.to.clone()).or_default() += 1;
    }
    renames.retain(|rename| wanted.get(&rename.to) == Some(&1));
    renames
}

/// What can be done about renames in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// To names that are free.
    pub(super) renames: Vec<Rename>,
    /// In the way, and gone from the old side.
    delete: Vec<MailboxName>,
}

impl Step {
    /// Renames to free names; else what is in their way goes first; else, in a ring of names, one steps aside.
    #[must_use]
    pub(super) fn of(renames: &[Rename], new: &Account, records: &Records) -> Self {
        let free = |name: &MailboxName| !new.mailboxes.contains_key(name);
        let goes = |name: &MailboxName| renames.iter().any(|rename| rename.from == *name);
        let possible: Vec<Rename> = renames.iter().filter(|rename| free(&rename.to)).cloned().collect();
        if !possible.is_empty() {
            return Self { renames: possible, delete: Vec::new() };
        }
        let ours = |name: &MailboxName| {
            let there = status(new, name);
            let record = records.get(name);
            let left = record.and_then(|record| record.new_seen.as_deref());
            there.zip(left).is_some_and(|(there, left)| there.to_string() == left)
        };
        let delete: Vec<MailboxName> =
            renames.iter().map(|rename| &rename.to).filter(|to| !goes(to) && ours(to)).cloned().collect();
        if !delete.is_empty() {
            return Self { renames: Vec::new(), delete };
        }
        let aside = renames.iter().find(|rename| goes(&rename.to)).and_then(|rename| aside(rename, records));
        Self { renames: aside.into_iter().collect(), delete: Vec::new() }
    }

    /// Whether nothing can be done.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.renames.is_empty() && self.delete.is_empty()
    }
}

/// To a name that nobody else has.
fn aside(rename: &Rename, records: &Records) -> Option<Rename> {
    let guid = records.get(&rename.from)?.guid;
    let mut parts = rename.from.parent().map(|parent| parent.parts().to_vec()).unwrap_or_default();
    parts.push(format!("mailferry-{guid}"));
    let to = MailboxName::from_parts(parts).ok()?;
    Some(Rename { from: rename.from.clone(), to })
}

/// Whether the mailbox that we called `from` and the one that is called `to` now have the same messages, as far as both
/// have them. In doubt they have not.
///
/// # Errors
/// If a side can't be read.
pub(super) async fn agree(readers: &mut Readers, (to, from): (&Listed, &Listed)) -> Result<bool, Stop> {
    let (source, copy) = match (readers.old.contents(to).await, readers.new.contents(from).await) {
        (Err(ReadError::Gone { .. } | ReadError::Mailbox { .. }), _) => return Ok(false),
        (_, Err(ReadError::Gone { .. } | ReadError::Mailbox { .. })) => return Ok(false),
        (source, copy) => (source?, copy?),
    };
    readers.old.close().await?;
    readers.new.close().await?;
    Ok(same_messages(&source, &copy))
}

fn same_messages(source: &Contents, copy: &Contents) -> bool {
    let mut common = 0_usize;
    for message in &copy.messages {
        let Ok(at) = source.messages.binary_search_by_key(&message.uid, |candidate| candidate.uid) else { continue };
        let same = source.messages.get(at).is_some_and(|candidate| {
            candidate.internal_date == message.internal_date && candidate.size == message.size
        });
        if !same {
            return false;
        }
        common += 1;
    }
    common > 0 && source.uid_validity == copy.uid_validity
}

impl Writer<'_> {
    /// Carries out one step.
    ///
    /// # Errors
    /// If the target or the store refuses.
    pub(super) async fn rename(&mut self, step: &Step) -> Result<(), Stop> {
        self.readers.new.close().await?;
        self.delete_ours(&step.delete).await?;
        if step.renames.is_empty() {
            return Ok(());
        }
        let mut renamed = Vec::new();
        let mut nodes = Vec::new();
        for Rename { from, to } in &step.renames {
            let Some((record, there)) = self.records.remove(from).zip(status(self.new, from)) else { continue };
            info!(user = %self.job.user, %from, %to, "a mailbox is renamed on the new side");
            // Each rename of a mailbox must be newer than the one before.
            let created_at = (self.now + RENAME_LEAD).max(record.created_at + 1);
            let record = MailboxRecord { name: to.clone(), created_at, old_seen: None, ..record };
            let (guid, uid_validity, uid_next) = (record.guid, record.uid_validity, there.uid_next);
            nodes.push(Node {
                name: to.clone(),
                mailbox: Some(NodeMailbox { guid, uid_validity, uid_next }),
                changed_at: u64::try_from(created_at).unwrap_or_default(),
                subscribed: self.old.subscriptions.contains(to),
                subscription_changed_at: u64::try_from(self.now).unwrap_or_default() + SUBSCRIPTION_LEAD,
            });
            renamed.push(record);
        }
        self.platform.store.put_mailboxes(self.job.user.as_str(), renamed.clone()).await?;
        self.records.extend(renamed.into_iter().map(|record| (record.name.clone(), record)));
        let from: BTreeSet<&MailboxName> = step.renames.iter().map(|rename| &rename.from).collect();
        let mut others = tree(self.old, self.new, self.records, self.now);
        others.retain(|node| !from.contains(&node.name) && nodes.iter().all(|renamed| renamed.name != node.name));
        nodes.extend(others);
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let opening = Opening {
            mode: Mode::State,
            states: Vec::new(),
            namespaces: namespaces(self.new),
            nodes,
            delete: Vec::new(),
            delete_folders: Vec::new(),
            virtual_all: None,
        };
        Ok(self.platform.open_target(&self.job.login, opening).await?.finish().await?)
    }
}
