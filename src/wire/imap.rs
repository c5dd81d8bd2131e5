//! IMAP as octets: framing, reading what servers say, writing what we say, the talk before login, and the relay after it.
//!
//! Nothing here waits or owns a socket. What a server says is read by the tolerant [`scan`], never by a strict parser, since
//! one unknown FETCH item must not cost the whole line; what we say is encoded by [`command`] so that quoting is right.

pub mod command;
pub mod date;
pub mod framer;
pub mod mutf7;
pub mod prelogin;
pub mod scan;
pub mod tracker;
