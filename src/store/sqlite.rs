//! The store on SQLite: one connection behind a lock, every query on the blocking pool.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::late::{Fence, insert_fences};
use super::mark::read_mark;
use super::model::{MailboxRecord, Phase, Progress, ReportRow, StoreError, Transition, UnixSeconds, UserRecord};
use crate::mailbox::{Guid, MailboxName, Side, UidValidity};

/// Schema versions in order; number N is the N-th.
const SCHEMA: [&str; 15] = [
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
    include_str!("schema/0007.sql"),
    include_str!("schema/0008.sql"),
    include_str!("schema/0009.sql"),
    include_str!("schema/0010.sql"),
    include_str!("schema/0011.sql"),
    include_str!("schema/0012.sql"),
    include_str!("schema/0013.sql"),
    include_str!("schema/0014.sql"),
    include_str!("schema/0015.sql"),
];

/// How long a query waits for another process (`mailferry sync` beside `serve`).
const BUSY: Duration = Duration::from_secs(10);

/// Users listed at most by [`Store::users`]: what an operator can read and a reply can hold.
const LIST_MAX: u32 = 1000;

/// Reports kept of each user beside those that their history names.
const REPORTS_KEPT: u32 = 10;

const USER_COLUMNS: &str = "user, login_name, phase, authority, epoch, reason, mailboxes, messages_total, \
                            messages_done, bytes_done, clean_at, switched_at";

pub(super) const REPORT_COLUMNS: &str = "reports.at, identical, differences, altered, notes, json";

/// The durable records of all users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

