//! The end of the server, as each session sees it: not all at once, or all their clients would come back in one second.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::net::ConnectionSlots;

/// Few sessions are told at once; many as fast as this, and faster if the limit wants it. A server takes more logins a second.
const SESSIONS_A_SECOND: u32 = 100;

/// How sessions are told that the server ends.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The last session is told by then (`limits.drain`).
    pub limit: Duration,
    /// Counts those that are to be told.
    pub slots: ConnectionSlots,
}

impl Drain {
    #[cfg(test)]
    pub(super) fn at_once() -> Self {
        Self { limit: Duration::ZERO, slots: ConnectionSlots::new(1) }
    }

    /// Over which time sessions are told, were the server to end now.
    #[must_use]
    pub fn span(&self) -> Duration {
        let sessions = u32::try_from(self.slots.taken()).unwrap_or(u32::MAX);
        (Duration::from_secs(1) * sessions / SESSIONS_A_SECOND).min(self.limit)
    }
}

/// When one session is to end with the server.
#[derive(Debug)]
pub(super) struct Ending {
    shutdown: watch::Receiver<bool>,
    drain: Drain,
    /// Its turn, once the server ends.
    turn: Option<Instant>,
}

impl Ending {
    pub(super) fn new(shutdown: watch::Receiver<bool>, drain: Drain) -> Self {
        Self { shutdown, drain, turn: None }
    }

    /// The server ends, and this session's turn has come. May be dropped at its await, and asked again.
    pub(super) async fn comes(&mut self) {
        // An error means that the sender is gone, which is an end too.
        let _ = self.shutdown.wait_for(|ended| *ended).await;
        let drain = &self.drain;
        let turn = *self.turn.get_or_insert_with(|| Instant::now() + drain.span().mul_f64(rand::random()));
        sleep_until(turn).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn drain(limit: u64) -> Drain {
        Drain { limit: Duration::from_secs(limit), slots: ConnectionSlots::new(10_000) }
    }

    #[tokio::test(start_paused = true)]
    async fn few_sessions_are_told_at_once_and_many_within_the_limit() {
        let drain = drain(10);
        assert_eq!(drain.span(), Duration::ZERO);
        let taken: Vec<_> = (0..300).map(|_| drain.slots.take().unwrap()).collect();
        assert_eq!(drain.span(), Duration::from_secs(3));
        let more: Vec<_> = (0..3000).map(|_| drain.slots.take().unwrap()).collect();
        assert_eq!(drain.span(), Duration::from_secs(10));
        drop((taken, more));
    }

    #[tokio::test(start_paused = true)]
    async fn each_session_has_its_own_turn_and_keeps_it() {
        let drain = drain(10);
        let _taken: Vec<_> = (0..2000).map(|_| drain.slots.take().unwrap()).collect();
        let (end, shutdown) = watch::channel(false);
        let mut endings: Vec<Ending> = (0..100).map(|_| Ending::new(shutdown.clone(), drain.clone())).collect();
        end.send(true).unwrap();
        let begun = Instant::now();
        for ending in &mut endings {
            // Whoever asks in a loop is told the same.
            let _ = tokio::time::timeout(Duration::ZERO, ending.comes()).await;
        }
        let turns: Vec<Duration> = endings.iter().map(|ending| ending.turn.unwrap() - begun).collect();
        assert!(turns.iter().all(|turn| *turn <= Duration::from_secs(10)), "{turns:?}");
        // By chance alone once in 10^30.
        assert!(turns.iter().any(|turn| *turn < Duration::from_secs(5)), "{turns:?}");
        assert!(turns.iter().any(|turn| *turn > Duration::from_secs(5)), "{turns:?}");
        let mut last = endings.pop().unwrap();
        last.comes().await;
        assert!(begun.elapsed() >= *turns.last().unwrap());
    }
}
