//! Messages that the old side can't give and that are left out on the new side.

use rusqlite::params;

use super::sqlite::{Store, name_text, stored_name};
use super::{StoreError, UnixSeconds};
use crate::mailbox::{MailboxName, Uid, UidValidity};

/// A message that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its mailbox on the old side.
    pub mailbox: MailboxName,
    /// That mailbox's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UID, which no other message gets on the new side.
    pub uid: Uid,
    /// What the old side said last, or that it gives it again.
    pub reason: String,
    /// Since when it is left out.
    pub at: UnixSeconds,
}

impl Store {
    /// A user's messages that are left out, in order.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn quarantined(&self, user: &str) -> Result<Vec<Quarantined>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, uid_validity, uid, reason, at FROM quarantine WHERE user = ?1 ORDER BY name, uid",
            )?;
            let rows = query.query_map([user], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            rows.map(|row| {
                let (name, uid_validity, uid, reason, at) = row?;
                let (uid_validity, uid) = (UidValidity(uid_validity), Uid(uid));
                Ok(Quarantined { mailbox: stored_name(&name)?, uid_validity, uid, reason, at })
            })
            .collect()
        })
        .await
    }

    /// Remembers a message that is left out. One that is remembered gets the new reason. A user without a record is not
    /// remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_quarantined(&self, user: &str, message: &Quarantined) -> Result<(), StoreError> {
        let (user, message) = (user.to_owned(), message.clone());
        self.run(move |connection| {
            let Quarantined { mailbox, uid_validity, uid, reason, at } = message;
            connection.execute(
                "INSERT INTO quarantine (user, name, uid_validity, uid, reason, at)
                 SELECT user, ?2, ?3, ?4, ?5, ?6 FROM users WHERE user = ?1
                 ON CONFLICT DO UPDATE SET reason = excluded.reason",
                params![user, name_text(&mailbox), uid_validity.0, uid.0, reason, at],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets that a message is left out.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn release_quarantined(&self, user: &str, message: &Quarantined) -> Result<(), StoreError> {
        let (user, message) = (user.to_owned(), message.clone());
        self.run(move |connection| {
            connection.execute(
                "DELETE FROM quarantine WHERE user = ?1 AND name = ?2 AND uid_validity = ?3 AND uid = ?4",
                params![user, name_text(&message.mailbox), message.uid_validity.0, message.uid.0],
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
    async fn what_is_left_out_is_remembered_with_its_first_date_and_its_last_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let message = |uid, reason: &str, at| Quarantined {
            mailbox: MailboxName::inbox(),
            uid_validity: UidValidity(7),
            uid: Uid(uid),
            reason: reason.to_owned(),
            at,
        };
        {
            let store = Store::open(&path).unwrap();
            store.put_quarantined("u1", &message(5, "NIL", 1)).await.unwrap();
            assert!(store.quarantined("u1").await.unwrap().is_empty(), "nobody is remembered who has no record");
            store.user_or_new("u1", "u1").await.unwrap();
            for (uid, reason, at) in [(5, "NIL", 1), (3, "NO", 2), (5, "closed", 9)] {
                store.put_quarantined("u1", &message(uid, reason, at)).await.unwrap();
            }
        }
        let store = Store::open(&path).unwrap();
        let all = [message(3, "NO", 2), message(5, "closed", 1)];
        assert_eq!(store.quarantined("u1").await.unwrap(), all);
        store.release_quarantined("u1", &all[0]).await.unwrap();
        assert_eq!(store.quarantined("u1").await.unwrap(), all[1..]);
        assert!(store.quarantined("u2").await.unwrap().is_empty());
    }
}
