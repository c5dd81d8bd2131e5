//! Who is logged in, and which side serves them.
//!
//! Invariants: a session is counted before any command of its client is sent to its side, and until the last octet; while
//! the gate is closed no session is counted anew and those that are stand still at a command boundary. So at the moment of
//! a switch no client has a way to the side that stops being the authority (I1). A login that is still being tried is no
//! session: a flood of wrong passwords for one name can't keep its gate open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use secrecy::SecretSlice;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout_at};

use super::crowd::Crowd;
use super::gate::UserGate;
use super::lifecycle::Life;
use super::name::{CanonicalUser, LoginName};
use super::pass::SessionPass;
use crate::mailbox::Side;
use crate::store::{Phase, Store, StoreError};

/// How long a user's POP3 login waits for our own POP3 session, which locks their maildrop on many servers.
const POP3_PATIENCE: Duration = Duration::from_secs(10);

/// A client's login that its side accepted.
#[derive(Clone, Debug)]
pub struct LoginSucceeded {
    /// Who logged in.
    pub login: LoginName,
    /// With which password; zeroized when the last holder lets go. None: with a token.
    pub password: Option<Arc<SecretSlice<u8>>>,
    /// From where.
    pub client: SocketAddr,
    /// Which side accepted it.
    pub side: Side,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP: a session can be paused between two commands.
    Imap,
    /// POP3: its message numbers and deletions can't be carried over (RFC 1939 §3), so the gate waits for its end.
    Pop3,
}

/// All users who are logged in or being moved. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) users: Arc<DashMap<CanonicalUser, Arc<Cell>>>,
    store: Store,
    /// How long a login may be kept waiting for a switch that is about to happen; none if switches don't happen by themselves.
    hold: Option<Duration>,
    crowd: Crowd,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) state: watch::Sender<State>,
    loaded: OnceCell<()>,
    pub(super) crowd: Crowd,
}

impl Default for Cell {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::default()), loaded: OnceCell::new(), crowd: Crowd::default() }
    }
}

/// One user's sessions and gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) authority: Side,
    pub(super) epoch: u64,
    pub(super) closed: bool,
    /// Counts the gate's closings, so that a session knows for which of them it was parked.
    pub(super) closing: u64,
    pub(super) imap: u32,
    pub(super) pop3: u32,
    /// IMAP sessions that stand still at a command boundary since this closing.
    pub(super) parked: u32,
    /// POP3 logins being tried at a side: its maildrop may be locked already.
    pub(super) pop3_trying: u32,
    /// POP3 logins that wait for our own POP3 session.
    pub(super) pop3_waiting: u32,
    /// Our own POP3 session is open.
    pub(super) pop3_ours: bool,
    /// The mover would switch this user at once if there were no session.
    pub(super) ready: bool,
    /// A session has written since somebody last asked.
    pub(super) dirty: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            authority: Side::Old,
            epoch: 0,
            closed: false,
            closing: 0,
            imap: 0,
            pop3: 0,
            parked: 0,
            pop3_trying: 0,
            pop3_waiting: 0,
            pop3_ours: false,
            ready: false,
            dirty: false,
        }
    }
}

impl State {
    pub(super) const fn sessions(&self) -> u32 {
        self.imap.saturating_add(self.pop3)
    }

    /// Whether a login that is admitted now would be better off waiting for the switch that it makes room for.
    const fn worth_waiting(&self) -> bool {
        self.ready && !self.closed && self.sessions() == 0
    }
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

impl Registry {
    /// An empty registry on `store`. `hold` is how long a login may be kept waiting for a switch that is about to happen,
    /// where switches happen by themselves.
    #[must_use]
    pub fn new(store: Store, hold: Option<Duration>) -> Self {
        Self { users: Arc::default(), store, hold, crowd: Crowd::default() }
    }

    /// Tells which side to try a login of `user` at; waits at most `patience` while the gate is closed, and a little while
    /// our own POP3 session may lock the maildrop.
    ///
    /// # Errors
    /// If the gate stays closed or the authority can't be read.
    pub async fn attempt(
        &self,
        user: &CanonicalUser,
        protocol: Protocol,
        patience: Duration,
    ) -> Result<Attempt, EnterError> {
        let deadline = Instant::now() + patience;
        let gate = self.gate(user).await?;
        gate.open_by(deadline).await.map_err(|()| EnterError::Held { user: user.clone(), held: patience })?;
        let mut attempt = Attempt { side: gate.authority().0, gate, protocol, hold: self.hold, trying: false };
        if protocol == Protocol::Pop3 {
            attempt.begin_trying().await;
        }
        Ok(attempt)
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
                gate.cell.state.send_modify(|state| {
                    (state.authority, state.epoch) = (life.authority, life.epoch);
                    // After a restart it is this login that brings the password for which the switch has been waiting.
                    state.ready = self.hold.is_some() && life.phase == Phase::Following;
                });
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(gate)
    }

