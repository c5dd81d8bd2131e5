//! Reads an account over a Dovecot's doveadm service: no password of the user is needed, and no IMAP session is opened.
//!
//! One look at the account is one dsync session: it tells the names, and of each mailbox either all its messages, or, where it
//! is known from before, only what happened since (expunges included, which IMAP tells at most to those who ask for all UIDs).
//! The lists are kept until the next look, so a mailbox is not listed twice. Texts come in a session of their own for each
//! mailbox. Nothing of this can change anything there ([`crate::wire::dsync::reader`]).
//!
//! What is told here is the storage's view. What clients see is compared over IMAP, by a reader that shares no code with this
//! one: a mistake made here is found there, before anybody is switched.

mod account;
mod bodies;
mod error;
mod session;
mod text;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

pub use bodies::Bodies;
pub use error::DsyncError;

use super::imap::{Arrival, Arrivals, Changes, Left, ReadError, Seen};
use crate::config::Endpoint;
use crate::mailbox::{
    Contents, Guid, Keywords, Listed, Message, ModSeq, Side, Status, SystemFlags, Uid, UidNext, UidValidity,
};
use crate::net::TlsError;
use crate::net::doveadm::{Doveadm, Reason};
use crate::net::imap::printable;
use crate::wire::dsync::item::MailboxState;
use crate::wire::dsync::listed::{self, Kind, Marks};
use crate::wire::imap::date;
use session::{Session, Told};

/// Messages of one mailbox that we are ready to hold.
const MESSAGES_MAX: usize = 4_000_000;

/// A Dovecot's doveadm service on a side that is read.
#[derive(Clone, Debug)]
pub struct DsyncServer {
    side: Side,
    doveadm: Arc<Doveadm>,
}

impl DsyncServer {
    /// A service at `endpoint`. `idle` is the longest time without progress before a session is given up.
    ///
    /// # Errors
    /// If the certificates to trust can't be read.
    pub fn new(side: Side, endpoint: Endpoint, password: SecretString, idle: Duration) -> Result<Self, TlsError> {
        Ok(Self { side, doveadm: Arc::new(Doveadm::new(endpoint, password, idle)?) })
    }

    /// As it stands in the configuration, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        self.doveadm.url()
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.doveadm.address()
    }

    /// Connects and logs in to the service, and does nothing there.
    ///
    /// # Errors
    /// [`DsyncError`]
    pub async fn probe(&self) -> Result<(), DsyncError> {
        self.doveadm.probe().await.map_err(|reason| self.failed("", reason))
    }

    fn failed(&self, user: &str, reason: Reason) -> DsyncError {
        DsyncError::new(user, &self.url(), reason, &[])
    }
}

/// An account that is read by dsync.
#[derive(Debug)]
pub struct DsyncReader {
    server: DsyncServer,
    user: String,
    /// Mailboxes as they were before.
    known: HashMap<Guid, Status>,
    /// Mailboxes as the last look found them, by their raw names.
    found: HashMap<Vec<u8>, Found>,
    /// A message that ended a session.
    suspect: Option<Suspect>,
}

/// A message that ended a session.
#[derive(Debug)]
struct Suspect {
    raw: Vec<u8>,
    uid: Uid,
    breaks: u32,
}

impl Suspect {
    fn is(&self, raw: &[u8], uid: Uid) -> bool {
        self.raw == raw && self.uid == uid
    }
}

/// A mailbox as the last look found it.
#[derive(Debug)]
struct Found {
    guid: Guid,
    status: Status,
    told: Kept,
}

/// What is kept of what was told.
#[derive(Debug)]
enum Kept {
    /// All of its messages.
    Whole(Vec<Message>),
    /// What happened since.
    Since(Status, Vec<listed::Listed>),
    /// Too much to be kept.
    Nothing,
}

impl DsyncReader {
    /// The account of `user`, by the name that the service knows. Nothing is connected yet.
    #[must_use]
    pub fn new(server: &DsyncServer, user: &str) -> Self {
        Self {
            server: server.clone(),
            user: user.to_owned(),
            known: HashMap::new(),
            found: HashMap::new(),
            suspect: None,
        }
    }

