//! Tests against real servers: a private Dovecot on each side (see `tests/lab`), one file per behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../lab/mod.rs"]
mod lab;

mod copy;
mod damage;
mod refusals;
mod silent_losses;
mod the_lab;
