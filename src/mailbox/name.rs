//! Mailbox names as a list of decoded hierarchy parts, the one form that both sides share.
//!
//! A name that comes from a server is accepted only if it can be turned back into exactly the same bytes, so the
//! decoded form is as good an identity as the raw one.

use std::fmt;

/// A mailbox name: its hierarchy parts in UTF-8, at least one, none empty. `INBOX` is upper case as first part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName {
    parts: Vec<String>,
}

/// Why a list of parts is not a mailbox name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No part at all, or one of them is empty (`a//b`).
    #[error("has an empty hierarchy part")]
    EmptyPart,
}

impl MailboxName {
    /// Builds a name from decoded parts. The first part `inbox` in any case becomes `INBOX` (RFC 3501 §5.1).
    ///
    /// # Errors
    /// [`NameError::EmptyPart`] if there is no part or an empty one.
    pub fn from_parts(mut parts: Vec<String>) -> Result<Self, NameError> {
        if parts.is_empty() || parts.iter().any(String::is_empty) {
            return Err(NameError::EmptyPart);
        }
        if let Some(first) = parts.first_mut()
            && first.eq_ignore_ascii_case("inbox")
        {
            "INBOX".clone_into(first);
        }
        Ok(Self { parts })
    }

    /// INBOX.
    #[must_use]
    pub fn inbox() -> Self {
        Self { parts: vec!["INBOX".to_owned()] }
    }

    /// The decoded parts, outermost first.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Whether this is INBOX itself.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        matches!(self.parts.as_slice(), [only] if only == "INBOX")
    }
}

/// For people: the parts joined by `/`.
impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("/"))
    }
}

/// Why a Dovecot would not keep a mailbox under this very name (dsync reference §16.6), if so.
#[must_use]
pub fn unfit(name: &MailboxName) -> Option<String> {
    name.parts().iter().find_map(|part| unfit_part(part))
}

/// Octets of the longest name part in modified UTF-7: a file name of the storage.
const PART_MAX: usize = 255;

fn unfit_part(part: &str) -> Option<String> {
    if part.starts_with('~') {
        return Some("it starts with `~`".to_owned());
    }
    if part == "." || part == ".." {
        return Some(format!("`{part}` means a folder of the file system"));
    }
    if part == "dbox-Mails" {
        return Some("`dbox-Mails` is a name of the storage".to_owned());
    }
    if part.contains('/') {
        return Some("it contains `/`".to_owned());
    }
    if part.chars().any(char::is_control) {
        return Some("it contains a control character".to_owned());
    }
    let octets = encoded_len(part);
    (octets > PART_MAX)
        .then(|| format!("a part of it has {octets} octets in modified UTF-7, and {PART_MAX} can be stored"))
}

/// Octets of a part in modified UTF-7 (RFC 3501 §5.1.3).
fn encoded_len(part: &str) -> usize {
    let mut octets = 0;
    // UTF-16 units of the run of characters that go as base64 just now.
    let mut run = 0_usize;
    let shifted = |run: usize| if run == 0 { 0 } else { (run * 16).div_ceil(6) + "&-".len() };
    for character in part.chars() {
        if matches!(character, ' '..='~') {
            octets += shifted(std::mem::take(&mut run)) + if character == '&' { "&-".len() } else { 1 };
        } else {
            run += character.len_utf16();
        }
    }
    octets + shifted(run)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn why(part: &str) -> Option<String> {
        unfit(&MailboxName::from_parts(vec!["a".to_owned(), part.to_owned()]).unwrap())
    }

    #[test]
    fn a_part_is_as_long_as_its_file_name() {
        assert_eq!(why(&"x".repeat(255)), None);
        assert!(why(&"x".repeat(256)).unwrap().contains("256 octets"));
        // 240 octets of UTF-8.
        assert!(why(&"ü".repeat(120)).unwrap().contains("322 octets"));
        // 270 octets of UTF-8, and fewer in modified UTF-7.
        assert_eq!(why(&"字".repeat(90)), None);
        assert_eq!(encoded_len("Tom & Jerry"), "Tom &- Jerry".len());
        assert_eq!(encoded_len("Entwürfe 🚢"), "Entw&APw-rfe &2D3eog-".len());
    }

    #[test]
    fn names_that_a_dovecot_would_alter_are_told() {
        for part in ["~", "~x", ".", "..", "dbox-Mails", "a/b", "a\tb"] {
            assert!(why(part).is_some(), "{part:?}");
        }
        for part in ["x~", "..a", "dbox-Mails2", "inbox", " ", "a.b", "%&*"] {
            assert_eq!(why(part), None, "{part:?}");
        }
    }
}
