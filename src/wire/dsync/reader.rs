//! The master of a reading session: mailboxes of a running Dovecot are told by their lists, and messages are sent on request
//! (dsync reference §10). The slave opens them read-only, and nothing that is said here could change one ([`word`]).
//!
//! For each mailbox: [`Reader::ask`], its status, its list ([`Event::Listed`] for each message, [`Event::ListEnd`]), then
//! [`Reader::want`] of some messages, their texts, and [`Event::MailboxEnd`]. UIDs ascend in both.

pub mod word;

use std::collections::VecDeque;

use super::error::{MasterError, Misuse};
use super::item::{Finish, Guid, MailboxState, MailboxStatus, Node, NodeMailbox, StatusReply};
use super::layout::{ItemError, Record};
use super::listed::{Head, Listed};
use super::peer::{MAX_LINE, Peer, Step};
use super::unstuff::Unstuffer;
use super::{Role, quoted};
use word::{Done, WANTED, Word};

/// What a slave tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its tree is known: mailboxes may be asked for.
    Opened,
    /// The answer to [`Reader::ask`]; unless it is [`StatusReply::Known`], the mailbox is over.
    Status(StatusReply),
    /// A message of its list.
    Listed(Listed),
    /// The list is over: messages may be wanted.
    ListEnd,
    /// A text begins.
    Head(Head),
    /// Its next octets, as they are stored.
    Text(Vec<u8>),
    /// It is complete.
    TextEnd,
    /// All that was wanted has come, or isn't there any more. The next mailbox may be asked for.
    MailboxEnd,
    /// The session's result.
    Finished(Finish),
    /// The slave is done with everything and closes.
    Done,
}

#[derive(Debug)]
enum State {
    /// The slave introduces itself.
    Opening,
    Idle,
    Asking(Guid),
    Attributes(Done),
    /// A long value of an attribute, which is read away.
    Value(Done, Unstuffer),
    List {
        mailbox: Done,
        last: u32,
    },
    Choosing(Done),
    Mails {
        mailbox: Done,
        wanted: VecDeque<u32>,
    },
    Text {
        mailbox: Done,
        wanted: VecDeque<u32>,
        unstuffer: Unstuffer,
    },
    Closing(Guid),
    Finishing,
    Ending,
    Over,
}

