//! What the API asks, answered by the supervisor of the moves.

use serde::Deserialize;

use super::http::{Control, ControlError};
use super::model::{LeftOut, MarkStatus, Outcome, Page, StatusAll, Transition, UserStatus};
use crate::migrate::{self, Order, Stop, Supervisor};
use crate::store::{Scope, StoreError, UserRecord, now};
use crate::user::{CanonicalUser, NameRules};

/// Users in one page: some 50 KB of JSON.
const PAGE: usize = 1000;

fn failed(error: &dyn std::fmt::Display) -> ControlError {
    ControlError::Failed(error.to_string())
}

impl From<migrate::Outcome> for Outcome {
    fn from(outcome: migrate::Outcome) -> Self {
        match outcome {
            migrate::Outcome::Switched(epoch) => Self::Switched { epoch },
            migrate::Outcome::RolledBack(epoch) => Self::RolledBack { epoch },
            migrate::Outcome::Done(what) => Self::Done { what },
            migrate::Outcome::Refused(reason) => Self::Refused { reason },
            migrate::Outcome::TryAgain(reason) => Self::TryAgain { reason },
        }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        failed(&error)
    }
}

impl From<Stop> for ControlError {
    fn from(error: Stop) -> Self {
        failed(&error)
    }
}

/// What a stored report says of POP3.
#[derive(Deserialize)]
struct Pop3Line {
    pop3: String,
}

/// The supervisor and how operators' spellings of names are read.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    pub(super) supervisor: Supervisor,
    pub(super) names: NameRules,
}

impl Moves {
    async fn described(&self, record: &UserRecord) -> Result<UserStatus, ControlError> {
        let report = self.supervisor.store().last_report(&record.user).await?;
        let late = self.supervisor.store().late_counts(&record.user).await?;
        let mut status = UserStatus::of(record, report.as_ref(), late, now());
        status.quarantined = LeftOut::of(&self.supervisor.store().quarantined(&record.user).await?);
        status.shared_with = self.supervisor.store().shared_with(&record.user).await?;
        status.carries = self.supervisor.store().carried(&record.user).await?;
        status.mark = self.supervisor.store().mark(&record.user).await?.as_ref().map(MarkStatus::from);
        if let Some(progress) = self.supervisor.progress(&CanonicalUser::from_stored(record.user.clone())) {
            status.progress = progress;
        }
        Ok(status)
    }
}

impl Control for Moves {
    async fn status_all(&self) -> Result<StatusAll, ControlError> {
        let (records, counts) = self.supervisor.store().users(None).await?;
        let mut users = Vec::with_capacity(records.len());
        for record in &records {
            let mut status = self.described(record).await?;
            status.quarantined.messages.clear();
            users.push(status);
        }
        Ok(StatusAll::new(counts, users))
    }

    async fn status(&self, user: &str) -> Result<UserStatus, ControlError> {
        let user = self.names.canonical(user);
        match self.supervisor.store().user(user.as_str()).await? {
            Some(record) => {
                let mut status = self.described(&record).await?;
                let report = self.supervisor.store().last_report(&record.user).await?;
                if let (Some(summary), Some(row)) = (&mut status.last_report, report) {
                    summary.pop3 = serde_json::from_str::<Pop3Line>(&row.json).ok().map(|report| report.pop3);
                }
                Ok(status)
            }
            None => Ok(UserStatus::without_record(user.as_str())),
        }
    }

    async fn users(&self, scope: Scope, after: Option<String>) -> Result<Page, ControlError> {
        let (mut users, mut after) = (Vec::new(), after);
        loop {
            let (records, _) = self.supervisor.store().users(after.as_deref()).await?;
            let Some(last) = records.last().map(|record| record.user.clone()) else {
                return Ok(Page { users, next: None });
            };
            users.extend(
                records
                    .into_iter()
                    .filter(|record| scope.holds(&record.user))
                    .map(|record| (record.user, record.phase)),
            );
            if users.len() >= PAGE {
                return Ok(Page { users, next: Some(last) });
            }
            after = Some(last);
        }
    }

    async fn history(&self, user: &str) -> Result<Vec<Transition>, ControlError> {
        let user = self.names.canonical(user);
        let store = self.supervisor.store();
        if store.user(user.as_str()).await?.is_none() {
            return Err(ControlError::UnknownUser(user.as_str().to_owned()));
        }
        Ok(store.history(user.as_str()).await?.iter().map(Transition::from).collect())
    }

    async fn rule(&self, order: Order, scope: Scope) -> Result<Outcome, ControlError> {
        Ok(self.supervisor.rule(&order, scope).await?.into())
    }

    async fn order(&self, user: &str, order: Order, wait: bool) -> Result<Outcome, ControlError> {
        let outcome = self.supervisor.order(&self.names.canonical(user), order).await?;
        if !wait {
            return Ok(Outcome::Started);
        }
        Ok(outcome.await.map_or_else(
            |_| Outcome::TryAgain { reason: "the work on this user ended meanwhile".to_owned() },
            Outcome::from,
        ))
    }
}
