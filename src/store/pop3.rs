//! What is known of a user's POP3 list on the old side, and the orders that were given on the target.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{Store, StoreError};
use crate::mailbox::pop3::order::Orders;
use crate::mailbox::pop3::{KnownUidls, Template, Uidl};
use crate::mailbox::{Uid, UidNext, UidValidity};

/// What was proved of a POP3 list on the messages themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3Proof {
    /// Of which INBOX.
    pub uid_validity: UidValidity,
    /// The templates that give its UIDLs.
    pub templates: Vec<Template>,
    /// For all messages below this UID.
    pub proved_below: UidNext,
    /// The list is known to be in the order of the UIDs.
    pub follows_uid: bool,
}

impl Store {
    /// What was proved of a user's POP3 list.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn pop3_proof(&self, user: &str) -> Result<Option<Pop3Proof>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT uid_validity, templates, proved_below, follows_uid FROM pop3 WHERE user = ?1",
            )?;
            let row = query.query_row([&user], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, bool>(3)?))
            });
            let Some((uid_validity, templates, proved_below, follows_uid)) = row.optional()? else { return Ok(None) };
            Ok(Some(Pop3Proof {
                uid_validity: UidValidity(uid_validity),
                templates: stored_templates(&templates)?,
                proved_below: UidNext(proved_below),
                follows_uid,
            }))
        })
        .await
    }

    /// Remembers what was proved. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_pop3_proof(&self, user: &str, proof: &Pop3Proof) -> Result<(), StoreError> {
        let (user, proof) = (user.to_owned(), proof.clone());
        self.run(move |connection| {
            let names: Vec<&str> = proof.templates.iter().map(|template| template.as_str()).collect();
            connection.execute(
                "INSERT INTO pop3 (user, uid_validity, templates, proved_below, follows_uid)
                 SELECT user, ?2, ?3, ?4, ?5 FROM users WHERE user = ?1
                 ON CONFLICT (user) DO UPDATE SET uid_validity = excluded.uid_validity, templates = excluded.templates,
                 proved_below = excluded.proved_below, follows_uid = excluded.follows_uid",
                params![
                    user,
                    proof.uid_validity.0,
                    serde_json::Value::from(names).to_string(),
                    proof.proved_below.0,
                    proof.follows_uid
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Which UIDL each message of INBOX was found to have, where no template tells.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn pop3_uidls(
        &self,
        user: &str,
        UidValidity(uid_validity): UidValidity,
    ) -> Result<KnownUidls, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection
                .prepare_cached("SELECT uid, uidl, method FROM pop3_uidls WHERE user = ?1 AND uid_validity = ?2")?;
            let rows = query.query_map(params![user, uid_validity], |row| {
                Ok((Uid(row.get(0)?), row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.map(|row| {
                let (uid, uidl, method) = row?;
                let known = Uidl::from_octets(uidl.as_bytes());
                let known = known.ok_or(StoreError::Unreadable { what: "UIDL", value: uidl })?;
                let found = method.parse();
                let found = found.map_err(|_| StoreError::Unreadable { what: "way to find a UIDL", value: method })?;
                Ok((uid, (known, found)))
            })
            .collect()
        })
        .await
    }

    /// Remembers them, in place of all that were remembered. A user without a record is not remembered.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_pop3_uidls(
        &self,
        user: &str,
        UidValidity(uid_validity): UidValidity,
        uidls: KnownUidls,
    ) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM pop3_uidls WHERE user = ?1", [&user])?;
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO pop3_uidls (user, uid_validity, uid, uidl, method)
                     SELECT user, ?2, ?3, ?4, ?5 FROM users WHERE user = ?1",
                )?;
                for (uid, (uidl, method)) in &uidls {
                    insert.execute(params![user, uid_validity, uid.0, uidl.as_str(), method.as_str()])?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// The orders that messages of INBOX were given on the target.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn pop3_orders(
        &self,
        user: &str,
        UidValidity(uid_validity): UidValidity,
    ) -> Result<BTreeMap<Uid, u32>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection
                .prepare_cached("SELECT uid, pop3_order FROM pop3_orders WHERE user = ?1 AND uid_validity = ?2")?;
            let rows = query.query_map(params![user, uid_validity], |row| Ok((Uid(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Remembers the orders that messages from `from` on are about to be given; what was remembered of those, and of
    /// other INBOXes, is forgotten. All in one transaction.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_pop3_orders(
        &self,
        user: &str,
        UidValidity(uid_validity): UidValidity,
        from: Uid,
        orders: &Orders,
    ) -> Result<(), StoreError> {
        let user = user.to_owned();
        let orders: Vec<(u32, u32)> = orders.iter().filter_map(|(uid, order)| Some((uid.0, (*order)?))).collect();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "DELETE FROM pop3_orders WHERE user = ?1 AND (uid_validity <> ?2 OR uid >= ?3)",
                params![user, uid_validity, from.0],
            )?;
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO pop3_orders (user, uid_validity, uid, pop3_order) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for (uid, order) in orders {
                    insert.execute(params![user, uid_validity, uid, order])?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }
}

fn stored_templates(text: &str) -> Result<Vec<Template>, StoreError> {
    let unreadable = || StoreError::Unreadable { what: "UIDL templates", value: text.to_owned() };
    let names: Vec<String> = serde_json::from_str(text).map_err(|_| unreadable())?;
    names.iter().map(|name| name.parse().map_err(|_| unreadable())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::pop3::Method;

    #[tokio::test]
    async fn proofs_and_orders_are_kept_with_the_user_and_forgotten_with_the_mailbox() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let mut proof = Pop3Proof {
            uid_validity: UidValidity(7),
            templates: vec![Template::UidValidityHex, Template::UidValidityCapitals],
            proved_below: UidNext(9),
            follows_uid: true,
        };
        store.put_pop3_proof("u1", &proof).await.unwrap();
        assert_eq!(store.pop3_proof("u1").await.unwrap(), None, "nobody is remembered who has no record");
        store.user_or_new("u1", "u1").await.unwrap();
        store.put_pop3_proof("u1", &proof).await.unwrap();
        assert_eq!(store.pop3_proof("u1").await.unwrap().as_ref(), Some(&proof));
        (proof.follows_uid, proof.proved_below) = (false, UidNext(u32::MAX));
        store.put_pop3_proof("u1", &proof).await.unwrap();
        assert_eq!(store.pop3_proof("u1").await.unwrap(), Some(proof));

        let uidls: KnownUidls = [(Uid(3), (Uidl::from_octets(b"UID1-7").unwrap(), Method::Twin))].into();
        store.put_pop3_uidls("nobody", UidValidity(7), uidls.clone()).await.unwrap();
        assert!(store.pop3_uidls("nobody", UidValidity(7)).await.unwrap().is_empty());
        store.put_pop3_uidls("u1", UidValidity(7), uidls.clone()).await.unwrap();
        assert_eq!(store.pop3_uidls("u1", UidValidity(7)).await.unwrap(), uidls);
        assert!(store.pop3_uidls("u1", UidValidity(8)).await.unwrap().is_empty(), "another INBOX");
        store.put_pop3_uidls("u1", UidValidity(8), KnownUidls::new()).await.unwrap();
        assert!(store.pop3_uidls("u1", UidValidity(7)).await.unwrap().is_empty());

        let orders = |orders: &[(u32, Option<u32>)]| orders.iter().map(|&(uid, order)| (Uid(uid), order)).collect();
        let read = async |uid_validity| store.pop3_orders("u1", UidValidity(uid_validity)).await.unwrap();
        let (one, other) = (UidValidity(7), UidValidity(8));
        store
            .put_pop3_orders("u1", one, Uid(1), &orders(&[(1, Some(5)), (2, None), (3, Some(u32::MAX))]))
            .await
            .unwrap();
        assert_eq!(read(7).await, [(Uid(1), 5), (Uid(3), u32::MAX)].into());
        store.put_pop3_orders("u1", one, Uid(3), &orders(&[(4, Some(6))])).await.unwrap();
        assert_eq!(read(7).await, [(Uid(1), 5), (Uid(4), 6)].into(), "what was never written is given anew");
        store.put_pop3_orders("u1", other, Uid(1), &orders(&[(1, Some(9))])).await.unwrap();
        assert_eq!((read(7).await.len(), read(8).await), (0, [(Uid(1), 9)].into()));
    }
}
