//! Our own logins at an IMAP server.

use super::{ImapConnection, ImapError, ImapServer, LoginAnswer, printable};
use crate::net::access::{Access, LoginError, Proof};

impl ImapServer {
    /// Connects and logs in. A token that the server refuses is replaced once, unless it is new: it may have been over.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, access: &Access) -> Result<ImapConnection, LoginError<ImapError>> {
        let no_token = |error| LoginError::Refused(access.without_token(self.side, &error));
        let mut proof = access.proof().await.map_err(no_token)?;
        loop {
            let mut connection = self.connect().await.map_err(LoginError::Server)?;
            let raw = match connection.prove(&proof).await.map_err(LoginError::Server)? {
                LoginAnswer::Accepted { .. } => return Ok(connection),
                LoginAnswer::Refused { raw, .. } => raw,
            };
            let text = printable(&raw);
            let refusal = access.refused(self.side, self.name(), "", &text);
            if is_for_later(&text) {
                return Err(LoginError::Busy(refusal, text));
            }
            proof = access.after(&proof).await.map_err(no_token)?.ok_or(LoginError::Refused(refusal))?;
        }
    }
}

impl ImapConnection {
    async fn prove(&mut self, proof: &Proof<'_>) -> Result<LoginAnswer, ImapError> {
        match proof {
            Proof::Password { authcid, authzid, password, then } => {
                match (self.login(authcid, *authzid, password).await?, then) {
                    (LoginAnswer::Accepted { .. }, Some(user)) => self.proxy_auth(user).await,
                    (answer, _) => Ok(answer),
                }
            }
            Proof::Token { mechanism, user, token, .. } => self.login_with_token(*mechanism, user, token.text()).await,
        }
    }
}

/// Whether a refusal says nothing about the password: another login may go well, and this one must not count as a wrong one.
/// Many servers send no code (RFC 5530 §3), so where there is none their words are looked at; what is in doubt is about the
/// password, which must not be tried twice.
fn is_for_later(text: &str) -> bool {
    let said = text.to_ascii_lowercase();
    let code = said.strip_prefix('[').and_then(|said| said.split_once(']')).map(|(code, _)| code);
    // ALERT (RFC 3501 §7.1) only says that people shall read what follows.
    if let Some(code) = code.filter(|code| *code != "alert") {
        return ["unavailable", "inuse", "limit", "serverbug", "overquota", "throttled"].contains(&code);
    }
    let words = ["too many", "try again", "temporar", "busy", "bandwidth limits"];
    words.iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

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
