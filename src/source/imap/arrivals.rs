//! The messages of a mailbox from a UID on: what came since. A mailbox of a hundred thousand messages is not listed for one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::listing::{PIECES_MAX, is_whole, merge, message};
use super::{ImapReader, ReadError};
use crate::mailbox::{Listed, Message, Uid, UidNext, UidValidity};
use crate::net::imap::ImapError;
use crate::wire::imap::command;
use crate::wire::imap::scan::{Fetch, Response};

/// What came into a mailbox since some UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT as read *before* the list: what is not below it is not in the list.
    pub uid_next: UidNext,
    /// Ascending by UID.
    pub list: Vec<Arrival>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What is known of it; without its mod-sequence.
    pub message: Message,
    /// INTERNALDATE as the server wrote it.
    pub internal_date: Option<Vec<u8>>,
}

impl ImapReader {
    /// The messages of a mailbox with UID `first` and above.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or the server leaves out a message that must be there.
    pub async fn arrivals(&mut self, listed: &Listed, first: Uid) -> Result<Arrivals, ReadError> {
        let opened = self.examine(listed).await?;
        let untold = |what: &str| self.in_mailbox(listed, format!("the server tells no {what}"));
        let uid_validity = UidValidity(opened.uid_validity.ok_or_else(|| untold("UIDVALIDITY"))?);
        let status = listed.status.map(|status| status.uid_next.0);
        let uid_next = opened.uid_next.or(status).ok_or_else(|| untold("UIDNEXT"))?;
        let mut list = Vec::new();
        let last = NonZeroU32::new(uid_next.saturating_sub(1)).filter(|last| last.get() >= first.0);
        if let (Some(exists), Some(last), Some(from)) = (NonZeroU32::new(opened.exists), last, NonZeroU32::new(first.0))
        {
            match self.listed_from(from, last, exists).await {
                Ok(arrivals) => list = arrivals,
                Err(Broken::Left(what)) => return Err(self.in_mailbox(listed, what)),
                Err(Broken::Connection(ImapError::Lost { what, .. })) => {
                    // A server may hang up on one mailbox; the others can be read all the same.
                    self.reconnect().await?;
                    return Err(self.in_mailbox(listed, format!("while messages were listed: {what}")));
                }
                Err(Broken::Connection(ImapError::Refused { command, text, .. })) => {
                    return Err(self.in_mailbox(listed, format!("{command} refused: {text}")));
                }
                Err(Broken::Connection(error)) => return Err(error.into()),
            }
        }
        Ok(Arrivals { uid_validity, uid_next: UidNext(uid_next), list })
    }

    async fn listed_from(
        &mut self,
        first: NonZeroU32,
        last: NonZeroU32,
        exists: NonZeroU32,
    ) -> Result<Vec<Arrival>, Broken> {
        let mut came = Came::default();
        let tag = self.connection.tag();
        let command = command::uid_fetch_metadata(&tag, first..=last, false);
        self.connection.run("UID FETCH", &tag, command, &mut |response| came.note(response)).await?;
        let (arrivals, before) = came.complete(first..=last, exists).map_err(Broken::Left)?;
        if let Some(seq) = before {
            let mut uid = None;
            let tag = self.connection.tag();
            let mut each = |response: Response<'_>| match response {
                Response::Fetch(fetch) if fetch.seq == seq.get() => uid = fetch.uid.or(uid),
                _ => {}
            };
            self.connection.run("FETCH", &tag, command::fetch_uid(&tag, seq), &mut each).await?;
            if uid.is_none_or(|uid| uid >= first.get()) {
                return Err(Broken::Left("leaves messages out of its list; try again".to_owned()));
            }
        }
        Ok(arrivals)
    }
}

enum Broken {
    /// A message is left out.
    Left(String),
    Connection(ImapError),
}

impl From<ImapError> for Broken {
    fn from(error: ImapError) -> Self {
        Self::Connection(error)
    }
}

/// What comes in, by sequence number.
#[derive(Debug, Default)]
struct Came {
    fetched: BTreeMap<u32, Fetch>,
    /// Told in pieces, and incomplete so far.
    pieces: usize,
    expunged: bool,
}

