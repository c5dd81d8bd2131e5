//! A user's lifecycle (pure), name, sessions and gate.

pub mod crowd;
pub mod gate;
pub mod lifecycle;
pub mod name;
pub mod pass;
pub mod realm;
pub mod registry;

pub use crowd::Crowd;
pub use gate::{Busy, Close, GateGuard, Pop3Turn, Sessions, UserGate};
pub use lifecycle::{Event, IllegalEvent, Life};
pub use name::{CanonicalUser, LoginName, NameRules};
pub use pass::{Changes, SessionPass, Standing};
pub use realm::Realms;
pub use registry::{Attempt, EnterError, LoginSucceeded, Protocol, Registry};
