//! The renewal of a lease.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError, UnixSeconds, now};

impl Store {
    /// Makes the lease of `owner` on a user longer. One that was lost meanwhile is not taken again, even if nobody has it any
    /// more: whoever had it may have worked on the user.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if it is not that owner's.
    pub async fn renew_lease(&self, user: &str, owner: &str, seconds: UnixSeconds) -> Result<(), StoreError> {
        let (user, owner) = (user.to_owned(), owner.to_owned());
        self.run(move |connection| {
            let until = now().saturating_add(seconds);
            let sql = "UPDATE users SET lease_until = ?3 WHERE user = ?1 AND lease_owner = ?2";
            if connection.execute(sql, params![user, owner, until])? == 1 {
                return Ok(());
            }
            let other: Option<Option<String>> = connection
                .query_row("SELECT lease_owner FROM users WHERE user = ?1", [&user], |row| row.get(0))
                .optional()?;
            Err(StoreError::Leased { user, owner: other.flatten().unwrap_or_default() })
        })
        .await
    }
}
