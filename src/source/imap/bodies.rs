//! Message bodies by pipelined `UID FETCH`, one command a message, streamed in pieces.
//!
//! One command a message: a server that fails on one body says for which one, and a message that vanished is an OK
//! without a body. Servers may hold the tagged answers of pipelined FETCHes back and send them together (Dovecot does), so
//! a body is known by its UID and its place in the order, never by the tagged answer before it.
//!
//! Servers may also hang up on a message that they can't read (Dovecot's `imap_fetch_failure` does by default). We connect
//! again and ask for that message alone; if it costs the connection again, it is the message.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::{ReadError, Reader};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::net::imap::{ImapError, Received};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Fetch, Response};

/// FETCH commands whose bodies are on the way at once. The octets wait in the socket until we read them, so this costs the
/// server little.
const WINDOW: usize = 32;

/// FETCH commands without a tagged answer yet, delivered or not.
const UNANSWERED_MAX: usize = 8 * WINDOW;

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
    /// The connection broke inside the body: it begins again from the start.
    Again(Uid),
    /// The message is gone.
    Vanished(Uid),
    /// The server can't give this message's body.
    Unreadable(Uid, String),
}

/// A stream of bodies, in the order in which they were asked for. It must be read to its end, or to the first message that
/// vanished or is unreadable; before telling of one, everything that was asked for and not delivered is read away.
#[derive(Debug)]
pub struct Bodies<'a> {
    reader: &'a mut Reader,
    listed: Listed,
    uid_validity: UidValidity,
    waiting: VecDeque<Uid>,
    asked: VecDeque<Asked>,
    state: State,
    /// Whose body was begun and not ended.
    begun: Option<Uid>,
    /// Connections lost.
    breaks: u32,
}

#[derive(Debug)]
struct Asked {
    tag: String,
    uid: Uid,
    /// Its body was given out.
    delivered: bool,
    /// How its command ended: with OK, or with this refusal.
    answer: Option<Result<(), String>>,
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Between,
    /// Inside a body that streams.
    Inside(Uid),
    /// A body that came whole is given out next.
    Whole(Uid, Bytes),
    /// A body that came whole, or streamed to its end, is through.
    Complete(Uid),
}

