//! The master of a one-way writing session: who may send what when (dsync reference §6).
//!
//! Bytes of the command's output go in by [`Master::input`], what happened comes out by [`Master::poll`], bytes to send
//! by [`Master::take_output`]. A call that the state does not allow, or whose content would make the slave crash or
//! renumber messages, is refused as [`Misuse`] before anything is sent.

use std::collections::{HashMap, VecDeque};

use super::escape::DotStuffer;
use super::item::{
    self, Change, ChangeKind, Deletion, Finish, Guid, ItemError, Layout, Mail, MailboxState, MailboxStatus, Mode, Node,
    StatusReply,
};
use super::quoted;

/// The longest line of a peer. A `D` has 44 octets for each mailbox that was ever deleted.
const MAX_LINE: usize = 4 << 20;

/// Names in a peer's tree: far above any account, and they are kept for the whole session.
const MAX_NODES: usize = 100_000;

/// Octets of all names of a peer's tree together.
const MAX_TREE: usize = 64 << 20;

/// Header lines of a peer; Dovecot sends eleven.
const MAX_HEADER_LINES: usize = 64;

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
    /// The tree. What is not in it stays on the target.
    pub nodes: Vec<Node>,
    /// Mailboxes to delete.
    pub delete: Vec<Deletion>,
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

/// What is wrong with a session, on the slave's side.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// The command did not start.
    #[error("the target refused to start dsync-server: {0}")]
    Refused(Refusal),
    /// It speaks another dsync.
    #[error("the target speaks {0:?} instead of dsync 3: a Dovecot from 2.2 on is needed")]
    Version(String),
    /// The slave sent something that does not belong here.
    #[error("{state}, the slave sent {line:?}")]
    Unexpected {
        /// What was waited for.
        state: &'static str,
        /// What came.
        line: String,
    },
    /// An item can't be read.
    #[error("{state}, the slave sent a bad item: {error}")]
    Item {
        /// What was waited for.
        state: &'static str,
        /// What is wrong with it.
        error: ItemError,
    },
    /// More than we are willing to keep.
    #[error("the slave's {0} is beyond every limit")]
    TooMuch(&'static str),
    /// The slave ended the session before we did.
    #[error("{state}, the slave failed: {finish}")]
    Failed {
        /// What was going on.
        state: &'static str,
        /// How it says it went.
        finish: Finish,
    },
    /// The slave gave up.
    #[error("{0}, the slave gave up")]
    GaveUp(&'static str),
}

/// Why the doveadm service did not start dsync.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user is in no userdb.
    #[error("it does not know the user (NOUSER)")]
    UnknownUser,
    /// Try again.
    #[error("it can't now (TEMPFAIL)")]
    Temporary,
    /// Anything else, with its code; empty for an unknown command.
    #[error("code {0:?}")]
    Other(String),
}

/// A call that must not be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// Not now.
    #[error("{call} while {state}")]
    State {
        /// The call.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// UIDs must grow.
    #[error("UID {uid} after UID {last}: changes must be strictly ascending")]
    Order {
        /// This one.
        uid: u32,
        /// The one before.
        last: u32,
    },
    /// Below a mailbox's state only flags and expunges, above it only saves.
    #[error("a {kind} of UID {uid} where the last common UID is {common:?}")]
    Kind {
        /// `save`, `flag change` or `expunge`.
        kind: &'static str,
        /// The message.
        uid: u32,
        /// The state's last common UID; none for a full list.
        common: Option<u32>,
    },
    /// The target can't take it under this UID.
    #[error("UID {uid} can't be added: the target's UIDNEXT is {uid_next}")]
    BelowUidNext {
        /// The message.
        uid: u32,
        /// The target's UIDNEXT.
        uid_next: u32,
    },
    /// The announced UIDNEXT is too low.
    #[error("UID {uid} is not below the announced UIDNEXT {uid_next}")]
    AboveUidNext {
        /// The last message saved.
        uid: u32,
        /// What was announced.
        uid_next: u32,
    },
    /// A flag is both added and removed.
    #[error("UID {0}: flags are added and removed at once")]
    Overlap(u32),
    /// Bodies come in the order of the changes, one for each save.
    #[error("a body that was not announced, out of order, or missing")]
    Body,
    /// A state or GUID of another mailbox.
    #[error("not the mailbox that was begun")]
    OtherMailbox,
}

