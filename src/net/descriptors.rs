//! File descriptors: how many we may have, and how many clients fit into that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A client's socket, and the one to its server.
const EACH: u64 = 2;

/// Listeners, the store, the log, the admin API, pipes for messages that pass, and what the system's own machinery takes.
const OWN: u64 = 96;

/// A user who is being moved: connections to both sides over IMAP, POP3 and doveadm.
const EACH_MOVE: u64 = 8;

/// How many descriptors there are, and what fits into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit of this process.
    pub limit: u64,
    /// Clients at once.
    pub clients: u64,
}

impl Descriptors {
    /// Raises the limit to the most that the system lets us have, and counts what fits beside `moves` users moved at once.
    #[must_use]
    pub fn raise(moves: usize) -> Self {
        let had = getrlimit(Resource::Nofile);
        let wanted = Rlimit { current: had.maximum, maximum: had.maximum };
        let current = match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => wanted.current,
            Err(error) => {
                tracing::warn!("the limit of file descriptors can't be raised: {error}");
                had.current
            }
        };
        // No limit is none that matters.
        Self::of(current.unwrap_or(u64::MAX), moves)
    }

    fn of(limit: u64, moves: usize) -> Self {
        let moves = u64::try_from(moves).unwrap_or(u64::MAX).saturating_mul(EACH_MOVE);
        Self { limit, clients: limit.saturating_sub(OWN).saturating_sub(moves) / EACH }
    }

    /// What an operator should hear, if `connections` (`limits.connections`) don't fit.
    #[must_use]
    pub fn warning(self, connections: usize) -> Option<String> {
        let Self { limit, clients } = self;
        let fit = u64::try_from(connections).is_ok_and(|connections| connections <= clients);
        (!fit).then(|| {
            format!(
                "only {clients} clients fit into {limit} file descriptors, not limits.connections = {connections}: the next \
                 ones would wait without an answer. Raise LimitNOFILE= of the unit (ulimit -Hn), or lower limits.connections"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Descriptors;

    #[test]
    fn what_does_not_fit_is_said_with_numbers() {
        let descriptors = Descriptors::of(1128, 4);
        assert_eq!(descriptors.clients, 500);
        assert_eq!(descriptors.warning(500), None);
        let warning = descriptors.warning(501).unwrap();
        assert!(warning.contains("only 500 clients fit into 1128") && warning.contains("= 501"), "{warning}");
        assert_eq!(Descriptors::of(20, usize::MAX).clients, 0);
        assert_eq!(Descriptors::of(u64::MAX, 4).warning(1_000_000), None);
    }
}
