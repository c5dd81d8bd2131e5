//! Names and passwords as clients give them, whatever the protocol.

use zeroize::Zeroizing;

use super::sasl::Bearer;
use super::sasl::{self, SaslError};

/// Octets of a user name; an e-mail address has at most 254.
pub const USER_MAX: usize = 512;

/// Room that a client's buffer has from the beginning: for a name, a password and what stands around them.
const BUFFER_LEAST: usize = 256;

/// Appends what a client said. A buffer that is too small gives way to a larger one, and leaves nothing behind in freed memory.
pub(super) fn append(buffer: &mut Zeroizing<Vec<u8>>, octets: &[u8]) {
    let wanted = buffer.len().saturating_add(octets.len());
    if wanted > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted.next_power_of_two().max(BUFFER_LEAST)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(octets);
}

/// A name and a password, or a token in its place, that may be tried at a backend.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// The user name as it was typed.
    pub user: String,
    /// SASL authorization identity, if one was given.
    pub authzid: Option<String>,
    /// The password's octets, without NUL; zeroized when dropped.
    pub password: Zeroizing<Vec<u8>>,
    /// It is no password but a token, which goes on by this mechanism.
    pub bearer: Option<Bearer>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, authzid, password: _, bearer } = self;
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", user).field("authzid", authzid).field("bearer", bearer).finish_non_exhaustive()
    }
}

/// Why what a client sent is no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The name.
    #[error("The user name is empty, too long, not UTF-8 or has control characters")]
    User,
    /// The password.
    #[error("The password holds a NUL")]
    Nul,
    /// The SASL message.
    #[error("Invalid SASL response: {0}")]
    Sasl(#[from] SaslError),
}

impl Credentials {
    /// A name and a password, as octets.
    ///
    /// # Errors
    /// [`Unfit::User`], [`Unfit::Nul`].
    pub fn new(user: &[u8], password: Zeroizing<Vec<u8>>) -> Result<Self, Unfit> {
        let user = std::str::from_utf8(user).map_err(|_| Unfit::User)?.to_owned();
        Self { user, authzid: None, password, bearer: None }.checked()
    }

    /// A SASL PLAIN message in base64.
    ///
    /// # Errors
    /// [`Unfit`]
    pub fn from_plain(line: &[u8]) -> Result<Self, Unfit> {
        let message = sasl::from_base64(line)?;
        let sasl::Plain { authzid, authcid, password } = sasl::Plain::decode(&message)?;
        Self { user: authcid, authzid, password, bearer: None }.checked()
    }

    /// An XOAUTH2 or OAUTHBEARER message in base64.
    ///
    /// # Errors
    /// [`Unfit`]
    pub fn from_bearer(mechanism: Bearer, line: &[u8]) -> Result<Self, Unfit> {
        let message = sasl::from_base64_up_to(line, sasl::BEARER_MAX)?;
        let (user, token) = mechanism.read(&message).ok_or(SaslError::Bearer)?;
        Self { user, authzid: None, password: token, bearer: Some(mechanism) }.checked()
    }

    fn checked(self) -> Result<Self, Unfit> {
        if !is_name(&self.user) || self.authzid.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(Unfit::User);
        }
        if self.password.contains(&0) {
            return Err(Unfit::Nul);
        }
        Ok(self)
    }
}

/// Whether a backend can be asked about a user of this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=USER_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}
