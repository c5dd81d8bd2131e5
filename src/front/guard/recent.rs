//! What is known of those who came lately, within bounded memory and time, whatever strangers do: two tables, of which the older
//! one is thrown away when the younger one is full or old.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Entries of one table: an entry takes some 50 octets. More addresses than that make it forget sooner.
pub(super) const ENTRIES: usize = 32 * 1024;

/// A value for each key, until nothing was set for `memory`, or twice as long at most. The clock is the caller's.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    turned: Instant,
    memory: Duration,
}

impl<K: Eq + Hash, V: Copy> Recent<K, V> {
    pub(super) fn new(now: Instant, memory: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned: now, memory }
    }

    pub(super) fn get(&mut self, key: &K, now: Instant) -> Option<V> {
        self.turn(now);
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    pub(super) fn set(&mut self, key: K, value: V, now: Instant) {
        self.turn(now);
        self.young.insert(key, value);
    }

    pub(super) fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age >= self.memory || self.young.len() >= ENTRIES {
            self.old = std::mem::take(&mut self.young);
            if age >= self.memory * 2 {
                self.old.clear();
            }
            self.turned = now;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Duration = Duration::from_secs(600);

    #[test]
    fn what_is_set_is_kept_for_a_while_after_the_last_time() {
        let start = Instant::now();
        let mut recent = Recent::new(start, MEMORY);
        for minute in 0..100 {
            recent.set(1, minute, start + Duration::from_secs(60) * minute);
        }
        let last = start + Duration::from_secs(60) * 99;
        assert_eq!(recent.get(&1, last + MEMORY - Duration::from_secs(1)), Some(99));
        assert_eq!(recent.get(&1, last + MEMORY * 3), None);
        recent.set(2, 1, last + MEMORY * 3);
        recent.forget(&2);
        assert_eq!(recent.get(&2, last + MEMORY * 3), None);
    }

    #[test]
    fn memory_has_a_bound_and_the_latest_are_known() {
        let start = Instant::now();
        let mut recent = Recent::new(start, MEMORY);
        for key in 0..1_000_000 {
            recent.set(key, (), start);
        }
        assert!(recent.len() <= 2 * ENTRIES);
        assert_eq!(recent.get(&999_999, start), Some(()));
        assert_eq!(recent.get(&0, start), None);
    }
}
