//! One user's gate (DESIGN §3): closed, it holds new logins and keeps the sessions that are open at a command boundary.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::crowd::Crowd;
use super::name::CanonicalUser;
use super::registry::{Cell, Registry, State};
use crate::mailbox::Side;

/// How long a user's POP3 login waits before our own POP3 session has to go at once: some time is left for closing it.
const POP3_COURTESY: Duration = Duration::from_secs(8);

/// Sessions that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Over IMAP.
    pub imap: u32,
    /// Over POP3.
    pub pop3: u32,
}

impl Sessions {
    /// Whether there is none.
    #[must_use]
    pub const fn none(self) -> bool {
        self.imap == 0 && self.pop3 == 0
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        match (self.imap, self.pop3) {
            (imap, 0) => write!(f, "{imap} session{} open", plural(imap)),
            (0, pop3) => write!(f, "{pop3} POP3 session{} open", plural(pop3)),
            (imap, pop3) => {
                write!(f, "{imap} session{} and {pop3} POP3 session{} open", plural(imap), plural(pop3))
            }
        }
    }
}

/// The gate can't close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// These sessions are open, and can't be paused or shall not be.
    #[error("{0}")]
    Open(Sessions),
    /// IMAP sessions did not come to a command boundary in time.
    #[error("{busy} of {sessions} sessions had a command going all the time ({waited:?})")]
    Unparked {
        /// How many.
        busy: u32,
        /// Of how many.
        sessions: u32,
        /// How long they were given.
        waited: Duration,
    },
}

/// Whose sessions the gate may close on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Nobody's.
    WhenIdle,
    /// IMAP sessions are paused at a command boundary.
    Live,
}

/// A hold on one user's gate and counters; they stay in memory while anybody holds one.
#[derive(Debug)]
pub struct UserGate {
    pub(super) registry: Registry,
    pub(super) user: CanonicalUser,
    pub(super) cell: Arc<Cell>,
}

impl UserGate {
    /// Sessions open now.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        let state = self.cell.state.borrow();
        Sessions { imap: state.imap, pop3: state.pop3 }
    }

    /// The side that serves the user now, and the epoch.
    #[must_use]
    pub fn authority(&self) -> (Side, u64) {
        let state = self.cell.state.borrow();
        (state.authority, state.epoch)
    }

    /// Knows of sessions of this user that a side turned away because it had too many of them.
    #[must_use]
    pub fn crowd(&self) -> &Crowd {
        &self.cell.crowd
    }

    /// Another hold on the same gate.
    #[must_use]
    pub(super) fn again(&self) -> Self {
        Self { registry: self.registry.clone(), user: self.user.clone(), cell: Arc::clone(&self.cell) }
    }

    /// Waits until no session is open.
    pub async fn idle(&self) {
        self.until(|state| state.sessions() == 0).await;
    }

    /// Waits until no POP3 session is open.
    pub async fn without_pop3(&self) {
        self.until(|state| state.pop3 == 0).await;
    }

    /// Waits until a session has written something.
    pub async fn written(&self) {
        self.until(|state| state.dirty).await;
    }

    /// Forgets that sessions have written; whoever calls it looks at the account next. True if one had.
    pub fn take_written(&self) -> bool {
        self.cell.state.send_if_modified(|state| std::mem::take(&mut state.dirty))
    }

    /// Says whether the user would be switched at once if there were no session: then a login waits for it.
    pub fn set_ready(&self, ready: bool) {
        self.cell.state.send_if_modified(|state| std::mem::replace(&mut state.ready, ready) != ready);
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // The sender lives in the cell that we hold, so waiting can't fail.
        let _ = self.cell.state.subscribe().wait_for(condition).await;
    }

    /// Waits until the gate is open.
    pub(super) async fn open_by(&self, deadline: Instant) -> Result<(), ()> {
        timeout_at(deadline, self.until(|state| !state.closed)).await.map_err(|_| ())
    }

    /// Closes the gate: from now on no login gets in, and sessions stop at their next command boundary. Returns when all
    /// stand still.
    ///
    /// # Errors
    /// [`Busy`] if sessions are open on which it may not close, or that don't stand still by `deadline`; the gate is open
    /// again then, and nobody has noticed anything but a short pause.
    pub async fn close(&self, close: Close, deadline: Instant) -> Result<GateGuard<'_>, Busy> {
        let began = Instant::now();
        let mut busy = None;
        let closed = self.cell.state.send_if_modified(|state| {
            if state.closed || state.pop3 > 0 || (close == Close::WhenIdle && state.imap > 0) {
                busy = Some(Busy::Open(Sessions { imap: state.imap, pop3: state.pop3 }));
                return false;
            }
            state.closed = true;
            state.closing += 1;
            state.parked = 0;
            true
        });
        if let Some(busy) = busy.filter(|_| !closed) {
            return Err(busy);
        }
        let guard = GateGuard { gate: self };
        if timeout_at(deadline, self.until(|state| state.parked >= state.imap)).await.is_err() {
            let state = *self.cell.state.borrow();
            let waited = began.elapsed();
            return Err(Busy::Unparked { busy: state.imap.saturating_sub(state.parked), sessions: state.imap, waited });
        }
        Ok(guard)
    }

    /// The right to open a POP3 session of our own at the user's side; none while the user has one, or tries to.
    #[must_use]
    pub fn pop3_turn(&self) -> Option<Pop3Turn> {
        let taken = self.cell.state.send_if_modified(|state| {
            let free = state.pop3 == 0 && state.pop3_trying == 0 && !state.pop3_ours;
            state.pop3_ours |= free;
            free
        });
        taken.then(|| Pop3Turn { gate: self.again() })
    }
}

impl Drop for UserGate {
    fn drop(&mut self) {
        // One count is the map's, one ours: nobody else can come by another while the map's shard is locked.
        self.registry
            .users
            .remove_if(&self.user, |_, cell| Arc::strong_count(cell) <= 2 && cell.state.borrow().sessions() == 0);
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
            // Whatever it was that logins waited for has happened.
            state.ready = false;
        });
    }
}

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        self.gate.cell.state.send_modify(|state| {
            state.closed = false;
            state.parked = 0;
        });
    }
}

/// The right to a POP3 session of our own; drop it when that session is closed.
#[derive(Debug)]
pub struct Pop3Turn {
    gate: UserGate,
}

impl Pop3Turn {
    /// Resolves when a login of the user has waited so long for our session that it must be closed at once.
    pub async fn wanted(&self) {
        self.gate.until(|state| state.pop3_waiting > 0).await;
        tokio::time::sleep(POP3_COURTESY).await;
    }
}

impl Drop for Pop3Turn {
    fn drop(&mut self) {
        self.gate.cell.state.send_modify(|state| state.pop3_ours = false);
    }
}
