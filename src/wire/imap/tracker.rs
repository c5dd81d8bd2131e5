//! The relay's brain after login: which octets go on, which wait, and where one command ends and the next begins.
//!
//! It holds no octets. The driver shows it what each peer has sent and is not yet dealt with; it says how many of these
//! octets go on unchanged, or what goes in their place. All but three things pass unchanged:
//!
//! * behind a synchronising literal's announcement and behind IDLE, a client's octets wait until the backend has answered:
//!   only then is it known whether they are a literal, a DONE or a command;
//! * COMPRESS, STARTTLS and UNAUTHENTICATE are answered here: after any of them the stream would no longer be one that can be
//!   framed, or no longer the same user's;
//! * capabilities that stand for those commands are taken out of what the backend announces.

mod capabilities;

use std::mem;

use super::framer::{Event, Framer, Role};
use super::scan::Cursor;

pub use capabilities::{CAPABILITY_LINE_MAX, is_hidden, visible};

/// Commands in flight before the client is no longer read: more than any client pipelines, and a bound for the tags we keep.
pub const IN_FLIGHT_MAX: usize = 1000;
/// Octets of a tag that we keep. Clients use some ten.
pub const TAG_MAX: usize = 128;
/// Octets in which a line must show its tag and command word. A driver's buffer for the client must hold more.
const START_MAX: usize = TAG_MAX + 64;

/// Commands that change nothing in an account. FETCH is not one of them: it sets `\Seen`.
const READING: [&[u8]; 24] = [
    b"CAPABILITY",
    b"CHECK",
    b"DONE",
    b"ENABLE",
    b"ESEARCH",
    b"EXAMINE",
    b"GETACL",
    b"GETMETADATA",
    b"GETQUOTA",
    b"GETQUOTAROOT",
    b"ID",
    b"IDLE",
    b"LIST",
    b"LOGOUT",
    b"LSUB",
    b"MYRIGHTS",
    b"NAMESPACE",
    b"NOOP",
    b"SEARCH",
    b"SELECT",
    b"SORT",
    b"STATUS",
    b"THREAD",
    b"UNSELECT",
];

/// What to do with the octets that the client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// So many of them go to the backend unchanged.
    Forward(usize),
    /// So many of them go nowhere; the client gets this answer (which may be empty), behind what it has been sent so far.
    Answer {
        /// Octets to drop.
        octets: usize,
        /// What to say.
        answer: Vec<u8>,
    },
    /// They say nothing before more have come.
    NeedInput,
    /// They must wait for the backend. Read no more from the client; ask again after each [`Relay::from_backend`].
    Wait,
    /// The client can't be served: write these last words and end the session.
    Close(Vec<u8>),
}

/// What to do with the octets that the backend has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum BackendStep {
    /// So many of them go to the client unchanged.
    Forward(usize),
    /// So many of them are replaced.
    Replace {
        /// Octets to drop.
        octets: usize,
        /// What goes to the client instead.
        with: Vec<u8>,
    },
    /// They say nothing before more have come. Never said of [`CAPABILITY_LINE_MAX`] octets or more.
    NeedInput,
}

/// What the client's current line is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ClientLine {
    Command,
    Idle,
    /// `DONE`, or what the client says instead.
    IdleEnd,
    /// A command that we answer ourselves.
    Ours {
        answer: Vec<u8>,
    },
}

