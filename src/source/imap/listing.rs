//! The list of a mailbox while it comes in.

use std::collections::BTreeMap;

use crate::mailbox::{Keywords, Message, ModSeq, SystemFlags, Uid};
use crate::wire::imap::date;
use crate::wire::imap::scan::{Fetch, Response};

/// The list of a mailbox while it comes in. A message that the server leaves out, or tells only half of, would be missing
/// in the copy and in its verification alike; so the list must have every message that EXAMINE promised.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// UIDNEXT from before the list.
    pub(super) uid_next: u32,
    /// Messages that EXAMINE promised, less those expunged since.
    pub(super) expected: u32,
    /// Below this UID only flags are asked for, the rest is known.
    pub(super) known_below: u32,
    /// Messages that the server told to be expunged.
    pub(super) expunged: u32,
    /// What came whole, in the order in which it came.
    pub(super) messages: Vec<Message>,
    /// What the server told in pieces, by sequence number.
    pub(super) pieces: BTreeMap<u32, Fetch>,
    /// So many may come before those that came twice are left out again.
    pub(super) room: usize,
    /// There are more than we are ready to hold.
    pub(super) full: bool,
}

/// Messages that may come in any case before those that came twice are looked for.
const ROOM_MIN: usize = 10_000;

/// Messages of one mailbox that we are ready to hold.
const MESSAGES_MAX: usize = 4_000_000;

/// Messages told in pieces at a time: a server that splits its answers does so one message after the other.
pub(super) const PIECES_MAX: usize = 1000;

