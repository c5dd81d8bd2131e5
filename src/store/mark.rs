//! Accounts on the new side that are no whole copy of the old one. They can't be switched.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::sqlite::Store;
use super::{StoreError, UnixSeconds};

/// In what way an account is no whole copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A filter left something out.
    Partial,
    /// It has mail of the new side's own as well.
    Merged,
}

impl MarkKind {
    /// The word in records, reports and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Merged => "merged",
        }
    }
}

impl FromStr for MarkKind {
    type Err = StoreError;

    fn from_str(word: &str) -> Result<Self, StoreError> {
        let kinds = [Self::Partial, Self::Merged];
        kinds
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| StoreError::Unreadable { what: "mark", value: word.to_owned() })
    }
}

/// What an account is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// In what way it is no whole copy.
    pub kind: MarkKind,
    /// The options of the last run that made it so.
    pub how: String,
    /// When that was.
    pub at: UnixSeconds,
}

/// For an operator: what it is, and what helps.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            MarkKind::Partial => write!(
                f,
                "the copy is partial (made with {}): run `mailferry sync` without a filter to make it whole",
                self.how
            ),
            MarkKind::Merged => write!(
                f,
                "the account is merged with mail of the new side's own (made with {}), so it is no copy: to undo it, run `mailferry sync` \
                 without `--mode merge`, which says how",
                self.how
            ),
        }
    }
}

impl Store {
    /// What a user's account is marked with, if it is.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn mark(&self, user: &str) -> Result<Option<Mark>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| read_mark(connection, &user)).await
    }

    /// Marks a user's account, in place of what it was marked with before.
    ///
    /// # Errors
    /// If the store can't be written, or there is no such user.
    pub async fn put_mark(&self, user: &str, mark: &Mark) -> Result<(), StoreError> {
        let (user, mark) = (user.to_owned(), mark.clone());
        self.run(move |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO marks (user, kind, how, at) VALUES (?1, ?2, ?3, ?4)",
                params![user, mark.kind.as_str(), mark.how, mark.at],
            )?;
            Ok(())
        })
        .await
    }

    /// The account is a whole copy again.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn clear_mark(&self, user: &str) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            connection.execute("DELETE FROM marks WHERE user = ?1", [user])?;
            Ok(())
        })
        .await
    }
}

pub(super) fn read_mark(connection: &Connection, user: &str) -> Result<Option<Mark>, StoreError> {
    let row = connection
        .prepare_cached("SELECT kind, how, at FROM marks WHERE user = ?1")?
        .query_row([user], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    row.map(|(kind, how, at)| Ok(Mark { kind: kind.parse()?, how, at })).transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::Side;
    use crate::store::{Phase, Transition};

    #[tokio::test]
    async fn a_marked_user_has_no_way_to_the_new_side_and_an_unmarked_one_has() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let mark = Mark { kind: MarkKind::Partial, how: "--since 2026-11-01".to_owned(), at: 9 };
        assert!(store.put_mark("u1", &mark).await.is_err(), "nobody is marked who has no record");
        store.user_or_new("u1", "u1").await.unwrap();
        store.put_mark("u1", &mark).await.unwrap();
        assert_eq!(store.mark("u1").await.unwrap(), Some(mark));
        let switch = || Transition {
            user: "u1",
            from: Phase::Old,
            from_epoch: 0,
            to: Phase::New,
            authority: Side::New,
            epoch: 1,
            reason: None,
            cause: "test",
            leased_to: None,
            report: None,
            fences: None,
        };
        let refused = store.transition(switch()).await.unwrap_err().to_string();
        assert!(refused.contains("partial") && refused.contains("--since 2026-11-01"), "{refused}");
        assert_eq!(store.user("u1").await.unwrap().unwrap().authority, Side::Old);
        store.clear_mark("u1").await.unwrap();
        assert_eq!(store.mark("u1").await.unwrap(), None);
        store.transition(switch()).await.unwrap();
    }
}