impl State {
    const fn name(&self, peer: &Peer) -> &'static str {
        match self {
            Self::Opening => peer.state(),
            Self::Idle => "between two mailboxes",
            Self::Asking(_) => "waiting for the status of a mailbox",
            Self::Attributes(_) | Self::Value(..) => "reading the attributes of a mailbox",
            Self::List { .. } => "reading the list of a mailbox",
            Self::Choosing(_) => "choosing messages",
            Self::Mails { .. } => "waiting for a message",
            Self::Text { .. } => "reading a message",
            Self::Closing(_) => "waiting for the end of a mailbox",
            Self::Finishing => "waiting for the slave's result",
            Self::Ending => "waiting for the slave to end",
            Self::Over => "the session is over",
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Reader {
    state: State,
    peer: Peer,
    /// What is known of mailboxes; sent with our empty tree.
    known: Vec<MailboxState>,
    /// The mailbox that was asked for, as the tree has it.
    asked: Option<NodeMailbox>,
    /// The beginning of a line.
    input: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

impl Reader {
    /// A session whose command line has just been sent. Of mailboxes in `known` only what is new is told.
    #[must_use]
    pub fn new(known: Vec<MailboxState>) -> Self {
        Self {
            state: State::Opening,
            peer: Peer::new(),
            known,
            asked: None,
            input: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// The slave's tree; complete after [`Event::Opened`].
    #[must_use]
    pub fn tree(&self) -> &[Node] {
        self.peer.tree()
    }

    /// Its hierarchy separator.
    #[must_use]
    pub const fn separator(&self) -> Option<char> {
        self.peer.separator()
    }

    /// Asks for a mailbox of the tree.
    ///
    /// # Errors
    /// [`Misuse`] if another one is open, or there is none with this GUID.
    pub fn ask(&mut self, guid: Guid) -> Result<(), Misuse> {
        if !matches!(self.state, State::Idle) {
            return Err(self.wrong("a mailbox was asked for"));
        }
        let mailbox = self.tree().iter().filter_map(|node| node.mailbox).find(|mailbox| mailbox.guid == guid);
        let mailbox = mailbox.ok_or(Misuse::OtherMailbox)?;
        Word::Tell(&mailbox).say(&mut self.output);
        (self.asked, self.state) = (Some(mailbox), State::Asking(guid));
        Ok(())
    }

    /// Asks for the texts of messages, which must be in the list, ascending; for none, if that was all.
    ///
    /// # Errors
    /// [`Misuse`] if no list has just ended, or UIDs do not ascend.
    pub fn want(&mut self, uids: Vec<u32>) -> Result<(), Misuse> {
        let &State::Choosing(mailbox) = &self.state else { return Err(self.wrong("messages were asked for")) };
        let mut last = 0;
        for &uid in &uids {
            if uid <= last {
                return Err(Misuse::Order { uid, last });
            }
            last = uid;
        }
        for &uid in &uids {
            Word::Want(uid).say(&mut self.output);
        }
        Word::End.say(&mut self.output);
        self.state = State::Mails { mailbox, wanted: uids.into() };
        Ok(())
    }

    /// Ends the session. Its answers are [`Event::Finished`] and [`Event::Done`].
    ///
    /// # Errors
    /// [`Misuse`] if a mailbox is open.
    pub fn finish(&mut self) -> Result<(), Misuse> {
        if !matches!(self.state, State::Idle) {
            return Err(self.wrong("the session was finished"));
        }
        Word::End.say(&mut self.output);
        self.state = State::Finishing;
        Ok(())
    }

    const fn wrong(&self, call: &'static str) -> Misuse {
        Misuse::State { call, state: self.state.name(&self.peer) }
    }

    fn unexpected(&self, line: &[u8]) -> MasterError {
        MasterError::Unexpected { state: self.state(), line: quoted(line) }
    }

    fn bad(&self, error: ItemError) -> MasterError {
        MasterError::Item { state: self.state(), error }
    }

    fn record<'a>(&'a self, letter: u8, fields: &'a [u8]) -> Result<Record<'a>, MasterError> {
        self.peer.record(letter, fields, self.state())
    }

    fn next(&mut self, state: State, event: Event) {
        self.state = state;
        self.events.push_back(event);
    }

    fn consume(&mut self, bytes: &[u8]) -> Result<(), MasterError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match &mut self.state {
                State::Text { .. } | State::Value(..) => self.text(rest)?,
                _ => self.up_to_line_end(rest)?,
            };
        }
        Ok(())
    }

    fn up_to_line_end<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], MasterError> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.input.extend_from_slice(bytes);
            return if self.input.len() > MAX_LINE { Err(MasterError::TooMuch("line")) } else { Ok(&[]) };
        };
        let (line, rest) = bytes.split_at(end);
        if self.input.len() + line.len() > MAX_LINE {
            return Err(MasterError::TooMuch("line"));
        }
        if self.input.is_empty() {
            self.line(line)?;
        } else {
            self.input.extend_from_slice(line);
            let line = std::mem::take(&mut self.input);
            self.line(&line)?;
        }
        Ok(rest.get(1..).unwrap_or_default())
    }

