//! Starts, finds and ends the workers of users; answers what the operator asks about them.

mod go_on;

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, error};

use super::credentials::{need_no_password, without_password};
use super::enrolled::is_enrolled;
use super::gate::advance;
use super::worker::{Asked, Ear, Worker, recover};
pub use super::worker::{Order, Outcome};
use super::{Platform, Stop};
use crate::config::Config;
use crate::mailbox::Side;
use crate::source::Login;
use crate::store::{Phase, Progress, Scope, Store, StoreError, UserRecord, Verdict, now};
use crate::user::{CanonicalUser, Event, Life, LoginSucceeded, Realms, Registry};

/// All moves of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    platforms: Realms<Platform>,
    config: Arc<Config>,
    store: Store,
    registry: Registry,
    workers: Arc<DashMap<CanonicalUser, Ear>>,
    permits: Arc<Semaphore>,
}

impl Supervisor {
    /// A supervisor without workers.
    #[must_use]
    pub fn new(platforms: Realms<Platform>, registry: Registry) -> Self {
        let Platform { config, store, .. } = platforms.rest();
        let (config, store) = (Arc::clone(config), store.clone());
        let permits = Arc::new(Semaphore::new(config.migration.parallel));
        Self { platforms, config, store, registry, workers: Arc::default(), permits }
    }

