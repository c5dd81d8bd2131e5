//! How every session begins, whichever way mail goes: the command is accepted, the slave sends its version, its header, its
//! handshake and its tree of mailboxes (dsync reference §6).

use super::error::{MasterError, Refusal};
use super::item::Node;
use super::layout::{ItemError, Layout, Record};
use super::quoted;

/// The longest line of a peer. A `D` has 44 octets for each mailbox that was ever deleted.
pub(super) const MAX_LINE: usize = 4 << 20;

/// Names in a peer's tree: far above any account, and they are kept for the whole session.
pub(super) const MAX_NODES: usize = 100_000;

/// Octets of all names of a peer's tree together.
const MAX_TREE: usize = 64 << 20;

/// Header lines of a peer; Dovecot sends eleven.
const MAX_HEADER_LINES: usize = 64;

/// What a line of the beginning asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Quiet,
    /// The command runs: our version, header and handshake may go.
    Started,
    /// The slave's header is known: our tree may go.
    Announced,
    /// The slave's tree is known: mailboxes may follow.
    Opened,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Command { blank: bool },
    Version,
    Header { lines: usize },
    Handshake,
    Tree { octets: usize },
    Deletions,
}

/// The slave, as far as it has introduced itself.
#[derive(Debug)]
pub(super) struct Peer {
    phase: Phase,
    minor: u32,
    layout: Layout,
    tree: Vec<Node>,
    separator: Option<char>,
}

impl Peer {
    /// One of which nothing is known: the command line has just been sent.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Command { blank: false },
            minor: 0,
            layout: Layout::default(),
            tree: Vec::new(),
            separator: None,
        }
    }

    /// What is waited for, while it introduces itself.
    pub(super) const fn state(&self) -> &'static str {
        match self.phase {
            Phase::Command { .. } => "waiting for dsync-server to start",
            Phase::Version => "waiting for the slave's dsync version",
            Phase::Header { .. } => "reading the slave's header",
            Phase::Handshake => "waiting for the slave's handshake",
            Phase::Tree { .. } | Phase::Deletions => "reading the slave's mailbox tree",
        }
    }

    /// Whether nothing has come back since the command was sent.
    pub(super) const fn unanswered(&self) -> bool {
        matches!(self.phase, Phase::Command { .. })
    }

    /// The minor version of its dsync.
    pub(super) const fn minor(&self) -> u32 {
        self.minor
    }

    /// Its header.
    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its tree, complete after [`Step::Opened`].
    pub(super) fn tree(&self) -> &[Node] {
        &self.tree
    }

    /// Its hierarchy separator, known after [`Step::Opened`].
    pub(super) const fn separator(&self) -> Option<char> {
        self.separator
    }

    /// An item of it; `state` is for the error.
    pub(super) fn record<'a>(
        &'a self,
        letter: u8,
        fields: &'a [u8],
        state: &'static str,
    ) -> Result<Record<'a>, MasterError> {
        self.layout.record(letter, fields).map_err(|error| MasterError::Item { state, error })
    }

    fn bad(&self, error: ItemError) -> MasterError {
        MasterError::Item { state: self.state(), error }
    }

    fn unexpected(&self, line: &[u8]) -> MasterError {
        MasterError::Unexpected { state: self.state(), line: quoted(line) }
    }

    /// Takes its next line.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Step, MasterError> {
        match self.phase {
            Phase::Command { .. } => self.command(line),
            Phase::Version => {
                self.minor = version(line).ok_or_else(|| MasterError::Version(quoted(line)))?;
                self.phase = Phase::Header { lines: 0 };
                Ok(Step::Quiet)
            }
            Phase::Header { .. } => self.header(line),
            _ if line == b"X" => Err(MasterError::GaveUp(self.state())),
            Phase::Handshake | Phase::Tree { .. } | Phase::Deletions => self.mailboxes(line),
        }
    }

    /// The answer to the command: an empty line, then `+`, or `-` and a code.
    fn command(&mut self, line: &[u8]) -> Result<Step, MasterError> {
        match (&mut self.phase, line.split_first()) {
            (Phase::Command { blank }, None) if !*blank => {
                *blank = true;
                Ok(Step::Quiet)
            }
            (_, Some((b'+', []))) => {
                self.phase = Phase::Version;
                Ok(Step::Started)
            }
            (_, Some((b'-', code))) => Err(MasterError::Refused(refusal(code))),
            _ => Err(self.unexpected(line)),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<Step, MasterError> {
        match (&mut self.phase, line.split_first()) {
            (_, Some((b'.', []))) => {
                self.phase = Phase::Handshake;
                Ok(Step::Announced)
            }
            (Phase::Header { lines }, Some((&letter, names))) => {
                *lines += 1;
                if *lines > MAX_HEADER_LINES {
                    return Err(MasterError::TooMuch("header"));
                }
                self.layout.announce(letter, names).map_err(|error| self.bad(error))?;
                Ok(Step::Quiet)
            }
            _ => Err(self.unexpected(line)),
        }
    }

    fn mailboxes(&mut self, line: &[u8]) -> Result<Step, MasterError> {
        match (&mut self.phase, line.split_first()) {
            (Phase::Handshake, Some((b'H', _))) => self.phase = Phase::Tree { octets: 0 },
            (Phase::Tree { .. }, Some((b'.', []))) => self.phase = Phase::Deletions,
            (Phase::Tree { octets }, Some((b'N', fields))) => {
                *octets += fields.len();
                if *octets > MAX_TREE || self.tree.len() >= MAX_NODES {
                    return Err(MasterError::TooMuch("mailbox tree"));
                }
                let node = Node::parse(&self.record(b'N', fields, self.state())?).map_err(|error| self.bad(error))?;
                self.tree.push(node);
            }
            (Phase::Deletions, Some((b'D', fields))) => {
                let separator = self.record(b'D', fields, self.state())?.get("hierarchy_sep");
                self.separator = separator.and_then(|text| String::from_utf8(text).ok()?.chars().next());
                return Ok(Step::Opened);
            }
            _ => return Err(self.unexpected(line)),
        }
        Ok(Step::Quiet)
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
