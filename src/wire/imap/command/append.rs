//! APPEND (RFC 3501 §6.3.11), whose message streams behind its command line, and CREATE.

use super::{CommandError, Fragment, Fragments, Line, checked_tag, encode, mailbox};
use imap_codec::imap_types::command::CommandBody;

/// The line of an APPEND, up to the octets of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    /// The mailbox, raw as its server named it.
    pub mailbox: &'a [u8],
    /// System flags and keywords; only what the server can hold.
    pub flags: &'a [&'a str],
    /// INTERNALDATE as `date-time` without its quotes; none: the server's clock.
    pub date: Option<&'a str>,
    /// Octets of the message.
    pub octets: u64,
    /// They follow without waiting for `+` (RFC 7888). Only to servers with LITERAL+ or, up to 4096 octets, LITERAL-.
    pub at_once: bool,
}

/// `APPEND name (flags) "date-time" {n}`: the octets and the final line end are the caller's to write.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`]; [`CommandError::Atom`] for a flag that is none.
pub fn append(tag: &str, append: &Append<'_>) -> Fragments {
    checked_tag(tag)?;
    if let Some(flag) = append.flags.iter().find(|flag| !is_flag(flag)) {
        return Err(CommandError::Atom((*flag).to_owned()));
    }
    let mut line = Line::with_room(tag.len() + 2 * append.mailbox.len() + 128);
    line.text(tag.as_bytes());
    line.text(b" APPEND ");
    line.string(append.mailbox, "mailbox name")?;
    line.text(format!(" ({}) ", append.flags.join(" ")).as_bytes());
    if let Some(date) = append.date {
        line.string(date.as_bytes(), "date")?;
        line.text(b" ");
    }
    let plus = if append.at_once { "+" } else { "" };
    line.text(format!("{{{}{plus}}}\r\n", append.octets).as_bytes());
    let mut fragments = line.finish();
    if !append.at_once {
        fragments.push(Fragment::AwaitContinuation);
    }
    Ok(fragments)
}

/// `CREATE name`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::Nul`].
pub fn create(tag: &str, name: &[u8]) -> Fragments {
    encode(tag, CommandBody::Create { mailbox: mailbox(name)? })
}

/// An atom (RFC 3501 §9), or a system flag `\atom`.
fn is_flag(flag: &str) -> bool {
    let atom = flag.strip_prefix('\\').unwrap_or(flag);
    !atom.is_empty() && atom.bytes().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\]".contains(&octet))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wire(fragments: Fragments) -> String {
        let octets: Vec<u8> = fragments
            .unwrap()
            .iter()
            .flat_map(|fragment| match fragment {
                Fragment::Bytes(octets) => octets.to_vec(),
                Fragment::AwaitContinuation => b"<+>".to_vec(),
            })
            .collect();
        octets.iter().map(|&octet| char::from(octet)).collect()
    }

    const PLAIN: Append<'_> = Append { mailbox: b"INBOX", flags: &[], date: None, octets: 12, at_once: false };

    #[test]
    fn the_line_ends_where_the_octets_begin() {
        assert_eq!(wire(append("a", &PLAIN)), "a APPEND \"INBOX\" () {12}\r\n<+>");
        let full = Append {
            mailbox: b"a \"b\"",
            flags: &["\\Seen", "$Junk"],
            date: Some(" 7-Jul-1996 02:44:25 -0700"),
            octets: u64::MAX,
            at_once: true,
        };
        assert_eq!(
            wire(append("a", &full)),
            "a APPEND \"a \\\"b\\\"\" (\\Seen $Junk) \" 7-Jul-1996 02:44:25 -0700\" {18446744073709551615+}\r\n"
        );
        let raw = Append { mailbox: b"raw\xe4", ..PLAIN };
        assert_eq!(wire(append("a", &raw)), "a APPEND {4}\r\n<+>raw\u{e4} () {12}\r\n<+>");
    }

    #[test]
    fn what_would_break_the_line_is_refused() {
        for flag in ["", "\\", "a b", "a)", "a\r\nb LOGOUT", "ä", "a\\b"] {
            let refused = append("a", &Append { flags: &["\\Seen", flag], ..PLAIN });
            assert_eq!(refused, Err(CommandError::Atom(flag.to_owned())));
        }
        assert_eq!(append("a", &Append { mailbox: b"x\0", ..PLAIN }), Err(CommandError::Nul("mailbox name")));
        assert_eq!(append("a b", &PLAIN), Err(CommandError::Tag("a b".to_owned())));
    }

    #[test]
    fn a_mailbox_is_made_by_its_raw_name() {
        assert_eq!(wire(create("a", b"x/Entw&APw-rfe")), "a CREATE \"x/Entw&APw-rfe\"\r\n");
    }
}
