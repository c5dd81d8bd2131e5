//! What happened in a mailbox since it was last looked at, at a cost that grows with what happened.
//!
//! Nothing here is believed on its own: each answer must add up with the number of messages that EXAMINE tells, or the
//! mailbox is unclear and is listed in full. A server whose mod-sequences lie all the same is found out by the
//! verification before the switch, which lists everything.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;

use super::listing::Listing;
use super::{ImapReader, Opened, ReadError};
use crate::mailbox::{Contents, Listed, ModSeq, Status, Uid, UidNext, UidValidity};
use crate::net::imap::ImapError;
use crate::wire::imap::command::{self, UidRange};
use crate::wire::imap::scan::Response;

/// Messages of the largest mailbox whose UIDs are asked for by SEARCH: its answer is one line, and a line may have 1 MiB.
const SEARCH_MAX: u32 = 80_000;

/// Ranges of UIDs in one command, which stays far below the 8 KiB that every server takes.
const RANGES_MAX: usize = 200;

/// A mailbox as it was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// All messages below it are known, and no other can come there any more.
    pub uid_next: UidNext,
    /// How many of them there were.
    pub messages: u64,
    /// Flags that changed since have a higher mod-sequence; none if the server has none.
    pub highest_modseq: Option<ModSeq>,
}

impl From<Status> for Seen {
    fn from(Status { uid_validity, uid_next, messages, highest_modseq, .. }: Status) -> Self {
        Self { uid_validity, uid_next, messages, highest_modseq }
    }
}

/// What happened since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Only the known messages that may have changed, and those that arrived.
    pub contents: Contents,
    /// Messages in the mailbox.
    pub total: u32,
    /// What is left of the known messages.
    pub left: Left,
}

/// What is left of the known messages, as it is told. UIDs ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All.
    All,
    /// These.
    Only(Vec<Uid>),
    /// All but these; there may be some among them that were never known.
    Without(Vec<Uid>),
}

