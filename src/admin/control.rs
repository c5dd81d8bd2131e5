//! What the API asks, answered by the supervisor of the moves.

use super::http::{Control, ControlError};
use super::model::{StatusAll, SwitchOutcome, UserStatus};
use crate::migrate::{Stop, Supervisor, SwitchOutcome as Outcome};
use crate::store::{StoreError, UserRecord, now};
use crate::user::{CanonicalUser, NameRules};

fn failed(error: &dyn std::fmt::Display) -> ControlError {
    ControlError::Failed(error.to_string())
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

/// The supervisor and how operators' spellings of names are read.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    pub(super) supervisor: Supervisor,
    pub(super) names: NameRules,
}

impl Moves {
    async fn described(&self, record: &UserRecord) -> Result<UserStatus, ControlError> {
        let report = self.supervisor.platform().store.last_report(&record.user).await?;
        let late = self.supervisor.platform().store.late_counts(&record.user).await?;
        let mut status = UserStatus::of(record, report.as_ref(), late, now());
        if let Some(progress) = self.supervisor.progress(&CanonicalUser::from_stored(record.user.clone())) {
            status.progress = progress;
        }
        Ok(status)
    }
}

impl Control for Moves {
    async fn status_all(&self) -> Result<StatusAll, ControlError> {
        let (records, counts) = self.supervisor.platform().store.users(None).await?;
        let mut users = Vec::with_capacity(records.len());
        for record in &records {
            users.push(self.described(record).await?);
        }
        Ok(StatusAll::new(counts, users))
    }

    async fn status(&self, user: &str) -> Result<UserStatus, ControlError> {
        let user = self.names.canonical(user);
        match self.supervisor.platform().store.user(user.as_str()).await? {
            Some(record) => self.described(&record).await,
            None => Ok(UserStatus::without_record(user.as_str())),
        }
    }

    async fn switch(&self, user: &str, wait: bool) -> Result<SwitchOutcome, ControlError> {
        let outcome = self.supervisor.switch(&self.names.canonical(user)).await?;
        if !wait {
            return Ok(SwitchOutcome::Started);
        }
        Ok(match outcome.await {
            Ok(Outcome::Switched(epoch)) => SwitchOutcome::Switched { epoch },
            Ok(Outcome::Refused(reason)) => SwitchOutcome::Refused { reason },
            Ok(Outcome::TryAgain(reason)) => SwitchOutcome::TryAgain { reason },
            Err(_) => SwitchOutcome::TryAgain { reason: "the work on this user ended meanwhile".to_owned() },
        })
    }
}
