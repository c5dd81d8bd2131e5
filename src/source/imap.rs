//! Reads an account over IMAP: its mailboxes, what STATUS says of them, their messages, and bodies in a pipelined stream.

mod account;
mod arrivals;
mod bodies;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::Instant;

pub use arrivals::{Arrival, Arrivals};
pub use bodies::{Bodies, BodyEvent};

use crate::mailbox::{Contents, Keywords, Listed, Message, ModSeq, SystemFlags, Uid, UidNext, UidValidity};
use crate::net::imap::{ImapConnection, ImapError, ImapServer, LoginAnswer, printable};
use crate::wire::imap::command::{self, Simple};
use crate::wire::imap::date;
use crate::wire::imap::scan::{Fetch, Response};

/// Who logs in to a side, and with what.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name, as the side knows it.
    pub name: String,
    /// The password.
    pub password: Arc<SecretSlice<u8>>,
}

/// What can go wrong while a side is read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server can't be talked to.
    #[error(transparent)]
    Imap(#[from] ImapError),
    /// The server refused the login: don't try again with the same password.
    #[error("{server} refuses the login of {name}: {text}")]
    LoginRefused {
        /// Which server, with its side.
        server: String,
        /// The login name.
        name: String,
        /// What it said.
        text: String,
    },
    /// A mailbox can't be read.
    #[error("{mailbox}: {what}")]
    Mailbox {
        /// Its name as the server gave it.
        mailbox: String,
        /// What is wrong.
        what: String,
    },
    /// A mailbox was deleted or renamed since it was listed.
    #[error("{mailbox}: is gone")]
    Gone {
        /// Its name as the server gave it.
        mailbox: String,
    },
    /// More than we are ready to hold.
    #[error("{what}")]
    TooMuch {
        /// What there is too much of.
        what: String,
    },
}

/// A logged-in connection that reads.
#[derive(Debug)]
pub struct Reader {
    connection: ImapConnection,
    /// For connecting again.
    server: ImapServer,
    login: Login,
    /// Raw name of the mailbox that is open.
    open: Option<Vec<u8>>,
    /// Mailbox and UID of a message at which the connection broke.
    suspect: Option<(Vec<u8>, Uid)>,
    /// When it was last known to be alive.
    used: Instant,
}

/// A connection that was not used for this long is made anew: a server may have given it up (RFC 9051 §5.4 lets it after
/// 30 minutes, and old ones do sooner), and a large mailbox takes long to be written on the other side.
const STALE: Duration = Duration::from_secs(300);