    /// Who is turned away by a side, and who gives way then.
    #[must_use]
    pub const fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// How many sessions are open, over all users.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.users.iter().map(|cell| u64::from(cell.state.borrow().sessions())).sum()
    }
}

/// A login that is being tried at a side. It holds nothing up; once it is accepted it must be [admitted](Attempt::admit)
/// before anything of its client is sent on.
#[derive(Debug)]
pub struct Attempt {
    gate: UserGate,
    side: Side,
    protocol: Protocol,
    hold: Option<Duration>,
    /// Counted in [`State::pop3_trying`].
    trying: bool,
}

impl Attempt {
    /// Where to try it.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Whether the user may be switched while this login waits to be admitted. A POP3 session that was opened for it should
    /// be closed first, or its lock would stand in the way.
    #[must_use]
    pub fn may_move(&self) -> bool {
        let state = self.gate.cell.state.borrow();
        state.closed || state.worth_waiting()
    }

    /// Makes a session of an accepted login, after at most `patience` while the gate is closed. If it is the user's only
    /// session and a switch is about to happen, the switch comes first: look at [`SessionPass::side`], and log in there if
    /// it is another side than that of the attempt.
    ///
    /// # Errors
    /// If the gate stays closed.
    pub async fn admit(mut self, patience: Duration) -> Result<SessionPass, EnterError> {
        let deadline = Instant::now() + patience;
        if self.may_move() {
            self.stop_trying();
        }
        if let Some(hold) = self.hold
            && self.gate.cell.state.borrow().worth_waiting()
        {
            let mut state = self.gate.cell.state.subscribe();
            // Time is up, or the mover has decided: in both cases the login goes on.
            let _ = timeout_at(Instant::now() + hold, state.wait_for(|state| !state.worth_waiting())).await;
        }
        loop {
            let mut entered = None;
            self.gate.cell.state.send_if_modified(|state| {
                if state.closed {
                    return false;
                }
                match self.protocol {
                    Protocol::Imap => state.imap += 1,
                    Protocol::Pop3 => state.pop3 += 1,
                }
                entered = Some((state.authority, state.epoch));
                true
            });
            if let Some((side, epoch)) = entered {
                let gate = self.gate.again();
                return Ok(SessionPass::new(gate, self.protocol, side, epoch));
            }
            let held = || EnterError::Held { user: self.gate.user.clone(), held: patience };
            self.gate.open_by(deadline).await.map_err(|()| held())?;
        }
    }

    /// Counts this login as one that is being tried, when our own POP3 session has ended.
    async fn begin_trying(&mut self) {
        if self.try_unless_ours(false) {
            return;
        }
        let cell = Arc::clone(&self.gate.cell);
        cell.state.send_modify(|state| state.pop3_waiting += 1);
        let _waiting = Waiting(&cell);
        let deadline = Instant::now() + POP3_PATIENCE;
        let mut state = cell.state.subscribe();
        loop {
            let ended = timeout_at(deadline, state.wait_for(|state| !state.pop3_ours)).await.is_ok();
            // When our session is still there it is about to end: better a refusal by the server than a login that hangs.
            if self.try_unless_ours(!ended) {
                return;
            }
        }
    }

    /// In one step with the look at our session, which could begin in between.
    fn try_unless_ours(&mut self, all_the_same: bool) -> bool {
        self.trying = self.gate.cell.state.send_if_modified(|state| {
            let free = all_the_same || !state.pop3_ours;
            state.pop3_trying += u32::from(free);
            free
        });
        self.trying
    }

    fn stop_trying(&mut self) {
        if std::mem::take(&mut self.trying) {
            self.gate.cell.state.send_modify(|state| state.pop3_trying = state.pop3_trying.saturating_sub(1));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.stop_trying();
    }
}

/// One more who waits for our POP3 session, however the wait ends.
struct Waiting<'a>(&'a Cell);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.pop3_waiting = state.pop3_waiting.saturating_sub(1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
