//! Bearer tokens in SASL messages: OAUTHBEARER (RFC 7628) and XOAUTH2, as Google and Microsoft describe it.

use zeroize::Zeroizing;

use super::from_base64;

/// Octets of a message that a client may send: it stands on a line of 8 KiB in base64. Microsoft's tokens have some 2 KiB.
pub const BEARER_MAX: usize = 6000;

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

    /// The name and the token of a client's message. A name may be missing in OAUTHBEARER (RFC 7628 §3.1), where the token says
    /// who it is; a proxy can't tell then whose session it is.
    #[must_use]
    pub fn read(self, message: &[u8]) -> Option<(String, Zeroizing<Vec<u8>>)> {
        let mut parts = message.split(|octet| *octet == 1);
        let head = std::str::from_utf8(parts.next()?).ok()?;
        let user = match self {
            Self::XOAuth2 => head.strip_prefix("user=")?.to_owned(),
            // A GS2 header without channel binding: `n,` or `y,`, then `a=NAME,`.
            Self::OAuthBearer => {
                let name = head.strip_prefix("n,").or_else(|| head.strip_prefix("y,"))?.strip_suffix(',')?;
                name.strip_prefix("a=")?.replace("=2C", ",").replace("=3D", "=")
            }
        };
        let token = parts.find_map(|part| {
            let (scheme, token) = part.strip_prefix(b"auth=")?.split_at_checked(b"Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        })?;
        let visible = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
        // Two of these octets end the message.
        (visible && message.ends_with(b"\x01\x01")).then(|| (user, Zeroizing::new(token.to_vec())))
    }

    /// What a server says whose answer is no, before it says so (RFC 7628 §3.2.2), in base64: `{"status":"invalid_token"}`, and
    /// the same as Google and Microsoft say it.
    #[must_use]
    pub const fn refusal(self) -> &'static str {
        match self {
            Self::OAuthBearer => "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=",
            Self::XOAuth2 => "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiQmVhcmVyIn0=",
        }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Bearer, told};

    #[test]
    fn what_is_written_can_be_read() {
        for mechanism in [Bearer::XOAuth2, Bearer::OAuthBearer] {
            for user in ["someuser@example.com", "a=b,c=2Cd"] {
                let message = mechanism.message(user, ("h", 143), b"ya29.x-_/+==");
                let (name, token) = mechanism.read(&message).unwrap();
                assert_eq!((name.as_str(), token.as_slice()), (user, b"ya29.x-_/+==".as_slice()));
            }
        }
        let message = b"n,a=u1,\x01host=h\x01auth=bearer abc\x01\x01";
        assert_eq!(Bearer::OAuthBearer.read(message).unwrap().1.as_slice(), b"abc");
        for no in [
            &b""[..],
            b"user=u1\x01auth=Bearer abc\x01",
            b"user=u1\x01auth=Basic abc\x01\x01",
            b"user=u1\x01auth=Bearer \x01\x01",
            b"user=u1\x01auth=Bearer a b\x01\x01",
            b"user=u1\x01\x01",
            b"u1\x01auth=Bearer abc\x01\x01",
            b"user=\xff\x01auth=Bearer abc\x01\x01",
        ] {
            assert!(Bearer::XOAuth2.read(no).is_none(), "{}", no.escape_ascii());
        }
        for no in [&b"n,,\x01auth=Bearer abc\x01\x01"[..], b"p=tls,a=u1,\x01auth=Bearer abc\x01\x01", b"\x01"] {
            assert!(Bearer::OAuthBearer.read(no).is_none(), "{}", no.escape_ascii());
        }
        let told = [Bearer::OAuthBearer, Bearer::XOAuth2].map(|one| told(one.refusal().as_bytes()));
        assert_eq!(told[0], br#"{"status":"invalid_token"}"#);
        assert_eq!(told[1], br#"{"status":"401","schemes":"Bearer"}"#);
    }

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
