//! Questions about one mailbox: its quota roots (RFC 9208), its rights (RFC 4314).

use super::{Fragments, Line, checked_tag};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `GETQUOTAROOT`: only to servers with QUOTA.
    QuotaRoot,
    /// `MYRIGHTS`: only to servers with ACL.
    MyRights,
    /// `GETACL`: only to servers with ACL, and to a user with the right `a`.
    Acl,
}

impl About {
    /// The command's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::QuotaRoot => "GETQUOTAROOT",
            Self::MyRights => "MYRIGHTS",
            Self::Acl => "GETACL",
        }
    }
}

/// The word and the mailbox, raw.
///
/// # Errors
/// [`CommandError::Tag`](super::CommandError::Tag), [`CommandError::Nul`](super::CommandError::Nul).
pub fn about(tag: &str, what: About, name: &[u8]) -> Fragments {
    checked_tag(tag)?;
    let mut line = Line::with_room(tag.len() + 2 * name.len() + 64);
    line.text(format!("{tag} {} ", what.word()).as_bytes());
    line.string(name, "mailbox name")?;
    line.text(b"\r\n");
    Ok(line.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::Fragment;
    use super::{About, about};

    #[test]
    fn a_mailbox_is_quoted_whatever_its_name() {
        for (what, wanted) in [
            (About::QuotaRoot, &b"a1 GETQUOTAROOT \"INBOX\"\r\n"[..]),
            (About::MyRights, b"a1 MYRIGHTS \"INBOX\"\r\n"),
            (About::Acl, b"a1 GETACL \"INBOX\"\r\n"),
        ] {
            let fragments = about("a1", what, b"INBOX").unwrap();
            let [Fragment::Bytes(octets)] = fragments.as_slice() else { panic!("{fragments:?}") };
            assert_eq!(octets.as_slice(), wanted);
        }
        assert!(about("a1", About::Acl, b"a\0b").is_err());
    }
}
