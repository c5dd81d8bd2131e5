//! The flags of many mailboxes in which nothing else happened, in one round trip. A server without mod-sequences tells of a
//! changed flag nowhere else, so each look at an account asks for them all.

use super::changes::range;
use super::listing::Listing;
use super::{ImapReader, Opened, ReadError, Seen};
use crate::mailbox::{Contents, Listed, UidNext};
use crate::net::imap::ImapError;
use crate::wire::imap::command::{self, Fragment};
use crate::wire::imap::scan::{self, Response};

/// The commands for one mailbox.
#[derive(Debug)]
struct Sent {
    examine: String,
    /// None if there is no message.
    fetch: Option<String>,
}

impl ImapReader {
    /// The flags of all messages of `mailboxes`. `None` for one in which something else happened since it was seen, or that
    /// can't be read like this: it must be looked at on its own.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn flags_of(&mut self, mailboxes: &[(&Listed, Seen)]) -> Result<Vec<Option<Contents>>, ReadError> {
        self.open = None;
        let mut sent = Vec::with_capacity(mailboxes.len());
        for (listed, seen) in mailboxes {
            sent.push(self.ask_flags(listed, seen).await?);
        }
        self.connection.flush().await?;
        let mut found = Vec::with_capacity(mailboxes.len());
        for ((listed, seen), sent) in mailboxes.iter().zip(sent) {
            found.push(match sent {
                Some(sent) => self.flags_answered(listed, seen, sent).await?,
                None => None,
            });
        }
        Ok(found)
    }

    /// Sends what one mailbox is asked; none if its name would have to wait for the server in the middle.
    async fn ask_flags(&mut self, listed: &Listed, seen: &Seen) -> Result<Option<Sent>, ReadError> {
        let examine = self.connection.tag();
        let command = self.connection.encoded(command::examine(&examine, &listed.raw, self.has_modseq()))?;
        if command.iter().any(|fragment| matches!(fragment, Fragment::AwaitContinuation)) {
            return Ok(None);
        }
        self.connection.send(command).await?;
        let known = range(1, seen.uid_next.0).filter(|_| seen.messages > 0);
        let fetch = match known {
            Some(known) => {
                let tag = self.connection.tag();
                let command = self.connection.encoded(command::uid_fetch_flags(&tag, known))?;
                self.connection.send(command).await?;
                Some(tag)
            }
            None => None,
        };
        Ok(Some(Sent { examine, fetch }))
    }

    async fn flags_answered(
        &mut self,
        listed: &Listed,
        seen: &Seen,
        sent: Sent,
    ) -> Result<Option<Contents>, ReadError> {
        let mut opened = Opened::default();
        // What belongs to a mailbox that could not be opened belongs to no mailbox.
        let mut answered = self.heard(&sent.examine, &mut |response| opened.note(&response)).await?;
        self.open = answered.then(|| listed.raw.clone());
        let (uid_next, known_below) = (seen.uid_next.0, seen.uid_next.0);
        let mut listing = Listing { uid_next, expected: opened.exists, known_below, ..Listing::default() };
        if let Some(fetch) = sent.fetch {
            answered &= self.heard(&fetch, &mut |response| listing.note(response)).await?;
        }
        let quiet = opened.goes_on(listed, seen) == Some(uid_next) && u64::from(opened.exists) == seen.messages;
        if !answered || !quiet {
            return Ok(None);
        }
        // A list with gaps is asked for again, and then it is said what is wrong.
        let messages = listing.complete().ok();
        Ok(messages.map(|messages| opened.contents(seen.uid_validity, UidNext(uid_next), messages)))
    }
    /// Reads to the end of a command; whether it was carried out.
    async fn heard(&mut self, tag: &str, each: &mut (dyn FnMut(Response<'_>) + Send)) -> Result<bool, ReadError> {
        loop {
            let response = self.connection.response().await?;
            match self.connection.ended("EXAMINE or UID FETCH", tag, &response) {
                Ok(None) => each(scan::response(&response)),
                Ok(Some(_)) => return Ok(true),
                Err(ImapError::Refused { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
