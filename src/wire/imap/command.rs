//! The commands that we send, as fragments to write.
//!
//! imap-codec's types do the quoting. Strings go quoted wherever they can (7-bit, no CR, LF or NUL), else as a
//! synchronising literal, which every server takes; nothing here needs LITERAL+ or UTF8=ACCEPT.
//! Mailbox names are raw octets, as the server gave them.

mod about;
mod append;
mod gmail;
mod parts;

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;

use imap_codec::CommandCodec;
use imap_codec::encode::{Encoder as _, Fragment as CodecFragment};
use imap_codec::imap_types::command::{Command, CommandBody, FetchModifier, SelectParameter};
use imap_codec::imap_types::core::{AString, Atom, IString, Literal, NString, Quoted, Tag, Vec1};
use imap_codec::imap_types::extensions::enable::CapabilityEnable;
use imap_codec::imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName, Section};
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox};
use imap_codec::imap_types::sequence::{Sequence, SequenceSet};
use imap_codec::imap_types::status::StatusDataItemName;
use zeroize::Zeroizing;

pub use about::{About, about};
pub use append::{Append, append, create};
pub use gmail::{uid_fetch_gm_msgid, uid_search_popped};
pub use parts::{Part, uid_fetch_parts};

use crate::wire::sasl;

/// A piece of a command.
#[derive(Clone, PartialEq, Eq)]
pub enum Fragment {
    /// Octets to write. They may hold a password, so they are zeroized when dropped.
    Bytes(Zeroizing<Vec<u8>>),
    /// Before going on, wait for the server's `+`. A tagged NO or BAD instead ends the command here.
    AwaitContinuation,
}

/// Passwords stay out of logs: only the size is shown.
impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(octets) => write!(f, "Bytes({} octets)", octets.len()),
            Self::AwaitContinuation => f.write_str("AwaitContinuation"),
        }
    }
}

/// Why a command can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not an IMAP tag.
    #[error("{0:?} is not an IMAP tag")]
    Tag(String),
    /// A NUL, which no IMAP string may hold.
    #[error("the {0} holds a NUL octet, which IMAP can't carry")]
    Nul(&'static str),
    /// A word that has to be an atom and isn't.
    #[error("{0:?} is not an IMAP atom")]
    Atom(String),
    /// No capability to enable.
    #[error("nothing to enable")]
    NothingToEnable,
    /// The last UID lies below the first, which a server would silently turn around.
    #[error("the UID range {0}:{1} is empty")]
    EmptyRange(u32, u32),
}

/// A command with no arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simple {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// STARTTLS
    StartTls,
    /// NAMESPACE
    Namespace,
    /// CLOSE: expunges, so only after EXAMINE
    Close,
    /// UNSELECT
    Unselect,
}

/// The result of all functions here.
pub type Fragments = Result<Vec<Fragment>, CommandError>;

/// `LOGIN user password`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn login(tag: &str, user: &str, password: &[u8]) -> Fragments {
    checked_tag(tag)?;
    // Not by imap-codec: its buffers grow and would leave copies of the password in freed memory.
    let mut line = Line::with_room(tag.len() + 2 * (user.len() + password.len()) + 64);
    line.text(tag.as_bytes());
    line.text(b" LOGIN ");
    line.string(user.as_bytes(), "user name")?;
    line.text(b" ");
    line.string(password, "password")?;
    line.text(b"\r\n");
    Ok(line.finish())
}

/// `AUTHENTICATE` by a mechanism, with the message in the command (only to servers with SASL-IR, RFC 4959), or without.
/// Without, wait for `+` and send [`authenticate_data`].
///
/// # Errors
/// [`CommandError::Tag`].
pub fn authenticate(tag: &str, mechanism: &'static str, initial: Option<&[u8]>) -> Fragments {
    checked_tag(tag)?;
    let message = match initial {
        None => Zeroizing::default(),
        Some([]) => Zeroizing::new(b"=".to_vec()),
        Some(initial) => sasl::to_base64(initial),
    };
    let mut line = Line::with_room(tag.len() + mechanism.len() + message.len() + 32);
    line.text(tag.as_bytes());
    line.text(b" AUTHENTICATE ");
    line.text(mechanism.as_bytes());
    if initial.is_some() {
        line.text(b" ");
    }
    line.text(&message);
    line.text(b"\r\n");
    Ok(line.finish())
}

