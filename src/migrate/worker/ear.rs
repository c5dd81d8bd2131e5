//! How a worker is told things.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::migrate::ProgressMeter;
use crate::source::Login;

/// Switches that wait for a worker who is busy: each is an operator who waits too.
const SWITCHES_MAX: usize = 8;

/// Where the outcome of an operator's switch goes.
pub(in crate::migrate) type Reply = oneshot::Sender<SwitchOutcome>;

/// How an operator's switch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchOutcome {
    /// The authority is the new side, in this epoch.
    Switched(u64),
    /// It can't be done; the reason is for the operator.
    Refused(String),
    /// It can be tried again: sessions are open, a server is down …
    TryAgain(String),
}

/// How a worker is told things.
#[derive(Clone, Debug)]
pub(in crate::migrate) struct Ear {
    /// The operator wants the switch now.
    pub(in crate::migrate) switches: mpsc::Sender<Reply>,
    /// The user's newest login; an older one that was not taken yet is of no use any more.
    pub(in crate::migrate) login: Arc<watch::Sender<Option<Login>>>,
    /// What the worker shows.
    pub(in crate::migrate) progress: ProgressMeter,
}

impl Ear {
    /// An ear, and the end of it that the worker holds.
    pub(in crate::migrate) fn new() -> (Self, mpsc::Receiver<Reply>) {
        let (switches, receiver) = mpsc::channel(SWITCHES_MAX);
        (Self { switches, login: Arc::new(watch::Sender::new(None)), progress: ProgressMeter::default() }, receiver)
    }
}
