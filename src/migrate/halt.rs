//! What breaks off work on a user: an operator's word, or a session that a side turned away. What is under way may take hours; whatever it was, it goes on from there
//! another time, as after `kill -9`.

use std::sync::Arc;

use tokio::sync::watch;

use super::Stop;
use crate::user::Crowd;

/// Asks for work to be broken off, and knows whether it was asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Halt {
    asked: Arc<watch::Sender<bool>>,
    /// Everybody's, and the user's own.
    crowds: [Crowd; 2],
}

impl Halt {
    pub(super) fn new(crowds: [Crowd; 2]) -> Self {
        Self { asked: Arc::new(watch::Sender::new(false)), crowds }
    }

    /// Asks for it.
    pub(super) fn ask(&self) {
        self.asked.send_replace(true);
    }

    /// Takes the wish back: it has been heard.
    pub(super) fn heard(&self) {
        self.asked.send_replace(false);
    }

    /// Carries `work` out, or drops it in the middle when it shall be broken off.
    ///
    /// # Errors
    /// What `work` says, [`Stop::Halted`], or [`Stop::Later`] for a session that was turned away.
    pub(super) async fn unless<T>(&self, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let mut asked = self.asked.subscribe();
        let [everybodys, own] = &self.crowds;
        tokio::select! {
            done = work => done,
            _ = asked.wait_for(|asked| *asked) => Err(Stop::Halted),
            () = everybodys.pressed() => Err(Stop::Later(
                "a side took no more connections, and users' own sessions come first".to_owned(),
            )),
            () = own.pressed() => Err(Stop::Later(
                "a side took no more sessions of this user, and their own come first".to_owned(),
            )),
        }
    }
}