impl Came {
    fn note(&mut self, response: Response<'_>) {
        match response {
            Response::Expunge(_) => self.expunged = true,
            Response::Fetch(fetch) => {
                let known = self.fetched.remove(&fetch.seq);
                self.pieces -= usize::from(known.as_ref().is_some_and(|known| !is_whole(known)));
                let fetch = match known {
                    Some(known) => merge(known, fetch),
                    None => fetch,
                };
                if is_whole(&fetch) || self.pieces < PIECES_MAX {
                    self.pieces += usize::from(!is_whole(&fetch));
                    self.fetched.insert(fetch.seq, fetch);
                }
            }
            _ => {}
        }
    }

    /// The messages with these UIDs, and the sequence number whose UID must lie below them. The last messages of a mailbox
    /// have the last sequence numbers: without a hole up to the last one, none is left out but before the first.
    fn complete(
        self,
        uids: std::ops::RangeInclusive<NonZeroU32>,
        exists: NonZeroU32,
    ) -> Result<(Vec<Arrival>, Option<NonZeroU32>), String> {
        if self.expunged {
            return Err("changed while it was listed; try again".to_owned());
        }
        let mut first = exists.get().saturating_add(1);
        let mut list = Vec::new();
        let wanted = |uid: u32| uids.start().get() <= uid && uid <= uids.end().get();
        for (seq, fetch) in self.fetched {
            // Flags of other messages may be told unasked.
            if !is_whole(&fetch) || !fetch.uid.is_some_and(wanted) || seq > exists.get() {
                continue;
            }
            first = first.min(seq);
            let internal_date = fetch.internal_date.clone();
            list.extend(message(fetch).map(|message| Arrival { message, internal_date }));
        }
        let promised = exists.get().saturating_add(1).saturating_sub(first);
        if u32::try_from(list.len()).unwrap_or(u32::MAX) != promised {
            return Err(format!("lists {} of {promised} messages with UID, flags and size; try again", list.len()));
        }
        if !list.is_sorted_by(|one, next| one.message.uid < next.message.uid) {
            return Err("lists UIDs that do not ascend".to_owned());
        }
        Ok((list, NonZeroU32::new(first.saturating_sub(1))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::imap::scan::response;

    fn complete(first: u32, exists: u32, lines: &[&str]) -> Result<(Vec<u32>, Option<u32>), String> {
        let mut came = Came::default();
        for line in lines {
            came.note(response(line.as_bytes()));
        }
        let uids = NonZeroU32::new(first).unwrap()..=NonZeroU32::new(99).unwrap();
        came.complete(uids, NonZeroU32::new(exists).unwrap()).map(|(list, before)| {
            (list.iter().map(|arrival| arrival.message.uid.0).collect(), before.map(NonZeroU32::get))
        })
    }

    const SEVENTH: &str =
        "* 7 FETCH (UID 17 FLAGS (\\Seen) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 3)\r\n";
    const EIGHTH: &str = "* 8 FETCH (UID 20 FLAGS () INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 3)\r\n";

    #[test]
    fn none_may_be_left_out_between_the_first_and_the_last() {
        assert_eq!(complete(17, 8, &[SEVENTH, EIGHTH]), Ok((vec![17, 20], Some(6))));
        assert_eq!(complete(17, 8, &[EIGHTH]), Ok((vec![20], Some(7))), "the seventh must then be below");
        assert_eq!(complete(17, 8, &[]), Ok((vec![], Some(8))));
        assert_eq!(complete(1, 1, &["* 1 FETCH (UID 9 FLAGS () RFC822.SIZE 1)\r\n"]), Ok((vec![9], None)));
        assert!(complete(17, 8, &[SEVENTH]).is_err(), "the eighth is missing");
        assert!(complete(17, 9, &[SEVENTH, EIGHTH]).is_err());
        assert!(complete(17, 8, &[SEVENTH, "* 8 FETCH (UID 20)\r\n"]).is_err(), "half told");
        assert!(complete(17, 8, &[SEVENTH, "* 3 EXPUNGE\r\n", EIGHTH]).is_err());
    }

    #[test]
    fn pieces_are_put_together_and_what_was_not_asked_for_is_passed() {
        let lines = ["* 2 FETCH (FLAGS (\\Seen))\r\n", "* 8 FETCH (UID 20)\r\n", "* 8 FETCH (FLAGS ())\r\n", SEVENTH];
        let size = "* 8 FETCH (RFC822.SIZE 5)\r\n";
        assert_eq!(complete(17, 8, &[&lines[..], &[size]].concat()), Ok((vec![17, 20], Some(6))));
    }
}
