//! Message bodies as a stream, in the order in which they were asked for.
//!
//! A window of messages is one `UID FETCH` with a set of UIDs, so round trips cost nothing; the next window is asked for when
//! the last one is answered. Several commands at once would not do: a Dovecot whose output is full begins the next one before
//! it has finished, and gives the bodies out of order (measured on 2.3 behind TLS). A message that did not come is asked for
//! alone: only then an OK without a body says that it vanished, and a NO that it can't be read.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::ReadError;
use crate::mailbox::Uid;
use crate::net::imap::{ImapConnection, ImapError, Received};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Fetch, Response};

/// Messages of one command. The octets wait in the socket until we read them, so this costs the server little; the
/// command stays below the 8 KiB that every server takes.
const WINDOW: usize = 256;

/// What comes next in a stream of bodies.
#[derive(Debug)]
pub enum BodyEvent {
    /// A message's body begins; it has this many octets.
    Start(Uid, u64),
    /// Its next octets.
    Chunk(Bytes),
    /// It is complete.
    End(Uid),
    /// The message is gone.
    Vanished(Uid),
    /// The server can't give this message's body.
    Unreadable(Uid, String),
}

/// A stream of bodies. It may be dropped between two messages only at its end, or right after one that vanished or is
/// unreadable: the connection is then between two commands.
#[derive(Debug)]
pub struct Bodies<'a> {
    connection: &'a mut ImapConnection,
    mailbox: String,
    waiting: VecDeque<Uid>,
    /// To be asked for alone, before all that waits.
    alone: Option<Uid>,
    asked: Option<Asked>,
    state: State,
}

/// A command on its way.
#[derive(Debug)]
struct Asked {
    tag: String,
    /// Messages whose body has not come, in order.
    missing: VecDeque<Uid>,
    /// It asks for one message only.
    alone: bool,
    /// A body came before an earlier one: the rest of this answer is read away and asked for again.
    disordered: bool,
    /// The server said NIL for the body of the only message.
    nil: bool,
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Between,
    /// Inside a body that streams.
    Inside(Uid),
    /// A body that came whole is given out next.
    Whole(Uid, Bytes),
    /// A body that came whole is through.
    Complete(Uid),
}

impl<'a> Bodies<'a> {
    pub(super) fn new(connection: &'a mut ImapConnection, mailbox: String, uids: Vec<Uid>) -> Self {
        Self { connection, mailbox, waiting: uids.into(), alone: None, asked: None, state: State::Between }
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the connection breaks, or the server sends a body that was not asked for.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Inside(uid) => {
                if let Some(chunk) = self.connection.body_chunk().await? {
                    self.state = State::Inside(uid);
                    return Ok(Some(BodyEvent::Chunk(chunk)));
                }
                self.rest_of_line(uid).await?;
                return Ok(Some(BodyEvent::End(uid)));
            }
            State::Whole(uid, octets) => {
                self.state = State::Complete(uid);
                return Ok(Some(BodyEvent::Chunk(octets)));
            }
            State::Complete(uid) => return Ok(Some(BodyEvent::End(uid))),
            State::Between => {}
        }
        loop {
            let mut asked = match self.asked.take() {
                Some(asked) => asked,
                None => match self.ask().await? {
                    Some(asked) => asked,
                    None => return Ok(None),
                },
            };
            let event = match self.connection.receive().await? {
                Received::Body { line, octets } => self.body(&mut asked, &line, octets).await?,
                Received::Response(response) => match self.answer(&asked, &response)? {
                    Some(answer) => match self.answered(asked, answer) {
                        Some(event) => return Ok(Some(event)),
                        None => continue,
                    },
                    None => match scan::response(&response) {
                        Response::Fetch(fetch) => self.whole(&mut asked, fetch)?,
                        _ => None,
                    },
                },
            };
            self.asked = Some(asked);
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    async fn ask(&mut self) -> Result<Option<Asked>, ReadError> {
        let alone = self.alone.take();
        let missing: VecDeque<Uid> = match alone {
            Some(uid) => [uid].into(),
            None => self.waiting.drain(..self.waiting.len().min(WINDOW)).collect(),
        };
        let numbers: Vec<NonZeroU32> = missing.iter().filter_map(|uid| NonZeroU32::new(uid.0)).collect();
        if numbers.is_empty() {
            return Ok(None);
        }
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::uid_fetch_bodies(&tag, &numbers))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        Ok(Some(Asked { tag, alone: missing.len() == 1, missing, disordered: false, nil: false }))
    }

