//! An account that is read, whichever way.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::dsync::{self, DsyncReader};
use super::imap::{self, Arrivals, BodyEvent, Changes, ImapReader, ReadError, Seen};
use super::profile::{self, Profile};
use crate::mailbox::pop3::TextDigest;
use crate::mailbox::quota::Quota;
use crate::mailbox::{Account, Contents, Guid, Listed, Message, Sharing, Status, Uid, UidValidity};
use crate::net::meter::Meter;
use crate::wire::imap::command::Part;

/// An account that is read over IMAP or by dsync.
#[derive(Debug)]
pub enum Reader {
    /// As clients see it.
    Imap(Box<ImapReader>),
    /// As a Dovecot's doveadm service tells it.
    Dsync(Box<DsyncReader>),
}

/// What is told of a message together with its body only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The POP3 UIDL that it is stored with, if it is, and its place in POP3's list, if it has one.
    pub uidl: Option<(String, Option<u32>)>,
    /// INTERNALDATE in seconds since the epoch.
    pub received: i64,
}

/// A stream of bodies.
#[derive(Debug)]
pub enum Bodies<'a> {
    /// Over IMAP.
    Imap(Box<imap::Bodies<'a>>),
    /// By dsync.
    Dsync(Box<dsync::Bodies<'a>>),
}

impl Reader {
    /// Whether it reads over IMAP, what clients see.
    #[must_use]
    pub const fn is_imap(&self) -> bool {
        matches!(self, Self::Imap(_))
    }

    /// Tells how mailboxes were stored as they were before: where the way of reading allows it, only what happened since is told.
    pub fn know<'a>(&mut self, before: impl Iterator<Item = &'a str>) {
        if let Self::Dsync(reader) = self {
            reader.know(before);
        }
    }

    /// The mailboxes of the personal namespace with their STATUS, and the subscriptions.
    ///
    /// # Errors
    /// If the side does not tell them.
    pub async fn account(&mut self) -> Result<Account, ReadError> {
        match self {
            Self::Imap(reader) => reader.account().await,
            Self::Dsync(reader) => reader.account().await,
        }
    }

    /// The messages of a mailbox. UIDNEXT is older than the list, or as old.
    ///
    /// # Errors
    /// If the mailbox can't be read.
    pub async fn contents(&mut self, listed: &Listed) -> Result<Contents, ReadError> {
        match self {
            Self::Imap(reader) => reader.contents(listed).await,
            Self::Dsync(reader) => reader.contents(listed).await,
        }
    }

    /// What happened since `seen`. `None` if only the full list tells.
    ///
    /// # Errors
    /// As [`Reader::contents`].
    pub async fn changes(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Changes>, ReadError> {
        match self {
            Self::Imap(reader) => reader.changes(listed, seen).await,
            Self::Dsync(reader) => Ok(reader.changes(listed, seen)),
        }
    }

    /// All messages, the known ones with their flags at least. `None` if the mailbox is not the one that was seen any more.
    ///
    /// # Errors
    /// As [`Reader::contents`].
    pub async fn flags(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Contents>, ReadError> {
        match self {
            Self::Imap(reader) => reader.flags(listed, seen).await,
            Self::Dsync(reader) => reader.flags(listed, seen).await,
        }
    }

    /// The flags of all messages of `mailboxes`. `None` for one in which something else happened since it was seen.
    ///
    /// # Errors
    /// If the side can't be asked any more.
    pub async fn flags_of(&mut self, mailboxes: &[(&Listed, Seen)]) -> Result<Vec<Option<Contents>>, ReadError> {
        match self {
            Self::Imap(reader) => reader.flags_of(mailboxes).await,
            // Each is looked at on its own: it keeps no mod-sequences, or it would not be asked for here.
            Self::Dsync(_) => Ok(mailboxes.iter().map(|_| None).collect()),
        }
    }

    /// The messages of `uids` (ascending) that there are, in a mailbox in which nothing happened since `seen`. `None` if
    /// something did.
    ///
    /// # Errors
    /// As [`Reader::contents`].
    pub async fn some(&mut self, listed: &Listed, seen: &Seen, uids: &[Uid]) -> Result<Option<Contents>, ReadError> {
        match self {
            Self::Imap(reader) => reader.some(listed, seen, uids).await,
            Self::Dsync(reader) => reader.some(listed, seen, uids).await,
        }
    }

    /// Which messages there are in a mailbox in which nothing happened since `seen`. `None` if something did.
    ///
    /// # Errors
    /// As [`Reader::contents`].
    pub async fn uids(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Vec<Uid>>, ReadError> {
        match self {
            Self::Imap(reader) => reader.uids(listed, seen).await,
            Self::Dsync(reader) => {
                let contents = reader.flags(listed, seen).await?;
                let quiet =
                    contents.filter(|now| now.uid_next == seen.uid_next && now.messages.len() as u64 == seen.messages);
                Ok(quiet.map(|now| now.messages.iter().map(|message| message.uid).collect()))
            }
        }
    }

    /// What a mailbox is now.
    ///
    /// # Errors
    /// If the side refuses it, or has no such mailbox.
    pub async fn status(&mut self, listed: &Listed) -> Result<Status, ReadError> {
        match self {
            Self::Imap(reader) => reader.status(listed).await,
            Self::Dsync(reader) => reader.status(listed).await,
        }
    }

    /// The messages of a mailbox with UID `first` and above.
    ///
    /// # Errors
    /// If the mailbox can't be read.
    pub async fn arrivals(&mut self, listed: &Listed, first: Uid) -> Result<Arrivals, ReadError> {
        match self {
            Self::Imap(reader) => reader.arrivals(listed, first).await,
            Self::Dsync(reader) => reader.arrivals(listed, first).await,
        }
    }

    /// A stream of the bodies of `uids` (ascending) in a mailbox.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn bodies(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: Vec<Uid>,
    ) -> Result<Bodies<'_>, ReadError> {
        match self {
            Self::Imap(reader) => {
                reader.bodies(listed, uid_validity, uids).await.map(|bodies| Bodies::Imap(Box::new(bodies)))
            }
            Self::Dsync(reader) => {
                reader.bodies(listed, uid_validity, uids).map(|bodies| Bodies::Dsync(Box::new(bodies)))
            }
        }
    }

    /// Whether the server keeps mod-sequences.
    #[must_use]
    pub fn has_modseq(&self) -> bool {
        match self {
            Self::Imap(reader) => reader.has_modseq(),
            Self::Dsync(_) => true,
        }
    }

    /// What is particular to the server.
    #[must_use]
    pub fn profile(&self) -> &'static Profile {
        match self {
            Self::Imap(reader) => reader.profile(),
            Self::Dsync(_) => profile::dovecot(),
        }
    }

    /// What the server announced after the login; nothing by dsync.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        let imap = match self {
            Self::Imap(reader) => Some(reader),
            Self::Dsync(_) => None,
        };
        imap.into_iter().flat_map(|reader| reader.capabilities())
    }

    /// Whether the server tells which messages of different mailboxes are the same.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        match self {
            Self::Imap(reader) => reader.has_labels(),
            Self::Dsync(_) => false,
        }
    }

    /// Gives messages of INBOX that a POP3 client has had a keyword, where the server tells which they are.
    pub fn mark_popped_as(&mut self, keyword: &str) {
        if let Self::Imap(reader) = self {
            reader.mark_popped_as(keyword);
        }
    }

    /// That keyword, if it gives one.
    #[must_use]
    pub fn popped(&self) -> Option<&str> {
        match self {
            Self::Imap(reader) => reader.popped(),
            Self::Dsync(_) => None,
        }
    }

    /// Tells of the messages of all mail which are in one of these mailboxes, too, where the server tells which are the same.
    pub fn mark_labelled_by(&mut self, labels: Vec<Listed>) {
        if let Self::Imap(reader) = self {
            reader.mark_labelled_by(labels);
        }
    }

    /// The number that each message of a range has in all its mailboxes, ascending by UID; of none, where the server tells none.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn gm_msgids(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: RangeInclusive<Uid>,
    ) -> Result<Vec<(Uid, u64)>, ReadError> {
        match self {
            Self::Imap(reader) => reader.gm_msgids(listed, uid_validity, uids).await,
            Self::Dsync(_) => Ok(Vec::new()),
        }
    }

    /// Digests of the headers of messages; none for one that the server doesn't give, and by dsync none at all.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn headers(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
    ) -> Result<HashMap<Uid, TextDigest>, ReadError> {
        match self {
            Self::Imap(reader) => reader.headers(listed, uid_validity, uids).await,
            Self::Dsync(_) => Ok(HashMap::new()),
        }
    }

    /// A part of messages that may hold a UIDL, as the server gives it; none for one of which it gives nothing, and by dsync none
    /// at all.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn fields(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        part: Part,
    ) -> Result<HashMap<Uid, Vec<u8>>, ReadError> {
        match self {
            Self::Imap(reader) => reader.fields(listed, uid_validity, uids, part).await,
            Self::Dsync(_) => Ok(HashMap::new()),
        }
    }

    /// The GUIDs of messages on a Dovecot, those that are 32 hexadecimal digits: only they can be ours.
    ///
    /// # Errors
    /// If the mailbox can't be read, or is not read over IMAP, or the server is no Dovecot.
    pub async fn guids(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
    ) -> Result<HashMap<Guid, Uid>, ReadError> {
        match self {
            Self::Imap(reader) => reader.guids(listed, uid_validity, uids).await,
            Self::Dsync(_) => Err(ReadError::NotToldByDsync("GUIDs of messages")),
        }
    }

    /// The lines `fields` of messages' headers, as they stand there.
    ///
    /// # Errors
    /// If the mailbox can't be read, or is not read over IMAP.
    pub async fn header_fields(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        fields: &[String],
    ) -> Result<HashMap<Uid, Vec<u8>>, ReadError> {
        match self {
            Self::Imap(reader) => reader.header_fields(listed, uid_validity, uids, fields).await,
            Self::Dsync(_) => Err(ReadError::NotToldByDsync("lines of headers")),
        }
    }

    /// Who may do what in the mailboxes of `account`; nothing where the server has no rights (RFC 4314).
    ///
    /// # Errors
    /// If the connection breaks, or it is not read over IMAP.
    pub async fn sharing(&mut self, account: &Account) -> Result<Sharing, ReadError> {
        match self {
            Self::Imap(reader) => reader.sharing(account).await,
            Self::Dsync(_) => Err(ReadError::NotToldByDsync("who may do what")),
        }
    }

    /// The quota roots of INBOX; none where the server has no quotas, or doesn't tell of them, as by dsync.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn quota(&mut self) -> Result<Quota, ReadError> {
        match self {
            Self::Imap(reader) => reader.quota().await,
            Self::Dsync(_) => Ok(Quota::default()),
        }
    }

    /// Takes the mailboxes of the *Shared* namespace for the account's own, with the rights that it needs in each. dsync tells of
    /// none: the difference to what clients see is found then.
    pub fn carry_shared(&mut self, needed: &'static str) {
        if let Self::Imap(reader) = self {
            reader.carry_shared(needed);
        }
    }

    /// Counts what it receives over IMAP, and reads no body for which there is no room left today.
    pub fn count_with(&mut self, meter: &Meter) {
        if let Self::Imap(reader) = self {
            reader.count_with(meter);
        }
    }

    /// Whether a message of this size may be read today.
    ///
    /// # Errors
    /// [`ReadError::Spent`] if not.
    pub fn may_read(&self, octets: u64) -> Result<(), ReadError> {
        match self {
            Self::Imap(reader) => reader.may_read(octets),
            Self::Dsync(_) => Ok(()),
        }
    }

    /// Makes the connection anew if it has lain idle for long. Call it only between two pieces of work.
    ///
    /// # Errors
    /// If the side can't be reached, or refuses the login.
    pub async fn revive(&mut self) -> Result<(), ReadError> {
        match self {
            Self::Imap(reader) => reader.revive().await,
            Self::Dsync(_) => Ok(()),
        }
    }

    /// Closes the mailbox that is open, if one is.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn close(&mut self) -> Result<(), ReadError> {
        match self {
            Self::Imap(reader) => reader.close().await,
            Self::Dsync(_) => Ok(()),
        }
    }

    /// Says goodbye. Errors don't matter any more.
    pub async fn logout(self) {
        if let Self::Imap(reader) = self {
            reader.logout().await;
        }
    }
}

impl Bodies<'_> {
    /// Compares the bodies with the sizes that were listed, where the way of reading needs that.
    #[must_use]
    pub fn expecting(self, messages: &[Message]) -> Self {
        match self {
            Self::Imap(bodies) => Self::Imap(Box::new(bodies.expecting(messages))),
            // Its framing tells where a text ends, whatever its size.
            Self::Dsync(bodies) => Self::Dsync(bodies),
        }
    }

    /// What came with the body that began last, where the way of reading tells anything.
    #[must_use]
    pub const fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Imap(_) => None,
            Self::Dsync(bodies) => bodies.stored(),
        }
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the side can't be read any more.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        match self {
            Self::Imap(bodies) => bodies.next().await,
            Self::Dsync(bodies) => bodies.next().await,
        }
    }
}
