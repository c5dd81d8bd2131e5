//! When a worker does what: pure arithmetic on points in time.

use std::time::Duration;

use tokio::time::Instant;

/// Pause after the first failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(2);

/// Longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

/// Between a session's write and the round that carries it over: clients write in bursts.
const AFTER_WRITE: Duration = Duration::from_secs(2);

/// Between rounds of an account in which nothing was seen to happen (DESIGN §3); doubled up to a day.
const ROUND_MIN: Duration = Duration::from_secs(15 * 60);
const ROUND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// After a round sessions' writes are left alone for so many times as long as it took, so that a client that never stops
/// writing to an account that is dear to look at leaves the old server most of its time (DESIGN I6)
const REST: u32 = 2;

/// but not longer than this: a round may take long once because there was much to copy.
const REST_MAX: Duration = Duration::from_secs(5 * 60);

/// Between looks for late arrivals: deliveries that were under way come within seconds, queues hold mail back for hours.
const SWEEPS: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
];
const SWEEP_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// Between two looks that logins ask for: some clients log in every minute, and the old server is to survive (DESIGN I6).
const BETWEEN_LOGINS: Duration = Duration::from_secs(15 * 60);

/// The next try after failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pause: Duration,
    until: Instant,
}

impl Backoff {
    pub(super) const fn new(now: Instant) -> Self {
        Self { pause: BACKOFF_MIN, until: now }
    }

    /// When it may be tried again.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// It failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.until = now + self.pause;
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
    }

    /// It has to rest; nothing has failed.
    pub(super) fn rest(&mut self, now: Instant, pause: Duration) {
        self.until = now + pause;
    }

    /// It may be tried at once; if that fails, the pause is as long as it was.
    pub(super) const fn at_once(&mut self, now: Instant) {
        self.until = now;
    }

    /// It worked.
    pub(super) const fn worked(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

/// The next round of following.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    interval: Duration,
    /// Not even a write asks for one before.
    rested: Instant,
    next: Instant,
}

impl Rounds {
    /// Both sides have just been found equal.
    pub(super) fn new(now: Instant) -> Self {
        Self { interval: ROUND_MIN, rested: now, next: now + ROUND_MIN }
    }

    /// Nobody knows what happened since both sides were found equal.
    pub(super) const fn due(now: Instant) -> Self {
        Self { interval: ROUND_MIN, rested: now, next: now }
    }

    /// When the next one is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// A session has written.
    pub(super) fn written(&mut self, now: Instant) {
        self.interval = ROUND_MIN;
        self.next = self.next.min(self.rested.max(now + AFTER_WRITE));
    }

    /// A round is over that took so long; whether it found something to do.
    pub(super) fn done(&mut self, now: Instant, took: Duration, found: bool) {
        self.interval = if found { ROUND_MIN } else { (self.interval * 2).min(ROUND_MAX) };
        self.rested = now + took.saturating_mul(REST).min(REST_MAX);
        self.next = now + self.interval;
    }
}

/// The next look for late arrivals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweeps {
    done: usize,
    pause: Duration,
    last: Option<Instant>,
    next: Instant,
}

impl Sweeps {
    /// The user was switched, or we have just begun to look.
    pub(super) fn new(now: Instant) -> Self {
        let [first, ..] = SWEEPS;
        Self { done: 0, pause: first, last: None, next: now + first }
    }

    /// When the next one is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// The user has logged in: a good moment to have everything there.
    pub(super) fn soon(&mut self, now: Instant) {
        let soon = now + AFTER_WRITE;
        self.next = self.next.min(self.last.map_or(soon, |last| soon.max(last + BETWEEN_LOGINS)));
    }

    /// One is over.
    pub(super) fn done(&mut self, now: Instant) {
        self.done += 1;
        self.last = Some(now);
        self.pause = SWEEPS.get(self.done).copied().unwrap_or_else(|| (self.pause * 2).min(SWEEP_MAX));
        self.next = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_ever_more_rarely_until_one_works() {
        let now = Instant::now();
        let mut backoff = Backoff::new(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.failed(now);
            pauses.push((backoff.until() - now).as_secs());
        }
        assert_eq!(pauses.get(..3), Some(&[2, 4, 8][..]));
        assert_eq!(pauses.last(), Some(&900));
        backoff.worked(now);
        backoff.failed(now);
        assert_eq!(backoff.until() - now, BACKOFF_MIN);
    }

    #[test]
    fn rounds_follow_writes_closely_and_quiet_accounts_rarely() {
        let now = Instant::now();
        let (mut rounds, quick) = (Rounds::new(now), Duration::ZERO);
        rounds.done(now, quick, false);
        assert_eq!(rounds.next() - now, 2 * ROUND_MIN);
        for _ in 0..20 {
            rounds.done(now, quick, false);
        }
        assert_eq!(rounds.next() - now, ROUND_MAX);
        rounds.written(now);
        rounds.written(now + Duration::from_secs(1));
        assert_eq!(rounds.next() - now, AFTER_WRITE, "a client that never stops writing can't put the round off");
        rounds.done(now, quick, true);
        assert_eq!(rounds.next() - now, ROUND_MIN);
    }

    #[test]
    fn rounds_that_take_long_leave_the_old_server_in_peace_as_long_again() {
        let now = Instant::now();
        let mut rounds = Rounds::new(now);
        for (took, rest) in [(0, 2), (1, 2), (20, 40), (36_000, 300)] {
            rounds.done(now, Duration::from_secs(took), true);
            rounds.written(now);
            assert_eq!((rounds.next() - now).as_secs(), rest);
        }
        assert_eq!(Rounds::due(now).next(), now, "what happened while nobody watched is looked for at once");
    }

    #[test]
    fn late_arrivals_are_looked_for_soon_and_then_rarely() {
        let now = Instant::now();
        let mut sweeps = Sweeps::new(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push((sweeps.next() - now).as_secs());
            sweeps.done(now);
        }
        assert_eq!(pauses, [2, 10, 60, 300, 900, 1800, 3600, 7200, 14400, 21600, 21600, 21600]);
        sweeps.soon(now + BETWEEN_LOGINS);
        assert_eq!(sweeps.next() - now, BETWEEN_LOGINS + AFTER_WRITE, "a login asks for one");
        sweeps.done(now);
        sweeps.soon(now);
        assert_eq!(sweeps.next() - now, BETWEEN_LOGINS, "and not every login");
    }
}
