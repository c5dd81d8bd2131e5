//! The one task that works on a user: it owns the user's life from the first login to the switch, and does one thing after
//! the other. Logins and the operator's words reach it as messages.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::gate::{Attempt, advance, attempt};
use super::{Job, Platform, ProgressMeter, Readers, Stop, copy, lease};
use crate::source::Login;
use crate::store::{Phase, UserRecord};
use crate::user::{Busy, CanonicalUser, Event, Life, Registry, UserGate};

/// Pause after the first failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(2);

/// Longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

/// Where the outcome of an operator's switch goes.
pub(super) type Reply = oneshot::Sender<SwitchOutcome>;

/// Switches that wait for a worker who is busy: each is an operator who waits too.
const SWITCHES_MAX: usize = 8;

/// How a worker is told things.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    /// The operator wants the switch now.
    pub(super) switches: mpsc::Sender<Reply>,
    /// The user's newest login; an older one that was not taken yet is of no use any more.
    pub(super) login: Arc<watch::Sender<Option<Login>>>,
    /// What the worker shows.
    pub(super) progress: ProgressMeter,
}

impl Ear {
    /// An ear, and the end of it that the worker holds.
    pub(super) fn new() -> (Self, mpsc::Receiver<Reply>) {
        let (switches, receiver) = mpsc::channel(SWITCHES_MAX);
        (Self { switches, login: Arc::new(watch::Sender::new(None)), progress: ProgressMeter::default() }, receiver)
    }
}

/// How an operator's switch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchOutcome {
    /// The authority is the new side, in this epoch.
    Switched(u64),
    /// It can't be done; the reason is for the operator.
    Refused(String),
    /// It can be tried again: sessions are open, a server is down …
    TryAgain(String),
}

/// A user's worker.
#[derive(Debug)]
pub(super) struct Worker {
    platform: Platform,
    user: CanonicalUser,
    gate: UserGate,
    life: Life,
    /// The name the sides are given: the spelling of the login that started the move.
    login_name: String,
    login: Option<Login>,
    progress: ProgressMeter,
    newest: Arc<watch::Sender<Option<Login>>>,
    switches: mpsc::Receiver<Reply>,
    /// Users worked on at once, over all workers.
    permits: Arc<Semaphore>,
    waiting: Option<Reply>,
    backoff: Duration,
    next_try: Instant,
    /// The fingerprint of the password that a server refused last.
    refused: Option<blake3::Hash>,
    /// For fingerprints: worth nothing outside this worker.
    key: [u8; 32],
}

