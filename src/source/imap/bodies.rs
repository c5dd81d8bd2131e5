//! Message bodies as a stream, in the order in which they were asked for.
//!
//! A window of messages is one `UID FETCH` with a set of UIDs, so round trips cost nothing; the next window is asked for when
//! the last one is answered. Several commands at once would not do: a Dovecot whose output is full begins the next one before
//! it has finished, and gives the bodies out of order (measured on 2.3 behind TLS).
//!
//! A message that did not come, or came as it can't be (NIL, nothing at all, less than its RFC822.SIZE), is asked for alone, and
//! then in other ways: header and text apart, `RFC822`. What is gone by then has vanished; what no way gives is unreadable, and
//! the reason has what the server said each time. A text that is shorter than RFC822.SIZE is given out if it is the same when
//! it is read again: then it is the size that lies. So it is with a server that gives a text of its own in place of a message
//! (Courier).
//!
//! Servers may also hang up on a message that they can't read (Dovecot's `imap_fetch_failure` does by default). We connect
//! again and ask for that message alone; if it costs the connection three times, it is the message.

mod alone;
mod suspect;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use super::{ImapReader, ReadError};
use crate::mailbox::{Listed, Message, Uid, UidValidity};
use crate::net::imap::{ImapConnection, ImapError, Received};
use crate::source::profile::{self, Quirk};
use crate::wire::imap::command;
use crate::wire::imap::scan::{self, Body, Fetch, Response};
pub(super) use suspect::Suspect;
use suspect::{Fault, Way};

/// Messages of one command. The octets wait in the socket until we read them, so this costs the server little; the
/// command stays below the 8 KiB that every server takes.
const WINDOW: usize = 256;

/// Connections that one stream may lose: each unreadable message costs up to three, and a server must not be worn down.
const BREAKS_MAX: u32 = 24;

/// Texts shorter than their RFC822.SIZE that are read twice. A server of which so many were the same both times has sizes that
/// lie, and is spared from then on; the verification reads them again anyway.
const LIES_MAX: u32 = 8;

/// What a server says in an OK that is given more slowly.
const THROTTLED: &[u8] = b"[THROTTLED]";

/// The pause between two windows for a server that says so; doubled as long as it does.
const SLOW_MIN: Duration = Duration::from_secs(1);
const SLOW_MAX: Duration = Duration::from_secs(60);

/// What comes next in a stream of bodies.
#[derive(Debug)]
pub enum BodyEvent {
    /// A message's body begins; it has this many octets.
    Start(Uid, u64),
    /// Its next octets.
    Chunk(Bytes),
    /// It is complete.
    End(Uid),
    /// What came of this message's body can't be used: the connection broke in its middle, or it differs from what was read
    /// before. It begins anew.
    Again(Uid),
    /// The message is gone.
    Vanished(Uid),
    /// The server can't give this message's body.
    Unreadable(Uid, String),
}

/// A stream of bodies. It may be dropped between two messages only at its end, or right after one that vanished, is
/// unreadable or begins anew: the connection is then between two commands.
#[derive(Debug)]
pub struct Bodies<'a> {
    reader: &'a mut ImapReader,
    listed: Listed,
    uid_validity: UidValidity,
    waiting: VecDeque<Uid>,
    /// RFC822.SIZE by UID, ascending.
    sizes: Vec<(Uid, u64)>,
    asked: Option<Asked>,
    state: State,
    /// Whose body was begun and not ended.
    begun: Option<Uid>,
    /// A body that must be the same as when it was read before.
    proof: Option<blake3::Hasher>,
    /// The mailbox was opened a moment ago: the server's session knows what is gone.
    fresh: bool,
    /// Connections lost.
    breaks: u32,
}

/// A command on its way.
#[derive(Debug)]
struct Asked {
    tag: String,
    /// Messages whose body has not come, in order.
    missing: VecDeque<Uid>,
    /// It asks for one message only, in this way.
    alone: Option<Way>,
    /// The header that was fetched apart.
    head: Option<Bytes>,
    /// A body came that can't be used now: the rest of this answer is read away and asked for again.
    disordered: bool,
    /// What was wrong with the first that is missing.
    fault: Option<Fault>,
}

