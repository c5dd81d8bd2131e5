//! What the connections of one account have received today. Some servers give an account so many octets a day, and its own
//! sessions need their part of them (I6).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// Counts octets. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    /// Days since the epoch (UTC).
    day: u64,
    /// Octets of this day.
    today: u64,
    /// Those of them that are not in the records yet.
    unsaved: u64,
    limit: Option<u64>,
}

impl Count {
    /// A new day begins with nothing. What was not saved of the old one is of no interest any more.
    fn turn(&mut self, day: u64) {
        if self.day != day {
            (self.day, self.today, self.unsaved) = (day, 0, 0);
        }
    }

    fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.today))
    }

    /// Whether a message of this size has to wait for another day. One that no day has room for goes when most of a day is left.
    fn must_wait(&self, size: u64) -> bool {
        let (Some(left), Some(limit)) = (self.left(), self.limit) else { return false };
        let most = limit / 2;
        if size > most { left < most } else { left < size.max(1) }
    }
}

/// Days since the epoch, in UTC.
#[must_use]
pub fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY)
}

impl Meter {
    /// With so many octets on `day` already.
    #[must_use]
    pub fn since(day: u64, octets: u64) -> Self {
        Self(Arc::new(Mutex::new(Count { day, today: octets, ..Count::default() })))
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.turn(today());
        count
    }

    /// No more than this a day; none: as many as there are.
    pub fn limit(&self, octets: Option<u64>) {
        self.count().limit = octets;
    }

    /// Octets have come.
    pub fn spend(&self, octets: u64) {
        let mut count = self.count();
        count.today = count.today.saturating_add(octets);
        count.unsaved = count.unsaved.saturating_add(octets);
    }

    /// Octets that are left of today, and the limit; none if there is no limit.
    #[must_use]
    pub fn left(&self) -> Option<(u64, u64)> {
        let count = self.count();
        count.left().zip(count.limit)
    }

    /// Whether a message of this size has to wait for another day.
    #[must_use]
    pub fn must_wait(&self, size: u64) -> bool {
        self.count().must_wait(size)
    }

    /// What has to be added to the record of a day, once: nothing where there is no limit.
    #[must_use]
    pub fn take_unsaved(&self) -> Option<(u64, u64)> {
        let mut count = self.count();
        count.limit?;
        let unsaved = std::mem::take(&mut count.unsaved);
        (unsaved > 0).then_some((count.day, unsaved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_counted_by_the_day_and_told_once() {
        let meter = Meter::since(today(), 70);
        meter.spend(20);
        assert_eq!((meter.left(), meter.must_wait(u64::MAX), meter.take_unsaved()), (None, false, None), "no limit");
        meter.limit(Some(100));
        assert_eq!(meter.left(), Some((10, 100)));
        assert!(!meter.must_wait(10) && meter.must_wait(11));
        assert_eq!(meter.take_unsaved(), Some((today(), 20)));
        assert_eq!(meter.take_unsaved(), None);
        meter.spend(10);
        assert!(meter.must_wait(0), "nothing is left for a message whose size nobody knows");
        let yesterday = Meter::since(today() - 1, 70);
        yesterday.limit(Some(100));
        assert_eq!(yesterday.left(), Some((100, 100)));
    }

    #[test]
    fn a_message_that_no_day_has_room_for_goes_when_most_of_a_day_is_left() {
        let meter = Meter::since(today(), 0);
        meter.limit(Some(100));
        meter.spend(49);
        assert!(!meter.must_wait(5000) && !meter.must_wait(50));
        meter.spend(2);
        assert!(meter.must_wait(5000) && !meter.must_wait(49) && meter.must_wait(50));
    }
}
