//! The journal of late arrivals: fences of the old side's mailboxes, and each message that came after one (DESIGN §2, I3).

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::model::{StoreError, UnixSeconds};
use super::sqlite::{Store, name_text, now, signed, stored_name, unsigned};
use crate::mailbox::{Account, MailboxName, Uid, UidNext, UidValidity};

/// A mailbox of the old side as the last look before the switch saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its name.
    pub name: MailboxName,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UIDNEXT: what has this UID or a higher one came late.
    pub uid_next: UidNext,
}

impl Fence {
    /// The fences of all mailboxes that can be opened.
    #[must_use]
    pub fn all(old: &Account) -> Vec<Self> {
        let fence = |(name, status): (&MailboxName, crate::mailbox::Status)| Self {
            name: name.clone(),
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
        };
        old.mailboxes.iter().filter_map(|(name, listed)| Some(fence((name, listed.status?)))).collect()
    }
}

/// A fence, and how far the watch over its mailbox has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The fence.
    pub fence: Fence,
    /// Everything late below this UID is on the new side.
    pub swept: UidNext,
    /// The mailbox itself came after the switch.
    pub appeared: bool,
}

/// A late message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateMessage {
    /// Its mailbox on the old side, as its fence names it.
    pub mailbox: MailboxName,
    /// That mailbox's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UID there.
    pub uid: Uid,
    /// INTERNALDATE in seconds since the epoch, if it has one.
    pub date: Option<i64>,
    /// Its octets, once they were read.
    pub body: Option<LateBody>,
    /// Where it is to go.
    pub home: Option<LateHome>,
    /// When the line end that makes an APPEND count was sent, if its answer has not been seen.
    pub sent_at: Option<UnixSeconds>,
    /// It is on the new side.
    pub done: bool,
    /// Its UID there, if the server told.
    pub new_uid: Option<Uid>,
}

/// What is known of a late message's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateBody {
    /// Their number.
    pub octets: u64,
    /// Digest of the octets as they are.
    pub exact: [u8; 32],
    /// Digest of the octets as a Dovecot may show them.
    pub altered: [u8; 32],
}

/// A mailbox of the new side just before a message is appended to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateHome {
    /// Its name.
    pub mailbox: MailboxName,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Its UIDNEXT: the message can't have a lower UID.
    pub uid_next: UidNext,
}

/// How many late arrivals a user has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateCounts {
    /// Those that are on the new side.
    pub appended: u64,
    /// Those that are known and not there yet.
    pub pending: u64,
    /// When the last one was appended.
    pub last_at: Option<UnixSeconds>,
}

const COLUMNS: &str = "name, uid_validity, uid, state, octets, exact, altered, date, \
                       new_mailbox, new_uid_validity, new_uid_next, sent_at, new_uid";

/// Writes the fences of a switch, in its transaction; those of an earlier one are of no use any more.
///
/// # Errors
/// If the store can't be written.
pub(super) fn insert_fences(connection: &Connection, user: &str, fences: &[Fence]) -> Result<(), StoreError> {
    connection.execute("DELETE FROM fences WHERE user = ?1", [user])?;
    connection.execute("DELETE FROM late WHERE user = ?1 AND state = 'pending'", [user])?;
    fences.iter().try_for_each(|fence| insert_fence(connection, user, fence, false))
}

fn insert_fence(connection: &Connection, user: &str, fence: &Fence, appeared: bool) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO fences (user, name, uid_validity, uid_next, swept, appeared) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![user, name_text(&fence.name), fence.uid_validity.0, fence.uid_next.0, appeared])?;
    Ok(())
}

