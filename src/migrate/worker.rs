//! The one task that works on a user: it owns the user's life from the first login to the end of the watch for late
//! arrivals, and does one thing after the other. Logins and the operator's words reach it as messages.

mod ear;
mod orders;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::gate::{Attempt, advance, attempt};
use super::halt::Halt;
use super::verify::KnownBodies;
use super::{Job, Platform, ProgressMeter, Readers, Stop, copy, credentials, lease, quota, scripts, sweep};
use crate::fault;
use crate::source::Login;
use crate::store::{Phase, UserRecord, now};
use crate::user::{CanonicalUser, Close, Event, Life, Registry, UserGate};
pub(super) use ear::{Asked, Ear};
pub use ear::{Order, Outcome};
use schedule::{Backoff, Rounds, Sweeps};

/// Between two questions to a store that does not answer.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Pauses that may run out before an operator has to look (DESIGN §3).
const SLOW_PAUSES_MAX: u64 = 3;

/// What an operator is told who wants anything of a settled user.
const SETTLED: &str = "the user is settled on the new side: there is no way back";

/// Digests kept between two attempts: more would be too much memory for a user who merely waits.
const KNOWN_MAX: usize = 100_000;

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Copy,
    Round,
    Switch(Close),
    Sweep,
    Rollback,
}