    /// Tells what mailboxes were before, as it was stored: the next look tells only what happened since.
    pub fn know<'a>(&mut self, before: impl Iterator<Item = &'a str>) {
        let stored = before.filter_map(Status::stored);
        self.known = stored.filter_map(|status| status.guid.map(|guid| (guid, status))).collect();
    }

    async fn open(&self, known: Vec<MailboxState>) -> Result<Session, DsyncError> {
        Session::open(&self.server, &self.user, known).await
    }

    /// Asks for one mailbox in a session of its own, from a UID on where it can be told from there on.
    async fn visit(
        &mut self,
        listed: &Listed,
        first: Option<Uid>,
    ) -> Result<(Session, Status, Vec<listed::Listed>), ReadError> {
        let gone = || ReadError::Gone { mailbox: self.shown(listed) };
        let Some(found) = self.found.get(&listed.raw) else { return Err(gone()) };
        let (guid, status) = (found.guid, found.status);
        let state = first.and_then(|first| state(guid, &status, UidNext(first.0)));
        for known in [state.into_iter().collect(), Vec::new()] {
            let mut session = self.open(known).await?;
            if !session.tree().iter().any(|node| node.mailbox.is_some_and(|mailbox| mailbox.guid == guid.0)) {
                break;
            }
            if let Some(Told { status, list }) = session.ask(guid, MESSAGES_MAX).await? {
                let list =
                    list.ok_or_else(|| self.in_mailbox(listed, format!("has more than {MESSAGES_MAX} messages")))?;
                return Ok((session, status, list));
            }
            session.finish().await?;
        }
        Err(gone())
    }

    /// The messages of a mailbox.
    ///
    /// # Errors
    /// If it is gone, or not told whole.
    pub async fn contents(&mut self, listed: &Listed) -> Result<Contents, ReadError> {
        if let Some(Found { status, told: Kept::Whole(messages), .. }) = self.found.get(&listed.raw) {
            return Ok(contents(status, messages.clone()));
        }
        let (mut session, status, list) = self.visit(listed, None).await?;
        session.pass().await?;
        session.finish().await?;
        let messages = whole(&status, &list).map_err(|what| self.in_mailbox(listed, what))?;
        Ok(contents(&status, messages))
    }

    /// What happened in a mailbox since `seen`, if the last look asked for just that. `None` if only the full list tells.
    #[must_use]
    pub fn changes(&self, listed: &Listed, seen: &Seen) -> Option<Changes> {
        let Found { status, told, .. } = self.found.get(&listed.raw)?;
        let Kept::Since(before, list) = told else { return None };
        // All that is below its UIDNEXT was known then, and so was more by now.
        let same = status.uid_validity == seen.uid_validity && before.uid_validity == seen.uid_validity;
        let goes_on = before.highest_modseq == seen.highest_modseq && before.uid_next <= seen.uid_next;
        if !(same && goes_on && status.uid_next >= seen.uid_next) {
            return None;
        }
        let gone = |one: &listed::Listed| matches!(one.kind, Kind::Gone).then_some(Uid(one.uid));
        let gone: Vec<Uid> = list.iter().filter_map(gone).collect();
        Some(Changes {
            contents: contents(status, list.iter().filter_map(message).collect()),
            total: u32::try_from(status.messages).unwrap_or(u32::MAX),
            left: if gone.is_empty() { Left::All } else { Left::Without(gone) },
        })
    }

    /// All messages of a mailbox, if it is the one that was seen.
    ///
    /// # Errors
    /// As [`DsyncReader::contents`].
    pub async fn flags(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Contents>, ReadError> {
        let contents = self.contents(listed).await?;
        let same = contents.uid_validity == seen.uid_validity && contents.uid_next >= seen.uid_next;
        Ok(same.then_some(contents))
    }

    /// The messages of `uids` that there are, in a mailbox in which nothing happened since `seen`. `None` if something did.
    ///
    /// # Errors
    /// As [`DsyncReader::contents`].
    pub async fn some(&mut self, listed: &Listed, seen: &Seen, uids: &[Uid]) -> Result<Option<Contents>, ReadError> {
        let Some(mut contents) = self.flags(listed, seen).await? else { return Ok(None) };
        if contents.uid_next != seen.uid_next || contents.messages.len() as u64 != seen.messages {
            return Ok(None);
        }
        contents.messages.retain(|message| uids.binary_search(&message.uid).is_ok());
        Ok(Some(contents))
    }

    /// What a mailbox is now.
    ///
    /// # Errors
    /// If it is gone.
    pub async fn status(&mut self, listed: &Listed) -> Result<Status, ReadError> {
        let last = self.found.get(&listed.raw).map(|found| Uid(found.status.uid_next.0));
        let (mut session, status, _) = self.visit(listed, last).await?;
        session.pass().await?;
        session.finish().await?;
        Ok(status)
    }

    /// The messages of a mailbox with UID `first` and above.
    ///
    /// # Errors
    /// If it is gone.
    pub async fn arrivals(&mut self, listed: &Listed, first: Uid) -> Result<Arrivals, ReadError> {
        let (mut session, status, list) = self.visit(listed, Some(first)).await?;
        session.pass().await?;
        session.finish().await?;
        let present = list.iter().filter(|one| matches!(one.kind, Kind::Present { .. }) && one.uid >= first.0);
        let arrival = |message: Message| Arrival {
            // (One that isn't told is 0 or 1.)
            internal_date: date::utc(message.internal_date.unwrap_or_default()).map(String::into_bytes),
            message,
        };
        Ok(Arrivals {
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
            list: present.filter_map(message).map(arrival).collect(),
        })
    }

    /// A stream of the bodies of `uids` (ascending) in a mailbox.
    ///
    /// # Errors
    /// If it is gone, or is not the one that was listed any more.
    pub fn bodies(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: Vec<Uid>,
    ) -> Result<Bodies<'_>, ReadError> {
        match self.found.get(&listed.raw).map(|found| found.status.uid_validity) {
            None => Err(ReadError::Gone { mailbox: self.shown(listed) }),
            Some(known) if known != uid_validity => Err(self.in_mailbox(listed, RECREATED.to_owned())),
            Some(_) => Ok(Bodies::new(self, listed.clone(), uid_validity, uids)),
        }
    }

    fn in_mailbox(&self, listed: &Listed, what: String) -> ReadError {
        ReadError::Mailbox { mailbox: self.shown(listed), what }
    }

    fn shown(&self, listed: &Listed) -> String {
        format!("{} side {}, {}", self.server.side, self.server.url(), printable(&listed.raw))
    }
}