/// `PROXYAUTH user`, which no standard describes.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn proxyauth(tag: &str, user: &str) -> Fragments {
    checked_tag(tag)?;
    let mut line = Line::with_room(tag.len() + user.len() * 2 + 32);
    line.text(tag.as_bytes());
    line.text(b" PROXYAUTH ");
    line.string(user.as_bytes(), "user name")?;
    line.text(b"\r\n");
    Ok(line.finish())
}

/// The line that answers the `+` of AUTHENTICATE.
#[must_use]
pub fn authenticate_data(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let encoded = sasl::to_base64(message);
    let mut line = Zeroizing::new(Vec::with_capacity(encoded.len() + 2));
    line.extend_from_slice(&encoded);
    line.extend_from_slice(b"\r\n");
    line
}

/// A command without arguments.
///
/// # Errors
/// [`CommandError::Tag`].
pub fn simple(tag: &str, command: Simple) -> Fragments {
    let body = match command {
        Simple::Capability => CommandBody::Capability,
        Simple::Noop => CommandBody::Noop,
        Simple::Logout => CommandBody::Logout,
        Simple::StartTls => CommandBody::StartTLS,
        Simple::Namespace => CommandBody::Namespace,
        Simple::Close => CommandBody::Close,
        Simple::Unselect => CommandBody::Unselect,
    };
    encode(tag, body)
}

/// `ID (field value …)` (RFC 2971).
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn id(tag: &str, fields: &[(&str, &str)]) -> Fragments {
    let fields = fields
        .iter()
        .map(|(name, value)| {
            Ok((string(name.as_bytes(), "ID field")?, NString(Some(string(value.as_bytes(), "ID value")?))))
        })
        .collect::<Result<Vec<_>, CommandError>>()?;
    encode(tag, CommandBody::Id { parameters: (!fields.is_empty()).then_some(fields) })
}

/// `LIST "" pattern`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn list(tag: &str, pattern: &[u8]) -> Fragments {
    let (reference, mailbox_wildcard) = (mailbox(b"")?, wildcard(pattern)?);
    encode(tag, CommandBody::List { reference, mailbox_wildcard })
}

/// `LSUB "" pattern`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn lsub(tag: &str, pattern: &[u8]) -> Fragments {
    let (reference, mailbox_wildcard) = (mailbox(b"")?, wildcard(pattern)?);
    encode(tag, CommandBody::Lsub { reference, mailbox_wildcard })
}

/// What the extended LIST command is asked for (RFC 5258, RFC 6154). Only to servers that announce it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// `LIST (SUBSCRIBED) "" pattern`: subscriptions, those to nothing too.
    Subscribed,
    /// `LIST "" pattern RETURN (SPECIAL-USE)`: all mailboxes with their special use.
    ReturnSpecialUse,
}

/// An extended LIST.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn list_extended(tag: &str, pattern: &[u8], what: Extended) -> Fragments {
    checked_tag(tag)?;
    // imap-codec has no type for selection and return options.
    let mut line = Line::with_room(tag.len() + 2 * pattern.len() + 64);
    line.text(tag.as_bytes());
    line.text(if what == Extended::Subscribed { b" LIST (SUBSCRIBED) \"\" " } else { b" LIST \"\" " });
    line.string(pattern, "mailbox pattern")?;
    line.text(if what == Extended::Subscribed { b"\r\n" } else { b" RETURN (SPECIAL-USE)\r\n" });
    Ok(line.finish())
}

