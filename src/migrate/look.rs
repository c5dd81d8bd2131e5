//! What both sides of a mailbox look like, read at a cost that grows with what changed since they were proved equal.
//!
//! Three ways, the cheapest that is sure: by mod-sequences, only what changed on the old side is listed, and only that on
//! the new side; without them, the flags of all messages on both sides; in full, where nothing is known, where something
//! else may have touched the new side, or where the answers don't add up.

use super::Readers;
use crate::mailbox::diff::{self, MailboxPlan};
use crate::mailbox::{Contents, Listed, ModSeq, Status, Uid};
use crate::source::{Changes, Left, ReadError, Reader, Seen};
use crate::store::MailboxRecord;

/// What was proved equal, if only the old side can have changed since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The old side: what was there is what the new side has; flags that changed since have a higher mod-sequence.
    old: Seen,
    /// The new side, which is still so.
    new: Seen,
    /// Nothing but flags can have changed on the old side, and they leave no trace in STATUS there.
    quiet: bool,
}

impl Known {
    /// Compares what was seen with what STATUS says now.
    #[must_use]
    pub(super) fn of(record: &MailboxRecord, old: Option<Status>, new: Option<Status>) -> Option<Self> {
        let new = new.filter(|new| record.new_seen.as_deref() == Some(new.to_string().as_str()))?;
        let seen = Status::stored(record.old_seen.as_deref()?)?;
        let (old, uid_validity) = (old?, record.uid_validity);
        if [seen.uid_validity, new.uid_validity, old.uid_validity].iter().any(|one| *one != uid_validity) {
            return None;
        }
        let (uid_next, messages) = (new.uid_next, new.messages);
        Some(Self {
            // Not the UIDNEXT and count of the old side's STATUS: it was asked before the messages were listed.
            old: Seen { uid_validity, uid_next, messages, highest_modseq: seen.highest_modseq },
            new: Seen { uid_validity, uid_next, messages, highest_modseq: new.highest_modseq },
            quiet: old.highest_modseq.is_none() && (old.uid_next, old.messages) == (uid_next, messages),
        })
    }

    /// Whether [`unchanged`] can tell.
    #[must_use]
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Messages that there were.
    #[must_use]
    pub(super) const fn messages(&self) -> u64 {
        self.new.messages
    }
}

/// Whether the flags of [quiet](Known::is_quiet) mailboxes are the same on both sides, asked for all of them at once. One that
/// is not has to be looked at on its own.
///
/// # Errors
/// If a side can't be read.
pub(super) async fn unchanged(
    readers: &mut Readers,
    quiet: &[(&Listed, Listed, Known)],
) -> Result<Vec<bool>, ReadError> {
    let old: Vec<_> = quiet.iter().map(|(listed, _, known)| (*listed, known.old)).collect();
    let new: Vec<_> = quiet.iter().map(|(_, target, known)| (target, known.new)).collect();
    let (old, new) = tokio::join!(readers.old.flags_of(&old), readers.new.flags_of(&new));
    let same = |(old, new): (Option<Contents>, Option<Contents>)| {
        old.zip(new).is_some_and(|(old, new)| diff::plan(&old, &new).is_ok_and(|plan| plan.is_empty()))
    };
    Ok(old?.into_iter().zip(new?).map(same).collect())
}

/// Both sides of a mailbox, or what is of interest in them.
#[derive(Debug)]
pub(super) struct Sides {
    /// The old side.
    pub(super) source: Contents,
    /// The new side.
    pub(super) before: Contents,
    /// Messages on the old side.
    pub(super) total: u32,
    /// Every message of both sides is here with all that is known of it.
    pub(super) whole: bool,
}

impl Sides {
    /// Both sides in full.
    pub(super) fn whole(source: Contents, before: Contents) -> Self {
        let total = u32::try_from(source.messages.len()).unwrap_or(u32::MAX);
        Self { source, before, total, whole: true }
    }

    /// What there is to do, and what both sides look like, if `known` is enough to tell. `None`: look in full.
    ///
    /// # Errors
    /// If a side can't be read.
    pub(super) async fn since(
        readers: &mut Readers,
        (listed, target): (&Listed, &Listed),
        known: &Known,
    ) -> Result<Option<(Self, MailboxPlan)>, ReadError> {
        let sides = if known.old.highest_modseq.is_some() && readers.old.has_modseq() {
            match readers.old.changes(listed, &known.old).await? {
                Some(changes) => Self::changed(&mut readers.new, target, known, changes).await?,
                None => None,
            }
        } else {
            Self::flags(readers, (listed, target), known).await?
        };
        // What can't be planned on a part may be plain to see in the whole.
        Ok(sides.and_then(|sides| diff::plan(&sides.source, &sides.before).ok().map(|plan| (sides, plan))))
    }

