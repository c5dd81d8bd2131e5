//! Wrong passwords cost time: each one more, for whoever gives them.
//!
//! Counted are the failures of an address for one user, of an address for all users, and of a user from all addresses. The
//! longest of the three delays counts. What an address does for one user delays only that address; what all the world does
//! for a user's name delays strangers for that user by a few seconds at most, and nobody at an address from which that user
//! has logged in during the last week. So nobody can keep somebody else out, only slow himself down.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::Net;
use crate::user::CanonicalUser;

/// What is remembered is forgotten after this time, or twice as much at most.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// Who was at home somewhere this long ago still is.
const MEMORY_OF_HOMES: Duration = Duration::from_secs(7 * 86_400);

/// Entries of one table, twice: an entry takes some 50 octets. More addresses than that make it forget sooner.
const ENTRIES: usize = 32 * 1024;

/// Failures that cost nothing: people mistype, and phones try an old password.
const FREE_OF_ADDRESS_FOR_USER: u32 = 2;

/// Behind one address there may be an office.
const FREE_OF_ADDRESS: u32 = 20;

/// The user's own devices after a change of password, and those who guess.
const FREE_FOR_USER: u32 = 50;

/// The longest delay for a user from everywhere: what somebody else causes must be bearable.
const LONGEST_FOR_USER: Duration = Duration::from_secs(3);

/// See the [module](self). The clock is the caller's.
#[derive(Debug)]
pub(super) struct Failures {
    longest: Duration,
    /// Names have any length; what is kept of them has one, and no stranger can choose which of them meet.
    hasher: RandomState,
    pairs: Recent<(Net, u64)>,
    addresses: Recent<Net>,
    users: Recent<u64>,
    /// Who has logged in, and from where.
    known: Recent<(Net, u64)>,
}

impl Failures {
    pub(super) fn new(longest: Duration, now: Instant) -> Self {
        let (pairs, known) = (Recent::new(now, MEMORY), Recent::new(now, MEMORY_OF_HOMES));
        let (addresses, users) = (Recent::new(now, MEMORY), Recent::new(now, MEMORY));
        Self { longest, hasher: RandomState::new(), pairs, addresses, users, known }
    }

    /// How long a login of `user` from `net` has to wait before it is tried.
    pub(super) fn delay(&mut self, net: Net, user: &CanonicalUser, now: Instant) -> Duration {
        let user = self.hasher.hash_one(user);
        let of_pair = growing(self.pairs.count(&(net, user), now), FREE_OF_ADDRESS_FOR_USER, 1);
        if self.known.count(&(net, user), now) > 0 {
            return of_pair.min(self.longest);
        }
        let of_address = growing(self.addresses.count(&net, now), FREE_OF_ADDRESS, 5);
        let of_user = growing(self.users.count(&user, now), FREE_FOR_USER, 25).min(LONGEST_FOR_USER);
        of_pair.max(of_address).max(of_user).min(self.longest)
    }

    pub(super) fn failed(&mut self, net: Net, user: &CanonicalUser, now: Instant) {
        let user = self.hasher.hash_one(user);
        self.pairs.add((net, user), now);
        self.addresses.add(net, now);
        self.users.add(user, now);
    }

    pub(super) fn succeeded(&mut self, net: Net, user: &CanonicalUser, now: Instant) {
        let user = self.hasher.hash_one(user);
        self.pairs.forget(&(net, user));
        self.known.add((net, user), now);
    }
}

/// Nothing for the first `free` failures, then a second, doubled with each `step` more.
fn growing(failures: u32, free: u32, step: u32) -> Duration {
    match failures.checked_sub(free.saturating_add(1)) {
        Some(over) => Duration::from_secs(1_u64.checked_shl(over / step).unwrap_or(u64::MAX).min(86_400)),
        None => Duration::ZERO,
    }
}

/// Counts of what has happened lately: two tables, of which the older one is thrown away when the younger one is full or old.
#[derive(Debug)]
struct Recent<K> {
    young: HashMap<K, u32>,
    old: HashMap<K, u32>,
    turned: Instant,
    memory: Duration,
}