impl Reader {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ReadError::LoginRefused`] if the server says NO; [`ReadError::Imap`] if it can't be reached.
    pub async fn open(server: &ImapServer, login: &Login) -> Result<Self, ReadError> {
        let connection = Self::connect(server, login).await?;
        Ok(Self {
            connection,
            server: server.clone(),
            login: login.clone(),
            open: None,
            suspect: None,
            used: Instant::now(),
        })
    }

    async fn connect(server: &ImapServer, login: &Login) -> Result<ImapConnection, ReadError> {
        let mut connection = server.connect().await?;
        let shown = format!("{} side {}", server.side(), server.name());
        match connection.login(&login.name, None, login.password.expose_secret()).await? {
            LoginAnswer::Accepted { .. } => Ok(connection),
            LoginAnswer::Refused { raw, .. } => {
                Err(ReadError::LoginRefused { server: shown, name: login.name.clone(), text: printable(&raw) })
            }
        }
    }

    /// Makes the connection anew if it has lain idle for long. Call it only between two pieces of work.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub async fn revive(&mut self) -> Result<(), ReadError> {
        if self.used.elapsed() > STALE {
            self.connection = Self::connect(&self.server, &self.login).await?;
            self.open = None;
        }
        self.used = Instant::now();
        Ok(())
    }

    /// Whether the server keeps mod-sequences (RFC 7162).
    #[must_use]
    pub fn has_modseq(&self) -> bool {
        self.connection.capabilities().has("CONDSTORE") || self.connection.capabilities().has("QRESYNC")
    }

    /// What the server announced after the login.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.connection.capabilities().iter()
    }

    /// Closes the mailbox that is open, if one is: an import under an open mailbox would end the session.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn close(&mut self) -> Result<(), ReadError> {
        if self.open.take().is_some() {
            // It was opened by EXAMINE, so CLOSE expunges nothing (RFC 3501 §6.4.2); UNSELECT needs no such care.
            let (name, command) = if self.connection.capabilities().has("UNSELECT") {
                ("UNSELECT", Simple::Unselect)
            } else {
                ("CLOSE", Simple::Close)
            };
            let tag = self.connection.tag();
            self.connection.run(name, &tag, command::simple(&tag, command), &mut |_| {}).await?;
        }
        Ok(())
    }

    /// Says goodbye. Errors don't matter any more.
    pub async fn logout(mut self) {
        let tag = self.connection.tag();
        let _ = self.connection.run("LOGOUT", &tag, command::simple(&tag, Simple::Logout), &mut |_| {}).await;
    }

    /// Connects again after a loss, and opens `listed`, which must be what it was.
    async fn open_again(&mut self, listed: &Listed, uid_validity: UidValidity) -> Result<(), ReadError> {
        self.connection = Self::connect(&self.server, &self.login).await?;
        let opened = self.examine(listed).await?;
        if opened.uid_validity == Some(uid_validity.0) {
            Ok(())
        } else {
            Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()))
        }
    }

    async fn examine(&mut self, listed: &Listed) -> Result<Opened, ReadError> {
        self.open = None;
        let mut opened = Opened::default();
        let tag = self.connection.tag();
        let command = command::examine(&tag, &listed.raw, self.has_modseq());
        let mut each = |response: Response<'_>| opened.note(&response);
        let done = self.connection.run("EXAMINE", &tag, command, &mut each).await;
        done.map_err(|error| match error {
            ImapError::Refused { text, .. } if account::is_nonexistent(&text) => {
                ReadError::Gone { mailbox: self.shown(listed) }
            }
            ImapError::Refused { text, .. } => self.in_mailbox(listed, format!("can't be opened: {text}")),
            other => other.into(),
        })?;
        self.open = Some(listed.raw.clone());
        Ok(opened)
    }

    /// The messages of a mailbox. UIDNEXT is read before the list, so what arrives in between is in neither.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or the server doesn't say what identifies it.
    pub async fn contents(&mut self, listed: &Listed) -> Result<Contents, ReadError> {
        let opened = self.examine(listed).await?;
        let uid_validity =
            opened.uid_validity.ok_or_else(|| self.in_mailbox(listed, "the server tells no UIDVALIDITY".to_owned()))?;
        let uid_next = opened
            .uid_next
            .or(listed.status.map(|status| status.uid_next.0))
            .ok_or_else(|| self.in_mailbox(listed, "the server tells no UIDNEXT".to_owned()))?;
        let mut listing = Listing { uid_next, expected: opened.exists, ..Listing::default() };
        if let Some(last) = NonZeroU32::new(uid_next.saturating_sub(1)).filter(|_| opened.exists > 0) {
            let modseq = opened.highest_modseq.is_some();
            let tag = self.connection.tag();
            let command = command::uid_fetch_metadata(&tag, NonZeroU32::MIN..=last, modseq);
            let mut each = |response: Response<'_>| listing.note(response);
            let done = self.connection.run("UID FETCH", &tag, command, &mut each).await;
            done.map_err(|error| match error {
                ImapError::Lost { what, .. } => self.in_mailbox(listed, format!("while messages were listed: {what}")),
                other => other.into(),
            })?;
        }
        let messages = listing.complete().map_err(|what| self.in_mailbox(listed, what))?;
        Ok(Contents {
            uid_validity: UidValidity(uid_validity),
            uid_next: UidNext(uid_next),
            highest_modseq: opened.highest_modseq.map(ModSeq),
            messages,
        })
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
        if self.open.as_deref() != Some(&listed.raw) {
            let opened = self.examine(listed).await?;
            if opened.uid_validity != Some(uid_validity.0) {
                return Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()));
            }
        }
        Ok(Bodies::new(self, listed.clone(), uid_validity, uids))
    }

    fn in_mailbox(&self, listed: &Listed, what: String) -> ReadError {
        ReadError::Mailbox { mailbox: self.shown(listed), what }
    }

    fn shown(&self, listed: &Listed) -> String {
        let server = self.connection.server();
        format!("{} side {}, {}", server.side(), server.name(), printable(&listed.raw))
    }
}

/// What EXAMINE tells.
#[derive(Debug, Default)]
struct Opened {
    exists: u32,
    uid_validity: Option<u32>,
    uid_next: Option<u32>,
    highest_modseq: Option<u64>,
}

impl Opened {
    fn note(&mut self, response: &Response<'_>) {
        match response {
            Response::Exists(count) => self.exists = *count,
            Response::Status { code: Some(code), .. } => {
                let small = || code.number().and_then(|number| u32::try_from(number).ok());
                if code.is("UIDVALIDITY") {
                    self.uid_validity = small();
                } else if code.is("UIDNEXT") {
                    self.uid_next = small();
                } else if code.is("HIGHESTMODSEQ") {
                    self.highest_modseq = code.number();
                }
            }
            _ => {}
        }
    }
}

/// The list of a mailbox while it comes in. A message that the server leaves out, or tells only half of, would be missing
/// in the copy and in its verification alike; so the list must have every message that EXAMINE promised.
#[derive(Debug, Default)]
struct Listing {
    uid_next: u32,
    /// Messages that EXAMINE promised, less those expunged since.
    expected: u32,
    messages: Vec<Message>,
    /// What the server told in pieces, by sequence number.
    pieces: BTreeMap<u32, Fetch>,
}

/// Messages told in pieces at a time: a server that splits its answers does so one message after the other.
const PIECES_MAX: usize = 1000;

impl Listing {
    fn note(&mut self, response: Response<'_>) {
        match response {
            Response::Expunge(_) => self.expected = self.expected.saturating_sub(1),
            Response::Fetch(fetch) if is_whole(&fetch) => self.messages.extend(message(fetch)),
            Response::Fetch(fetch) if self.pieces.len() < PIECES_MAX || self.pieces.contains_key(&fetch.seq) => {
                let seq = fetch.seq;
                let merged = match self.pieces.remove(&seq) {
                    Some(known) => merge(known, fetch),
                    None => fetch,
                };
                if is_whole(&merged) {
                    self.messages.extend(message(merged));
                } else {
                    self.pieces.insert(seq, merged);
                }
            }
            _ => {}
        }
    }

    /// The messages in order; an error if they are not those that were promised.
    fn complete(mut self) -> Result<Vec<Message>, String> {
        // A server may send FLAGS of a message twice (unsolicited); the later one is newer.
        self.messages.sort_by_key(|message| message.uid);
        self.messages.reverse();
        self.messages.dedup_by_key(|message| message.uid);
        self.messages.reverse();
        if let Some(stray) = self.messages.last().filter(|message| message.uid.0 >= self.uid_next) {
            return Err(format!("UID {} is not below UIDNEXT {}", stray.uid, self.uid_next));
        }
        let listed = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        if listed != self.expected {
            return Err(format!("lists {listed} of {} messages with UID, flags and size; try again", self.expected));
        }
        Ok(self.messages)
    }
}

const fn is_whole(fetch: &Fetch) -> bool {
    fetch.uid.is_some() && fetch.flags.is_some() && fetch.size.is_some()
}

fn merge(known: Fetch, more: Fetch) -> Fetch {
    Fetch {
        seq: more.seq,
        uid: more.uid.or(known.uid),
        flags: more.flags.or(known.flags),
        internal_date: more.internal_date.or(known.internal_date),
        size: more.size.or(known.size),
        modseq: more.modseq.or(known.modseq),
        body: None,
    }
}

/// A message from a FETCH that has everything we asked for.
fn message(fetch: Fetch) -> Option<Message> {
    let (uid, flags, size) = (fetch.uid?, fetch.flags?, fetch.size?);
    let mut bits = SystemFlags::default();
    let mut keywords = Vec::new();
    for flag in flags {
        match SystemFlags::bit(&flag) {
            Some(bit) => bits.0 |= bit,
            None if flag.eq_ignore_ascii_case(b"\\Recent") => {}
            None => keywords.push(String::from_utf8_lossy(&flag).into_owned()),
        }
    }
    Some(Message {
        uid: Uid(uid),
        flags: bits,
        keywords: Keywords::from_names(keywords),
        internal_date: fetch.internal_date.as_deref().and_then(date::instant),
        size,
        modseq: ModSeq(fetch.modseq.unwrap_or_default()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::imap::scan::response;

    fn listed(expected: u32, lines: &[&str]) -> Result<Vec<u32>, String> {
        let mut listing = Listing { uid_next: 10, expected, ..Listing::default() };
        for line in lines {
            listing.note(response(line.as_bytes()));
        }
        listing.complete().map(|messages| messages.iter().map(|message| message.uid.0).collect())
    }

    #[test]
    fn a_list_has_every_message_that_was_promised_or_is_none() {
        let one = "* 1 FETCH (UID 3 FLAGS (\\Seen) RFC822.SIZE 9)";
        let two = "* 2 FETCH (UID 7 FLAGS () RFC822.SIZE 9)";
        assert_eq!(listed(2, &[one, two]), Ok(vec![3, 7]));
        assert_eq!(listed(2, &[two, one, one]), Ok(vec![3, 7]), "order and repetition don't matter");
        assert!(listed(2, &[one]).is_err(), "a message that the server leaves out");
        assert!(listed(2, &[one, "* 2 FETCH (UID 7 FLAGS () RFC822.SIZE -1)"]).is_err(), "one that it tells half of");
        assert_eq!(listed(2, &[one, "* 2 FETCH (UID 7 FLAGS ())", "* 2 FETCH (RFC822.SIZE 9)"]), Ok(vec![3, 7]));
        assert_eq!(listed(2, &[one, "* 2 EXPUNGE"]), Ok(vec![3]));
        assert!(listed(1, &["* 1 FETCH (UID 10 FLAGS () RFC822.SIZE 9)"]).is_err(), "UIDNEXT was too low");
        assert_eq!(
            listed(1, &[one, "* 1 FETCH (FLAGS (\\Deleted))"]),
            Ok(vec![3]),
            "news about flags is no new message"
        );
    }
}
