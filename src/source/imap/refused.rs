//! What a refused login says of the password.

/// Whether a refusal says nothing about the password: another login may go well, and this one must not count as a wrong one.
/// Many servers send no code (RFC 5530 §3), so where there is none their words are looked at; what is in doubt is about the
/// password, which must not be tried twice.
#[must_use]
pub(super) fn is_for_later(text: &str) -> bool {
    let said = text.to_ascii_lowercase();
    let code = said.strip_prefix('[').and_then(|said| said.split_once(']')).map(|(code, _)| code);
    // ALERT (RFC 3501 §7.1) only says that people shall read what follows.
    if let Some(code) = code.filter(|code| *code != "alert") {
        return ["unavailable", "inuse", "limit", "serverbug", "overquota", "throttled"].contains(&code);
    }
    let words = ["too many", "try again", "temporar", "busy", "bandwidth limits"];
    words.iter().any(|word| said.contains(word))
}

/// Whether a refusal says that an account has had what it is given for now, whatever it asks for (Gmail).
#[must_use]
pub(super) fn is_spent(text: &str) -> bool {
    let said = text.to_ascii_lowercase();
    ["[overquota]", "[throttled]", "bandwidth limits"].iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gmail_says_in_several_ways_that_an_account_has_had_enough() {
        for text in [
            "[OVERQUOTA] Account exceeded command or bandwidth limits.",
            "[ALERT] Account exceeded command or bandwidth limits. (Failure)",
            "[THROTTLED] later",
        ] {
            assert!(is_spent(text), "{text}");
        }
        assert!(!is_spent("[LIMIT] later") && !is_spent("[ALERT] Too many simultaneous connections. (Failure)"));
    }

    #[test]
    fn a_server_that_takes_no_more_connections_says_nothing_about_the_password() {
        for text in [
            "Too many open connections (2 of 2 for u1)",
            "[UNAVAILABLE] Maximum number of connections from user+IP exceeded",
            "[LIMIT] later",
            "Server busy",
            "[ALERT] Too many simultaneous connections. (Failure)",
            "[ALERT] Account exceeded command or bandwidth limits. (Failure)",
            "[OVERQUOTA] Account exceeded command or bandwidth limits.",
        ] {
            assert!(is_for_later(text), "{text}");
        }
        for text in [
            "[AUTHENTICATIONFAILED] Authentication failed.",
            "[AUTHENTICATIONFAILED] Too many failures, try again later",
            "Login failed: authentication failure",
            "[ALERT] Invalid credentials (Failure)",
            "[CONTACTADMIN] account locked",
            "",
        ] {
            assert!(!is_for_later(text), "{text}");
        }
    }
}
