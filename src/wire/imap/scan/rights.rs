//! QUOTA, MYRIGHTS and ACL responses.

use super::cursor::{Cursor, Token};

/// A line of QUOTA (RFC 9208 §4.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaItem {
    /// The quota root's name.
    pub root: Vec<u8>,
    /// `STORAGE`, in units of 1024 octets: used, and the limit.
    pub storage: Option<(u64, u64)>,
    /// `MESSAGE`: used, and the limit.
    pub messages: Option<(u64, u64)>,
}

/// A line of ACL (RFC 4314 §3.6): who has which rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclItem {
    /// The raw name.
    pub name: Vec<u8>,
    /// Identifiers and their rights.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Behind `* QUOTA`. `None` without a root and a list.
pub(super) fn quota(cursor: &mut Cursor<'_>) -> Option<QuotaItem> {
    let root = cursor.token()?.octets().map(Into::into).unwrap_or_default();
    let Some(Token::List(inside)) = cursor.token() else { return None };
    let mut item = QuotaItem { root, ..QuotaItem::default() };
    let mut resources = Cursor::new(inside);
    while let Some(resource) = resources.token() {
        let numbers = resources.token().and_then(Token::number).zip(resources.token().and_then(Token::number));
        let Token::Atom(resource) = resource else { continue };
        match resource.to_ascii_uppercase().as_slice() {
            b"STORAGE" => item.storage = numbers,
            b"MESSAGE" => item.messages = numbers,
            _ => {}
        }
    }
    Some(item)
}

/// Behind `* MYRIGHTS`: the raw name, and the rights.
pub(super) fn my_rights(cursor: &mut Cursor<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((cursor.token()?.octets()?.into(), cursor.token()?.octets()?.into()))
}

/// Behind `* ACL`.
pub(super) fn acl(cursor: &mut Cursor<'_>) -> Option<AclItem> {
    let mut item = AclItem { name: cursor.token()?.octets()?.into(), entries: Vec::new() };
    while let (Some(who), Some(rights)) = (cursor.token(), cursor.token()) {
        if let (Some(who), Some(rights)) = (who.octets(), rights.octets()) {
            item.entries.push((who.into(), rights.into()));
        }
    }
    Some(item)
}
