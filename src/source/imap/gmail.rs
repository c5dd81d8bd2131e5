//! What Gmail tells beside IMAP: which messages of different mailboxes are one and the same (X-GM-MSGID), and which of INBOX's a
//! POP3 client has had, so that POP3 shows them no more.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use super::{ImapReader, ReadError};
use crate::mailbox::{Keywords, Listed, Message, Uid, UidValidity};
use crate::source::profile::Quirk;
use crate::wire::imap::command;
use crate::wire::imap::scan::Response;

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
