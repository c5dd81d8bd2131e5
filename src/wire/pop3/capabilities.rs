//! What CAPA tells (RFC 2449).

/// Capabilities that we remember; servers have about a dozen.
const CAPABILITIES_MAX: usize = 64;

/// What a server announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(Vec<Vec<String>>);

impl Capabilities {
    /// Takes in one line of the answer to CAPA, without its end.
    pub fn add(&mut self, line: &[u8]) {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect();
        if !words.is_empty() && self.0.len() < CAPABILITIES_MAX {
            self.0.push(words);
        }
    }

    /// Whether `name` (upper case) is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|words| words.first().is_some_and(|word| word == name))
    }

    /// Whether it looks as if no password may be sent on this connection before TLS is started. Only a refusal of USER
    /// makes that certain: Dovecot announces it all the same, and some servers never do.
    #[must_use]
    pub fn want_tls_first(&self) -> bool {
        let no_mechanism =
            self.0.iter().any(|words| words.len() == 1 && words.first().is_some_and(|word| word == "SASL"));
        self.has("STLS") && (no_mechanism || !self.has("SASL") && !self.has("USER"))
    }

    /// Whether the SASL mechanism `name` (upper case) is offered (RFC 5034 §6).
    #[must_use]
    pub fn has_sasl(&self, name: &str) -> bool {
        let mut sasl = self.0.iter().filter(|words| words.first().is_some_and(|word| word == "SASL"));
        sasl.any(|words| words.iter().skip(1).any(|word| word == name))
    }
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    #[test]
    fn names_and_mechanisms_in_any_case() {
        let mut known = Capabilities::default();
        for line in [&b"TOP"[..], b"sasl Plain  LOGIN", b"", b"PLAIN", b"Pipelining"] {
            known.add(line);
        }
        assert!(known.has("TOP") && known.has("PIPELINING") && known.has("SASL"));
        assert!(known.has_sasl("PLAIN") && known.has_sasl("LOGIN"));
        assert!(!known.has("LOGIN") && !known.has_sasl("SASL") && !known.has_sasl("CRAM-MD5"));
    }

    #[test]
    fn who_wants_tls_first() {
        for (lines, wants) in [
            (&["STLS", "USER", "SASL"][..], true),
            (&["STLS", "TOP"], true),
            (&["STLS", "USER", "SASL CRAM-MD5"], false),
            (&["STLS", "SASL CRAM-MD5"], false),
            (&["STLS", "USER"], false),
            (&["TOP", "SASL"], false),
            (&[], false),
        ] {
            let mut known = Capabilities::default();
            lines.iter().for_each(|line| known.add(line.as_bytes()));
            assert_eq!(known.want_tls_first(), wants, "{lines:?}");
        }
    }
}
