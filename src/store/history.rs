//! What happened to each user: one line for every transition, written with it in one transaction.

use super::model::{HistoryEntry, StoreError};
use super::sqlite::{REPORT_COLUMNS, Store, report_of, side, unsigned};

/// Transitions shown of one user, the newest ones: a user who can't be switched makes two more with every attempt.
const SHOWN_MAX: u32 = 1000;

impl Store {
    /// A user's history, oldest first; at most the last thousand transitions.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn history(&self, user: &str) -> Result<Vec<HistoryEntry>, StoreError> {
        let user = user.to_owned();
        self.run(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {REPORT_COLUMNS}, history.at, from_phase, to_phase, authority, epoch, cause, reason, reports.id
                 FROM history LEFT JOIN reports ON reports.id = history.report
                 WHERE history.user = ?1 ORDER BY history.id DESC LIMIT ?2"
            ))?;
            let rows = query.query_map(rusqlite::params![user, SHOWN_MAX], |row| {
                let report = row.get::<_, Option<i64>>(13)?.map(|_| report_of(row)).transpose()?;
                let texts: (String, String, String) = (row.get(7)?, row.get(8)?, row.get(9)?);
                Ok((row.get(6)?, texts, row.get::<_, i64>(10)?, row.get(11)?, row.get(12)?, report))
            })?;
            let mut entries = rows
                .map(|row| {
                    let (at, (from, to, authority), epoch, cause, reason, report) = row?;
                    Ok(HistoryEntry {
                        at,
                        from: from.parse()?,
                        to: to.parse()?,
                        authority: side(&authority)?,
                        epoch: unsigned(epoch),
                        cause,
                        reason,
                        report,
                    })
                })
                .collect::<Result<Vec<_>, StoreError>>()?;
            entries.reverse();
            Ok(entries)
        })
        .await
    }
}
