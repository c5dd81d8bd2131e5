//! A server in trouble is left alone for a moment, and one that comes back is not run over (I6).
//!
//! While a server can't be reached each login would wait for it to its deadline, and hold what it needs meanwhile. So after
//! [`FAILURES`] failures in a row nobody is sent there for a pause; then one connection tries, and the others when it has
//! succeeded. And only so many connections to a server are opened at once: after an outage all clients come back at
//! the same time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Failures in a row after which a server is left alone.
pub const FAILURES: u32 = 5;

/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections to a server that are being opened at the same time; more wait for their turn.
pub const AT_ONCE: usize = 100;

/// The longest pause: clients must not wait long for a server that is back.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// A server is left alone for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not tried: {failures} connections in a row have failed, the last one with: {last}")]
pub struct Resting {
    /// How many.
    failures: u32,
    /// What became of the last one.
    last: String,
}

/// What a server's connections came to lately. The clock is the caller's.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    /// It can be reached, but for the last few times in a row.
    Up { failures: u32 },
    /// Nobody is sent there before `until`.
    Resting { until: Instant, pauses: u32, why: Resting },
    /// One connection is there to try.
    Trying { pauses: u32, why: Resting },
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To be used.
    Use,
    /// To find out, for all others, whether the server is back.
    Try,
}

impl Health {
    /// Whether a connection may be opened at `now`.
    fn ask(&mut self, now: Instant) -> Result<Errand, Resting> {
        match self {
            Self::Up { .. } => Ok(Errand::Use),
            Self::Resting { until, pauses, why } if now >= *until => {
                *self = Self::Trying { pauses: *pauses, why: why.clone() };
                Ok(Errand::Try)
            }
            Self::Resting { why, .. } | Self::Trying { why, .. } => Err(why.clone()),
        }
    }

    /// A connection has been made; whether the server was being left alone until now.
    fn succeeded(&mut self) -> bool {
        !matches!(std::mem::replace(self, Self::Up { failures: 0 }), Self::Up { .. })
    }

    /// A connection has failed with `last`. For how long the server is left alone from now on, if that is news: those that
    /// were under way before don't make it longer.
    fn failed(&mut self, errand: Errand, now: Instant, last: String) -> Option<Duration> {
        let (failures, pauses) = match (&mut *self, errand) {
            (Self::Up { failures }, _) => {
                *failures += 1;
                if *failures < FAILURES {
                    return None;
                }
                (*failures, 0)
            }
            (Self::Trying { pauses, why }, Errand::Try) => (why.failures.saturating_add(1), *pauses),
            _ => return None,
        };
        let pause = PAUSE.saturating_mul(1 << pauses.min(16)).min(PAUSE_MAX);
        *self = Self::Resting { until: now + pause, pauses: pauses + 1, why: Resting { failures, last } };
        Some(pause)
    }

    /// A connection was given up before it was known what comes of it.
    fn given_up(&mut self, errand: Errand, now: Instant) {
        if let (Self::Trying { pauses, why }, Errand::Try) = (&*self, errand) {
            *self = Self::Resting { until: now, pauses: *pauses, why: why.clone() };
        }
    }
}

/// Stands before one server. Cheap to clone.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: String,
    health: Mutex<Health>,
    opening: Semaphore,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Breaker {
    /// Before the server that the log calls `name`; `at_once` connections to it may be opened at the same time.
    #[must_use]
    pub fn new(name: String, at_once: usize) -> Self {
        let opening = Semaphore::new(at_once.min(Semaphore::MAX_PERMITS));
        Self(Arc::new(Inner { name, health: Mutex::new(Health::Up { failures: 0 }), opening }))
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a connection may be opened; whoever opens it tells the [`Turn`] what came of it.
    ///
    /// # Errors
    /// If the server is left alone for now.
    pub async fn turn(&self) -> Result<Turn<'_>, Resting> {
        // (The semaphore is never closed.)
        let place = self.0.opening.acquire().await.ok();
        let errand = self.health().ask(Instant::now())?;
        Ok(Turn { breaker: self, errand, known: false, _place: place })
    }
}

/// One connection that is being opened. Dropped: it was given up before it was known what comes of it.
#[derive(Debug)]
pub struct Turn<'a> {
    breaker: &'a Breaker,
    errand: Errand,
    known: bool,
    _place: Option<SemaphorePermit<'a>>,
}

impl Turn<'_> {
    /// The server has answered; whatever it said, it is up.
    pub fn answered(mut self) {
        self.known = true;
        if self.breaker.health().succeeded() {
            tracing::info!("{}: can be reached again", self.breaker.0.name);
        }
    }

    /// The server could not be reached, for that reason.
    pub fn failed(mut self, why: &dyn fmt::Display) {
        self.known = true;
        let why = why.to_string();
        if let Some(pause) = self.breaker.health().failed(self.errand, Instant::now(), why.clone()) {
            let (name, pause) = (&self.breaker.0.name, pause.as_secs());
            tracing::warn!("{name}: left alone for {pause} s, since connections to it fail: {why}");
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.known {
            self.breaker.health().given_up(self.errand, Instant::now());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.turn().await.unwrap().failed(&"down");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_is_left_alone_and_then_tried_by_one() {
        let breaker = Breaker::new("old".to_owned(), 9);
        fail(&breaker, FAILURES - 1).await;
        breaker.turn().await.unwrap().answered();
        fail(&breaker, FAILURES).await;
        let said = breaker.turn().await.unwrap_err().to_string();
        assert_eq!(said, "not tried: 5 connections in a row have failed, the last one with: down");
        advance(PAUSE).await;
        let trial = breaker.turn().await.unwrap();
        assert!(breaker.turn().await.is_err(), "one tries");
        drop(trial);
        // It was given up: the next one tries, and fails; the pause is longer now.
        fail(&breaker, 1).await;
        advance(PAUSE).await;
        assert!(breaker.turn().await.is_err());
        advance(PAUSE).await;
        breaker.turn().await.unwrap().answered();
        fail(&breaker, FAILURES - 1).await;
        breaker.turn().await.unwrap().answered();
    }

    #[test]
    fn those_that_were_under_way_make_no_pause_longer_and_no_pause_is_long() {
        let now = Instant::now();
        let mut health = Health::Up { failures: FAILURES - 1 };
        let fail = |health: &mut Health, errand, at| health.failed(errand, at, "down".to_owned());
        assert_eq!(fail(&mut health, Errand::Use, now), Some(PAUSE));
        for _ in 0..20 {
            assert_eq!(fail(&mut health, Errand::Use, now), None);
        }
        let (mut at, mut pauses) = (now + PAUSE, Vec::new());
        for _ in 0..6 {
            assert_eq!(health.ask(at), Ok(Errand::Try));
            let pause = fail(&mut health, Errand::Try, at).unwrap();
            at += pause;
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [2, 4, 4, 4, 4, 4]);
    }

    #[tokio::test]
    async fn only_so_many_are_opened_at_once() {
        let breaker = Breaker::new("old".to_owned(), 2);
        let (first, _second) = (breaker.turn().await.unwrap(), breaker.turn().await.unwrap());
        let third = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.turn().await.map(Turn::answered) }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!third.is_finished(), "it waits for its turn");
        first.answered();
        assert_eq!(third.await.unwrap(), Ok(()));
    }
}
