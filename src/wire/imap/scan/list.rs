//! LIST, LSUB, STATUS, NAMESPACE and ID responses.

use super::cursor::{Cursor, Token};

/// A line of LIST or LSUB. Extended data (RFC 5258) is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// As written, with the backslash.
    pub attributes: Vec<Vec<u8>>,
    /// The hierarchy delimiter; `None` for NIL, and for `""` as some servers write it.
    pub delimiter: Option<u8>,
    /// The raw name (modified UTF-7).
    pub name: Vec<u8>,
}

/// A line of STATUS; items not in it, and values that are no numbers, are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusItems {
    /// The raw name (modified UTF-7).
    pub name: Vec<u8>,
    /// MESSAGES
    pub messages: Option<u64>,
    /// UIDNEXT
    pub uid_next: Option<u32>,
    /// UIDVALIDITY
    pub uid_validity: Option<u32>,
    /// UNSEEN
    pub unseen: Option<u64>,
    /// HIGHESTMODSEQ
    pub highest_modseq: Option<u64>,
}

/// The answer to NAMESPACE (RFC 2342).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// The user's own.
    pub personal: Vec<Namespace>,
    /// Other users'.
    pub other: Vec<Namespace>,
    /// Shared ones.
    pub shared: Vec<Namespace>,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What its names start with, raw.
    pub prefix: Vec<u8>,
    /// Its hierarchy delimiter.
    pub delimiter: Option<u8>,
}

/// Behind `* LIST`. `None` without attributes or name.
pub(super) fn list_item(cursor: &mut Cursor<'_>) -> Option<ListItem> {
    let attributes = cursor.flags()?;
    let delimiter = delimiter(cursor.token()?);
    let name = mailbox_name(cursor, &[b" (\"", b" (("], true)?;
    Some(ListItem { attributes, delimiter, name })
}

/// Behind `* STATUS`. `None` without a name and a list.
pub(super) fn status_items(cursor: &mut Cursor<'_>) -> Option<StatusItems> {
    let mut status = StatusItems { name: mailbox_name(cursor, &[b" ("], false)?, ..StatusItems::default() };
    let Some(Token::List(inside)) = cursor.token() else {
        return None;
    };
    let mut items = Cursor::new(inside);
    while let Some(item) = items.token() {
        // An unknown item's value may be a string or a list: `MAILBOXID (…)`.
        let value = items.token().and_then(Token::number);
        let narrow = value.and_then(|value| u32::try_from(value).ok());
        let Token::Atom(item) = item else { continue };
        match item.to_ascii_uppercase().as_slice() {
            b"MESSAGES" => status.messages = value,
            b"UIDNEXT" => status.uid_next = narrow,
            b"UIDVALIDITY" => status.uid_validity = narrow,
            b"UNSEEN" => status.unseen = value,
            b"HIGHESTMODSEQ" => status.highest_modseq = value,
            _ => {}
        }
    }
    Some(status)
}

/// Behind `* NAMESPACE`.
pub(super) fn namespaces(cursor: &mut Cursor<'_>) -> Namespaces {
    let mut group = || match cursor.token() {
        Some(Token::List(inside)) => namespace_group(inside),
        _ => Vec::new(),
    };
    Namespaces { personal: group(), other: group(), shared: group() }
}

fn namespace_group(inside: &[u8]) -> Vec<Namespace> {
    let mut group = Cursor::new(inside);
    let mut namespaces = Vec::new();
    while let Some(token) = group.token() {
        if let Token::List(inside) = token {
            let mut namespace = Cursor::new(inside);
            if let Some(prefix) = namespace.token().and_then(Token::octets) {
                let delimiter = namespace.token().and_then(delimiter);
                namespaces.push(Namespace { prefix: prefix.into(), delimiter });
            }
        }
    }
    namespaces
}

/// Behind `* ID`.
pub(super) fn id(cursor: &mut Cursor<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut pairs = Vec::new();
    if let Some(Token::List(inside)) = cursor.token() {
        let mut inside = Cursor::new(inside);
        while let Some(field) = inside.token() {
            let value = inside.token().and_then(Token::octets).map(Into::into);
            if let Some(field) = field.octets() {
                pairs.push((field.into(), value));
            }
        }
    }
    pairs
}

fn delimiter(token: Token<'_>) -> Option<u8> {
    token.octets()?.first().copied()
}

/// A mailbox name. Unquoted, it may hold blanks and whatever else a server forgot to quote; it then ends before the
/// first of `stops`, and if `to_end`, at the end of the line when none of them follows.
fn mailbox_name(cursor: &mut Cursor<'_>, stops: &[&[u8]], to_end: bool) -> Option<Vec<u8>> {
    cursor.skip_blanks();
    let mut ahead = cursor.clone();
    if let Some(token @ (Token::Quoted(_) | Token::Literal(_))) = ahead.token() {
        *cursor = ahead;
        return token.octets().map(Into::into);
    }
    let rest = cursor.rest();
    let stop = stops.iter().filter_map(|stop| rest.windows(stop.len()).position(|window| window == *stop)).min();
    let end = match stop {
        Some(end) => end,
        None if to_end => rest.len(),
        None => return None,
    };
    let name = cursor.take(end).trim_ascii();
    (!name.is_empty()).then(|| name.to_vec())
}