impl Listing {
    pub(super) fn note(&mut self, response: Response<'_>) {
        match response {
            Response::Expunge(gone) => {
                self.expected = self.expected.saturating_sub(1);
                self.expunged = self.expunged.saturating_add(1);
                // Those above it have other numbers now: a piece of one must not be joined to a piece of another.
                let above = self.pieces.split_off(&gone);
                let shifted = above.into_iter().filter(|(seq, _)| *seq > gone);
                self.pieces.extend(shifted.map(|(seq, piece)| (seq - 1, Fetch { seq: seq - 1, ..piece })));
            }
            Response::Fetch(fetch) if self.is_whole(&fetch) => self.take(fetch),
            Response::Fetch(fetch) if self.pieces.len() < PIECES_MAX || self.pieces.contains_key(&fetch.seq) => {
                let seq = fetch.seq;
                let merged = match self.pieces.remove(&seq) {
                    Some(known) => merge(known, fetch),
                    None => fetch,
                };
                if self.is_whole(&merged) {
                    self.take(merged);
                } else {
                    self.pieces.insert(seq, merged);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, fetch: Fetch) {
        if self.full {
            return;
        }
        self.messages.extend(message(fetch));
        if self.messages.len() >= self.room.max(ROOM_MIN) {
            self.tidy();
            self.room = self.messages.len() * 2;
            self.full = self.messages.len() > MESSAGES_MAX;
        }
    }

    /// Puts the messages in order, each once. A server may send FLAGS of a message twice (unsolicited); the later one is
    /// newer.
    fn tidy(&mut self) {
        self.messages.sort_by_key(|message| message.uid);
        self.messages.reverse();
        self.messages.dedup_by_key(|message| message.uid);
        self.messages.reverse();
    }

    /// The messages in order; an error if they are not those that were promised.
    pub(super) fn complete(self) -> Result<Vec<Message>, String> {
        let expected = self.expected;
        let messages = self.in_order()?;
        let listed = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        if listed != expected {
            return Err(format!("lists {listed} of {expected} messages with UID, flags and size; try again"));
        }
        Ok(messages)
    }

    /// The messages in order, however many they are.
    pub(super) fn in_order(mut self) -> Result<Vec<Message>, String> {
        self.tidy();
        if self.full || self.messages.len() > MESSAGES_MAX {
            return Err(format!("has more than {MESSAGES_MAX} messages"));
        }
        if let Some(stray) = self.messages.last().filter(|message| message.uid.0 >= self.uid_next) {
            return Err(format!("UID {} is not below UIDNEXT {}", stray.uid, self.uid_next));
        }
        Ok(self.messages)
    }

    fn is_whole(&self, fetch: &Fetch) -> bool {
        let known = fetch.uid.is_some_and(|uid| uid < self.known_below);
        is_whole(fetch) || (known && fetch.flags.is_some())
    }
}

pub(super) const fn is_whole(fetch: &Fetch) -> bool {
    fetch.uid.is_some() && fetch.flags.is_some() && fetch.size.is_some()
}

pub(super) fn merge(known: Fetch, more: Fetch) -> Fetch {
    Fetch {
        seq: more.seq,
        uid: more.uid.or(known.uid),
        flags: more.flags.or(known.flags),
        internal_date: more.internal_date.or(known.internal_date),
        size: more.size.or(known.size),
        modseq: more.modseq.or(known.modseq),
        guid: None,
        gm_msgid: more.gm_msgid.or(known.gm_msgid),
        body: None,
    }
}

/// A message from a FETCH that has everything we asked for.
pub(super) fn message(fetch: Fetch) -> Option<Message> {
    let (uid, flags) = (fetch.uid?, fetch.flags?);
    let mut bits = SystemFlags::default();
    let mut keywords = Vec::new();
    for flag in flags {
        match SystemFlags::bit(&flag) {
            Some(bit) => bits.0 |= bit,
            None if flag.eq_ignore_ascii_case(b"\\Recent") => {}
            None => keywords.push(String::from_utf8_lossy(&flag).into_owned()),
        }
    }
    Some(Message {
        uid: Uid(uid),
        flags: bits,
        keywords: Keywords::from_names(keywords),
        internal_date: fetch.internal_date.as_deref().and_then(date::instant),
        size: fetch.size.unwrap_or_default(),
        modseq: ModSeq(fetch.modseq.unwrap_or_default()),
        labelled: false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::imap::scan::response;

    fn listed(expected: u32, lines: &[&str]) -> Result<Vec<u32>, String> {
        let mut listing = Listing { uid_next: 10, expected, ..Listing::default() };
        for line in lines {
            listing.note(response(line.as_bytes()));
        }
        listing.complete().map(|messages| messages.iter().map(|message| message.uid.0).collect())
    }

    #[test]
    fn a_list_has_every_message_that_was_promised_or_is_none() {
        let one = "* 1 FETCH (UID 3 FLAGS (\\Seen) RFC822.SIZE 9)";
        let two = "* 2 FETCH (UID 7 FLAGS () RFC822.SIZE 9)";
        assert_eq!(listed(2, &[one, two]), Ok(vec![3, 7]));
        assert_eq!(listed(2, &[two, one, one]), Ok(vec![3, 7]), "order and repetition don't matter");
        assert!(listed(2, &[one]).is_err(), "a message that the server leaves out");
        assert!(listed(2, &[one, "* 2 FETCH (UID 7 FLAGS () RFC822.SIZE -1)"]).is_err(), "one that it tells half of");
        assert_eq!(listed(2, &[one, "* 2 FETCH (UID 7 FLAGS ())", "* 2 FETCH (RFC822.SIZE 9)"]), Ok(vec![3, 7]));
        assert_eq!(listed(2, &[one, "* 2 EXPUNGE"]), Ok(vec![3]));
        assert!(listed(1, &["* 1 FETCH (UID 10 FLAGS () RFC822.SIZE 9)"]).is_err(), "UIDNEXT was too low");
        assert_eq!(
            listed(1, &[one, "* 1 FETCH (FLAGS (\\Deleted))"]),
            Ok(vec![3]),
            "news about flags is no new message"
        );
    }

    #[test]
    fn a_server_that_tells_the_same_for_ever_is_not_remembered_for_ever() {
        let mut listing = Listing { uid_next: 10, expected: 2, ..Listing::default() };
        for round in 0..5 * ROOM_MIN {
            let flags = if round % 2 == 0 { "\\Seen" } else { "" };
            listing.note(response(format!("* 1 FETCH (UID 3 FLAGS ({flags}) RFC822.SIZE 9)").as_bytes()));
            assert!(listing.messages.len() <= ROOM_MIN);
        }
        listing.note(response(b"* 2 FETCH (UID 7 FLAGS () RFC822.SIZE 9)"));
        let messages = listing.complete().unwrap();
        assert_eq!((messages.len(), messages[0].flags), (2, SystemFlags(0)), "what was told last holds");
    }

    #[test]
    fn pieces_of_two_messages_are_not_joined_when_numbers_shift() {
        let lines = ["* 2 FETCH (UID 5 FLAGS (\\Seen))", "* 3 FETCH (UID 8 FLAGS ())", "* 1 EXPUNGE"];
        let with = |rest: &[&str]| listed(3, &[&lines, rest].concat());
        assert!(with(&["* 2 FETCH (RFC822.SIZE 9)"]).is_err(), "that was the message of number 3");
        assert_eq!(with(&["* 2 FETCH (RFC822.SIZE 9)", "* 1 FETCH (RFC822.SIZE 9)"]), Ok(vec![5, 8]));
    }

    #[test]
    fn of_known_messages_flags_are_enough() {
        let mut listing = Listing { uid_next: 10, expected: 2, known_below: 7, ..Listing::default() };
        listing.note(response(b"* 1 FETCH (UID 3 FLAGS (\\Seen))"));
        listing.note(response(b"* 2 FETCH (UID 7 FLAGS ())"));
        assert_eq!(listing.messages.len(), 1, "an arrival needs the rest, too");
        listing.note(response(b"* 2 FETCH (RFC822.SIZE 9)"));
        assert_eq!(listing.complete().map(|messages| messages.len()), Ok(2));
    }
}
