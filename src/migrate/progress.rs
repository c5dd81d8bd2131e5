//! How far the work on a user has come: written by the work, read by whoever shows it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Progress;

/// A shared meter. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ProgressMeter {
    state: Arc<Mutex<Progress>>,
}

impl ProgressMeter {
    /// What it shows now.
    #[must_use]
    pub fn read(&self) -> Progress {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
