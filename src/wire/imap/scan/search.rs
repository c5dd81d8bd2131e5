//! SEARCH and ESEARCH responses: numbers, as ranges.

use std::ops::RangeInclusive;

use super::cursor::{Cursor, Token, number};

/// Behind `* SEARCH`: numbers, and what else stands there (`(MODSEQ 9)`) is left out.
pub(super) fn search(cursor: &mut Cursor<'_>) -> Vec<RangeInclusive<u32>> {
    let mut found = Vec::new();
    while let Some(token) = cursor.token() {
        found.extend(token.number().and_then(|value| u32::try_from(value).ok()).map(|value| value..=value));
    }
    found
}

/// Behind `* ESEARCH` (RFC 4731): the set of its ALL; empty if it has none, which says that nothing was found.
pub(super) fn esearch(cursor: &mut Cursor<'_>) -> Vec<RangeInclusive<u32>> {
    while let Some(token) = cursor.token() {
        if matches!(token, Token::Atom(item) if item.eq_ignore_ascii_case(b"ALL")) {
            return match cursor.token() {
                Some(Token::Atom(set)) => sequence_set(set),
                _ => Vec::new(),
            };
        }
    }
    Vec::new()
}

/// `1:5,9,20:12`; a range may be written backwards (RFC 3501 §9).
fn sequence_set(set: &[u8]) -> Vec<RangeInclusive<u32>> {
    let value = |digits: &[u8]| number(digits).and_then(|value| u32::try_from(value).ok());
    let range = |part: &[u8]| {
        let mut ends = part.splitn(2, |&octet| octet == b':');
        let first = value(ends.next()?)?;
        let last = ends.next().map_or(Some(first), value)?;
        Some(first.min(last)..=first.max(last))
    };
    set.split(|&octet| octet == b',').filter_map(range).collect()
}
