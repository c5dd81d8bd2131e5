//! What a refusal says of the account.

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
}
