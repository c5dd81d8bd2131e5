//! The model of a mailbox that both sides share: pure values, names, the diff and the comparison of two of them.
//!
//! Imports nothing else of ours.

pub mod model;
pub mod name;

pub use model::{Guid, ModSeq, Side, Uid, UidNext, UidValidity};
pub use name::{MailboxName, NameError};
