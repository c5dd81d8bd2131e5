//! An operator's word that breaks off work on a user. What is under way may take hours; whatever it was, it goes on from there
//! another time, as after `kill -9`.

use std::sync::Arc;

use tokio::sync::watch;

use super::Stop;

/// Asks for work to be broken off, and knows whether it was asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Halt(Arc<watch::Sender<bool>>);

impl Halt {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Asks for it.
    pub(super) fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Takes the wish back: it has been heard.
    pub(super) fn heard(&self) {
        self.0.send_replace(false);
    }

    /// Carries `work` out, or drops it in the middle when it shall be broken off.
    ///
    /// # Errors
    /// What `work` says, or [`Stop::Halted`].
    pub(super) async fn unless<T>(&self, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let mut asked = self.0.subscribe();
        tokio::select! {
            done = work => done,
            _ = asked.wait_for(|asked| *asked) => Err(Stop::Halted),
        }
    }
}
