//! What POP3 shows of INBOX: its messages in the server's order with their unique identifiers (UIDLs, RFC 1939 §7), and
//! which UID each of them is.
//!
//! [`pairing`] finds the UIDs by a [`template`], [`proof`] proves them on the messages themselves; where no template fits, or the
//! messages contradict it, [`matching`] finds them on the messages alone, and [`mod@numbered`] by a number that IMAP tells. [`order`]
//! keeps the server's order on a target that can only append.

mod align;
pub mod matching;
pub mod numbered;
pub mod order;
pub mod pairing;
pub mod proof;
pub mod template;
pub mod text;

use std::collections::HashSet;
use std::fmt;

pub use matching::{Claims, KnownUidls, Looks, Matching};
pub use numbered::numbered;
pub use pairing::{Doubt, Method, Paired, Pairing, Policy, Snapshot, Stranger, nearest, pair};
pub use template::Template;
pub use text::{TextDigest, TextHasher};

/// Messages of one list: far more than any maildrop holds, and it bounds what a hostile server makes us hold.
pub const MESSAGES_MAX: usize = 500_000;

/// Octets of a UIDL (RFC 1939 §7).
pub const UIDL_MAX: usize = 70;

/// A unique identifier as the server told it: 1 to 70 octets from 0x21 to 0x7E.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uidl(String);

impl Uidl {
    /// The identifier of these octets; none if RFC 1939 doesn't allow them.
    #[must_use]
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let fits = (1..=UIDL_MAX).contains(&octets.len()) && octets.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(octets).ok()?;
        fits.then(|| Self(text.to_owned()))
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uidl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uidl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One message of a POP3 list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3Message {
    /// Its unique identifier.
    pub uidl: Uidl,
    /// Its octets, as LIST tells them.
    pub size: u64,
}

/// The messages of a maildrop in the server's order: message number 1 is the first. No two have the same UIDL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pop3List(Vec<Pop3Message>);

/// Why what a server told is no list that messages can be recognised by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// RFC 1939 doesn't allow it as a UIDL.
    #[error("message {number} has a UIDL that RFC 1939 forbids: {uidl:?}")]
    Uidl {
        /// Which message.
        number: usize,
        /// The start of what the server told, without what is no text.
        uidl: String,
    },
    /// Clients can't tell these messages apart.
    #[error("messages {first} and {second} have the same UIDL {uidl}")]
    Twice {
        /// The UIDL.
        uidl: Uidl,
        /// One message.
        first: usize,
        /// Another one.
        second: usize,
    },
    /// The answers to UIDL and LIST don't tell of the same messages.
    #[error("UIDL tells of {uidls} messages and LIST of {sizes}, or not of the same ones")]
    Counts {
        /// Messages in the answer to UIDL.
        uidls: usize,
        /// Messages in the answer to LIST.
        sizes: usize,
    },
    /// More than we are ready to hold.
    #[error("more than {MESSAGES_MAX} messages")]
    TooMany,
}

impl Pop3List {
    /// The list of these UIDLs and sizes, which are in the server's order.
    ///
    /// # Errors
    /// [`BadList`] if clients could not tell the messages apart.
    pub fn new(messages: impl IntoIterator<Item = (Vec<u8>, u64)>) -> Result<Self, BadList> {
        let mut list = Vec::new();
        for (octets, size) in messages {
            if list.len() >= MESSAGES_MAX {
                return Err(BadList::TooMany);
            }
            let uidl = Uidl::from_octets(&octets).ok_or_else(|| BadList::Uidl {
                number: list.len() + 1,
                uidl: octets.iter().take(UIDL_MAX).map(|&octet| char::from(octet)).collect(),
            })?;
            list.push(Pop3Message { uidl, size });
        }
        let mut seen = HashSet::with_capacity(list.len());
        if let Some(second) = list.iter().position(|message| !seen.insert(&message.uidl)) {
            let uidl = list.get(second).map(|message| message.uidl.clone());
            let first = list.iter().position(|message| Some(&message.uidl) == uidl.as_ref());
            if let Some((uidl, first)) = uidl.zip(first) {
                return Err(BadList::Twice { uidl, first: first + 1, second: second + 1 });
            }
        }
        Ok(Self(list))
    }

    /// The list that the answers to UIDL and LIST make together; both are number and value in the server's order.
    ///
    /// # Errors
    /// [`BadList`]
    pub fn of_answers(uidls: Vec<(u32, Vec<u8>)>, sizes: &[(u32, u64)]) -> Result<Self, BadList> {
        let counted = |place: usize, number: u32| u32::try_from(place + 1).is_ok_and(|expected| expected == number);
        let same = uidls.len() == sizes.len()
            && uidls.iter().enumerate().all(|(place, (number, _))| counted(place, *number))
            && sizes.iter().enumerate().all(|(place, (number, _))| counted(place, *number));
        if !same {
            return Err(BadList::Counts { uidls: uidls.len(), sizes: sizes.len() });
        }
        Self::new(uidls.into_iter().zip(sizes).map(|((_, uidl), (_, size))| (uidl, *size)))
    }

    /// The messages in the server's order.
    #[must_use]
    pub fn messages(&self) -> &[Pop3Message] {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn list(messages: &[(&str, u64)]) -> Pop3List {
        Pop3List::new(messages.iter().map(|(uidl, size)| (uidl.as_bytes().to_vec(), *size))).unwrap()
    }

    fn bad(uidls: &[&[u8]]) -> BadList {
        Pop3List::new(uidls.iter().map(|uidl| (uidl.to_vec(), 1))).unwrap_err()
    }

    #[test]
    fn a_list_that_clients_could_not_use_is_refused_and_the_reason_names_the_message() {
        let longest = "~".repeat(70);
        assert_eq!(list(&[("!", 1), (&longest, 2)]).messages().len(), 2);
        assert!(bad(&[b"a", b""]).to_string().contains("message 2"));
        assert!(bad(&["x".repeat(71).as_bytes()]).to_string().contains("RFC 1939"));
        for octets in [&b"a b"[..], b"a\x7f", b"\xc3\xa4", b"a\0"] {
            assert!(matches!(bad(&[octets]), BadList::Uidl { number: 1, .. }), "{octets:?}");
        }
        let twice = bad(&[b"a", b"b", b"a"]);
        assert_eq!(twice.to_string(), "messages 1 and 3 have the same UIDL a");
    }

    #[test]
    fn uidl_and_list_must_tell_of_the_same_messages() {
        let uidls = || vec![(1, b"a".to_vec()), (2, b"b".to_vec())];
        assert_eq!(Pop3List::of_answers(uidls(), &[(1, 5), (2, 6)]).unwrap(), list(&[("a", 5), ("b", 6)]));
        for sizes in [&[(1, 5)][..], &[(1, 5), (3, 6)], &[(2, 6), (1, 5)], &[(1, 5), (2, 6), (3, 7)]] {
            assert!(matches!(Pop3List::of_answers(uidls(), sizes), Err(BadList::Counts { .. })), "{sizes:?}");
        }
    }
}
