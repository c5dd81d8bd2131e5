//! What Gmail tells beside IMAP: which messages of different mailboxes are one and the same (X-GM-MSGID), and which of INBOX's a
//! POP3 client has had, so that POP3 shows them no more.
//!
//! Which messages of all mail have a label is told by the mailboxes that they are in, not by X-GM-LABELS: a label may be one that
//! IMAP doesn't show, or that this run leaves out, or no mailbox at all (`\Muted`).

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use tracing::warn;

use super::{ImapReader, ReadError};
use crate::mailbox::{Keywords, Listed, Message, Uid, UidValidity};
use crate::source::profile::Quirk;
use crate::wire::imap::command;
use crate::wire::imap::scan::Response;

/// Messages with labels that we are ready to hold the numbers of.
const LABELLED_MAX: usize = 10_000_000;

impl ImapReader {
    /// Whether the server tells which messages of different mailboxes are the same.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.profile.has(Quirk::Labels) && self.connection.capabilities().has("X-GM-EXT-1")
    }

    /// Gives messages of INBOX that a POP3 client has had a keyword, as if the server did: on the new side it hides them.
    pub fn mark_popped_as(&mut self, keyword: &str) {
        self.popped = self.has_labels().then(|| keyword.to_owned());
    }

    /// That keyword, where messages have it from us.
    #[must_use]
    pub fn popped(&self) -> Option<&str> {
        self.popped.as_deref()
    }

    /// Gives it to those of `messages`, which are in the open mailbox.
    pub(super) async fn mark_popped(&mut self, listed: &Listed, messages: &mut [Message]) -> Result<(), ReadError> {
        let inbox = listed.raw.eq_ignore_ascii_case(b"INBOX") && !messages.is_empty();
        let Some(keyword) = self.popped.clone().filter(|_| inbox) else { return Ok(()) };
        let tag = self.connection.tag();
        let command = command::uid_search_popped(&tag, self.connection.capabilities().has("ESEARCH"));
        let mut popped = Vec::new();
        let mut each = |response: Response<'_>| {
            if let Response::Search(ranges) = response {
                popped.extend(ranges);
            }
        };
        self.gather(listed, vec![(tag, command)], &mut each).await?;
        popped.sort_unstable_by_key(|range| *range.start());
        for message in messages {
            let after = popped.partition_point(|range| *range.start() <= message.uid.0);
            let range = after.checked_sub(1).and_then(|at| popped.get(at));
            if range.is_some_and(|range| range.contains(&message.uid.0)) {
                let names = message.keywords.iter().map(str::to_owned).chain([keyword.clone()]);
                message.keywords = Keywords::from_names(names.collect());
            }
        }
        Ok(())
    }

    /// Tells of the messages of all mail which are in one of these mailboxes, too, from now on.
    pub fn mark_labelled_by(&mut self, labels: Vec<Listed>) {
        self.labels = self.has_labels().then_some(labels);
    }

    /// Tells it of `messages`, which are in the open mailbox. Another one may be open then.
    pub(super) async fn mark_labelled(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        messages: &mut [Message],
    ) -> Result<(), ReadError> {
        let Some(labels) = self.labels.clone().filter(|_| listed.is_all_mail()) else { return Ok(()) };
        let Some((first, last)) = messages.first().zip(messages.last()) else { return Ok(()) };
        let range = first.uid..=last.uid;
        // First this mailbox, then the labels: a message whose label goes in between has none.
        let own = self.gm_msgids(listed, uid_validity, range).await?;
        let mut labelled: Vec<u64> = Vec::new();
        for label in &labels {
            let Some(status) = label.status.filter(|status| status.messages > 0) else { continue };
            let all = Uid(1)..=Uid(status.uid_next.0.saturating_sub(1));
            match self.gm_msgids(label, status.uid_validity, all).await {
                Ok(numbers) => labelled.extend(numbers.into_iter().map(|(_, number)| number)),
                // Deleted or made anew since it was listed: what was in it counts as archived.
                Err(error @ (ReadError::Gone { .. } | ReadError::Mailbox { .. })) => {
                    warn!("nothing of all mail counts as labelled by it: {error}");
                }
                Err(error) => return Err(error),
            }
            labelled.sort_unstable();
            labelled.dedup();
            if labelled.len() > LABELLED_MAX {
                return Err(ReadError::TooMuch {
                    what: format!("{}: more than {LABELLED_MAX} messages have labels", self.shown(listed)),
                });
            }
        }
        for message in messages {
            let number = own.binary_search_by_key(&message.uid, |(uid, _)| *uid).ok().and_then(|at| own.get(at));
            message.labelled = number.is_some_and(|(_, number)| labelled.binary_search(number).is_ok());
        }
        Ok(())
    }

    /// The number that each message of a range has in all its mailboxes, ascending by UID. Messages of which the server tells
    /// none are left out.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn gm_msgids(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: RangeInclusive<Uid>,
    ) -> Result<Vec<(Uid, u64)>, ReadError> {
        self.examine_if_closed(listed, uid_validity).await?;
        let ends = NonZeroU32::new(uids.start().0).zip(NonZeroU32::new(uids.end().0));
        let Some((first, last)) = ends.filter(|(first, last)| first <= last) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let tag = self.connection.tag();
        let command = command::uid_fetch_gm_msgid(&tag, &(first..=last));
        let mut each = |response: Response<'_>| {
            if let Response::Fetch(fetch) = response
                && let Some((uid, number)) = fetch.uid.zip(fetch.gm_msgid)
                && uids.contains(&Uid(uid))
            {
                found.push((Uid(uid), number));
            }
        };
        self.gather(listed, vec![(tag, command)], &mut each).await?;
        found.sort_unstable();
        found.dedup_by_key(|(uid, _)| *uid);
        Ok(found)
    }
}
