//! What is known of an account: its mailboxes, what STATUS says of each, and the list of messages in one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::message::Message;
use super::model::{Guid, ModSeq, UidNext, UidValidity};
use super::name::MailboxName;

/// An account as its server lists it, without any message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The hierarchy separator of the personal namespace.
    pub separator: Option<char>,
    /// What the names of the personal namespace begin with; none where the server doesn't tell (RFC 2342).
    pub prefix: Option<String>,
    /// The mailboxes of the personal namespace.
    pub mailboxes: BTreeMap<MailboxName, Listed>,
    /// Subscribed names, whether there is such a mailbox or not.
    pub subscriptions: BTreeSet<MailboxName>,
    /// Names that no mailbox name can be made of, as the server gave them, and why.
    pub unreadable: Vec<(String, String)>,
    /// Mailboxes of other users and shared ones, as the server gave them, and whether the user subscribed to them.
    pub others: BTreeMap<String, bool>,
    /// What it carries of the *Shared* namespace for everybody, if it is the one account that does.
    pub carried: Option<Carried>,
}

/// The mailboxes of the *Shared* namespace (RFC 2342), in an account that carries them: they are in its list like its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Prefixes of the personal namespaces.
    pub personal: Vec<String>,
    /// Prefixes of the shared ones, with their separators.
    pub spaces: BTreeMap<String, Option<char>>,
    /// Those of the account's mailboxes that are in them and can be opened.
    pub mailboxes: BTreeSet<MailboxName>,
    /// Mailboxes that are seen and can't be carried, as the server gave them, and why.
    pub closed: BTreeMap<String, String>,
}

/// One mailbox in the server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The name as the server gave it (modified UTF-7), for commands.
    pub raw: Vec<u8>,
    /// Whether it can be opened; a `\NoSelect` parent can't.
    pub selectable: bool,
    /// SPECIAL-USE attributes (RFC 6154), lower case.
    pub special_use: BTreeSet<String>,
    /// What STATUS said, for a selectable mailbox.
    pub status: Option<Status>,
}

impl Listed {
    /// Whether it shows the messages of all mailboxes (`\All`).
    #[must_use]
    pub fn is_all_mail(&self) -> bool {
        self.special_use.contains("\\all")
    }
}

/// The fingerprint of a mailbox: if two are equal and have a mod-sequence, nothing happened in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: UidNext,
    /// MESSAGES.
    pub messages: u64,
    /// UNSEEN.
    pub unseen: u64,
    /// HIGHESTMODSEQ (RFC 7162 §3.1.7); none where the server has no mod-sequences.
    pub highest_modseq: Option<ModSeq>,
    /// The mailbox's GUID, where it is told: by dsync.
    pub guid: Option<Guid>,
}

impl Status {
    /// Whether an equal fingerprint proves that no flag changed: STATUS counts unseen messages, nothing else, so only a
    /// mod-sequence does, or that there is no message to have flags.
    #[must_use]
    pub const fn sees_flags(&self) -> bool {
        self.highest_modseq.is_some() || self.messages == 0
    }

    /// UIDNEXT in the stored form of a fingerprint.
    #[must_use]
    pub fn stored_uid_next(stored: &str) -> Option<UidNext> {
        Self::stored(stored).map(|status| status.uid_next)
    }

    /// The fingerprint whose stored form this is.
    #[must_use]
    pub fn stored(stored: &str) -> Option<Self> {
        let mut words = stored.split(' ');
        let (mut numbers, mut guid) = (BTreeMap::new(), None);
        while let Some((name, value)) = words.next().zip(words.next()) {
            if name == "guid" {
                guid = Some(Guid::from_hex(value)?);
            } else {
                numbers.insert(name, value.parse::<u64>().ok()?);
            }
        }
        let small = |name| numbers.get(name).and_then(|number| u32::try_from(*number).ok());
        Some(Self {
            uid_validity: UidValidity(small("uidvalidity")?),
            uid_next: UidNext(small("uidnext")?),
            messages: *numbers.get("messages")?,
            unseen: numbers.get("unseen").copied().unwrap_or_default(),
            highest_modseq: numbers.get("highestmodseq").copied().map(ModSeq),
            guid,
        })
    }
}

/// The form that is stored and compared.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid_validity, uid_next, messages, unseen, highest_modseq, guid } = self;
        write!(f, "uidvalidity {uid_validity} uidnext {uid_next} messages {messages} unseen {unseen}")?;
        highest_modseq.map_or(Ok(()), |modseq| write!(f, " highestmodseq {modseq}"))?;
        guid.map_or(Ok(()), |guid| write!(f, " guid {guid}"))
    }
}

/// The messages of a mailbox, and what it promised before they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT as read *before* the list: a message that arrives in between is not in the list and not below it.
    pub uid_next: UidNext,
    /// HIGHESTMODSEQ, if the server has mod-sequences.
    pub highest_modseq: Option<ModSeq>,
    /// Ascending by UID, all below `uid_next`.
    pub messages: Vec<Message>,
}

impl Account {
    /// Whether a mailbox is one that this account carries for everybody.
    #[must_use]
    pub fn carries(&self, name: &MailboxName) -> bool {
        self.carried.as_ref().is_some_and(|carried| carried.mailboxes.contains(name))
    }
}

impl Contents {
    /// Whether `other` has every message of this one, by UID.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.messages.iter().all(|message| other.messages.binary_search_by_key(&message.uid, |known| known.uid).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_back() {
        for (highest_modseq, guid) in [(None, None), (Some(ModSeq(u64::MAX)), Some(Guid([0xab; 16])))] {
            let status = Status {
                uid_validity: UidValidity(u32::MAX),
                uid_next: UidNext(7),
                messages: 3,
                unseen: 2,
                highest_modseq,
                guid,
            };
            assert_eq!(Status::stored(&status.to_string()), Some(status));
        }
        for text in
            ["", "uidvalidity", "uidvalidity 1 uidnext x messages 3", "uidnext 4294967296 uidvalidity 1 messages 1"]
        {
            assert_eq!(Status::stored(text), None, "{text}");
        }
    }
}
