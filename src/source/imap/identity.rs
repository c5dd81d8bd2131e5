//! What tells a message from others where its UID can't: its GUID on a Dovecot, and some lines of its header.

use std::collections::HashMap;

use super::changes::ranges;
use super::{ImapReader, ReadError};
use crate::mailbox::{Guid, Listed, Uid, UidValidity};
use crate::net::imap::{ImapError, Received};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Fetch, Response};

/// Octets of a message's header lines that are kept: what is longer tells nothing more.
const HEADER_MAX: usize = 8 * 1024;

impl ImapReader {
    /// The GUIDs of messages on a Dovecot, those that are 32 hexadecimal digits: dsync gives such ones, and only they can be ours.
    ///
    /// # Errors
    /// If the mailbox can't be read, or the server is no Dovecot.
    pub async fn guids(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
    ) -> Result<HashMap<Guid, Uid>, ReadError> {
        let mut found = HashMap::new();
        let ranges = ranges(uids);
        if ranges.is_empty() {
            return Ok(found);
        }
        self.open_as(listed, uid_validity).await?;
        let tag = self.connection.tag();
        let command = command::uid_fetch_guids(&tag, &ranges);
        let mut each = |response: Response<'_>| {
            if let Response::Fetch(Fetch { uid: Some(uid), guid: Some(guid), .. }) = response
                && uids.binary_search(&Uid(uid)).is_ok()
                && let Some(guid) = std::str::from_utf8(&guid).ok().and_then(Guid::from_hex)
            {
                found.insert(guid, Uid(uid));
            }
        };
        self.gather(listed, vec![(tag, command)], &mut each).await?;
        Ok(found)
    }

    /// The lines `fields` of messages' headers, as they stand there.
    ///
    /// # Errors
    /// If the mailbox can't be read.
    pub async fn header_fields(
        &mut self,
        listed: &Listed,
        uid_validity: UidValidity,
        uids: &[Uid],
        fields: &[String],
    ) -> Result<HashMap<Uid, Vec<u8>>, ReadError> {
        let ranges = ranges(uids);
        if ranges.is_empty() {
            return Ok(HashMap::new());
        }
        self.open_as(listed, uid_validity).await?;
        let mut found = match self.header_fields_answered(&ranges, fields).await {
            Err(ImapError::Lost { what, .. }) => {
                return Err(self.in_mailbox(listed, format!("while headers were read: {what}")));
            }
            found => found?,
        };
        found.retain(|uid, _| uids.binary_search(uid).is_ok());
        Ok(found)
    }

    async fn header_fields_answered(
        &mut self,
        ranges: &[command::UidRange],
        fields: &[String],
    ) -> Result<HashMap<Uid, Vec<u8>>, ImapError> {
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::uid_fetch_header_fields(&tag, ranges, fields))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        let mut found = HashMap::new();
        let mut header = Vec::new();
        loop {
            let response = match self.connection.receive().await? {
                Received::Body { .. } => {
                    header.clear();
                    while let Some(chunk) = self.connection.body_chunk().await? {
                        let room = HEADER_MAX.saturating_sub(header.len()).min(chunk.len());
                        header.extend_from_slice(chunk.get(..room).unwrap_or_default());
                    }
                    continue;
                }
                Received::Response(response) => response,
            };
            if self.connection.ended("UID FETCH", &tag, &response)?.is_some() {
                return Ok(found);
            }
            if let Response::Fetch(Fetch { uid: Some(uid), body: Some(body), .. }) = scan::response(&response) {
                let octets = match body {
                    Body::Streamed => std::mem::take(&mut header),
                    Body::Inline(octets) => octets,
                    Body::Nil => Vec::new(),
                };
                found.insert(Uid(uid), octets);
            }
        }
    }

    /// Opens a mailbox, unless it is open; it must be the one that was listed.
    async fn open_as(&mut self, listed: &Listed, uid_validity: UidValidity) -> Result<(), ReadError> {
        if self.open.as_deref() == Some(&listed.raw) {
            return Ok(());
        }
        let opened = self.examine(listed).await?;
        if opened.uid_validity == Some(uid_validity.0) {
            Ok(())
        } else {
            Err(self.in_mailbox(listed, "was re-created while it was read".to_owned()))
        }
    }
}