#[derive(Debug)]
enum State {
    Command { blank: bool },
    Version,
    Header { lines: usize },
    Handshake,
    Tree { octets: usize },
    Deletions,
    Idle,
    AwaitStatus { ours: MailboxStatus },
    Changes { open: OpenMailbox, last: u32 },
    Mails { open: OpenMailbox },
    Body { open: OpenMailbox, stuffer: DotStuffer },
    AwaitState { guid: Guid },
    AwaitFinish,
    AwaitDone,
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
    const fn name(&self) -> &'static str {
        match self {
            Self::Command { .. } => "waiting for dsync-server to start",
            Self::Version => "waiting for the slave's dsync version",
            Self::Header { .. } => "reading the slave's header",
            Self::Handshake => "waiting for the slave's handshake",
            Self::Tree { .. } | Self::Deletions => "reading the target's mailbox tree",
            Self::Idle => "between two mailboxes",
            Self::AwaitStatus { .. } => "waiting for the status of a mailbox",
            Self::Changes { .. } => "sending the changes of a mailbox",
            Self::Mails { .. } => "sending the messages of a mailbox",
            Self::Body { .. } => "sending a message",
            Self::AwaitState { .. } => "waiting for the slave to store a mailbox",
            Self::AwaitFinish => "waiting for the slave's result",
            Self::AwaitDone => "waiting for the slave to end",
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
    minor: u32,
    layout: Layout,
    tree: Vec<Node>,
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
            state: State::Command { blank: false },
            common: opening.states.iter().map(|state| (state.guid, state.last_common_uid)).collect(),
            opening: Some(opening),
            minor: 0,
            layout: Layout::default(),
            tree: Vec::new(),
            input: Vec::new(),
            scanned: 0,
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// What the session waits for, for messages.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        self.state.name()
    }

    /// Whether nothing has come back since the command was sent.
    #[must_use]
    pub const fn unanswered(&self) -> bool {
        matches!(self.state, State::Command { .. })
    }

    /// The target's tree as it was before this session; complete after [`Event::Opened`].
    #[must_use]
    pub fn tree(&self) -> &[Node] {
        &self.tree
    }

