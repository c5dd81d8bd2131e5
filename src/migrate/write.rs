//! Writes what a pass found into the target: one dsync session, mailbox after mailbox, each read back over IMAP at once,
//! because an empty result of dsync proves nothing (dsync reference §16b).

mod ahead;
mod bodies;
mod changes;
mod guids;
mod stops;

use tracing::info;

use super::look::Sides;
use super::plan::{Records, emptied, namespaces, on_new_side, tree};
use super::rebuild::inbox_command;
use super::uidl::{self, Uidls};
use super::{Job, Platform, Readers, Stop};
use crate::mailbox::diff::{self, MailboxPlan, Spoilt};
use crate::mailbox::{Account, Contents, Guid, Listed, MailboxName, ModSeq, Uid, UidNext, UidValidity};
use crate::source::ReadError;
use crate::store::{MailboxRecord, UnixSeconds};
use crate::target::dsync::{Deletion, FolderDeletion, MailboxHead, MailboxState, Mode, Opening, Session};
use bodies::Numbers;
use changes::changes;
use guids::Guids;
pub(super) use guids::{guid_of, shared_guid};
pub(super) use stops::Stops;

/// Added to now for a deletion: dsync lets the newer of two changes win, and the target's clock may be ahead of ours.
pub(super) const DELETION_LEAD: u64 = 24 * 60 * 60;

/// What a writing pass left undone.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Mailboxes whose target can't be mended by appending, and that were taken away to be made anew.
    pub(super) rebuild: Vec<MailboxName>,
    /// Mailboxes that were brought up to date and read back.
    pub(super) done: Vec<MailboxName>,
    /// A message vanished or could not be read in the middle: the pass ended early and must be run again.
    pub(super) interrupted: bool,
    /// Nothing had to be written.
    pub(super) idle: bool,
}

/// What is known of a mailbox before the target is opened.
#[derive(Debug, Default)]
struct Ahead {
    /// The target is as it was read back after our last write: everything in it is ours.
    untouched: bool,
    /// What there is to do.
    planned: Option<(Sides, MailboxPlan)>,
}

/// A pass that writes.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    /// The sides and the store.
    pub(super) platform: &'a Platform,
    /// The user.
    pub(super) job: &'a Job,
    /// Connections for reading.
    pub(super) readers: &'a mut Readers,
    /// The old side's list.
    pub(super) old: &'a Account,
    /// The new side's list.
    pub(super) new: &'a Account,
    /// What we wrote before.
    pub(super) records: &'a mut Records,
    /// Where mailboxes can't be read on.
    pub(super) stops: &'a mut Stops,
    /// Now.
    pub(super) now: UnixSeconds,
}

