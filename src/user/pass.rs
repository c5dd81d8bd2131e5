//! An open session's right to talk to its side.

use tokio::sync::watch;

use super::gate::UserGate;
use super::registry::{Protocol, State};
use crate::mailbox::Side;

/// An open session's right to talk to its side; dropping it ends the session's count.
#[derive(Debug)]
pub struct SessionPass {
    /// The side that serves this session.
    pub side: Side,
    /// The epoch in which it was let in.
    pub epoch: u64,
    gate: UserGate,
    protocol: Protocol,
    state: watch::Receiver<State>,
    /// The closing of the gate for which this session stands still.
    parked: Option<u64>,
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Go on.
    Open,
    /// Finish the command that is going, then [park](SessionPass::park).
    Closing,
    /// Stand still.
    Parked,
    /// End: another side serves the user now.
    Moved,
}

impl SessionPass {
    /// For a session that has just been counted.
    pub(super) fn new(gate: UserGate, protocol: Protocol, side: Side, epoch: u64) -> Self {
        let state = gate.cell.state.subscribe();
        Self { side, epoch, gate, protocol, state, parked: None }
    }

    /// What the session may do now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.state.borrow();
        match state.closed {
            _ if state.epoch != self.epoch => Standing::Moved,
            true if self.parked == Some(state.closing) => Standing::Parked,
            true => Standing::Closing,
            false => Standing::Open,
        }
    }

    /// Stands still at a command boundary until the gate opens: nothing of the client is sent on until [`Standing::Open`].
    pub fn park(&mut self) {
        let Self { gate, parked, .. } = self;
        gate.cell.state.send_if_modified(|state| {
            if !state.closed || *parked == Some(state.closing) {
                return false;
            }
            *parked = Some(state.closing);
            state.parked += 1;
            true
        });
    }

    /// What to wait on for another [`SessionPass::standing`].
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.state.clone())
    }

    /// The session's client has changed something in the account.
    pub fn wrote(&self) {
        self.gate.cell.state.send_if_modified(|state| !std::mem::replace(&mut state.dirty, true));
    }
}

/// Tells when a session's [`SessionPass::standing`] may have changed, apart from the pass: the wait can go on while that is used.
#[derive(Debug)]
pub struct Changes(watch::Receiver<State>);

impl Changes {
    /// Resolves, and can be asked again, when there has been a change since the last time.
    pub async fn next(mut self) -> Self {
        // The sender lives in the cell that the pass's gate holds.
        let _ = self.0.changed().await;
        self
    }
}

impl Drop for SessionPass {
    fn drop(&mut self) {
        self.gate.cell.state.send_modify(|state| {
            match self.protocol {
                Protocol::Imap => state.imap = state.imap.saturating_sub(1),
                Protocol::Pop3 => {
                    state.pop3 = state.pop3.saturating_sub(1);
                    // Its deletions happen at its end.
                    state.dirty = true;
                }
            }
            if state.closed && self.parked == Some(state.closing) {
                state.parked = state.parked.saturating_sub(1);
            }
        });
    }
}
