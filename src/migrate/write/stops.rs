//! Where mailboxes can't be read on: at a message that the old side can't give.

use std::collections::BTreeMap;

use crate::mailbox::{Contents, MailboxName, Uid, UidNext};
use crate::migrate::quarantine::Quarantine;
use crate::migrate::{Job, Platform, Stop};

/// Mailboxes that can't be read on from some message, until the source gives it or has expunged it; and messages that are
/// left out for good, by the operator's wish.
#[derive(Debug, Default)]
pub(in crate::migrate) struct Stops {
    stopped: BTreeMap<MailboxName, Stopped>,
    pub(in crate::migrate) left_out: Quarantine,
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
        Ok(Self { stopped: BTreeMap::new(), left_out: Quarantine::of(platform, job).await? })
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

    /// Whether every message of a mailbox is on the new side, or can be.
    pub(super) fn concern(&self, name: &MailboxName) -> bool {
        self.stopped.contains_key(name) || self.left_out.concerns(name)
    }

    /// A message can't be read.
    pub(super) fn unreadable(&mut self, name: &MailboxName, uid: Uid, why: String) {
        self.stopped.insert(name.clone(), Stopped { uid, why, reached: false });
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
