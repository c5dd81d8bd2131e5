//! The text of a message as a slave sends it: dots at the start of a line are doubled, and CR LF `.` CR LF is its end, of
//! which the first CR LF is not part of it (dsync reference §4.3).
//!
//! A slave does *not* double a dot at offset 0 (Dovecot 2.2 to 2.4, though its own reader takes one away there).

/// Where in the text we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Inside a line, or at offset 0.
    #[default]
    Inside,
    /// Behind a CR that was not given out yet.
    Cr,
    /// At the start of a line; its line end was not given out yet if it was CR LF.
    Start { held: bool },
    /// Behind a dot there.
    Dot { held: bool },
    /// Behind a dot and a CR there.
    DotCr { held: bool },
}

/// A line that begins with one dot, and is not the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SingleDot;

/// Takes a text apart while it comes in. Any split gives the same.
#[derive(Debug, Default)]
pub(super) struct Unstuffer {
    place: Place,
}

impl Unstuffer {
    /// Appends text from the front of `bytes` to `out`. Gives what stands behind the end of the text; `None` if more of it is
    /// to come.
    pub(super) fn take<'a>(&mut self, mut bytes: &'a [u8], out: &mut Vec<u8>) -> Result<Option<&'a [u8]>, SingleDot> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let held = |held: bool, out: &mut Vec<u8>| out.extend_from_slice(if held { b"\r\n" } else { b"" });
            self.place = match (self.place, byte) {
                (Place::Inside, b'\r') => Place::Cr,
                (Place::Cr, b'\r') => {
                    out.push(b'\r');
                    Place::Cr
                }
                (Place::Cr, b'\n') => Place::Start { held: true },
                (Place::Start { held }, b'.') => Place::Dot { held },
                (Place::Start { held: before }, b'\r') => {
                    held(before, out);
                    Place::Cr
                }
                (Place::Dot { held: before }, b'.') => {
                    held(before, out);
                    out.push(b'.');
                    Place::Inside
                }
                (Place::Dot { held }, b'\r') => Place::DotCr { held },
                (Place::DotCr { .. }, b'\n') => {
                    self.place = Place::Inside;
                    return Ok(Some(rest));
                }
                (Place::Dot { .. } | Place::DotCr { .. }, _) => return Err(SingleDot),
                (before, _) => {
                    match before {
                        Place::Cr => out.push(b'\r'),
                        Place::Start { held: before } => held(before, out),
                        _ => {}
                    }
                    let line = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
                    let ends = bytes.get(line) == Some(&b'\n');
                    let (taken, behind) = bytes.split_at(line + usize::from(ends));
                    out.extend_from_slice(taken);
                    bytes = behind;
                    self.place = if ends { Place::Start { held: false } } else { Place::Inside };
                    continue;
                }
            };
            bytes = rest;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// As a Dovecot sends it.
    fn sent(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, &byte) in text.iter().enumerate() {
            if byte == b'.' && at > 0 && text[at - 1] == b'\n' {
                out.push(b'.');
            }
            out.push(byte);
        }
        out.extend_from_slice(b"\r\n.\r\n");
        out
    }

    #[test]
    fn texts_as_on_the_wire() {
        for (wire, text) in [
            (&b"\r\n.\r\n"[..], &b""[..]),
            (b".\r\n\r\n.\r\n", b".\r\n"),
            (b"a\n..b\n\r\n.\r\n", b"a\n.b\n"),
            (b"a\r\n..\r\n\r\n.\r\n", b"a\r\n.\r\n"),
            (b"a\r\r\n.\r\n", b"a\r"),
            (b"a\n\r\n\r\n.\r\n", b"a\n\r\n"),
        ] {
            let mut out = Vec::new();
            assert_eq!(Unstuffer::default().take(wire, &mut out), Ok(Some(&b""[..])), "{wire:?}");
            assert_eq!(out, text, "{wire:?}");
        }
        assert_eq!(Unstuffer::default().take(b"a\n.b", &mut Vec::new()), Err(SingleDot));
    }

    proptest! {
        #[test]
        fn every_text_comes_out_as_it_went_in_at_any_split(
            text in prop::collection::vec(prop::sample::select(b"\r\n.\0a".to_vec()), 0..40),
            cut in 0..60_usize,
        ) {
            let wire = [sent(&text), b"M1".to_vec()].concat();
            let (head, tail) = wire.split_at(cut.min(wire.len()));
            let (mut unstuffer, mut out) = (Unstuffer::default(), Vec::new());
            let left = match unstuffer.take(head, &mut out).unwrap() {
                Some(left) => [left, tail].concat(),
                None => unstuffer.take(tail, &mut out).unwrap().unwrap().to_vec(),
            };
            prop_assert_eq!(out, text);
            prop_assert_eq!(left, b"M1");
        }
    }
}
