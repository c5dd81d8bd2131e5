//! Message bodies as a stream, in the order in which they were asked for.
//!
//! A window of messages is one `UID FETCH` with a set of UIDs, so round trips cost nothing; the next window is asked for when
//! the last one is answered. Several commands at once would not do: a Dovecot whose output is full begins the next one before
//! it has finished, and gives the bodies out of order (measured on 2.3 behind TLS). A message that did not come is asked for
//! alone: only then an OK without a body says that it vanished, and a NO that it can't be read.
//!
//! Servers may also hang up on a message that they can't read (Dovecot's `imap_fetch_failure` does by default). We connect
//! again and ask for that message alone; if it costs the connection again, it is the message. So it is with a server that gives
//! a text of its own in place of a message (Courier).

use std::collections::VecDeque;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::{ReadError, Reader};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::net::imap::{ImapConnection, ImapError, Received};
use crate::source::profile::{self, Quirk};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Fetch, Response};

/// Messages of one command. The octets wait in the socket until we read them, so this costs the server little; the
/// command stays below the 8 KiB that every server takes.
const WINDOW: usize = 256;

/// Connections that one stream may lose: each unreadable message costs two, and a server must not be worn down.
const BREAKS_MAX: u32 = 16;

/// What comes next in a stream of bodies.
#[derive(Debug)]
pub enum BodyEvent {
    /// A message's body begins; it has this many octets.
    Start(Uid, u64),
    /// Its next octets.
    Chunk(Bytes),
    /// It is complete.
    End(Uid),
    /// The connection broke in the middle of this message's body: it begins anew.
    Again(Uid),
    /// The message is gone.
    Vanished(Uid),
    /// The server can't give this message's body.
    Unreadable(Uid, String),
}