    /// A body begins. It is given out if it is the next one in order.
    async fn body(&mut self, asked: &mut Asked, line: &[u8], octets: u64) -> Result<Option<BodyEvent>, ReadError> {
        // A server may tell the UID before the body or after it; here it can be known early.
        let uid = match scan::response(&[line, b" NIL)"].concat()) {
            Response::Fetch(fetch) => fetch.uid,
            _ => None,
        };
        if let Some(uid) = self.in_turn(asked, uid)? {
            self.state = State::Inside(uid);
            return Ok(Some(BodyEvent::Start(uid, octets)));
        }
        while self.connection.body_chunk().await?.is_some() {}
        Ok(None)
    }

    /// The message that a body belongs to, if that is the next one.
    fn in_turn(&self, asked: &mut Asked, uid: Option<u32>) -> Result<Option<Uid>, ReadError> {
        let front = asked.missing.front().copied();
        let came = uid.map(Uid).or(front).filter(|came| asked.missing.contains(came));
        let came = came.ok_or_else(|| self.unexpected(front))?;
        if asked.disordered || Some(came) != front {
            asked.disordered = true;
            return Ok(None);
        }
        asked.missing.pop_front();
        Ok(Some(came))
    }

    /// A FETCH response without a streaming body.
    fn whole(&mut self, asked: &mut Asked, fetch: Fetch) -> Result<Option<BodyEvent>, ReadError> {
        match fetch.body {
            None | Some(Body::Streamed) => Ok(None),
            Some(Body::Nil) => {
                asked.nil |= asked.alone;
                // What follows in this answer would be out of order.
                asked.disordered = true;
                Ok(None)
            }
            Some(Body::Inline(octets)) => Ok(self.in_turn(asked, fetch.uid)?.map(|uid| {
                let length = octets.len() as u64;
                self.state = if octets.is_empty() { State::Complete(uid) } else { State::Whole(uid, octets.into()) };
                BodyEvent::Start(uid, length)
            })),
        }
    }

    /// What follows a streamed body on its line: it may hold the UID.
    async fn rest_of_line(&mut self, uid: Uid) -> Result<(), ReadError> {
        let response = self.connection.response().await?;
        match scan::response(&response) {
            Response::Fetch(fetch) if fetch.uid.is_some_and(|theirs| theirs != uid.0) => {
                Err(self.unexpected(Some(uid)))
            }
            _ => Ok(()),
        }
    }

    /// The command's tagged answer: OK, or what was refused.
    fn answer(&self, asked: &Asked, response: &[u8]) -> Result<Option<Result<(), String>>, ReadError> {
        match self.connection.ended("UID FETCH", &asked.tag, response) {
            Ok(ended) => Ok(ended.map(|_| Ok(()))),
            Err(ImapError::Refused { text, .. }) => Ok(Some(Err(text))),
            Err(error) => Err(error.into()),
        }
    }

    /// The command is over. What it did not give is asked for again, the first of it alone.
    fn answered(&mut self, asked: Asked, answer: Result<(), String>) -> Option<BodyEvent> {
        let mut missing = asked.missing;
        let first = missing.pop_front()?;
        if asked.alone {
            return Some(match answer {
                Ok(()) if asked.nil => {
                    BodyEvent::Unreadable(first, "the server says NIL instead of its text".to_owned())
                }
                Ok(()) => BodyEvent::Vanished(first),
                Err(why) => BodyEvent::Unreadable(first, why),
            });
        }
        self.alone = Some(first);
        for uid in missing.into_iter().rev() {
            self.waiting.push_front(uid);
        }
        None
    }

    fn unexpected(&self, uid: Option<Uid>) -> ReadError {
        let what = match uid {
            Some(uid) => format!("asked for the body of UID {uid}, got another one"),
            None => "got a body that was not asked for".to_owned(),
        };
        ReadError::Mailbox { mailbox: self.mailbox.clone(), what }
    }
}