impl<'a> Bodies<'a> {
    pub(super) fn new(reader: &'a mut Reader, listed: Listed, uid_validity: UidValidity, uids: Vec<Uid>) -> Self {
        Self {
            reader,
            listed,
            uid_validity,
            waiting: uids.into(),
            asked: VecDeque::new(),
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
                _ => self.begun = None,
            }
            return Ok(next);
        }
    }

    /// After a loss: takes back what was not delivered, connects, opens the mailbox. The message that was to come is
    /// suspect now, or, if it was before, unreadable.
    async fn connect_again(&mut self, what: String) -> Result<Option<BodyEvent>, ReadError> {
        let expected = self.expected();
        for asked in self.asked.drain(..).rev().filter(|asked| !asked.delivered) {
            self.waiting.push_front(asked.uid);
        }
        self.state = State::Between;
        self.reader.open_again(&self.listed, self.uid_validity).await?;
        let Some(uid) = expected else { return Ok(None) };
        let suspect = (self.listed.raw.clone(), uid);
        if self.reader.suspect.as_ref() == Some(&suspect) {
            self.reader.suspect = None;
            self.waiting.pop_front();
            return Ok(Some(BodyEvent::Unreadable(uid, what)));
        }
        self.reader.suspect = Some(suspect);
        Ok((self.begun == Some(uid)).then_some(BodyEvent::Again(uid)))
    }

    async fn step(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Inside(uid) => {
                if let Some(chunk) = self.reader.connection.body_chunk().await? {
                    self.state = State::Inside(uid);
                    return Ok(Some(BodyEvent::Chunk(chunk)));
                }
                self.rest_of_line(uid).await?;
                return Ok(Some(self.delivered(uid)));
            }
            State::Whole(uid, octets) => {
                self.state = State::Complete(uid);
                return Ok(Some(BodyEvent::Chunk(octets)));
            }
            State::Complete(uid) => return Ok(Some(self.delivered(uid))),
            State::Between => {}
        }
        loop {
            self.ask().await?;
            self.forget_answered();
            if self.asked.is_empty() {
                return Ok(None);
            }
            if let Some(event) = self.read().await? {
                return Ok(Some(event));
            }
        }
    }

    async fn ask(&mut self) -> Result<(), ReadError> {
        let mut open = self.asked.iter().filter(|asked| !asked.delivered).count();
        // A suspect is asked for alone, so that no other message can be to blame.
        let window = if self.reader.suspect.is_some() { 1 } else { WINDOW };
        // Refill in bulk: a write for each message would cost a system call each.
        if open > window / 2 || self.waiting.is_empty() || self.asked.len() >= UNANSWERED_MAX {
            return Ok(());
        }
        while open < window
            && let Some(uid) = self.waiting.pop_front()
        {
            let Some(number) = NonZeroU32::new(uid.0) else { continue };
            let tag = self.reader.connection.tag();
            let command = self.reader.connection.encoded(command::uid_fetch_body(&tag, number))?;
            self.reader.connection.send(command).await?;
            self.asked.push_back(Asked { tag, uid, delivered: false, answer: None });
            open += 1;
        }
        self.reader.connection.flush().await?;
        Ok(())
    }

    fn forget_answered(&mut self) {
        while self.asked.front().is_some_and(|asked| asked.delivered && asked.answer.is_some()) {
            self.asked.pop_front();
        }
    }

    fn delivered(&mut self, uid: Uid) -> BodyEvent {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.uid == uid) {
            asked.delivered = true;
        }
        self.reader.suspect.take_if(|(raw, suspect)| *raw == self.listed.raw && *suspect == uid);
        BodyEvent::End(uid)
    }

    /// The message whose body comes next.
    fn expected(&self) -> Option<Uid> {
        self.asked.iter().find(|asked| !asked.delivered).map(|asked| asked.uid)
    }

    async fn read(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        match self.reader.connection.receive().await? {
            Received::Body { line, octets } => {
                // A server may tell the UID before the body or after it; here it can be known early.
                let uid = match scan::response(&[&line[..], b" NIL)"].concat()) {
                    Response::Fetch(fetch) => fetch.uid,
                    _ => None,
                };
                let expected = self.expected();
                if expected.is_some() && uid.is_none_or(|uid| expected == Some(Uid(uid))) {
                    let uid = expected.unwrap_or_default();
                    self.state = State::Inside(uid);
                    return Ok(Some(BodyEvent::Start(uid, octets)));
                }
                // A later one: the expected message has no body to give.
                while self.reader.connection.body_chunk().await?.is_some() {}
                self.trouble(expected, uid).await.map(Some)
            }
            Received::Response(response) => {
                if self.note_answer(&response)? {
                    let troubled = self.asked.iter().find(|asked| !asked.delivered && asked.answer.is_some());
                    return match troubled.map(|asked| asked.uid) {
                        Some(uid) => self.trouble(Some(uid), None).await.map(Some),
                        None => Ok(None),
                    };
                }
                match scan::response(&response) {
                    Response::Fetch(fetch) => self.whole(fetch).await,
                    _ => Ok(None),
                }
            }
        }
    }

    /// A FETCH response without a streaming body.
    async fn whole(&mut self, fetch: Fetch) -> Result<Option<BodyEvent>, ReadError> {
        let expected = self.expected();
        let ours = fetch.uid.is_none_or(|uid| expected == Some(Uid(uid)));
        match (fetch.body, expected) {
            (None | Some(Body::Streamed), _) => Ok(None),
            (Some(Body::Inline(octets)), Some(uid)) if ours => {
                let length = octets.len() as u64;
                self.state = if octets.is_empty() { State::Complete(uid) } else { State::Whole(uid, octets.into()) };
                Ok(Some(BodyEvent::Start(uid, length)))
            }
            (Some(Body::Nil), Some(uid)) if ours => {
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.uid == uid) {
                    asked.answer = Some(Err("the server says NIL instead of its text".to_owned()));
                }
                self.trouble(Some(uid), None).await.map(Some)
            }
            _ => self.trouble(expected, fetch.uid).await.map(Some),
        }
    }

    /// What follows a streamed body on its line: it may hold the UID.
    async fn rest_of_line(&mut self, uid: Uid) -> Result<(), ReadError> {
        let response = self.reader.connection.response().await?;
        match scan::response(&response) {
            Response::Fetch(fetch) if fetch.uid.is_some_and(|theirs| theirs != uid.0) => Err(self.unexpected(uid)),
            _ => Ok(()),
        }
    }

    /// Notes a tagged answer. True if `response` was one.
    fn note_answer(&mut self, response: &[u8]) -> Result<bool, ReadError> {
        let Response::Tagged { tag, .. } = scan::response(response) else { return Ok(false) };
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.tag.as_bytes() == tag) else { return Ok(false) };
        let answer = match self.reader.connection.ended("UID FETCH", &asked.tag, response) {
            Ok(_) => Ok(()),
            Err(ImapError::Refused { text, .. }) => Err(text),
            Err(error) => return Err(error.into()),
        };
        if let (true, Err(text)) = (asked.delivered, &answer) {
            let what = format!("UID {} was given and then refused: {text}", asked.uid);
            return Err(self.reader.in_mailbox(&self.listed, what));
        }
        asked.answer.get_or_insert(answer);
        Ok(true)
    }

    /// Reads everything away that was asked for, takes back what was not delivered, and tells of the first message that
    /// has no body. `came`: whose body came instead.
    async fn trouble(&mut self, expected: Option<Uid>, came: Option<u32>) -> Result<BodyEvent, ReadError> {
        let Some(uid) = expected else { return Err(self.unexpected(Uid(came.unwrap_or_default()))) };
        if came.is_some_and(|came| !self.asked.iter().any(|asked| asked.uid.0 == came)) {
            return Err(self.unexpected(uid));
        }
        while self.asked.iter().any(|asked| asked.answer.is_none()) {
            match self.reader.connection.receive().await? {
                Received::Body { .. } => while self.reader.connection.body_chunk().await?.is_some() {},
                Received::Response(response) => drop(self.note_answer(&response)?),
            }
        }
        let mut event = BodyEvent::Vanished(uid);
        for asked in self.asked.drain(..).rev().filter(|asked| !asked.delivered) {
            if asked.uid == uid {
                if let Some(Err(why)) = asked.answer {
                    event = BodyEvent::Unreadable(uid, why);
                }
            } else {
                self.waiting.push_front(asked.uid);
            }
        }
        Ok(event)
    }

    fn unexpected(&self, uid: Uid) -> ReadError {
        let what = format!("asked for the body of UID {uid}, got another one");
        self.reader.in_mailbox(&self.listed, what)
    }
}
