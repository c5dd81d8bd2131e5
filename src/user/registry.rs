//! Who is logged in, which side serves them, and the gate (DESIGN §3) that holds new logins during a switch.
//!
//! Invariants: a session is counted before anything is sent to its side, and until the last byte; the gate closes only
//! when no session is counted, in the same step that looks; while it is closed nobody gets in. So at the moment of a
//! switch no client has a way to the side that stops being the authority (I1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use secrecy::SecretSlice;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout_at};

use super::lifecycle::Life;
use super::name::{CanonicalUser, LoginName};
use crate::mailbox::Side;
use crate::store::{Store, StoreError};

/// A client's login that its side accepted.
#[derive(Clone, Debug)]
pub struct LoginSucceeded {
    /// Who logged in.
    pub login: LoginName,
    /// With which password; zeroized when the last holder lets go.
    pub password: Arc<SecretSlice<u8>>,
    /// From where.
    pub client: SocketAddr,
    /// Which side accepted it.
    pub side: Side,
}

/// All users who are logged in or being moved. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    users: Arc<DashMap<CanonicalUser, Arc<Cell>>>,
    store: Store,
}

#[derive(Debug)]
struct Cell {
    state: watch::Sender<State>,
    loaded: OnceCell<()>,
}

impl Default for Cell {
    fn default() -> Self {
        let state = State { authority: Side::Old, epoch: 0, closed: false, sessions: 0 };
        Self { state: watch::Sender::new(state), loaded: OnceCell::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    authority: Side,
    epoch: u64,
    closed: bool,
    sessions: u32,
}

/// Why a login did not get in.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The gate stayed closed.
    #[error("{user} is being switched to the new side and the login was held longer than {held:?}")]
    Held {
        /// The user.
        user: CanonicalUser,
        /// How long.
        held: Duration,
    },
    /// The user's record could not be read: the authority is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The gate can't close: sessions are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sessions} session{} open", if *sessions == 1 { "" } else { "s" })]
pub struct Busy {
    /// How many.
    pub sessions: u32,
}

impl Registry {
    /// An empty registry on `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { users: Arc::default(), store }
    }

    /// Lets a session of `user` in, or waits at most `patience` while the gate is closed.
    ///
    /// # Errors
    /// If the gate stays closed or the authority can't be read.
    pub async fn enter(&self, user: &CanonicalUser, patience: Duration) -> Result<SessionPass, EnterError> {
        let deadline = Instant::now() + patience;
        let gate = self.gate(user).await?;
        let mut state = gate.cell.state.subscribe();
        loop {
            let mut entered = None;
            gate.cell.state.send_if_modified(|state| {
                if state.closed {
                    return false;
                }
                state.sessions += 1;
                entered = Some((state.authority, state.epoch));
                true
            });
            if let Some((side, epoch)) = entered {
                return Ok(SessionPass { gate, side, epoch });
            }
            let open = timeout_at(deadline, state.wait_for(|state| !state.closed)).await;
            if !matches!(open, Ok(Ok(_))) {
                return Err(EnterError::Held { user: user.clone(), held: patience });
            }
        }
    }

    /// The gate of `user`.
    ///
    /// # Errors
    /// If the user's record can't be read.
    pub async fn gate(&self, user: &CanonicalUser) -> Result<UserGate, StoreError> {
        // The cell goes into the map before the record is read: whoever moves this user meanwhile shares it, so a
        // record read too early can't overwrite a later switch.
        let cell = Arc::clone(self.users.entry(user.clone()).or_default().value());
        let gate = UserGate { registry: self.clone(), user: user.clone(), cell };
        gate.cell
            .loaded
            .get_or_try_init(|| async {
                let record = self.store.user(user.as_str()).await?;
                let life = record.map_or_else(Life::new, |record| Life::of(&record));
                gate.cell.state.send_modify(|state| (state.authority, state.epoch) = (life.authority, life.epoch));
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(gate)
    }

    /// How many sessions are open, over all users.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.users.iter().map(|cell| u64::from(cell.state.borrow().sessions)).sum()
    }
}

/// A hold on one user's gate and counters; they stay in memory while anybody holds one.
#[derive(Debug)]
pub struct UserGate {
    registry: Registry,
    user: CanonicalUser,
    cell: Arc<Cell>,
}

impl UserGate {
    /// Sessions open now.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.cell.state.borrow().sessions
    }

    /// The side that serves the user now, and the epoch.
    #[must_use]
    pub fn authority(&self) -> (Side, u64) {
        let state = self.cell.state.borrow();
        (state.authority, state.epoch)
    }

    /// Waits until no session is open.
    pub async fn idle(&self) {
        // The sender lives in the cell that we hold, so waiting can't fail.
        let _ = self.cell.state.subscribe().wait_for(|state| state.sessions == 0).await;
    }

    /// Closes the gate if no session is open.
    ///
    /// # Errors
    /// [`Busy`] if one is; the gate stays open then.
    pub fn close_if_idle(&self) -> Result<GateGuard<'_>, Busy> {
        let mut sessions = 0;
        let closed = self.cell.state.send_if_modified(|state| {
            sessions = state.sessions;
            if state.sessions > 0 || state.closed {
                return false;
            }
            state.closed = true;
            true
        });
        if closed { Ok(GateGuard { gate: self }) } else { Err(Busy { sessions }) }
    }
}

