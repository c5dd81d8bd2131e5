//! Sieve scripts that we put on the new side.

use rusqlite::params;

use super::{Store, StoreError};

/// A script that is ours, by its name and what it says.
pub type OurScript = (String, blake3::Hash);

impl Store {
    /// A user's scripts that we put on the new side. Of one that was being replaced there may be two.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn our_scripts(&self, user: &str) -> Result<Vec<OurScript>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached("SELECT name, digest FROM scripts WHERE user = ?1")?;
            let rows = query.query_map([user], |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?)))?;
            rows.map(|row| row.map(|(name, digest)| (name, digest.into())).map_err(StoreError::from)).collect()
        })
        .await
    }

    /// Remembers that a script is ours, before it is put. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_our_script(&self, user: &str, (name, digest): OurScript) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            connection.execute(
                "INSERT INTO scripts (user, name, digest) SELECT user, ?2, ?3 FROM users WHERE user = ?1
                 ON CONFLICT DO NOTHING",
                params![user, name, digest.as_bytes()],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets every script of that name but the one that is there now, if one is.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn keep_our_script(&self, user: &str, name: &str, now: Option<blake3::Hash>) -> Result<(), StoreError> {
        let (user, name) = (user.to_owned(), name.to_owned());
        self.run(move |connection| {
            let now = now.map(|digest| *digest.as_bytes());
            connection.execute(
                "DELETE FROM scripts WHERE user = ?1 AND name = ?2 AND digest IS NOT ?3",
                params![user, name, now],
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
    async fn a_script_that_is_replaced_is_ours_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let script = |text: &str| ("main".to_owned(), blake3::hash(text.as_bytes()));
        store.put_our_script("u1", script("keep;")).await.unwrap();
        assert!(store.our_scripts("u1").await.unwrap().is_empty(), "nobody is remembered who has no record");
        store.user_or_new("u1", "u1").await.unwrap();
        for text in ["keep;", "stop;", "stop;"] {
            store.put_our_script("u1", script(text)).await.unwrap();
        }
        let mut both = [script("keep;"), script("stop;")];
        both.sort_by_key(|(_, digest)| *digest.as_bytes());
        assert_eq!(store.our_scripts("u1").await.unwrap(), both);
        store.keep_our_script("u1", "main", Some(script("stop;").1)).await.unwrap();
        assert_eq!(store.our_scripts("u1").await.unwrap(), [script("stop;")]);
        store.keep_our_script("u1", "main", None).await.unwrap();
        assert!(store.our_scripts("u1").await.unwrap().is_empty());
    }
}
