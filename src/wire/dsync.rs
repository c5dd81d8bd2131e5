//! dsync, Dovecot's mailbox synchronisation protocol (major version 3), and the doveadm service that carries it:
//! the part that a client needs to write mailboxes into a running Dovecot, and to read them out of one.
//!
//! The way of the bytes: [`doveadm::Login`] authenticates, [`doveadm::Channels`] separates the command's output from
//! the server's log lines, [`master::Master`] speaks dsync to write, [`reader::Reader`] to read. All of it is pure: bytes in,
//! events and bytes out.
//!
//! What a writer sends is always a *one-way* session: the flags that make Dovecot merge (`backup_recv` with
//! `no_backup_overwrite`) are not a choice, because dsync's backup mode empties an account that it is not told about. A
//! reader has no word for a change at all ([`reader::word`]).

pub mod doveadm;
pub mod error;
pub mod escape;
pub mod item;
pub mod layout;
pub mod listed;
pub mod master;
pub mod name;
mod peer;
pub mod reader;
mod unstuff;

use error::MasterError;

/// A role in a session, as whoever drives it sees it: bytes go in and out, events come out.
pub trait Role {
    /// What happens in it.
    type Event;

    /// Takes output of the command. Any split of the bytes gives the same.
    ///
    /// # Errors
    /// [`MasterError`]; the session is then over.
    fn input(&mut self, bytes: &[u8]) -> Result<(), MasterError>;

    /// The next thing that happened.
    fn poll(&mut self) -> Option<Self::Event>;

    /// Octets that wait to be sent.
    fn pending(&self) -> usize;

    /// What must be sent now.
    fn take_output(&mut self) -> Vec<u8>;

    /// What the session waits for, for messages.
    fn state(&self) -> &'static str;

    /// Whether nothing has come back since the command was sent.
    fn unanswered(&self) -> bool;
}

/// Room for a peer's text in a message of ours.
const QUOTED_MAX: usize = 120;

/// A peer's bytes, short and without control characters, for an error message.
#[must_use]
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(bytes).chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if bytes.len() > QUOTED_MAX { format!("{text}…") } else { text }
}