/// Now, in seconds since the epoch.
#[must_use]
pub fn now() -> UnixSeconds {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| UnixSeconds::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

impl Store {
    /// Opens the store, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// A file that can't be opened, is no database, is damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let fail = |error: &dyn std::fmt::Display| StoreError::Open {
            path: shown.clone(),
            message: format!(
                "{error}: check that the folder exists and is writable, or restore the file from a backup"
            ),
        };
        let mut connection = Connection::open(path).map_err(|error| fail(&error))?;
        // It names users and their mailboxes.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|error| fail(&error))?;
        prepare(&mut connection, &shown).map_err(|error| match error {
            StoreError::Sqlite(error) => fail(&error),
            other => other,
        })?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs a query on the blocking pool.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let work = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let before = connection.total_changes();
            let done = query(&mut connection);
            (done, connection.total_changes() != before)
        };
        let (done, wrote) = tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Interrupted)?;
        if wrote {
            crate::fault::point("store-written").await;
        }
        done
    }

    /// Reads something small by its key: at once where nobody is at the connection, which takes microseconds; the blocking
    /// pool costs more than the query, and every login asks.
    pub(super) async fn look<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        if let Some(done) = self.look_at_once(&query) {
            return done;
        }
        self.run(move |connection| query(connection)).await
    }

    /// None if it would have to wait, for another thread or for another process.
    fn look_at_once<T>(&self, query: impl Fn(&Connection) -> Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        let connection = self.connection.try_lock().ok()?;
        connection.busy_timeout(Duration::ZERO).ok()?;
        let done = query(&connection);
        let restored = connection.busy_timeout(BUSY);
        let busy = matches!(&done, Err(StoreError::Sqlite(error))
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy));
        (restored.is_ok() && !busy).then_some(done)
    }

    /// A user's record.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn user(&self, user: &str) -> Result<Option<UserRecord>, StoreError> {
        let user = user.to_owned();
        self.look(move |connection| read_user(connection, &user)).await
    }

    /// A user's record; made in phase `old` with `login_name` if there is none.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub async fn user_or_new(&self, user: &str, login_name: &str) -> Result<UserRecord, StoreError> {
        let (user, login_name) = (user.to_owned(), login_name.to_owned());
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO users (user, login_name, phase, authority, epoch, created_at, updated_at)
                 VALUES (?1, ?2, 'old', 'old', 0, ?3, ?3) ON CONFLICT DO NOTHING",
                params![user, login_name, now()],
            )?;
            let record = read_user(&transaction, &user)?;
            transaction.commit()?;
            record.ok_or(StoreError::Unreadable { what: "user", value: user })
        })
        .await
    }

    /// Stores the name under which the sides know a user, unless it is known already. Gives the one that counts.
    ///
    /// # Errors
    /// If the store can't be written, or there is no such user.
    pub async fn name_login(&self, user: &str, login_name: &str) -> Result<String, StoreError> {
        let (user, login_name) = (user.to_owned(), login_name.to_owned());
        self.run(move |connection| {
            let sql = "UPDATE users SET login_name = CASE login_name WHEN '' THEN ?2 ELSE login_name END
                       WHERE user = ?1 RETURNING login_name";
            Ok(connection.query_row(sql, [user, login_name], |row| row.get(0))?)
        })
        .await
    }

    /// The users in order, at most a thousand after `after`, and how many there are in each phase.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn users(&self, after: Option<&str>) -> Result<(Vec<UserRecord>, Vec<(Phase, u64)>), StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.run(move |connection| {
            let mut query = connection
                .prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users WHERE user > ?1 ORDER BY user LIMIT ?2"))?;
            let users = query.query_map(params![after, LIST_MAX], |row| Ok(user_of(row)))?;
            let users = users.map(|row| row?).collect::<Result<_, StoreError>>()?;
            let mut query = connection.prepare_cached("SELECT phase, count(*) FROM users GROUP BY phase")?;
            let counts = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            let counts = counts
                .map(|row| {
                    let (phase, count) = row?;
                    Ok((phase.parse()?, unsigned(count)))
                })
                .collect::<Result<_, StoreError>>()?;
            Ok((users, counts))
        })
        .await
    }

    /// Users in phases where work goes on, for the restart.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn users_at_work(&self) -> Result<Vec<UserRecord>, StoreError> {
        self.run(|connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {USER_COLUMNS} FROM users WHERE phase IN ('copying', 'following', 'switching', 'returning')"
            ))?;
            let users = query.query_map([], |row| Ok(user_of(row)))?;
            users.map(|row| row?).collect()
        })
        .await
    }

    /// Users whose authority moved to the new side before `switched_before` and who are still watched, at most a thousand.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn users_overdue(&self, switched_before: UnixSeconds) -> Result<Vec<UserRecord>, StoreError> {
        self.run(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {USER_COLUMNS} FROM users WHERE phase = 'new' AND switched_at < ?1 LIMIT ?2"
            ))?;
            let users = query.query_map(params![switched_before, LIST_MAX], |row| Ok(user_of(row)))?;
            users.map(|row| row?).collect()
        })
        .await
    }

    /// Carries out `transition` in one transaction, together with its report and its line in the history.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the record isn't in the expected phase and epoch any more: nothing is changed then.
    pub async fn transition(&self, transition: Transition<'_>) -> Result<(), StoreError> {
        let user = transition.user.to_owned();
        let (from, from_epoch) = (transition.from, transition.from_epoch);
        let (to, authority, epoch) = (transition.to, transition.authority, transition.epoch);
        let (reason, cause) = (transition.reason.map(str::to_owned), transition.cause.to_owned());
        let (report, leased_to) = (transition.report.cloned(), transition.leased_to.map(str::to_owned));
        let fences = transition.fences.map(<[Fence]>::to_vec);
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if authority == Side::New
                && epoch > from_epoch
                && let Some(mark) = read_mark(&transaction, &user)?
            {
                return Err(StoreError::Marked { user, mark: mark.to_string() });
            }
            let report = report.map(|report| insert_report(&transaction, &user, &report)).transpose()?;
            let changed = transaction.execute(
                "UPDATE users SET phase = ?4, authority = ?5, epoch = ?6, reason = ?7, updated_at = ?8,
                 switched_at = CASE WHEN authority = ?5 THEN switched_at ELSE ?8 END,
                 slow_pauses = CASE WHEN ?4 = 'copying' THEN 0 ELSE slow_pauses END
                 WHERE user = ?1 AND phase = ?2 AND epoch = ?3 AND (?9 IS NULL OR lease_owner = ?9)",
                params![
                    user,
                    from.as_str(),
                    signed(from_epoch),
                    to.as_str(),
                    authority.as_str(),
                    signed(epoch),
                    reason,
                    now(),
                    leased_to
                ],
            )?;
            if changed != 1 {
                return Err(StoreError::Stale { user, from, epoch: from_epoch });
            }
            if let Some(fences) = fences {
                insert_fences(&transaction, &user, &fences)?;
            }
            if authority == Side::Old && epoch > from_epoch {
                // What the new side holds is no longer only what we wrote there.
                let sql = "UPDATE mailboxes SET old_seen = NULL, new_seen = NULL WHERE user = ?1";
                transaction.execute(sql, [&user])?;
            }
            transaction.execute(
                "INSERT INTO history (user, at, from_phase, to_phase, authority, epoch, cause, report, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    user,
                    now(),
                    from.as_str(),
                    to.as_str(),
                    authority.as_str(),
                    signed(epoch),
                    cause,
                    report,
                    reason
                ],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Counts one more pause that ran out; gives how many there were since the user was last told to move.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn count_slow_pause(&self, user: &str) -> Result<u64, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let sql = "UPDATE users SET slow_pauses = slow_pauses + 1 WHERE user = ?1 RETURNING slow_pauses";
            Ok(unsigned(connection.query_row(sql, [user], |row| row.get(0))?))
        })
        .await
    }

    /// Sets the reason of a user's record without changing the phase.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_reason(&self, user: &str, reason: Option<&str>) -> Result<(), StoreError> {
        let (user, reason) = (user.to_owned(), reason.map(str::to_owned));
        self.run(move |connection| {
            connection.execute(
                "UPDATE users SET reason = ?2, updated_at = ?3 WHERE user = ?1 AND reason IS NOT ?2",
                params![user, reason, now()],
            )?;
            Ok(())
        })
        .await
    }

    /// Stores how far the copy has come.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_progress(&self, user: &str, progress: Progress) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            connection.execute(
                "UPDATE users SET mailboxes = ?2, messages_total = ?3, messages_done = ?4, bytes_done = ?5
                 WHERE user = ?1",
                params![
                    user,
                    signed(progress.mailboxes),
                    signed(progress.messages_total),
                    signed(progress.messages_done),
                    signed(progress.bytes_done)
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Remembers that both sides were equal just now.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_clean(&self, user: &str) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            connection.execute("UPDATE users SET clean_at = ?2 WHERE user = ?1", params![user, now()])?;
            Ok(())
        })
        .await
    }

    /// Stores a report without a change of phase.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn add_report(&self, user: &str, report: &ReportRow) -> Result<(), StoreError> {
        let (user, report) = (user.to_owned(), report.clone());
        self.run(move |connection| insert_report(connection, &user, &report).map(|_| ())).await
    }

    /// The newest report of a user.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn last_report(&self, user: &str) -> Result<Option<ReportRow>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            Ok(connection
                .query_row(
                    &format!("SELECT {REPORT_COLUMNS} FROM reports WHERE user = ?1 ORDER BY id DESC LIMIT 1"),
                    [&user],
                    report_of,
                )
                .optional()?)
        })
        .await
    }

    /// The mailboxes that we wrote to the target.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn mailboxes(&self, user: &str) -> Result<Vec<MailboxRecord>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, guid, uid_validity, created_at, old_seen, new_seen FROM mailboxes WHERE user = ?1",
            )?;
            let rows = query.query_map([&user], |row| {
                let texts: (String, String) = (row.get(0)?, row.get(1)?);
                Ok((texts, row.get::<_, u32>(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })?;
            rows.map(|row| {
                let ((name, guid), uid_validity, created_at, old_seen, new_seen) = row?;
                Ok(MailboxRecord {
                    name: stored_name(&name)?,
                    guid: Guid::from_hex(&guid).ok_or(StoreError::Unreadable { what: "guid", value: guid })?,
                    uid_validity: UidValidity(uid_validity),
                    created_at,
                    old_seen,
                    new_seen,
                })
            })
            .collect()
        })
        .await
    }

    /// Writes mailboxes' records, all in one transaction.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn put_mailboxes(&self, user: &str, mailboxes: Vec<MailboxRecord>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for mailbox in &mailboxes {
                transaction.execute(
                    "INSERT OR REPLACE INTO mailboxes (user, name, guid, uid_validity, created_at, old_seen, new_seen)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        user,
                        name_text(&mailbox.name),
                        mailbox.guid.to_string(),
                        mailbox.uid_validity.0,
                        mailbox.created_at,
                        mailbox.old_seen,
                        mailbox.new_seen
                    ],
                )?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Forgets what the old side of these mailboxes looked like when both sides were last found equal.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn forget_seen(&self, user: &str, names: Vec<MailboxName>) -> Result<(), StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for name in &names {
                transaction.execute(
                    "UPDATE mailboxes SET old_seen = NULL WHERE user = ?1 AND name = ?2",
                    params![user, name_text(name)],
                )?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Forgets a mailbox that is gone from the target.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn delete_mailbox(&self, user: &str, name: &MailboxName) -> Result<(), StoreError> {
        let (user, name) = (user.to_owned(), name_text(name));
        self.run(move |connection| {
            connection.execute("DELETE FROM mailboxes WHERE user = ?1 AND name = ?2", params![user, name])?;
            Ok(())
        })
        .await
    }
}

