//! Reading a side, never changing it: EXAMINE and PEEK only.

pub mod imap;

pub use imap::{Arrival, Arrivals, Bodies, BodyEvent, Changes, Login, ReadError, Reader, Seen};
