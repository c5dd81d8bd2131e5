//! POP3 as octets (RFC 1939, 2449): single lines, multi-line responses and capabilities.
//!
//! Nothing here waits or owns a socket. What a server says is read tolerantly: words in any case, blanks wherever, line
//! ends with or without CR.

pub mod capabilities;
pub mod multiline;
pub mod reply;

pub use capabilities::Capabilities;
