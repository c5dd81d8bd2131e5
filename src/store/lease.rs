//! Leases: who may work on a user, and until when.

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::model::{Lease, StoreError, UnixSeconds};
use super::sqlite::{Store, now};

impl Store {
    /// Takes or renews the lease on a user. `broken` tells whether another owner is known to be dead.
    ///
    /// # Errors
    /// [`StoreError::Leased`] if somebody else holds it.
    pub async fn take_lease(
        &self,
        user: &str,
        owner: &str,
        seconds: UnixSeconds,
        dead: fn(&str) -> bool,
    ) -> Result<Lease, StoreError> {
        let (user, owner) = (user.to_owned(), owner.to_owned());
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let held: Option<(Option<String>, Option<i64>)> = transaction
                .query_row("SELECT lease_owner, lease_until FROM users WHERE user = ?1", [&user], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            if let Some((Some(other), Some(until))) = held
                && other != owner
                && until > now()
                && !dead(&other)
            {
                return Err(StoreError::Leased { user, owner: other });
            }
            let until = now().saturating_add(seconds);
            transaction.execute(
                "UPDATE users SET lease_owner = ?2, lease_until = ?3 WHERE user = ?1",
                params![user, owner, until],
            )?;
            transaction.commit()?;
            Ok(Lease { owner, until })
        })
        .await
    }

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

    /// Gives the lease back, if `owner` still holds it.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn drop_lease(&self, user: &str, owner: &str) -> Result<(), StoreError> {
        let (user, owner) = (user.to_owned(), owner.to_owned());
        self.run(move |connection| {
            connection.execute(
                "UPDATE users SET lease_owner = NULL, lease_until = NULL WHERE user = ?1 AND lease_owner = ?2",
                params![user, owner],
            )?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_is_held_by_one_owner_until_it_ends_or_its_owner_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "u1").await.unwrap();
        let alive = |_: &str| false;
        store.take_lease("u1", "a", 60, alive).await.unwrap();
        store.take_lease("u1", "a", 60, alive).await.unwrap();
        assert!(matches!(store.take_lease("u1", "b", 60, alive).await, Err(StoreError::Leased { .. })));
        store.take_lease("u1", "b", 60, |owner| owner == "a").await.unwrap();
        store.drop_lease("u1", "a").await.unwrap();
        assert!(store.take_lease("u1", "c", 60, alive).await.is_err(), "only its owner can give a lease back");
        store.drop_lease("u1", "b").await.unwrap();
        store.take_lease("u1", "c", -1, alive).await.unwrap();
        store.take_lease("u1", "d", 60, alive).await.unwrap();
    }
}
