//! POP3 as octets (RFC 1939, 2449): reading what servers say, the talk before login, and the relay after it.
//!
//! Nothing here waits or owns a socket. What a server says is read tolerantly: words in any case, blanks wherever, line
//! ends with or without CR.

pub mod capabilities;
pub mod harvest;
pub mod multiline;
pub mod prelogin;
pub mod reply;
pub mod tracker;

pub use capabilities::Capabilities;
