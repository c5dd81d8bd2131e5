//! The master of a one-way writing session: who may send what when (dsync reference §6).
//!
//! Bytes of the command's output go in by [`Master::input`], what happened comes out by [`Master::poll`], bytes to send
//! by [`Master::take_output`]. A call that the state does not allow, or whose content would make the slave crash or
//! renumber messages, is refused as [`Misuse`] before anything is sent.

use std::collections::{HashMap, VecDeque};

use super::escape::DotStuffer;
use super::item::{
    self, Change, ChangeKind, Deletion, Finish, Guid, Mail, MailboxState, MailboxStatus, Mode, Node, StatusReply,
};
use super::layout::{ItemError, Record};
use super::peer::{MAX_LINE, Peer, Step};
use super::{Role, quoted};

pub use super::error::{MasterError, Misuse, Refusal};

/// What a session begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Our name in the lock protocol: the greater name locks, so `~` leaves it to the slave (dsync reference §8.5).
    pub hostname: String,
    /// Seconds to wait for the user's lock.
    pub lock_timeout: u32,
    /// Whether states are used.
    pub mode: Mode,
    /// The known states; must be empty for [`Mode::Full`].
    pub states: Vec<MailboxState>,
    /// Prefixes of the namespaces that take part; none: the slave decides.
    pub namespaces: Vec<String>,
    /// The tree. What is not in it stays on the target.
    pub nodes: Vec<Node>,
    /// Mailboxes to delete.
    pub delete: Vec<Deletion>,
    /// `\NoSelect` folders to delete.
    pub delete_folders: Vec<Deletion>,
    /// A mailbox of the slave that has all mail: what has a GUID in it is copied from there, and its body not used.
    pub virtual_all: Option<String>,
}

/// What the slave did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The trees are exchanged: mailboxes may be written.
    Opened,
    /// The answer to [`Master::begin_mailbox`].
    Status(StatusReply),
    /// The answer to [`Master::end_mailbox`]: the mailbox is on disk.
    State(MailboxState),
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
    Asking {
        ours: MailboxStatus,
    },
    Changes {
        open: OpenMailbox,
        last: u32,
    },
    Mails {
        open: OpenMailbox,
    },
    Body {
        open: OpenMailbox,
        stuffer: DotStuffer,
    },
    Storing {
        guid: Guid,
    },
    Finishing,
    Ending,
    Over,
}

#[derive(Debug)]
struct OpenMailbox {
    ours: MailboxStatus,
    /// The target's UIDNEXT when the mailbox was begun.
    uid_next: u32,
    /// The last common UID of a mailbox that is written by its state.
    common: Option<u32>,
    bodies: VecDeque<Guid>,
}

