//! What all sessions together may hold of the lists that pass by: each is small, but there may be many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets of lists that all sessions together may hold: those of some hundred sessions with ten thousand messages each.
pub(super) const ALL_MAX: usize = 64 << 20;

/// What is held by all sessions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HeldLists(Arc<AtomicUsize>);

/// One session's share; it is given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    all: HeldLists,
    own: usize,
}

impl HeldLists {
    /// For a session that holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { all: self.clone(), own: 0 }
    }
}

impl Share {
    /// This session holds so many octets now. False if that is too much for all together: then it must let them go.
    pub(super) fn set(&mut self, octets: usize) -> bool {
        let before = std::mem::replace(&mut self.own, octets);
        if octets <= before {
            self.all.0.fetch_sub(before - octets, Ordering::Relaxed);
            return true;
        }
        let more = octets - before;
        self.all.0.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= ALL_MAX
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL_MAX, HeldLists};

    #[test]
    fn all_together_have_a_bound_and_what_is_let_go_is_there_again() {
        let all = HeldLists::default();
        let (mut one, mut other) = (all.share(), all.share());
        assert!(one.set(ALL_MAX - 10) && other.set(10));
        assert!(!other.set(11));
        other.set(0);
        assert!(other.set(5) && one.set(1) && other.set(ALL_MAX - 1));
        drop(other);
        assert!(one.set(ALL_MAX));
    }
}
