//! Octets that our connections to the old side have received for a user today.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError};

impl Store {
    /// Octets of a user on a day (days since the epoch).
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn octets_of_day(&self, user: &str, day: u64) -> Result<u64, StoreError> {
        let (user, day) = (user.to_owned(), i64::try_from(day).unwrap_or(i64::MAX));
        self.run(move |connection| {
            let mut query = connection.prepare_cached("SELECT octets FROM old_octets WHERE user = ?1 AND day = ?2")?;
            let octets: Option<i64> = query.query_row(params![user, day], |row| row.get(0)).optional()?;
            Ok(octets.and_then(|octets| u64::try_from(octets).ok()).unwrap_or_default())
        })
        .await
    }

    /// Adds to them; an earlier day is forgotten.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn add_octets(&self, user: &str, day: u64, octets: u64) -> Result<(), StoreError> {
        let (user, day) = (user.to_owned(), i64::try_from(day).unwrap_or(i64::MAX));
        let octets = i64::try_from(octets).unwrap_or(i64::MAX);
        self.run(move |connection| {
            connection.execute(
                "INSERT INTO old_octets (user, day, octets) VALUES (?1, ?2, ?3)
                 ON CONFLICT (user) DO UPDATE SET
                   octets = CASE WHEN day = excluded.day THEN octets ELSE 0 END + excluded.octets, day = excluded.day",
                params![user, day, octets],
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
    async fn octets_of_one_day_add_up_and_those_of_another_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        assert_eq!(store.octets_of_day("u1", 7).await.unwrap(), 0);
        for octets in [5, 6] {
            store.add_octets("u1", 7, octets).await.unwrap();
        }
        assert_eq!(store.octets_of_day("u1", 7).await.unwrap(), 11);
        store.add_octets("u1", 8, 3).await.unwrap();
        assert_eq!(store.octets_of_day("u1", 8).await.unwrap(), 3);
        assert_eq!((store.octets_of_day("u1", 7).await.unwrap(), store.octets_of_day("u2", 8).await.unwrap()), (0, 0));
    }
}
