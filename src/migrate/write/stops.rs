//! Where mailboxes can't be read on: at a message that the old side can't give.

use std::collections::{BTreeMap, BTreeSet};

use crate::mailbox::{MailboxName, Uid, UidValidity};

/// Mailboxes that can't be read on from some message, until the source gives it or has expunged it.
#[derive(Debug, Default)]
pub(in crate::migrate) struct Stops {
    stopped: BTreeMap<MailboxName, Stopped>,
    /// Messages that were listed, and not there when they were asked for.
    vanished: BTreeSet<(MailboxName, UidValidity, Uid)>,
}

/// Where a mailbox can't be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::migrate) struct Stopped {
    /// At which message.
    pub(in crate::migrate) uid: Uid,
    /// What the old side said.
    pub(in crate::migrate) why: String,
    /// The target has everything below it: nothing more can be done in this run.
    pub(in crate::migrate) reached: bool,
}

impl Stops {
    /// Where a mailbox can't be read on, if so.
    pub(in crate::migrate) fn get(&self, name: &MailboxName) -> Option<&Stopped> {
        self.stopped.get(name)
    }

    /// All of them.
    pub(in crate::migrate) fn iter(&self) -> impl Iterator<Item = (&MailboxName, &Stopped)> {
        self.stopped.iter()
    }

    /// Whether every mailbox can be read to its end.
    pub(in crate::migrate) fn is_empty(&self) -> bool {
        self.stopped.is_empty()
    }

    /// A message can't be read.
    pub(super) fn unreadable(&mut self, name: &MailboxName, uid: Uid, why: String) {
        self.stopped.insert(name.clone(), Stopped { uid, why, reached: false });
    }

    /// A message was not there when it was asked for. Once that means that it was expunged since it was listed; but one that is
    /// listed again and is not there again has lost its text (Cyrus whose file is gone).
    pub(super) fn vanished(&mut self, name: &MailboxName, uid_validity: UidValidity, uid: Uid) {
        if !self.vanished.insert((name.clone(), uid_validity, uid)) {
            self.unreadable(name, uid, "it is listed, and there is no text".to_owned());
        }
    }

    /// The target has everything below where a mailbox can't be read on. False if it can be read to its end.
    pub(super) fn reached(&mut self, name: &MailboxName) -> bool {
        self.stopped.get_mut(name).map(|stopped| stopped.reached = true).is_some()
    }

    /// The message is gone: the mailbox can be read on.
    pub(super) fn remove(&mut self, name: &MailboxName) {
        self.stopped.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanishes_twice_can_not_be_read() {
        let (mut stops, inbox) = (Stops::default(), MailboxName::inbox());
        stops.vanished(&inbox, UidValidity(7), Uid(3));
        stops.vanished(&inbox, UidValidity(7), Uid(4));
        stops.vanished(&inbox, UidValidity(8), Uid(3));
        assert!(stops.is_empty());
        stops.vanished(&inbox, UidValidity(7), Uid(3));
        assert_eq!(stops.get(&inbox).map(|stopped| (stopped.uid, stopped.reached)), Some((Uid(3), false)));
        assert!(stops.reached(&inbox));
        stops.remove(&inbox);
        assert!(!stops.reached(&inbox));
    }
}
