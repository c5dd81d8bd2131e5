//! Newtypes for the numbers of IMAP, so that one can't be taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two sides of a migration (DESIGN §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The server that users come from.
    Old,
    /// The Dovecot that users go to.
    New,
}

impl Side {
    /// The word used in records, JSON and messages: `old` or `new`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A message's unique identifier (RFC 3501 §2.3.1.1); 0 is never one.
    Uid,
    u32
);
number!(
    /// A mailbox's unique identifier validity value (RFC 3501 §2.3.1.1).
    UidValidity,
    u32
);
number!(
    /// The next unique identifier value a mailbox promises (RFC 3501 §2.3.1.1).
    UidNext,
    u32
);
number!(
    /// A mod-sequence (RFC 7162 §3.1); 0 where a server has none.
    ModSeq,
    u64
);

/// A 128-bit dsync GUID of a mailbox or of a message; 32 lower-case hex digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Parses 32 hex digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        let mut bytes = [0_u8; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Guid;

    #[test]
    fn a_guid_is_thirty_two_hex_digits() {
        let hex = "b62da02bfc33b02cca9f9d32c8247b2d";
        assert_eq!(Guid::from_hex(hex).map(|guid| guid.to_string()), Some(hex.to_owned()));
        assert_eq!(Guid::from_hex("b62d"), None);
        assert_eq!(Guid::from_hex(&"zz".repeat(16)), None);
        assert_eq!(Guid::from_hex(&"ü".repeat(16)), None);
    }
}
