//! Tab-escapes, NULL fields and the dot-stuffing of message bodies (dsync reference §4.1 and §4.3).

/// The first byte of an escape.
const ESCAPE: u8 = 1;

/// A field that is absent; a present value that starts with it gets one more.
const NULL: u8 = 2;

/// Appends `raw` so that it holds no TAB, LF, CR, NUL or `\x01` of its own.
pub fn escape(raw: &[u8], out: &mut Vec<u8>) {
    for &byte in raw {
        let short = match byte {
            ESCAPE => b'1',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            0 => b'0',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[ESCAPE, short]);
    }
}

/// The inverse of [`escape`]; an unknown escape stands for its second byte, a lone one at the end for nothing.
#[must_use]
pub fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte != ESCAPE {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'1') => out.push(ESCAPE),
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'0') => out.push(0),
            Some(&other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Appends one field of an item: a value, or NULL.
pub fn field(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.push(NULL),
        Some(value) => {
            if value.first() == Some(&NULL) {
                out.push(NULL);
            }
            escape(value, out);
        }
    }
}

/// Reads one field of an item: a value, or `None` for NULL.
#[must_use]
pub fn parse_field(field: &[u8]) -> Option<Vec<u8>> {
    match field {
        [NULL] => None,
        [NULL, NULL, ..] => field.get(1..).map(unescape),
        _ => Some(unescape(field)),
    }
}

/// Several values as one field: each escaped, joined by TAB. The field itself is escaped once more by [`field`].
#[must_use]
pub fn join<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        escape(value, &mut out);
    }
    out
}

/// The inverse of [`join`].
#[must_use]
pub fn split(joined: &[u8]) -> Vec<Vec<u8>> {
    joined.split(|&byte| byte == b'\t').map(unescape).collect()
}

/// Encodes a body as it streams by: a dot at the start of a line is doubled, and a CR that the receiver would eat gets a
/// twin. Any split of the body gives the same.
///
/// A Dovecot's reader takes CR LF for a line end and drops the CR, then the next CR before it is taken for half of a
/// stored line end: CR CR LF would come out as CR LF, a CR at the very end would be lost. Measured on 2.3.19 (mdbox and
/// Maildir, with and without `mail_save_crlf`): with one CR more in these two places IMAP shows every octet as it was.
#[derive(Debug)]
pub struct DotStuffer {
    line_start: bool,
    /// CRs that are held back until it is known what follows.
    held: usize,
}

impl Default for DotStuffer {
    /// The receiver removes a dot at offset 0 too, so a body begins at the start of a line.
    fn default() -> Self {
        Self { line_start: true, held: 0 }
    }
}

impl DotStuffer {
    /// Appends the next part of the body to `out`.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = chunk.first() {
            if first == b'\r' {
                let run = chunk.iter().take_while(|&&byte| byte == b'\r').count();
                self.held += run;
                self.line_start = false;
                chunk = chunk.get(run..).unwrap_or_default();
                continue;
            }
            let twin = first == b'\n' && self.held > 1;
            self.release(twin, out);
            if self.line_start && first == b'.' {
                out.push(b'.');
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let end = match end {
                Some(at) if chunk.get(at) == Some(&b'\n') => at + 1,
                Some(at) => at,
                None => chunk.len(),
            };
            let (line, rest) = chunk.split_at(end);
            out.extend_from_slice(line);
            self.line_start = line.last() == Some(&b'\n');
            chunk = rest;
        }
    }

    fn release(&mut self, twin: bool, out: &mut Vec<u8>) {
        let count = std::mem::take(&mut self.held) + usize::from(twin);
        out.extend(std::iter::repeat_n(b'\r', count));
    }

    /// Appends the end of the body. Its first CR LF does not belong to the body, so that a body without a final
    /// newline survives.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let twin = self.held > 0;
        self.release(twin, out);
        out.extend_from_slice(b"\r\n.\r\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn stuffed(chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stuffer = DotStuffer::default();
        chunks.iter().for_each(|chunk| stuffer.push(chunk, &mut out));
        stuffer.finish(&mut out);
        out
    }

    fn encoded(value: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        field(value, &mut out);
        out
    }

    #[test]
    fn fields_as_on_the_wire() {
        assert_eq!(encoded(Some(b"a\tb\nc\rd\0e\x01")), b"a\x01tb\x01nc\x01rd\x010e\x011");
        assert_eq!(encoded(None), b"\x02");
        assert_eq!(encoded(Some(b"")), b"");
        assert_eq!(encoded(Some(b"\x02x")), b"\x02\x02x");
        assert_eq!(parse_field(b"\x02"), None);
        assert_eq!(parse_field(b""), Some(vec![]));
        assert_eq!(unescape(b"a\x01zb\x01"), b"azb", "unknown and cut escapes");
    }

    #[test]
    fn a_list_in_a_field_is_escaped_twice() {
        let joined = join([&b"Archive"[..], b"20\t24"]);
        assert_eq!(encoded(Some(&joined)), b"Archive\x01t20\x011t24");
        assert_eq!(split(&joined), [b"Archive".to_vec(), b"20\t24".to_vec()]);
    }

    #[test]
    fn dots_are_doubled_at_line_starts_and_at_the_very_start() {
        assert_eq!(stuffed(&[b".a\r\n.\r\n..b\n.c.d\r."]), b"..a\r\n..\r\n...b\n..c.d\r.\r\n.\r\n");
        assert_eq!(stuffed(&[]), b"\r\n.\r\n");
    }

    #[test]
    fn crs_that_would_be_eaten_get_a_twin() {
        assert_eq!(stuffed(&[b"a\r\r\nb\r\r\r\n"]), b"a\r\r\r\nb\r\r\r\r\n\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\rb\r\nc\n\rd"]), b"a\rb\r\nc\n\rd\r\n.\r\n", "these are kept as they are");
        assert_eq!(stuffed(&[b"a\r"]), b"a\r\r\r\n.\r\n");
        assert_eq!(stuffed(&[b"\n\r.b\n.", b"c"]), b"\n\r.b\n..c\r\n.\r\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn every_value_survives(value in proptest::option::of(proptest::collection::vec(0_u8..16, 0..12))) {
            let line = encoded(value.as_deref());
            prop_assert!(!line.iter().any(|byte| [b'\t', b'\n', b'\r', 0].contains(byte)));
            prop_assert_eq!(parse_field(&line), value);
        }

        #[test]
        fn any_split_of_a_body_gives_the_same(
            body in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\n'), Just(b'\r'), Just(b'a')], 0..40),
            cut in 0_usize..40,
        ) {
            let (head, tail) = body.split_at(cut.min(body.len()));
            let whole = stuffed(&[&body]);
            prop_assert_eq!(&whole, &stuffed(&[head, tail]));
            let mut each = Vec::new();
            let mut stuffer = DotStuffer::default();
            body.iter().for_each(|byte| stuffer.push(&[*byte], &mut each));
            stuffer.finish(&mut each);
            prop_assert_eq!(&whole, &each);
            prop_assert_eq!(unstuffed(&whole), body);
        }
    }

    /// What a Dovecot does with it: drops a dot at line starts, and of a run of two or more CRs before LF or before the
    /// end one.
    fn unstuffed(stream: &[u8]) -> Vec<u8> {
        let mut body = stream.strip_suffix(b"\r\n.\r\n").unwrap();
        if body.last() == Some(&b'\r') {
            body = &body[..body.len() - 1];
        }
        let mut out = Vec::new();
        for line in body.split_inclusive(|&byte| byte == b'\n') {
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            if out.ends_with(b"\r\r\n") {
                out.truncate(out.len() - 3);
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }
}
