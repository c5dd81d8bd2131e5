//! Messages that are in several mailboxes of the old side and are one and the same there (Gmail's labels). Their octets are read
//! from it once: what the new side has of a message in one mailbox is read back from there and written into the next.
//!
//! It has to be the same by its number, and by its size: what the target stored otherwise (CR CR LF) is read from the old side
//! again. And it is an economy only: what is not known here is read from the old side.

use std::collections::{BTreeSet, HashMap};

use crate::mailbox::{MailboxName, Uid, UidValidity};

/// Messages that are remembered: some 40 octets each.
const KNOWN_MAX: usize = 2_000_000;

/// Octets that a server needs to tell the number of one message.
pub(super) const NUMBER_COSTS: u64 = 64;

/// Where the new side has a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The mailbox.
    pub(super) mailbox: MailboxName,
    /// Its UIDVALIDITY.
    pub(super) uid_validity: UidValidity,
    /// The message in it.
    pub(super) uid: Uid,
}

/// What the new side has of the messages of a user's old side, as far as this run has learned it.
#[derive(Debug, Default)]
pub(super) struct Copies {
    mailboxes: Vec<(MailboxName, UidValidity)>,
    /// By the old side's number of the message: index of the mailbox, and UID.
    known: HashMap<u64, (u32, Uid)>,
    /// Mailboxes of which everything below their UIDNEXT on the new side is known.
    whole: BTreeSet<MailboxName>,
    /// Written, and not yet found to be there.
    written: Vec<(u64, Uid)>,
}

impl Copies {
    /// Where the new side has a message, in another mailbox than this one.
    pub(super) fn of(&self, number: u64, apart_from: &MailboxName) -> Option<Place> {
        let (at, uid) = *self.known.get(&number)?;
        let (mailbox, uid_validity) = self.mailboxes.get(usize::try_from(at).ok()?)?;
        let place = Place { mailbox: mailbox.clone(), uid_validity: *uid_validity, uid };
        (place.mailbox != *apart_from).then_some(place)
    }

    /// The new side doesn't give it, or gives something else.
    pub(super) fn forget(&mut self, number: u64) {
        self.known.remove(&number);
    }

    /// A mailbox is about to be written.
    pub(super) fn begin(&mut self) {
        self.written.clear();
    }

    /// A message was written into it.
    pub(super) fn wrote(&mut self, number: u64, uid: Uid) {
        self.written.push((number, uid));
    }

    /// What was written was read back, and is there. `whole`: there was nothing in the mailbox before.
    pub(super) fn confirm(&mut self, mailbox: &MailboxName, uid_validity: UidValidity, whole: bool) {
        let written = std::mem::take(&mut self.written);
        if !written.is_empty() {
            self.learn(mailbox, uid_validity, written);
        }
        if whole {
            self.know_whole(mailbox);
        }
    }

    /// The new side has these in a mailbox.
    pub(super) fn learn(
        &mut self,
        mailbox: &MailboxName,
        uid_validity: UidValidity,
        messages: impl IntoIterator<Item = (u64, Uid)>,
    ) {
        let Ok(at) = u32::try_from(self.mailboxes.len()) else { return };
        self.mailboxes.push((mailbox.clone(), uid_validity));
        for (number, uid) in messages {
            if self.known.len() < KNOWN_MAX {
                self.known.entry(number).or_insert((at, uid));
            }
        }
    }

    /// Everything that the new side has in a mailbox is known from now on.
    pub(super) fn know_whole(&mut self, mailbox: &MailboxName) {
        self.whole.insert(mailbox.clone());
    }

    /// Whether it is.
    pub(super) fn knows_whole(&self, mailbox: &MailboxName) -> bool {
        self.whole.contains(mailbox)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> MailboxName {
        MailboxName::from_parts(vec![text.to_owned()]).unwrap()
    }

    #[test]
    fn a_message_is_known_once_it_was_read_back_and_never_as_its_own_copy() {
        let mut copies = Copies::default();
        let (inbox, all) = (name("INBOX"), name("All"));
        copies.begin();
        copies.wrote(77, Uid(3));
        assert_eq!(copies.of(77, &all), None, "not read back yet");
        copies.begin();
        copies.confirm(&inbox, UidValidity(1), false);
        assert_eq!(copies.of(77, &all), None, "that session was broken off");
        copies.wrote(77, Uid(3));
        copies.confirm(&inbox, UidValidity(1), true);
        assert!(copies.knows_whole(&inbox));
        let place = Place { mailbox: inbox.clone(), uid_validity: UidValidity(1), uid: Uid(3) };
        assert_eq!(copies.of(77, &all), Some(place.clone()));
        assert_eq!(copies.of(77, &inbox), None);
        copies.learn(&all, UidValidity(2), [(77, Uid(9)), (78, Uid(10))]);
        assert_eq!(copies.of(77, &all), Some(place), "the first place is as good as any");
        assert_eq!(copies.of(78, &inbox).map(|place| place.uid), Some(Uid(10)));
        copies.forget(78);
        assert_eq!(copies.of(78, &inbox), None);
        assert!(!copies.knows_whole(&all));
        copies.know_whole(&all);
        assert!(copies.knows_whole(&all));
    }
}
