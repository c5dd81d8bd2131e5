//! A user's lifecycle (pure), gate, session registry and name.

pub mod lifecycle;
pub mod name;
pub mod registry;

pub use lifecycle::{Event, IllegalEvent, Life};
pub use name::{CanonicalUser, LoginName, NameRules};
pub use registry::{Busy, EnterError, GateGuard, LoginSucceeded, Registry, SessionPass, UserGate};
