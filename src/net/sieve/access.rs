//! Our own logins at a ManageSieve server.

use super::{SieveConnection, SieveError, SieveLogin, SieveServer};
use crate::net::access::{Access, LoginError, Proof};

impl SieveServer {
    /// Connects and logs in. A token that the server refuses is replaced once, unless it is new: it may have been over.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, access: &Access) -> Result<SieveConnection, LoginError<SieveError>> {
        let no_token = |error| LoginError::Refused(access.without_token(self.side, &error));
        let mut proof = access.proof().await.map_err(no_token)?;
        loop {
            let mut connection = self.connect().await.map_err(LoginError::Server)?;
            let refusal = |text: &str| access.refused(self.side, self.name(), "ManageSieve ", text);
            let refused = match connection.prove(&proof).await.map_err(LoginError::Server)? {
                SieveLogin::Accepted => return Ok(connection),
                SieveLogin::Later(text) => return Err(LoginError::Busy(refusal(&text), text)),
                SieveLogin::Refused(text) => refusal(&text),
            };
            proof = access.after(&proof).await.map_err(no_token)?.ok_or(LoginError::Refused(refused))?;
        }
    }
}

impl SieveConnection {
    async fn prove(&mut self, proof: &Proof<'_>) -> Result<SieveLogin, SieveError> {
        match proof {
            // (The configuration doesn't let it come to this.)
            Proof::Password { then: Some(_), .. } => Err(self.server.lost("has no PROXYAUTH".to_owned())),
            Proof::Password { authcid, authzid, password, .. } => self.login(authcid, *authzid, password).await,
            Proof::Token { mechanism, user, token, .. } => self.login_with_token(*mechanism, user, token.text()).await,
        }
    }
}
