//! Names that a Dovecot would change without a word, or refuse in the middle of a session. Measured on 2.3.19 (mdbox and
//! Maildir): a name that passes was shown by IMAP LIST as it was sent.

use crate::wire::imap::mutf7;

/// Octets of one part in modified UTF-7: a directory's name. 256 of them became a GUID on mdbox, and on Maildir, where
/// the whole name is one directory with a dot in front, 255 ended the session; [`MAX_MAILDIR`] is for that.
const MAX_PART: usize = 255;

/// Octets of a whole name in modified UTF-7. A name can be as long as PATH_MAX allows together with the target's
/// `mail_location` (3998 on a short one); beyond it the session ends.
const MAX_NAME: usize = 3000;

/// Octets of a whole name in modified UTF-7 on a Maildir.
const MAX_MAILDIR: usize = 254;

/// Why a name can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Would get a `_` in front.
    #[error("begins with ~")]
    Tilde,
    /// Would get a `_` in front.
    #[error("has a part that is only . or ..")]
    Dots,
    /// Would be replaced or cut.
    #[error("has a / or a NUL inside a part")]
    Separator,
    /// The directory of dbox's mails; would get a `_` in front.
    #[error("has a part dbox-Mails")]
    DboxMails,
    /// Would become a GUID.
    #[error("has a part of more than {MAX_PART} octets in modified UTF-7")]
    LongPart,
    /// Can't be created.
    #[error("has more than {MAX_NAME} octets in modified UTF-7")]
    Long,
    /// `.` is Maildir's own separator; would become `_`.
    #[error("has a . inside a part, which a Maildir can't keep")]
    MaildirDot,
    /// Can't be created on a Maildir.
    #[error("has more than {MAX_MAILDIR} octets in modified UTF-7, which a Maildir can't keep")]
    MaildirLong,
}

/// Why a target with mdbox or sdbox would not keep a name, given by its parts; `None` if it would.
#[must_use]
pub fn problem(parts: &[String]) -> Option<NameProblem> {
    if parts.first().is_some_and(|first| first.starts_with('~')) {
        return Some(NameProblem::Tilde);
    }
    for part in parts {
        if part == "." || part == ".." {
            return Some(NameProblem::Dots);
        }
        if part.contains(['/', '\0']) {
            return Some(NameProblem::Separator);
        }
        if part == "dbox-Mails" {
            return Some(NameProblem::DboxMails);
        }
        if mutf7::encode(part).len() > MAX_PART {
            return Some(NameProblem::LongPart);
        }
    }
    (octets(parts) > MAX_NAME).then_some(NameProblem::Long)
}

/// Why a target with Maildir would not keep a name (besides [`problem`]).
#[must_use]
pub fn maildir_problem(parts: &[String]) -> Option<NameProblem> {
    if parts.iter().any(|part| part.contains('.')) {
        return Some(NameProblem::MaildirDot);
    }
    (octets(parts) > MAX_MAILDIR).then_some(NameProblem::MaildirLong)
}

fn octets(parts: &[String]) -> usize {
    parts.iter().map(|part| mutf7::encode(part).len() + 1).sum::<usize>().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> Option<NameProblem> {
        problem(&parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_that_are_kept() {
        for name in [
            "a~",
            ".a",
            "a.b",
            "...",
            "..a",
            "cur",
            "mailboxes",
            "storage",
            "trail ",
            " lead",
            "100%",
            "%41",
            "st*r",
            "a&b",
            "\"q\"",
            "back\\slash",
            "Entwürfe",
            "日本語",
            "😀",
            "tab\tx",
            "ctl\u{1}x",
            "del\u{7f}",
            "#news",
            "&AOk-",
        ] {
            assert_eq!(of(&[name]), None, "{name:?}");
        }
        assert_eq!(of(&["p", "~b"]), None, "a tilde only matters in front");
        assert_eq!(of(&[&"x".repeat(255)]), None);
        assert_eq!(of(&[&"ü".repeat(94)]), None);
    }

    #[test]
    fn names_that_are_not() {
        assert_eq!(of(&["~a"]), Some(NameProblem::Tilde));
        assert_eq!(of(&["p", ".."]), Some(NameProblem::Dots));
        assert_eq!(of(&["sl/ash"]), Some(NameProblem::Separator));
        assert_eq!(of(&["nul\0"]), Some(NameProblem::Separator));
        assert_eq!(of(&["x", "dbox-Mails", "y"]), Some(NameProblem::DboxMails));
        assert_eq!(of(&[&"x".repeat(256)]), Some(NameProblem::LongPart));
        assert_eq!(of(&[&"ü".repeat(95)]), Some(NameProblem::LongPart));
        let deep = vec!["x".repeat(100); 40];
        assert_eq!(problem(&deep), Some(NameProblem::Long));
    }

    #[test]
    fn what_only_a_maildir_can_not_keep() {
        let name = |part: &str| [part.to_owned()];
        assert_eq!(maildir_problem(&name("a.b")), Some(NameProblem::MaildirDot));
        assert_eq!(maildir_problem(&name(&"x".repeat(254))), None);
        assert_eq!(maildir_problem(&name(&"x".repeat(255))), Some(NameProblem::MaildirLong));
    }
}