impl Worker {
    /// A worker for the user of `record`.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) async fn new(
        platform: Platform,
        registry: &Registry,
        record: &UserRecord,
        permits: Arc<Semaphore>,
        (ear, switches): (&Ear, mpsc::Receiver<Reply>),
    ) -> Result<Self, Stop> {
        let progress = ear.progress.clone();
        let user = CanonicalUser::from_stored(record.user.clone());
        progress.update(|meter| *meter = record.progress);
        Ok(Self {
            platform,
            gate: registry.gate(&user).await?,
            user,
            life: Life::of(record),
            login_name: record.login_name.clone(),
            login: None,
            progress,
            newest: Arc::clone(&ear.login),
            switches,
            permits,
            waiting: None,
            backoff: BACKOFF_MIN,
            next_try: Instant::now(),
            refused: None,
            key: rand::random(),
        })
    }

    /// Works until the user is switched or held, or nobody can tell it anything any more.
    pub(super) async fn run(mut self) {
        loop {
            match self.life.phase {
                Phase::Copying | Phase::Following => {}
                Phase::Held => {
                    let reason = self.life.reason.clone().unwrap_or_default();
                    return self.answer(SwitchOutcome::Refused(reason));
                }
                Phase::New => return self.answer(SwitchOutcome::Switched(self.life.epoch)),
                Phase::Switching => {
                    self.learn().await;
                    continue;
                }
                Phase::Old => return self.answer(SwitchOutcome::Refused("this user is not being moved".to_owned())),
            }
            if !self.wait_for_work().await {
                return;
            }
            if let Err(stop) = self.work().await {
                self.stopped(stop).await;
            }
        }
    }

    /// Waits for the moment to do something. False if there never will be one.
    async fn wait_for_work(&mut self) -> bool {
        loop {
            self.take_login();
            while let Ok(reply) = self.switches.try_recv() {
                self.take_switch(reply);
            }
            let ready = self.login.is_some() && (self.waiting.is_some() || Instant::now() >= self.next_try);
            let wanted =
                self.life.phase == Phase::Copying || self.waiting.is_some() || self.platform.config.switch.auto;
            let moment = self.life.phase == Phase::Copying || self.waiting.is_some() || self.gate.sessions() == 0;
            if ready && wanted && moment {
                return true;
            }
            if self.login.is_none() {
                self.answer(SwitchOutcome::TryAgain("waiting for the user's next login".to_owned()));
            }
            let mut logins = self.newest.subscribe();
            tokio::select! {
                reply = self.switches.recv() => match reply {
                    Some(reply) => self.take_switch(reply),
                    None => return false,
                },
                _ = logins.wait_for(Option::is_some) => {}
                () = sleep_until(self.next_try), if self.login.is_some() && wanted && Instant::now() < self.next_try => {}
                () = self.gate.idle(), if ready && wanted => {}
            }
        }
    }

    fn take_login(&mut self) {
        if let Some(login) = self.newest.send_replace(None) {
            if self.refused.is_some_and(|refused| refused == self.fingerprint(&login)) && Instant::now() < self.next_try
            {
                // A server has refused it a moment ago: asking at every login would lock the user out there.
                return;
            }
            if self.login.is_none() {
                self.next_try = Instant::now();
            }
            // Only the password is new: the sides keep being asked for the name that started the move.
            self.login = Some(Login { name: self.login_name.clone(), ..login });
        }
    }

    fn take_switch(&mut self, reply: Reply) {
        self.answer(SwitchOutcome::TryAgain("another switch of this user was asked for".to_owned()));
        self.waiting = Some(reply);
    }

    fn answer(&mut self, outcome: SwitchOutcome) {
        if let Some(waiting) = self.waiting.take() {
            // Whoever asked may have gone; the outcome stands in the history too.
            let _ = waiting.send(outcome);
        }
    }

    async fn work(&mut self) -> Result<(), Stop> {
        let Some(login) = self.login.clone() else { return Ok(()) };
        let permits = Arc::clone(&self.permits);
        let Ok(_permit) = permits.acquire().await else { return Ok(()) };
        let job = Job { user: self.user.clone(), login, progress: self.progress.clone() };
        let platform = self.platform.clone();
        let lease = lease::hold(&platform, job.user.as_str()).await?;
        let done = self.leased(&platform, &job, &lease).await;
        lease.release().await;
        done
    }

    async fn leased(&mut self, platform: &Platform, job: &Job, lease: &lease::Held) -> Result<(), Stop> {
        // What we know may be older than the lease: another process, or a worker before us, may have moved the user on.
        if let Some(record) = platform.store.user(self.user.as_str()).await? {
            self.life = Life::of(&record);
        }
        if !matches!(self.life.phase, Phase::Copying | Phase::Following) {
            return Ok(());
        }
        if self.life.phase == Phase::Following && self.waiting.is_some() {
            // Refuse at once rather than after a long verification.
            if let Err(busy) = self.wait_for_sessions().await {
                self.answer(SwitchOutcome::TryAgain(busy.to_string()));
                return Ok(());
            }
        }
        let mut readers = Readers::open(platform, &job.login).await?;
        let done = self.with_readers(platform, (job, lease), &mut readers).await;
        if done.is_ok() {
            readers.close().await;
        }
        done
    }

    async fn with_readers(
        &mut self,
        platform: &Platform,
        (job, lease): (&Job, &lease::Held),
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        if self.life.phase == Phase::Copying {
            let copied = lease.during(copy::converge(platform, job, readers)).await?;
            platform.store.set_progress(self.user.as_str(), self.progress.read()).await?;
            if let Some(first) = copied.unreadable.first() {
                return Err(Stop::Later(format!("the old side can't give {first}")));
            }
            self.life = advance(platform, &self.user, &self.life, &Event::Copied, None).await?;
            self.backoff = BACKOFF_MIN;
            return Ok(());
        }
        match attempt(platform, (job, lease), &self.gate, &mut self.life, readers).await? {
            Attempt::Switched => {
                self.login = None;
                platform.store.set_progress(self.user.as_str(), self.progress.read()).await?;
            }
            Attempt::Busy(sessions) => {
                // All that verification for nothing: not again at once.
                self.put_off();
                self.answer(SwitchOutcome::TryAgain(Busy { sessions }.to_string()));
            }
        }
        Ok(())
    }

    /// Waits up to the longest pause for the sessions to end.
    async fn wait_for_sessions(&self) -> Result<(), Busy> {
        let ended = tokio::time::timeout(self.platform.config.switch.max_pause, self.gate.idle()).await;
        ended.map_err(|_| Busy { sessions: self.gate.sessions() })
    }

    async fn stopped(&mut self, stop: Stop) {
        let reason = stop.to_string();
        warn!(user = %self.user, phase = %self.life.phase, "{reason}");
        self.put_off();
        match stop {
            Stop::Refused(_) => {
                let event = Event::Refused { reason: reason.clone() };
                match advance(&self.platform, &self.user, &self.life, &event, None).await {
                    Ok(held) => (self.life, self.login) = (held, None),
                    Err(error) => warn!(user = %self.user, "can't be held: {error}"),
                }
                self.answer(SwitchOutcome::Refused(reason));
            }
            Stop::LoginRefused(_) => {
                self.refused = self.login.take().map(|login| self.fingerprint(&login));
                self.explain(reason).await;
            }
            Stop::Later(_) => self.explain(reason).await,
            Stop::Store(_) => {
                self.explain(reason).await;
                self.learn().await;
            }
        }
    }

    fn put_off(&mut self) {
        self.next_try = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// Asks the store where the user stands, after something that may or may not have been written. A gate that was
    /// closed is open again by now.
    async fn learn(&mut self) {
        loop {
            match self.platform.store.user(self.user.as_str()).await {
                Ok(Some(record)) if record.phase == Phase::Switching => {
                    let life = Life::of(&record);
                    if let Ok(life) = advance(&self.platform, &self.user, &life, &Event::Restarted, None).await {
                        self.life = life;
                        return;
                    }
                }
                Ok(Some(record)) => {
                    self.life = Life::of(&record);
                    return;
                }
                Ok(None) => {
                    // Without a record nobody is being moved.
                    self.life = Life::new();
                    return;
                }
                Err(error) => warn!(user = %self.user, "the store does not answer: {error}"),
            }
            sleep_until(Instant::now() + BACKOFF_MIN).await;
        }
    }

    /// Tells one password from another without keeping it.
    fn fingerprint(&self, login: &Login) -> blake3::Hash {
        blake3::keyed_hash(&self.key, login.password.expose_secret())
    }

    async fn explain(&mut self, reason: String) {
        self.life.reason = Some(reason.clone());
        if let Err(error) = self.platform.store.set_reason(self.user.as_str(), Some(&reason)).await {
            warn!(user = %self.user, "the reason can't be stored: {error}");
        }
        self.answer(SwitchOutcome::TryAgain(reason));
    }
}

/// Puts a user's record right whose gate was closed when the process ended, or whose password was lost with it.
///
/// # Errors
/// If the store can't be written.
pub(super) async fn recover(platform: &Platform, record: &UserRecord) -> Result<(), Stop> {
    let user = CanonicalUser::from_stored(record.user.clone());
    if record.phase == Phase::Switching {
        advance(platform, &user, &Life::of(record), &Event::Restarted, None).await?;
    }
    info!(user = %record.user, phase = %record.phase, "waiting for the user's next login");
    platform.store.set_reason(&record.user, Some("waiting for the user's next login")).await?;
    Ok(())
}
