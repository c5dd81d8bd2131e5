//! Writing a side: mailboxes with chosen UIDs, by [`dsync`] over a Dovecot's doveadm service; single messages by APPEND over
//! [`imap`].

pub mod dsync;
pub mod imap;

pub use dsync::{DsyncTarget, TargetError};
pub use imap::{AppendError, AppendUid, Appending, Begun, ImapTarget, NewMessage};