/// `STATUS name (MESSAGES UIDNEXT UIDVALIDITY UNSEEN[ HIGHESTMODSEQ])`; the last only to servers with CONDSTORE.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn status(tag: &str, name: &[u8], modseq: bool) -> Fragments {
    let mut item_names = vec![
        StatusDataItemName::Messages,
        StatusDataItemName::UidNext,
        StatusDataItemName::UidValidity,
        StatusDataItemName::Unseen,
    ];
    if modseq {
        item_names.push(StatusDataItemName::HighestModSeq);
    }
    encode(tag, CommandBody::Status { mailbox: mailbox(name)?, item_names: Cow::Owned(item_names) })
}

/// `EXAMINE name[ (CONDSTORE)]`: opens a mailbox and changes nothing in it.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn examine(tag: &str, name: &[u8], condstore: bool) -> Fragments {
    let parameters = if condstore { vec![SelectParameter::CondStore] } else { Vec::new() };
    encode(tag, CommandBody::Examine { mailbox: mailbox(name)?, parameters })
}

/// `SELECT name`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn select(tag: &str, name: &[u8]) -> Fragments {
    encode(tag, CommandBody::Select { mailbox: mailbox(name)?, parameters: Vec::new() })
}

/// `UID FETCH a:b (UID FLAGS INTERNALDATE RFC822.SIZE[ MODSEQ])`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_metadata(tag: &str, uids: UidRange, modseq: bool) -> Fragments {
    uid_fetch_metadata_of(tag, &[uids], modseq)
}

/// `UID FETCH a:b,c:d… (UID FLAGS INTERNALDATE RFC822.SIZE[ MODSEQ])`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_metadata_of(tag: &str, uids: &[UidRange], modseq: bool) -> Fragments {
    fetch(tag, uid_set(uids)?, metadata(modseq), Vec::new())
}

/// `UID FETCH a:b (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ) (CHANGEDSINCE n)` (RFC 7162 §3.1.4.1): messages whose
/// mod-sequence is above `since`. Only to servers with CONDSTORE.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_changed(tag: &str, uids: UidRange, since: NonZeroU64) -> Fragments {
    fetch(tag, uid_set(&[uids])?, metadata(true), vec![FetchModifier::ChangedSince(since)])
}

/// `UID FETCH a:b (UID FLAGS)`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_flags(tag: &str, uids: UidRange) -> Fragments {
    fetch(tag, uid_set(&[uids])?, vec![MessageDataItemName::Uid, MessageDataItemName::Flags], Vec::new())
}

/// `UID SEARCH [RETURN (ALL) ]UID a:b`: which UIDs there are; the short form of the answer (RFC 4731) only from servers
/// with ESEARCH.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_search(tag: &str, uids: &UidRange, esearch: bool) -> Fragments {
    checked_tag(tag)?;
    // imap-codec has no type for return options.
    let (first, last) = ends(uids)?;
    let options = if esearch { "RETURN (ALL) " } else { "" };
    let mut line = Line::with_room(tag.len() + 64);
    line.text(format!("{tag} UID SEARCH {options}UID {first}:{last}\r\n").as_bytes());
    Ok(line.finish())
}

fn metadata(modseq: bool) -> Vec<MessageDataItemName<'static>> {
    let mut items = vec![
        MessageDataItemName::Uid,
        MessageDataItemName::Flags,
        MessageDataItemName::InternalDate,
        MessageDataItemName::Rfc822Size,
    ];
    if modseq {
        items.push(MessageDataItemName::ModSeq);
    }
    items
}

/// `UID FETCH u,v,w (UID BODY.PEEK[])`: the whole messages, without setting \Seen.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`] without a UID.
pub fn uid_fetch_bodies(tag: &str, uids: &[NonZeroU32]) -> Fragments {
    let body = MessageDataItemName::BodyExt { section: None, partial: None, peek: true };
    // A single number that imap-codec would write as `*` is left out: no message can have it.
    let set: Vec<NonZeroU32> = uids.iter().copied().filter(|uid| *uid <= LAST_UID).collect();
    let set = SequenceSet::try_from(set).map_err(|_| CommandError::EmptyRange(0, 0))?;
    fetch(tag, set, vec![MessageDataItemName::Uid, body], Vec::new())
}

