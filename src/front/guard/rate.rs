//! How many logins are tried a second, in all and of one address: the rest wait their turn. The servers behind us thank us for
//! it when all clients come back at once.

use std::time::Duration;

use tokio::time::Instant;

use super::recent::Recent;
use super::{Busy, Net};
use crate::config::Limits;

/// An address whose last login is longer ago is as good as new.
const MEMORY: Duration = Duration::from_secs(60);

/// When the next login may be tried, in all and for each address.
#[derive(Debug)]
pub(super) struct Rates {
    all: Option<Rate>,
    each: Option<Rate>,
    of_address: Recent<Net, Instant>,
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    key: &'static str,
    /// From one to the next.
    interval: Duration,
}

/// So much of the past may be caught up on: a client that opens ten connections at once is nothing unusual.
const BURST: Duration = Duration::from_secs(1);

impl Rates {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let rate = |key, a_second: usize| {
            let a_second = u32::try_from(a_second).ok().filter(|rate| *rate > 0)?;
            Some(Rate { key, interval: Duration::from_secs(1) / a_second })
        };
        Self {
            all: rate("limits.logins_per_second", limits.logins_per_second),
            each: rate("limits.logins_per_second_per_address", limits.logins_per_second_per_address),
            of_address: Recent::new(now, MEMORY),
            next: None,
        }
    }

    /// How long a login from `net` (none: an address without a rate of its own) that comes `now` waits for its turn; it has taken it then. At most `patience`.
    pub(super) fn turn(&mut self, net: Option<Net>, now: Instant, patience: Duration) -> Result<Duration, Busy> {
        let of = |rate: Option<Rate>, next: Option<Instant>| {
            let Some(Rate { key, interval }) = rate else { return Ok((Duration::ZERO, None)) };
            // Quiet time is credited up to the burst.
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let turn = next.unwrap_or(earliest).max(earliest);
            let wait = turn.saturating_duration_since(now);
            if wait > patience { Err(Busy { limit: key }) } else { Ok((wait, Some(turn + interval))) }
        };
        let (wait_all, next_all) = of(self.all, self.next)?;
        let each = self.each.filter(|_| net.is_some());
        let (wait_each, next_each) = of(each, net.and_then(|net| self.of_address.get(&net, now)))?;
        self.next = next_all;
        if let (Some(net), Some(next)) = (net, next_each) {
            self.of_address.set(net, next, now);
        }
        Ok(wait_all.max(wait_each))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn rates(all: usize, each: usize) -> Rates {
        Rates::new(
            &Limits { logins_per_second: all, logins_per_second_per_address: each, ..Limits::none() },
            Instant::now(),
        )
    }

    fn net(number: u32) -> Option<Net> {
        Some(Net::of(std::net::Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn a_second_worth_of_logins_goes_at_once_and_then_they_queue() {
        let (mut rates, now) = (rates(10, 0), Instant::now());
        let waits: Vec<Duration> = (0..130).map_while(|from| rates.turn(net(from), now, PATIENCE).ok()).collect();
        assert!(waits.iter().take(11).all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[20], Duration::from_secs(1));
        // Whoever would have to wait too long is told so, and takes nobody's turn.
        assert_eq!(waits.len(), 111);
        assert_eq!(rates.turn(net(1), now, PATIENCE).unwrap_err().limit, "limits.logins_per_second");
        assert_eq!(rates.turn(net(1), now + Duration::from_secs(1), PATIENCE), Ok(Duration::from_millis(9100)));
    }

    #[test]
    fn an_address_that_hurries_makes_nobody_else_wait() {
        let (mut rates, now) = (rates(0, 2), Instant::now());
        let turns = (0..100).filter(|_| rates.turn(net(1), now, PATIENCE).is_ok()).count();
        assert_eq!(turns, 23);
        assert_eq!(rates.turn(net(1), now, PATIENCE).unwrap_err().limit, "limits.logins_per_second_per_address");
        assert_eq!(rates.turn(net(2), now, PATIENCE), Ok(Duration::ZERO));
        assert!((0..1000).all(|_| rates.turn(None, now, PATIENCE) == Ok(Duration::ZERO)), "exempt");
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let (mut rates, now) = (rates(0, 0), Instant::now());
        assert!((0..10_000).all(|from| rates.turn(net(from), now, PATIENCE) == Ok(Duration::ZERO)));
    }
}