impl Store {
    /// A user's fences.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn fences(&self, user: &str) -> Result<Vec<Watched>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, uid_validity, uid_next, swept, appeared FROM fences WHERE user = ?1 ORDER BY rowid",
            )?;
            let rows = query.query_map([&user], |row| Ok((row.get::<_, String>(0)?, fence_numbers(row)?)))?;
            rows.map(|row| {
                let (name, (uid_validity, uid_next, swept, appeared)) = row?;
                let fence = Fence { name: stored_name(&name)?, uid_validity, uid_next };
                Ok(Watched { fence, swept, appeared })
            })
            .collect()
        })
        .await
    }

    /// Puts a mailbox that came after the switch under watch, from its first UID on.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn watch_new_mailbox(&self, user: &str, fence: &Fence) -> Result<(), StoreError> {
        let (user, fence) = (user.to_owned(), fence.clone());
        self.run(move |connection| insert_fence(connection, &user, &fence, true)).await
    }

    /// Remembers that everything late in a mailbox below `swept` is on the new side.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_swept(&self, user: &str, fence: &Fence, swept: UidNext) -> Result<(), StoreError> {
        let (user, name, uid_validity) = (user.to_owned(), name_text(&fence.name), fence.uid_validity.0);
        self.run(move |connection| {
            connection.execute(
                "UPDATE fences SET swept = ?4 WHERE user = ?1 AND name = ?2 AND uid_validity = ?3",
                params![user, name, uid_validity, swept.0],
            )?;
            Ok(())
        })
        .await
    }

    /// The known late messages of a mailbox from a UID on.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn late_messages(&self, user: &str, of: &Fence, from: Uid) -> Result<Vec<LateMessage>, StoreError> {
        let (user, name, uid_validity) = (user.to_owned(), name_text(&of.name), of.uid_validity.0);
        self.run(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM late WHERE user = ?1 AND name = ?2 AND uid_validity = ?3 AND uid >= ?4
                 ORDER BY uid"
            ))?;
            let rows = query.query_map(params![user, name, uid_validity, from.0], |row| Ok(message_of(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// The late messages of which it is unknown whether they are on the new side.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn late_in_doubt(&self, user: &str) -> Result<Vec<LateMessage>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM late WHERE user = ?1 AND state = 'pending' AND sent_at IS NOT NULL
                 ORDER BY sent_at"
            ))?;
            let rows = query.query_map([&user], |row| Ok(message_of(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Writes what is known of a late message.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_late(&self, user: &str, message: &LateMessage) -> Result<(), StoreError> {
        let (user, message) = (user.to_owned(), message.clone());
        self.run(move |connection| {
            let LateMessage { mailbox, uid_validity, uid, date, body, home, sent_at, done, new_uid } = &message;
            connection.execute(
                &format!(
                    "INSERT OR REPLACE INTO late (user, {COLUMNS}, at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
                ),
                params![
                    user,
                    name_text(mailbox),
                    uid_validity.0,
                    uid.0,
                    if *done { "done" } else { "pending" },
                    body.map(|body| signed(body.octets)),
                    body.map(|body| body.exact),
                    body.map(|body| body.altered),
                    date,
                    home.as_ref().map(|home| name_text(&home.mailbox)),
                    home.as_ref().map(|home| home.uid_validity.0),
                    home.as_ref().map(|home| home.uid_next.0),
                    sent_at,
                    new_uid.map(|uid| uid.0),
                    now(),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a late message that the old side does not have any more.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn forget_late(&self, user: &str, message: &LateMessage) -> Result<(), StoreError> {
        let (user, name) = (user.to_owned(), name_text(&message.mailbox));
        let (uid_validity, uid) = (message.uid_validity.0, message.uid.0);
        self.run(move |connection| {
            connection.execute(
                "DELETE FROM late WHERE user = ?1 AND name = ?2 AND uid_validity = ?3 AND uid = ?4",
                params![user, name, uid_validity, uid],
            )?;
            Ok(())
        })
        .await
    }

    /// How many late arrivals a user has had.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn late_counts(&self, user: &str) -> Result<LateCounts, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let sql = "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'pending'),
                       max(at) FILTER (WHERE state = 'done') FROM late WHERE user = ?1";
            let counts = connection.prepare_cached(sql)?.query_row([user], |row| {
                Ok(LateCounts { appended: unsigned(row.get(0)?), pending: unsigned(row.get(1)?), last_at: row.get(2)? })
            });
            Ok(counts.optional()?.unwrap_or_default())
        })
        .await
    }
}

fn fence_numbers(row: &Row<'_>) -> rusqlite::Result<(UidValidity, UidNext, UidNext, bool)> {
    Ok((UidValidity(row.get(1)?), UidNext(row.get(2)?), UidNext(row.get(3)?), row.get(4)?))
}

fn message_of(row: &Row<'_>) -> Result<LateMessage, StoreError> {
    let home = row.get::<_, Option<String>>(8)?;
    let home = home
        .map(|name| {
            let (uid_validity, uid_next) = (UidValidity(row.get(9)?), UidNext(row.get(10)?));
            Ok::<_, StoreError>(LateHome { mailbox: stored_name(&name)?, uid_validity, uid_next })
        })
        .transpose()?;
    let octets: Option<i64> = row.get(4)?;
    let body = octets
        .map(|octets| {
            let (exact, altered) = (row.get(5)?, row.get(6)?);
            Ok::<_, StoreError>(LateBody { octets: unsigned(octets), exact, altered })
        })
        .transpose()?;
    Ok(LateMessage {
        mailbox: stored_name(&row.get::<_, String>(0)?)?,
        uid_validity: UidValidity(row.get(1)?),
        uid: Uid(row.get(2)?),
        date: row.get(7)?,
        body,
        home,
        sent_at: row.get(11)?,
        done: row.get::<_, String>(3)? == "done",
        new_uid: row.get::<_, Option<u32>>(12)?.map(Uid),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn store(folder: &tempfile::TempDir) -> Store {
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "u1").await.unwrap();
        store
    }

    fn fence(name: &str, uid_validity: u32, uid_next: u32) -> Fence {
        let name = MailboxName::from_parts(vec![name.to_owned()]).unwrap();
        Fence { name, uid_validity: UidValidity(uid_validity), uid_next: UidNext(uid_next) }
    }

    fn message(of: &Fence, uid: u32) -> LateMessage {
        LateMessage {
            mailbox: of.name.clone(),
            uid_validity: of.uid_validity,
            uid: Uid(uid),
            date: None,
            body: None,
            home: None,
            sent_at: None,
            done: false,
            new_uid: None,
        }
    }

    async fn switch(store: &Store, fences: Vec<Fence>) {
        store.run(move |connection| insert_fences(connection, "u1", &fences)).await.unwrap();
    }

    #[tokio::test]
    async fn a_message_is_kept_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let inbox = fence("INBOX", 7, 10);
        let bare = message(&inbox, 10);
        let home = LateHome { mailbox: inbox.name.clone(), uid_validity: UidValidity(8), uid_next: UidNext(u32::MAX) };
        let body = LateBody { octets: 1 << 40, exact: [1; 32], altered: [2; 32] };
        let full = LateMessage {
            uid: Uid(u32::MAX),
            date: Some(-1),
            body: Some(body),
            home: Some(home),
            sent_at: Some(5),
            ..bare.clone()
        };
        store.put_late("u1", &bare).await.unwrap();
        store.put_late("u1", &full).await.unwrap();
        store.put_late("u1", &message(&fence("INBOX", 8, 1), 10)).await.unwrap();
        assert_eq!(store.late_messages("u1", &inbox, Uid(10)).await.unwrap(), [bare.clone(), full.clone()]);
        assert_eq!(store.late_messages("u1", &inbox, Uid(11)).await.unwrap(), std::slice::from_ref(&full));
        assert_eq!(store.late_in_doubt("u1").await.unwrap(), std::slice::from_ref(&full));

        let done = LateMessage { done: true, new_uid: Some(Uid(3)), ..full };
        store.put_late("u1", &done).await.unwrap();
        assert!(store.late_in_doubt("u1").await.unwrap().is_empty(), "what is done is in no doubt");
        let counts = store.late_counts("u1").await.unwrap();
        assert_eq!((counts.appended, counts.pending, counts.last_at.is_some()), (1, 2, true));
        store.forget_late("u1", &bare).await.unwrap();
        assert_eq!(store.late_messages("u1", &inbox, Uid(1)).await.unwrap(), [done]);
        assert_eq!(store.late_counts("u2").await.unwrap(), LateCounts::default());
    }

    #[tokio::test]
    async fn a_new_switch_has_its_own_fences_and_nothing_waits_behind_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (inbox, sent) = (fence("INBOX", 7, 10), fence("Sent", 7, 1));
        switch(&store, vec![inbox.clone(), sent.clone()]).await;
        let appeared = fence("Sent", 9, 1);
        store.watch_new_mailbox("u1", &appeared).await.unwrap();
        store.set_swept("u1", &inbox, UidNext(12)).await.unwrap();
        store.watch_new_mailbox("u1", &inbox).await.unwrap();
        let all: Vec<_> = store.fences("u1").await.unwrap();
        let watched =
            |fence: &Fence, swept, appeared| Watched { fence: fence.clone(), swept: UidNext(swept), appeared };
        assert_eq!(all, [watched(&inbox, 12, false), watched(&sent, 1, false), watched(&appeared, 1, true)]);

        store.put_late("u1", &message(&inbox, 10)).await.unwrap();
        store.put_late("u1", &LateMessage { done: true, ..message(&inbox, 11) }).await.unwrap();
        let again = fence("INBOX", 7, 20);
        switch(&store, vec![again.clone()]).await;
        assert_eq!(store.fences("u1").await.unwrap(), [watched(&again, 20, false)]);
        let counts = store.late_counts("u1").await.unwrap();
        assert_eq!((counts.appended, counts.pending), (1, 0), "the copy has brought what waited");
    }
}
