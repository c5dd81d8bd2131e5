//! Digests of a message's text that are the same whether it came by IMAP or by POP3's TOP.
//!
//! POP3 ends a message with a line end even where it has none, a server may show a blank line after a header that has none,
//! IMAP can't carry NUL in a literal, and what stands before a LF differs where a message has more CRs than it should. None of
//! that may make one message two.
//!
//! Servers also write fields into messages, in POP3 alone or in IMAP's file, and fold headers anew: a header is compared without
//! that, and only where it ties is the whole text compared as it is.

mod header;

use header::HeaderHasher;

/// The digests of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextDigest {
    /// Of the fields before the first blank line: without those that servers write into messages, and however they are folded.
    pub header: [u8; 32],
    /// Of all lines up to the last that is not blank.
    pub whole: [u8; 32],
    /// Of the fields that tell who the message is; none if it has hardly any.
    pub identity: Option<[u8; 32]>,
    /// Of the lines behind the first blank one, up to the last that is not blank.
    pub body: [u8; 32],
}

/// Computes a [`TextDigest`] from chunks; any split gives the same.
#[derive(Debug, Default)]
pub struct TextHasher {
    whole: blake3::Hasher,
    header: HeaderHasher,
    /// Digests of the header, once it is complete.
    fields: Option<([u8; 32], Option<[u8; 32]>)>,
    body: blake3::Hasher,
    /// Something of the body has come.
    in_body: bool,
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
            if self.in_body {
                self.body.update(b"\n");
            }
        }
        for _ in 0..std::mem::take(&mut self.crs) {
            self.part(b"\r");
        }
        self.part(text);
        self.inside = true;
    }

    fn part(&mut self, text: &[u8]) {
        self.whole.update(text);
        if self.fields.is_none() {
            self.header.octets(text);
        } else {
            self.body.update(text);
            self.in_body = true;
        }
    }

    fn line_end(&mut self) {
        self.crs = 0;
        if self.fields.is_none() {
            if self.inside {
                self.header.line_end();
            } else {
                self.fields = Some(self.header.finish());
            }
        }
        self.blanks += 1;
        self.inside = false;
    }

    /// The digests of all octets taken.
    #[must_use]
    pub fn finish(mut self) -> TextDigest {
        let (header, identity) = self.fields.unwrap_or_else(|| self.header.finish());
        TextDigest {
            header,
            whole: *self.whole.finalize().as_bytes(),
            identity,
            body: *self.body.finalize().as_bytes(),
        }
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

    #[test]
    fn a_header_is_the_same_however_it_is_folded_and_whatever_a_server_wrote_into_it() {
        let plain = digest(b"From: f\r\nSubject: a  b\r\nX: 1\r\n\r\nbody\r\n");
        for other in [
            &b"From: f\r\nSubject:\r\n a\r\n\tb\r\nX: 1\r\n\r\nbody\r\n"[..],
            b"from:\r\n f\r\nSUBJECT: a b  \r\nX-UIDL: 77\r\n more\r\nx:1\r\nStatus: RO\r\nx-mozilla-keys:\r\n\r\nbody\r\n",
        ] {
            let other = digest(other);
            assert_eq!((other.header, other.identity, other.body), (plain.header, plain.identity, plain.body));
            assert_ne!(other.whole, plain.whole);
        }
        let added = digest(b"Received: by pop\r\nFrom: f\r\nSubject: a b\r\n\r\nbody\r\n");
        assert_eq!((added.identity, added.body), (plain.identity, plain.body));
        assert_ne!(added.header, plain.header);
        for other in [
            &b"From: f\r\nSubject: a bX: 1\r\n\r\nbody\r\n"[..],
            b"From: f\r\nSubject: ab\r\nX: 1\r\n\r\nbody\r\n",
            b"From: f\r\nSubject: a b\r\nX 1\r\n\r\nbody\r\n",
        ] {
            assert_ne!(digest(other).header, plain.header, "{other:?}");
        }
        assert_ne!(digest(b"From: f\r\nSubject: a c\r\n\r\nbody\r\n").identity, plain.identity);
        assert_eq!(digest(b"Subject: a b\r\n\r\nbody\r\n").identity, None, "others may have the same subject");
        assert_ne!(digest(b"From: f\r\nSubject: a b\r\nX: 1\r\n\r\n\r\nbody\r\n").whole, plain.whole);
        // What is no field is no field that servers write, however long it is.
        let odd = [b"Status".repeat(40), b" : RO".to_vec()].concat();
        assert_ne!(digest(&odd).header, digest(b"").header);
        assert_ne!(digest(b"Status\r\n").header, digest(b"").header);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_digest(
            octets in prop::collection::vec(prop::sample::select(b"\r\n\0ab: ".to_vec()), 0..40),
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
