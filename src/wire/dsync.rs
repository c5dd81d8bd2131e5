//! dsync, Dovecot's mailbox synchronisation protocol (major version 3), and the doveadm service that carries it:
//! the part that a client needs to write mailboxes into a running Dovecot.
//!
//! The way of the bytes: [`doveadm::Login`] authenticates, [`doveadm::Channels`] separates the command's output from
//! the server's log lines, [`master::Master`] speaks dsync. All of it is pure: bytes in, events and bytes out.
//!
//! What is sent is always a *one-way* session: the flags that make Dovecot merge (`backup_recv` with
//! `no_backup_overwrite`) are not a choice, because dsync's backup mode empties an account that it is not told about.

pub mod doveadm;
pub mod escape;
pub mod item;
pub mod layout;
pub mod master;
pub mod name;

/// Room for a peer's text in a message of ours.
const QUOTED_MAX: usize = 120;

/// A peer's bytes, short and without control characters, for an error message.
#[must_use]
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(bytes).chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if bytes.len() > QUOTED_MAX { format!("{text}…") } else { text }
}
