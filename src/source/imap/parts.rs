//! Parts of many messages: their headers, and fields that may tell a UIDL. What doesn't come is not there for the caller, who
//! can do with less or read whole messages, which is done with more patience.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

use tracing::debug;

use super::{ImapReader, ReadError};
use crate::mailbox::pop3::{TextDigest, TextHasher};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::net::imap::{ImapError, Received};
use crate::wire::imap::command::{self, Part};
use crate::wire::imap::scan::{self, Body, Response};

/// Messages of one command, which stays below the 8 KiB that every server takes.
const WINDOW: usize = 256;

/// Octets of a field that are kept: a UIDL with its name and blanks.
const FIELD_MAX: usize = 512;

/// What comes of one message.
trait Taken: Default + Send {
    fn take(&mut self, octets: &[u8]);
}

impl Taken for TextHasher {
    fn take(&mut self, octets: &[u8]) {
        self.update(octets);
    }
}

impl Taken for Vec<u8> {
    fn take(&mut self, octets: &[u8]) {
        let room = FIELD_MAX.saturating_sub(self.len()).min(octets.len());
        self.extend_from_slice(octets.get(..room).unwrap_or_default());
    }
}

impl ImapReader {
    /// Digests of the headers of messages; none for one that the server doesn't give.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn headers(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
    ) -> Result<HashMap<Uid, TextDigest>, ReadError> {
        let hashers = self.parts::<TextHasher>(listed, uid_validity, uids, Part::Header).await?;
        Ok(hashers.into_iter().map(|(uid, hasher)| (uid, hasher.finish())).collect())
    }

    /// A part of messages that may hold a UIDL, as the server gives it; none for one of which it gives nothing.
    ///
    /// # Errors
    /// If the mailbox can't be opened, or is not the one that was listed any more.
    pub async fn fields(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        part: Part,
    ) -> Result<HashMap<Uid, Vec<u8>>, ReadError> {
        self.parts(listed, uid_validity, uids, part).await
    }

    async fn parts<T: Taken>(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        part: Part,
    ) -> Result<HashMap<Uid, T>, ReadError> {
        let mut parts = HashMap::with_capacity(uids.len());
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        for window in uids.chunks(WINDOW) {
            match self.window(listed, uid_validity, window, part, &mut parts).await {
                Err(ReadError::Imap(ImapError::Lost { what, .. })) => {
                    debug!("a part of messages did not come: {what}");
                    self.open_again(listed, uid_validity).await?;
                }
                Err(ReadError::Imap(ImapError::Refused { text, .. })) => {
                    debug!("a part of messages is refused: {text}");
                }
                other => other?,
            }
        }
        Ok(parts)
    }

    async fn window<T: Taken>(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        part: Part,
        parts: &mut HashMap<Uid, T>,
    ) -> Result<(), ReadError> {
        if self.open.as_deref() != Some(&listed.raw) {
            let opened = self.examine(listed).await?;
            if opened.uid_validity != Some(uid_validity.0) {
                return Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()));
            }
        }
        let asked: HashSet<Uid> = uids.iter().copied().collect();
        let numbers: Vec<NonZeroU32> = uids.iter().filter_map(|uid| NonZeroU32::new(uid.0)).collect();
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::uid_fetch_parts(&tag, &numbers, part))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        let mut streamed: Option<T> = None;
        loop {
            let response = match self.connection.receive().await? {
                Received::Body { .. } => {
                    let mut taken = T::default();
                    while let Some(chunk) = self.connection.body_chunk().await? {
                        taken.take(&chunk);
                    }
                    // The first of a response is the one that was asked for.
                    streamed = streamed.or(Some(taken));
                    continue;
                }
                Received::Response(response) => response,
            };
            if self.connection.ended("UID FETCH", &tag, &response)?.is_some() {
                return Ok(());
            }
            let streamed = streamed.take();
            let Response::Fetch(fetch) = scan::response(&response) else { continue };
            let taken = match (fetch.body, fetch.guid) {
                (Some(Body::Streamed), _) => streamed,
                (Some(Body::Inline(octets)), _) | (None, Some(octets)) => {
                    let mut taken = T::default();
                    taken.take(&octets);
                    Some(taken)
                }
                (Some(Body::Nil) | None, _) => None,
            };
            // Some servers answer with other messages than they were asked for.
            if let (Some(uid), Some(taken)) = (fetch.uid.map(Uid).filter(|uid| asked.contains(uid)), taken) {
                parts.insert(uid, taken);
            }
        }
    }
}