/// What a client's octets wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    Literal,
    Idle,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Relay {
    client: Framer,
    backend: Framer,
    /// Tags of commands without an answer, in the order in which they were sent.
    in_flight: Vec<Box<[u8]>>,
    line: ClientLine,
    /// The client's current or last line is the last of `in_flight`.
    tracked: bool,
    hold: Hold,
    /// The tag of an IDLE that the backend has accepted and the client has not ended.
    idling: Option<Box<[u8]>>,
    backend_said_bye: bool,
    /// Tags of the commands in flight that may change the account.
    writing: Vec<Box<[u8]>>,
    /// One has ended.
    written: bool,
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

impl Relay {
    /// Both peers at the start of a line, no command in flight.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: Framer::new(Role::Client),
            backend: Framer::new(Role::Server),
            in_flight: Vec::new(),
            line: ClientLine::Command,
            tracked: false,
            hold: Hold::Nothing,
            idling: None,
            backend_said_bye: false,
            writing: Vec::new(),
            written: false,
        }
    }

    /// Looks at the octets of the client that have not been dealt with. Call it again with what is left, until it
    /// gives something else than [`ClientStep::Forward`] and [`ClientStep::Answer`].
    pub fn from_client(&mut self, octets: &[u8]) -> ClientStep {
        // A CR goes on together with what follows it: servers answer a command at its CR, and `+` would come before we know
        // that the line has ended.
        let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
        if octets.is_empty() {
            return ClientStep::NeedInput;
        }
        if self.hold != Hold::Nothing {
            return ClientStep::Wait;
        }
        if self.client.at_line_start()
            && let Some(step) = self.start_line(octets)
        {
            return step;
        }
        if let ClientLine::Ours { .. } = self.line {
            return self.drop_line(octets);
        }
        let mut taken = 0_usize;
        loop {
            let (used, event) = self.client.advance(octets.get(taken..).unwrap_or_default());
            taken = taken.saturating_add(used);
            match event {
                None => return ClientStep::Forward(taken),
                Some(Event::LiteralAnnounced { sync: true, .. }) => {
                    self.hold = Hold::Literal;
                    return ClientStep::Forward(taken);
                }
                Some(Event::LineEnd) => {
                    match self.line {
                        ClientLine::Idle => self.hold = Hold::Idle,
                        ClientLine::IdleEnd => self.idling = None,
                        _ => {}
                    }
                    return ClientStep::Forward(taken);
                }
                Some(Event::LiteralAnnounced { sync: false, .. } | Event::LiteralEnd) => {}
            }
        }
    }

    /// Looks at the octets of the backend that have not been dealt with. Call it again with what is left, until it
    /// gives [`BackendStep::NeedInput`].
    pub fn from_backend(&mut self, octets: &[u8]) -> BackendStep {
        if octets.is_empty() {
            return BackendStep::NeedInput;
        }
        if self.backend.at_line_start() {
            match capabilities::look(octets) {
                capabilities::Look::NeedInput => return BackendStep::NeedInput,
                capabilities::Look::Replace { octets: line, with } => {
                    self.backend_octets(octets.get(..line).unwrap_or_default());
                    return BackendStep::Replace { octets: line, with };
                }
                capabilities::Look::Pass => {}
            }
        }
        BackendStep::Forward(self.backend_octets(octets))
    }

    /// The next octets of the backend, so many of them, belong to a literal: they may go on without being shown.
    #[must_use]
    pub fn backend_unseen(&self) -> u64 {
        self.backend.unseen()
    }

    /// So many of them have gone on.
    pub fn backend_passed(&mut self, count: u64) {
        self.backend.pass(count);
    }

    /// No command is in flight, and the client has begun none.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.in_flight.is_empty() && self.client.at_line_start() && self.hold == Hold::Nothing
    }

    /// Both streams are at the start of a line, and no command is in flight but an IDLE that the backend has accepted.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        let quiet = match (self.in_flight.as_slice(), &self.idling) {
            ([], _) => true,
            ([only], Some(idling)) => only == idling,
            _ => false,
        };
        quiet && self.hold == Hold::Nothing && self.client.at_line_start() && self.backend.at_line_start()
    }

    /// Whether commands that may have changed the account have ended since the last call.
    pub fn take_written(&mut self) -> bool {
        mem::take(&mut self.written)
    }

    /// Whether a command that may change the account has not been answered: if the session ends now, it may have been executed
    /// all the same.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// What has been forwarded to the client ends with a line: a line of ours may follow.
    #[must_use]
    pub fn backend_at_line_start(&self) -> bool {
        self.backend.at_line_start()
    }

    /// The backend has announced that it closes the connection, so that we need not.
    #[must_use]
    pub fn backend_said_bye(&self) -> bool {
        self.backend_said_bye
    }

    /// How many commands have not been answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many answers are still to come if the client says nothing more: neither to a command that it has begun and not
    /// ended, nor to an IDLE that only it can end.
    #[must_use]
    pub fn answers_due(&self) -> usize {
        let unfinished = usize::from(self.tracked && !self.client.at_line_start());
        let idling = usize::from(self.idling.is_some());
        self.in_flight.len().saturating_sub(unfinished).saturating_sub(idling)
    }

    /// Decides what the line that starts here is. Gives a step if it can't start now.
    fn start_line(&mut self, octets: &[u8]) -> Option<ClientStep> {
        self.tracked = false;
        if self.idling.is_some() {
            self.line = ClientLine::IdleEnd;
            return None;
        }
        let (tag, verb) = match line_start(octets) {
            Start::NeedInput => return Some(ClientStep::NeedInput),
            Start::Endless => return Some(ClientStep::Close(b"* BYE The tag is too long.\r\n".to_vec())),
            Start::Line { tag, verb } => (tag, verb.to_ascii_uppercase()),
        };
        if let Some(words) = refusal(&verb) {
            // In its turn: behind the answers to all earlier commands, and not in the middle of one.
            if !self.in_flight.is_empty() || !self.backend.at_line_start() {
                return Some(ClientStep::Wait);
            }
            self.line = ClientLine::Ours { answer: [tag, b" ", words, b"\r\n"].concat() };
            return None;
        }
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Some(ClientStep::Wait);
        }
        self.line = if verb == b"IDLE" { ClientLine::Idle } else { ClientLine::Command };
        // A backend answers a line without a command, or with a tag that is none, under another tag or none.
        if !verb.is_empty() && is_tag(tag) {
            if !READING.contains(&verb.as_slice()) {
                self.writing.push(tag.into());
            }
            self.in_flight.push(tag.into());
            self.tracked = true;
        }
        None
    }

    /// Passes a command that we answer ourselves.
    fn drop_line(&mut self, octets: &[u8]) -> ClientStep {
        let mut taken = 0_usize;
        loop {
            let (used, event) = self.client.advance(octets.get(taken..).unwrap_or_default());
            taken = taken.saturating_add(used);
            match event {
                None => return ClientStep::Answer { octets: taken, answer: Vec::new() },
                Some(Event::LiteralAnnounced { sync: true, .. }) => {
                    self.client.literal_refused();
                }
                Some(Event::LiteralAnnounced { sync: false, .. } | Event::LiteralEnd) => continue,
                Some(Event::LineEnd) => {}
            }
            return match mem::replace(&mut self.line, ClientLine::Command) {
                ClientLine::Ours { answer } => ClientStep::Answer { octets: taken, answer },
                _ => ClientStep::Answer { octets: taken, answer: Vec::new() },
            };
        }
    }

    /// Takes in octets of the backend up to the end of a response, or all; gives how many.
    fn backend_octets(&mut self, octets: &[u8]) -> usize {
        let mut taken = 0_usize;
        loop {
            let (used, event) = self.backend.advance(octets.get(taken..).unwrap_or_default());
            taken = taken.saturating_add(used);
            match event {
                Some(Event::LineEnd) => {
                    self.response_ended();
                    return taken;
                }
                Some(_) => {}
                None => return taken,
            }
        }
    }

    fn response_ended(&mut self) {
        let mut cursor = Cursor::new(self.backend.head());
        let first = cursor.word();
        match first {
            b"*" => {
                let word = cursor.word();
                if word.eq_ignore_ascii_case(b"BYE") {
                    self.backend_said_bye = true;
                } else if word.eq_ignore_ascii_case(b"BAD") && !self.tracked {
                    // The only answer that a line with a bad tag gets.
                    self.release();
                }
            }
            [b'+', ..] => self.continuation(),
            [] => {}
            tag => {
                let tag: Box<[u8]> = tag.into();
                self.command_ended(&tag);
            }
        }
    }

    fn continuation(&mut self) {
        if mem::replace(&mut self.hold, Hold::Nothing) == Hold::Idle {
            self.idling = self.in_flight.last().filter(|_| self.tracked).cloned();
        }
    }

    fn command_ended(&mut self, tag: &[u8]) {
        if self.idling.as_deref() == Some(tag) {
            self.idling = None;
        }
        match self.in_flight.iter().position(|known| **known == *tag) {
            Some(at) => {
                self.in_flight.remove(at);
                // Whatever else is in flight: behind it there may be an IDLE that goes on for half an hour.
                if let Some(at) = self.writing.iter().position(|known| **known == *tag) {
                    self.writing.remove(at);
                    self.written = true;
                }
                if self.tracked && at == self.in_flight.len() {
                    self.release();
                    self.tracked = false;
                }
            }
            None if !self.tracked => self.release(),
            None => {}
        }
    }

    /// The client's last command is over: what it waited for will not come.
    fn release(&mut self) {
        if mem::replace(&mut self.hold, Hold::Nothing) == Hold::Literal {
            self.client.literal_refused();
        }
    }
}