impl State {
    const fn name(&self, peer: &Peer) -> &'static str {
        match self {
            Self::Opening => peer.state(),
            Self::Idle => "between two mailboxes",
            Self::Asking { .. } => "waiting for the status of a mailbox",
            Self::Changes { .. } => "sending the changes of a mailbox",
            Self::Mails { .. } => "sending the messages of a mailbox",
            Self::Body { .. } => "sending a message",
            Self::Storing { .. } => "waiting for the slave to store a mailbox",
            Self::Finishing => "waiting for the slave's result",
            Self::Ending => "waiting for the slave to end",
            Self::Over => "the session is over",
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Master {
    state: State,
    opening: Option<Opening>,
    common: HashMap<Guid, u32>,
    peer: Peer,
    input: Vec<u8>,
    scanned: usize,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

impl Master {
    /// A session whose command line has just been sent.
    #[must_use]
    pub fn new(opening: Opening) -> Self {
        Self {
            state: State::Opening,
            common: opening.states.iter().map(|state| (state.guid, state.last_common_uid)).collect(),
            opening: Some(opening),
            peer: Peer::new(),
            input: Vec::new(),
            scanned: 0,
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    const fn state(&self) -> &'static str {
        self.state.name(&self.peer)
    }

    /// The target's tree as it was before this session; complete after [`Event::Opened`].
    #[must_use]
    pub fn tree(&self) -> &[Node] {
        self.peer.tree()
    }

    fn line(&mut self, line: &[u8]) -> Result<(), MasterError> {
        match self.state {
            State::Opening => {
                match self.peer.line(line)? {
                    Step::Quiet => {}
                    Step::Started => {
                        if let Some(opening) = &self.opening {
                            self.output.extend_from_slice(item::PREAMBLE.as_bytes());
                            let Opening { hostname, mode, lock_timeout, namespaces, virtual_all, .. } = opening;
                            let places = (namespaces.as_slice(), virtual_all.as_deref());
                            item::handshake(hostname, *mode, *lock_timeout, places, &mut self.output);
                        }
                    }
                    Step::Announced => self.send_tree(),
                    Step::Opened => self.next(State::Idle, Event::Opened),
                }
                Ok(())
            }
            _ if line == b"X" => self.done(),
            _ => self.mailbox_line(line),
        }
    }

    fn unexpected(&self, line: &[u8]) -> MasterError {
        MasterError::Unexpected { state: self.state(), line: quoted(line) }
    }

    fn record<'a>(&'a self, letter: u8, fields: &'a [u8]) -> Result<Record<'a>, MasterError> {
        self.peer.record(letter, fields, self.state())
    }

    fn bad(&self, error: ItemError) -> MasterError {
        MasterError::Item { state: self.state(), error }
    }

    fn mailbox_line(&mut self, line: &[u8]) -> Result<(), MasterError> {
        let Some((&letter, fields)) = line.split_first() else { return Err(self.unexpected(line)) };
        match (&self.state, letter) {
            (&State::Asking { ours }, b'B') => {
                let record = self.record(letter, fields)?;
                let (guid, reply) = MailboxStatus::parse(&record).map_err(|error| self.bad(error))?;
                if guid != ours.guid {
                    return Err(self.unexpected(line));
                }
                self.status(ours, reply);
            }
            (&State::Storing { guid }, b'S') => {
                let record = self.record(letter, fields)?;
                let state = MailboxState::parse(&record).map_err(|error| self.bad(error))?;
                if state.guid != guid {
                    return Err(self.unexpected(line));
                }
                self.next(State::Idle, Event::State(state));
            }
            (State::Ending | State::Over, _) => return Err(self.unexpected(line)),
            (state, b'F') => {
                let finish = Finish::parse(&self.record(letter, fields)?).map_err(|error| self.bad(error))?;
                if !matches!(state, State::Finishing) {
                    // A slave that fails can end the session at any time; its reason is in it.
                    return Err(MasterError::Failed { state: state.name(&self.peer), finish });
                }
                self.next(State::Ending, Event::Finished(finish));
            }
            _ => return Err(self.unexpected(line)),
        }
        Ok(())
    }

    fn next(&mut self, state: State, event: Event) {
        self.state = state;
        self.events.push_back(event);
    }

    fn done(&mut self) -> Result<(), MasterError> {
        match self.state {
            State::Ending => self.next(State::Over, Event::Done),
            // Before minor 3 there is no F.
            State::Finishing if self.peer.minor() < 3 => {
                self.events.push_back(Event::Finished(Finish::default()));
                self.next(State::Over, Event::Done);
            }
            _ => return Err(MasterError::GaveUp(self.state())),
        }
        Ok(())
    }

    /// Sends what may go unasked, once the peer's header tells how it wants names.
    fn send_tree(&mut self) {
        let Some(opening) = self.opening.take() else { return };
        let out = &mut self.output;
        if opening.mode == Mode::State {
            opening.states.iter().for_each(|state| state.encode(out));
            out.extend_from_slice(b".\n");
        }
        let escapes = self.peer.layout().has(b'D', "escape_char");
        opening.nodes.iter().for_each(|node| node.encode(escapes, out));
        out.extend_from_slice(b".\n");
        item::deletions(&opening.delete, &opening.delete_folders, out);
    }

    fn status(&mut self, ours: MailboxStatus, reply: StatusReply) {
        let state = if let StatusReply::Known(theirs) = reply {
            if self.peer.minor() >= 1 {
                // No attributes.
                self.output.extend_from_slice(b".\n");
            }
            let open = OpenMailbox {
                ours,
                uid_next: theirs.uid_next,
                common: self.common.get(&ours.guid).copied(),
                bodies: VecDeque::new(),
            };
            State::Changes { open, last: 0 }
        } else {
            State::Idle
        };
        self.next(state, Event::Status(reply));
    }

    fn wrong(&self, call: &'static str) -> Misuse {
        Misuse::State { call, state: self.state() }
    }

    /// Begins a mailbox of the tree. Its answer is [`Event::Status`]; if that is
    /// [`StatusReply::Known`], the changes follow, else the next mailbox.
    ///
    /// # Errors
    /// [`Misuse`] if a mailbox is open.
    pub fn begin_mailbox(&mut self, ours: &MailboxStatus) -> Result<(), Misuse> {
        if !matches!(self.state, State::Idle) {
            return Err(self.wrong("a mailbox was begun"));
        }
        ours.encode(&mut self.output);
        self.state = State::Asking { ours: *ours };
        Ok(())
    }

    /// Sends one change, in ascending order of UIDs.
    ///
    /// # Errors
    /// [`Misuse`] if it is out of order, or if the slave would crash or renumber the message.
    pub fn change(&mut self, change: &Change<'_>) -> Result<(), Misuse> {
        let State::Changes { open, last } = &mut self.state else { return Err(self.wrong("a change was sent")) };
        let uid = change.uid;
        if uid <= *last {
            return Err(Misuse::Order { uid, last: *last });
        }
        let (kind, allowed) = match (&change.kind, open.common) {
            (ChangeKind::Save { .. }, common) => ("save", common.is_none_or(|common| uid > common)),
            (ChangeKind::Flags { .. }, common) => ("flag change", common.is_some_and(|common| uid <= common)),
            (ChangeKind::Expunge, common) => ("expunge", common.is_none_or(|common| uid <= common)),
        };
        if !allowed {
            return Err(Misuse::Kind { kind, uid, common: open.common });
        }
        match change.kind {
            ChangeKind::Save { .. } => {
                if open.common.is_some() && uid < open.uid_next {
                    return Err(Misuse::BelowUidNext { uid, uid_next: open.uid_next });
                }
                if uid >= open.ours.uid_next {
                    return Err(Misuse::AboveUidNext { uid, uid_next: open.ours.uid_next });
                }
                open.bodies.push_back(change.guid);
            }
            ChangeKind::Flags { add, remove, .. } if add & remove != 0 => return Err(Misuse::Overlap(uid)),
            _ => {}
        }
        *last = uid;
        change.encode(&mut self.output);
        Ok(())
    }

    /// Ends the changes; the bodies follow.
    ///
    /// # Errors
    /// [`Misuse`] in another state.
    pub fn end_changes(&mut self) -> Result<(), Misuse> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Changes { open, .. } => {
                self.output.extend_from_slice(b".\n");
                self.state = State::Mails { open };
                Ok(())
            }
            other => self.restore(other, "the changes were ended"),
        }
    }

    fn restore(&mut self, state: State, call: &'static str) -> Result<(), Misuse> {
        self.state = state;
        Err(self.wrong(call))
    }

    /// Begins the message of the next save.
    ///
    /// # Errors
    /// [`Misuse`] if it is another one's turn.
    pub fn begin_mail(&mut self, mail: &Mail<'_>) -> Result<(), Misuse> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Mails { mut open } => {
                if open.bodies.front() != Some(&mail.guid) {
                    self.state = State::Mails { open };
                    return Err(Misuse::Body);
                }
                open.bodies.pop_front();
                mail.encode(&mut self.output);
                self.state = State::Body { open, stuffer: DotStuffer::default() };
                Ok(())
            }
            other => self.restore(other, "a message was begun"),
        }
    }

