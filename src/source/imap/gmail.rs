//! Which messages of different mailboxes are one and the same (Gmail's X-GM-MSGID).

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use super::{ReadError, Reader};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::source::profile::Quirk;
use crate::wire::imap::command;
use crate::wire::imap::scan::Response;

impl Reader {
    /// Whether the server tells which messages of different mailboxes are the same.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.profile.has(Quirk::Labels) && self.connection.capabilities().has("X-GM-EXT-1")
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
