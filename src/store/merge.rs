//! What came from us into accounts that are merged with mail of the new side's own.

use std::collections::BTreeSet;

use rusqlite::{TransactionBehavior, params};

use super::StoreError;
use super::sqlite::{Store, name_text, stored_name};
use crate::mailbox::merge::Pair;
use crate::mailbox::{Guid, Keywords, MailboxName, SystemFlags, Uid, UidValidity};

/// A mailbox of the old side whose mail went to the new side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedMailbox {
    /// The GUIDs of its messages on the new side derive from this; a mailbox that we made there has it as its own.
    pub seed: Guid,
    /// Its name, on both sides.
    pub name: MailboxName,
    /// Its UIDVALIDITY on the old side.
    pub uid_validity: UidValidity,
    /// The UIDVALIDITY of that mailbox on the new side, once it is known.
    pub target_uid_validity: Option<UidValidity>,
    /// We made the mailbox on the new side.
    pub made: bool,
}

impl Store {
    /// Mailboxes of a user that were merged.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn merged_mailboxes(&self, user: &str) -> Result<Vec<MergedMailbox>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT seed, name, uid_validity, target_uid_validity, made FROM merged_mailboxes WHERE user = ?1",
            )?;
            let rows = query.query_map([user], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            rows.map(|row| {
                let (seed, name, uid_validity, target, made) = row?;
                Ok(MergedMailbox {
                    seed: Guid::from_hex(&seed).ok_or(StoreError::Unreadable { what: "guid", value: seed })?,
                    name: stored_name(&name)?,
                    uid_validity: UidValidity(uid_validity),
                    target_uid_validity: Option::map(target, UidValidity),
                    made,
                })
            })
            .collect()
        })
        .await
    }

    /// Writes mailboxes that are merged, all in one transaction.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_merged_mailboxes(&self, user: &str, mailboxes: Vec<MergedMailbox>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for MergedMailbox { seed, name, uid_validity, target_uid_validity, made } in &mailboxes {
                transaction.execute(
                    "INSERT OR REPLACE INTO merged_mailboxes (user, seed, name, uid_validity, target_uid_validity, made)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        user,
                        seed.to_string(),
                        name_text(name),
                        uid_validity.0,
                        target_uid_validity.map(|uid_validity| uid_validity.0),
                        made
                    ],
                )?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Forgets a mailbox of which nothing is left on the new side.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn drop_merged_mailbox(&self, user: &str, seed: Guid) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for table in ["pairs", "merged_mailboxes"] {
                let sql = format!("DELETE FROM {table} WHERE user = ?1 AND seed = ?2");
                transaction.execute(&sql, params![user, seed.to_string()])?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// The pairs of a mailbox, ascending by the old side's UID.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn pairs(&self, user: &str, seed: Guid) -> Result<Vec<Pair>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT uid, target_uid, ours, flags, keywords FROM pairs WHERE user = ?1 AND seed = ?2 ORDER BY uid",
            )?;
            let rows = query.query_map(params![user, seed.to_string()], |row| {
                let keywords: String = row.get(4)?;
                Ok(Pair {
                    uid: Uid(row.get(0)?),
                    target_uid: Uid(row.get(1)?),
                    ours: row.get(2)?,
                    flags: SystemFlags(row.get(3)?),
                    // A keyword is an atom, without blanks.
                    keywords: Keywords::from_names(keywords.split_whitespace().map(str::to_owned).collect()),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Writes and forgets pairs of a mailbox, all in one transaction.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_pairs(
        &self,
        user: &str,
        seed: Guid,
        pairs: Vec<Pair>,
        forget: Vec<Uid>,
    ) -> Result<(), StoreError> {
        let (user, seed) = (user.to_owned(), seed.to_string());
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut put = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO pairs (user, seed, uid, target_uid, ours, flags, keywords)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?;
                for Pair { uid, target_uid, ours, flags, keywords } in &pairs {
                    put.execute(params![user, seed, uid.0, target_uid.0, ours, flags.0, keywords.to_string()])?;
                }
                let sql = "DELETE FROM pairs WHERE user = ?1 AND seed = ?2 AND uid = ?3";
                let mut delete = transaction.prepare_cached(sql)?;
                for uid in &forget {
                    delete.execute(params![user, seed, uid.0])?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Subscriptions on the new side that came from us.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn merged_subscriptions(&self, user: &str) -> Result<BTreeSet<MailboxName>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached("SELECT name FROM merged_subscriptions WHERE user = ?1")?;
            let rows = query.query_map([user], |row| row.get::<_, String>(0))?;
            rows.map(|name| stored_name(&name?)).collect()
        })
        .await
    }

    /// Sets which subscriptions on the new side came from us.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_merged_subscriptions(&self, user: &str, names: BTreeSet<MailboxName>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM merged_subscriptions WHERE user = ?1", [&user])?;
            for name in &names {
                let sql = "INSERT INTO merged_subscriptions (user, name) VALUES (?1, ?2)";
                transaction.execute(sql, params![user, name_text(name)])?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Forgets everything of a merge: the new side has nothing of it any more.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn forget_merge(&self, user: &str) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for table in ["pairs", "merged_mailboxes", "merged_subscriptions", "marks"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE user = ?1"), [&user])?;
            }
            transaction.commit()?;
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
    async fn pairs_are_remembered_by_mailbox_and_forgotten_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let seed = Guid([7; 16]);
        let pair = |uid, target_uid, keywords: &[&str]| Pair {
            uid: Uid(uid),
            target_uid: Uid(target_uid),
            ours: uid != 5,
            flags: SystemFlags(9),
            keywords: Keywords::from_names(keywords.iter().map(|name| (*name).to_owned()).collect()),
        };
        let mailbox = |target| MergedMailbox {
            seed,
            name: MailboxName::inbox(),
            uid_validity: UidValidity(u32::MAX),
            target_uid_validity: target,
            made: true,
        };
        {
            let store = Store::open(&path).unwrap();
            store.user_or_new("u1", "u1").await.unwrap();
            for target in [None, Some(UidValidity(3))] {
                store.put_merged_mailboxes("u1", vec![mailbox(target)]).await.unwrap();
                assert_eq!(store.merged_mailboxes("u1").await.unwrap(), [mailbox(target)]);
            }
            let pairs = vec![pair(9, 4_000_000_000, &["b", "$a"]), pair(5, 2, &[]), pair(6, 3, &[])];
            store.put_pairs("u1", seed, pairs, Vec::new()).await.unwrap();
            store.put_pairs("u1", seed, vec![pair(6, 8, &[])], vec![Uid(7)]).await.unwrap();
            store.set_merged_subscriptions("u1", [MailboxName::inbox()].into()).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        let all = [pair(5, 2, &[]), pair(6, 8, &[]), pair(9, 4_000_000_000, &["$a", "b"])];
        assert_eq!(store.pairs("u1", seed).await.unwrap(), all);
        store.put_pairs("u1", seed, Vec::new(), vec![Uid(6)]).await.unwrap();
        assert_eq!(store.pairs("u1", seed).await.unwrap().len(), 2);
        assert_eq!(store.merged_subscriptions("u1").await.unwrap(), [MailboxName::inbox()].into());
        store.drop_merged_mailbox("u1", seed).await.unwrap();
        assert!(
            store.pairs("u1", seed).await.unwrap().is_empty() && store.merged_mailboxes("u1").await.unwrap().is_empty()
        );
        store.forget_merge("u1").await.unwrap();
        assert!(store.merged_subscriptions("u1").await.unwrap().is_empty());
    }
}