impl<K: Eq + Hash> Recent<K> {
    fn new(now: Instant, memory: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned: now, memory }
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

    fn count(&mut self, key: &K, now: Instant) -> u32 {
        self.turn(now);
        let of = |table: &HashMap<K, u32>| table.get(key).copied().unwrap_or(0);
        of(&self.young).saturating_add(of(&self.old))
    }

    fn add(&mut self, key: K, now: Instant) {
        self.turn(now);
        let count = self.young.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::user::NameRules;

    const LONGEST: Duration = Duration::from_secs(15);

    fn user(name: &str) -> CanonicalUser {
        NameRules::default().canonical(name)
    }

    fn net(number: u32) -> Net {
        Net::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn seconds(of: &mut Failures, from: u32, name: &str, now: Instant) -> u64 {
        of.delay(net(from), &user(name), now).as_secs()
    }

    #[test]
    fn each_wrong_password_costs_more_than_the_one_before_up_to_a_bound() {
        let now = Instant::now();
        let mut failures = Failures::new(LONGEST, now);
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(seconds(&mut failures, 1, "anna", now));
            failures.failed(net(1), &user("anna"), now);
        }
        assert_eq!(delays, [0, 0, 0, 1, 2, 4, 8, 15]);
        // The right one is the end of it.
        failures.succeeded(net(1), &user("anna"), now);
        assert_eq!(seconds(&mut failures, 1, "anna", now), 0);
    }

    #[test]
    fn an_address_that_tries_many_users_is_slowed_down_for_all_but_its_own() {
        let now = Instant::now();
        let mut failures = Failures::new(LONGEST, now);
        failures.succeeded(net(1), &user("neighbour"), now);
        for number in 0..100 {
            failures.failed(net(1), &user(&format!("u{number}")), now);
        }
        assert_eq!(seconds(&mut failures, 1, "u1000", now), 15);
        assert_eq!(seconds(&mut failures, 1, "neighbour", now), 0, "who has shown lately that they are at home there");
        assert_eq!(seconds(&mut failures, 2, "u1000", now), 0, "from elsewhere");
    }

    #[test]
    fn nobody_can_lock_somebody_else_out() {
        let now = Instant::now();
        let mut failures = Failures::new(LONGEST, now);
        failures.succeeded(net(7), &user("victim"), now);
        for number in 0..200_000 {
            failures.failed(net(1000 + number % 5000), &user("victim"), now);
        }
        assert_eq!(seconds(&mut failures, 7, "victim", now), 0, "at home");
        assert_eq!(seconds(&mut failures, 8, "victim", now), LONGEST_FOR_USER.as_secs(), "on the way");
        assert_eq!(seconds(&mut failures, 1000, "victim", now), 15, "who does it");
        assert_eq!(seconds(&mut failures, 8, "another", now), 0);
    }

    #[test]
    fn all_is_forgotten_after_a_while_and_memory_has_a_bound() {
        let start = Instant::now();
        let mut failures = Failures::new(LONGEST, start);
        for _ in 0..20 {
            failures.failed(net(1), &user("anna"), start);
        }
        assert_eq!(seconds(&mut failures, 1, "anna", start + MEMORY), 15);
        assert_eq!(seconds(&mut failures, 1, "anna", start + MEMORY * 2), 0);
        for number in 0..200_000 {
            failures.failed(net(number), &user("anna"), start);
        }
        let tables = [failures.pairs.young.len(), failures.pairs.old.len(), failures.addresses.young.len()];
        assert!(tables.iter().all(|entries| *entries <= ENTRIES), "{tables:?}");
    }

    #[test]
    fn without_a_longest_delay_there_is_none() {
        let now = Instant::now();
        let mut failures = Failures::new(Duration::ZERO, now);
        for _ in 0..1000 {
            failures.failed(net(1), &user("anna"), now);
        }
        assert_eq!(seconds(&mut failures, 1, "anna", now), 0);
    }
}
