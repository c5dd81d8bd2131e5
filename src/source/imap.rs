//! Reads an account over IMAP: its mailboxes, what STATUS says of them, their messages, and bodies in a pipelined stream.

mod about;
mod account;
mod arrivals;
mod bodies;
mod carried;
mod changes;
mod gmail;
mod identity;
mod lasting;
mod listing;
mod parts;
mod quiet;
mod refused;
mod sharing;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretSlice;
use tokio::time::Instant;
use tracing::info;

pub use arrivals::{Arrival, Arrivals};
use listing::Listing;

use bodies::Suspect;
pub use bodies::{Bodies, BodyEvent};
pub use changes::{Changes, Left, Seen};

use crate::mailbox::{Contents, Listed, Message, ModSeq, Uid, UidNext, UidValidity};
use crate::net::imap::{ImapConnection, ImapError, ImapServer, printable};
use crate::net::meter::Meter;
use crate::net::{Access, LoginError, Refusal};
use crate::source::profile::{self, Facts, Profile};
use crate::wire::imap::command::{self, Fragments, Simple};
use crate::wire::imap::scan::{self, ListItem, Namespaces, Response};

/// What is known of a user that our own logins can be made of.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name, as the sides know it.
    pub name: String,
    /// The user's own password, where it is known.
    pub password: Option<Arc<SecretSlice<u8>>>,
}

