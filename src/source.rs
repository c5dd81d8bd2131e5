//! Reading a side, never changing it: EXAMINE and PEEK only.

pub mod imap;

pub use imap::{Bodies, BodyEvent, Login, ReadError, Reader};
