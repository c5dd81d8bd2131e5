//! Our own logins at a POP3 server.

use super::{Pop3Answer, Pop3Connection, Pop3Error, Pop3Server, printable};
use crate::net::access::{Access, LoginError, Proof};

impl Pop3Server {
    /// Connects and logs in, with UTF8 where the server has it. A token that the server refuses is replaced once, unless it
    /// is new: it may have been over.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, access: &Access) -> Result<Pop3Connection, LoginError<Pop3Error>> {
        let no_token = |error| LoginError::Refused(access.without_token(self.side, &error));
        let mut proof = access.proof().await.map_err(no_token)?;
        loop {
            let raw = match self.try_with(&proof).await.map_err(LoginError::Server)? {
                Ok(connection) => return Ok(connection),
                Err(raw) => raw,
            };
            let text = printable(&raw);
            let refusal = access.refused(self.side, self.name(), "POP3 ", &text);
            if is_for_later(&text) {
                return Err(LoginError::Busy(refusal, text));
            }
            proof = access.after(&proof).await.map_err(no_token)?.ok_or(LoginError::Refused(refusal))?;
        }
    }

    /// What the server said, if it refused.
    async fn try_with(&self, proof: &Proof<'_>) -> Result<Result<Pop3Connection, Vec<u8>>, Pop3Error> {
        let mut connection = self.connect().await?;
        if connection.capabilities().await?.has("UTF8") {
            // Without it Courier puts a text of its own in the place of a message with an 8-bit header (RFC 6856 §2.1). One that
            // refuses shows such a message as it likes.
            connection.command("UTF8").await?;
        }
        let answer = match proof {
            // (The configuration doesn't let it come to this.)
            Proof::Password { then: Some(_), .. } => return Err(self.protocol("POP3 has no PROXYAUTH".to_owned())),
            Proof::Password { authcid, authzid, password, .. } => connection.login(authcid, *authzid, password).await?,
            Proof::Token { mechanism, user, token, .. } => {
                connection.login_with_token(*mechanism, user, token.text()).await?
            }
        };
        Ok(match answer {
            Pop3Answer::Accepted { .. } => Ok(connection),
            Pop3Answer::Refused { raw } => Err(raw),
        })
    }
}

/// Whether a refused login says nothing about the password. Old servers have no response codes (RFC 2449 §8), so where
/// there is none their words are looked at; what is in doubt is about the password, which must not be tried twice.
fn is_for_later(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let said = text.strip_prefix("-err").unwrap_or(&text).trim_start();
    if let Some(code) = said.strip_prefix('[').and_then(|said| said.split_once(']')).map(|(code, _)| code) {
        return ["in-use", "login-delay", "sys/temp", "sys/perm"].contains(&code);
    }
    ["lock", "in use", "busy", "try again", "temporar", "too many", "too soon"].iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maildrop_that_is_locked_is_no_wrong_password() {
        for text in [
            "-ERR [IN-USE] Do you have another POP session running?",
            "-ERR [LOGIN-DELAY] minimum time between mail checks violation",
            "-ERR [SYS/TEMP] Internal error",
            "-ERR Maildrop already locked",
            "-ERR mailbox in use",
            "-ERR Authentication service is temporarily unavailable.",
        ] {
            assert!(is_for_later(text), "{text}");
        }
        for text in ["-ERR [AUTH] Authentication failed.", "-ERR [AUTH] account locked", "-ERR Login failed.", "-ERR"] {
            assert!(!is_for_later(text), "{text}");
        }
    }
}
