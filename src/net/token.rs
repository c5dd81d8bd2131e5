//! Tokens that log in in place of a password (RFC 6750): what the operator's command gives, kept in memory until a server
//! refuses it or its time is over.

mod command;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::Instant;

pub use command::TokenError;

use crate::config::TokenCommand;

/// Users whose tokens are kept at once; the command is called again for one that was dropped.
const KNOWN_MAX: usize = 1024;

/// A token. Its text is not in its `Debug`.
pub struct Token {
    text: SecretSlice<u8>,
    /// When it is over, if the command has told.
    until: Option<Instant>,
}

impl Token {
    /// Its text: visible ASCII.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.expose_secret()
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("until", &self.until).finish_non_exhaustive()
    }
}

/// One user's token, or that of all. Who holds the lock may be calling the command; others wait for what it gives.
type Place = Arc<tokio::sync::Mutex<Option<Arc<Token>>>>;

/// The tokens of a side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokens {
    command: Arc<TokenCommand>,
    known: Arc<Mutex<HashMap<String, Place>>>,
}

impl Tokens {
    /// None yet: the command is called when the first one is needed.
    #[must_use]
    pub fn of(command: &TokenCommand) -> Self {
        Self { command: Arc::new(command.clone()), known: Arc::default() }
    }

    /// What gives them.
    #[must_use]
    pub fn command(&self) -> &TokenCommand {
        &self.command
    }

    fn place(&self, user: &str) -> Place {
        // One that is not made for a user is all users'.
        let key = if self.command.is_for_each_user() { user } else { "" };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(key) {
            known.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(known.entry(key.to_owned()).or_default())
    }

    /// A token for `user`, and whether the command has just given it.
    ///
    /// # Errors
    /// [`TokenError`] if the command must be called and gives none.
    pub async fn get(&self, user: &str) -> Result<(Arc<Token>, bool), TokenError> {
        let place = self.place(user);
        let mut known = place.lock().await;
        if let Some(token) = known.as_ref().filter(|token| !token.is_over()) {
            return Ok((Arc::clone(token), false));
        }
        *known = None;
        let token = Arc::new(command::call(&self.command, user).await?);
        *known = Some(Arc::clone(&token));
        Ok((token, true))
    }

    /// A server has refused `token`: it is not given out again.
    pub async fn refused(&self, user: &str, token: &Arc<Token>) {
        let place = self.place(user);
        // (Somebody else may have got another one since.)
        place.lock().await.take_if(|known| Arc::ptr_eq(known, token));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
