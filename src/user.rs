//! A user's lifecycle (pure), gate, session registry and name.

pub mod name;

pub use name::{CanonicalUser, LoginName, NameRules};