fn prepare(connection: &mut Connection, path: &str) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(SCHEMA.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for sql in SCHEMA.iter().skip(usize::try_from(found).unwrap_or_default()) {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Open {
            path: path.to_owned(),
            message: format!("damaged ({verdict}): restore it from a backup"),
        })
    }
}

fn read_user(connection: &Connection, user: &str) -> Result<Option<UserRecord>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users WHERE user = ?1"))?
        .query_row([user], |row| Ok(user_of(row)))
        .optional()?
        .transpose()
}

fn user_of(row: &Row<'_>) -> Result<UserRecord, StoreError> {
    Ok(UserRecord {
        user: row.get(0)?,
        login_name: row.get(1)?,
        phase: row.get::<_, String>(2)?.parse()?,
        authority: side(&row.get::<_, String>(3)?)?,
        epoch: unsigned(row.get(4)?),
        reason: row.get(5)?,
        progress: Progress {
            mailboxes: unsigned(row.get(6)?),
            messages_total: unsigned(row.get(7)?),
            messages_done: unsigned(row.get(8)?),
            bytes_done: unsigned(row.get(9)?),
        },
        clean_at: row.get(10)?,
        switched_at: row.get(11)?,
    })
}

/// Reads [`REPORT_COLUMNS`], if they are the first ones of the row.
pub(super) fn report_of(row: &Row<'_>) -> rusqlite::Result<ReportRow> {
    Ok(ReportRow {
        at: row.get(0)?,
        identical: row.get(1)?,
        differences: unsigned(row.get(2)?),
        altered: unsigned(row.get(3)?),
        notes: unsigned(row.get(4)?),
        json: row.get(5)?,
    })
}