impl ImapReader {
    /// What happened since `seen`, told by mod-sequences. `None` if only the full list tells.
    ///
    /// # Errors
    /// As [`ImapReader::contents`].
    pub async fn changes(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Changes>, ReadError> {
        let opened = self.examine(listed).await?;
        let Some(uid_next) = opened.goes_on(listed, seen) else { return Ok(None) };
        let (Some(before), Some(now)) = (seen.highest_modseq, opened.highest_modseq) else { return Ok(None) };
        let Some(since) = NonZeroU64::new(before.0).filter(|_| now >= before.0) else { return Ok(None) };
        // A server that tells no more than UID and flags of what changed has told enough.
        let mut listing = Listing { uid_next, known_below: seen.uid_next.0, ..Listing::default() };
        let mut commands = Vec::new();
        if let Some(known) = range(1, seen.uid_next.0).filter(|_| seen.messages > 0 && now > before.0) {
            let tag = self.connection.tag();
            commands.push((tag.clone(), command::uid_fetch_changed(&tag, known, since)));
        }
        if let Some(arrivals) = range(seen.uid_next.0, uid_next) {
            // Not left to mod-sequences: a message may arrive with one from where it came from.
            let tag = self.connection.tag();
            commands.push((tag.clone(), command::uid_fetch_metadata(&tag, arrivals, true)));
        }
        match self.gather(listed, commands, &mut |response| listing.note(response)).await {
            // CONDSTORE was announced, and is refused.
            Err(ReadError::Imap(ImapError::Refused { .. })) => return Ok(None),
            done => done?,
        }
        let expunged = listing.expunged;
        let mut messages = listing.in_order().map_err(|what| self.in_mailbox(listed, what))?;
        let arrived = messages.iter().filter(|message| message.uid.0 >= seen.uid_next.0).count() as u64;
        let known = u64::from(opened.exists).checked_sub(arrived);
        let (total, left) = if expunged == 0 && known == Some(seen.messages) {
            (opened.exists, Left::All)
        } else {
            // Messages can't come below UIDNEXT: more of them than there were is no answer.
            if known.is_none_or(|known| known > seen.messages) {
                return Ok(None);
            }
            let Some(present) = self.present(listed, uid_next, opened.exists.saturating_sub(expunged)).await? else {
                return Ok(None);
            };
            messages.retain(|message| present.binary_search(&message.uid).is_ok());
            let (left, come): (Vec<Uid>, Vec<Uid>) = present.iter().copied().partition(|uid| uid.0 < seen.uid_next.0);
            if come.len() != messages.iter().filter(|message| message.uid.0 >= seen.uid_next.0).count() {
                return Ok(None);
            }
            (u32::try_from(present.len()).unwrap_or(u32::MAX), Left::Only(left))
        };
        self.mark_popped(listed, &mut messages).await?;
        let contents = opened.contents(seen.uid_validity, UidNext(uid_next), messages);
        Ok(Some(Changes { contents, total, left }))
    }

    /// All messages, the known ones with their flags only. `None` if the mailbox is not the one that was seen any more.
    ///
    /// # Errors
    /// As [`ImapReader::contents`].
    pub async fn flags(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Contents>, ReadError> {
        let opened = self.examine(listed).await?;
        let Some(uid_next) = opened.goes_on(listed, seen) else { return Ok(None) };
        let known_below = seen.uid_next.0;
        let mut listing = Listing { uid_next, expected: opened.exists, known_below, ..Listing::default() };
        let mut commands = Vec::new();
        if opened.exists > 0 {
            if let Some(known) = range(1, known_below) {
                let tag = self.connection.tag();
                commands.push((tag.clone(), command::uid_fetch_flags(&tag, known)));
            }
            if let Some(arrivals) = range(known_below, uid_next) {
                let tag = self.connection.tag();
                let modseq = opened.highest_modseq.is_some();
                commands.push((tag.clone(), command::uid_fetch_metadata(&tag, arrivals, modseq)));
            }
        }
        self.gather(listed, commands, &mut |response| listing.note(response)).await?;
        let messages = listing.complete().map_err(|what| self.in_mailbox(listed, what))?;
        Ok(Some(opened.contents(seen.uid_validity, UidNext(uid_next), messages)))
    }

    /// The messages of `uids` (ascending) that there are, in a mailbox in which nothing happened since `seen`. `None` if
    /// something did.
    ///
    /// # Errors
    /// As [`ImapReader::contents`].
    pub async fn some(&mut self, listed: &Listed, seen: &Seen, uids: &[Uid]) -> Result<Option<Contents>, ReadError> {
        let opened = self.examine(listed).await?;
        if opened.goes_on(listed, seen) != Some(seen.uid_next.0) || u64::from(opened.exists) != seen.messages {
            return Ok(None);
        }
        let mut listing = Listing { uid_next: seen.uid_next.0, ..Listing::default() };
        let ranges = ranges(uids);
        if !ranges.is_empty() && opened.exists > 0 {
            let tag = self.connection.tag();
            let command = command::uid_fetch_metadata_of(&tag, &ranges, opened.highest_modseq.is_some());
            self.gather(listed, vec![(tag, command)], &mut |response| listing.note(response)).await?;
        }
        let mut messages = listing.in_order().map_err(|what| self.in_mailbox(listed, what))?;
        messages.retain(|message| uids.binary_search(&message.uid).is_ok());
        Ok(Some(opened.contents(seen.uid_validity, seen.uid_next, messages)))
    }

    /// Which messages there are in a mailbox in which nothing happened since `seen`. `None` if something did.
    ///
    /// # Errors
    /// As [`ImapReader::contents`].
    pub async fn uids(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Vec<Uid>>, ReadError> {
        let opened = self.examine(listed).await?;
        if opened.goes_on(listed, seen) != Some(seen.uid_next.0) || u64::from(opened.exists) != seen.messages {
            return Ok(None);
        }
        self.present(listed, seen.uid_next.0, opened.exists).await
    }

    /// The UIDs of the open mailbox below `uid_next`, ascending. `None` if there are not `expected`, less those that are
    /// expunged meanwhile.
    async fn present(&mut self, listed: &Listed, uid_next: u32, expected: u32) -> Result<Option<Vec<Uid>>, ReadError> {
        if expected > SEARCH_MAX {
            return Ok(None);
        }
        let Some(all) = range(1, uid_next).filter(|_| expected > 0) else { return Ok(Some(Vec::new())) };
        let tag = self.connection.tag();
        let command = command::uid_search(&tag, &all, self.connection.capabilities().has("ESEARCH"));
        let mut found: Vec<RangeInclusive<u32>> = Vec::new();
        let mut left = expected;
        let mut each = |response: Response<'_>| match response {
            // (One more than there can be is enough, and a server may answer for ever.)
            Response::Search(ranges) if found.len() <= expected as usize => found.extend(ranges),
            Response::Expunge(_) => left = left.saturating_sub(1),
            _ => {}
        };
        self.gather(listed, vec![(tag, command)], &mut each).await?;
        // One more than there can be tells that there are too many.
        let mut uids: Vec<Uid> = found.into_iter().flatten().take(expected as usize + 1).map(Uid).collect();
        uids.sort_unstable();
        uids.dedup();
        let complete = uids.len() == left as usize && uids.last().is_none_or(|uid| uid.0 < uid_next);
        Ok(complete.then_some(uids))
    }
}

impl Opened {
    /// UIDNEXT, if this is the mailbox that was seen.
    pub(super) fn goes_on(&self, listed: &Listed, seen: &Seen) -> Option<u32> {
        let same = self.uid_validity == Some(seen.uid_validity.0);
        self.uid_next(listed).filter(|uid_next| same && *uid_next >= seen.uid_next.0)
    }
}

/// UIDs from `first` up to and without `end`.
pub(super) fn range(first: u32, end: u32) -> Option<UidRange> {
    let (first, last) = (NonZeroU32::new(first)?, NonZeroU32::new(end.checked_sub(1)?)?);
    (first <= last).then_some(first..=last)
}

/// UIDs (ascending) as ranges; where that would be too many, as one that holds others, too.
pub(super) fn ranges(uids: &[Uid]) -> Vec<UidRange> {
    let mut ranges: Vec<UidRange> = Vec::new();
    for uid in uids.iter().filter_map(|uid| NonZeroU32::new(uid.0)) {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(uid) => *last = *last.start()..=uid,
            _ => ranges.push(uid..=uid),
        }
    }
    match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) if ranges.len() > RANGES_MAX => vec![*first.start()..=*last.end()],
        _ => ranges,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(uids: &[u32]) -> Vec<String> {
        let uids: Vec<Uid> = uids.iter().copied().map(Uid).collect();
        ranges(&uids).iter().map(|range| format!("{}:{}", range.start(), range.end())).collect()
    }

    #[test]
    fn uids_are_asked_for_in_ranges_and_in_one_where_they_are_many() {
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(shown(&[1, 2, 3, 7, 9, 10]), ["1:3", "7:7", "9:10"]);
        let odd: Vec<u32> = (0..500).map(|number| number * 2 + 1).collect();
        assert_eq!(shown(&odd), ["1:999"]);
    }

    #[test]
    fn a_range_that_holds_no_uid_is_none() {
        assert_eq!((range(1, 1), range(5, 5), range(5, 4), range(0, 7)), (None, None, None, None));
        let three = NonZeroU32::new(3).unwrap();
        assert_eq!(range(3, 4), Some(three..=three));
    }
}