const RECREATED: &str = "was re-created while it was read";

/// What is known of a mailbox of which everything below `uid_next` need not be told; none if that is nothing, or if it keeps no
/// mod-sequences.
fn state(guid: Guid, status: &Status, uid_next: UidNext) -> Option<MailboxState> {
    let highest = status.highest_modseq?;
    (uid_next.0 > 1).then(|| MailboxState {
        guid: guid.0,
        uid_validity: status.uid_validity.0,
        last_common_uid: uid_next.0 - 1,
        last_common_modseq: highest.0,
        messages: u32::try_from(status.messages).unwrap_or(u32::MAX),
        conflict: false,
    })
}

fn contents(status: &Status, messages: Vec<Message>) -> Contents {
    let Status { uid_validity, uid_next, highest_modseq, .. } = *status;
    Contents { uid_validity, uid_next, highest_modseq, messages }
}

/// The messages of a mailbox that was told whole. One that is left out would be missing in the copy.
fn whole(status: &Status, list: &[listed::Listed]) -> Result<Vec<Message>, String> {
    // Those that are gone, and that the log there still knows, are told as well.
    let present = list.iter().filter(|one| matches!(one.kind, Kind::Present { .. }));
    let messages: Vec<Message> = present.filter_map(message).collect();
    if messages.len() as u64 != status.messages {
        return Err(format!("lists {} of {} messages; try again", messages.len(), status.messages));
    }
    if let Some(stray) = messages.last().filter(|message| message.uid.0 >= status.uid_next.0) {
        return Err(format!("UID {} is not below UIDNEXT {}", stray.uid, status.uid_next));
    }
    Ok(messages)
}

/// A message that is there; without date and size if it was known before.
fn message(one: &listed::Listed) -> Option<Message> {
    let (Marks { modseq, flags, keywords }, internal_date, size) = match &one.kind {
        Kind::Present { marks, received, size } => (marks, *received, *size),
        Kind::Flagged(marks) => (marks, None, 0),
        Kind::Gone => return None,
    };
    Some(Message {
        uid: Uid(one.uid),
        flags: SystemFlags(*flags),
        keywords: Keywords::from_names(keywords.clone()),
        internal_date,
        size,
        modseq: ModSeq(*modseq),
        labelled: false,
    })
}
