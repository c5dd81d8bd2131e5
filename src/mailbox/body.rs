//! Digests of message bodies, computed while they stream by: as they are, and as the new side would store them.

/// What a Dovecot alters in a message (DESIGN §2 "What identical means").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// CR CR LF is stored as CR LF.
    CrCrLf,
    /// A lone CR at the very end is dropped.
    TrailingCr,
    /// NUL is shown as 0x80.
    Nul,
}

impl Rule {
    /// The name used in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CrCrLf => "crcrlf",
            Self::TrailingCr => "trailing-cr",
            Self::Nul => "nul",
        }
    }
}

/// The digest of one message's octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyDigest {
    /// Octets.
    pub octets: u64,
    /// Digest of the octets as they are.
    pub exact: [u8; 32],
    /// Digest of the octets as the new side would show them.
    pub altered: [u8; 32],
    /// The rules that made a difference between the two.
    pub rules: Vec<Rule>,
    /// Digest of the octets with every NUL as the new side shows it and all CRs kept, if there is a NUL: how CRs are stored is the
    /// writer's doing, but no writer can bring a NUL across.
    pub without_nul: Option<[u8; 32]>,
}

/// Computes a [`BodyDigest`] from chunks; any split gives the same.
#[derive(Debug, Default)]
pub struct BodyHasher {
    octets: u64,
    exact: blake3::Hasher,
    altered: blake3::Hasher,
    /// From the first NUL on.
    without_nul: Option<blake3::Hasher>,
    /// CRs that were held back because what follows decides their fate.
    pending_crs: u64,
    crcrlf: bool,
    nul: bool,
}

impl BodyHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets.
    pub fn update(&mut self, chunk: &[u8]) {
        self.octets += chunk.len() as u64;
        self.without_nul(chunk);
        self.exact.update(chunk);
        let mut plain = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            let special = byte == b'\r' || byte == 0 || self.pending_crs > 0;
            if !special {
                continue;
            }
            self.altered.update(chunk.get(plain..at).unwrap_or_default());
            plain = at + 1;
            self.special(byte);
        }
        self.altered.update(chunk.get(plain..).unwrap_or_default());
    }

    /// Before the chunk goes into the exact digest, from which this one parts at the first NUL.
    fn without_nul(&mut self, chunk: &[u8]) {
        if self.without_nul.is_none() && !chunk.contains(&0) {
            return;
        }
        let hasher = self.without_nul.get_or_insert_with(|| self.exact.clone());
        for (number, text) in chunk.split(|&octet| octet == 0).enumerate() {
            if number > 0 {
                hasher.update(&[0x80]);
            }
            hasher.update(text);
        }
    }

    fn special(&mut self, byte: u8) {
        if byte == b'\r' {
            self.pending_crs += 1;
            return;
        }
        if byte == b'\n' && self.pending_crs > 1 {
            // One CR of the run is taken for half of a stored line end.
            self.crcrlf = true;
            self.pending_crs -= 1;
        }
        self.flush_crs();
        let shown = if byte == 0 {
            self.nul = true;
            0x80
        } else {
            byte
        };
        self.altered.update(&[shown]);
    }

    fn flush_crs(&mut self) {
        for _ in 0..self.pending_crs {
            self.altered.update(b"\r");
        }
        self.pending_crs = 0;
    }

    /// The digest of all octets taken.
    #[must_use]
    pub fn finish(mut self) -> BodyDigest {
        let trailing = self.pending_crs > 0;
        self.pending_crs = self.pending_crs.saturating_sub(1);
        self.flush_crs();
        let fired = [(self.crcrlf, Rule::CrCrLf), (trailing, Rule::TrailingCr), (self.nul, Rule::Nul)];
        BodyDigest {
            octets: self.octets,
            exact: *self.exact.finalize().as_bytes(),
            altered: *self.altered.finalize().as_bytes(),
            rules: fired.into_iter().filter(|(fired, _)| *fired).map(|(_, rule)| rule).collect(),
            without_nul: self.without_nul.map(|hasher| *hasher.finalize().as_bytes()),
        }
    }
}

/// How the octets of one message on the two sides relate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same octets.
    Equal,
    /// The new side shows the old side's octets changed by these rules, and by nothing else.
    Altered(Vec<Rule>),
    /// Something else.
    Different,
}

/// Compares the digests of the old and the new side's octets of one message.
#[must_use]
pub fn verdict(old: &BodyDigest, new: &BodyDigest) -> Verdict {
    if old.exact == new.exact {
        Verdict::Equal
    } else if old.altered == new.exact {
        Verdict::Altered(old.rules.clone())
    } else if old.without_nul == Some(new.exact) {
        Verdict::Altered(vec![Rule::Nul])
    } else {
        Verdict::Different
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(octets: &[u8]) -> BodyDigest {
        let mut hasher = BodyHasher::new();
        hasher.update(octets);
        hasher.finish()
    }

    #[test]
    fn each_named_rule_explains_what_it_should_and_nothing_else() {
        let altered = |old: &[u8], new: &[u8]| verdict(&digest(old), &digest(new));
        assert_eq!(altered(b"a\r\nb", b"a\r\nb"), Verdict::Equal);
        assert_eq!(altered(b"a\r\r\nb", b"a\r\nb"), Verdict::Altered(vec![Rule::CrCrLf]));
        assert_eq!(altered(b"a\rb\r", b"a\rb"), Verdict::Altered(vec![Rule::TrailingCr]));
        assert_eq!(altered(b"a\0b", b"a\x80b"), Verdict::Altered(vec![Rule::Nul]));
        assert_eq!(
            altered(b"\0\r\r\n\r", b"\x80\r\n"),
            Verdict::Altered(vec![Rule::CrCrLf, Rule::TrailingCr, Rule::Nul])
        );
        assert_eq!(altered(b"\0\r\r\n\0\r", b"\x80\r\r\n\x80\r"), Verdict::Altered(vec![Rule::Nul]), "CRs were kept");
        assert_eq!(altered(b"\0\r\r\n\r", b"\x80\r\r\n"), Verdict::Different, "some of them were");
        assert_eq!(altered(b"a\r\nb", b"a\r\r\nb"), Verdict::Different, "the rules hold in one direction only");
        assert_eq!(altered(b"a\x80b", b"a\0b"), Verdict::Different);
        assert_eq!(altered(b"a\rb", b"ab"), Verdict::Different);
        assert_eq!(altered(b"abc", b"abd"), Verdict::Different);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_digest(
            octets in prop::collection::vec(prop::sample::select(b"\r\n\0a".to_vec()), 0..40),
            cuts in prop::collection::vec(0..40_usize, 0..4),
        ) {
            let mut hasher = BodyHasher::new();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts {
                hasher.update(&octets[from..cut]);
                from = cut;
            }
            hasher.update(&octets[from..]);
            prop_assert_eq!(hasher.finish(), digest(&octets));
        }
    }
}
