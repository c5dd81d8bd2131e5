//! The fixed words that clients hear before they are logged in.

use super::PreLoginConfig;
use crate::wire::credentials::Unfit;
use crate::wire::sasl::exchange::offered;

/// Nothing of the password has been looked at. Without `[AUTH]`: that would make clients ask for another one (RFC 3206 §4).
pub(super) const PRIVACY_REQUIRED: &str = "Logging in needs TLS.";

/// The last words to a client whose line has no end.
pub(super) const TOO_LONG: &[u8] = b"-ERR The command line is too long.\r\n";

/// What is true before login, the same whichever backend will serve the user (RFC 2449 §5).
pub(super) fn capabilities(config: PreLoginConfig) -> Vec<u8> {
    let mut words = String::from("+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\n");
    if config.tls_available && !config.tls_active {
        words.push_str("STLS\r\n");
    }
    if config.tls_active || config.cleartext_allowed {
        let mechanisms: Vec<_> = offered(config.tokens).collect();
        words.push_str(&format!("USER\r\nSASL {}\r\n", mechanisms.join(" ")));
    }
    words.push_str(".\r\n");
    words.into_bytes()
}

/// The answer to AUTH without arguments, which some clients use instead of CAPA.
pub(super) fn mechanisms(config: PreLoginConfig) -> Vec<u8> {
    let mut words = String::from("+OK\r\n");
    if config.tls_active || config.cleartext_allowed {
        words.extend(offered(config.tokens).flat_map(|mechanism| [mechanism, "\r\n"]));
    }
    words.push_str(".\r\n");
    words.into_bytes()
}

/// `-ERR …`
pub(super) fn err(words: &str) -> Vec<u8> {
    format!("-ERR {words}\r\n").into_bytes()
}

/// For what is no credentials.
pub(super) fn unfit(unfit: Unfit) -> Vec<u8> {
    err(&format!("{unfit}."))
}
