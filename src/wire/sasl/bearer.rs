//! Bearer tokens in SASL messages: OAUTHBEARER (RFC 7628) and XOAUTH2, as Google and Microsoft describe it.

use zeroize::Zeroizing;

use super::from_base64;

/// How a token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// RFC 7628.
    OAuthBearer,
    /// What was there before it.
    XOAuth2,
}

impl Bearer {
    /// The mechanism's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// The message that asks for the account of `user`, at a server known by `host` and `port`. The name may hold no control
    /// character, the token nothing but visible ones.
    #[must_use]
    pub fn message(self, user: &str, (host, port): (&str, u16), token: &[u8]) -> Zeroizing<Vec<u8>> {
        let head = match self {
            // RFC 5801 §4: what would end the name there is written otherwise.
            Self::OAuthBearer => {
                let name = user.replace('=', "=3D").replace(',', "=2C");
                format!("n,a={name},\u{1}host={host}\u{1}port={port}\u{1}")
            }
            Self::XOAuth2 => format!("user={user}\u{1}"),
        };
        let parts = [head.as_bytes(), b"auth=Bearer ", token, b"\x01\x01"];
        // Room for all of it from the start: growing would leave the token behind in freed memory.
        let mut message = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            message.extend_from_slice(part);
        }
        message
    }

    /// What a client says to a server that has told why it refuses, so that it may end the exchange (RFC 7628 §3.2.3).
    #[must_use]
    pub const fn after_error(self) -> &'static [u8] {
        match self {
            Self::OAuthBearer => b"\x01",
            Self::XOAuth2 => b"",
        }
    }
}

/// What a server told in its challenge before it refused: JSON, mostly.
#[must_use]
pub fn told(challenge: &[u8]) -> Vec<u8> {
    from_base64(challenge.trim_ascii()).map_or_else(|_| challenge.to_vec(), |told| told.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{Bearer, told};

    /// RFC 7628 §4.1, with a token of our own; and Google's example.
    #[test]
    fn the_messages_of_the_documents() {
        let message = Bearer::OAuthBearer.message("user@example.com", ("server.example.com", 143), b"vF9dft4qmT==");
        let expected =
            "n,a=user@example.com,\u{1}host=server.example.com\u{1}port=143\u{1}auth=Bearer vF9dft4qmT==\u{1}\u{1}";
        assert_eq!(String::from_utf8_lossy(&message), expected);
        let message = Bearer::XOAuth2.message("someuser@example.com", ("h", 1), b"ya29.vF9dft4qmTc2");
        assert_eq!(
            String::from_utf8_lossy(&message),
            "user=someuser@example.com\u{1}auth=Bearer ya29.vF9dft4qmTc2\u{1}\u{1}"
        );
    }

    #[test]
    fn a_name_does_not_end_at_its_comma() {
        let message = Bearer::OAuthBearer.message("a,b=c", ("h", 1), b"t");
        assert!(message.starts_with(b"n,a=a=2Cb=3Dc,\x01"));
        assert!(Bearer::XOAuth2.message("a,b=c", ("h", 1), b"t").starts_with(b"user=a,b=c\x01"));
    }

    #[test]
    fn why_it_was_refused() {
        assert_eq!(told(b"eyJzdGF0dXMiOiI0MDEifQ==\r\n"), b"{\"status\":\"401\"}");
        assert_eq!(told(b"no base64"), b"no base64");
    }
}