/// How a client's line begins.
enum Start<'a> {
    NeedInput,
    /// No tag, or no start of a command, within [`START_MAX`] octets.
    Endless,
    /// Either may be empty.
    Line {
        tag: &'a [u8],
        verb: &'a [u8],
    },
}

fn line_start(octets: &[u8]) -> Start<'_> {
    let start = octets.get(..START_MAX).unwrap_or(octets);
    let line = start.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let mut cursor = Cursor::new(line);
    let (tag, verb) = (cursor.word(), cursor.word());
    let whole = line.len() < start.len() || !cursor.rest().is_empty();
    match whole {
        true if tag.len() > TAG_MAX => Start::Endless,
        true => Start::Line { tag, verb },
        false if start.len() < START_MAX => Start::NeedInput,
        // No command that we know is so long: the backend will say so.
        false if tag.len() <= TAG_MAX && !verb.is_empty() => Start::Line { tag, verb },
        false => Start::Endless,
    }
}

/// RFC 3501 §9 `tag`.
fn is_tag(tag: &[u8]) -> bool {
    !tag.is_empty() && tag.iter().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(octet))
}

/// What we say to commands that the stream would not survive.
fn refusal(verb: &[u8]) -> Option<&'static [u8]> {
    match verb {
        b"COMPRESS" => Some(b"NO [CANNOT] Compression is not available."),
        b"UNAUTHENTICATE" => Some(b"NO [CANNOT] Log out instead."),
        b"STARTTLS" => Some(b"BAD TLS starts before login."),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
