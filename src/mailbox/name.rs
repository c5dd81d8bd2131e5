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

    /// The name one level up, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.parts.split_last()?;
        (!above.is_empty()).then(|| Self { parts: above.to_vec() })
    }

    /// Whether this is below `other` in the hierarchy.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.parts.len() > other.parts.len() && self.parts.starts_with(&other.parts)
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
