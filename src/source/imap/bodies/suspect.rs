//! A message that did not come as it should, and the ways in which it is asked for.

use crate::mailbox::Uid;
use crate::wire::imap::command::Octets;

/// Connections that one message may cost before it is that message's fault.
const LOSSES_MAX: u32 = 3;

/// How a message is asked for. A server that fails at one way may know another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `BODY.PEEK[]`, alone.
    Whole,
    /// `BODY.PEEK[HEADER]`, then `BODY.PEEK[TEXT]`.
    Parts,
    /// `RFC822`: the mailbox was opened with EXAMINE, so it changes nothing (RFC 3501 §6.3.2).
    Rfc822,
}

impl Way {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::Parts),
            Self::Parts => Some(Self::Rfc822),
            Self::Rfc822 => None,
        }
    }

    /// What is asked for, or the last part of it.
    pub(super) const fn item(self) -> Octets {
        match self {
            Self::Whole => Octets::Whole,
            Self::Parts => Octets::Text,
            Self::Rfc822 => Octets::Rfc822,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "BODY[]",
            Self::Parts => "BODY[HEADER] and BODY[TEXT]",
            Self::Rfc822 => "RFC822",
        }
    }
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What the server said, or what is missing in it.
    Said(String),
    /// It has fewer octets than RFC822.SIZE says; their digest.
    Short(blake3::Hash),
}

/// A message that did not come as it should. It outlives the stream: its reader may have to begin anew.
#[derive(Debug)]
pub(in crate::source::imap) struct Suspect {
    mailbox: Vec<u8>,
    pub(super) uid: Uid,
    pub(super) way: Way,
    /// The digest of a text that was shorter than RFC822.SIZE says.
    pub(super) short: Option<blake3::Hash>,
    losses: u32,
    said: Vec<String>,
}

impl Suspect {
    pub(super) fn new(mailbox: &[u8], uid: Uid) -> Self {
        Self { mailbox: mailbox.to_owned(), uid, way: Way::Whole, short: None, losses: 0, said: Vec::new() }
    }

    pub(super) fn is(&self, mailbox: &[u8], uid: Uid) -> bool {
        self.is_in(mailbox) && self.uid == uid
    }

    pub(super) fn is_in(&self, mailbox: &[u8]) -> bool {
        self.mailbox == mailbox
    }

    /// The way that it was asked for failed. False if there is no other.
    pub(super) fn failed(&mut self, why: &str) -> bool {
        self.note(why);
        match self.way.next() {
            Some(next) => {
                self.way = next;
                true
            }
            None => false,
        }
    }

    /// It cost the connection; `alone`: nothing else had been asked for. False if that was once too often.
    pub(super) fn lost(&mut self, why: &str, alone: bool) -> bool {
        self.losses += 1;
        let more = if alone {
            self.failed(why)
        } else {
            self.note(why);
            true
        };
        more && self.losses < LOSSES_MAX
    }

    fn note(&mut self, why: &str) {
        let said = format!("{}: {why}", self.way.as_str());
        if self.said.last() != Some(&said) {
            self.said.push(said);
        }
    }

    /// Everything that was tried, and what came of it.
    pub(super) fn reason(&self) -> String {
        self.said.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_gone_once_and_told() {
        let mut suspect = Suspect::new(b"A", Uid(5));
        assert!(suspect.failed("NIL") && suspect.failed("NO") && !suspect.failed("BAD"));
        assert_eq!(suspect.reason(), "BODY[]: NIL; BODY[HEADER] and BODY[TEXT]: NO; RFC822: BAD");
    }

    #[test]
    fn the_third_connection_is_the_last_one() {
        let mut suspect = Suspect::new(b"A", Uid(5));
        assert!(suspect.lost("closed", false), "others were asked for, too");
        assert!(suspect.lost("closed", true));
        assert!(!suspect.lost("closed", true));
        assert_eq!(suspect.reason(), "BODY[]: closed; BODY[HEADER] and BODY[TEXT]: closed");
    }
}
