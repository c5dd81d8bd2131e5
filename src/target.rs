//! Writing a side: mailboxes with chosen UIDs, by [`dsync`] over a Dovecot's doveadm service.

pub mod dsync;

pub use dsync::{DsyncTarget, TargetError};
