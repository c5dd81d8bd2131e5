//! A tolerant scanner of what servers say: one complete response, held in memory with its literals as on the wire.
//!
//! It never fails. What it doesn't know is skipped whole (an unknown FETCH item with nested lists and literals) or kept
//! ([`Response::Other`]); it reads what real servers write against the grammar: doubled and trailing blanks, 8-bit text,
//! statuses without text, unquoted mailbox names, negative sizes. Strict parsing would lose the UID of a message because of
//! one unknown item beside it.
//!
//! A literal that the caller has streamed elsewhere stands as the atom [`STREAMED`] in place of `{n}`, its line end and its octets.

mod cursor;
mod fetch;
mod list;
mod rights;
mod search;

use std::ops::RangeInclusive;

pub(in crate::wire::imap) use cursor::{Cursor, number};

pub use fetch::{Body, Fetch, announces_body};
pub use list::{ListItem, Namespace, Namespaces, StatusItems};
pub use rights::{AclItem, QuotaItem};

/// Stands for a literal whose octets the caller has streamed away. A server could write it too: only the caller knows if it did stream one.
pub const STREAMED: &[u8] = b"~STREAMED";

/// What a response is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// `+ text`
    Continuation(&'a [u8]),
    /// The end of a command.
    Tagged {
        /// Whose command it was.
        tag: &'a [u8],
        /// How it ended.
        status: Status,
        /// `[CODE arg]`
        code: Option<Code<'a>>,
        /// The text for people.
        text: &'a [u8],
        /// Everything behind the status word: code and text.
        raw: &'a [u8],
    },
    /// Untagged OK, NO, BAD, BYE, PREAUTH; the greeting, too.
    Status {
        /// Which one.
        status: Status,
        /// `[CODE arg]`
        code: Option<Code<'a>>,
        /// The text for people.
        text: &'a [u8],
        /// Everything behind the status word: code and text.
        raw: &'a [u8],
    },
    /// `* CAPABILITY …`
    Capability(Vec<&'a [u8]>),
    /// `* LIST …`
    List(ListItem),
    /// `* LSUB …`
    Lsub(ListItem),
    /// `* STATUS name (…)`
    StatusItems(StatusItems),
    /// `* n EXISTS`
    Exists(u32),
    /// `* n EXPUNGE`
    Expunge(u32),
    /// `* n RECENT`
    Recent(u32),
    /// `* FLAGS (…)`
    Flags(Vec<Vec<u8>>),
    /// `* n FETCH (…)`
    Fetch(Fetch),
    /// `* SEARCH …`, or the ALL of `* ESEARCH …`: the numbers found, as ranges in the server's order.
    Search(Vec<RangeInclusive<u32>>),
    /// `* NAMESPACE …`
    Namespace(Namespaces),
    /// `* QUOTA root (…)`
    Quota(QuotaItem),
    /// `* MYRIGHTS name rights`: the raw name, and the rights.
    MyRights(Vec<u8>, Vec<u8>),
    /// `* ACL name …`
    Acl(AclItem),
    /// `* ENABLED …`
    Enabled(Vec<&'a [u8]>),
    /// `* ID (…)`; empty for `* ID NIL`.
    Id(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// Anything else, as it came.
    Other(&'a [u8]),
}

/// The word of a status response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Success, or news.
    Ok,
    /// Failure, or a warning.
    No,
    /// A protocol error.
    Bad,
    /// The server closes the connection.
    Bye,
    /// The greeting of a connection that is authenticated already.
    Preauth,
}

/// A response code `[NAME arg]` (RFC 3501 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// As written; see [`Code::is`].
    pub name: &'a [u8],
    /// What follows the name up to the bracket, empty if nothing does.
    pub arg: &'a [u8],
}

impl Code<'_> {
    /// Whether this is the code `name`, whatever its case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The argument as a number, as in `[UIDNEXT 7]`.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        number(self.arg.trim_ascii())
    }
}

/// Reads one response, with or without its final line end.
#[must_use]
pub fn response(bytes: &[u8]) -> Response<'_> {
    match bytes.first() {
        Some(b'+') => Response::Continuation(line_text(bytes.get(1..).unwrap_or_default())),
        Some(b'*') => untagged(bytes),
        _ => tagged(bytes),
    }
}

