//! Starts, finds and ends the workers of users; answers what the operator asks about them.

mod go_on;

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, error, info};

use super::gate::advance;
pub use super::worker::SwitchOutcome;
use super::worker::{Ear, Worker, recover};
use super::{Platform, Stop, need_no_password};
use crate::config::Enroll;
use crate::mailbox::Side;
use crate::source::Login;
use crate::store::{Phase, Progress, StoreError, UserRecord, now};
use crate::user::{CanonicalUser, Event, Life, LoginSucceeded, Registry};

/// All moves of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    platform: Platform,
    registry: Registry,
    workers: Arc<DashMap<CanonicalUser, Ear>>,
    permits: Arc<Semaphore>,
}

impl Supervisor {
    /// A supervisor without workers.
    #[must_use]
    pub fn new(platform: Platform, registry: Registry) -> Self {
        let permits = Arc::new(Semaphore::new(platform.config.migration.parallel));
        Self { platform, registry, workers: Arc::default(), permits }
    }

    /// What every piece of work needs.
    #[must_use]
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Puts right what the last process left: gates that were closed, users whose password is lost. Where no password is
    /// needed the work goes on by itself.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn recover(&self) -> Result<(), Stop> {
        for record in self.platform.store.users_at_work().await? {
            recover(&self.platform, &record).await?;
        }
        if need_no_password(&self.platform.config) {
            tokio::spawn(self.clone().go_on());
        }
        Ok(())
    }

    /// Takes note of a login that a side accepted: starts the move of an enrolled user, or gives the password to
    /// the worker of one who moves already, or who was moved and is watched for late arrivals.
    pub async fn logged_in(&self, login: LoginSucceeded) {
        // A master login never starts a move, and its password is not the user's.
        if login.login.master {
            return;
        }
        let user = login.login.user.clone();
        if let Err(stop) = self.take_login(login).await {
            error!(%user, "the move can't start or go on: {stop}");
        }
    }

    async fn take_login(&self, login: LoginSucceeded) -> Result<(), Stop> {
        let user = &login.login.user;
        let mut record = self.platform.store.user(user.as_str()).await?;
        if login.side == Side::Old && record.as_ref().is_none_or(|record| record.phase == Phase::Old) {
            if self.platform.config.migration.enroll == Enroll::None {
                return Ok(());
            }
            record = Some(self.start(&login).await?);
        }
        let Some(record) = record.filter(|record| self.at_work(record)) else { return Ok(()) };
        let newest = Login { name: login.login.typed.clone(), password: Some(Arc::clone(&login.password)) };
        loop {
            let ear = self.worker(&record).await?;
            ear.login.send_replace(Some(newest.clone()));
            if !ear.switches.is_closed() {
                return Ok(());
            }
            // It ended between our look and our word.
            self.forget(user, &ear);
        }
    }

    /// The durable start of a move. Two logins at once may both come here: one of them writes, both go on.
    async fn start(&self, login: &LoginSucceeded) -> Result<UserRecord, Stop> {
        let user = &login.login.user;
        let record = self.platform.store.user_or_new(user.as_str(), &login.login.typed).await?;
        if record.phase == Phase::Old {
            match advance(&self.platform, user, &Life::of(&record), &Event::EnrolledLogin, None).await {
                Ok(_) | Err(Stop::Store(StoreError::Stale { .. })) => {}
                Err(stop) => return Err(stop),
            }
        }
        let record = self.platform.store.user(user.as_str()).await?;
        record.ok_or_else(|| Stop::Later("the record of the user is gone".to_owned()))
    }

    /// The ear of the user's worker; there is one, or there is afterwards.
    async fn worker(&self, record: &UserRecord) -> Result<Ear, Stop> {
        let user = CanonicalUser::from_stored(record.user.clone());
        let (fresh, switches) = Ear::new();
        match self.workers.entry(user.clone()) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(place) => drop(place.insert(fresh.clone())),
        }
        let permits = Arc::clone(&self.permits);
        let worker = Worker::new(self.platform.clone(), &self.registry, record, permits, (&fresh, switches)).await;
        let worker = match worker {
            Ok(worker) => worker,
            Err(stop) => {
                self.forget(&user, &fresh);
                return Err(stop);
            }
        };
        let (supervisor, ear) = (self.clone(), fresh.clone());
        tokio::spawn(async move {
            // A panic in a parser must not leave the user without a worker for ever.
            if let Err(panic) = tokio::spawn(worker.run()).await {
                error!(%user, "the work on this user ended by itself: {panic}");
            }
            supervisor.forget(&user, &ear);
            debug!(%user, "no more work");
        });
        Ok(fresh)
    }

    fn forget(&self, user: &CanonicalUser, ear: &Ear) {
        self.workers.remove_if(user, |_, known| known.switches.same_channel(&ear.switches));
    }

    /// Switches a user now, if it can be done. A held user moves on.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn switch(&self, user: &CanonicalUser) -> Result<oneshot::Receiver<SwitchOutcome>, Stop> {
        let (reply, outcome) = oneshot::channel();
        let Some(mut record) = self.platform.store.user(user.as_str()).await? else {
            let _ = reply.send(SwitchOutcome::Refused(format!("{user} is not enrolled or has not logged in yet")));
            return Ok(outcome);
        };
        if record.phase == Phase::Held {
            info!(%user, "resumed by the operator");
            advance(&self.platform, user, &Life::of(&record), &Event::Resumed, None).await?;
            record.phase = Phase::Copying;
        }
        match record.phase {
            Phase::Copying | Phase::Following | Phase::Switching => {
                let ear = self.worker(&record).await?;
                if let Err(TrySendError::Full(reply) | TrySendError::Closed(reply)) = ear.switches.try_send(reply) {
                    let busy = "the work on this user is just ending, or too many switches wait for it".to_owned();
                    drop(reply.send(SwitchOutcome::TryAgain(busy)));
                }
            }
            Phase::New => drop(reply.send(SwitchOutcome::Switched(record.epoch))),
            Phase::Old | Phase::Held => {
                drop(reply.send(SwitchOutcome::Refused(format!("{user} is not being moved"))));
            }
        }
        Ok(outcome)
    }

    /// How far the work on a user has come, if there is any in this process.
    #[must_use]
    pub fn progress(&self, user: &CanonicalUser) -> Option<Progress> {
        self.workers.get(user).map(|ear| ear.progress.read())
    }

    fn at_work(&self, record: &UserRecord) -> bool {
        match record.phase {
            Phase::Copying | Phase::Following | Phase::Switching => true,
            Phase::New => {
                let window = self.platform.config.switch.rollback_window.as_secs();
                let since = record.switched_at.and_then(|at| u64::try_from(now() - at).ok());
                since.is_some_and(|since| since < window)
            }
            Phase::Old | Phase::Held => false,
        }
    }
}
