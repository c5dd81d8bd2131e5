//! Places: how many connections an address may have, how many of them without a login, and how many sessions a user.

use std::hash::Hash;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::Net;
use crate::config::Limits;
use crate::user::CanonicalUser;

/// What is counted, and up to where.
#[derive(Debug)]
pub(super) struct Places {
    addresses: DashMap<Net, usize>,
    strangers: DashMap<Net, usize>,
    users: DashMap<CanonicalUser, usize>,
    per_address: usize,
    strangers_per_address: usize,
    per_user: usize,
}

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits.{key} = {limit} is reached")]
pub(crate) struct Full {
    key: &'static str,
    limit: usize,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            addresses: DashMap::new(),
            strangers: DashMap::new(),
            users: DashMap::new(),
            per_address: limits.connections_per_address,
            strangers_per_address: limits.strangers_per_address,
            per_user: limits.sessions_per_user,
        }
    }

    /// For a connection from `net`; without one it is not counted.
    pub(super) fn enter(this: &Arc<Self>, net: Option<Net>) -> Result<Place, Full> {
        let full = |key, limit| Full { key, limit };
        let Some(net) = net else { return Ok(Place(None)) };
        if !take(&this.addresses, net, this.per_address) {
            return Err(full("connections_per_address", this.per_address));
        }
        // Given back if there is none for a stranger.
        let mut place = Counted { places: Arc::clone(this), net, stranger: false };
        if !take(&this.strangers, net, this.strangers_per_address) {
            return Err(full("strangers_per_address", this.strangers_per_address));
        }
        place.stranger = true;
        Ok(Place(Some(place)))
    }

    pub(super) fn seat(this: &Arc<Self>, user: &CanonicalUser) -> Result<Seat, Full> {
        if !take(&this.users, user.clone(), this.per_user) {
            return Err(Full { key: "sessions_per_user", limit: this.per_user });
        }
        Ok(Seat { places: Arc::clone(this), user: user.clone() })
    }
}

fn take<K: Eq + Hash>(counts: &DashMap<K, usize>, key: K, limit: usize) -> bool {
    let mut count = counts.entry(key).or_default();
    let free = *count < limit;
    if free {
        *count += 1;
    }
    free
}

fn give_back<K: Eq + Hash>(counts: &DashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        match count.get().saturating_sub(1) {
            // Nothing stays behind of whoever has gone.
            0 => drop(count.remove()),
            left => *count.get_mut() = left,
        }
    }
}

/// A connection's place at its address; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Counted>);

#[derive(Debug)]
struct Counted {
    places: Arc<Places>,
    net: Net,
    /// It has not logged in.
    stranger: bool,
}

impl Place {
    /// It is no stranger's any more.
    pub(crate) fn known(&mut self) {
        if let Some(counted) = &mut self.0 {
            counted.known();
        }
    }
}

impl Counted {
    fn known(&mut self) {
        if std::mem::take(&mut self.stranger) {
            give_back(&self.places.strangers, self.net);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.known();
        give_back(&self.places.addresses, self.net);
    }
}

/// A session of a user; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Arc<Places>,
    user: CanonicalUser,
}

impl Drop for Seat {
    fn drop(&mut self) {
        give_back(&self.places.users, self.user.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::user::NameRules;

    fn places() -> Arc<Places> {
        let limits =
            Limits { connections_per_address: 3, strangers_per_address: 2, sessions_per_user: 2, ..Limits::none() };
        Arc::new(Places::new(&limits))
    }

    fn net(text: &str) -> Net {
        Net::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_places_and_fewer_for_strangers() {
        let places = places();
        let here = net("192.0.2.7");
        let mut first = Places::enter(&places, Some(here)).unwrap();
        let mut second = Places::enter(&places, Some(here)).unwrap();
        let error = Places::enter(&places, Some(here)).unwrap_err();
        assert_eq!(error.to_string(), "limits.strangers_per_address = 2 is reached");
        first.known();
        first.known();
        second.known();
        let third = Places::enter(&places, Some(here)).unwrap();
        assert_eq!(Places::enter(&places, Some(here)).unwrap_err().key, "connections_per_address");
        assert!(Places::enter(&places, Some(net("192.0.2.8"))).is_ok());
        drop(third);
        assert!(Places::enter(&places, Some(here)).is_ok());
        drop((first, second));
        let exempt: Vec<Place> = (0..10).map(|_| Places::enter(&places, None).unwrap()).collect();
        drop(exempt);
        assert!(places.addresses.is_empty() && places.strangers.is_empty());
    }

    #[test]
    fn a_user_has_so_many_seats() {
        let places = places();
        let anna = NameRules::default().canonical("anna");
        let seats = [Places::seat(&places, &anna).unwrap(), Places::seat(&places, &anna).unwrap()];
        assert_eq!(Places::seat(&places, &anna).unwrap_err().key, "sessions_per_user");
        assert!(Places::seat(&places, &NameRules::default().canonical("berta")).is_ok());
        drop(seats);
        assert!(places.users.is_empty());
    }
}
