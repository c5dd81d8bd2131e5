//! Texts as a client gets them: dsync sends what is stored, mostly with bare LFs, and IMAP shows CR LF.

use bytes::Bytes;

/// Puts a CR before each LF that has none. Any split gives the same.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    cr: bool,
}

impl LineEnds {
    pub(super) fn through(&mut self, stored: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(stored.len() + stored.len() / 32 + 1);
        for line in stored.split_inclusive(|&byte| byte == b'\n') {
            match line.split_last() {
                Some((b'\n', before)) => {
                    out.extend_from_slice(before);
                    let cr = before.last().map_or(self.cr, |&byte| byte == b'\r');
                    out.extend_from_slice(if cr { b"\n" } else { b"\r\n" });
                    self.cr = false;
                }
                _ => {
                    out.extend_from_slice(line);
                    self.cr = line.last() == Some(&b'\r');
                }
            }
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_line_gets_the_end_that_a_client_sees() {
        for (stored, shown) in [
            (&b"a\nb"[..], &b"a\r\nb"[..]),
            (b"a\r\n\n", b"a\r\n\r\n"),
            (b"\n", b"\r\n"),
            (b"a\r\r\nb\r", b"a\r\r\nb\r"),
        ] {
            assert_eq!(LineEnds::default().through(stored), shown);
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            stored in prop::collection::vec(prop::sample::select(b"\r\na".to_vec()), 0..20),
            cut in 0..20_usize,
        ) {
            let (head, tail) = stored.split_at(cut.min(stored.len()));
            let mut ends = LineEnds::default();
            let parts = [ends.through(head), ends.through(tail)].concat();
            prop_assert_eq!(parts, LineEnds::default().through(&stored));
        }
    }
}
