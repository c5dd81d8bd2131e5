//! Listeners, TLS, dialling: bytes in and out, with a deadline on every wait.

pub mod access;
pub mod dial;
pub mod imap;
pub mod listen;
pub mod pop3;
pub mod stream;
pub mod tls;

pub use access::{Access, Refusal};
pub use dial::{DialError, dial};
pub use listen::{Accepted, Acceptor, BindError, ConnectionSlot, ConnectionSlots, bind, bind_all};
pub use stream::Stream;
pub use tls::{ClientTls, ServerTls, TlsError};
