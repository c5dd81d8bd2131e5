//! A look at one mailbox of a merge: what both sides have, which message is which, and what there is to do.

use std::collections::BTreeSet;

use super::Run;
use crate::mailbox::merge::headers::{self, HeaderKey};
use crate::mailbox::merge::{self, MergePlan, Pair};
use crate::mailbox::{Account, Contents, Guid, Listed, MailboxName, Message, Uid, UidNext};
use crate::migrate::plan::on_new_side;
use crate::migrate::write::guid_of;
use crate::migrate::{Job, Platform, Stop};
use crate::source::{ReadError, Reader};
use crate::store::MergedMailbox;
use crate::target::dsync::NodeMailbox;

/// What is known of a mailbox of the old side, and what there is to do about it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) mailbox: MergedMailbox,
    pub(super) plan: MergePlan,
    /// Pairs that this look has found.
    found: Vec<Pair>,
}

/// One mailbox on both sides.
#[derive(Debug)]
pub(super) struct Looked {
    /// The old side.
    pub(super) source: Option<Contents>,
    /// The new side.
    pub(super) target: Option<Contents>,
    /// The mailbox that the old side has under this name.
    pub(super) live: Option<Known>,
    /// Mailboxes that it had, whose mail goes.
    pub(super) gone: Vec<Known>,
    /// What can't be true any more: the new side has another mailbox under this name now.
    void: Vec<Guid>,
    /// The live mailbox is not in the store as it is here.
    fresh: bool,
}