/// What a worker finds when it has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There is something to do.
    Task(Task),
    /// The user stands elsewhere now.
    Look,
    /// Nobody can tell the worker anything any more.
    End,
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
    orders: mpsc::Receiver<Asked>,
    halt: Halt,
    /// Users worked on at once, over all workers.
    permits: Arc<Semaphore>,
    /// An operator who waits for a change of authority.
    waiting: Option<Asked>,
    backoff: Backoff,
    /// What failed last.
    failed: Option<Task>,
    rounds: Rounds,
    sweeps: Sweeps,
    /// When it began to wait for a moment without sessions.
    patient_since: Instant,
    /// When the watch for late arrivals ends.
    watch_until: Option<Instant>,
    /// Bodies compared by earlier attempts.
    known: KnownBodies,
    /// Why the user must not be switched: the new side has refused their own password.
    locked_out: Option<String>,
    /// When such a password may be tried there again.
    lock_backoff: Backoff,
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
        (ear, orders): (&Ear, mpsc::Receiver<Asked>),
    ) -> Result<Self, Stop> {
        let progress = ear.progress.clone();
        let user = CanonicalUser::from_stored(record.user.clone());
        progress.update(|meter| *meter = record.progress);
        let now = Instant::now();
        let locked_out = platform.store.locked_out(&record.user).await?;
        Ok(Self {
            login: credentials::without_password(&platform, &record.login_name),
            locked_out,
            lock_backoff: Backoff::new(now),
            watch_until: Self::watch_until(&platform, record),
            platform,
            gate: registry.gate(&user).await?,
            user,
            life: Life::of(record),
            login_name: record.login_name.clone(),
            progress,
            newest: Arc::clone(&ear.login),
            orders,
            halt: ear.halt.clone(),
            permits,
            waiting: None,
            backoff: Backoff::new(now),
            failed: None,
            // What was written before we began, and not followed, no session will tell of.
            rounds: Rounds::due(now),
            sweeps: Sweeps::new(now),
            patient_since: now,
            known: KnownBodies::new(),
            refused: None,
            key: rand::random(),
        })
    }

    /// The end of the watch for late arrivals of a user who was switched.
    fn watch_until(platform: &Platform, record: &UserRecord) -> Option<Instant> {
        let switched = record.switched_at.filter(|_| record.phase == Phase::New)?;
        let since = Duration::from_secs(u64::try_from(now() - switched).unwrap_or_default());
        Some(Instant::now() + platform.config.switch.rollback_window.saturating_sub(since))
    }

    /// Works until the user is held, or the watch for late arrivals is over, or nobody can tell it anything any more.
    pub(super) async fn run(mut self) {
        loop {
            while let Ok(asked) = self.orders.try_recv() {
                self.take_order(asked).await;
            }
            match self.life.phase {
                Phase::Copying | Phase::Following => {}
                Phase::Held => {
                    self.gate.set_ready(false);
                    let reason = self.life.reason.clone().unwrap_or_default();
                    return self.answer(Outcome::Refused(reason));
                }
                Phase::New => {
                    if self.asked_for(&Order::Switch) {
                        self.answer(Outcome::Switched(self.life.epoch));
                    }
                    if self.waiting.is_none() && self.watch_until.is_none_or(|end| end <= Instant::now()) {
                        return self.settle(&Event::WindowOver).await;
                    }
                }
                Phase::Switching | Phase::Returning => {
                    self.learn().await;
                    continue;
                }
                Phase::Old => return self.answer(Outcome::Refused("this user is not being moved".to_owned())),
                Phase::Settled => return self.answer(Outcome::Refused(SETTLED.to_owned())),
            }
            match self.wait_for_work().await {
                Next::Task(task) => {
                    if let Err(stop) = self.work(task).await {
                        self.failed = Some(task);
                        self.stopped(stop).await;
                    }
                }
                Next::Look => {}
                Next::End => return,
            }
        }
    }

    /// Waits for the moment to do something.
    async fn wait_for_work(&mut self) -> Next {
        loop {
            self.take_login();
            let now = Instant::now();
            if self.life.phase == Phase::Following && self.gate.take_written() {
                self.rounds.written(now);
            }
            let following = self.life.phase == Phase::Following;
            let auto = following && self.platform.config.switch.auto;
            let ready = auto && now >= self.backoff.until() && self.locked_out.is_none() && self.may_verify();
            self.gate.set_ready(ready);
            if let Some(task) = self.task(now) {
                return Next::Task(task);
            }
            if self.login.is_none() || self.waiting.is_some() && !self.may_verify() {
                self.answer(Outcome::TryAgain("waiting for the user's next login".to_owned()));
            }
            if self.life.phase == Phase::New && self.watch_until.is_none_or(|end| end <= now) {
                return Next::Look;
            }
            let sessions = self.gate.sessions();
            let wake = self.next_moment(now);
            let mut logins = self.newest.subscribe();
            let asked = tokio::select! {
                asked = self.orders.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return Next::End,
                },
                _ = logins.wait_for(Option::is_some) => None,
                () = sleep_until(wake) => None,
                () = self.gate.idle(), if auto && !sessions.none() => None,
                () = self.gate.without_pop3(), if auto && sessions.pop3 > 0 => None,
                () = self.gate.written(), if following => None,
            };
            if let Some(asked) = asked {
                self.take_order(asked).await;
                if !matches!(self.life.phase, Phase::Copying | Phase::Following | Phase::New) {
                    return Next::Look;
                }
            }
        }
    }

    /// What there is to do now.
    fn task(&self, now: Instant) -> Option<Task> {
        self.login.as_ref()?;
        let urged = self.asked_for(&Order::Switch);
        let back = self.waiting.as_ref().is_some_and(|asked| matches!(asked.order, Order::Rollback { .. }));
        let rested = now >= self.backoff.until();
        let back = back && self.may_verify();
        match self.life.phase {
            Phase::Copying if urged || rested => Some(Task::Copy),
            Phase::Following if urged && self.may_verify() => Some(Task::Switch(Close::Live)),
            Phase::Following if rested => {
                let switch = self.moment(now).map(Task::Switch);
                switch.or_else(|| (now >= self.rounds.next()).then_some(Task::Round))
            }
            Phase::New if back => Some(Task::Rollback),
            Phase::New if rested && now >= self.sweeps.next() => Some(Task::Sweep),
            _ => None,
        }
    }

    /// Whether the old side can be seen as clients see it, which a change of authority takes.
    fn may_verify(&self) -> bool {
        self.login.as_ref().is_some_and(|login| credentials::may_verify(&self.platform, login))
    }

    /// How the gate may be closed now, if switches happen by themselves: the best moment is one without sessions (DESIGN §3).
    fn moment(&self, now: Instant) -> Option<Close> {
        let sessions = self.gate.sessions();
        let switch = &self.platform.config.switch;
        match (sessions.none(), sessions.pop3) {
            _ if !switch.auto || self.locked_out.is_some() || !self.may_verify() => None,
            (true, _) => Some(Close::WhenIdle),
            (false, 0) if now >= self.patient_since + switch.wait_for_idle => Some(Close::Live),
            _ => None,
        }
    }

    /// The next point in time at which there may be something to do.
    fn next_moment(&self, now: Instant) -> Instant {
        let moments = match self.life.phase {
            Phase::New => [Some(self.sweeps.next()), self.watch_until, None],
            Phase::Following => {
                let patience = self.platform.config.switch.wait_for_idle;
                [Some(self.rounds.next()), Some(self.patient_since + patience), None]
            }
            _ => [None; 3],
        };
        let backoff = Some(self.backoff.until());
        let far = now + Duration::from_secs(24 * 60 * 60);
        // What is past and has not been done waits for something else: a login, the end of a session.
        moments.into_iter().chain([backoff]).flatten().filter(|at| *at > now).min().unwrap_or(far)
    }

    fn take_login(&mut self) {
        if let Some(login) = self.newest.send_replace(None) {
            let now = Instant::now();
            let rest = if self.locked_out.is_some() { self.lock_backoff } else { self.backoff };
            if self.refused.is_some() && self.refused == self.fingerprint(&login) && now < rest.until() {
                // A server has refused it a moment ago: asking at every login would lock the user out there.
                return;
            }
            // (It is still in the store, until the new side has accepted this one.)
            if self.locked_out.take().is_some() || self.login.is_none() {
                self.backoff.at_once(now);
            }
            self.sweeps.soon(now);
            if self.login_name.is_empty() {
                self.login_name.clone_from(&login.name);
            }
            // Only the password is new: the sides keep being asked for the name that started the move.
            let login = Login { name: self.login_name.clone(), ..login };
            let moved = self.life.phase == Phase::New;
            self.login = Some(if moved { credentials::spared(&self.platform, login) } else { login });
        }
    }

    async fn work(&mut self, task: Task) -> Result<(), Stop> {
        let Some(login) = self.login.clone() else { return Ok(()) };
        // A login may wait for a switch, and for nothing else.
        self.gate.set_ready(matches!(task, Task::Switch(_)) && self.platform.config.switch.auto);
        let permits = Arc::clone(&self.permits);
        let halt = self.halt.clone();
        let _permit = halt.unless(async { permits.acquire().await.map_err(|_| Stop::Halted) }).await?;
        let job = Job { user: self.user.clone(), login, progress: self.progress.clone() };
        let platform = self.platform.clone();
        let lease = lease::hold(&platform, job.user.as_str()).await?;
        let done = self.leased(&platform, (&job, &lease), task).await;
        lease.release().await;
        done
    }

    async fn leased(&mut self, platform: &Platform, with: (&Job, &lease::Held), task: Task) -> Result<(), Stop> {
        // What we know may be older than the lease: another process, or a worker before us, may have moved the user on.
        if let Some(record) = platform.store.user(self.user.as_str()).await? {
            let known = self.life.phase;
            self.life = Life::of(&record);
            self.watch_until = Self::watch_until(platform, &record);
            if self.life.phase != known {
                return Ok(());
            }
        }
        if matches!(task, Task::Switch(_) | Task::Rollback)
            && self.waiting.is_some()
            && let Some(busy) = self.wait_for_pop3().await
        {
            // Refuse at once rather than after a long verification.
            self.answer(Outcome::TryAgain(busy));
            return Ok(());
        }
        if matches!(task, Task::Switch(_)) {
            credentials::admits(platform, with.0, self.locked_out.as_deref()).await?;
        }
        let halt = self.halt.clone();
        // (Boxed: one task holds all of these, one after the other.)
        let mut readers = halt.unless(Box::pin(Readers::open(platform, &with.0.login))).await?;
        let done = match task {
            Task::Copy => halt.unless(Box::pin(self.copy(platform, with, &mut readers))).await,
            Task::Round => halt.unless(Box::pin(self.round(platform, with, &mut readers))).await,
            Task::Switch(close) => Box::pin(self.switch(platform, with, close, &mut readers)).await,
            Task::Sweep => halt.unless(Box::pin(self.sweep(platform, with, &mut readers))).await,
            Task::Rollback => Box::pin(self.rollback(platform, with, &mut readers)).await,
        };
        if done.is_ok() {
            readers.close().await;
        }
        done
    }

    async fn copy(
        &mut self,
        platform: &Platform,
        (job, lease): (&Job, &lease::Held),
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        lease.during(quota::check(readers)).await?;
        let copied = lease.during(Box::pin(copy::converge(platform, job, readers))).await?;
        platform.store.set_progress(self.user.as_str(), self.progress.read()).await?;
        copied.readable()?;
        let in_the_way = lease.during(scripts::carry(platform, job, readers)).await?;
        self.life = advance(platform, &self.user, &self.life, &Event::Copied, None).await?;
        self.scripts_in_the_way(in_the_way).await?;
        if let Some(sharing) = readers.old_sharing().await? {
            platform.store.set_shared_with(self.user.as_str(), sharing.with_whom()).await?;
        }
        let now = Instant::now();
        self.backoff.worked(now);
        self.rounds = Rounds::new(now);
        self.patient_since = now;
        Ok(())
    }

    async fn round(
        &mut self,
        platform: &Platform,
        (job, lease): (&Job, &lease::Held),
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        fault::point("follow-round").await;
        let began = Instant::now();
        let copied = lease.during(Box::pin(copy::converge(platform, job, readers))).await?;
        platform.store.set_progress(self.user.as_str(), self.progress.read()).await?;
        copied.readable()?;
        let in_the_way = lease.during(scripts::carry(platform, job, readers)).await?;
        let now = Instant::now();
        self.rounds.done(now, now - began, copied.passes > 0);
        if !matches!(self.failed, Some(Task::Switch(_))) && self.life.reason != self.locked_out {
            // What was wrong with following is over; why the user could not be switched is not.
            self.life.reason.clone_from(&self.locked_out);
            platform.store.set_reason(self.user.as_str(), self.locked_out.as_deref()).await?;
        }
        self.scripts_in_the_way(in_the_way).await?;
        self.backoff.worked(now);
        debug!(user = %self.user, passes = copied.passes, settled = copied.settled, "followed");
        Ok(())
    }

    /// Says what keeps the user from being switched, unless something worse is said already.
    async fn scripts_in_the_way(&mut self, reasons: Vec<String>) -> Result<(), Stop> {
        if self.life.reason.is_none() && !reasons.is_empty() {
            self.life.reason = Some(reasons.join("; "));
            self.platform.store.set_reason(self.user.as_str(), self.life.reason.as_deref()).await?;
        }
        Ok(())
    }

    async fn switch(
        &mut self,
        platform: &Platform,
        with: (&Job, &lease::Held),
        close: Close,
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        let gate = (&self.gate, close);
        let attempted = attempt(platform, with, gate, &mut self.life, readers, &mut self.known, &self.halt).await;
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        self.rounds.done(Instant::now(), Duration::ZERO, true);
        match attempted? {
            Attempt::Switched => {
                let now = Instant::now();
                self.known.clear();
                self.backoff.worked(now);
                self.lock_backoff.worked(now);
                self.login = self.login.take().map(|login| credentials::spared(platform, login));
                self.sweeps = Sweeps::new(now);
                self.watch_until = Some(now + platform.config.switch.rollback_window);
                platform.store.set_progress(self.user.as_str(), self.progress.read()).await?;
            }
            Attempt::Busy(busy) => {
                // All that verification for nothing: not again at once.
                self.backoff.failed(Instant::now());
                self.answer(Outcome::TryAgain(busy.to_string()));
            }
            Attempt::TooSlow(steps) => {
                let pauses = platform.store.count_slow_pause(self.user.as_str()).await?;
                let pause = platform.config.switch.max_pause;
                if pauses >= SLOW_PAUSES_MAX {
                    return Err(Stop::Refused(format!(
                        "too slow to verify: {pauses} pauses of {pause:?} (switch.max_pause) ran out; the last one: {steps}"
                    )));
                }
                let count = format!("pause {pauses} of {SLOW_PAUSES_MAX}");
                return Err(Stop::Later(format!(
                    "the switch took longer than max_pause ({pause:?}, {count}): {steps}"
                )));
            }
        }
        Ok(())
    }

    async fn sweep(
        &mut self,
        platform: &Platform,
        (job, lease): (&Job, &lease::Held),
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        let swept = lease.during(sweep::round(platform, job, readers)).await?;
        let now = Instant::now();
        self.sweeps.done(now);
        self.backoff.worked(now);
        let reason = swept.reason();
        if reason != self.life.reason {
            self.life.reason.clone_from(&reason);
            platform.store.set_reason(self.user.as_str(), reason.as_deref()).await?;
        }
        Ok(())
    }

    /// Waits up to the longest pause for POP3 sessions to end; those can't be paused.
    async fn wait_for_pop3(&self) -> Option<String> {
        let ended = tokio::time::timeout(self.platform.config.switch.max_pause, self.gate.without_pop3()).await;
        ended.err().map(|_| self.gate.sessions().to_string())
    }

    async fn stopped(&mut self, stop: Stop) {
        if matches!(stop, Stop::Halted) {
            // The order that did it is the next thing to be looked at.
            return;
        }
        let reason = stop.to_string();
        warn!(user = %self.user, phase = %self.life.phase, "{reason}");
        match stop {
            Stop::Paused(_) => self.backoff.rest(Instant::now(), self.platform.config.old.overquota_pause),
            _ => self.backoff.failed(Instant::now()),
        }
        match stop {
            Stop::Refused(_) if self.life.phase != Phase::New => {
                let event = Event::Refused { reason: reason.clone() };
                match advance(&self.platform, &self.user, &self.life, &event, None).await {
                    Ok(held) => (self.life, self.login) = (held, None),
                    Err(error) => warn!(user = %self.user, "can't be held: {error}"),
                }
                self.answer(Outcome::Refused(reason));
            }
            Stop::LoginRefused(_) => {
                self.refused = self.login.take().and_then(|login| self.fingerprint(&login));
                self.explain(reason).await;
            }
            Stop::LockedOut(_) => {
                if self.locked_out.is_none() {
                    self.lock_backoff.failed(Instant::now());
                    let login = self.login.take();
                    self.refused = login.as_ref().and_then(|login| self.fingerprint(login));
                    self.login = login.map(|login| credentials::spared(&self.platform, login));
                    self.locked_out = Some(reason.clone());
                }
                self.explain(reason).await;
            }
            Stop::Later(_) | Stop::Paused(_) | Stop::MasterRefused(_) | Stop::Refused(_) | Stop::Halted => {
                self.explain(reason).await;
            }
            Stop::Store(_) => {
                self.explain(reason).await;
                self.learn().await;
            }
        }
    }

    /// Asks the store where the user stands, after something that may or may not have been written. A gate that was
    /// closed is open again by now.
    async fn learn(&mut self) {
        loop {
            match self.platform.store.user(self.user.as_str()).await {
                Ok(Some(record)) if matches!(record.phase, Phase::Switching | Phase::Returning) => {
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
            sleep(STORE_PATIENCE).await;
        }
    }

    /// Tells one password from another without keeping it.
    fn fingerprint(&self, login: &Login) -> Option<blake3::Hash> {
        let password = login.password.as_ref()?;
        Some(blake3::keyed_hash(&self.key, password.expose_secret()))
    }

    async fn explain(&mut self, reason: String) {
        self.life.reason = Some(reason.clone());
        if let Err(error) = self.platform.store.set_reason(self.user.as_str(), Some(&reason)).await {
            warn!(user = %self.user, "the reason can't be stored: {error}");
        }
        self.answer(Outcome::TryAgain(reason));
    }
}

/// Puts a user's record right whose gate was closed when the process ended, or whose password was lost with it.
///
/// # Errors
/// If the store can't be written.
pub(super) async fn recover(platform: &Platform, record: &UserRecord) -> Result<(), Stop> {
    let user = CanonicalUser::from_stored(record.user.clone());
    if matches!(record.phase, Phase::Switching | Phase::Returning) {
        let life = advance(platform, &user, &Life::of(record), &Event::Restarted, None).await?;
        if life.phase == Phase::New {
            return Ok(());
        }
    }
    if credentials::need_no_password(&platform.config) {
        return Ok(());
    }
    info!(user = %record.user, phase = %record.phase, "waiting for the user's next login");
    platform.store.set_reason(&record.user, Some("waiting for the user's next login")).await?;
    Ok(())
}