fn tagged(bytes: &[u8]) -> Response<'_> {
    let mut cursor = Cursor::new(bytes);
    let tag = cursor.word();
    match (tag, status(cursor.word())) {
        ([], _) | (_, None) => Response::Other(bytes),
        (tag, Some(status)) => {
            cursor.skip_blanks();
            let raw = line_text(cursor.rest());
            let (code, text) = code(raw);
            Response::Tagged { tag, status, code, text, raw }
        }
    }
}

fn untagged(bytes: &[u8]) -> Response<'_> {
    let mut cursor = Cursor::new(bytes.get(1..).unwrap_or_default());
    let word = cursor.word();
    if let Some(status) = status(word) {
        cursor.skip_blanks();
        let raw = line_text(cursor.rest());
        let (code, text) = code(raw);
        return Response::Status { status, code, text, raw };
    }
    let read = match number(word) {
        Some(value) => u32::try_from(value).ok().and_then(|seq| numbered(seq, &mut cursor)),
        None => named(word, &mut cursor),
    };
    read.unwrap_or(Response::Other(bytes))
}

/// `* n WORD …`
fn numbered<'a>(value: u32, cursor: &mut Cursor<'a>) -> Option<Response<'a>> {
    match cursor.word().to_ascii_uppercase().as_slice() {
        b"EXISTS" => Some(Response::Exists(value)),
        b"EXPUNGE" => Some(Response::Expunge(value)),
        b"RECENT" => Some(Response::Recent(value)),
        b"FETCH" => fetch::fetch(value, cursor).map(Response::Fetch),
        _ => None,
    }
}

/// `* WORD …`
fn named<'a>(word: &[u8], cursor: &mut Cursor<'a>) -> Option<Response<'a>> {
    match word.to_ascii_uppercase().as_slice() {
        b"CAPABILITY" => Some(Response::Capability(words(cursor.rest()))),
        b"ENABLED" => Some(Response::Enabled(words(cursor.rest()))),
        b"LIST" => list::list_item(cursor).map(Response::List),
        b"LSUB" => list::list_item(cursor).map(Response::Lsub),
        b"STATUS" => list::status_items(cursor).map(Response::StatusItems),
        b"SEARCH" => Some(Response::Search(search::search(cursor))),
        b"ESEARCH" => Some(Response::Search(search::esearch(cursor))),
        b"FLAGS" => cursor.flags().map(Response::Flags),
        b"QUOTA" => rights::quota(cursor).map(Response::Quota),
        b"MYRIGHTS" => rights::my_rights(cursor).map(|(name, rights)| Response::MyRights(name, rights)),
        b"ACL" => rights::acl(cursor).map(Response::Acl),
        b"NAMESPACE" => Some(Response::Namespace(list::namespaces(cursor))),
        b"ID" => Some(Response::Id(list::id(cursor))),
        _ => None,
    }
}

fn status(word: &[u8]) -> Option<Status> {
    match word.to_ascii_uppercase().as_slice() {
        b"OK" => Some(Status::Ok),
        b"NO" => Some(Status::No),
        b"BAD" => Some(Status::Bad),
        b"BYE" => Some(Status::Bye),
        b"PREAUTH" => Some(Status::Preauth),
        _ => None,
    }
}

/// The words of a capability list, as it stands in `* CAPABILITY` or in the argument of `[CAPABILITY …]`.
#[must_use]
pub fn words(text: &[u8]) -> Vec<&[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect()
}

/// Text without the blank before it and the line end behind it.
fn line_text(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    text.strip_prefix(b" ").unwrap_or(text)
}

/// Splits `[CODE arg] text`. A bracket inside quotes or parentheses doesn't end the code: `[PERMANENTFLAGS (a[b] \*)]`.
fn code(raw: &[u8]) -> (Option<Code<'_>>, &[u8]) {
    let Some(inner) = raw.strip_prefix(b"[") else {
        return (None, raw);
    };
    let Some(end) = code_end(inner).or_else(|| inner.iter().position(|&octet| octet == b']')) else {
        return (None, raw);
    };
    let (inside, rest) = inner.split_at_checked(end).unwrap_or((inner, &[]));
    let inside = inside.trim_ascii();
    let name = inside.split(|&octet| octet == b' ').next().unwrap_or_default();
    let arg = inside.get(name.len()..).unwrap_or_default().trim_ascii();
    (Some(Code { name, arg }), line_text(rest.get(1..).unwrap_or_default()))
}

fn code_end(inner: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, &octet) in inner.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.saturating_sub(1),
            b']' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
