//! Messages that the old side can't give. Where the operator wants that (`migration.unreadable = "skip"`) they are left out on
//! the new side: their UIDs stay empty there, everything above them is written, and the verification names each. They are
//! tried again in every round, up to the switch.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{Job, Platform, Readers, Stop};
use crate::config::Unreadable;
use crate::mailbox::{Account, Class, Contents, Finding, MailboxName, Message, Uid, UidValidity};
use crate::source::{BodyEvent, ReadError, Seen};
use crate::store::{Quarantined, now};

/// Messages of one user that are left out at most: where there are more, it is not the messages.
const LEFT_OUT_MAX: usize = 50;

/// A user's messages that are left out.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    messages: Vec<Quarantined>,
    /// The operator wants it so. Else they are still left out, but keep the user from being switched.
    wanted: bool,
}

impl Quarantine {
    /// What is remembered of a user.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn of(platform: &Platform, job: &Job) -> Result<Self, Stop> {
        Ok(Self {
            messages: platform.store.quarantined(job.user.as_str()).await?,
            wanted: platform.config.migration.unreadable == Unreadable::Skip,
        })
    }

    /// Whether any message of a mailbox is left out.
    pub(super) fn concerns(&self, name: &MailboxName) -> bool {
        self.messages.iter().any(|left_out| left_out.mailbox == *name)
    }

    fn get(&self, name: &MailboxName, uid_validity: UidValidity, uid: Uid) -> Option<&Quarantined> {
        let is_it = |left_out: &&Quarantined| {
            left_out.mailbox == *name && left_out.uid_validity == uid_validity && left_out.uid == uid
        };
        self.messages.iter().find(is_it)
    }

    /// Takes the messages that are left out from the old side's list, and gives them.
    pub(super) fn take_from(&self, name: &MailboxName, source: &mut Contents) -> Vec<Message> {
        if !self.concerns(name) {
            return Vec::new();
        }
        let uid_validity = source.uid_validity;
        source.messages.extract_if(.., |message| self.get(name, uid_validity, message.uid).is_some()).collect()
    }

    /// What a verification says of a message that is left out.
    pub(super) fn finding(&self, name: &MailboxName, uid_validity: UidValidity, message: &Message) -> Finding {
        let why = self.get(name, uid_validity, message.uid).map(|left_out| left_out.reason.as_str());
        Finding {
            class: if self.wanted { Class::Altered } else { Class::Difference },
            rule: "quarantined".to_owned(),
            mailbox: Some(name.to_string()),
            uid: Some(message.uid),
            old: format!("{} octets", message.size),
            new: format!("left out: {}", why.unwrap_or_default()),
        }
    }

    /// What keeps the user where they are: messages left out that may not be, any more.
    pub(super) fn blocking(&self) -> impl Iterator<Item = String> {
        self.messages.iter().filter(|_| !self.wanted).map(|left_out| {
            let Quarantined { mailbox, uid, reason, .. } = left_out;
            format!("{mailbox} UID {uid}: left out on the new side: {reason}")
        })
    }

    /// Leaves a message out, durably. False if it may not be.
    ///
    /// # Errors
    /// If the store can't be written.
    pub(super) async fn add(
        &mut self,
        (platform, job): (&Platform, &Job),
        (name, uid_validity, uid): (&MailboxName, UidValidity, Uid),
        why: &str,
    ) -> Result<bool, Stop> {
        if !self.wanted || self.messages.len() >= LEFT_OUT_MAX {
            return Ok(false);
        }
        let message = Quarantined { mailbox: name.clone(), uid_validity, uid, reason: why.to_owned(), at: now() };
        warn!(user = %job.user, mailbox = %name, %uid, "left out on the new side: {why}");
        platform.store.put_quarantined(job.user.as_str(), &message).await?;
        self.messages.push(message);
        Ok(true)
    }

    /// Looks at every message that is left out: what is gone on the old side is forgotten, and so is what can be read again,
    /// if its mailbox can be written anew for it. INBOX can't without an operator.
    ///
    /// # Errors
    /// If a side or the store can't be used.
    pub(super) async fn tend(
        &mut self,
        (platform, job): (&Platform, &Job),
        readers: &mut Readers,
        (old, new): (&Account, &Account),
    ) -> Result<(), Stop> {
        let user = job.user.as_str();
        let mut released = BTreeSet::new();
        for left_out in std::mem::take(&mut self.messages) {
            let Quarantined { mailbox, uid_validity, uid, .. } = &left_out;
            let below = new.mailboxes.get(mailbox).and_then(|listed| listed.status);
            let below = below.is_some_and(|there| there.uid_validity == *uid_validity && there.uid_next.0 > uid.0);
            let reason = match look(readers, old, &left_out).await? {
                Found::Gone => None,
                Found::Readable if below && mailbox.is_inbox() => Some(format!(
                    "the old side gives it again; `mailferry sync --rebuild INBOX {user}` copies it with a new INBOX"
                )),
                Found::Readable => None,
                Found::Unreadable(why) => Some(why),
            };
            match reason {
                None => {
                    info!(user, %mailbox, %uid, "not left out any more");
                    platform.store.release_quarantined(user, &left_out).await?;
                    released.insert(mailbox.clone());
                }
                Some(reason) => {
                    let now = Quarantined { reason, ..left_out.clone() };
                    if now != left_out {
                        platform.store.put_quarantined(user, &now).await?;
                    }
                    self.messages.push(now);
                }
            }
        }
        if !released.is_empty() {
            // They have to be looked at whatever STATUS says; a message missing below what is there has them made anew.
            platform.store.forget_seen(user, released.into_iter().collect()).await?;
        }
        Ok(())
    }
}

enum Found {
    Gone,
    Readable,
    Unreadable(String),
}

/// Reads a message, and throws it away.
async fn look(readers: &mut Readers, old: &Account, left_out: &Quarantined) -> Result<Found, Stop> {
    let Quarantined { mailbox, uid_validity, uid, .. } = left_out;
    let listed = old.mailboxes.get(mailbox).and_then(|listed| Some((listed, listed.status?)));
    let Some((listed, status)) = listed.filter(|(_, status)| status.uid_validity == *uid_validity) else {
        return Ok(Found::Gone);
    };
    readers.old.revive().await?;
    let sizes = match readers.old.some(listed, &Seen::from(status), &[*uid]).await {
        Ok(Some(contents)) => contents.messages,
        // It changes just now: another time.
        Ok(None) => return Ok(Found::Unreadable(left_out.reason.clone())),
        Err(ReadError::Gone { .. }) => return Ok(Found::Gone),
        Err(error) => return Err(error.into()),
    };
    let mut bodies = readers.old.bodies(listed, *uid_validity, vec![*uid]).await?.expecting(&sizes);
    let mut found = Found::Gone;
    while let Some(event) = bodies.next().await? {
        match event {
            BodyEvent::End(_) => found = Found::Readable,
            BodyEvent::Vanished(_) => found = Found::Gone,
            BodyEvent::Unreadable(_, why) => found = Found::Unreadable(why),
            BodyEvent::Start(..) | BodyEvent::Chunk(_) | BodyEvent::Again(_) => {}
        }
    }
    drop(bodies);
    readers.old.close().await?;
    Ok(found)
}
