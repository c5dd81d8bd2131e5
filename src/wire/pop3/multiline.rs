//! Multi-line responses (RFC 1939 §3): dot-stuffed lines up to one with nothing but a dot.
//!
//! A line ends with LF. Servers stuff the dot behind every LF that they send, with or without a CR before it, since they
//! make CRLF of each (Dovecot) or look for LF (Courier): a body with a bare LF is read as such servers write it.

/// Where we are in a multi-line response, behind its status line. Holds no octets.
#[derive(Clone, Debug)]
pub struct Multiline {
    line_start: bool,
}

/// What the next octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `skip` octets of stuffing, and then `len` octets of content, line ends included.
    Content {
        /// Octets to drop.
        skip: usize,
        /// Octets behind them that are content.
        len: usize,
    },
    /// So many octets are the final dot and its line end.
    End(usize),
}

impl Default for Multiline {
    fn default() -> Self {
        Self { line_start: true }
    }
}

impl Multiline {
    /// The next piece of `input`: at most one line. None if more octets are needed.
    pub fn next(&mut self, input: &[u8]) -> Option<Piece> {
        let skip = match input {
            [] => return None,
            _ if !self.line_start => 0,
            [b'.', b'\n', ..] => return Some(Piece::End(2)),
            [b'.', b'\r', b'\n', ..] => return Some(Piece::End(3)),
            [b'.'] | [b'.', b'\r'] => return None,
            [b'.', ..] => 1,
            _ => 0,
        };
        let content = input.get(skip..).unwrap_or_default();
        let end = content.iter().position(|&octet| octet == b'\n');
        self.line_start = end.is_some();
        Some(Piece::Content { skip, len: end.map_or(content.len(), |at| at + 1) })
    }

    /// Whether the next octet begins a line.
    #[must_use]
    pub const fn at_line_start(&self) -> bool {
        self.line_start
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Multiline, Piece};
    use proptest::prelude::*;

    /// Reads with input in pieces of `size`; gives the content and what is left behind the end.
    fn read(wire: &[u8], size: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut reader, mut content, mut input) = (Multiline::default(), Vec::new(), Vec::new());
        let mut pieces = wire.chunks(size);
        loop {
            match reader.next(&input) {
                Some(Piece::Content { skip, len }) => {
                    content.extend(input.drain(..skip + len).skip(skip));
                }
                Some(Piece::End(octets)) => {
                    input.drain(..octets);
                    input.extend(pieces.flatten());
                    return Some((content, input));
                }
                None => input.extend(pieces.next()?),
            }
        }
    }

    #[test]
    fn stuffing_and_ends_however_they_are_cut() {
        for (wire, content, rest) in [
            (&b".\r\n"[..], &b""[..], &b""[..]),
            (b".\n+OK\r\n", b"", b"+OK\r\n"),
            (b"a\r\n..\r\n...b\r\n.\r\nc", b"a\r\n.\r\n..b\r\n", b"c"),
            (b"\r\n.a\r\n.\r\r\n.\r\n", b"\r\na\r\n\r\r\n", b""),
            (b"a.\r\nb\n.c\n.\r\n.\r\n", b"a.\r\nb\nc\n", b".\r\n"),
        ] {
            for size in 1..=wire.len() {
                assert_eq!(read(wire, size).unwrap(), (content.to_vec(), rest.to_vec()), "{wire:?} by {size}");
            }
        }
        for open in [&b""[..], b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"a.\r\n"] {
            assert_eq!(read(open, 1), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_stuffed_comes_back(lines in prop::collection::vec("[.a\r]{0,4}", 0..8), size in 1_usize..9) {
            let content: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
            let stuffed = lines.iter().flat_map(|line| {
                [if line.starts_with('.') { "." } else { "" }, line, "\r\n"].concat().into_bytes()
            });
            let wire: Vec<u8> = stuffed.chain(*b".\r\nrest").collect();
            prop_assert_eq!(read(&wire, size), Some((content, b"rest".to_vec())));
        }
    }
}
