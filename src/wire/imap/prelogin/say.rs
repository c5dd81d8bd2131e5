//! The fixed words that clients hear before they are logged in.

use super::PreLoginConfig;
use crate::wire::sasl::exchange::offered;

/// RFC 5530: the client must encrypt first.
pub(super) const PRIVACY_REQUIRED: &str = "NO [PRIVACYREQUIRED] Logging in needs TLS.";

/// For unknown commands and for those of an authenticated session alike.
pub(super) const NOT_BEFORE_LOGIN: &str = "BAD The command is unknown, has wrong arguments, or needs a login first.";

/// `CAPABILITY …`: what is true before login, the same whichever backend will serve the user.
pub(super) fn capabilities(config: PreLoginConfig) -> String {
    let mut words = String::from("CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID");
    if config.tls_available && !config.tls_active {
        words.push_str(" STARTTLS");
    }
    if config.tls_active || config.cleartext_allowed {
        words.extend(offered(config.tokens).flat_map(|mechanism| [" AUTH=", mechanism]));
    } else {
        words.push_str(" LOGINDISABLED");
    }
    words
}

/// An answer to a command, or an untagged one if its tag isn't known.
pub(super) fn tagged(tag: Option<&str>, words: &str) -> Vec<u8> {
    match (tag, words.split_once(' ')) {
        (Some(tag), _) => format!("{tag} {words}\r\n").into_bytes(),
        // Untagged, NO would be a warning and no answer.
        (None, Some(("NO", text))) => format!("* BAD {text}\r\n").into_bytes(),
        (None, _) => format!("* {words}\r\n").into_bytes(),
    }
}

/// `* BYE …`
pub(super) fn bye(why: &str) -> Vec<u8> {
    format!("* BYE {why}\r\n").into_bytes()
}
