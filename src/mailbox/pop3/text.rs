//! Digests of a message's text that are the same whether it came by IMAP or by POP3's TOP.
//!
//! POP3 ends a message with a line end even where it has none, a server may show a blank line after a header that has none,
//! IMAP can't carry NUL in a literal, and what stands before a LF differs where a message has more CRs than it should. None of
//! that may make one message two.

/// The digests of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextDigest {
    /// Of the lines before the first blank one.
    pub header: [u8; 32],
    /// Of all lines up to the last that is not blank.
    pub whole: [u8; 32],
}

/// Computes a [`TextDigest`] from chunks; any split gives the same.
#[derive(Debug, Default)]
pub struct TextHasher {
    whole: blake3::Hasher,
    header: Option<[u8; 32]>,
    /// CRs whose fate the next octet decides.
    crs: u64,
    /// Line ends that count only if something follows.
    blanks: u64,
    /// The line that is being read has something in it.
    inside: bool,
}

impl TextHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets.
    pub fn update(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(&octet) = rest.first() {
            let special = |octet: u8| matches!(octet, b'\r' | b'\n' | 0);
            let plain = rest.iter().position(|&octet| special(octet)).unwrap_or(rest.len());
            if plain > 0 {
                let (text, more) = rest.split_at(plain);
                self.text(text);
                rest = more;
                continue;
            }
            match octet {
                b'\r' => self.crs += 1,
                b'\n' => self.line_end(),
                _ => self.text(&[0x80]),
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.blanks) {
            self.whole.update(b"\n");
        }
        for _ in 0..std::mem::take(&mut self.crs) {
            self.whole.update(b"\r");
        }
        self.whole.update(text);
        self.inside = true;
    }

    fn line_end(&mut self) {
        self.crs = 0;
        if !self.inside && self.header.is_none() {
            self.header = Some(*self.whole.finalize().as_bytes());
        }
        self.blanks += 1;
        self.inside = false;
    }

    /// The digests of all octets taken.
    #[must_use]
    pub fn finish(self) -> TextDigest {
        let whole = *self.whole.finalize().as_bytes();
        TextDigest { header: self.header.unwrap_or(whole), whole }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(octets: &[u8]) -> TextDigest {
        let mut hasher = TextHasher::new();
        hasher.update(octets);
        hasher.finish()
    }

    #[test]
    fn one_message_is_one_text_by_imap_and_by_pop3() {
        for (imap, top) in [
            (&b"A: 1\r\n\r\nbody"[..], &b"A: 1\r\n\r\nbody\r\n"[..]),
            (b"A: 1", b"A: 1\r\n\r\n"),
            (b"", b"\r\n"),
            (b"A: 1\r\n\r\nx\x80y\r\n", b"A: 1\r\n\r\nx\0y\r\n"),
            (b"A: 1\r\n\r\nend\r", b"A: 1\r\n\r\nend\r\r\n"),
        ] {
            assert_eq!(digest(imap), digest(top), "{imap:?}");
        }
        assert_eq!(digest(b"A: 1\r\n\r\nbody").header, digest(b"A: 1\r\n\r\n").header, "TOP n 0");
        assert_eq!(digest(b"\r\nbody").header, digest(b"\r\n").header, "no header at all");
    }

    #[test]
    fn what_differs_is_another_text() {
        let good = digest(b"A: 1\r\nB: 2\r\n\r\nbody\r\nend\r\n");
        for other in [
            &b"A: 1\r\nB: 2\r\n\r\nbody\r\nenD\r\n"[..],
            b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nend\r\n",
            b"A: 1\r\nB: 2\r\n\r\n\r\nbody\r\nend\r\n",
            b"A: 1\r\nB: 2\r\n\r\nbo\rdy\r\nend\r\n",
            b"A: 1\r\nB: 2\r\n\r\nbodyend\r\n",
        ] {
            assert_ne!(digest(other).whole, good.whole, "{other:?}");
            assert_eq!(digest(other).header, good.header, "{other:?}");
        }
        for other in [&b"A: 1B: 2\r\n\r\nbody\r\nend\r\n"[..], b"A: 1\r\n\r\nB: 2\r\n\r\nbody\r\nend\r\n"] {
            assert_ne!(digest(other).header, good.header, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_digest(
            octets in prop::collection::vec(prop::sample::select(b"\r\n\0ab".to_vec()), 0..40),
            cut in 0..40_usize,
        ) {
            let cut = cut.min(octets.len());
            let mut hasher = TextHasher::new();
            hasher.update(&octets[..cut]);
            hasher.update(&octets[cut..]);
            prop_assert_eq!(hasher.finish(), digest(&octets));
        }
    }
}