fn insert_report(connection: &Connection, user: &str, report: &ReportRow) -> Result<i64, StoreError> {
    connection.execute(
        "INSERT INTO reports (user, at, identical, differences, altered, notes, json)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            user,
            report.at,
            report.identical,
            signed(report.differences),
            signed(report.altered),
            signed(report.notes),
            report.json
        ],
    )?;
    let id = connection.last_insert_rowid();
    // A user who is verified again and again keeps the newest reports, and those that the history names.
    connection.execute(
        "DELETE FROM reports WHERE user = ?1 AND id NOT IN (SELECT report FROM history WHERE user = ?1 AND report > 0)
         AND id NOT IN (SELECT id FROM reports WHERE user = ?1 ORDER BY id DESC LIMIT ?2)",
        params![user, REPORTS_KEPT],
    )?;
    Ok(id)
}

pub(super) fn side(word: &str) -> Result<Side, StoreError> {
    match word {
        "old" => Ok(Side::Old),
        "new" => Ok(Side::New),
        other => Err(StoreError::Unreadable { what: "side", value: other.to_owned() }),
    }
}

pub(super) fn name_text(name: &MailboxName) -> String {
    serde_json::Value::from(name.parts().to_vec()).to_string()
}

pub(super) fn stored_name(text: &str) -> Result<MailboxName, StoreError> {
    serde_json::from_str(text)
        .ok()
        .and_then(|parts| MailboxName::from_parts(parts).ok())
        .ok_or_else(|| StoreError::Unreadable { what: "mailbox name", value: text.to_owned() })
}

