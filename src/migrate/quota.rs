//! Whether a user's mail has room on the new side. The copy itself is written without a quota, so a limit would show at the
//! first mail after the switch: it is asked for over IMAP, before anything is copied and before the switch.

use super::{Readers, Stop};
use crate::mailbox::quota::{Quota, Usage};
use crate::mailbox::{Account, Listed};
use crate::source::Reader;

/// What both sides say.
#[derive(Debug)]
pub(super) struct Room {
    /// The old side.
    pub(super) old: Quota,
    /// The new side.
    pub(super) new: Quota,
}

impl Room {
    /// Asks both sides.
    ///
    /// # Errors
    /// If a side can't be read.
    pub(super) async fn of(readers: &mut Readers) -> Result<Self, Stop> {
        Ok(Self { new: readers.new.quota().await?, old: readers.old_quota().await? })
    }

    /// What is in the way, in words. `octets` is what the sizes of the old side's messages add up to; it counts where the old
    /// side's own quota doesn't say.
    pub(super) fn in_the_way(&self, old: &Account, octets: u64) -> Option<String> {
        let messages = own(old).filter_map(|listed| listed.status).map(|status| status.messages).sum();
        let usage = Usage { octets: self.old.octets().unwrap_or(octets), messages };
        let why = self.new.too_small_for(usage)?;
        Some(format!("no room on the new side: {why}; raise it there, or let the user delete mail"))
    }
}

/// Stops where a user's mail has no room.
///
/// # Errors
/// [`Stop::Later`] with both numbers; any other if a side can't be read.
pub async fn check(readers: &mut Readers) -> Result<(), Stop> {
    let new = readers.new.quota().await?;
    if !new.is_limited() {
        return Ok(());
    }
    let room = Room { new, old: readers.old_quota().await? };
    let old = readers.old.account().await?;
    // Every size is asked for only where it counts.
    let octets = if room.old.octets().is_some() { 0 } else { octets(&mut readers.old, &old).await? };
    room.in_the_way(&old, octets).map_or(Ok(()), |why| Err(Stop::Later(why)))
}

/// What counts against the user's quota: not what belongs to nobody.
fn own(account: &Account) -> impl Iterator<Item = &Listed> {
    account.mailboxes.iter().filter(|(name, _)| !account.carries(name)).map(|(_, listed)| listed)
}

async fn octets(reader: &mut Reader, account: &Account) -> Result<u64, Stop> {
    let mut sum = 0;
    let holds = |listed: &&Listed| listed.status.is_some_and(|status| status.messages > 0);
    for listed in own(account).filter(holds) {
        sum += reader.contents(listed).await?.messages.iter().map(|message| message.size).sum::<u64>();
    }
    reader.close().await?;
    Ok(sum)
}
