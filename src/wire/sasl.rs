//! SASL messages: PLAIN (RFC 4616), bearer tokens, and base64 as IMAP puts them on a line (RFC 3501 §6.2.2, RFC 4959).

mod bearer;
pub mod exchange;

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

pub use bearer::{BEARER_MAX, Bearer, told};

/// Octets of a message that is decoded: RFC 4616 wants 255 for each part; tokens used as passwords are longer.
pub const MESSAGE_MAX: usize = 4096;

/// Octets of a base64 line that is decoded.
pub const LINE_MAX: usize = MESSAGE_MAX.div_ceil(3) * 4;

/// Pads when encoding; some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A PLAIN message. Passwords are octets: old clients send Latin-1.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// Whom to act as; `None` if it was empty.
    pub authzid: Option<String>,
    /// Whose password it is.
    pub authcid: String,
    /// The password; zeroized when dropped.
    pub password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("authzid", &self.authzid).field("authcid", &self.authcid).finish_non_exhaustive()
    }
}

/// Why a message is none that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The line isn't base64.
    #[error("invalid base64")]
    Base64,
    /// Above [`MESSAGE_MAX`].
    #[error("SASL message is longer than {MESSAGE_MAX} octets")]
    TooLong,
    /// Not three parts with a NUL between them.
    #[error("not a PLAIN message of three parts")]
    Parts,
    /// Not the parts of a message with a token.
    #[error("not a message with a name and a bearer token")]
    Bearer,
    /// A user name that is empty, or not UTF-8.
    #[error("the user name is empty or not UTF-8")]
    UserName,
}

impl Plain {
    /// Reads `authzid NUL authcid NUL password`.
    ///
    /// # Errors
    /// Everything but [`SaslError::Base64`].
    pub fn decode(message: &[u8]) -> Result<Self, SaslError> {
        if message.len() > MESSAGE_MAX {
            return Err(SaslError::TooLong);
        }
        let mut parts = message.split(|&octet| octet == 0);
        let (Some(authzid), Some(authcid), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SaslError::Parts);
        };
        let name = |part: &[u8]| String::from_utf8(part.to_vec()).map_err(|_| SaslError::UserName);
        let (authzid, authcid) = (name(authzid)?, name(authcid)?);
        if authcid.is_empty() {
            return Err(SaslError::UserName);
        }
        let authzid = (!authzid.is_empty()).then_some(authzid);
        Ok(Self { authzid, authcid, password: Zeroizing::new(password.to_vec()) })
    }

    /// `authzid NUL authcid NUL password`.
    ///
    /// # Errors
    /// [`SaslError::Parts`] if a part holds a NUL.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        plain(self.authzid.as_deref(), &self.authcid, &self.password)
    }
}

/// A PLAIN message without building a [`Plain`].
///
/// # Errors
/// [`SaslError::Parts`] if a part holds a NUL, which would move its boundary.
pub fn plain(authzid: Option<&str>, authcid: &str, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    let parts = [authzid.unwrap_or_default().as_bytes(), authcid.as_bytes(), password];
    if parts.iter().any(|part| part.contains(&0)) {
        return Err(SaslError::Parts);
    }
    // Room for all of it from the start: growing would leave the password behind in freed memory.
    let mut message = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 2));
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            message.push(0);
        }
        message.extend_from_slice(part);
    }
    Ok(message)
}

/// A message as base64, without line end.
#[must_use]
pub fn to_base64(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(vec![0; message.len().div_ceil(3).saturating_mul(4)]);
    let written = BASE64.encode_slice(message, &mut line).unwrap_or_default();
    line.truncate(written);
    line
}

/// The message in a base64 line; padding may be missing.
///
/// # Errors
/// [`SaslError::TooLong`] above [`LINE_MAX`], [`SaslError::Base64`].
pub fn from_base64(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    from_base64_up_to(line, MESSAGE_MAX)
}

/// The same, of up to so many octets.
pub(in crate::wire) fn from_base64_up_to(line: &[u8], most: usize) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if line.len() > most.div_ceil(3) * 4 {
        return Err(SaslError::TooLong);
    }
    let mut message = Zeroizing::new(vec![0; line.len().div_ceil(4).saturating_mul(3)]);
    let written = BASE64.decode_slice(line, &mut message).map_err(|_| SaslError::Base64)?;
    message.truncate(written);
    Ok(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{LINE_MAX, MESSAGE_MAX, Plain, SaslError, from_base64, plain, to_base64};
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_4616() {
        let plain = Plain::decode(b"\0tim\0tanstaaftanstaaf").unwrap();
        assert_eq!((plain.authzid.as_deref(), plain.authcid.as_str()), (None, "tim"));
        assert_eq!(plain.password.as_slice(), b"tanstaaftanstaaf");
        let plain = Plain::decode(b"Ursel\0Kurt\0xipj3plmq\xe4").unwrap();
        assert_eq!((plain.authzid.as_deref(), plain.authcid.as_str()), (Some("Ursel"), "Kurt"));
        assert_eq!(plain.password.as_slice(), b"xipj3plmq\xe4");
        assert_eq!(plain.encode().unwrap().as_slice(), b"Ursel\0Kurt\0xipj3plmq\xe4");
        assert!(!format!("{plain:?}").contains("xipj"));
    }

    #[test]
    fn what_is_no_plain_message() {
        for (message, error) in [
            (&b""[..], SaslError::Parts),
            (b"a\0b", SaslError::Parts),
            (b"a\0b\0c\0d", SaslError::Parts),
            (b"\0\0c", SaslError::UserName),
            (b"\0\xff\0c", SaslError::UserName),
            (b"\xff\0a\0c", SaslError::UserName),
            (&[b'a'; MESSAGE_MAX + 1], SaslError::TooLong),
        ] {
            assert_eq!(Plain::decode(message), Err(error));
        }
        assert_eq!(plain(None, "a\0b", b"c"), Err(SaslError::Parts));
        assert_eq!(plain(None, "a", b"c\0"), Err(SaslError::Parts));
    }

    #[test]
    fn base64_lines() {
        assert_eq!(to_base64(b"\0tim\0x").as_slice(), b"AHRpbQB4");
        for line in [&b"AGEAYg=="[..], b"AGEAYg"] {
            assert_eq!(from_base64(line).unwrap().as_slice(), b"\0a\0b");
        }
        assert_eq!(from_base64(b"").unwrap().as_slice(), b"");
        for line in [&b"A"[..], b"AG EAYg==", b"AGEAYg==\r", b"====", b"\xff\xff\xff\xff"] {
            assert_eq!(from_base64(line), Err(SaslError::Base64), "{line:?}");
        }
        assert_eq!(from_base64(&[b'A'; LINE_MAX + 1]), Err(SaslError::TooLong));
    }

    proptest! {
        #[test]
        fn every_message_comes_back(authzid in "[^\0]{0,8}", authcid in "[^\0]{1,8}", password in prop::collection::vec(1_u8.., 0..40)) {
            let message = plain(Some(&authzid), &authcid, &password).unwrap();
            let message = from_base64(&to_base64(&message)).unwrap();
            let read = Plain::decode(&message).unwrap();
            prop_assert_eq!(read.authzid.unwrap_or_default(), authzid);
            prop_assert_eq!(read.authcid, authcid);
            prop_assert_eq!(read.password.as_slice(), password.as_slice());
        }
    }
}