    fn text<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], MasterError> {
        let dot = MasterError::Dot(self.state());
        match &mut self.state {
            State::Value(done, unstuffer) => {
                let done = *done;
                let left = unstuffer.take(bytes, &mut Vec::new()).map_err(|_| dot)?;
                if left.is_some() {
                    self.state = State::Attributes(done);
                }
                Ok(left.unwrap_or_default())
            }
            State::Text { mailbox, wanted, unstuffer } => {
                let mut octets = Vec::with_capacity(bytes.len());
                let left = unstuffer.take(bytes, &mut octets).map_err(|_| dot)?;
                if !octets.is_empty() {
                    self.events.push_back(Event::Text(octets));
                }
                if left.is_some() {
                    let state = State::Mails { mailbox: *mailbox, wanted: std::mem::take(wanted) };
                    self.next(state, Event::TextEnd);
                }
                Ok(left.unwrap_or_default())
            }
            _ => Ok(&[]),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), MasterError> {
        match (&self.state, line.split_first()) {
            (State::Opening, _) => self.opening(line),
            (State::Ending, Some((b'X', []))) => {
                self.next(State::Over, Event::Done);
                Ok(())
            }
            // Before minor 3 there is no F.
            (State::Finishing, Some((b'X', []))) if self.peer.minor() < 3 => {
                self.events.push_back(Event::Finished(Finish::default()));
                self.next(State::Over, Event::Done);
                Ok(())
            }
            (_, Some((b'X', []))) => Err(MasterError::GaveUp(self.state())),
            (State::Ending | State::Over, _) => Err(self.unexpected(line)),
            (_, Some((b'F', fields))) => self.finished(fields),
            (_, Some((&letter, fields))) => self.mailbox(letter, fields, line),
            (_, None) => Err(self.unexpected(line)),
        }
    }

    fn opening(&mut self, line: &[u8]) -> Result<(), MasterError> {
        match self.peer.line(line)? {
            Step::Quiet => {}
            Step::Started => Word::Begin.say(&mut self.output),
            Step::Announced => {
                for (letter, field, what) in WANTED {
                    if !self.peer.layout().has(letter, field) {
                        return Err(MasterError::Untold(what));
                    }
                }
                std::mem::take(&mut self.known).iter().for_each(|state| Word::Known(state).say(&mut self.output));
                Word::End.say(&mut self.output);
                Word::Nothing.say(&mut self.output);
            }
            Step::Opened => self.next(State::Idle, Event::Opened),
        }
        Ok(())
    }

    fn finished(&mut self, fields: &[u8]) -> Result<(), MasterError> {
        let finish = Finish::parse(&self.record(b'F', fields)?).map_err(|error| self.bad(error))?;
        if !matches!(self.state, State::Finishing) {
            // A slave that fails can end the session at any time; its reason is in it.
            return Err(MasterError::Failed { state: self.state(), finish });
        }
        self.next(State::Ending, Event::Finished(finish));
        Ok(())
    }

    fn mailbox(&mut self, letter: u8, fields: &[u8], line: &[u8]) -> Result<(), MasterError> {
        match (&self.state, letter) {
            (&State::Asking(guid), b'B') => {
                let record = self.record(letter, fields)?;
                let (theirs, reply) = MailboxStatus::parse(&record).map_err(|error| self.bad(error))?;
                if theirs != guid {
                    return Err(self.unexpected(line));
                }
                self.status(reply);
            }
            (State::Attributes(_), b'A') => {
                if self.record(letter, fields)?.flag("stream")
                    && let State::Attributes(done) = self.state
                {
                    self.state = State::Value(done, Unstuffer::default());
                }
            }
            (&State::Attributes(mailbox), b'.') => self.state = State::List { mailbox, last: 0 },
            (&State::List { mailbox, last }, b'C') => {
                let listed = Listed::parse(&self.record(letter, fields)?).map_err(|error| self.bad(error))?;
                if listed.uid <= last {
                    return Err(self.unexpected(line));
                }
                self.next(State::List { mailbox, last: listed.uid }, Event::Listed(listed));
            }
            (&State::List { mailbox, .. }, b'.') => self.next(State::Choosing(mailbox), Event::ListEnd),
            (State::Mails { .. }, b'M') => {
                let head = Head::parse(&self.record(letter, fields)?).map_err(|error| self.bad(error))?;
                return self.head(head, line);
            }
            (&State::Mails { mailbox, .. }, b'.') => {
                // Not sooner: a slave that has still something to send dies of it (an assertion, seen on 2.3).
                Word::Done(&mailbox).say(&mut self.output);
                self.state = State::Closing(mailbox.guid);
            }
            (&State::Closing(guid), b'S') => {
                let state = MailboxState::parse(&self.record(letter, fields)?).map_err(|error| self.bad(error))?;
                if state.guid != guid {
                    return Err(self.unexpected(line));
                }
                self.next(State::Idle, Event::MailboxEnd);
            }
            _ => return Err(self.unexpected(line)),
        }
        Ok(())
    }

    fn status(&mut self, reply: StatusReply) {
        let state = match reply {
            StatusReply::Known(status) => {
                let done = Done {
                    guid: status.guid,
                    uid_validity: status.uid_validity,
                    uid_next: status.uid_next,
                    highest_modseq: status.highest_modseq,
                    messages: status.messages,
                };
                // Before minor 1 there are no attributes.
                if self.peer.minor() >= 1 { State::Attributes(done) } else { State::List { mailbox: done, last: 0 } }
            }
            StatusReply::Lost | StatusReply::Ignored => State::Idle,
        };
        self.next(state, Event::Status(reply));
    }

    /// A message that comes. What was wanted before it is not there any more.
    fn head(&mut self, head: Head, line: &[u8]) -> Result<(), MasterError> {
        let unexpected = self.unexpected(line);
        let State::Mails { mailbox, wanted } = &mut self.state else { return Err(unexpected) };
        let at = wanted.iter().position(|uid| *uid == head.uid).ok_or(unexpected)?;
        wanted.drain(..=at);
        if head.present {
            let state =
                State::Text { mailbox: *mailbox, wanted: std::mem::take(wanted), unstuffer: Unstuffer::default() };
            self.next(state, Event::Head(head));
        }
        Ok(())
    }
}

impl Role for Reader {
    type Event = Event;

    fn input(&mut self, bytes: &[u8]) -> Result<(), MasterError> {
        if matches!(self.state, State::Over) {
            return Ok(());
        }
        let done = self.consume(bytes);
        if done.is_err() {
            self.state = State::Over;
        }
        done
    }

    fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn pending(&self) -> usize {
        self.output.len()
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn state(&self) -> &'static str {
        self.state.name(&self.peer)
    }

    fn unanswered(&self) -> bool {
        matches!(self.state, State::Opening) && self.peer.unanswered()
    }
}

#[cfg(test)]
mod tests;