// SQLite has signed 64-bit integers only; our counters never come near the limit, so saturate rather than fail.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn flip<'a>(from: Phase, epoch: u64, report: Option<&'a ReportRow>) -> Transition<'a> {
        Transition {
            user: "u1",
            from,
            from_epoch: epoch,
            to: Phase::New,
            authority: Side::New,
            epoch: epoch + 1,
            reason: None,
            cause: "test",
            leased_to: None,
            report,
            fences: None,
        }
    }

    #[tokio::test]
    async fn a_transition_is_all_or_nothing() {
        let folder = folder();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "U1").await.unwrap();
        let report = ReportRow { at: 1, identical: true, differences: 0, altered: 2, notes: 3, json: "{}".to_owned() };
        let stale = store.transition(flip(Phase::Switching, 0, Some(&report))).await;
        assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
        assert_eq!(store.last_report("u1").await.unwrap(), None, "a refused transition must not leave its report");
        assert!(store.history("u1").await.unwrap().is_empty());

        store.transition(flip(Phase::Old, 0, Some(&report))).await.unwrap();
        let record = store.user("u1").await.unwrap().unwrap();
        assert_eq!((record.authority, record.epoch, record.phase), (Side::New, 1, Phase::New));
        assert!(record.switched_at.is_some());
        assert_eq!(record.login_name, "U1");
        assert_eq!(store.last_report("u1").await.unwrap(), Some(report));
        assert_eq!(store.history("u1").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn records_survive_closing_and_mailbox_names_keep_every_part() {
        let folder = folder();
        let path = folder.path().join("s.db");
        let name = MailboxName::from_parts(vec!["a/b".to_owned(), "\"ü\"".to_owned()]).unwrap();
        let mailbox = MailboxRecord {
            name: name.clone(),
            guid: Guid([7; 16]),
            uid_validity: UidValidity(u32::MAX),
            created_at: 5,
            old_seen: Some("x".to_owned()),
            new_seen: None,
        };
        {
            let store = Store::open(&path).unwrap();
            store.user_or_new("u1", "u1").await.unwrap();
            store.put_mailboxes("u1", vec![mailbox.clone()]).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.mailboxes("u1").await.unwrap(), vec![mailbox]);
        store.delete_mailbox("u1", &name).await.unwrap();
        assert!(store.mailboxes("u1").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_transition_under_a_lease_needs_that_lease() {
        let folder = folder();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "u1").await.unwrap();
        store.take_lease("u1", "somebody else", 60, |_| false).await.unwrap();
        let under = |owner| Transition { leased_to: Some(owner), ..flip(Phase::Old, 0, None) };
        assert!(matches!(store.transition(under("us")).await, Err(StoreError::Stale { .. })));
        store.transition(under("somebody else")).await.unwrap();
    }

    #[tokio::test]
    async fn slow_pauses_are_counted_until_the_user_moves_anew() {
        let folder = folder();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "u1").await.unwrap();
        assert_eq!(store.count_slow_pause("u1").await.unwrap(), 1);
        let stay = |from, to| Transition { to, authority: Side::Old, epoch: 0, ..flip(from, 0, None) };
        store.transition(stay(Phase::Old, Phase::Following)).await.unwrap();
        assert_eq!(store.count_slow_pause("u1").await.unwrap(), 2);
        store.transition(stay(Phase::Following, Phase::Copying)).await.unwrap();
        assert_eq!(store.count_slow_pause("u1").await.unwrap(), 1);
        assert_eq!(store.user("u1").await.unwrap().unwrap().switched_at, None);
    }

    #[tokio::test]
    async fn old_reports_go_and_the_one_of_the_switch_stays() {
        let folder = folder();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        store.user_or_new("u1", "u1").await.unwrap();
        let report =
            |at| ReportRow { at, identical: true, differences: 0, altered: 0, notes: 0, json: "{}".to_owned() };
        store.transition(flip(Phase::Old, 0, Some(&report(1)))).await.unwrap();
        for at in 2..100 {
            store.add_report("u1", &report(at)).await.unwrap();
        }
        assert_eq!(store.last_report("u1").await.unwrap(), Some(report(99)));
        let kept = store
            .run(|connection| {
                Ok(connection
                    .query_row("SELECT count(*), min(at) FROM reports", [], |row| Ok((row.get(0)?, row.get(1)?)))?)
            })
            .await
            .unwrap();
        assert_eq!(kept, (i64::from(REPORTS_KEPT) + 1, 1_i64));
    }

    #[tokio::test]
    async fn lifecycle_records_are_written_with_synchronous_full() {
        let folder = folder();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        let level: i64 = store
            .run(|connection| Ok(connection.pragma_query_value(None, "synchronous", |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(level, 2, "2 is FULL");
    }

    #[test]
    fn a_store_that_is_none_or_too_new_is_refused_with_the_way_out() {
        let folder = folder();
        let junk = folder.path().join("junk.db");
        std::fs::write(&junk, vec![b'x'; 8192]).unwrap();
        let error = Store::open(&junk).unwrap_err().to_string();
        assert!(error.contains("junk.db") && error.contains("backup"), "{error}");

        let newer = folder.path().join("newer.db");
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Store::open(&newer).unwrap_err().to_string();
        assert!(error.contains("newer mailferry"), "{error}");
    }
}