/// What can go wrong while a side is read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server can't be talked to.
    #[error(transparent)]
    Imap(#[from] ImapError),
    /// The doveadm service can't be used.
    #[error(transparent)]
    Dsync(#[from] super::dsync::DsyncError),
    /// The server refused the login: don't try again with the same password.
    #[error("{0}")]
    LoginRefused(Refusal),
    /// The server refused the login for a reason that says nothing about the password.
    #[error("not now: {0}")]
    Busy(Refusal),
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
    /// dsync does not tell it.
    #[error("dsync does not tell {0}: it is asked over IMAP")]
    NotToldByDsync(&'static str),
    /// The account has had what it is given for now, or what we take of it.
    #[error("{0}")]
    Spent(String),
    /// More than we are ready to hold.
    #[error("{what}")]
    TooMuch {
        /// What there is too much of.
        what: String,
    },
}

impl From<LoginError<ImapError>> for ReadError {
    fn from(error: LoginError<ImapError>) -> Self {
        match error {
            LoginError::Server(error) => Self::Imap(error),
            LoginError::Refused(refusal) => Self::LoginRefused(refusal),
            LoginError::Busy(refusal, _) => Self::Busy(refusal),
        }
    }
}

/// A logged-in connection that reads.
#[derive(Debug)]
pub struct ImapReader {
    connection: ImapConnection,
    /// For connecting again.
    server: ImapServer,
    access: Access,
    /// Raw name of the mailbox that is open.
    open: Option<Vec<u8>>,
    /// A message that did not come as it should.
    suspect: Option<Suspect>,
    /// Texts that were shorter than their RFC822.SIZE, and the same when they were read again.
    lies: u32,
    /// Its namespaces, once they were asked for.
    namespaces: Option<Namespaces>,
    /// What it lists of others' namespaces only if it is asked for them by name, once it was.
    unlisted: Option<Vec<ListItem>>,
    /// The rights that it needs in what it carries for everybody, if it carries anything.
    carries: Option<&'static str>,
    /// What is particular to it.
    profile: &'static Profile,
    /// Mailboxes that were young and whose UIDVALIDITY is known to last.
    lasting: HashMap<Vec<u8>, UidValidity>,
    /// The keyword for messages that POP3 hides.
    popped: Option<String>,
    /// Mailboxes in which messages of all mail count as labelled, if that is asked for.
    labels: Option<Vec<Listed>>,
    /// What the account's connections have received today.
    meter: Meter,
    /// How long the server is left in peace between two windows of bodies, because it says that we are too fast.
    slow: Duration,
    /// When it was last known to be alive.
    used: Instant,
}

/// A connection that was not used for this long is made anew: a server may have given it up (RFC 9051 §5.4 lets it after
/// 30 minutes, and old ones do sooner), and a large mailbox takes long to be written on the other side.
const STALE: Duration = Duration::from_secs(300);

impl ImapReader {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ReadError::LoginRefused`] or [`ReadError::Busy`] if the server says NO; [`ReadError::Imap`] if it can't be reached.
    pub async fn open(server: &ImapServer, access: &Access) -> Result<Self, ReadError> {
        let mut connection = server.log_in(access).await?;
        let profile = profile_of(&mut connection).await?;
        Ok(Self {
            connection,
            profile,
            lasting: HashMap::new(),
            server: server.clone(),
            access: access.clone(),
            open: None,
            suspect: None,
            lies: 0,
            namespaces: None,
            unlisted: None,
            carries: None,
            popped: None,
            labels: None,
            meter: Meter::default(),
            slow: Duration::ZERO,
            used: Instant::now(),
        })
    }

    /// Counts what it receives, and reads no body for which there is no room left today.
    pub fn count_with(&mut self, meter: &Meter) {
        self.meter = meter.clone();
        self.connection.count_with(meter);
    }

    /// Whether a message of this size may be read today.
    ///
    /// # Errors
    /// [`ReadError::Spent`] if not.
    pub fn may_read(&self, octets: u64) -> Result<(), ReadError> {
        if !self.meter.must_wait(octets) {
            return Ok(());
        }
        let (left, limit) = self.meter.left().unwrap_or_default();
        let server = self.connection.server();
        Err(ReadError::Spent(format!(
            "{} side {}: the account has had {} of {limit} octets of today (old.octets_per_day, a day of UTC)",
            server.side(),
            server.name(),
            limit - left
        )))
    }

    /// Makes the connection anew if it has lain idle for long. Call it only between two pieces of work.
    ///
    /// # Errors
    /// As [`ImapReader::open`].
    pub async fn revive(&mut self) -> Result<(), ReadError> {
        if self.used.elapsed() > STALE {
            self.reconnect().await?;
        }
        self.used = Instant::now();
        Ok(())
    }

    /// Connects once more.
    async fn reconnect(&mut self) -> Result<(), ReadError> {
        self.connection = self.server.log_in(&self.access).await?;
        self.connection.count_with(&self.meter);
        self.open = None;
        Ok(())
    }

    /// After something that may be done again was broken off: connects anew, if it may have been because the login is over.
    ///
    /// # Errors
    /// `error`, if that was not it.
    async fn connect_anew_after(&mut self, error: ReadError) -> Result<(), ReadError> {
        match error {
            ReadError::Imap(ImapError::Lost { what, .. }) if self.access.expires() => {
                info!(server = self.server.name(), "a session is over and begins anew: {what}");
                self.reconnect().await
            }
            error => Err(error),
        }
    }

    /// Whether the server keeps mod-sequences (RFC 7162).
    #[must_use]
    pub fn has_modseq(&self) -> bool {
        self.connection.capabilities().has("CONDSTORE") || self.connection.capabilities().has("QRESYNC")
    }

    /// What is particular to its brand.
    #[must_use]
    pub const fn profile(&self) -> &'static Profile {
        self.profile
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
        self.reconnect().await?;
        let opened = self.examine(listed).await?;
        if opened.uid_validity == Some(uid_validity.0) {
            Ok(())
        } else {
            Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()))
        }
    }

    async fn examine(&mut self, listed: &Listed) -> Result<Opened, ReadError> {
        match self.examine_once(listed).await {
            Ok(opened) => Ok(opened),
            Err(error) => {
                self.connect_anew_after(error).await?;
                self.examine_once(listed).await
            }
        }
    }

    async fn examine_once(&mut self, listed: &Listed) -> Result<Opened, ReadError> {
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
        let lasting = |told| self.lasting_validity(u64::from(opened.exists), UidValidity(told)).0;
        opened.uid_validity = opened.uid_validity.map(lasting);
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
        let uid_next =
            opened.uid_next(listed).ok_or_else(|| self.in_mailbox(listed, "the server tells no UIDNEXT".to_owned()))?;
        let mut listing = Listing { uid_next, expected: opened.exists, ..Listing::default() };
        if let Some(last) = NonZeroU32::new(uid_next.saturating_sub(1)).filter(|_| opened.exists > 0) {
            let tag = self.connection.tag();
            let modseq = opened.highest_modseq.is_some();
            let command = command::uid_fetch_metadata(&tag, NonZeroU32::MIN..=last, modseq);
            self.gather(listed, vec![(tag, command)], &mut |response| listing.note(response)).await?;
        }
        let mut messages = listing.complete().map_err(|what| self.in_mailbox(listed, what))?;
        self.mark_popped(listed, &mut messages).await?;
        self.mark_labelled(listed, UidValidity(uid_validity), &mut messages).await?;
        Ok(opened.contents(UidValidity(uid_validity), UidNext(uid_next), messages))
    }

    /// Sends commands about the messages of the open mailbox at once, and reads to the end of all. Their answers may come
    /// mixed.
    async fn gather(
        &mut self,
        listed: &Listed,
        commands: Vec<(String, Fragments)>,
        each: &mut (dyn FnMut(Response<'_>) + Send),
    ) -> Result<(), ReadError> {
        self.answers(commands, each).await.map_err(|error| match error {
            ImapError::Lost { what, .. } => self.in_mailbox(listed, format!("while messages were listed: {what}")),
            other => other.into(),
        })
    }

    async fn answers(
        &mut self,
        commands: Vec<(String, Fragments)>,
        each: &mut (dyn FnMut(Response<'_>) + Send),
    ) -> Result<(), ImapError> {
        let mut tags = Vec::with_capacity(commands.len());
        for (tag, command) in commands {
            let command = self.connection.encoded(command)?;
            self.connection.send(command).await?;
            tags.push(tag);
        }
        self.connection.flush().await?;
        let mut refused = Ok(());
        while !tags.is_empty() {
            let response = self.connection.response().await?;
            let mut ended = None;
            for (at, tag) in tags.iter().enumerate() {
                match self.connection.ended("UID FETCH or UID SEARCH", tag, &response) {
                    Ok(done) => ended = ended.or(done.map(|_| at)),
                    Err(error) => (ended, refused) = (Some(at), Err(error)),
                }
            }
            match ended {
                Some(at) => drop(tags.remove(at)),
                None => each(scan::response(&response)),
            }
        }
        refused
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
        self.examine_if_closed(listed, uid_validity).await?;
        Ok(Bodies::new(self, listed.clone(), uid_validity, uids))
    }

    /// Opens a mailbox that was listed, unless it is open.
    async fn examine_if_closed(&mut self, listed: &Listed, uid_validity: UidValidity) -> Result<(), ReadError> {
        if self.open.as_deref() != Some(&listed.raw) {
            let opened = self.examine(listed).await?;
            if opened.uid_validity != Some(uid_validity.0) {
                return Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()));
            }
        }
        Ok(())
    }

    fn in_mailbox(&self, listed: &Listed, what: String) -> ReadError {
        ReadError::Mailbox { mailbox: self.shown(listed), what }
    }

    fn shown(&self, listed: &Listed) -> String {
        let server = self.connection.server();
        format!("{} side {}, {}", server.side(), server.name(), printable(&listed.raw))
    }
}

/// Whether an error says that an account has had what it is given for now, whatever it asks for.
#[must_use]
pub fn is_spent(error: &ReadError) -> bool {
    matches!(error, ReadError::Spent(_)) || refused::is_spent(&error.to_string())
}

/// The profile of a server; where its greeting says nothing it is asked for its name.
///
/// # Errors
/// If the connection breaks.
pub async fn profile_of(connection: &mut ImapConnection) -> Result<&'static Profile, ImapError> {
    let detect = |connection: &ImapConnection| {
        let capabilities: Vec<&str> = connection.capabilities().iter().collect();
        let (greeting, id_name) = (connection.greeting_text(), connection.software());
        profile::detect(Facts { greeting, id_name, capabilities: &capabilities })
    };
    let seen = detect(connection);
    if seen.brand != profile::Brand::Unknown {
        return Ok(seen);
    }
    connection.identify(&[]).await?;
    Ok(detect(connection))
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
    /// UIDNEXT, from STATUS where EXAMINE doesn't tell: that is older, and so on the safe side.
    fn uid_next(&self, listed: &Listed) -> Option<u32> {
        self.uid_next.or(listed.status.map(|status| status.uid_next.0))
    }

    fn contents(&self, uid_validity: UidValidity, uid_next: UidNext, messages: Vec<Message>) -> Contents {
        Contents { uid_validity, uid_next, highest_modseq: self.highest_modseq.map(ModSeq), messages }
    }

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
