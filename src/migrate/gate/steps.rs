//! What took how long inside the gate: an operator whose users can't be switched must see where the pause went.

use std::fmt;
use std::time::{Duration, Instant};

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps {
    began: Instant,
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// The pause begins.
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, done: Vec::new() }
    }

    /// A step has ended.
    pub(super) fn done(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push((name, now - self.last));
        self.last = now;
    }

    /// Since the beginning.
    pub(super) fn all(&self) -> Duration {
        self.began.elapsed()
    }
}

/// `sessions 3 ms, fingerprint 12 ms, then 1985 ms`.
impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, took) in &self.done {
            write!(f, "{name} {} ms, ", took.as_millis())?;
        }
        write!(f, "then {} ms", self.last.elapsed().as_millis())
    }
}
