//! Tests against real servers: a private Dovecot on each side (see `tests/lab`), one file per behaviour.

// Tests block: nothing else runs on their threads.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../lab/mod.rs"]
mod lab;

mod at_the_gate;
mod backup;
mod brands;
mod broken;
mod check;
mod copy;
mod crash;
mod cyrus;
mod damage;
mod doveadm_tls;
mod dsync_source;
mod every_phase;
mod follow;
mod formats;
mod front;
mod gate;
mod gmail;
mod guide;
mod hostile;
mod late;
mod master_users;
mod merge;
mod names;
mod new_config;
mod operator;
mod partial;
mod pop3_front;
mod quota;
mod realms;
mod rebuild;
mod refusals;
mod resume;
mod rollback;
mod scripts;
mod shared;
mod sharing;
mod silent_losses;
mod standards;
mod store_trouble;
mod switch;
mod the_lab;
mod tls;
mod tokens;
mod uidl;
mod unread_answers;
mod walk;
