//! The words of a filter, as they are written on the command line.

use std::fmt;
use std::str::FromStr;

use super::super::account::Listed;
use super::super::message::{Message, SystemFlags};
use super::super::name::MailboxName;

/// SPECIAL-USE attributes (RFC 6154, RFC 8457), lower case.
const USES: [&str; 8] = ["\\all", "\\archive", "\\drafts", "\\flagged", "\\important", "\\junk", "\\sent", "\\trash"];

/// Octets in the units of [`Size`].
const UNITS: [(char, u64); 3] = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Why a word is not one of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is {what}")]
pub struct FilterError {
    text: String,
    what: &'static str,
}

fn wrong<T>(text: &str, what: &'static str) -> Result<T, FilterError> {
    Err(FilterError { text: text.to_owned(), what })
}

/// Which mailboxes: a name with the wildcards of IMAP, or a use such as `\All`, whatever a mailbox of that use is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `Lists/*`: `*` stands for anything, `%` for anything within one level; levels are joined by `/`.
    Name(String),
    /// `\All`, lower case.
    Use(String),
}

impl Pattern {
    /// Whether a mailbox is meant.
    #[must_use]
    pub fn matches(&self, name: &MailboxName, listed: &Listed) -> bool {
        match self {
            Self::Name(pattern) => matches(pattern.as_bytes(), name.to_string().as_bytes()),
            Self::Use(wanted) => listed.special_use.contains(wanted),
        }
    }

    pub(super) const fn is_special_use(&self) -> bool {
        matches!(self, Self::Use(_))
    }
}

impl FromStr for Pattern {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.starts_with('\\') {
            let lower = text.to_ascii_lowercase();
            if USES.contains(&lower.as_str()) {
                return Ok(Self::Use(lower));
            }
            return wrong(
                text,
                "no use of a mailbox: there are \\All, \\Archive, \\Drafts, \\Flagged, \\Important, \\Junk, \\Sent, \\Trash",
            );
        }
        if text.is_empty() || text.split('/').any(str::is_empty) {
            return wrong(text, "no name of a mailbox: levels are joined by one /");
        }
        // INBOX has no case (RFC 3501 §5.1).
        let (first, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
        let first = if first.eq_ignore_ascii_case("inbox") { "INBOX" } else { first };
        Ok(Self::Name(format!("{first}{rest}")))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => f.write_str(pattern),
            Self::Use(wanted) => {
                let (slash, word) = wanted.split_at(1);
                let (first, rest) = word.split_at(1);
                write!(f, "{slash}{}{rest}", first.to_ascii_uppercase())
            }
        }
    }
}

/// Whether `name` is what `pattern` says. Only the last wildcard is tried anew: what an earlier one took can't matter, unless
/// that was `%`, which must not cross a level, and `*` stood before it.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    /// Where matching goes on if it fails: pattern and name behind the wildcard.
    type Again = Option<(usize, usize)>;
    let (mut at, mut of) = (0, 0);
    let (mut star, mut percent): (Again, Again) = (None, None);
    loop {
        match (pattern.get(at), name.get(of)) {
            (Some(b'*'), _) => {
                (star, percent) = (Some((at + 1, of)), None);
                at += 1;
            }
            (Some(b'%'), _) => {
                percent = Some((at + 1, of));
                at += 1;
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found => {
                at += 1;
                of += 1;
            }
            _ => {
                let within = percent.filter(|(_, from)| name.get(*from).is_some_and(|octet| *octet != b'/'));
                if let Some((behind, from)) = within {
                    percent = Some((behind, from + 1));
                    (at, of) = (behind, from + 1);
                } else if let Some((behind, from)) = star.filter(|(_, from)| *from < name.len()) {
                    (star, percent) = (Some((behind, from + 1)), None);
                    (at, of) = (behind, from + 1);
                } else {
                    return false;
                }
            }
        }
    }
}

/// A moment: `2026-11-01`, which is its midnight in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub i64);

impl FromStr for Since {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let what = "no date such as 2026-11-01 (year, month, day; its midnight in UTC)";
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next()?;
            let fits = part.len() == digits && part.bytes().all(|octet| octet.is_ascii_digit());
            part.parse::<i64>().ok().filter(|_| fits)
        };
        let (Some(year), Some(month), Some(day), None) = (part(4), part(2), part(2), part(0)) else {
            return wrong(text, what);
        };
        if !(1..=12).contains(&month) || day < 1 {
            return wrong(text, what);
        }
        let since = Self(days(year, month, day) * DAY);
        // A day that its month doesn't have is another one by now.
        if since.to_string() == text { Ok(since) } else { wrong(text, what) }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years counted from March: the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The day that lies so many days behind 1970-01-01.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

