//! Reading the peer's items: fields stand where *its* header lines say (dsync reference §4.2).

use std::collections::HashMap;

use super::item::Guid;
use super::{escape, quoted};

/// Field names that one header line of a peer may have; Dovecot's longest has 25.
const MAX_FIELDS: usize = 64;

/// What is wrong with an item of the peer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// No header line announced this letter.
    #[error("item {0:?} was never announced")]
    Unannounced(char),
    /// A required field is absent.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field has an impossible value.
    #[error("field {field} is {value:?}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A header line with more names than any Dovecot's.
    #[error("a header line has more than {MAX_FIELDS} fields")]
    TooManyFields,
}

/// The peer's header: which fields its items have, in which order.
#[derive(Debug, Default)]
pub struct Layout {
    fields: HashMap<u8, Vec<Vec<u8>>>,
}

impl Layout {
    pub(super) fn announce(&mut self, letter: u8, names: &[u8]) -> Result<(), ItemError> {
        let names: Vec<_> = names.split(|&byte| byte == b'\t').take(MAX_FIELDS + 1).map(<[u8]>::to_vec).collect();
        if names.len() > MAX_FIELDS {
            return Err(ItemError::TooManyFields);
        }
        self.fields.insert(letter, names);
        Ok(())
    }

    /// Whether the peer knows a field of an item.
    pub(super) fn has(&self, letter: u8, field: &str) -> bool {
        self.fields.get(&letter).is_some_and(|names| names.iter().any(|name| name == field.as_bytes()))
    }

    pub(super) fn record<'a>(&'a self, letter: u8, fields: &'a [u8]) -> Result<Record<'a>, ItemError> {
        let names = self.fields.get(&letter).ok_or(ItemError::Unannounced(char::from(letter)))?;
        Ok(Record { names, fields })
    }
}

/// An item of the peer, read by its own header.
#[derive(Debug)]
pub struct Record<'a> {
    names: &'a [Vec<u8>],
    fields: &'a [u8],
}

impl Record<'_> {
    /// A field's value; `None` for NULL and for what is not there.
    pub(super) fn get(&self, field: &str) -> Option<Vec<u8>> {
        let at = self.names.iter().position(|name| name == field.as_bytes())?;
        if self.fields.is_empty() {
            // Just the letter: no fields, not an empty one (dsync reference §4.1).
            return None;
        }
        escape::parse_field(self.fields.split(|&byte| byte == b'\t').nth(at)?)
    }

    pub(super) fn flag(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn required(&self, field: &'static str) -> Result<Vec<u8>, ItemError> {
        self.get(field).ok_or(ItemError::Missing(field))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, field: &'static str) -> Result<Option<T>, ItemError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| ItemError::Value { field, value: quoted(&value) })
    }

    pub(super) fn required_number<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, ItemError> {
        self.number(field)?.ok_or(ItemError::Missing(field))
    }

    pub(super) fn guid(&self, field: &'static str) -> Result<Option<Guid>, ItemError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        parse_guid(&value).map(Some).ok_or_else(|| ItemError::Value { field, value: quoted(&value) })
    }

    pub(super) fn required_guid(&self, field: &'static str) -> Result<Guid, ItemError> {
        self.guid(field)?.ok_or(ItemError::Missing(field))
    }
}

pub(super) fn parse_guid(hex: &[u8]) -> Option<Guid> {
    if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let text = std::str::from_utf8(hex).ok()?;
    let mut guid = Guid::default();
    for (at, byte) in guid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(guid)
}
