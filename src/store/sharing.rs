//! With whom users share mailboxes, and who carries those that belong to nobody.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{Store, StoreError};

impl Store {
    /// With whom a user shares mailboxes, and how many with each, as it was last seen.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn shared_with(&self, user: &str) -> Result<BTreeMap<String, u64>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached("SELECT who, mailboxes FROM shared_with WHERE user = ?1")?;
            let rows = query.query_map([user], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?.into())))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Remembers it, in place of what was remembered. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_shared_with(&self, user: &str, with: BTreeMap<String, u64>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM shared_with WHERE user = ?1", [&user])?;
            for (who, mailboxes) in with {
                transaction.execute(
                    "INSERT INTO shared_with (user, who, mailboxes) SELECT user, ?2, ?3 FROM users WHERE user = ?1",
                    params![user, who, u32::try_from(mailboxes).unwrap_or(u32::MAX)],
                )?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// How many shared mailboxes a user carries for everybody, as it was last seen; none for one who carries nothing.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn carried(&self, user: &str) -> Result<Option<u64>, StoreError> {
        let user = user.to_owned();
        // Every look at every account asks.
        self.look(move |connection| {
            let mut query = connection.prepare_cached("SELECT mailboxes FROM carried WHERE user = ?1")?;
            let found = query.query_row([&user], |row| row.get::<_, u32>(0)).optional()?;
            Ok(found.map(u64::from))
        })
        .await
    }

    /// Remembers it. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_carried(&self, user: &str, mailboxes: Option<usize>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            match mailboxes.map(|count| u32::try_from(count).unwrap_or(u32::MAX)) {
                None => connection.execute("DELETE FROM carried WHERE user = ?1", [user])?,
                Some(count) => connection.execute(
                    "INSERT OR REPLACE INTO carried (user, mailboxes) SELECT user, ?2 FROM users WHERE user = ?1",
                    params![user, count],
                )?,
            };
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
    async fn only_what_was_seen_last_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let with = |who: &str, mailboxes| BTreeMap::from([(who.to_owned(), mailboxes)]);
        store.set_shared_with("u1", with("ben", 1)).await.unwrap();
        assert!(store.shared_with("u1").await.unwrap().is_empty(), "nobody is remembered who has no record");
        store.user_or_new("u1", "u1").await.unwrap();
        for with in [with("ben", 1), with("anyone", 3)] {
            store.set_shared_with("u1", with.clone()).await.unwrap();
            assert_eq!(store.shared_with("u1").await.unwrap(), with);
        }
    }

    #[tokio::test]
    async fn who_carries_what_belongs_to_nobody_is_remembered_until_they_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        store.set_carried("u1", Some(2)).await.unwrap();
        assert_eq!(store.carried("u1").await.unwrap(), None, "nobody is remembered who has no record");
        store.user_or_new("u1", "u1").await.unwrap();
        for count in [Some(2), Some(3), None] {
            store.set_carried("u1", count).await.unwrap();
            assert_eq!(store.carried("u1").await.unwrap(), count.map(|count| count as u64));
        }
    }
}