/// Octets: `1000000`, or `900K`, `20M`, `1G` (1024, 1024², 1024³).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let unit = UNITS.iter().find(|(letter, _)| text.ends_with([*letter, letter.to_ascii_lowercase()]));
        let digits = unit.map_or(text, |_| text.get(..text.len() - 1).unwrap_or_default());
        let plain = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| plain);
        let octets = number.and_then(|number| number.checked_mul(unit.map_or(1, |(_, octets)| *octets)));
        octets.map_or_else(|| wrong(text, "no size such as 1000000, 900K, 20M or 1G"), |octets| Ok(Self(octets)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|(_, octets)| self.0 > 0 && self.0.is_multiple_of(*octets));
        match unit {
            Some((letter, octets)) => write!(f, "{}{letter}", self.0 / octets),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The keyword that messages of Gmail's mailbox of all mail have for a filter, if they are in another mailbox, too. Dovecot's
/// `gmail-migration` calls it so.
const LABELLED: &str = "$GmailHaveLabels";

/// What must be true of a message's flags: `\Seen` or a keyword that it must have, `-\Deleted` one that it must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagRule {
    name: String,
    /// The bit of a system flag; none: a keyword.
    bit: Option<u8>,
    wanted: bool,
}

impl FlagRule {
    /// Whether it is true of a message.
    #[must_use]
    pub fn applies(&self, message: &Message) -> bool {
        let has = match self.bit {
            Some(bit) => message.flags.0 & bit != 0,
            None => message.keywords.contains(&self.name) || (message.labelled && self.is_about_labels()),
        };
        has == self.wanted
    }

    /// Whether it asks which messages of all mail are in another mailbox, too.
    pub(super) fn is_about_labels(&self) -> bool {
        self.name.eq_ignore_ascii_case(LABELLED)
    }
}

impl FromStr for FlagRule {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (name, wanted) = text.strip_prefix('-').map_or((text, true), |name| (name, false));
        let bit = SystemFlags::bit(name.as_bytes());
        let atom = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte);
        let keyword = !name.is_empty() && name.bytes().all(atom);
        if bit.is_none() && !keyword {
            return wrong(
                text,
                "no flag: \\Answered, \\Flagged, \\Deleted, \\Seen, \\Draft or a keyword, with - in front for none of it",
            );
        }
        Ok(Self { name: name.to_owned(), bit, wanted })
    }
}

impl fmt::Display for FlagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wanted { "" } else { "-" }, self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_those_of_imap() {
        let is = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in [
            ("*", "a/b"),
            ("%", "a"),
            ("a*", "a"),
            ("*b*d", "a/b/c/d"),
            ("%/%", "a/b"),
            ("*/%x", "a/b/cx"),
            ("*%b", "a/b"),
            ("a%c", "abc"),
            ("*a%b*", "xa/ab"),
            ("Größe", "Größe"),
        ] {
            assert!(is(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("%", "a/b"), ("a%", "a/b"), ("%/%", "a/b/c"), ("*b", "abc"), ("", "a"), ("a", "A")] {
            assert!(!is(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_with_many_wildcards_is_quick() {
        let (pattern, name) = ("*a".repeat(50) + "b", "a".repeat(20_000));
        assert!(!matches(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn words_are_read_and_shown_alike_and_others_are_refused_with_what_there_is() {
        for text in ["2026-11-01", "1970-01-01", "2024-02-29"] {
            assert_eq!(text.parse::<Since>().unwrap().to_string(), text);
        }
        assert_eq!("2026-11-01".parse::<Since>().unwrap().0, 1_793_491_200);
        for text in ["", "yesterday", "2026-2-1", "2026-02-29", "2026-13-01", "2026-11-01-", "+026-11-01"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
        for (text, octets, shown) in
            [("20M", 20 << 20, "20M"), ("1048576k", 1 << 30, "1G"), ("1500", 1500, "1500"), ("0", 0, "0")]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (octets, shown));
        }
        for text in ["", "M", "1.5M", "-1", "+1", "99999999999999G", "20MB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["\\All", "\\Important", "INBOX", "a/b*", "%"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        assert_eq!("inbox/x".parse::<Pattern>().unwrap().to_string(), "INBOX/x");
        assert!("\\Everything".parse::<Pattern>().unwrap_err().to_string().contains("\\All, \\Archive"));
        for text in ["", "a//b", "/a", "a/"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        for text in ["\\Seen", "-\\Deleted", "$GmailHaveLabels", "-$x"] {
            assert_eq!(text.parse::<FlagRule>().unwrap().to_string(), text);
        }
        for text in ["", "-", "\\Recent", "a b", "\\Seen,x\\"] {
            assert!(text.parse::<FlagRule>().is_err(), "{text}");
        }
    }
}