impl Looked {
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.live.iter().chain(&self.gone)
    }

    pub(super) fn is_idle(&self) -> bool {
        let made = self.live.as_ref().is_none_or(|_| self.target.is_some());
        made && self.all().all(|known| known.plan.is_idle())
    }

    /// Messages to add, to change and to expunge.
    pub(super) fn steps(&self) -> (usize, usize, usize) {
        self.all().map(|known| &known.plan).fold((0, 0, 0), |(save, flags, expunge), plan| {
            (save + plan.save.len(), flags + plan.flags.len(), expunge + plan.expunge.len())
        })
    }

    /// Remembers what was found, durably, before anything is written.
    pub(super) async fn remember(&self, platform: &Platform, job: &Job) -> Result<(), Stop> {
        let user = job.user.as_str();
        for seed in &self.void {
            platform.store.drop_merged_mailbox(user, *seed).await?;
        }
        if let Some(live) = self.live.as_ref().filter(|_| self.fresh) {
            platform.store.put_merged_mailboxes(user, vec![live.mailbox.clone()]).await?;
        }
        for Known { mailbox, plan, found } in self.all() {
            let put: Vec<Pair> = found.iter().chain(&plan.put).cloned().collect();
            if !put.is_empty() || !plan.forget.is_empty() {
                platform.store.put_pairs(user, mailbox.seed, put, plan.forget.clone()).await?;
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Looks at one mailbox. None if there is nothing to be merged, and never was.
    pub(super) async fn look(
        &mut self,
        name: &MailboxName,
        (old, new): (&Account, &Account),
        there: Option<NodeMailbox>,
        known: &[MergedMailbox],
    ) -> Result<Option<Looked>, Stop> {
        let listed = old.mailboxes.get(name).filter(|listed| listed.selectable);
        let taken = listed.is_some_and(|listed| self.filter.takes_mailbox(name, listed));
        let of_name: Vec<&MergedMailbox> = known.iter().filter(|merged| merged.name == *name).collect();
        if of_name.is_empty() && !taken {
            return Ok(None);
        }
        self.readers.old.revive().await?;
        self.readers.new.revive().await?;
        let source = match listed {
            Some(listed) => match self.readers.old.contents(listed).await {
                // It was deleted or renamed a moment ago: the next pass lists what there is now.
                Err(ReadError::Gone { .. }) => return Ok(None),
                source => Some(source?),
            },
            None => None,
        };
        let at = on_new_side(name, new);
        let target = match there {
            Some(_) => Some(self.readers.new.contents(&at).await?),
            None => None,
        };
        let there = target.as_ref().map(|target| target.uid_validity);
        // A mailbox that the new side has lost, or has anew: what we knew of it is worth nothing.
        let lost = |merged: &MergedMailbox| merged.target_uid_validity.is_some() && merged.target_uid_validity != there;
        let (void, of_name): (Vec<_>, Vec<_>) = of_name.into_iter().partition(|merged| lost(merged));
        let is_live =
            |merged: &MergedMailbox| source.as_ref().is_some_and(|source| source.uid_validity == merged.uid_validity);
        let (live, gone): (Vec<_>, Vec<_>) = of_name.into_iter().partition(|merged| is_live(merged));
        let fresh = source.as_ref().filter(|_| taken).map(|source| MergedMailbox {
            seed: Guid(rand::random()),
            name: name.clone(),
            uid_validity: source.uid_validity,
            target_uid_validity: None,
            made: there.is_none(),
        });
        let live = live.first().map(|merged| (*merged).clone()).or(fresh);
        let live = live.map(|merged| MergedMailbox { target_uid_validity: there, ..merged });
        let stored = live.as_ref().is_none_or(|live| known.contains(live));
        let void = void.iter().map(|void| void.seed).collect();
        let mut looked = Looked { source, target, live: None, gone: Vec::new(), void, fresh: !stored };
        let mut paired: BTreeSet<Uid> = BTreeSet::new();
        for merged in gone {
            let pairs = self.platform.store.pairs(self.job.user.as_str(), merged.seed).await?;
            paired.extend(pairs.iter().map(|pair| pair.target_uid));
            let empty = nothing();
            let plan = merge::plan(&empty, looked.target.as_ref().unwrap_or(&empty), &pairs, |_| false);
            let plan = plan.unwrap_or_default();
            looked.gone.push(Known { mailbox: merged.clone(), plan, found: Vec::new() });
        }
        if let Some(mailbox) = live {
            let live = self.live(mailbox, listed, &at, (&looked.source, &looked.target), (paired, taken)).await?;
            looked.live = Some(live);
        }
        Ok(Some(looked))
    }

    /// What there is to do about the mailbox that the old side has.
    async fn live(
        &mut self,
        mailbox: MergedMailbox,
        listed: Option<&Listed>,
        at: &Listed,
        (source, target): (&Option<Contents>, &Option<Contents>),
        (mut paired, taken): (BTreeSet<Uid>, bool),
    ) -> Result<Known, Stop> {
        let empty = nothing();
        let (source, target) = (source.as_ref().unwrap_or(&empty), target.as_ref().unwrap_or(&empty));
        let mut pairs = self.platform.store.pairs(self.job.user.as_str(), mailbox.seed).await?;
        paired.extend(pairs.iter().map(|pair| pair.target_uid));
        let mut found = Vec::new();
        let fresh: Vec<&Message> = source
            .messages
            .iter()
            .filter(|message| pairs.binary_search_by_key(&message.uid, |pair| pair.uid).is_err())
            .collect();
        let others: Vec<&Message> = target.messages.iter().filter(|message| !paired.contains(&message.uid)).collect();
        if !fresh.is_empty() && !others.is_empty() {
            found = self.written(&mailbox, &fresh, at, (target, &others)).await?;
            let (here, there): (BTreeSet<Uid>, BTreeSet<Uid>) =
                found.iter().map(|pair: &Pair| (pair.uid, pair.target_uid)).unzip();
            let fresh: Vec<&Message> = fresh.into_iter().filter(|message| !here.contains(&message.uid)).collect();
            let others: Vec<&Message> = others.into_iter().filter(|message| !there.contains(&message.uid)).collect();
            if let Some(listed) = listed {
                found.extend(self.alike((listed, source, &fresh), (at, target, &others)).await?);
            }
            pairs.extend(found.iter().cloned());
            pairs.sort_by_key(|pair| pair.uid);
        }
        let (filter, unreadable) = (self.filter, &self.unreadable);
        let takes = |message: &Message| {
            let key = (mailbox.name.clone(), source.uid_validity, message.uid);
            taken && filter.takes(message) && !unreadable.contains_key(&key)
        };
        let plan = merge::plan(source, target, &pairs, takes).ok_or_else(|| {
            Stop::Refused(format!("mailbox `{}`: the new side has no UIDs left for more mail", mailbox.name))
        })?;
        Ok(Known { mailbox, plan, found })
    }

    /// Messages that we wrote, and could not remember any more.
    async fn written(
        &mut self,
        mailbox: &MergedMailbox,
        fresh: &[&Message],
        at: &Listed,
        (target, others): (&Contents, &[&Message]),
    ) -> Result<Vec<Pair>, Stop> {
        let uids: Vec<Uid> = others.iter().map(|message| message.uid).collect();
        let guids = self.readers.new.guids(at, target.uid_validity, &uids).await?;
        let pair = |message: &&Message| {
            let target_uid = *guids.get(&guid_of(mailbox.seed, mailbox.uid_validity, message.uid))?;
            let there = by_uid(others, target_uid)?;
            // It was given what it has.
            Some(Pair {
                uid: message.uid,
                target_uid,
                ours: true,
                flags: there.flags,
                keywords: there.keywords.fit().0,
            })
        };
        Ok(if guids.is_empty() { Vec::new() } else { fresh.iter().filter_map(pair).collect() })
    }

    /// Messages that the new side has got in another way, told by some lines of their headers.
    async fn alike(
        &mut self,
        (listed, source, fresh): (&Listed, &Contents, &[&Message]),
        (at, target, others): (&Listed, &Contents, &[&Message]),
    ) -> Result<Vec<Pair>, Stop> {
        let fields = &self.platform.config.migration.hashed_headers;
        if fields.is_empty() || fresh.is_empty() || others.is_empty() {
            return Ok(Vec::new());
        }
        let here = keys(&mut self.readers.old, (listed, source), fresh, fields).await?;
        let there = keys(&mut self.readers.new, (at, target), others, fields).await?;
        let pair = |(uid, target_uid): (Uid, Uid)| {
            let message = by_uid(fresh, uid)?;
            let (flags, keywords) = (message.flags, message.keywords.fit().0);
            Some(Pair { uid, target_uid, ours: false, flags, keywords })
        };
        Ok(headers::pair(&here, &there).into_iter().filter_map(pair).collect())
    }
}

/// A message of an ascending list.
fn by_uid<'a>(messages: &[&'a Message], uid: Uid) -> Option<&'a Message> {
    let at = messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
    messages.get(at).copied()
}

/// What the headers of messages say.
async fn keys<'a>(
    reader: &mut Reader,
    (listed, contents): (&Listed, &Contents),
    messages: &[&'a Message],
    fields: &[String],
) -> Result<Vec<(&'a Message, HeaderKey)>, ReadError> {
    let uids: Vec<Uid> = messages.iter().map(|message| message.uid).collect();
    let headers = reader.header_fields(listed, contents.uid_validity, &uids, fields).await?;
    let key = |message: &&'a Message| {
        let header = headers.get(&message.uid)?;
        Some((*message, HeaderKey::of(header, fields)?))
    };
    Ok(messages.iter().filter_map(key).collect())
}

fn nothing() -> Contents {
    Contents {
        uid_validity: crate::mailbox::UidValidity(0),
        uid_next: UidNext(1),
        highest_modseq: None,
        messages: Vec::new(),
    }
}
