//! Reads a maildrop over POP3: its list, and messages by TOP. Never by RETR, which sets \Seen on many servers, and never
//! with a DELE.

use crate::mailbox::pop3::{BadList, Pop3List, TextDigest, TextHasher};
use crate::net::imap::printable;
use crate::net::pop3::{Pop3Answer, Pop3Connection, Pop3Error, Pop3Server};
use crate::net::{Access, LoginError, Refusal};

/// TOP commands on the way at once: hides the round trips, and the commands fit any buffer.
const WINDOW: usize = 64;

/// Lines of a message that TOP is asked for when all of it is wanted: the largest number that every server can read.
const ALL_LINES: u32 = i32::MAX as u32;

/// Entries of a list that are held: one more than [`Pop3List`] takes, so that it can say that they are too many.
const ENTRIES_MAX: usize = crate::mailbox::pop3::MESSAGES_MAX + 1;

/// What can go wrong while a maildrop is read.
#[derive(Debug, thiserror::Error)]
pub enum MaildropError {
    /// The server can't be talked to.
    #[error(transparent)]
    Pop3(#[from] Pop3Error),
    /// The server refused the login: don't try again with the same password.
    #[error("{0}")]
    LoginRefused(Refusal),
    /// The maildrop can't be had now: somebody else has it open, or the server asks for patience (RFC 2449 §8, RFC 3206).
    #[error("{server} does not give the POP3 maildrop of {name} now: {text}")]
    Busy {
        /// Which server, with its side.
        server: String,
        /// The login name.
        name: String,
        /// What it said.
        text: String,
    },
    /// It refused a command.
    #[error("{server} refuses {command}: {text}")]
    Refused {
        /// Which server, with its side.
        server: String,
        /// The command.
        command: &'static str,
        /// What it said.
        text: String,
    },
    /// What it listed is no list.
    #[error("{server}: {bad}")]
    BadList {
        /// Which server, with its side.
        server: String,
        /// What is wrong with it.
        bad: BadList,
    },
}

/// How much of a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its header.
    Header,
    /// All of it.
    Whole,
}

/// A logged-in POP3 session that reads. Dropping it ends the session.
#[derive(Debug)]
pub struct Maildrop {
    connection: Pop3Connection,
    server: String,
    pipelining: bool,
}

impl Maildrop {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`MaildropError::LoginRefused`] and [`MaildropError::Busy`] if the server says `-ERR`;
    /// [`MaildropError::Pop3`] if it can't be reached.
    pub async fn open(server: &Pop3Server, access: &Access) -> Result<Self, MaildropError> {
        let shown = format!("{} side {}", server.side(), server.name());
        let mut connection = server.log_in(access).await.map_err(|error| match error {
            LoginError::Server(error) => MaildropError::Pop3(error),
            LoginError::Refused(refusal) => MaildropError::LoginRefused(refusal),
            LoginError::Busy(_, text) => {
                MaildropError::Busy { server: shown.clone(), name: access.user().to_owned(), text }
            }
        })?;
        let pipelining = connection.capabilities().await?.has("PIPELINING");
        Ok(Self { connection, server: shown, pipelining })
    }

    /// The messages in the server's order, with their UIDLs and sizes.
    ///
    /// # Errors
    /// [`MaildropError`]; [`MaildropError::BadList`] if the answers make no list.
    pub async fn list(&mut self) -> Result<Pop3List, MaildropError> {
        self.connection.send("UIDL")?;
        if self.pipelining {
            self.connection.send("LIST")?;
        }
        self.connection.flush().await?;
        let mut uidls = Vec::new();
        let mut each = |line: &[u8]| {
            if uidls.len() < ENTRIES_MAX {
                uidls.push(entry(line).map_or_else(|| (0, line.to_vec()), |(number, uidl)| (number, uidl.to_vec())));
            }
        };
        self.lines("UIDL", &mut each).await?;
        if !self.pipelining {
            self.connection.send("LIST")?;
            self.connection.flush().await?;
        }
        let mut sizes = Vec::new();
        let mut each = |line: &[u8]| {
            if sizes.len() < ENTRIES_MAX {
                sizes.push(entry(line).and_then(size).unwrap_or_default());
            }
        };
        self.lines("LIST", &mut each).await?;
        let list = Pop3List::of_answers(uidls, &sizes);
        list.map_err(|bad| MaildropError::BadList { server: self.server.clone(), bad })
    }

    async fn lines(
        &mut self,
        command: &'static str,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), MaildropError> {
        match self.connection.answer().await? {
            Pop3Answer::Accepted { .. } => Ok(self.connection.lines(each).await?),
            Pop3Answer::Refused { raw } => {
                Err(MaildropError::Refused { server: self.server.clone(), command, text: printable(&raw) })
            }
        }
    }

    /// Digests of messages by their numbers, in the same order; none for one that the server refuses to give.
    ///
    /// # Errors
    /// [`MaildropError::Pop3`] if the connection breaks.
    pub async fn texts(&mut self, numbers: &[u32], part: Part) -> Result<Vec<Option<TextDigest>>, MaildropError> {
        let lines = match part {
            Part::Header => 0,
            Part::Whole => ALL_LINES,
        };
        let mut digests = Vec::with_capacity(numbers.len());
        for window in numbers.chunks(if self.pipelining { WINDOW } else { 1 }) {
            for number in window {
                self.connection.send(&format!("TOP {number} {lines}"))?;
            }
            self.connection.flush().await?;
            for _ in window {
                digests.push(match self.connection.answer().await? {
                    Pop3Answer::Accepted { .. } => {
                        let mut hasher = TextHasher::new();
                        self.connection.body(&mut |octets| hasher.update(octets)).await?;
                        Some(hasher.finish())
                    }
                    Pop3Answer::Refused { .. } => None,
                });
            }
        }
        Ok(digests)
    }

    /// Says goodbye. Errors don't matter any more.
    pub async fn quit(self) {
        let _ = self.connection.quit().await;
    }
}

/// `number value`; servers differ in the blanks between.
fn entry(line: &[u8]) -> Option<(u32, &[u8])> {
    let at = line.iter().position(|&octet| octet == b' ')?;
    let (number, value) = line.split_at(at);
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, value.trim_ascii()))
}

/// A size may be followed by something else (RFC 1939 §5, scan listing).
fn size((number, value): (u32, &[u8])) -> Option<(u32, u64)> {
    let digits = value.split(|&octet| octet == b' ').next()?;
    Some((number, std::str::from_utf8(digits).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_however_many_blanks_there_are() {
        assert_eq!(entry(b"1 abc"), Some((1, &b"abc"[..])));
        assert_eq!(entry(b"12   a b "), Some((12, &b"a b"[..])));
        for line in [&b"1"[..], b"", b" 1 a", b"x a", b"99999999999 a"] {
            assert_eq!(entry(line), None, "{line:?}");
        }
        assert_eq!(entry(b"3 120 more").and_then(size), Some((3, 120)));
        assert_eq!(entry(b"3 -1").and_then(size), None);
    }
}
