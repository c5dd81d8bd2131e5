//! Message bodies by pipelined `UID FETCH`, one command a message, streamed in pieces.
//!
//! One command a message: a server that fails on one body says for which one, and a message that vanished is an OK
//! without a body.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::ReadError;
use crate::mailbox::Uid;
use crate::net::imap::{ImapConnection, ImapError, Received};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Response};

/// FETCH commands on the way at once. The octets wait in the socket until we read them, so this costs the server little.
const WINDOW: usize = 32;

/// What comes next in a stream of bodies.
#[derive(Debug)]
pub enum BodyEvent {
    /// A message's body begins; it has this many octets.
    Start(Uid, u64),
    /// Its next octets.
    Chunk(Bytes),
    /// It is complete, and the server has confirmed that it was this message's.
    End(Uid),
    /// The message is gone.
    Vanished(Uid),
    /// The server can't give this message's body.
    Unreadable(Uid, String),
}

/// A stream of bodies, in the order in which they were asked for.
#[derive(Debug)]
pub struct Bodies<'a> {
    connection: &'a mut ImapConnection,
    mailbox: String,
    waiting: VecDeque<Uid>,
    asked: VecDeque<(String, Uid)>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between messages, or before the body of the first one asked for.
    Before,
    /// Inside a body that streams.
    Inside,
    /// A body that came whole is given out next.
    Whole(Bytes),
    /// The body is through; the end of its command is not.
    After,
    /// The server said NIL for the body.
    Nil,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(connection: &'a mut ImapConnection, mailbox: String, uids: Vec<Uid>) -> Self {
        Self { connection, mailbox, waiting: uids.into(), asked: VecDeque::new(), state: State::Before }
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the connection breaks, or the server sends a body that was not asked for.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        self.ask().await?;
        let Some((tag, uid)) = self.asked.front().map(|(tag, uid)| (tag.clone(), *uid)) else {
            return Ok(None);
        };
        loop {
            match std::mem::replace(&mut self.state, State::Before) {
                State::Inside => match self.connection.body_chunk().await? {
                    Some(chunk) => {
                        self.state = State::Inside;
                        return Ok(Some(BodyEvent::Chunk(chunk)));
                    }
                    None => self.state = State::After,
                },
                State::Whole(octets) => {
                    self.state = State::After;
                    return Ok(Some(BodyEvent::Chunk(octets)));
                }
                state => {
                    self.state = state;
                    if let Some(event) = self.read(&tag, uid).await? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), ReadError> {
        // Refill in bulk: a write for each message would cost a system call each.
        if self.asked.len() > WINDOW / 2 || self.waiting.is_empty() {
            return Ok(());
        }
        while self.asked.len() < WINDOW
            && let Some(uid) = self.waiting.pop_front()
        {
            let Some(number) = NonZeroU32::new(uid.0) else { continue };
            let tag = self.connection.tag();
            let command = self.connection.encoded(command::uid_fetch_body(&tag, number))?;
            self.connection.send(command).await?;
            self.asked.push_back((tag, uid));
        }
        self.connection.flush().await?;
        Ok(())
    }

    async fn read(&mut self, tag: &str, uid: Uid) -> Result<Option<BodyEvent>, ReadError> {
        let response = match self.connection.receive().await? {
            Received::Body { line, octets } => {
                if matches!(self.state, State::After) {
                    return Err(self.unexpected(uid, "two bodies"));
                }
                // A server may tell the UID before the body or after it; here it can be checked early.
                if let Response::Fetch(fetch) = scan::response(&[&line[..], b" NIL)"].concat())
                    && fetch.uid.is_some_and(|theirs| theirs != uid.0)
                {
                    return Err(self.unexpected(uid, "the body of another message"));
                }
                self.state = State::Inside;
                return Ok(Some(BodyEvent::Start(uid, octets)));
            }
            Received::Response(response) => response,
        };
        match self.connection.ended("UID FETCH", tag, &response) {
            Ok(Some(_)) => {
                self.asked.pop_front();
                return Ok(Some(match std::mem::replace(&mut self.state, State::Before) {
                    State::After => BodyEvent::End(uid),
                    State::Nil => BodyEvent::Unreadable(uid, "the server says NIL instead of its text".to_owned()),
                    _ => BodyEvent::Vanished(uid),
                }));
            }
            Ok(None) => {}
            Err(ImapError::Refused { text, .. }) => {
                self.asked.pop_front();
                self.state = State::Before;
                return Ok(Some(BodyEvent::Unreadable(uid, text)));
            }
            Err(error) => return Err(error.into()),
        }
        self.fetched(uid, scan::response(&response))
    }

    /// A FETCH response without a streaming body, or the rest of one behind it.
    fn fetched(&mut self, uid: Uid, response: Response<'_>) -> Result<Option<BodyEvent>, ReadError> {
        let Response::Fetch(fetch) = response else { return Ok(None) };
        let ours = fetch.uid.is_none_or(|theirs| theirs == uid.0);
        match fetch.body {
            None => Ok(None),
            Some(_) if !ours => Err(self.unexpected(uid, "the body of another message")),
            Some(Body::Streamed) => Ok(None),
            Some(Body::Nil) => {
                self.state = State::Nil;
                Ok(None)
            }
            Some(Body::Inline(octets)) => {
                let length = octets.len() as u64;
                self.state = if octets.is_empty() { State::After } else { State::Whole(octets.into()) };
                Ok(Some(BodyEvent::Start(uid, length)))
            }
        }
    }

    fn unexpected(&self, uid: Uid, what: &str) -> ReadError {
        ReadError::Mailbox { mailbox: self.mailbox.clone(), what: format!("asked for UID {uid}, got {what}") }
    }
}
