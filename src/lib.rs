//! mailferry: a transparent IMAP and POP3 front proxy that moves a mail platform to new storage, user by user.
//!
//! The map, in the order of the data's way (DESIGN §6; `tests/architecture.rs` holds the walls):
//!
//! * [`config`]  TOML → validated [`config::Config`]; errors name file, line and key
//! * [`wire`]    pure protocol: IMAP, POP3, SASL, dsync; bytes in, events out; no sockets, no clock
//! * [`mailbox`] pure model of a mailbox that both sides share, its diff and its comparison
//! * [`net`]     listeners, TLS, dialling, deadlines, IMAP and POP3 client connections
//! * [`store`]   durable records in SQLite
//! * [`user`]    a user's lifecycle (pure), gate, session registry
//! * [`front`]   what clients talk to: login and relay
//! * [`source`]  reading a side
//! * [`target`]  writing a side
//! * [`migrate`] copy, follow, POP3 UIDLs, verify, switch, sweep
//! * [`admin`]   HTTP API and what the command line prints
//! * [`mod@fault`] places where tests stop or kill the process (debug builds only)

pub mod admin;
pub mod config;
pub mod fault;
pub mod front;
pub mod mailbox;
pub mod migrate;
pub mod net;
pub mod source;
pub mod store;
pub mod target;
pub mod user;
pub mod wire;
