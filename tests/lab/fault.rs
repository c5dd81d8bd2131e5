//! Places inside the proxy where a test stops it (`src/fault.rs`).

use super::process::wait_for;
use std::path::PathBuf;
use std::time::Duration;

/// A place that the proxy reaches and waits at until the test lets it go on.
#[derive(Debug)]
pub struct Hold {
    _folder: tempfile::TempDir,
    file: PathBuf,
    place: String,
}

impl Hold {
    /// For `place`, or for one passage of it: `gate-delta#2`.
    pub fn at(place: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("mfhold").tempdir().unwrap();
        Self { file: folder.path().join("held"), _folder: folder, place: place.to_owned() }
    }

    /// The value of `MAILFERRY_FAULTS`.
    pub fn fault(&self) -> String {
        format!("{}=hold:{}", self.place, self.file.display())
    }

    /// Waits until the proxy stands there.
    pub fn wait(&self, limit: Duration) {
        wait_for(&format!("the proxy to reach {}", self.place), limit, || self.file.exists().then_some(()));
    }

    /// Whether the proxy stands there now.
    pub fn is_reached(&self) -> bool {
        self.file.exists()
    }

    /// Lets it go on.
    pub fn release(&self) {
        // Gone with the proxy, if that was killed.
        let _ = std::fs::remove_file(&self.file);
    }
}
