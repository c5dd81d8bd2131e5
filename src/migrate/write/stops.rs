//! Where mailboxes can't be read on: at a message that the old side can't give.

use std::collections::{BTreeMap, BTreeSet};

use crate::mailbox::{Contents, Filter, MailboxName, Uid, UidNext, UidValidity};
use crate::migrate::quarantine::Quarantine;
use crate::migrate::{Job, Platform, Stop};

/// Mailboxes that can't be read on from some message, until the source gives it or has expunged it; and messages that are
/// left out for good, by the operator's wish.
#[derive(Debug, Default)]
pub(in crate::migrate) struct Stops {
    stopped: BTreeMap<MailboxName, Stopped>,
    /// Messages that were listed, and not there when they were asked for.
    vanished: BTreeSet<(MailboxName, UidValidity, Uid)>,
    pub(in crate::migrate) left_out: Quarantine,
    /// What is left out by the operator's wish.
    pub(in crate::migrate) filter: Filter,
    /// Mailboxes of which a part was copied that was all that this run wants.
    part: BTreeSet<MailboxName>,
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
    /// Nothing stands in the way yet but what is remembered.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(in crate::migrate) async fn of(platform: &Platform, job: &Job) -> Result<Self, Stop> {
        Ok(Self { left_out: Quarantine::of(platform, job).await?, ..Self::default() })
    }

    /// Where a mailbox can't be read on, if so.
    pub(in crate::migrate) fn get(&self, name: &MailboxName) -> Option<&Stopped> {
        self.stopped.get(name)
    }

    /// What keeps the user where they are.
    pub(in crate::migrate) fn reasons(&self) -> Vec<String> {
        let stopped = self.stopped.iter().map(|(name, stopped)| format!("{name} UID {}: {}", stopped.uid, stopped.why));
        stopped.chain(self.left_out.blocking()).collect()
    }

    /// Whether a mailbox can't be read on, or any of its messages is left out.
    pub(super) fn concern(&self, name: &MailboxName) -> bool {
        self.stopped.contains_key(name) || self.left_out.concerns(name) || !self.filter.takes_all_messages()
    }

    /// The target has all of a mailbox that the filter takes. False if that is everything.
    pub(super) fn filtered(&mut self, name: &MailboxName) -> bool {
        let part = !self.filter.takes_all_messages();
        if part {
            self.part.insert(name.clone());
        }
        part
    }

    /// Whether there is nothing more to be done in a mailbox in this run.
    pub(in crate::migrate) fn is_done(&self, name: &MailboxName) -> bool {
        self.part.contains(name) || self.get(name).is_some_and(|stopped| stopped.reached)
    }

    /// A message can't be read: it is left out, if it may be, or its mailbox ends there.
    ///
    /// # Errors
    /// If the store can't be written.
    pub(super) async fn unreadable(
        &mut self,
        of: (&Platform, &Job),
        message: (&MailboxName, UidValidity, Uid),
        why: String,
    ) -> Result<(), Stop> {
        if !self.left_out.add(of, message, &why).await? {
            self.stop(message.0, message.2, why);
        }
        Ok(())
    }

    fn stop(&mut self, name: &MailboxName, uid: Uid, why: String) {
        self.stopped.insert(name.clone(), Stopped { uid, why, reached: false });
    }

    /// A message was not there when it was asked for. Once that means that it was expunged since it was listed; but one that is
    /// listed again and is not there again has lost its text (Cyrus whose file is gone): gives that as the reason.
    pub(super) fn vanished(&mut self, (name, uid_validity, uid): (&MailboxName, UidValidity, Uid)) -> Option<String> {
        let again = !self.vanished.insert((name.clone(), uid_validity, uid));
        again.then(|| "it is listed, and there is no text".to_owned())
    }

    /// The target has everything below where a mailbox can't be read on. False if it can be read to its end.
    pub(super) fn reached(&mut self, name: &MailboxName) -> bool {
        self.stopped.get_mut(name).map(|stopped| stopped.reached = true).is_some()
    }

    /// Takes what is left out from a mailbox's list, and cuts it off before a message that can't be read: the target must have
    /// all that is below what it has.
    pub(super) fn cut(&mut self, name: &MailboxName, source: &mut Contents) {
        self.left_out.take_from(name, source);
        let Some(uid) = self.stopped.get(name).map(|stopped| stopped.uid) else { return };
        if source.messages.iter().any(|message| message.uid == uid) {
            source.messages.retain(|message| message.uid < uid);
            source.uid_next = UidNext(uid.0);
        } else {
            self.stopped.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanishes_twice_can_not_be_read() {
        let (mut stops, inbox) = (Stops::default(), MailboxName::inbox());
        assert_eq!(stops.vanished((&inbox, UidValidity(7), Uid(3))), None);
        assert_eq!(stops.vanished((&inbox, UidValidity(7), Uid(4))), None);
        assert_eq!(stops.vanished((&inbox, UidValidity(8), Uid(3))), None);
        assert!(stops.vanished((&inbox, UidValidity(7), Uid(3))).is_some());
    }

    #[test]
    fn a_mailbox_ends_before_what_can_not_be_read_until_that_is_gone() {
        use crate::mailbox::diff::tests::{contents, message};
        let (mut stops, inbox) = (Stops::default(), MailboxName::inbox());
        stops.stop(&inbox, Uid(5), "NIL".to_owned());
        assert_eq!(stops.reasons(), ["INBOX UID 5: NIL"]);
        let mut source = contents(9, vec![message(3, 0, &[]), message(5, 0, &[]), message(8, 0, &[])]);
        stops.cut(&inbox, &mut source);
        assert_eq!((source.messages.len(), source.uid_next), (1, UidNext(5)));
        assert!(stops.reached(&inbox));
        stops.cut(&inbox, &mut contents(9, vec![message(3, 0, &[]), message(8, 0, &[])]));
        assert!(!stops.reached(&inbox) && stops.reasons().is_empty());
    }
}
