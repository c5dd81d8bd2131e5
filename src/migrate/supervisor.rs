//! Starts, finds and ends the workers of users; answers what the operator asks about them.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, error, info};

use super::gate::advance;
pub use super::worker::SwitchOutcome;
use super::worker::{Message, Worker, recover};
use super::{Job, Platform, ProgressMeter, Stop};
use crate::config::Enroll;
use crate::mailbox::Side;
use crate::source::Login;
use crate::store::{Phase, Progress, StoreError, UserRecord};
use crate::user::{CanonicalUser, Event, Life, LoginSucceeded, Registry};

/// All moves of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    platform: Platform,
    registry: Registry,
    workers: Arc<DashMap<CanonicalUser, Handle>>,
    permits: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
struct Handle {
    messages: mpsc::UnboundedSender<Message>,
    progress: ProgressMeter,
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

    /// Puts right what the last process left: gates that were closed, users whose password is lost.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn recover(&self) -> Result<(), Stop> {
        for record in self.platform.store.users_at_work().await? {
            recover(&self.platform, &record).await?;
        }
        Ok(())
    }

    /// Takes note of a login that the old side accepted: starts the move of an enrolled user, or gives the password to
    /// the worker of one who moves already.
    pub async fn logged_in(&self, login: LoginSucceeded) {
        // A master login never starts a move, and its password is not the user's.
        if login.login.master || login.side != Side::Old {
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
        if record.as_ref().is_none_or(|record| record.phase == Phase::Old) {
            if self.platform.config.migration.enroll == Enroll::None {
                return Ok(());
            }
            record = Some(self.start(&login).await?);
        }
        let Some(record) = record.filter(|record| at_work(record.phase)) else { return Ok(()) };
        let message = Message::Login(Login { name: login.login.typed.clone(), password: Arc::clone(&login.password) });
        self.tell(&record, message).await
    }

    /// The durable start of a move. Two logins at once may both come here: one of them writes, both go on.
    async fn start(&self, login: &LoginSucceeded) -> Result<UserRecord, Stop> {
        let user = &login.login.user;
        let record = self.platform.store.user_or_new(user.as_str(), &login.login.typed).await?;
        if record.phase == Phase::Old {
            let job = Job {
                user: user.clone(),
                login: Login { name: record.login_name.clone(), password: Arc::clone(&login.password) },
                progress: ProgressMeter::default(),
            };
            match advance(&self.platform, &job, &Life::of(&record), &Event::EnrolledLogin, None).await {
                Ok(_) | Err(Stop::Store(StoreError::Stale { .. })) => {}
                Err(stop) => return Err(stop),
            }
        }
        let record = self.platform.store.user(user.as_str()).await?;
        record.ok_or_else(|| Stop::Later("the record of the user is gone".to_owned()))
    }

    /// Gives a message to the user's worker; there is one, or there is afterwards.
    async fn tell(&self, record: &UserRecord, mut message: Message) -> Result<(), Stop> {
        let user = CanonicalUser::from_stored(record.user.clone());
        loop {
            let (sender, receiver) = mpsc::unbounded_channel();
            let fresh = Handle { messages: sender, progress: ProgressMeter::default() };
            let (handle, receiver) = match self.workers.entry(user.clone()) {
                Entry::Occupied(known) => (known.get().clone(), None),
                Entry::Vacant(place) => (place.insert(fresh).clone(), Some(receiver)),
            };
            if let Some(receiver) = receiver {
                self.spawn(record, &handle, receiver).await?;
            }
            match handle.messages.send(message) {
                Ok(()) => return Ok(()),
                // It ended between our look and our word.
                Err(mpsc::error::SendError(back)) => {
                    self.forget(&user, &handle);
                    message = back;
                }
            }
        }
    }

    async fn spawn(
        &self,
        record: &UserRecord,
        handle: &Handle,
        receiver: mpsc::UnboundedReceiver<Message>,
    ) -> Result<(), Stop> {
        let user = CanonicalUser::from_stored(record.user.clone());
        let shared = (handle.progress.clone(), Arc::clone(&self.permits));
        let worker = match Worker::new(self.platform.clone(), &self.registry, record, shared, receiver).await {
            Ok(worker) => worker,
            Err(stop) => {
                self.forget(&user, handle);
                return Err(stop);
            }
        };
        let (supervisor, handle) = (self.clone(), handle.clone());
        tokio::spawn(async move {
            // A panic in a parser must not leave the user without a worker for ever.
            if let Err(panic) = tokio::spawn(worker.run()).await {
                error!(%user, "the work on this user ended by itself: {panic}");
            }
            supervisor.forget(&user, &handle);
            debug!(%user, "no more work");
        });
        Ok(())
    }

    fn forget(&self, user: &CanonicalUser, handle: &Handle) {
        self.workers.remove_if(user, |_, known| known.messages.same_channel(&handle.messages));
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
            let job = Job {
                user: user.clone(),
                login: Login { name: record.login_name.clone(), password: Arc::new(Vec::new().into()) },
                progress: ProgressMeter::default(),
            };
            advance(&self.platform, &job, &Life::of(&record), &Event::Resumed, None).await?;
            record.phase = Phase::Copying;
        }
        match record.phase {
            Phase::Copying | Phase::Following | Phase::Switching => {
                self.tell(&record, Message::Switch(reply)).await?;
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
        self.workers.get(user).map(|handle| handle.progress.read())
    }
}

const fn at_work(phase: Phase) -> bool {
    matches!(phase, Phase::Copying | Phase::Following | Phase::Switching)
}
