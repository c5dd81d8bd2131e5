//! Reading a side, never changing it: EXAMINE and PEEK over IMAP, TOP over POP3, a role without a word for a change over dsync.

pub mod dsync;
pub mod imap;
pub mod pop3;
pub mod profile;
mod reader;

pub use dsync::{DsyncReader, DsyncServer};
pub use imap::{Arrival, Arrivals, BodyEvent, Changes, ImapReader, Left, Login, ReadError, Seen, is_spent, profile_of};
pub use pop3::{Maildrop, MaildropError};
pub use reader::{Bodies, Reader, Stored};
