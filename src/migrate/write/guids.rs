//! The GUIDs that messages are written with. Each has one of its own, but for those that Gmail shows in several mailboxes, where the
//! new side has a virtual mailbox of all mail (`new.virtual_all`): there such a message has one GUID everywhere, and dsync copies what
//! that mailbox has with its GUID by reference, where the format of the new side can (mdbox, Maildir), and stores no second body.

use std::collections::{BTreeMap, BTreeSet};

use sha1::{Digest as _, Sha1};

use super::{Sending, Writer};
use crate::mailbox::{Guid, Listed, Uid, UidValidity};
use crate::migrate::Stop;

/// A message's GUID: the same in every run, and no other message's (dsync reference §8: two messages with one GUID
/// would get one UIDL). The mailbox GUID is random, so the account needs no mention.
pub(in crate::migrate) fn guid_of(mailbox: Guid, uid_validity: UidValidity, uid: Uid) -> Guid {
    hashed(&[&mailbox.0, &uid_validity.0.to_be_bytes(), &uid.0.to_be_bytes()])
}

/// The GUID of a message that has this number in all its mailboxes.
pub(in crate::migrate) fn shared_guid(number: u64) -> Guid {
    hashed(&[b"X-GM-MSGID", &number.to_be_bytes()])
}

fn hashed(parts: &[&[u8]]) -> Guid {
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut guid = [0_u8; 16];
    for (octet, hashed) in guid.iter_mut().zip(hash.finalize()) {
        *octet = hashed;
    }
    Guid(guid)
}

/// The GUIDs of a mailbox's messages.
#[derive(Debug)]
pub(super) struct Guids {
    mailbox: Guid,
    uid_validity: UidValidity,
    /// Those that [`guid_of`] doesn't give.
    others: BTreeMap<Uid, Guid>,
}

impl Guids {
    /// All as [`guid_of`] gives them.
    pub(super) const fn own(mailbox: Guid, uid_validity: UidValidity) -> Self {
        Self { mailbox, uid_validity, others: BTreeMap::new() }
    }

    pub(super) fn of(&self, uid: Uid) -> Guid {
        let other = self.others.get(&uid).copied();
        other.unwrap_or_else(|| guid_of(self.mailbox, self.uid_validity, uid))
    }

    /// Messages that are to be written get the GUIDs of their numbers, once each.
    fn share(&mut self, numbers: impl IntoIterator<Item = (Uid, u64)>) {
        let mut given = BTreeSet::new();
        for (uid, number) in numbers {
            if given.insert(number) {
                self.others.entry(uid).or_insert_with(|| shared_guid(number));
            }
        }
    }
}

impl Writer<'_> {
    /// Whether messages that are the same have one GUID, by which the new side finds what it has of them.
    pub(super) fn shares(&self) -> bool {
        self.platform.config.new.virtual_all.is_some() && self.readers.old.has_labels()
    }

    /// Whether the new side had nothing but INBOX when it was listed.
    pub(super) fn has_inbox_alone(&self) -> bool {
        let mut others = self.new.mailboxes.iter().filter(|(name, _)| !name.is_inbox());
        others.all(|(_, listed)| listed.status.is_none_or(|status| status.messages == 0))
    }

    /// The GUIDs of what is to be changed and written in a mailbox.
    pub(super) async fn guids(
        &mut self,
        target: &Listed,
        sending: &Sending<'_>,
        numbers: &BTreeMap<Uid, u64>,
    ) -> Result<Guids, Stop> {
        let Sending { record, sides, plan, uidls, .. } = sending;
        let uid_validity = sides.source.uid_validity;
        let mut guids = Guids::own(record.guid, uid_validity);
        if !self.readers.old.has_labels() {
            return Ok(guids);
        }
        // What is there keeps the GUID that it was given, whatever was configured then.
        let mut changed: Vec<Uid> =
            plan.expunge.iter().copied().chain(plan.flags.iter().map(|change| change.uid)).collect();
        changed.sort_unstable();
        if !changed.is_empty() {
            self.readers.new.revive().await?;
            let there = self.readers.new.guids(target, uid_validity, &changed).await?;
            guids.others.extend(there.into_iter().map(|(guid, uid)| (uid, guid)));
        }
        if self.shares() {
            // A POP3 UIDL is stored with the body: what is copied by reference has that of its original, or none.
            let first = self.has_inbox_alone();
            let is_free = |uid: Uid| !record.name.is_inbox() || first || uidls.of(uid).is_none();
            guids.share(numbers.iter().map(|(uid, number)| (*uid, *number)).filter(|(uid, _)| is_free(*uid)));
        }
        Ok(guids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_own_guid_or_that_of_its_number_and_no_two_of_a_mailbox_have_one() {
        let (mailbox, uid_validity) = (Guid([7; 16]), UidValidity(3));
        let mut guids = Guids::own(mailbox, uid_validity);
        guids.others.insert(Uid(1), Guid([9; 16]));
        guids.share([(Uid(1), 5), (Uid(2), 77), (Uid(4), 77)]);
        assert_eq!(guids.of(Uid(1)), Guid([9; 16]), "it is there already");
        assert_eq!(guids.of(Uid(2)), shared_guid(77));
        assert_eq!(guids.of(Uid(4)), guid_of(mailbox, uid_validity, Uid(4)));
        assert_eq!(guids.of(Uid(8)), guid_of(mailbox, uid_validity, Uid(8)));
    }
}