impl Drop for UserGate {
    fn drop(&mut self) {
        // One count is the map's, one ours: nobody else can come by another while the map's shard is locked.
        self.registry
            .users
            .remove_if(&self.user, |_, cell| Arc::strong_count(cell) <= 2 && cell.state.borrow().sessions == 0);
    }
}

/// A closed gate; it opens when this is dropped, by default on the side that was the authority before.
#[derive(Debug)]
pub struct GateGuard<'a> {
    gate: &'a UserGate,
}

impl GateGuard<'_> {
    /// Opens the gate on the side that the committed transaction names.
    pub fn open_on(self, authority: Side, epoch: u64) {
        self.gate.cell.state.send_modify(|state| {
            state.authority = authority;
            state.epoch = epoch;
        });
    }
}

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        self.gate.cell.state.send_modify(|state| state.closed = false);
    }
}

/// An open session's right to talk to its side; dropping it ends the session's count.
#[derive(Debug)]
pub struct SessionPass {
    gate: UserGate,
    /// The side that serves this session.
    pub side: Side,
    /// The epoch in which it was let in.
    pub epoch: u64,
}

impl Drop for SessionPass {
    fn drop(&mut self) {
        self.gate.cell.state.send_modify(|state| state.sessions = state.sessions.saturating_sub(1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::user::NameRules;

    const LONG: Duration = Duration::from_secs(60);

    fn registry() -> (tempfile::TempDir, Registry, CanonicalUser) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        (folder, Registry::new(store), NameRules::default().canonical("u1"))
    }

    #[tokio::test]
    async fn a_gate_does_not_close_on_an_open_session() {
        let (_folder, registry, user) = registry();
        let first = registry.enter(&user, LONG).await.unwrap();
        let second = registry.enter(&user, LONG).await.unwrap();
        let gate = registry.gate(&user).await.unwrap();
        assert_eq!(gate.close_if_idle().unwrap_err().to_string(), "2 sessions open");
        drop(first);
        assert_eq!(gate.close_if_idle().unwrap_err().to_string(), "1 session open");
        drop(second);
        gate.idle().await;
        assert!(gate.close_if_idle().is_ok());
    }

    #[tokio::test]
    async fn logins_held_at_the_gate_land_on_the_side_it_opens_on() {
        let (_folder, registry, user) = registry();
        let gate = registry.gate(&user).await.unwrap();
        let guard = gate.close_if_idle().unwrap();
        let held = tokio::spawn({
            let (registry, user) = (registry.clone(), user.clone());
            async move { registry.enter(&user, LONG).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.sessions(), 0, "nobody gets in while the gate is closed");
        assert!(gate.close_if_idle().is_err(), "a closed gate has one owner");
        guard.open_on(Side::New, 1);
        let pass = held.await.unwrap();
        assert_eq!((pass.side, pass.epoch), (Side::New, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_stays_closed_refuses_and_a_dropped_one_opens_where_it_was() {
        let (_folder, registry, user) = registry();
        let gate = registry.gate(&user).await.unwrap();
        let guard = gate.close_if_idle().unwrap();
        let refused = registry.enter(&user, Duration::from_secs(2)).await;
        assert!(matches!(refused, Err(EnterError::Held { .. })), "{refused:?}");
        drop(guard);
        assert_eq!(registry.enter(&user, LONG).await.unwrap().side, Side::Old);
    }

    #[tokio::test]
    async fn a_user_without_session_or_move_costs_no_memory() {
        let (_folder, registry, user) = registry();
        let pass = registry.enter(&user, LONG).await.unwrap();
        let gate = registry.gate(&user).await.unwrap();
        drop(pass);
        assert_eq!(registry.users.len(), 1, "the gate is still held");
        drop(gate);
        assert_eq!(registry.users.len(), 0);
    }
}
