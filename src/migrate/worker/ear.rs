//! How a worker is told things.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::migrate::ProgressMeter;
use crate::migrate::halt::Halt;
use crate::source::Login;
use crate::user::Crowd;

/// Orders that wait for a worker who is busy: each is an operator who waits too.
const ORDERS_MAX: usize = 8;

/// What an operator wants of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The user's next login starts the move.
    Enroll,
    /// It doesn't, and a move that has begun stops where it is.
    Hold {
        /// Who says so.
        by: String,
    },
    /// A held user moves on.
    Resume,
    /// The authority moves to the new side now.
    Switch,
    /// It returns to the old side.
    Rollback {
        /// Flags, subscriptions and expunges of the new side may be lost.
        accept_loss: bool,
        /// Who says so.
        by: String,
    },
    /// There is no way back any more, and the old side is no longer looked at.
    Settle,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The authority is the new side, in this epoch.
    Switched(u64),
    /// The authority is the old side again, in this epoch.
    RolledBack(u64),
    /// It is done; what that means for the user.
    Done(String),
    /// It can't be done; the reason is for the operator.
    Refused(String),
    /// It can be tried again: sessions are open, a server is down …
    TryAgain(String),
}

/// An order, and where its outcome goes.
#[derive(Debug)]
pub(in crate::migrate) struct Asked {
    pub(in crate::migrate) order: Order,
    pub(in crate::migrate) reply: oneshot::Sender<Outcome>,
}

/// How a worker is told things.
#[derive(Clone, Debug)]
pub(in crate::migrate) struct Ear {
    /// What operators want.
    pub(in crate::migrate) orders: mpsc::Sender<Asked>,
    /// Breaks off what the worker is doing, so that it hears an order at once.
    pub(in crate::migrate) halt: Halt,
    /// The user's newest login; an older one that was not taken yet is of no use any more.
    pub(in crate::migrate) login: Arc<watch::Sender<Option<Login>>>,
    /// What the worker shows.
    pub(in crate::migrate) progress: ProgressMeter,
}

impl Ear {
    /// An ear, and the end of it that the worker holds. `crowds`: those that its connections make room for.
    pub(in crate::migrate) fn new(crowds: [Crowd; 2]) -> (Self, mpsc::Receiver<Asked>) {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let login = Arc::new(watch::Sender::new(None));
        (Self { orders, halt: Halt::new(crowds), login, progress: ProgressMeter::default() }, receiver)
    }
}
