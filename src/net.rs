//! Listeners, TLS, dialling, what the system lets us have: bytes in and out, with a deadline on every wait.

pub mod access;
pub mod breaker;
pub mod descriptors;
pub mod dial;
pub mod doveadm;
pub mod imap;
pub mod inherit;
pub mod listen;
pub mod meter;
pub mod notify;
pub mod pop3;
pub mod proxied;
pub mod sieve;
pub mod stream;
pub mod tls;
pub mod token;

pub use access::{Access, LoginError, Refusal};
pub use descriptors::Descriptors;
pub use dial::{DialError, dial};
pub use inherit::{InheritError, Inherited};
pub use listen::{Accepted, Acceptor, BindError, ConnectionSlot, ConnectionSlots, bind, bind_all};
pub use notify::Notify;
pub use stream::Stream;
pub use tls::{ClientTls, ServerTls, TlsError};
pub use token::{Token, TokenError, Tokens};
