//! Reading a side, never changing it: EXAMINE and PEEK over IMAP, TOP over POP3.

pub mod imap;
pub mod pop3;
pub mod profile;

pub use imap::{Arrival, Arrivals, Bodies, BodyEvent, Changes, Login, ReadError, Reader, Seen, is_spent, profile_of};
pub use pop3::{Maildrop, MaildropError};