impl Asked {
    fn new(tag: String, missing: VecDeque<Uid>, alone: Option<Way>) -> Self {
        Self { tag, missing, alone, head: None, disordered: false, fault: None }
    }
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Between,
    /// Inside a body that streams.
    Inside(Uid),
    /// Pieces that are here already are given out next; then the rest streams, or there is none.
    Held { uid: Uid, pieces: VecDeque<Bytes>, streams: bool },
}

/// Whether a body can be what it is said to be.
enum Judged {
    Good,
    /// If it is the same as before.
    Prove,
    Short,
    Empty,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(reader: &'a mut ImapReader, listed: Listed, uid_validity: UidValidity, uids: Vec<Uid>) -> Self {
        Self {
            reader,
            listed,
            uid_validity,
            waiting: uids.into(),
            sizes: Vec::new(),
            asked: None,
            state: State::Between,
            begun: None,
            proof: None,
            fresh: false,
            breaks: 0,
        }
    }

    /// Compares the bodies with the sizes that were listed. Without, only a body of no octets is conspicuous.
    #[must_use]
    pub fn expecting(mut self, messages: &[Message]) -> Self {
        let size = |uid: &Uid| {
            let at = messages.binary_search_by_key(uid, |message| message.uid).ok()?;
            messages.get(at).map(|message| (*uid, message.size))
        };
        self.sizes = self.waiting.iter().filter_map(size).collect();
        self.sizes.sort_unstable();
        self
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the connection breaks and can't be made again, the server sends a body that was not asked for, or says that it can't
    /// serve now.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        loop {
            let next = match self.step().await {
                Err(ReadError::Imap(ImapError::Lost { side, server, what })) => {
                    self.breaks += 1;
                    if self.breaks > BREAKS_MAX {
                        return Err(ImapError::Lost { side, server, what }.into());
                    }
                    match self.connect_again(&what).await? {
                        Some(event) => Some(event),
                        None => continue,
                    }
                }
                other => other?,
            };
            self.begun = match &next {
                Some(BodyEvent::Start(uid, _)) => Some(*uid),
                Some(BodyEvent::Chunk(_)) => self.begun,
                _ => None,
            };
            if let Some(BodyEvent::End(uid) | BodyEvent::Vanished(uid) | BodyEvent::Unreadable(uid, _)) = &next {
                self.reader.suspect.take_if(|suspect| suspect.is(&self.listed.raw, *uid));
            }
            return Ok(next);
        }
    }

    /// After a loss: takes back what was not delivered, connects, opens the mailbox. The message that was to come is
    /// suspect now; one that was too often is unreadable.
    async fn connect_again(&mut self, what: &str) -> Result<Option<BodyEvent>, ReadError> {
        let begun = self.begun.take();
        let (missing, alone) = self.asked.take().map(|asked| (asked.missing, asked.alone)).unwrap_or_default();
        let back: Vec<Uid> = begun.into_iter().chain(missing).collect();
        (self.state, self.proof) = (State::Between, None);
        self.reader.open_again(&self.listed, self.uid_validity).await?;
        self.fresh = true;
        for uid in back.iter().rev() {
            self.waiting.push_front(*uid);
        }
        let Some(&uid) = back.first() else { return Ok(None) };
        let suspect = self.suspect(uid);
        if !suspect.lost(what, alone.is_some()) {
            let reason = suspect.reason();
            self.waiting.pop_front();
            return Ok(Some(BodyEvent::Unreadable(uid, reason)));
        }
        Ok((begun == Some(uid)).then_some(BodyEvent::Again(uid)))
    }

    /// The message as a suspect, which it may have been before.
    fn suspect(&mut self, uid: Uid) -> &mut Suspect {
        let known = self.reader.suspect.take().filter(|suspect| suspect.is(&self.listed.raw, uid));
        self.reader.suspect.insert(known.unwrap_or_else(|| Suspect::new(&self.listed.raw, uid)))
    }

    async fn step(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        loop {
            match std::mem::replace(&mut self.state, State::Between) {
                State::Held { uid, mut pieces, streams } => match pieces.pop_front() {
                    Some(piece) => {
                        self.state = State::Held { uid, pieces, streams };
                        return Ok(Some(self.chunk(piece)));
                    }
                    None if streams => self.state = State::Inside(uid),
                    None => return self.end(uid).await.map(Some),
                },
                State::Inside(uid) => {
                    if let Some(chunk) = self.reader.connection.body_chunk().await? {
                        self.state = State::Inside(uid);
                        return Ok(Some(self.chunk(chunk)));
                    }
                    self.rest_of_line(uid).await?;
                    return self.end(uid).await.map(Some);
                }
                State::Between => return self.between().await,
            }
        }
    }

    fn chunk(&mut self, octets: Bytes) -> BodyEvent {
        if let Some(proof) = &mut self.proof {
            proof.update(&octets);
        }
        BodyEvent::Chunk(octets)
    }

    /// A body is through. One that had to be the same as before, and is not, begins anew in another way.
    async fn end(&mut self, uid: Uid) -> Result<BodyEvent, ReadError> {
        let Some(proof) = self.proof.take() else { return Ok(BodyEvent::End(uid)) };
        let digest = proof.finalize();
        if self.suspect(uid).short.replace(digest) == Some(digest) {
            self.reader.lies += 1;
            info!(mailbox = %self.reader.shown(&self.listed), %uid, "RFC822.SIZE is more than the message has, read twice");
            return Ok(BodyEvent::End(uid));
        }
        // Nothing of this command may be left when the stream is given up.
        while let Some(asked) = &self.asked {
            match self.reader.connection.receive().await? {
                Received::Body { .. } => self.read_away().await?,
                Received::Response(response) => {
                    if answer(&self.reader.connection, asked, &response)?.is_some() {
                        self.asked = None;
                    }
                }
            }
        }
        let otherwise = Fault::Said("less than RFC822.SIZE, and other octets each time".to_owned());
        Ok(self.failed(uid, otherwise).await?.unwrap_or(BodyEvent::Again(uid)))
    }

    async fn between(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        loop {
            if self.asked.is_none() {
                if self.waiting.is_empty() {
                    return Ok(None);
                }
                if let Some(event) = self.ask().await? {
                    return Ok(Some(event));
                }
            }
            let Some(asked) = self.asked.as_ref() else { continue };
            let event = match self.reader.connection.receive().await? {
                Received::Body { line, octets } => self.body(&line, octets).await?,
                Received::Response(response) => match answer(&self.reader.connection, asked, &response)? {
                    Some(answer) => self.answered(answer).await?,
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

    /// Asks for the next window, or for a suspect alone.
    async fn ask(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        let suspect = self.reader.suspect.as_ref().filter(|suspect| suspect.is_in(&self.listed.raw));
        let suspect = suspect.map(|suspect| (suspect.uid, suspect.way));
        if let Some((uid, way)) = suspect.filter(|(uid, _)| self.waiting.front() == Some(uid)) {
            return self.ask_alone(uid, way).await;
        }
        if !self.reader.slow.is_zero() {
            tokio::time::sleep(self.reader.slow).await;
        }
        let fits = self.fits(suspect.map(|(other, _)| other))?;
        let missing: VecDeque<Uid> = self.waiting.drain(..fits).collect();
        let numbers: Vec<NonZeroU32> = missing.iter().filter_map(|uid| NonZeroU32::new(uid.0)).collect();
        let tag = self.reader.connection.tag();
        let command = self.reader.connection.encoded(command::uid_fetch_bodies(&tag, &numbers))?;
        self.send(Asked::new(tag, missing, None), command).await?;
        Ok(None)
    }

    /// How many messages the next window has: those before a suspect, and those for which there is room today.
    fn fits(&self, suspect: Option<Uid>) -> Result<usize, ReadError> {
        let left = self.reader.meter.left().map_or(u64::MAX, |(left, _)| left);
        let (mut count, mut octets) = (0, 0_u64);
        for uid in self.waiting.iter().take(WINDOW).take_while(|uid| suspect.is_none_or(|other| other != **uid)) {
            octets = octets.saturating_add(self.size(*uid).unwrap_or_default());
            match count {
                0 => self.reader.may_read(octets)?,
                _ if octets > left => break,
                _ => {}
            }
            count += 1;
        }
        Ok(count)
    }

    async fn send(&mut self, asked: Asked, command: Vec<command::Fragment>) -> Result<(), ReadError> {
        // Before it is sent: a loss while it is sent takes them back, too.
        (self.asked, self.fresh) = (Some(asked), false);
        self.reader.connection.send(command).await?;
        self.reader.connection.flush().await?;
        Ok(())
    }

    async fn read_away(&mut self) -> Result<(), ReadError> {
        while self.reader.connection.body_chunk().await?.is_some() {}
        Ok(())
    }

    /// RFC822.SIZE of a message, if it was listed.
    fn size(&self, uid: Uid) -> Option<u64> {
        let at = self.sizes.binary_search_by_key(&uid, |(uid, _)| *uid).ok();
        at.and_then(|at| self.sizes.get(at)).map(|(_, size)| *size)
    }

    fn judge(&self, uid: Uid, octets: u64) -> Judged {
        let size = self.size(uid);
        let before = self.reader.suspect.as_ref().filter(|suspect| suspect.is(&self.listed.raw, uid));
        match size {
            None if octets == 0 => Judged::Empty,
            Some(size) if octets == 0 && size > 0 => Judged::Empty,
            Some(size) if octets < size && self.reader.lies < LIES_MAX => {
                if before.is_some_and(|suspect| suspect.short.is_some()) { Judged::Prove } else { Judged::Short }
            }
            _ => Judged::Good,
        }
    }

    /// A body begins. It is given out if it is the next one in order and can be true.
    async fn body(&mut self, line: &[u8], octets: u64) -> Result<Option<BodyEvent>, ReadError> {
        // A server may tell the UID before the body or after it; here it can be known early.
        let uid = match scan::response(&[line, b" NIL)"].concat()) {
            Response::Fetch(fetch) => fetch.uid,
            _ => None,
        };
        let Some(uid) = self.in_turn(uid)? else {
            self.read_away().await?;
            return Ok(None);
        };
        let head = self.asked.as_mut().and_then(|asked| asked.head.take());
        let total = octets + head.as_ref().map_or(0, |head| head.len() as u64);
        if self.may_be_placeholder(total) {
            return self.looked_at(uid, head).await;
        }
        match self.judge(uid, total) {
            Judged::Good => {}
            Judged::Prove => self.proof = Some(blake3::Hasher::new()),
            Judged::Short => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&head.unwrap_or_default());
                // (Back among the missing first: the connection may break.)
                self.not_taken(uid, None);
                while let Some(chunk) = self.reader.connection.body_chunk().await? {
                    hasher.update(&chunk);
                }
                if let Some(asked) = &mut self.asked {
                    asked.fault = Some(Fault::Short(hasher.finalize()));
                }
                return Ok(None);
            }
            Judged::Empty => {
                self.not_taken(uid, Some(nothing()));
                self.read_away().await?;
                return Ok(None);
            }
        }
        self.state = match head {
            Some(head) => State::Held { uid, pieces: [head].into(), streams: true },
            None => State::Inside(uid),
        };
        Ok(Some(BodyEvent::Start(uid, total)))
    }

    fn may_be_placeholder(&self, octets: u64) -> bool {
        self.reader.profile.has(Quirk::Placeholder) && octets <= profile::PLACEHOLDER_MAX
    }

    /// A body so short that it may stand for one that the server can't read. It is given out only if it doesn't.
    async fn looked_at(&mut self, uid: Uid, head: Option<Bytes>) -> Result<Option<BodyEvent>, ReadError> {
        // (Among the missing for as long as the connection may break.)
        if let Some(asked) = &mut self.asked {
            asked.missing.push_front(uid);
        }
        let mut octets = Vec::new();
        while let Some(chunk) = self.reader.connection.body_chunk().await? {
            octets.extend_from_slice(&chunk);
        }
        if let Some(asked) = &mut self.asked {
            asked.missing.pop_front();
        }
        Ok(self.held(uid, head, octets.into()))
    }

    /// What came for a message is not to be given out.
    fn not_taken(&mut self, uid: Uid, fault: Option<Fault>) {
        if let Some(asked) = &mut self.asked {
            asked.missing.push_front(uid);
            asked.disordered = true;
            asked.fault = fault;
        }
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
        let octets = match fetch.body {
            None | Some(Body::Streamed) => return Ok(None),
            Some(Body::Nil) => {
                if let Some(asked) = self.asked.as_mut() {
                    if asked.alone.is_some() {
                        asked.fault = Some(Fault::Said("NIL instead of the text".to_owned()));
                    }
                    // What follows in this answer would be out of order.
                    asked.disordered = true;
                }
                return Ok(None);
            }
            Some(Body::Inline(octets)) => Bytes::from(octets),
        };
        let Some(uid) = self.in_turn(fetch.uid)? else { return Ok(None) };
        let head = self.asked.as_mut().and_then(|asked| asked.head.take());
        Ok(self.held(uid, head, octets))
    }

    /// A body that is here already. It is given out if it can be true.
    fn held(&mut self, uid: Uid, head: Option<Bytes>, octets: Bytes) -> Option<BodyEvent> {
        let pieces: VecDeque<Bytes> = head.into_iter().chain([octets]).filter(|piece| !piece.is_empty()).collect();
        let total = pieces.iter().map(|piece| piece.len() as u64).sum();
        let whole = || pieces.iter().flatten().copied().collect::<Vec<u8>>();
        if self.may_be_placeholder(total) && profile::is_placeholder(&whole()) {
            let what =
                "a text of the server's own (\"message unavailable\") in its place: its file can't be read there";
            self.not_taken(uid, Some(Fault::Said(what.to_owned())));
            return None;
        }
        match self.judge(uid, total) {
            Judged::Good => {}
            Judged::Prove => self.proof = Some(blake3::Hasher::new()),
            Judged::Short => {
                self.not_taken(uid, Some(Fault::Short(blake3::hash(&whole()))));
                return None;
            }
            Judged::Empty => {
                self.not_taken(uid, Some(nothing()));
                return None;
            }
        }
        self.state = State::Held { uid, pieces, streams: false };
        Some(BodyEvent::Start(uid, total))
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
    async fn answered(&mut self, answer: Result<Pace, String>) -> Result<Option<BodyEvent>, ReadError> {
        self.heed(answer.as_ref().ok().copied());
        let Some(Asked { mut missing, alone, fault, .. }) = self.asked.take() else { return Ok(None) };
        let Some(first) = missing.pop_front() else { return Ok(None) };
        for uid in missing.into_iter().rev() {
            self.waiting.push_front(uid);
        }
        if alone.is_none() {
            self.waiting.push_front(first);
            if let Err(text) = &answer {
                self.is_of_this_message(text)?;
            }
            let suspect = self.suspect(first);
            if let Some(Fault::Short(digest)) = fault {
                suspect.short = Some(digest);
            }
            return Ok(None);
        }
        let fault = match (answer, fault) {
            (Err(text), _) => {
                self.is_of_this_message(&text)?;
                Fault::Said(text)
            }
            (Ok(_), Some(fault)) => fault,
            (Ok(_), None) => Fault::Said("OK, and no text".to_owned()),
        };
        self.failed(first, fault).await
    }

    /// A server that says that we are too fast gets a longer pause each time, until it says so no more.
    fn heed(&mut self, pace: Option<Pace>) {
        self.reader.slow = match pace {
            Some(Pace::TooFast) => (self.reader.slow * 2).clamp(SLOW_MIN, SLOW_MAX),
            Some(Pace::Fine) => Duration::ZERO,
            None => return,
        };
        if let Some(Pace::TooFast) = pace {
            info!(mailbox = %self.reader.shown(&self.listed), pause = ?self.reader.slow, "the server says that we are too fast");
        }
    }

    fn unexpected(&self, uid: Option<Uid>) -> ReadError {
        let what = match uid {
            Some(uid) => format!("asked for the body of UID {uid}, got another one"),
            None => "got a body that was not asked for".to_owned(),
        };
        ReadError::Mailbox { mailbox: String::from_utf8_lossy(&self.listed.raw).into_owned(), what }
    }
}

fn nothing() -> Fault {
    Fault::Said("a text of no octets".to_owned())
}

/// What a server that has answered says of our pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fine,
    /// `[THROTTLED]`, which Gmail puts somewhere into its OK.
    TooFast,
}

impl Pace {
    fn of(raw: &[u8]) -> Self {
        let throttled = raw.windows(THROTTLED.len()).any(|part| part.eq_ignore_ascii_case(THROTTLED));
        if throttled { Self::TooFast } else { Self::Fine }
    }
}

/// The command's tagged answer: OK, or what was refused.
fn answer(
    connection: &ImapConnection,
    asked: &Asked,
    response: &[u8],
) -> Result<Option<Result<Pace, String>>, ReadError> {
    match connection.ended("UID FETCH", &asked.tag, response) {
        Ok(ended) => Ok(ended.map(|done| Ok(Pace::of(&done.raw)))),
        Err(ImapError::Refused { text, .. }) => Ok(Some(Err(text))),
        Err(error) => Err(error.into()),
    }
}
