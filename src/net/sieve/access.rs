//! Our own logins at a ManageSieve server.

use super::{SieveConnection, SieveError, SieveLogin, SieveServer};
use crate::net::access::{Access, LoginError, Proof};

impl SieveServer {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, access: &Access) -> Result<SieveConnection, LoginError<SieveError>> {
        let proof =
            access.proof().await.map_err(|error| LoginError::Refused(access.without_token(self.side, &error)))?;
        let Proof::Password { authcid, authzid, password, then: None } = proof else {
            // (The configuration doesn't let it come to this.)
            return Err(LoginError::Server(self.lost("is asked with passwords alone".to_owned())));
        };
        let mut connection = self.connect().await.map_err(LoginError::Server)?;
        let refusal = |text: &str| access.refused(self.side, self.name(), "ManageSieve ", text);
        match connection.login(authcid, authzid, password).await.map_err(LoginError::Server)? {
            SieveLogin::Accepted => Ok(connection),
            SieveLogin::Later(text) => Err(LoginError::Busy(refusal(&text), text)),
            SieveLogin::Refused(text) => Err(LoginError::Refused(refusal(&text))),
        }
    }
}