    /// The new side of what changed.
    async fn changed(
        new: &mut Reader,
        target: &Listed,
        known: &Known,
        changes: Changes,
    ) -> Result<Option<Self>, ReadError> {
        let Changes { contents: source, total, left } = changes;
        let (mut gone, told) = (Vec::new(), !matches!(left, Left::Only(_)));
        let mut concerned: Vec<Uid> = match left {
            Left::Only(left) => {
                let Some(there) = new.uids(target, &known.new).await? else { return Ok(None) };
                // A message that the new side never had is no expunge, and can't be added any more.
                if left.iter().any(|uid| there.binary_search(uid).is_err()) {
                    return Ok(None);
                }
                there.into_iter().filter(|uid| left.binary_search(uid).is_err()).collect()
            }
            Left::Without(these) => {
                gone.clone_from(&these);
                these.into_iter().filter(|uid| uid.0 < known.new.uid_next.0).collect()
            }
            Left::All => Vec::new(),
        };
        let arrived = source.messages.iter().filter(|message| message.uid.0 >= known.new.uid_next.0).count();
        concerned.extend(source.messages.iter().map(|message| message.uid).filter(|uid| uid.0 < known.new.uid_next.0));
        concerned.sort_unstable();
        concerned.dedup();
        let before = if concerned.is_empty() {
            Some(nothing_of(&known.new))
        } else {
            new.some(target, &known.new, &concerned).await?
        };
        let Some(before) = before else { return Ok(None) };
        // What is there, what came and what went must add up.
        let went = before.messages.iter().filter(|message| gone.binary_search(&message.uid).is_ok()).count();
        let adds_up = (known.new.messages + arrived as u64).checked_sub(went as u64) == Some(u64::from(total));
        if told && !adds_up {
            return Ok(None);
        }
        Ok(Some(Self { source, before, total, whole: false }))
    }

    /// All flags of both sides.
    async fn flags(
        readers: &mut Readers,
        (listed, target): (&Listed, &Listed),
        known: &Known,
    ) -> Result<Option<Self>, ReadError> {
        let (source, before) =
            tokio::join!(readers.old.flags(listed, &known.old), readers.new.flags(target, &known.new));
        let (Some(source), Some(before)) = (source?, before?) else { return Ok(None) };
        if before.uid_next != known.new.uid_next {
            return Ok(None);
        }
        let total = u32::try_from(source.messages.len()).unwrap_or(u32::MAX);
        Ok(Some(Self { source, before, total, whole: false }))
    }

    /// Reads the new side back after `plan` was carried out: what is still to be done, if anything, and its STATUS.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) async fn read_back(
        &self,
        new: &mut Reader,
        target: &Listed,
        plan: &MailboxPlan,
    ) -> Result<(Status, Result<MailboxPlan, String>), ReadError> {
        new.revive().await?;
        new.close().await?;
        let status = new.status(target).await?;
        if self.whole {
            let after = new.contents(target).await?;
            new.close().await?;
            return Ok((status, diff::plan(&self.source, &after).map_err(|spoilt| spoilt.to_string())));
        }
        let mut touched: Vec<Uid> = plan.flags.iter().map(|change| change.uid).collect();
        touched.extend(plan.save.iter().filter_map(|&at| self.source.messages.get(at)).map(|message| message.uid));
        touched.sort_unstable();
        let seen = Seen::from(status);
        let after =
            if touched.is_empty() { Some(nothing_of(&seen)) } else { new.some(target, &seen, &touched).await? };
        new.close().await?;
        let left = match after {
            None => Err("it changed while it was read back".to_owned()),
            // Expunges show in the count: what was touched is looked at one by one, and the rest was not touched.
            Some(_) if status.messages != u64::from(self.total) => {
                Err(format!("it has {} messages and not {}", status.messages, self.total))
            }
            Some(after) => {
                let mut source = self.source.clone();
                source.messages.retain(|message| touched.binary_search(&message.uid).is_ok());
                diff::plan(&source, &after).map_err(|spoilt| spoilt.to_string())
            }
        };
        Ok((status, left))
    }
}

/// A side of which no message matters.
fn nothing_of(seen: &Seen) -> Contents {
    let Seen { uid_validity, uid_next, highest_modseq, .. } = *seen;
    Contents {
        uid_validity,
        uid_next,
        highest_modseq: highest_modseq.filter(|modseq| *modseq > ModSeq(0)),
        messages: Vec::new(),
    }
}
