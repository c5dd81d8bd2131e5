//! The model of a mailbox that both sides share: pure values, names, the diff and the comparison of two of them.
//!
//! Imports nothing else of ours.

pub mod account;
pub mod body;
pub mod compare;
pub mod diff;
pub mod filter;
pub mod merge;
pub mod message;
pub mod model;
pub mod name;
pub mod pop3;
pub mod quota;
pub mod report;
pub mod scripts;
pub mod sharing;

pub use account::{Account, Carried, Contents, Listed, Status};
pub use body::BodyDigest;
pub use filter::Filter;
pub use message::{Keywords, Message, SystemFlags};
pub use model::{Guid, ModSeq, Side, Uid, UidNext, UidValidity};
pub use name::{MailboxName, NameError};
pub use report::{Class, Finding, Report};
pub use scripts::Scripts;
pub use sharing::{Rights, Sharing};
