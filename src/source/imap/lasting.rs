//! UIDVALIDITY of a mailbox that nobody has ever opened. Courier gives such a mailbox another one each second for as long as
//! it is only looked at (EXAMINE, STATUS): it keeps one from the first SELECT on, and so does a copy of it.
//!
//! This is the one thing that we change on an old side, and only where every client that opens the mailbox would do the same.
//! GNU Mailutils does the same, and writes lines into the messages when one has opened it and leaves. That is not ours to do: such a
//! mailbox is named, and waited for. As long as one is empty there is nowhere to keep it, and clients have nothing to lose.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{ImapReader, ReadError};
use crate::mailbox::{Listed, MailboxName, UidValidity};
use crate::source::profile::Quirk;
use crate::wire::imap::command;

/// Courier's UIDVALIDITY is the time at which it was made, less this; that of Mailutils is the time itself.
const OFFSET: u64 = 1_000_000_000;

/// One that is older than this by our clock was not made just now by any clock.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two looks: it is made of whole seconds.
const APART: Duration = Duration::from_millis(1100);

impl ImapReader {
    /// Opens those of `mailboxes` whose UIDVALIDITY, read at `read_at` or later, is another one a moment later.
    ///
    /// # Errors
    /// If a mailbox can't be looked at, or opening it would not help.
    pub(super) async fn make_lasting(
        &mut self,
        mailboxes: &mut BTreeMap<MailboxName, Listed>,
        read_at: Instant,
    ) -> Result<(), ReadError> {
        let opening_helps = self.profile.has(Quirk::ForgetsUidValidity);
        if !opening_helps && !self.profile.has(Quirk::MomentaryUidValidity) {
            return Ok(());
        }
        let offset = if opening_helps { OFFSET } else { 0 };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut young: Vec<&mut Listed> = mailboxes
            .values_mut()
            .filter(|listed| {
                let validity = listed.status.map(|status| status.uid_validity);
                validity.is_some_and(|validity| is_young(validity, offset, now))
                    && self.lasting.get(&listed.raw).copied() != validity
            })
            .collect();
        if young.is_empty() {
            return Ok(());
        }
        tokio::time::sleep_until(read_at + APART).await;
        for listed in &mut young {
            let before = listed.status.map(|status| status.uid_validity);
            let mut status = self.status(listed).await?;
            if before != Some(status.uid_validity) && !opening_helps {
                let why = "its UIDVALIDITY is another one at each look, because no client has opened it yet: that can't be copied. It \
                           goes on by itself once one has opened it and left it";
                return Err(self.in_mailbox(listed, why.to_owned()));
            }
            if before != Some(status.uid_validity) {
                tracing::debug!(mailbox = %self.shown(listed), "was never opened: opened once, so that its UIDVALIDITY lasts");
                self.open_once(listed).await?;
                status = self.status(listed).await?;
            }
            listed.status = Some(status);
            self.lasting.insert(listed.raw.clone(), status.uid_validity);
        }
        Ok(())
    }

    /// The UIDVALIDITY of a mailbox with so many messages: always the same where the server's own can't last.
    pub(super) fn lasting_validity(&self, messages: u64, told: UidValidity) -> UidValidity {
        if messages == 0 && self.profile.has(Quirk::MomentaryUidValidity) { UidValidity(1) } else { told }
    }

    /// Opens a mailbox for writing, and leaves it without expunging anything.
    async fn open_once(&mut self, listed: &Listed) -> Result<(), ReadError> {
        let tag = self.connection.tag();
        self.connection.run("SELECT", &tag, command::select(&tag, &listed.raw), &mut |_| {}).await?;
        // Another EXAMINE or SELECT leaves it and expunges nothing, which CLOSE would (RFC 3501 §6.3.1).
        self.examine(listed).await?;
        self.close().await
    }
}

/// Whether a UIDVALIDITY may have been made just now.
fn is_young(UidValidity(validity): UidValidity, offset: u64, now: Duration) -> bool {
    Duration::from_secs(u64::from(validity) + offset).abs_diff(now) < YOUNG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_have_been_made_just_now_is_looked_at_twice() {
        let now = Duration::from_secs(1_795_747_977);
        for (offset, validity) in [(OFFSET, 795_747_977), (0, 1_795_747_977)] {
            assert!(is_young(UidValidity(validity), offset, now));
            assert!(is_young(UidValidity(validity + 3600), offset, now), "its clock may be ahead of ours");
            assert!(!is_young(UidValidity(validity - 86_400), offset, now));
            assert!(!is_young(UidValidity(1), offset, now) && !is_young(UidValidity(u32::MAX), offset, now));
        }
    }
}