/// `UID FETCH a:b,c:d… (UID X-GUID)`: only to Dovecot, whose name for messages it is.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_guids(tag: &str, uids: &[UidRange]) -> Fragments {
    uid_fetch_by_hand(tag, uids, "X-GUID")
}

/// `UID FETCH a:b,c:d… (UID BODY.PEEK[HEADER.FIELDS (DATE MESSAGE-ID)])`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`], [`CommandError::Atom`] for what is no name of a field.
pub fn uid_fetch_header_fields(tag: &str, uids: &[UidRange], fields: &[String]) -> Fragments {
    let fits = |field: &String| {
        !field.is_empty() && field.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if let Some(wrong) = fields.iter().find(|field| !fits(field)) {
        return Err(CommandError::Atom(wrong.clone()));
    }
    uid_fetch_by_hand(tag, uids, &format!("BODY.PEEK[HEADER.FIELDS ({})]", fields.join(" ")))
}

/// What imap-codec has no type for, or would write in quotes that old servers don't expect.
fn uid_fetch_by_hand(tag: &str, uids: &[UidRange], item: &str) -> Fragments {
    checked_tag(tag)?;
    let range = |uids: &UidRange| ends(uids).map(|(first, last)| format!("{first}:{last}"));
    let set = uids.iter().map(range).collect::<Result<Vec<_>, _>>()?;
    if set.is_empty() {
        return Err(CommandError::EmptyRange(0, 0));
    }
    let text = format!("{tag} UID FETCH {} (UID {item})\r\n", set.join(","));
    let mut line = Line::with_room(text.len());
    line.text(text.as_bytes());
    Ok(line.finish())
}

/// A way to ask for one message's octets, or for a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Octets {
    /// `BODY.PEEK[]`
    Whole,
    /// `BODY.PEEK[HEADER]`
    Header,
    /// `BODY.PEEK[TEXT]`
    Text,
    /// `RFC822`. It sets \Seen where the mailbox was not opened with EXAMINE.
    Rfc822,
}

/// `UID FETCH n (UID item)`, for a message that has to be asked for on its own.
///
/// # Errors
/// [`CommandError::Tag`].
pub fn uid_fetch_octets(tag: &str, uid: NonZeroU32, what: Octets) -> Fragments {
    let peek = |section| MessageDataItemName::BodyExt { section, partial: None, peek: true };
    let item = match what {
        Octets::Whole => peek(None),
        Octets::Header => peek(Some(Section::Header(None))),
        Octets::Text => peek(Some(Section::Text(None))),
        Octets::Rfc822 => MessageDataItemName::Rfc822,
    };
    fetch(tag, SequenceSet::from(uid.min(LAST_UID)), vec![MessageDataItemName::Uid, item], Vec::new())
}

/// `FETCH n (UID)`: which message has a sequence number.
///
/// # Errors
/// [`CommandError::Tag`].
pub fn fetch_uid(tag: &str, seq: NonZeroU32) -> Fragments {
    let body = CommandBody::Fetch {
        sequence_set: SequenceSet::from(seq),
        macro_or_item_names: MacroOrMessageDataItemNames::MessageDataItemNames(vec![MessageDataItemName::Uid]),
        uid: false,
        modifiers: Vec::new(),
    };
    encode(tag, body)
}

