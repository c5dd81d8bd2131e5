//! Takes what the relay can't carry out of the capabilities that a backend announces.

use std::borrow::Cow;

use super::super::scan::Cursor;
use super::TAG_MAX;

/// Octets of a line of capabilities that is held until it is complete; real ones have some hundred. A longer one passes
/// unchanged; the commands behind it are refused all the same. A driver's buffer for the backend must hold as many.
pub const CAPABILITY_LINE_MAX: usize = 16 * 1024;

/// Octets in which a response shows whether it may be one of capabilities: a tag, a status word and `[CAPABILITY`.
const START_MAX: usize = TAG_MAX + 64;

/// What is to be done with the response that starts here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    NeedInput,
    Pass,
    Replace { octets: usize, with: Vec<u8> },
}

/// What a response may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `* CAPABILITY …`
    List,
    /// `… OK [CAPABILITY …] …`
    Code,
    Other,
    /// Too short to say.
    Unclear,
}

/// Whether a capability stands for a command that the relay refuses.
#[must_use]
pub fn is_hidden(capability: &[u8]) -> bool {
    let named = |name: &[u8]| capability.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    named(b"COMPRESS=") || capability.eq_ignore_ascii_case(b"UNAUTHENTICATE")
}

/// One response line without hidden capabilities, be it `* CAPABILITY` or a status with the code; any other as it is.
#[must_use]
pub fn visible(line: &[u8]) -> Cow<'_, [u8]> {
    match look(line) {
        Look::Replace { octets, with } if octets == line.len() => Cow::Owned(with),
        _ => Cow::Borrowed(line),
    }
}

pub(super) fn look(octets: &[u8]) -> Look {
    let start = octets.get(..CAPABILITY_LINE_MAX).unwrap_or(octets);
    let line = start.iter().position(|&octet| octet == b'\n').and_then(|end| start.get(..=end));
    match (kind(line.unwrap_or(start), line.is_some()), line) {
        (Kind::Other, _) => Look::Pass,
        (Kind::Unclear, _) if start.len() < START_MAX => Look::NeedInput,
        (Kind::Unclear, _) => Look::Pass,
        (kind, Some(line)) => {
            let with = stripped(line, kind);
            if with.len() == line.len() { Look::Pass } else { Look::Replace { octets: line.len(), with } }
        }
        (_, None) if start.len() < CAPABILITY_LINE_MAX => Look::NeedInput,
        (_, None) => Look::Pass,
    }
}

fn kind(line: &[u8], whole: bool) -> Kind {
    let mut cursor = Cursor::new(line);
    let (first, second) = (cursor.word(), cursor.word());
    if first.starts_with(b"+") {
        return Kind::Other;
    }
    if !whole && cursor.rest().is_empty() {
        return Kind::Unclear;
    }
    if first == b"*" && second.eq_ignore_ascii_case(b"CAPABILITY") {
        return Kind::List;
    }
    if ![&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|status| second.eq_ignore_ascii_case(status)) {
        return Kind::Other;
    }
    cursor.skip_blanks();
    let code = cursor.until(|octet| matches!(octet, b' ' | b']' | b'\r' | b'\n'));
    if code.eq_ignore_ascii_case(b"[CAPABILITY") {
        Kind::Code
    } else if !whole && cursor.rest().is_empty() {
        Kind::Unclear
    } else {
        Kind::Other
    }
}

/// `line` without hidden words and the blank before each; all other octets stay.
fn stripped(line: &[u8], kind: Kind) -> Vec<u8> {
    let end = match kind {
        Kind::Code => line.iter().position(|&octet| octet == b']'),
        _ => line.iter().position(|&octet| matches!(octet, b'\r' | b'\n')),
    };
    let (words, rest) = line.split_at(end.unwrap_or(line.len()));
    let mut kept = Vec::with_capacity(line.len());
    for (at, word) in words.split(|&octet| octet == b' ').enumerate() {
        if !is_hidden(word) {
            if at > 0 {
                kept.push(b' ');
            }
            kept.extend_from_slice(word);
        }
    }
    kept.extend_from_slice(rest);
    kept
}