    /// The records.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Puts right what the last process left: gates that were closed, users whose password is lost. Where no password is
    /// needed the work goes on by itself.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn recover(&self) -> Result<(), Stop> {
        for record in self.store.users_at_work().await? {
            recover(self.platforms.of(&CanonicalUser::from_stored(record.user.clone())), &record).await?;
        }
        if self.platforms.iter().any(|platform| need_no_password(&platform.config)) {
            tokio::spawn(self.clone().go_on());
        }
        self.settle_overdue().await
    }

    /// Settles users whose rollback window is over. (Those who have a worker are settled by it.)
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn settle_overdue(&self) -> Result<(), Stop> {
        let window = i64::try_from(self.config.switch.rollback_window.as_secs()).unwrap_or(i64::MAX);
        for record in self.store.users_overdue(now().saturating_sub(window)).await? {
            let user = CanonicalUser::from_stored(record.user.clone());
            if !self.workers.contains_key(&user) {
                let _ = advance(self.platforms.of(&user), &user, &Life::of(&record), &Event::WindowOver, None).await;
            }
        }
        Ok(())
    }

    /// Takes note of a login that a side accepted: starts the move of an enrolled user, or gives the password to
    /// the worker of one who moves already, or who was moved and is watched for late arrivals.
    pub async fn logged_in(&self, login: LoginSucceeded) {
        // A master login never starts a move, and its password is not the user's.
        let platform = self.platforms.of(&login.login.user);
        if login.login.master || login.password.as_ref().is_some_and(|password| platform.is_master_password(password)) {
            return;
        }
        let user = login.login.user.clone();
        if let Err(stop) = self.take_login(login).await {
            error!(%user, "the move can't start or go on: {stop}");
        }
    }

    async fn take_login(&self, login: LoginSucceeded) -> Result<(), Stop> {
        let user = &login.login.user;
        if login.password.is_none() && !need_no_password(&self.platforms.of(user).config) {
            // A token is nothing that a copy could log in with.
            return Ok(());
        }
        let mut record = self.store.user(user.as_str()).await?;
        if login.side == Side::Old && record.as_ref().is_none_or(|record| record.phase == Phase::Old) {
            if !is_enrolled(self.platforms.of(user), user).await?.0 {
                return Ok(());
            }
            record = Some(self.start(&login).await?);
        }
        let Some(record) = record.filter(|record| self.at_work(record)) else { return Ok(()) };
        let name = match record.login_name.as_str() {
            "" => self.store.name_login(user.as_str(), &login.login.typed).await?,
            name => name.to_owned(),
        };
        let newest = login.password.clone().map(|password| Login { name, password: Some(password) });
        loop {
            let ear = self.worker(&record).await?;
            // (Without one the worker goes on with what it has.)
            if let Some(newest) = &newest {
                ear.login.send_replace(Some(newest.clone()));
            }
            if !ear.orders.is_closed() {
                return Ok(());
            }
            // It ended between our look and our word.
            self.forget(user, &ear);
        }
    }

    /// The durable start of a move. Two logins at once may both come here: one of them writes, both go on.
    async fn start(&self, login: &LoginSucceeded) -> Result<UserRecord, Stop> {
        let user = &login.login.user;
        let record = self.store.user_or_new(user.as_str(), &login.login.typed).await?;
        if record.phase == Phase::Old {
            match advance(self.platforms.of(user), user, &Life::of(&record), &Event::EnrolledLogin, None).await {
                Ok(_) | Err(Stop::Store(StoreError::Stale { .. })) => {}
                Err(stop) => return Err(stop),
            }
        }
        let record = self.store.user(user.as_str()).await?;
        record.ok_or_else(|| Stop::Later("the record of the user is gone".to_owned()))
    }

    /// The ear of the user's worker; there is one, or there is afterwards.
    async fn worker(&self, record: &UserRecord) -> Result<Ear, Stop> {
        let user = CanonicalUser::from_stored(record.user.clone());
        // (Held until the worker has it.)
        let gate = self.registry.gate(&user).await?;
        let (fresh, orders) = Ear::new([self.registry.crowd().clone(), gate.crowd().clone()]);
        match self.workers.entry(user.clone()) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(place) => drop(place.insert(fresh.clone())),
        }
        let permits = Arc::clone(&self.permits);
        let worker =
            Worker::new(self.platforms.of(&user).clone(), &self.registry, record, permits, (&fresh, orders)).await;
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
        self.workers.remove_if(user, |_, known| known.orders.same_channel(&ear.orders));
    }

    /// Makes or takes back a rule about users who have not begun to move.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn rule(&self, order: &Order, scope: Scope) -> Result<Outcome, StoreError> {
        let store = &self.store;
        let done = |text: String| Ok(Outcome::Done(text));
        match order {
            Order::Enroll => {
                store.set_rule(Verdict::Enroll, scope.clone()).await?;
                done(format!("enrolled: {scope}"))
            }
            Order::Hold { .. } => {
                store.set_rule(Verdict::Hold, scope.clone()).await?;
                done(format!("held before they begin: {scope}"))
            }
            Order::Resume => {
                let known = store.drop_rule(Verdict::Hold, scope.clone()).await?;
                done(if known { format!("no longer held before they begin: {scope}") } else { String::new() })
            }
            Order::Switch | Order::Rollback { .. } | Order::Settle => done(String::new()),
        }
    }

    /// Carries out what an operator wants of a user; `typed` is how they wrote the name.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn order(&self, user: &CanonicalUser, order: Order) -> Result<oneshot::Receiver<Outcome>, Stop> {
        let (reply, outcome) = oneshot::channel();
        let record = self.store.user(user.as_str()).await?;
        let phase = record.as_ref().map_or(Phase::Old, |record| record.phase);
        let reason = record.as_ref().and_then(|record| record.reason.clone()).unwrap_or_default();
        let answer = match (&order, phase, record) {
            (Order::Enroll, Phase::Old, _) => {
                self.rule(&order, Scope::User(user.as_str().to_owned())).await?;
                Outcome::Done("enrolled: the next login starts the move".to_owned())
            }
            (Order::Enroll, Phase::Held, _) => {
                Outcome::Refused(format!("held ({reason}); `mailferry resume` lets them move on"))
            }
            (Order::Enroll, phase, _) => Outcome::Done(format!("is {phase} already")),
            (Order::Hold { by }, Phase::Old, _) => {
                // The name by which the sides know them is not known before a login.
                let record = self.store.user_or_new(user.as_str(), "").await?;
                let event = Event::HeldBack { reason: format!("held by {by}") };
                advance(self.platforms.of(user), user, &Life::of(&record), &event, None).await?;
                Outcome::Done("held".to_owned())
            }
            (Order::Hold { .. }, Phase::Held, _) => Outcome::Done(format!("is held already: {reason}")),
            (Order::Hold { .. }, Phase::New | Phase::Returning | Phase::Settled, _) => {
                Outcome::Refused("is on the new side already; see `mailferry rollback`".to_owned())
            }
            (Order::Resume, Phase::Held, Some(record)) => {
                let life = advance(self.platforms.of(user), user, &Life::of(&record), &Event::Resumed, None).await?;
                // A worker that needs no password goes on at once.
                let alone = without_password(self.platforms.of(user), &record.login_name).is_some();
                self.worker(&UserRecord { phase: life.phase, reason: None, ..record }).await?;
                let goes_on = alone && matches!(life.phase, Phase::Copying | Phase::Following);
                Outcome::Done(if goes_on { "moves on" } else { "moves on at the next login" }.to_owned())
            }
            (Order::Resume, phase, _) => Outcome::Refused(format!("is not held, but {phase}")),
            (Order::Switch, Phase::Old, _) => {
                Outcome::Refused("is not enrolled, or has not logged in since".to_owned())
            }
            (Order::Switch, Phase::Held, _) => {
                Outcome::Refused(format!("held ({reason}); `mailferry resume` lets them move on"))
            }
            (Order::Switch, Phase::New | Phase::Settled, Some(record)) => Outcome::Switched(record.epoch),
            (
                Order::Rollback { .. },
                Phase::Old | Phase::Copying | Phase::Following | Phase::Switching | Phase::Held,
                _,
            ) => Outcome::Refused(format!("is on the old side ({phase})")),
            (Order::Rollback { .. }, Phase::Settled, _) => {
                Outcome::Refused("is settled on the new side: there is no way back".to_owned())
            }
            (Order::Settle, Phase::Settled, _) => Outcome::Done("is settled already".to_owned()),
            (Order::Settle, phase, _) if phase != Phase::New => {
                Outcome::Refused(format!("is not on the new side to stay ({phase})"))
            }
            (_, _, Some(record)) => {
                self.tell(&record, Asked { order, reply }).await?;
                return Ok(outcome);
            }
            (_, _, None) => Outcome::Refused("is not known".to_owned()),
        };
        let _ = reply.send(answer);
        Ok(outcome)
    }

    /// Gives an order to the user's worker.
    async fn tell(&self, record: &UserRecord, asked: Asked) -> Result<(), Stop> {
        let ear = self.worker(record).await?;
        let urgent = matches!(asked.order, Order::Hold { .. } | Order::Settle | Order::Rollback { .. });
        if urgent {
            ear.halt.ask();
        }
        if let Err(TrySendError::Full(asked) | TrySendError::Closed(asked)) = ear.orders.try_send(asked) {
            ear.halt.heard();
            let busy = "the work on this user is just ending, or too many orders wait for it".to_owned();
            let _ = asked.reply.send(Outcome::TryAgain(busy));
        }
        Ok(())
    }

    /// How far the work on a user has come, if there is any in this process.
    #[must_use]
    pub fn progress(&self, user: &CanonicalUser) -> Option<Progress> {
        self.workers.get(user).map(|ear| ear.progress.read())
    }

    fn at_work(&self, record: &UserRecord) -> bool {
        match record.phase {
            Phase::Copying | Phase::Following | Phase::Switching | Phase::Returning => true,
            Phase::New => {
                let window = self.config.switch.rollback_window.as_secs();
                // A clock that was set back since then makes it now.
                let since = record.switched_at.map(|at| u64::try_from(now() - at).unwrap_or_default());
                since.is_some_and(|since| since < window)
            }
            Phase::Old | Phase::Held | Phase::Settled => false,
        }
    }
}
