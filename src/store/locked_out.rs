//! Users who could not log in after a switch, and users whose move goes on after a restart.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError, UnixSeconds};

impl Store {
    /// Why a user could not log in after a switch, if the new side has refused their own password.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn locked_out(&self, user: &str) -> Result<Option<String>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached("SELECT reason FROM locked_out WHERE user = ?1")?;
            Ok(query.query_row([user], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Remembers why a user could not log in after a switch, or that they can. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_locked_out(&self, user: &str, reason: Option<&str>) -> Result<(), StoreError> {
        let (user, reason) = (user.to_owned(), reason.map(str::to_owned));
        self.run(move |connection| {
            match reason {
                Some(reason) => connection.execute(
                    "INSERT INTO locked_out (user, reason) SELECT user, ?2 FROM users WHERE user = ?1
                     ON CONFLICT (user) DO UPDATE SET reason = excluded.reason",
                    params![user, reason],
                )?,
                None => connection.execute("DELETE FROM locked_out WHERE user = ?1", [user])?,
            };
            Ok(())
        })
        .await
    }

    /// Users who are copied or followed, and then those who were switched after `switched_after`.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn users_to_go_on(&self, switched_after: UnixSeconds) -> Result<Vec<String>, StoreError> {
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT user FROM users WHERE phase IN ('copying', 'following') OR phase = 'new' AND switched_at > ?1
                 ORDER BY phase = 'new', user",
            )?;
            let users = query.query_map([switched_after], |row| row.get(0))?;
            Ok(users.collect::<Result<_, _>>()?)
        })
        .await
    }
}
