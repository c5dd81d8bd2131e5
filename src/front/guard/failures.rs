//! Wrong passwords cost time: each one more, for whoever gives them.
//!
//! Counted are the failures of an address for one user, of an address for all users, and of a user from all addresses. The
//! longest of the three delays counts. What an address does for one user delays only that address; what all the world does
//! for a user's name delays strangers for that user by a few seconds at most, and nobody at an address from which that user
//! has logged in during the last week. So nobody can keep somebody else out, only slow himself down.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::Net;
use super::recent::Recent;
use crate::user::CanonicalUser;

/// What is remembered is forgotten after this time, or twice as much at most.
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// Who was at home somewhere this long ago still is.
const MEMORY_OF_HOMES: Duration = Duration::from_secs(7 * 86_400);

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
    pairs: Recent<(Net, u64), u32>,
    addresses: Recent<Net, u32>,
    users: Recent<u64, u32>,
    /// Who has logged in, and from where.
    known: Recent<(Net, u64), ()>,
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
        let of_pair = growing(count(&mut self.pairs, (net, user), now), FREE_OF_ADDRESS_FOR_USER, 1);
        if self.known.get(&(net, user), now).is_some() {
            return of_pair.min(self.longest);
        }
        let of_address = growing(count(&mut self.addresses, net, now), FREE_OF_ADDRESS, 5);
        let of_user = growing(count(&mut self.users, user, now), FREE_FOR_USER, 25).min(LONGEST_FOR_USER);
        of_pair.max(of_address).max(of_user).min(self.longest)
    }

    pub(super) fn failed(&mut self, net: Net, user: &CanonicalUser, now: Instant) {
        let user = self.hasher.hash_one(user);
        add(&mut self.pairs, (net, user), now);
        add(&mut self.addresses, net, now);
        add(&mut self.users, user, now);
    }

    pub(super) fn succeeded(&mut self, net: Net, user: &CanonicalUser, now: Instant) {
        let user = self.hasher.hash_one(user);
        self.pairs.forget(&(net, user));
        self.known.set((net, user), (), now);
    }
}

fn count<K: Eq + Hash>(of: &mut Recent<K, u32>, key: K, now: Instant) -> u32 {
    of.get(&key, now).unwrap_or(0)
}

fn add<K: Eq + Hash>(to: &mut Recent<K, u32>, key: K, now: Instant) {
    let failures = to.get(&key, now).unwrap_or(0).saturating_add(1);
    to.set(key, failures, now);
}

/// Nothing for the first `free` failures, then a second, doubled with each `step` more.
fn growing(failures: u32, free: u32, step: u32) -> Duration {
    match failures.checked_sub(free.saturating_add(1)) {
        Some(over) => Duration::from_secs(1_u64.checked_shl(over / step).unwrap_or(u64::MAX).min(86_400)),
        None => Duration::ZERO,
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
    fn all_is_forgotten_after_a_while() {
        let start = Instant::now();
        let mut failures = Failures::new(LONGEST, start);
        for _ in 0..20 {
            failures.failed(net(1), &user("anna"), start);
        }
        assert_eq!(seconds(&mut failures, 1, "anna", start + MEMORY), 15);
        assert_eq!(seconds(&mut failures, 1, "anna", start + MEMORY * 2), 0);
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