/// `ENABLE cap …` (RFC 5161).
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Atom`], [`CommandError::NothingToEnable`].
pub fn enable(tag: &str, capabilities: &[&str]) -> Fragments {
    let capabilities = capabilities
        .iter()
        .map(|name| {
            let atom = Atom::try_from(*name).map_err(|_| CommandError::Atom((*name).to_owned()))?;
            Ok(CapabilityEnable::from(atom))
        })
        .collect::<Result<Vec<_>, CommandError>>()?;
    let capabilities = Vec1::try_from(capabilities).map_err(|_| CommandError::NothingToEnable)?;
    encode(tag, CommandBody::Enable { capabilities })
}

/// imap-codec writes the highest number as `*`, and `7:*` always names the last message, whatever its UID.
/// No message can have that UID, since UIDNEXT would not fit; so ranges end one below.
const LAST_UID: NonZeroU32 = NonZeroU32::MIN.saturating_add(u32::MAX - 2);

/// UIDs from the first to the last.
pub type UidRange = RangeInclusive<NonZeroU32>;

fn ends(uids: &UidRange) -> Result<(NonZeroU32, NonZeroU32), CommandError> {
    let (first, last) = (*uids.start(), (*uids.end()).min(LAST_UID));
    if last < first { Err(CommandError::EmptyRange(first.get(), uids.end().get())) } else { Ok((first, last)) }
}

fn uid_set(uids: &[UidRange]) -> Result<SequenceSet, CommandError> {
    let range = |uids| {
        let (first, last) = ends(uids)?;
        Ok(if first == last { Sequence::from(first) } else { Sequence::from(first..=last) })
    };
    let set = uids.iter().map(range).collect::<Result<Vec<_>, CommandError>>()?;
    SequenceSet::try_from(set).map_err(|_| CommandError::EmptyRange(0, 0))
}

fn fetch(
    tag: &str,
    sequence_set: SequenceSet,
    items: Vec<MessageDataItemName<'_>>,
    modifiers: Vec<FetchModifier>,
) -> Fragments {
    let body = CommandBody::Fetch {
        sequence_set,
        macro_or_item_names: MacroOrMessageDataItemNames::MessageDataItemNames(items),
        uid: true,
        modifiers,
    };
    encode(tag, body)
}

fn checked_tag(tag: &str) -> Result<Tag<'_>, CommandError> {
    Tag::try_from(tag).map_err(|_| CommandError::Tag(tag.to_owned()))
}

fn encode(tag: &str, body: CommandBody<'_>) -> Fragments {
    let command = Command { tag: checked_tag(tag)?, body };
    let mut fragments = Vec::new();
    for fragment in CommandCodec::default().encode(&command) {
        match fragment {
            CodecFragment::Line { data } => fragments.push(Fragment::Bytes(Zeroizing::new(data))),
            CodecFragment::Literal { data, .. } => {
                fragments.push(Fragment::AwaitContinuation);
                fragments.push(Fragment::Bytes(Zeroizing::new(data)));
            }
        }
    }
    Ok(fragments)
}

/// Quoted if it can be, never an atom: an atom NIL, or one with `]` in it, is read differently by different servers.
fn string<'a>(octets: &'a [u8], what: &'static str) -> Result<IString<'a>, CommandError> {
    Quoted::try_from(octets)
        .map(IString::Quoted)
        .or_else(|_| Literal::try_from(octets).map(IString::Literal))
        .map_err(|_| CommandError::Nul(what))
}

fn mailbox(name: &[u8]) -> Result<Mailbox<'_>, CommandError> {
    Ok(Mailbox::from(AString::String(string(name, "mailbox name")?)))
}

fn wildcard(pattern: &[u8]) -> Result<ListMailbox<'_>, CommandError> {
    Ok(ListMailbox::String(string(pattern, "mailbox pattern")?))
}

/// A command encoded by hand, in buffers that never grow once secrets are in them.
struct Line {
    done: Vec<Fragment>,
    octets: Zeroizing<Vec<u8>>,
    room: usize,
}

impl Line {
    /// `room` must hold the whole command with each octet of its strings escaped.
    fn with_room(room: usize) -> Self {
        Self { done: Vec::new(), octets: Zeroizing::new(Vec::with_capacity(room)), room }
    }

    fn text(&mut self, text: &[u8]) {
        self.octets.extend_from_slice(text);
    }

    fn string(&mut self, octets: &[u8], what: &'static str) -> Result<(), CommandError> {
        if octets.contains(&0) {
            return Err(CommandError::Nul(what));
        }
        if octets.iter().all(|octet| octet.is_ascii() && !matches!(octet, b'\r' | b'\n')) {
            self.octets.push(b'"');
            for &octet in octets {
                if matches!(octet, b'"' | b'\\') {
                    self.octets.push(b'\\');
                }
                self.octets.push(octet);
            }
            self.octets.push(b'"');
        } else {
            self.text(format!("{{{}}}\r\n", octets.len()).as_bytes());
            let next = Zeroizing::new(Vec::with_capacity(self.room));
            self.done.push(Fragment::Bytes(std::mem::replace(&mut self.octets, next)));
            self.done.push(Fragment::AwaitContinuation);
            self.text(octets);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Fragment> {
        self.done.push(Fragment::Bytes(self.octets));
        self.done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{
        CommandError, Extended, Fragment, Fragments, Simple, authenticate, authenticate_data, enable, examine, id,
        list, list_extended, login, lsub, proxyauth, simple, status, uid_fetch_bodies, uid_fetch_changed,
        uid_fetch_flags, uid_fetch_metadata, uid_fetch_metadata_of, uid_search,
    };
    use imap_codec::encode::Encoder as _;
    use imap_codec::imap_types::command::{Command, CommandBody};
    use imap_codec::{CommandCodec, decode::Decoder as _};
    use proptest::prelude::*;
    use std::num::{NonZeroU32, NonZeroU64};

    /// The octets on the wire, with `<+>` where the client waits.
    fn wire(fragments: Fragments) -> String {
        let octets: Vec<u8> = fragments
            .unwrap()
            .iter()
            .flat_map(|fragment| match fragment {
                Fragment::Bytes(octets) => octets.to_vec(),
                Fragment::AwaitContinuation => b"<+>".to_vec(),
            })
            .collect();
        octets.iter().map(|&octet| char::from(octet)).collect()
    }

    fn uid(value: u32) -> NonZeroU32 {
        NonZeroU32::new(value).unwrap()
    }

    #[test]
    fn logins() {
        assert_eq!(wire(login("a", "me", b"se cret")), "a LOGIN \"me\" \"se cret\"\r\n");
        assert_eq!(wire(login("a", "", b"\"\\{3}")), "a LOGIN \"\" \"\\\"\\\\{3}\"\r\n");
        assert_eq!(wire(login("a", "me", b"p\xe4ss")), "a LOGIN \"me\" {4}\r\n<+>p\u{e4}ss\r\n");
        assert_eq!(wire(login("a", "m\u{e9}", b"p\r\n")), "a LOGIN {3}\r\n<+>m\u{c3}\u{a9} {3}\r\n<+>p\r\n\r\n");
        assert_eq!(login("a", "me", b"a\0b"), Err(CommandError::Nul("password")));
        assert_eq!(login("a", "m\0e", b"a"), Err(CommandError::Nul("user name")));
        assert_eq!(login("a b", "me", b"a"), Err(CommandError::Tag("a b".to_owned())));
        assert_eq!(wire(authenticate("a", "PLAIN", None)), "a AUTHENTICATE PLAIN\r\n");
        assert_eq!(wire(authenticate("a", "PLAIN", Some(b"\0u\0p"))), "a AUTHENTICATE PLAIN AHUAcA==\r\n");
        assert_eq!(wire(authenticate("a", "PLAIN", Some(b""))), "a AUTHENTICATE PLAIN =\r\n");
        assert_eq!(authenticate_data(b"\0u\0p").as_slice(), b"AHUAcA==\r\n");
        assert_eq!(wire(proxyauth("a", "u\"1")), "a PROXYAUTH \"u\\\"1\"\r\n");
    }

    #[test]
    fn passwords_stay_out_of_debug() {
        let shown = format!("{:?}", login("a", "me", b"s\xe4cret").unwrap());
        assert_eq!(shown, "[Bytes(18 octets), AwaitContinuation, Bytes(8 octets)]");
    }

    #[test]
    fn reading_commands() {
        for (command, expected) in [
            (Simple::Capability, "CAPABILITY"),
            (Simple::Noop, "NOOP"),
            (Simple::Logout, "LOGOUT"),
            (Simple::StartTls, "STARTTLS"),
            (Simple::Namespace, "NAMESPACE"),
            (Simple::Close, "CLOSE"),
            (Simple::Unselect, "UNSELECT"),
        ] {
            assert_eq!(wire(simple("x1", command)), format!("x1 {expected}\r\n"));
        }
        assert_eq!(wire(id("a", &[("name", "x\"y"), ("v", "1")])), "a ID (\"name\" \"x\\\"y\" \"v\" \"1\")\r\n");
        assert_eq!(wire(id("a", &[])), "a ID NIL\r\n");
        assert_eq!(wire(list("a", b"*")), "a LIST \"\" \"*\"\r\n");
        assert_eq!(wire(lsub("a", b"INBOX.%")), "a LSUB \"\" \"INBOX.%\"\r\n");
        assert_eq!(wire(list_extended("a", b"*", Extended::Subscribed)), "a LIST (SUBSCRIBED) \"\" \"*\"\r\n");
        assert_eq!(
            wire(list_extended("a", b"*", Extended::ReturnSpecialUse)),
            "a LIST \"\" \"*\" RETURN (SPECIAL-USE)\r\n"
        );
        assert_eq!(wire(enable("a", &["CONDSTORE", "QRESYNC"])), "a ENABLE CONDSTORE QRESYNC\r\n");
        assert_eq!(enable("a", &["X Y"]), Err(CommandError::Atom("X Y".to_owned())));
        assert_eq!(enable("a", &[]), Err(CommandError::NothingToEnable));
    }

    #[test]
    fn mailboxes_go_as_the_server_named_them() {
        for (name, expected) in [
            (&b"INBOX"[..], "INBOX"),
            (b"Sent Mail", "\"Sent Mail\""),
            (b"NIL", "\"NIL\""),
            (b"a%b*c", "\"a%b*c\""),
            (b"Entw&APw-rfe", "\"Entw&APw-rfe\""),
            (b"q\"b\\", "\"q\\\"b\\\\\""),
            (b"raw\xe4", "{4}\r\n<+>raw\u{e4}"),
        ] {
            assert_eq!(wire(examine("a", name, false)), format!("a EXAMINE {expected}\r\n"));
            assert_eq!(
                wire(status("a", name, false)),
                format!("a STATUS {expected} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)\r\n")
            );
        }
        assert_eq!(wire(examine("a", b"x", true)), "a EXAMINE \"x\" (CONDSTORE)\r\n");
        assert!(wire(status("a", b"x", true)).ends_with(" UNSEEN HIGHESTMODSEQ)\r\n"));
        assert_eq!(examine("a", b"x\0", false), Err(CommandError::Nul("mailbox name")));
    }

    #[test]
    fn fetches() {
        assert_eq!(
            wire(uid_fetch_metadata("a", uid(1)..=uid(500), true)),
            "a UID FETCH 1:500 (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ)\r\n"
        );
        assert_eq!(
            wire(uid_fetch_metadata("a", uid(7)..=uid(7), false)),
            "a UID FETCH 7 (UID FLAGS INTERNALDATE RFC822.SIZE)\r\n"
        );
        assert_eq!(
            wire(uid_fetch_metadata_of("a", &[uid(7)..=uid(7), uid(9)..=uid(12)], false)),
            "a UID FETCH 7,9:12 (UID FLAGS INTERNALDATE RFC822.SIZE)\r\n"
        );
        assert_eq!(wire(uid_fetch_flags("a", uid(2)..=NonZeroU32::MAX)), "a UID FETCH 2:4294967294 (UID FLAGS)\r\n");
        assert_eq!(
            wire(uid_fetch_changed("a", uid(1)..=uid(9), NonZeroU64::new(77).unwrap())),
            "a UID FETCH 1:9 (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ) (CHANGEDSINCE 77)\r\n"
        );
        assert_eq!(wire(uid_search("a", &(uid(1)..=uid(9)), true)), "a UID SEARCH RETURN (ALL) UID 1:9\r\n");
        assert_eq!(wire(uid_search("a", &(uid(3)..=uid(3)), false)), "a UID SEARCH UID 3:3\r\n");
        assert_eq!(wire(uid_fetch_bodies("a", &[uid(9)])), "a UID FETCH 9 (UID BODY.PEEK[])\r\n");
        let set = [uid(9), uid(11), uid(12)];
        assert_eq!(wire(uid_fetch_bodies("a", &set)), "a UID FETCH 9,11,12 (UID BODY.PEEK[])\r\n");
        assert!(uid_fetch_bodies("a", &[]).is_err());
        for (what, item) in [
            (super::Octets::Whole, "BODY.PEEK[]"),
            (super::Octets::Header, "BODY.PEEK[HEADER]"),
            (super::Octets::Text, "BODY.PEEK[TEXT]"),
            (super::Octets::Rfc822, "RFC822"),
        ] {
            assert_eq!(wire(super::uid_fetch_octets("a", uid(9), what)), format!("a UID FETCH 9 (UID {item})\r\n"));
        }
        assert_eq!(wire(super::fetch_uid("a", uid(9))), "a FETCH 9 UID\r\n");
        let some = [uid(7)..=uid(7), uid(9)..=NonZeroU32::MAX];
        assert_eq!(wire(super::uid_fetch_guids("a", &some)), "a UID FETCH 7:7,9:4294967294 (UID X-GUID)\r\n");
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            wire(super::uid_fetch_header_fields("a", &some[..1], &fields(&["Date", "Message-ID"]))),
            "a UID FETCH 7:7 (UID BODY.PEEK[HEADER.FIELDS (Date Message-ID)])\r\n"
        );
        assert!(super::uid_fetch_header_fields("a", &some, &fields(&["Da te"])).is_err());
        assert!(super::uid_fetch_guids("a", &[]).is_err());
        assert_eq!(uid_fetch_flags("a", uid(3)..=uid(2)), Err(CommandError::EmptyRange(3, 2)));
    }

    proptest! {
        /// What we write by hand, imap-codec reads as the same LOGIN.
        #[test]
        fn a_login_is_read_back(user in "[^\0]{0,8}", password in prop::collection::vec(1_u8.., 0..12)) {
            let octets: Vec<u8> = login("t1", &user, &password)
                .unwrap()
                .iter()
                .flat_map(|fragment| match fragment {
                    Fragment::Bytes(octets) => octets.to_vec(),
                    Fragment::AwaitContinuation => Vec::new(),
                })
                .collect();
            let read = CommandCodec::default().decode(&octets);
            // It refuses empty quoted strings; those are compared with what it would write.
            if let Ok((rest, Command { body: CommandBody::Login { username, password: read }, .. })) = read {
                prop_assert!(rest.is_empty());
                prop_assert_eq!(username.as_ref(), user.as_bytes());
                prop_assert_eq!(read.declassify().as_ref(), password.as_slice());
            } else {
                let body = CommandBody::login(
                    imap_codec::imap_types::core::AString::String(super::string(user.as_bytes(), "user").unwrap()),
                    imap_codec::imap_types::core::AString::String(super::string(&password, "password").unwrap()),
                ).unwrap();
                let encoded = CommandCodec::default().encode(&Command::new("t1", body).unwrap()).dump();
                prop_assert_eq!(octets, encoded);
            }
        }
    }
}
