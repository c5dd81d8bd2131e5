//! The lab: private real servers for integration tests, and the means to look at them from outside.
//!
//! * [`Dovecot`] starts a Dovecot of its own, 2.3 or 2.4 ([`trixie`]): own folder, loopback, own ports, own certificate. Nothing of
//!   `/etc/dovecot` is touched, nothing is left behind. As root the mail belongs to the system user `mail`; without root
//!   everything runs as the current user.
//! * [`Courier`], [`Cyrus`] and [`Mailutils`] start old sides of other brands ([`brands`]).
//! * [`Gmail`] is a scripted old side that behaves as Gmail does.
//! * [`Ferry`] runs the `mailferry` binary between two of them, with a generated configuration, as an operator would:
//!   everything a test learns from it comes through its ports, its command line or its log.
//! * [`Hold`] stops the proxy at a chosen step, where a test needs to be inside it.
//! * [`Imap`] is a small IMAP client that shares no code with the crate under test, [`Pop3`] one for POP3 and
//!   [`Sieve`] one for ManageSieve, which a [`SieveDoor`] opens in a Dovecot.
//! * [`deliver`] brings mail over LMTP straight into a server, past the proxy.
//! * [`nasty`] fills an account with everything that has ever broken a migration, and says exactly what it made.
//! * [`World`] is an account as a client sees it, read from a server or kept as a model, and compared.
//! * [`Tap`] is a wire that writes down what passes.
//! * [`Liar`] is a wire on which chosen messages come as broken servers give them.
//! * [`Porter`] is a wire that lets in by tokens, or an administrator who says PROXYAUTH.
//! * [`Maildrops`] is a POP3 server that shows what a test wants of it.
//! * [`disk`] is a disk under the store that fills up and loses power, [`Room`] one under a new side.
//! * [`foreign`] wraps judges that are not ours: `tests/foreign/compare.py` (Python imaplib) and mbsync.
//!
//! Rules the lab keeps, so that tests can run in parallel in any number of processes:
//!
//! * Ports come from [`ports::claim`]: below the kernel's ephemeral range (no outgoing connection can take one), held by
//!   a file lock as long as the server object lives, so a restart on the same port always works.
//! * Servers get files as stdout and stderr, never the test's pipes, and sit in process groups of their own. `Drop` ends
//!   them; if the test process is killed without unwinding, a watching shell notices its pipe closing and ends them.
//! * Every wait has a deadline and panics with the log that explains it.
//!
//! `MAILFERRY_LAB_KEEP=1` keeps the folders of all servers and prints where they are.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod account;
pub mod brands;
pub mod courier;
pub mod cyrus;
pub mod disk;
pub mod fault;
pub mod ferry;
pub mod foreign;
pub mod gmail;
pub mod imap;
pub mod liar;
pub mod lmtp;
pub mod maildrops;
pub mod mailutils;
pub mod nasty;
pub mod pop3;
pub mod porter;
pub mod ports;
pub mod process;
pub mod room;
pub mod server;
pub mod sieve;
pub mod tap;
pub mod tls;
pub mod trixie;
pub mod world;

pub use account::{Account, View};
pub use brands::Served;
pub use courier::{Courier, CourierSpec};
pub use cyrus::{Cyrus, CyrusSpec, Names};
pub use fault::Hold;
pub use ferry::{Ferry, FerrySpec};
pub use gmail::{Gmail, Tongue};
pub use imap::Imap;
pub use liar::{Answer, Liar, Lie};
pub use lmtp::{deliver, try_deliver};
pub use maildrops::{Letter, Maildrops};
pub use mailutils::Mailutils;
pub use pop3::Pop3;
pub use porter::Porter;
pub use process::wait_for;
pub use room::Room;
pub use server::{Dovecot, Format, Release, Spec};
pub use sieve::{Sieve, SieveDoor};
pub use tap::Tap;
pub use world::World;