    /// Sends the next octets of the message, as they are.
    ///
    /// # Errors
    /// [`Misuse`] in another state.
    pub fn mail_chunk(&mut self, chunk: &[u8]) -> Result<(), Misuse> {
        let State::Body { stuffer, .. } = &mut self.state else {
            return Err(self.wrong("a part of a message was sent"));
        };
        stuffer.push(chunk, &mut self.output);
        Ok(())
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`Misuse`] in another state.
    pub fn end_mail(&mut self) -> Result<(), Misuse> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Body { open, stuffer } => {
                stuffer.finish(&mut self.output);
                self.state = State::Mails { open };
                Ok(())
            }
            other => self.restore(other, "a message was ended"),
        }
    }

    /// Ends the mailbox with our state of it. Its answer is [`Event::State`]: the mailbox is on disk.
    ///
    /// # Errors
    /// [`Misuse`] if a body is missing, or the state is another mailbox's.
    pub fn end_mailbox(&mut self, ours: &MailboxState) -> Result<(), Misuse> {
        let State::Mails { open } = &self.state else { return Err(self.wrong("a mailbox was ended")) };
        if !open.bodies.is_empty() {
            return Err(Misuse::Body);
        }
        if open.ours.guid != ours.guid {
            return Err(Misuse::OtherMailbox);
        }
        self.output.extend_from_slice(b".\n");
        ours.encode(&mut self.output);
        self.state = State::Storing { guid: ours.guid };
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
        self.output.extend_from_slice(b".\n");
        self.state = State::Finishing;
        Ok(())
    }

    /// Gives up: messages that were stored before stay, the open mailbox's final status is not applied. Inside a
    /// message nothing can be said, closing the connection is all.
    pub fn abort(&mut self) {
        if !matches!(self.state, State::Body { .. } | State::Over) && !self.unanswered() {
            self.output.extend_from_slice(b"X\n");
        }
        self.state = State::Over;
    }
}

impl Role for Master {
    type Event = Event;

    fn state(&self) -> &'static str {
        self.state()
    }

    fn unanswered(&self) -> bool {
        matches!(self.state, State::Opening) && self.peer.unanswered()
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

    fn input(&mut self, bytes: &[u8]) -> Result<(), MasterError> {
        if matches!(self.state, State::Over) {
            return Ok(());
        }
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut from = self.scanned;
        while let Some(end) = rest.get(from..).and_then(|tail| tail.iter().position(|&byte| byte == b'\n')) {
            let (line, tail) = rest.split_at(from + end);
            if let Err(error) = self.line(line) {
                self.state = State::Over;
                return Err(error);
            }
            rest = tail.get(1..).unwrap_or_default();
            from = 0;
        }
        if rest.len() > MAX_LINE {
            self.state = State::Over;
            return Err(MasterError::TooMuch("line"));
        }
        self.scanned = rest.len();
        self.input = rest.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