    /// The next thing that happened.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Octets that wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.output.len()
    }

    /// What must be sent now.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes output of the command. Any split of the bytes gives the same.
    ///
    /// # Errors
    /// [`MasterError`]; the session is then over.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), MasterError> {
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

    fn line(&mut self, line: &[u8]) -> Result<(), MasterError> {
        let name = self.state.name();
        let unexpected = || MasterError::Unexpected { state: name, line: quoted(line) };
        let bad = |error| MasterError::Item { state: name, error };
        if line == b"X" && !matches!(self.state, State::Command { .. } | State::Version | State::Header { .. }) {
            return self.done();
        }
        match (&mut self.state, line.split_first()) {
            (State::Command { blank }, None) if !*blank => *blank = true,
            (State::Command { .. }, Some((b'+', []))) => {
                self.state = State::Version;
                if let Some(opening) = &self.opening {
                    self.output.extend_from_slice(item::PREAMBLE.as_bytes());
                    item::handshake(&opening.hostname, opening.mode, opening.lock_timeout, &mut self.output);
                }
            }
            (State::Command { .. }, Some((b'-', code))) => return Err(MasterError::Refused(refusal(code))),
            (State::Version, _) => {
                self.minor = version(line).ok_or_else(|| MasterError::Version(quoted(line)))?;
                self.state = State::Header { lines: 0 };
            }
            (State::Header { .. }, Some((b'.', []))) => {
                self.state = State::Handshake;
                self.send_tree();
            }
            (State::Header { lines }, Some((&letter, names))) => {
                *lines += 1;
                if *lines > MAX_HEADER_LINES {
                    return Err(MasterError::TooMuch("header"));
                }
                self.layout.announce(letter, names).map_err(bad)?;
            }
            (State::Handshake, Some((b'H', _))) => self.state = State::Tree { octets: 0 },
            (State::Tree { .. }, Some((b'.', []))) => self.state = State::Deletions,
            (State::Tree { octets }, Some((b'N', fields))) => {
                *octets += fields.len();
                if *octets > MAX_TREE || self.tree.len() >= MAX_NODES {
                    return Err(MasterError::TooMuch("mailbox tree"));
                }
                let record = self.layout.record(b'N', fields).map_err(bad)?;
                self.tree.push(Node::parse(&record).map_err(bad)?);
            }
            (State::Deletions, Some((b'D', _))) => self.next(State::Idle, Event::Opened),
            (State::AwaitStatus { ours }, Some((b'B', fields))) => {
                let ours = *ours;
                let record = self.layout.record(b'B', fields).map_err(bad)?;
                let (guid, reply) = MailboxStatus::parse(&record).map_err(bad)?;
                if guid != ours.guid {
                    return Err(unexpected());
                }
                self.status(ours, reply);
            }
            (State::AwaitState { guid }, Some((b'S', fields))) => {
                let record = self.layout.record(b'S', fields).map_err(bad)?;
                let state = MailboxState::parse(&record).map_err(bad)?;
                if state.guid != *guid {
                    return Err(unexpected());
                }
                self.next(State::Idle, Event::State(state));
            }
            (
                State::Idle
                | State::AwaitStatus { .. }
                | State::Changes { .. }
                | State::Mails { .. }
                | State::Body { .. }
                | State::AwaitState { .. }
                | State::AwaitFinish,
                Some((b'F', fields)),
            ) => {
                let record = self.layout.record(b'F', fields).map_err(bad)?;
                let finish = Finish::parse(&record).map_err(bad)?;
                if !matches!(self.state, State::AwaitFinish) {
                    // A slave that fails can end the session at any time; its reason is in it.
                    return Err(MasterError::Failed { state: name, finish });
                }
                self.next(State::AwaitDone, Event::Finished(finish));
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn next(&mut self, state: State, event: Event) {
        self.state = state;
        self.events.push_back(event);
    }

    fn done(&mut self) -> Result<(), MasterError> {
        match self.state {
            State::AwaitDone => self.next(State::Over, Event::Done),
            // Before minor 3 there is no F.
            State::AwaitFinish if self.minor < 3 => {
                self.events.push_back(Event::Finished(Finish::default()));
                self.next(State::Over, Event::Done);
            }
            _ => return Err(MasterError::GaveUp(self.state.name())),
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
        let escapes = self.layout.has(b'D', "escape_char");
        opening.nodes.iter().for_each(|node| node.encode(escapes, out));
        out.extend_from_slice(b".\n");
        item::deletions(&opening.delete, out);
    }

    fn status(&mut self, ours: MailboxStatus, reply: StatusReply) {
        let state = if let StatusReply::Known(theirs) = reply {
            if self.minor >= 1 {
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
        Misuse::State { call, state: self.state.name() }
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
        self.state = State::AwaitStatus { ours: *ours };
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
        self.state = State::AwaitState { guid: ours.guid };
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
        self.state = State::AwaitFinish;
        Ok(())
    }

    /// Gives up: messages that were stored before stay, the open mailbox's final status is not applied. Inside a
    /// message nothing can be said, closing the connection is all.
    pub fn abort(&mut self) {
        if !matches!(self.state, State::Body { .. } | State::Command { .. } | State::Over) {
            self.output.extend_from_slice(b"X\n");
        }
        self.state = State::Over;
    }
}

fn refusal(code: &[u8]) -> Refusal {
    match code {
        b"NOUSER" => Refusal::UnknownUser,
        b"TEMPFAIL" => Refusal::Temporary,
        other => Refusal::Other(quoted(other)),
    }
}

/// The minor version of a dsync 3.
fn version(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line.strip_prefix(b"VERSION\tdsync\t3\t")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
