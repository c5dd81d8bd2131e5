//! A user's Sieve scripts.

use std::collections::BTreeMap;
use std::fmt;

/// All scripts of a user on one side.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// By name.
    pub all: BTreeMap<String, Vec<u8>>,
    /// The one that new mail goes through.
    pub active: Option<String>,
}

/// What a script does is its owner's own business.
impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts").field("count", &self.all.len()).finish_non_exhaustive()
    }
}

/// In words: `2 scripts, "main" is active`.
impl fmt::Display for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.all.len();
        write!(f, "{count} script{}", if count == 1 { "" } else { "s" })?;
        match &self.active {
            Some(name) => write!(f, ", {name:?} is active"),
            None if count == 0 => Ok(()),
            None => f.write_str(", none is active"),
        }
    }
}
