//! Pure protocol: bytes in, events out. No sockets, no clock, no randomness, no locks.
//!
//! Imports nothing else of ours.

pub mod credentials;
pub mod dsync;
pub mod imap;
pub mod pop3;
pub mod proxy;
pub mod sasl;
pub mod sieve;
