//! Who may come in, and how fast: bounds for each address, each user and all (`[limits]`), with bounded memory.
//!
//! An address is an IPv4 address, or the /64 of an IPv6 address: what one subscriber has. Nothing that a stranger does for a
//! user's name keeps that user out: a failure costs a delay, and never more (see [`failures`]).

mod failures;
mod places;
mod rate;
mod recent;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::config::{Limits, Network};
use crate::user::CanonicalUser;
use failures::Failures;
use places::Places;
pub(super) use places::{Full, Place, Seat};
use rate::Rates;

/// A login waits for its turn at most this long; clients give up after a minute, and the server behind us needs time as well.
const TURN: Duration = Duration::from_secs(15);

/// The limits at work. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    places: Arc<Places>,
    failures: Arc<Mutex<Failures>>,
    rates: Arc<Mutex<Rates>>,
    exempt: Arc<[Network]>,
}

/// An address as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Net(IpAddr);

impl Net {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))),
        }
    }
}

/// More logins than `limits.logins_per_second` lets through in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more logins wait than {limit} lets through within {} s", TURN.as_secs())]
pub(super) struct Busy {
    limit: &'static str,
}

impl Guard {
    /// These limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Places::new(limits)),
            failures: Arc::new(Mutex::new(Failures::new(limits.login_delay, Instant::now()))),
            rates: Arc::new(Mutex::new(Rates::new(limits, Instant::now()))),
            exempt: limits.exempt.clone().into(),
        }
    }

    /// A place for a connection from `address`, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Place, Full> {
        let net = (!self.is_exempt(address)).then(|| Net::of(address));
        Places::enter(&self.places, net)
    }

    /// A seat for a session of `user`, who has shown who they are, if there is one.
    pub(super) fn seat(&self, user: &CanonicalUser) -> Result<Seat, Full> {
        Places::seat(&self.places, user)
    }

    /// Waits until a login of `user` from `address` may be tried.
    pub(super) async fn before_login(&self, address: IpAddr, user: &CanonicalUser) -> Result<(), Busy> {
        let (net, now) = (Net::of(address), Instant::now());
        let exempt = self.is_exempt(address);
        let delay = if exempt { Duration::ZERO } else { lock(&self.failures).delay(net, user, now) };
        let turn = lock(&self.rates).turn((!exempt).then_some(net), now, TURN)?;
        let wait = delay.max(turn);
        if !wait.is_zero() {
            debug!(%user, ?delay, ?turn, "a login waits");
            sleep(wait).await;
        }
        Ok(())
    }

    /// The server took the password of `user` for a wrong one.
    pub(super) fn login_failed(&self, address: IpAddr, user: &CanonicalUser) {
        if self.is_exempt(address) {
            return;
        }
        let (net, now) = (Net::of(address), Instant::now());
        let mut failures = lock(&self.failures);
        failures.failed(net, user, now);
        let delay = failures.delay(net, user, now);
        drop(failures);
        if !delay.is_zero() {
            warn!(%user, "a login failed again: the next one from there waits {delay:?}");
        }
    }

    /// Whether all sorts of users come from there: a webmail server, for instance.
    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }

    /// `user` has logged in.
    pub(super) fn logged_in(&self, address: IpAddr, user: &CanonicalUser) {
        lock(&self.failures).succeeded(Net::of(address), user, Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Net;

    #[test]
    fn an_address_is_what_one_subscriber_has() {
        let net = |text: &str| Net::of(text.parse().unwrap());
        assert_eq!(net("192.0.2.7"), net("::ffff:192.0.2.7"));
        assert_ne!(net("192.0.2.7"), net("192.0.2.8"));
        assert_eq!(net("2001:db8:1:2::7"), net("2001:db8:1:2:ffff::1"));
        assert_ne!(net("2001:db8:1:2::7"), net("2001:db8:1:3::7"));
    }
}
