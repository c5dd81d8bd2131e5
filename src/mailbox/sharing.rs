//! Who may do what in whose mailboxes (RFC 4314).

use std::collections::{BTreeMap, BTreeSet};

use super::name::MailboxName;

/// Rights on mailboxes that more than one user can see, as far as a server tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Mailboxes of other users and shared ones, as the server names them: what the user may do there.
    pub others: BTreeMap<String, Rights>,
    /// The user's own mailboxes on which others have rights: who, and which.
    pub own: BTreeMap<MailboxName, BTreeMap<String, Rights>>,
}

/// A set of rights, one letter each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(BTreeSet<char>);

impl Rights {
    /// As a server writes them. The letters of RFC 2086 that stand for several are taken for those (RFC 4314 §2.1.1).
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut letters: BTreeSet<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
        let modern = "ktex".chars().any(|letter| letters.contains(&letter));
        for (old, new) in [('c', "kx"), ('d', "te")] {
            if letters.remove(&old) && !modern {
                letters.extend(new.chars());
            }
        }
        Self(letters)
    }

    /// Whether all of `letters` are among them.
    #[must_use]
    pub fn has(&self, letters: &str) -> bool {
        letters.chars().all(|letter| self.0.contains(&letter))
    }

    /// Mail can be put there, and not be read.
    #[must_use]
    pub fn is_write_only(&self) -> bool {
        self.has("i") && !self.has("r")
    }

    /// Mail may be sent there, as to any address, and nothing seen.
    #[must_use]
    pub fn is_post_only(&self) -> bool {
        self.0.iter().all(|letter| *letter == 'p')
    }

    /// No right at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        self.0.iter().try_for_each(|letter| write!(f, "{letter}"))
    }
}

impl Sharing {
    /// With whom the user shares, and how many mailboxes with each.
    #[must_use]
    pub fn with_whom(&self) -> BTreeMap<String, u64> {
        let mut with = BTreeMap::new();
        for (who, _) in self.own.values().flatten().filter(|(_, rights)| !rights.is_post_only()) {
            *with.entry(who.clone()).or_default() += 1;
        }
        with
    }
}

#[cfg(test)]
mod tests {
    use super::Rights;

    #[test]
    fn rights_are_equal_whichever_standard_they_are_written_in() {
        assert_eq!(Rights::read("lrswipkxtecd"), Rights::read("lrswipkxte"));
        assert_eq!(Rights::read("lrswipcd"), Rights::read("lrswipkxte"));
        assert_ne!(Rights::read("lrs"), Rights::read("lr"));
        assert_eq!(
            (Rights::read("rsl").to_string(), Rights::read("").to_string()),
            ("lrs".to_owned(), "none".to_owned())
        );
        assert!(Rights::read("lip").is_write_only() && !Rights::read("lrip").is_write_only());
        assert!(Rights::read("p").is_post_only() && !Rights::read("lp").is_post_only());
    }
}
