//! Commands, ready for the wire.

use zeroize::Zeroizing;

/// Octets that a quoted string may have (RFC 5804 §4); what is longer goes as a literal.
const QUOTED_MAX: usize = 1024;

/// Octets of a script's name: servers take 128 characters or more (RFC 5804 §1.6), and we whatever a server lists.
pub const NAME_MAX: usize = 1024;

/// A command without arguments: `LISTSCRIPTS`, `STARTTLS`, `LOGOUT`, `CAPABILITY`.
#[must_use]
pub fn bare(word: &str) -> Vec<u8> {
    format!("{word}\r\n").into_bytes()
}

/// A command with strings behind it.
#[must_use]
pub fn with(word: &str, strings: &[&[u8]]) -> Vec<u8> {
    let mut line = word.as_bytes().to_vec();
    for text in strings {
        line.push(b' ');
        string(text, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// `AUTHENTICATE` with a mechanism and its initial response, which is base64.
#[must_use]
pub fn authenticate(mechanism: &str, base64: &[u8]) -> Zeroizing<Vec<u8>> {
    secret(&format!("AUTHENTICATE \"{mechanism}\" "), base64)
}

/// What is said to a challenge inside AUTHENTICATE, in base64.
#[must_use]
pub fn response(base64: &[u8]) -> Zeroizing<Vec<u8>> {
    secret("", base64)
}

fn secret(before: &str, base64: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for all of it from the start: growing would leave the password behind in freed memory.
    let mut line = Zeroizing::new(Vec::with_capacity(before.len() + base64.len() + 32));
    line.extend_from_slice(before.as_bytes());
    string(base64, &mut line);
    line.extend_from_slice(b"\r\n");
    line
}

fn string(text: &[u8], line: &mut Vec<u8>) {
    // A backslash doubles what it stands before. (Cyrus takes no quoted string with more than ASCII in it.)
    let plain = text.len() <= QUOTED_MAX / 2 && text.is_ascii() && !text.iter().any(u8::is_ascii_control);
    if !plain {
        line.extend_from_slice(format!("{{{}+}}\r\n", text.len()).as_bytes());
        line.extend_from_slice(text);
        return;
    }
    line.push(b'"');
    for &octet in text {
        if matches!(octet, b'"' | b'\\') {
            line.push(b'\\');
        }
        line.push(octet);
    }
    line.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{authenticate, bare, response, with};
    use crate::wire::sieve::scan::{self, Line};
    use proptest::prelude::*;

    #[test]
    fn commands_as_the_standard_has_them() {
        assert_eq!(bare("LISTSCRIPTS"), b"LISTSCRIPTS\r\n");
        assert_eq!(with("SETACTIVE", &[b""]), b"SETACTIVE \"\"\r\n");
        assert_eq!(with("PUTSCRIPT", &[b"a\"b", b"keep;\n"]), b"PUTSCRIPT \"a\\\"b\" {6+}\r\nkeep;\n\r\n");
        assert_eq!(with("GETSCRIPT", &["\u{f6}".as_bytes()]), b"GETSCRIPT {2+}\r\n\xc3\xb6\r\n");
        assert_eq!(response(b"AQ==").as_slice(), b"\"AQ==\"\r\n");
        assert_eq!(authenticate("PLAIN", b"AHRpbQB4").as_slice(), b"AUTHENTICATE \"PLAIN\" \"AHRpbQB4\"\r\n");
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_as_it_was(text in prop::collection::vec(any::<u8>(), 0..700)) {
            let line = with("X", &[&text]);
            let (read, taken) = scan::line(&line[2..]).unwrap().unwrap();
            prop_assert_eq!(taken, line.len() - 2);
            prop_assert_eq!(read, Line::Data { strings: vec![text], active: false });
        }
    }
}