/// A stream of bodies. It may be dropped between two messages only at its end, or right after one that vanished or is
/// unreadable: the connection is then between two commands.
#[derive(Debug)]
pub struct Bodies<'a> {
    reader: &'a mut Reader,
    listed: Listed,
    uid_validity: UidValidity,
    waiting: VecDeque<Uid>,
    /// To be asked for alone, before all that waits.
    alone: Option<Uid>,
    asked: Option<Asked>,
    state: State,
    /// Whose body was begun and not ended.
    begun: Option<Uid>,
    /// Connections lost.
    breaks: u32,
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
    pub(super) fn new(reader: &'a mut Reader, listed: Listed, uid_validity: UidValidity, uids: Vec<Uid>) -> Self {
        Self {
            reader,
            listed,
            uid_validity,
            waiting: uids.into(),
            alone: None,
            asked: None,
            state: State::Between,
            begun: None,
            breaks: 0,
        }
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the connection breaks and can't be made again, or the server sends a body that was not asked for.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        loop {
            let next = match self.step().await {
                Err(ReadError::Imap(ImapError::Lost { side, server, what })) => {
                    self.breaks += 1;
                    if self.breaks > BREAKS_MAX {
                        return Err(ImapError::Lost { side, server, what }.into());
                    }
                    match self.connect_again(what).await? {
                        Some(event) => Some(event),
                        None => continue,
                    }
                }
                other => other?,
            };
            match &next {
                Some(BodyEvent::Start(uid, _)) => self.begun = Some(*uid),
                Some(BodyEvent::Chunk(_)) => {}
                Some(BodyEvent::End(uid)) => {
                    self.begun = None;
                    self.reader.suspect.take_if(|(raw, suspect)| *raw == self.listed.raw && suspect == uid);
                }
                _ => self.begun = None,
            }
            return Ok(next);
        }
    }

    /// After a loss: takes back what was not delivered, connects, opens the mailbox. The message that was to come is
    /// suspect now, or, if it was before, unreadable.
    async fn connect_again(&mut self, what: String) -> Result<Option<BodyEvent>, ReadError> {
        let begun = self.begun.take();
        let missing = self.asked.take().map(|asked| asked.missing).unwrap_or_default();
        let mut back = begun.into_iter().chain(missing).collect::<VecDeque<_>>();
        self.state = State::Between;
        self.reader.open_again(&self.listed, self.uid_validity).await?;
        let expected = back.pop_front();
        for uid in back.into_iter().rev() {
            self.waiting.push_front(uid);
        }
        let Some(uid) = expected else { return Ok(None) };
        let suspect = (self.listed.raw.clone(), uid);
        if self.reader.suspect.as_ref() == Some(&suspect) {
            self.reader.suspect = None;
            return Ok(Some(BodyEvent::Unreadable(uid, what)));
        }
        self.reader.suspect = Some(suspect);
        self.alone = Some(uid);
        Ok((begun == Some(uid)).then_some(BodyEvent::Again(uid)))
    }

    async fn step(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Inside(uid) => {
                if let Some(chunk) = self.reader.connection.body_chunk().await? {
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
            if self.asked.is_none() && !self.ask().await? {
                return Ok(None);
            }
            let received = self.reader.connection.receive().await?;
            let Some(asked) = self.asked.as_mut() else { return Ok(None) };
            let event = match received {
                Received::Body { line, octets } => self.body(&line, octets).await?,
                Received::Response(response) => match answer(&self.reader.connection, asked, &response)? {
                    Some(answer) => self.answered(answer),
                    None => match scan::response(&response) {
                        Response::Fetch(fetch) => self.whole(fetch)?,
                        _ => None,
                    },
                },
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Asks for the next window. False if there is nothing left to ask for.
    async fn ask(&mut self) -> Result<bool, ReadError> {
        let missing: VecDeque<Uid> = match self.alone.take() {
            Some(uid) => [uid].into(),
            None => self.waiting.drain(..self.waiting.len().min(WINDOW)).collect(),
        };
        let numbers: Vec<NonZeroU32> = missing.iter().filter_map(|uid| NonZeroU32::new(uid.0)).collect();
        if numbers.is_empty() {
            return Ok(false);
        }
        let connection = &mut self.reader.connection;
        let tag = connection.tag();
        let command = connection.encoded(command::uid_fetch_bodies(&tag, &numbers))?;
        // Before it is sent: a loss while it is sent takes them back, too.
        self.asked = Some(Asked { tag, alone: missing.len() == 1, missing, disordered: false, nil: false });
        connection.send(command).await?;
        connection.flush().await?;
        Ok(true)
    }

    /// A body begins. It is given out if it is the next one in order.
    async fn body(&mut self, line: &[u8], octets: u64) -> Result<Option<BodyEvent>, ReadError> {
        // A server may tell the UID before the body or after it; here it can be known early.
        let uid = match scan::response(&[line, b" NIL)"].concat()) {
            Response::Fetch(fetch) => fetch.uid,
            _ => None,
        };
        if let Some(uid) = self.in_turn(uid)? {
            if self.reader.profile.has(Quirk::Placeholder) && octets <= profile::PLACEHOLDER_MAX {
                return self.looked_at(uid).await;
            }
            self.state = State::Inside(uid);
            return Ok(Some(BodyEvent::Start(uid, octets)));
        }
        while self.reader.connection.body_chunk().await?.is_some() {}
        Ok(None)
    }

    /// A body so short that it may stand for one that the server can't read. It is given out only if it doesn't.
    async fn looked_at(&mut self, uid: Uid) -> Result<Option<BodyEvent>, ReadError> {
        let mut octets = Vec::new();
        while let Some(chunk) = self.reader.connection.body_chunk().await? {
            octets.extend_from_slice(&chunk);
        }
        self.rest_of_line(uid).await?;
        if profile::is_placeholder(&octets) {
            // A session of Courier's knows a message that is gone until it is told: a new one tells whether this is, or whether
            // its file can't be read.
            if let Some(asked) = self.asked.as_mut() {
                asked.missing.push_front(uid);
            }
            let what = "the server gives a text of its own (\"message unavailable\") in its place: its file can't be read there";
            return self.connect_again(what.to_owned()).await;
        }
        let length = octets.len() as u64;
        self.state = if octets.is_empty() { State::Complete(uid) } else { State::Whole(uid, octets.into()) };
        Ok(Some(BodyEvent::Start(uid, length)))
    }

    /// The message that a body belongs to, if that is the next one.
    fn in_turn(&mut self, uid: Option<u32>) -> Result<Option<Uid>, ReadError> {
        let front = self.asked.as_ref().and_then(|asked| asked.missing.front().copied());
        let unexpected = self.unexpected(front);
        let Some(asked) = self.asked.as_mut() else { return Err(unexpected) };
        let came = uid.map(Uid).or(front).filter(|came| asked.missing.contains(came)).ok_or(unexpected)?;
        if asked.disordered || Some(came) != front {
            asked.disordered = true;
            return Ok(None);
        }
        asked.missing.pop_front();
        Ok(Some(came))
    }

    /// A FETCH response without a streaming body.
    fn whole(&mut self, fetch: Fetch) -> Result<Option<BodyEvent>, ReadError> {
        match fetch.body {
            None | Some(Body::Streamed) => Ok(None),
            Some(Body::Nil) => {
                if let Some(asked) = self.asked.as_mut() {
                    asked.nil |= asked.alone;
                    // What follows in this answer would be out of order.
                    asked.disordered = true;
                }
                Ok(None)
            }
            Some(Body::Inline(octets)) => Ok(self.in_turn(fetch.uid)?.map(|uid| {
                let length = octets.len() as u64;
                self.state = if octets.is_empty() { State::Complete(uid) } else { State::Whole(uid, octets.into()) };
                BodyEvent::Start(uid, length)
            })),
        }
    }

    /// What follows a streamed body on its line: it may hold the UID.
    async fn rest_of_line(&mut self, uid: Uid) -> Result<(), ReadError> {
        let response = self.reader.connection.response().await?;
        match scan::response(&response) {
            Response::Fetch(fetch) if fetch.uid.is_some_and(|theirs| theirs != uid.0) => {
                Err(self.unexpected(Some(uid)))
            }
            _ => Ok(()),
        }
    }

    /// The command is over. What it did not give is asked for again, the first of it alone.
    fn answered(&mut self, answer: Result<(), String>) -> Option<BodyEvent> {
        let asked = self.asked.take()?;
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
        ReadError::Mailbox { mailbox: String::from_utf8_lossy(&self.listed.raw).into_owned(), what }
    }
}

/// The command's tagged answer: OK, or what was refused.
fn answer(
    connection: &ImapConnection,
    asked: &Asked,
    response: &[u8],
) -> Result<Option<Result<(), String>>, ReadError> {
    match connection.ended("UID FETCH", &asked.tag, response) {
        Ok(ended) => Ok(ended.map(|_| Ok(()))),
        Err(ImapError::Refused { text, .. }) => Ok(Some(Err(text))),
        Err(error) => Err(error.into()),
    }
}
