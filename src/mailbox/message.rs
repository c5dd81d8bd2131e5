//! What is known of a message without its body.

use std::fmt;

use super::model::{ModSeq, Uid};

/// The five system flags that can be stored, in the bits that dsync uses (dsync reference §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    /// Names and bits.
    const NAMES: [(&'static str, u8); 5] =
        [("\\Answered", 1), ("\\Flagged", 2), ("\\Deleted", 4), ("\\Seen", 8), ("\\Draft", 16)];

    /// The bit of a flag's name in any case; none for `\Recent`, keywords and what RFC 3501 doesn't know.
    #[must_use]
    pub fn bit(name: &[u8]) -> Option<u8> {
        Self::NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, bit)| *bit)
    }

    /// Flags that are in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for SystemFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(name, _)| *name).collect();
        f.write_str(&names.join(" "))
    }
}

/// A message's keywords: sorted and unique by their lower-case form, each in the spelling the server gave.
#[derive(Clone, Debug, Default)]
pub struct Keywords(Vec<String>);

impl Keywords {
    /// From names in any order.
    #[must_use]
    pub fn from_names(mut names: Vec<String>) -> Self {
        names.sort_by_cached_key(|name| name.to_ascii_lowercase());
        names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Self(names)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is among them, in any case.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by_key(&name.to_ascii_lowercase(), |known| known.to_ascii_lowercase()).is_ok()
    }

    /// Those that `other` lacks.
    #[must_use]
    pub fn without(&self, other: &Self) -> Vec<String> {
        self.0.iter().filter(|name| !other.contains(name)).cloned().collect()
    }

    /// Those that are in `other` too.
    #[must_use]
    pub fn also_in(&self, other: &Self) -> Vec<String> {
        self.0.iter().filter(|name| other.contains(name)).cloned().collect()
    }

    /// Only those that the target can hold, and the others (DESIGN §5: they are left out one by one and reported,
    /// because a single one of them makes Dovecot drop all keywords of its message).
    #[must_use]
    pub fn fit(&self) -> (Self, Vec<String>) {
        let (fit, unfit) = self.0.iter().cloned().partition(|name| keyword_fits(name));
        (Self(fit), unfit)
    }
}

impl PartialEq for Keywords {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for Keywords {}

impl fmt::Display for Keywords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// Octets of the longest keyword that Dovecot stores (dsync reference §16b).
const KEYWORD_MAX: usize = 50;

/// Whether Dovecot can store a keyword: an atom (RFC 3501 §9) of at most 50 octets.
#[must_use]
pub fn keyword_fits(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= KEYWORD_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte))
}

/// One message of a mailbox as its server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its system flags; `\Recent` is not one of them.
    pub flags: SystemFlags,
    /// Its keywords.
    pub keywords: Keywords,
    /// INTERNALDATE in seconds since the epoch, if the server gave one that can be read.
    pub internal_date: Option<i64>,
    /// RFC822.SIZE.
    pub size: u64,
    /// Its mod-sequence, 0 if the server has none.
    pub modseq: ModSeq,
    /// It is in another mailbox, too, that is copied (Gmail's labels). Told only where a filter asks for it, and never written.
    pub labelled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(names: &[&str]) -> Keywords {
        Keywords::from_names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn keywords_compare_without_case_and_order() {
        assert_eq!(keywords(&["Junk", "$a"]), keywords(&["$A", "JUNK"]));
        assert_ne!(keywords(&["Junk"]), keywords(&["Junk", "b"]));
        assert_eq!(keywords(&["Junk", "b"]).without(&keywords(&["JUNK"])), ["b"]);
        assert_eq!(keywords(&["Junk", "JUNK"]).iter().count(), 1);
    }

    #[test]
    fn keywords_that_the_target_would_drop_are_left_out_one_by_one() {
        let long = "x".repeat(51);
        let (fit, unfit) = keywords(&["ok", &long, "a]b", "a(b", "ä", &"y".repeat(50)]).fit();
        assert_eq!(fit, keywords(&["ok", &"y".repeat(50)]));
        assert_eq!(unfit.len(), 4);
    }

    #[test]
    fn system_flags_have_bits_and_names() {
        assert_eq!(SystemFlags::bit(b"\\seen"), Some(8));
        assert_eq!(SystemFlags::bit(b"\\Recent"), None);
        assert_eq!(SystemFlags(9).to_string(), "\\Answered \\Seen");
        assert_eq!(SystemFlags(9).without(SystemFlags(1)), SystemFlags(8));
    }
}