impl Writer<'_> {
    /// Gives every mailbox that is to be written a record, durably, before the target hears of its GUID.
    async fn record(&mut self, names: &[MailboxName]) -> Result<(), Stop> {
        let mut fresh = Vec::new();
        for name in names {
            let Some(status) = self.old.mailboxes.get(name).and_then(|listed| listed.status) else { continue };
            // A GUID that was deleted on the target can never come back there: what is missing there, or is another
            // mailbox by its UIDVALIDITY, gets a new one.
            let there =
                self.new.mailboxes.get(name).filter(|listed| listed.selectable).and_then(|listed| listed.status);
            let other =
                there.map(|there| there.uid_validity) != self.records.get(name).map(|record| record.uid_validity);
            if other || self.records.get(name).is_none_or(|record| record.uid_validity != status.uid_validity) {
                fresh.push(MailboxRecord {
                    name: name.clone(),
                    guid: Guid(rand::random()),
                    uid_validity: status.uid_validity,
                    created_at: self.now,
                    old_seen: None,
                    new_seen: None,
                });
            }
        }
        if !fresh.is_empty() {
            self.platform.store.put_mailboxes(self.job.user.as_str(), fresh.clone()).await?;
            self.records.extend(fresh.into_iter().map(|record| (record.name.clone(), record)));
        }
        Ok(())
    }

    /// Forgets, durably, what the new side's mailboxes looked like, before they are written: as long as it is
    /// remembered, a higher UIDNEXT there is mail that didn't come from us, and afterwards it may be our own.
    async fn forget_new_side(&mut self, names: &[&MailboxName]) -> Result<(), Stop> {
        let mut changed = Vec::new();
        for name in names {
            if let Some(record) = self.records.get_mut(name)
                && record.new_seen.take().is_some()
            {
                changed.push(record.clone());
            }
        }
        if !changed.is_empty() {
            self.platform.store.put_mailboxes(self.job.user.as_str(), changed).await?;
        }
        Ok(())
    }

    /// Takes mailboxes that we made away from the target, in a session of their own: in one session with their
    /// re-creation the two would be merged (dsync reference §16b).
    ///
    /// # Errors
    /// If the target refuses.
    pub(super) async fn delete_ours(&mut self, names: &[MailboxName]) -> Result<(), Stop> {
        if let Some(name) = names.iter().find(|name| !self.is_as_we_left_it(name)) {
            return Err(Stop::Refused(format!(
                "mailbox `{name}` must go on the new side as it did on the old side, but something else has written there \
                 since it was copied: save what it holds and delete it on the new side"
            )));
        }
        self.delete(names).await
    }

    /// Takes mailboxes away whose content was found to be ours.
    ///
    /// # Errors
    /// If the target refuses.
    pub(super) async fn delete(&mut self, names: &[MailboxName]) -> Result<(), Stop> {
        let at = u64::try_from(self.now).unwrap_or_default() + DELETION_LEAD;
        let delete: Vec<Deletion> = names
            .iter()
            .filter_map(|name| self.records.get(name))
            .map(|record| Deletion { guid: record.guid, at })
            .collect();
        if delete.is_empty() {
            return Ok(());
        }
        for name in names {
            self.records.remove(name);
        }
        let nodes = tree(self.old, self.new, self.records, self.now);
        let folder = |name| FolderDeletion { name, separator: self.new.separator.unwrap_or('/'), at };
        let delete_folders = emptied(names, self.old, self.new).into_iter().map(folder).collect();
        let opening = Opening {
            mode: Mode::State,
            states: Vec::new(),
            namespaces: namespaces(self.new),
            nodes,
            delete,
            delete_folders,
            virtual_all: None,
        };
        self.platform.open_target(&self.job.login, opening).await?.finish().await?;
        for name in names {
            self.platform.store.delete_mailbox(self.job.user.as_str(), name).await?;
        }
        Ok(())
    }

    /// Whether a mailbox on the target is as it was read back, so that everything in it is ours. One whose first copy was
    /// never finished has not been read back.
    fn is_as_we_left_it(&self, name: &MailboxName) -> bool {
        let seen = self.records.get(name).and_then(|record| record.new_seen.as_deref());
        let there = self.new.mailboxes.get(name).and_then(|listed| listed.status);
        seen.is_none_or(|seen| there.is_none_or(|there| there.messages == 0 || there.to_string() == seen))
    }

    /// Brings `look` on the target up to date.
    ///
    /// # Errors
    /// If a side fails; what was written stays and the next pass goes on from there.
    pub(super) async fn write(&mut self, look: &[MailboxName]) -> Result<Written, Stop> {
        let mut written = Written { rebuild: self.spoilt_by_recreation(look)?, ..Written::default() };
        let look: Vec<&MailboxName> = look.iter().filter(|name| !written.rebuild.contains(name)).collect();
        let mut ahead = self.look_ahead(&look, &mut written).await?;
        let mut look: Vec<&MailboxName> = look.into_iter().filter(|name| !written.done.contains(name)).collect();
        let (uidls, waiting) = self.uidls(&mut look).await?;
        for (name, ahead) in &mut ahead {
            // What has to wait for its UIDL is cut off when the mailbox is read in full.
            ahead.planned.take_if(|(sides, _)| uidls.cuts(name, &sides.source));
        }
        if look.is_empty() && written.rebuild.is_empty() && self.old.subscriptions == self.new.subscriptions {
            written.idle = true;
            return waiting.map_or(Ok(written), Err);
        }
        let postponed = self.inbox_first(&mut look, &uidls);
        self.record(&look.iter().map(|name| (*name).clone()).collect::<Vec<_>>()).await?;
        self.forget_new_side(&look).await?;
        let states: Vec<MailboxState> = look.iter().filter_map(|name| self.state(name)).collect();
        let mode = if states.is_empty() { Mode::Full } else { Mode::State };
        let nodes = tree(self.old, self.new, self.records, self.now);
        self.readers.new.close().await?;
        let virtual_all = self.platform.config.new.virtual_all.clone().filter(|_| self.shares());
        let (delete, delete_folders, namespaces) = (Vec::new(), Vec::new(), namespaces(self.new));
        let opening = Opening { mode, states, namespaces, nodes, delete, delete_folders, virtual_all };
        let mut session = self.platform.open_target(&self.job.login, opening).await?;
        if let Some(name) = look.iter().find(|name| self.overtaken(&session, name)) {
            // The slave of a run that was killed goes on with what it has in hand, and holds the account's lock until
            // then. Now the lock is ours: the next pass sees what that one left.
            info!(user = %self.job.user, mailbox = %name, "the new side changed under an earlier run: looking again");
            session.abort().await;
            written.interrupted = true;
            return Ok(written);
        }
        for name in look {
            match self.mailbox(&mut session, name, ahead.remove(name).unwrap_or_default(), &uidls).await {
                Ok(Outcome::Done) => written.done.push(name.clone()),
                Ok(Outcome::Gone) => {}
                Ok(Outcome::Rebuild) => written.rebuild.push(name.clone()),
                Ok(Outcome::Interrupted) => {
                    session.abort().await;
                    written.interrupted = true;
                    return Ok(written);
                }
                Err(stop) => {
                    session.abort().await;
                    return Err(stop);
                }
            }
        }
        session.finish().await?;
        written.interrupted |= postponed;
        waiting.map_or(Ok(written), Err)
    }

    /// Where messages of several mailboxes are to be stored once, INBOX is the first to have them: their POP3 UIDLs are stored with
    /// them. True if everything else has to wait for that.
    fn inbox_first(&self, look: &mut Vec<&MailboxName>, uidls: &Uidls) -> bool {
        if !self.shares() {
            return false;
        }
        look.sort_by_key(|name| !name.is_inbox());
        let alone = look.len() > 1 && look.first().is_some_and(|name| name.is_inbox());
        let alone = alone && uidls.are_stored() && self.has_inbox_alone();
        if alone {
            look.truncate(1);
        }
        alone
    }

    /// The UIDLs of INBOX, if it is to be written. If they can't be read now, INBOX is taken out of `look`, so that
    /// everything else can be written, and the reason is returned.
    async fn uidls(&mut self, look: &mut Vec<&MailboxName>) -> Result<(Uidls, Option<Stop>), Stop> {
        if !look.iter().any(|name| name.is_inbox()) {
            return Ok((Uidls::default(), None));
        }
        let filter = &self.stops.filter;
        match Box::pin(uidl::prepare(self.platform, self.job, self.readers, (self.old, self.new), filter)).await {
            Ok(uidls) => Ok((uidls, None)),
            Err(stop @ Stop::Later(_)) => {
                look.retain(|name| !name.is_inbox());
                Ok((Uidls::default(), Some(stop)))
            }
            Err(stop) => Err(stop),
        }
    }

    /// Whether the target is not as STATUS said it was: the session's states and plans would be wrong.
    fn overtaken(&self, session: &Session, name: &MailboxName) -> bool {
        let expected = self.new.mailboxes.get(name).and_then(|listed| listed.status);
        let expected = expected.map(|status| (status.uid_validity, status.uid_next));
        let found = session.remote_tree().iter().find(|node| node.name.as_ref() == Some(name));
        let found = found.and_then(|node| node.mailbox).map(|mailbox| (mailbox.uid_validity, mailbox.uid_next));
        // One that nobody has ever used may come and go.
        let used = |side: Option<(UidValidity, UidNext)>| side.filter(|(_, uid_next)| uid_next.0 > 1);
        used(expected) != used(found)
    }

    /// Mailboxes that were re-created on the old side since we copied them.
    fn spoilt_by_recreation(&self, look: &[MailboxName]) -> Result<Vec<MailboxName>, Stop> {
        let mut rebuild = Vec::new();
        for name in look {
            let old = self.old.mailboxes.get(name).and_then(|listed| listed.status);
            let new = self.new.mailboxes.get(name).and_then(|listed| listed.status);
            let Some((old, new)) = old.zip(new) else { continue };
            // One that never had mail takes the source's UIDVALIDITY; only a mailbox with a past can't.
            let ours = self.records.get(name).is_some_and(|record| record.uid_validity == new.uid_validity);
            if ours && new.uid_validity != old.uid_validity && new.uid_next.0 > 1 {
                let spoilt = Spoilt::UidValidity { old: old.uid_validity, new: new.uid_validity };
                if name.is_inbox() {
                    return Err(inbox_spoilt(&self.platform.name_on_new(&self.job.login), &spoilt));
                }
                if !self.is_as_we_left_it(name) {
                    return Err(Stop::Refused(format!(
                        "mailbox `{name}`: {spoilt}, and something else has written to it on the new side: save what it \
                         holds and delete it there"
                    )));
                }
                rebuild.push(name.clone());
            }
        }
        Ok(rebuild)
    }

    /// The dsync state of a mailbox that the target has with the source's UIDVALIDITY: nothing below its UIDNEXT is
    /// compared then, and every change is one that we send.
    fn state(&self, name: &MailboxName) -> Option<MailboxState> {
        let record = self.records.get(name)?;
        let status = self.new.mailboxes.get(name)?.status?;
        (status.uid_validity == record.uid_validity && status.uid_next.0 > 1).then_some(MailboxState {
            guid: record.guid,
            uid_validity: status.uid_validity,
            last_common_uid: status.uid_next.0 - 1,
            last_common_modseq: ModSeq(1),
            messages: u32::try_from(status.messages).unwrap_or(u32::MAX),
        })
    }

    async fn mailbox(
        &mut self,
        session: &mut Session,
        name: &MailboxName,
        ahead: Ahead,
        uidls: &Uidls,
    ) -> Result<Outcome, Stop> {
        let Some((listed, mut record)) = self.old.mailboxes.get(name).zip(self.records.get(name).cloned()) else {
            return Ok(Outcome::Done);
        };
        let target = on_new_side(name, self.new);
        let known = self.state(name);
        let (sides, plan) = match ahead.planned {
            Some(planned) => planned,
            None => match self.whole((name, &record), (listed, &target), ahead.untouched, uidls).await? {
                Ok(planned) => planned,
                Err(outcome) => return Ok(outcome),
            },
        };
        if !plan.is_empty() || known.is_none() {
            let guids = Guids::own(record.guid, sides.source.uid_validity);
            let mut sending =
                Sending { record: &record, sides: &sides, plan: &plan, fresh: known.is_none(), uidls, guids };
            let numbers = self.numbers(listed, &sending).await?;
            sending.guids = self.guids(&target, &sending, &numbers).await?;
            self.readers.new.close().await?;
            if !self.send(session, listed, &sending, &numbers).await? {
                return Ok(Outcome::Interrupted);
            }
            crate::fault::point("copy-mailbox").await;
            record.new_seen = Some(self.read_back(name, &target, &sides, &plan).await?);
            self.readers.copies.confirm(name, sides.source.uid_validity, known.is_none());
            if name.is_inbox() && known.is_some_and(|known| known.messages <= 1) {
                let saved = plan.save.iter().filter_map(|&at| sides.source.messages.get(at)).map(|message| message.uid);
                uidl::assert_kept(self.readers, uidls, saved).await?;
            }
        } else {
            // It was asked before the messages were listed, and they are as they shall be.
            record.new_seen = target.status.map(|status| status.to_string());
        }
        let first_part = name.is_inbox() && uidls.is_first_part();
        let part = self.stops.reached(name) || first_part || self.stops.filtered(name);
        record.old_seen = listed.status.filter(|_| !part).map(|status| status.to_string());
        self.platform.store.put_mailboxes(self.job.user.as_str(), vec![record.clone()]).await?;
        self.records.insert(name.clone(), record);
        Ok(Outcome::Done)
    }

    /// Both sides in full, and what there is to do; or how the mailbox ends without.
    async fn whole(
        &mut self,
        (name, record): (&MailboxName, &MailboxRecord),
        (listed, target): (&Listed, &Listed),
        untouched: bool,
        uidls: &Uidls,
    ) -> Result<Result<(Sides, MailboxPlan), Outcome>, Stop> {
        self.readers.old.revive().await?;
        let mut source = match self.readers.old.contents(listed).await {
            // The next pass lists what there is now.
            Err(ReadError::Gone { .. }) => return Ok(Err(Outcome::Gone)),
            source => source?,
        };
        if source.uid_validity != record.uid_validity {
            // Re-created a moment ago: the next pass sees it in STATUS.
            return Ok(Err(Outcome::Interrupted));
        }
        self.stops.cut(name, &mut source);
        uidls.cut(name, &mut source);
        let before = match self.state(name) {
            Some(_) => {
                self.readers.new.revive().await?;
                self.readers.new.contents(target).await?
            }
            None => nothing(source.uid_validity),
        };
        self.stops.filter.cut(&mut source, &before);
        match diff::plan(&source, &before) {
            Ok(plan) => Ok(Ok((Sides::whole(source, before), plan))),
            Err(spoilt) if name.is_inbox() => Err(inbox_spoilt(&self.platform.name_on_new(&self.job.login), &spoilt)),
            Err(Spoilt::Gap { .. }) if before.is_subset_of(&source) => Ok(Err(Outcome::Rebuild)),
            // Nothing but ours is there: it is the old side that has another mailbox under the same UIDVALIDITY now.
            Err(Spoilt::Gap { .. } | Spoilt::Other { .. }) if untouched => Ok(Err(Outcome::Rebuild)),
            Err(spoilt) => Err(Stop::Refused(format!("mailbox `{name}`: {spoilt}"))),
        }
    }

    /// Reads a mailbox back and looks for anything that is still to be done. Returns its STATUS.
    async fn read_back(
        &mut self,
        name: &MailboxName,
        target: &Listed,
        sides: &Sides,
        plan: &MailboxPlan,
    ) -> Result<String, Stop> {
        let (status, left) = sides.read_back(&mut self.readers.new, target, plan).await?;
        match left {
            Ok(left) if left.is_empty() => Ok(status.to_string()),
            Ok(left) => Err(Stop::Later(format!(
                "mailbox `{name}` is not on the new side as it was written: {} messages missing, {} too many, {} with \
                 other flags (first: {})",
                left.save.len(),
                left.expunge.len(),
                left.flags.len(),
                first_of(&left, &sides.source)
            ))),
            Err(why) => Err(Stop::Later(format!("mailbox `{name}` is not on the new side as it was written: {why}"))),
        }
    }

    /// Sends one mailbox. False if a message vanished or can't be read: the session must be aborted then.
    async fn send(
        &mut self,
        session: &mut Session,
        listed: &Listed,
        sending: &Sending<'_>,
        numbers: &Numbers,
    ) -> Result<bool, Stop> {
        let Sending { record, sides: Sides { source, before, total, .. }, plan, fresh, .. } = sending;
        let highest = source.highest_modseq.max(before.highest_modseq).unwrap_or(ModSeq(1));
        // Above everything the target has seen, or it would ignore a removed flag (dsync reference §13).
        let flags_modseq = ModSeq(highest.0 + 1);
        let there = session
            .begin_mailbox(MailboxHead {
                guid: record.guid,
                uid_validity: source.uid_validity,
                uid_next: source.uid_next,
                messages: *total,
                inflate: *fresh,
                first_recent_uid: source.uid_next.0,
                highest_modseq: if plan.flags.is_empty() { highest } else { flags_modseq },
            })
            .await?;
        if there.uid_next != before.uid_next && !(*fresh && there.uid_next.0 <= 1) {
            // Somebody wrote there since we looked: what we planned could collide.
            return Ok(false);
        }
        for change in changes(&sending.guids, source, plan, flags_modseq) {
            session.change(&change).await?;
        }
        session.end_changes().await?;
        if !self.bodies(session, listed, sending, numbers).await? {
            return Ok(false);
        }
        session
            .end_mailbox(MailboxState {
                guid: record.guid,
                uid_validity: source.uid_validity,
                last_common_uid: source.uid_next.0.saturating_sub(1),
                last_common_modseq: highest,
                messages: *total,
            })
            .await?;
        Ok(true)
    }
}

