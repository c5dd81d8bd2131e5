//! One message that is asked for alone, because it did not come as it should.

use std::num::NonZeroU32;

use bytes::Bytes;
use tracing::debug;

use super::suspect::{Fault, Way};
use super::{Asked, Bodies, BodyEvent, answer};
use crate::mailbox::Uid;
use crate::net::imap::{ImapError, Received};
use crate::source::imap::ReadError;
use crate::source::imap::refused::is_spent;
use crate::wire::imap::command::{self, Octets};
use crate::wire::imap::scan::{self, Body, Fetch, Response};

/// Octets of a header that is fetched apart from its text, and held.
const HEADER_MAX: u64 = 4 << 20;

impl Bodies<'_> {
    /// Asks for the message at the front of what waits.
    pub(super) async fn ask_alone(&mut self, uid: Uid, way: Way) -> Result<Option<BodyEvent>, ReadError> {
        self.reader.may_read(self.size(uid).unwrap_or_default())?;
        if !self.fresh {
            self.open_anew().await?;
        }
        self.waiting.pop_front();
        debug!(mailbox = %self.reader.shown(&self.listed), %uid, ?way, "asked for alone");
        let head = if way == Way::Parts {
            match self.header(uid).await? {
                Ok(head) => Some(head),
                Err(why) => return self.failed(uid, Fault::Said(why)).await,
            }
        } else {
            None
        };
        let (tag, command) = self.octets_of(uid, way.item())?;
        let asked = Asked { head, ..Asked::new(tag, [uid].into(), Some(way)) };
        self.send(asked, command).await?;
        Ok(None)
    }

    fn octets_of(&mut self, uid: Uid, what: Octets) -> Result<(String, Vec<command::Fragment>), ReadError> {
        let tag = self.reader.connection.tag();
        let number = NonZeroU32::new(uid.0).unwrap_or(NonZeroU32::MIN);
        let command = self.reader.connection.encoded(command::uid_fetch_octets(&tag, number, what))?;
        Ok((tag, command))
    }

    /// Opens the mailbox once more: what was expunged is gone from the server's session then.
    async fn open_anew(&mut self) -> Result<(), ReadError> {
        let opened = self.reader.examine(&self.listed).await?;
        if opened.uid_validity == Some(self.uid_validity.0) {
            return Ok(());
        }
        Err(self.reader.in_mailbox(&self.listed, "was re-created while it was read".to_owned()))
    }

    /// The header of a message, or why it did not come.
    async fn header(&mut self, uid: Uid) -> Result<Result<Bytes, String>, ReadError> {
        let (tag, command) = self.octets_of(uid, Octets::Header)?;
        self.send(Asked::new(tag, [uid].into(), Some(Way::Parts)), command).await?;
        let mut found = Err("no header".to_owned());
        while let Some(asked) = &self.asked {
            match self.reader.connection.receive().await? {
                Received::Body { octets, .. } if octets <= HEADER_MAX && found.is_err() => {
                    let mut held = Vec::new();
                    while let Some(chunk) = self.reader.connection.body_chunk().await? {
                        held.extend_from_slice(&chunk);
                    }
                    found = Ok(held.into());
                }
                Received::Body { .. } => self.read_away().await?,
                Received::Response(response) => match answer(&self.reader.connection, asked, &response)? {
                    Some(answer) => {
                        self.asked = None;
                        if let Err(text) = answer {
                            self.is_of_this_message(&text)?;
                            found = Err(text);
                        }
                    }
                    None => {
                        if let Response::Fetch(Fetch { body: Some(Body::Inline(octets)), .. }) =
                            scan::response(&response)
                        {
                            found = Ok(octets.into());
                        }
                    }
                },
            }
        }
        Ok(found)
    }

    /// A message that was asked for alone did not come as it should: has it gone, is there another way, or none?
    pub(super) async fn failed(&mut self, uid: Uid, fault: Fault) -> Result<Option<BodyEvent>, ReadError> {
        self.waiting.push_front(uid);
        let why = match fault {
            Fault::Short(digest) => {
                // Once more in the same way.
                self.suspect(uid).short = Some(digest);
                return Ok(None);
            }
            Fault::Said(why) => why,
        };
        self.open_anew().await?;
        self.fresh = true;
        if !self.is_there(uid).await? {
            self.waiting.pop_front();
            return Ok(Some(BodyEvent::Vanished(uid)));
        }
        let suspect = self.suspect(uid);
        if suspect.failed(&why) {
            return Ok(None);
        }
        let reason = suspect.reason();
        self.waiting.pop_front();
        Ok(Some(BodyEvent::Unreadable(uid, reason)))
    }

    /// Whether the server still lists a message. One that won't search is taken to list it.
    async fn is_there(&mut self, uid: Uid) -> Result<bool, ReadError> {
        let number = NonZeroU32::new(uid.0).unwrap_or(NonZeroU32::MIN);
        let connection = &mut self.reader.connection;
        let (tag, esearch) = (connection.tag(), connection.capabilities().has("ESEARCH"));
        let command = command::uid_search(&tag, &(number..=number), esearch);
        let mut found = false;
        let mut each = |response: Response<'_>| {
            if let Response::Search(ranges) = response {
                found |= ranges.iter().any(|range| range.contains(&uid.0));
            }
        };
        match connection.run("UID SEARCH", &tag, command, &mut each).await {
            Ok(_) => Ok(found),
            Err(ImapError::Refused { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a refusal as one of this message.
    ///
    /// # Errors
    /// A refusal that says that the server can't serve now, whatever it is asked for (RFC 5530; Gmail has codes of its own).
    pub(super) fn is_of_this_message(&self, text: &str) -> Result<(), ReadError> {
        if is_spent(text) {
            let server = self.reader.connection.server();
            let what = format!("{} side {}: gives the account no more for now: {text}", server.side(), server.name());
            return Err(ReadError::Spent(what));
        }
        let start = text.to_ascii_uppercase();
        if ["[LIMIT]", "[UNAVAILABLE]", "[INUSE]"].iter().any(|code| start.starts_with(code)) {
            return Err(self.reader.in_mailbox(&self.listed, format!("not now: {text}")));
        }
        Ok(())
    }
}