enum Outcome {
    Done,
    Rebuild,
    /// It was deleted or renamed under our hands.
    Gone,
    Interrupted,
}

#[derive(Debug)]
struct Sending<'a> {
    record: &'a MailboxRecord,
    sides: &'a Sides,
    plan: &'a MailboxPlan,
    /// The target has nothing of it yet.
    fresh: bool,
    /// The POP3 UIDLs of INBOX.
    uidls: &'a Uidls,
    guids: Guids,
}

impl Sending<'_> {
    /// What is to be written.
    fn saved(&self) -> Vec<Uid> {
        let messages = &self.sides.source.messages;
        self.plan.save.iter().filter_map(|&at| messages.get(at)).map(|message| message.uid).collect()
    }
}

fn nothing(uid_validity: UidValidity) -> Contents {
    Contents { uid_validity, uid_next: UidNext(1), highest_modseq: None, messages: Vec::new() }
}

fn first_of(left: &MailboxPlan, source: &Contents) -> String {
    let saved = left.save.first().and_then(|&at| source.messages.get(at)).map(|message| message.uid);
    let flagged = left.flags.first().map(|change| change.uid);
    let first = [saved, left.expunge.first().copied(), flagged].into_iter().flatten().min();
    first.map_or_else(|| "UIDNEXT or HIGHESTMODSEQ too low".to_owned(), |uid| format!("UID {uid}"))
}

fn inbox_spoilt(login: &str, spoilt: &Spoilt) -> Stop {
    Stop::Refused(format!(
        "mailbox `INBOX`: {spoilt}; INBOX is not made anew by itself: on the new host run `{}`, which deletes only our copy, \
         then run `mailferry resume {login}` here and let the user log in again",
        inbox_command(login)
    ))
}
