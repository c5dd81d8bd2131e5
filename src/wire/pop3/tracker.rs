//! The relay's brain after login: where a response ends, and what may be said behind it (RFC 1939 §5, TRANSACTION state).
//!
//! It holds no octets but a harvest's. The driver shows it what each peer has sent and is not yet dealt with; it says how
//! many of these octets go on. Everything passes unchanged, but capabilities that can't work through us are taken out of
//! what the backend announces.
//!
//! A response says nothing about the command it answers, so commands are counted as they go. If a server's answers don't
//! fit that count, we stop counting: octets still pass, but nothing is harvested and nothing of ours is said any more.

use std::collections::VecDeque;

use super::harvest::{Answer, Collector, Harvest};
use super::multiline::{Multiline, Piece};
use super::reply::{Reply, reply};

/// Commands in flight before the client is no longer read: more than any client pipelines.
pub const IN_FLIGHT_MAX: usize = 1000;

/// Octets of a client's line with its end: RFC 2449 §4 allows 255, Dovecot takes 8 KiB.
pub const COMMAND_MAX: usize = 8 * 1024;

/// Octets of a status line or a capability, which must be seen whole (RFC 2449 §4 allows 512).
pub const RESPONSE_MAX: usize = 8 * 1024;

/// Capabilities that can't work through us after login, or that the switch would change: STLS and UTF8 belong before a login
/// (RFC 2595 §4, RFC 6856 §2), XCLIENT is for proxies, and IMPLEMENTATION names the backend's software.
const HIDDEN: [&[u8]; 4] = [b"STLS", b"UTF8", b"XCLIENT", b"IMPLEMENTATION"];

/// What to do with the octets that the client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// So many of them go to the backend.
    Forward(usize),
    /// More of them are needed.
    NeedInput,
    /// Answers of the backend come first.
    Wait,
    /// This is no command line: the session ends.
    Close,
}

/// What to do with the octets that the backend has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendStep {
    /// So many of them go to the client.
    Forward(usize),
    /// So many of them go nowhere.
    Drop(usize),
    /// More of them are needed.
    NeedInput,
}

/// What a command's `+OK` is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Single,
    Multi,
    Capabilities,
    Listed(Answer),
    Farewell,
}

/// What the backend's next octets are.
#[derive(Clone, Debug)]
enum Reading {
    Status,
    Lines(Multiline, Due),
    /// Nobody knows.
    Unframed,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Relay {
    due: VecDeque<Due>,
    reading: Reading,
    collector: Collector,
    harvest: Option<Harvest>,
    said_farewell: bool,
    /// Its last response was `-ERR`.
    refused_last: bool,
}

impl Relay {
    /// A session that has just logged in. `harvest`: whether its lists are wanted.
    #[must_use]
    pub fn new(harvest: bool) -> Self {
        Self {
            due: VecDeque::new(),
            reading: Reading::Status,
            collector: Collector::new(harvest),
            harvest: None,
            said_farewell: false,
            refused_last: false,
        }
    }

    /// Looks at what the client has sent: whole lines go on.
    pub fn from_client(&mut self, octets: &[u8]) -> ClientStep {
        if self.due.len() >= IN_FLIGHT_MAX {
            return ClientStep::Wait;
        }
        let end = octets.iter().position(|&octet| octet == b'\n').map(|at| at + 1);
        if end.unwrap_or(octets.len()) > COMMAND_MAX {
            // What was said before it is answered first: an answer doesn't say to what.
            return if self.answers_due() == 0 { ClientStep::Close } else { ClientStep::Wait };
        }
        let Some(end) = end else { return ClientStep::NeedInput };
        self.command(octets.get(..end).unwrap_or_default());
        ClientStep::Forward(end)
    }

    fn command(&mut self, line: &[u8]) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let bare = words.next().is_none();
        if verb == b"DELE" {
            self.collector.stop();
        }
        let due = match verb.as_slice() {
            b"CAPA" => Due::Capabilities,
            b"UIDL" if bare => Due::Listed(Answer::Uidl),
            b"LIST" if bare => Due::Listed(Answer::List),
            b"RETR" | b"TOP" => Due::Multi,
            // RFC 6856 §3.
            b"LANG" if bare => Due::Multi,
            b"QUIT" => Due::Farewell,
            _ => Due::Single,
        };
        if !matches!(self.reading, Reading::Unframed) {
            self.due.push_back(due);
        }
    }

    /// Looks at what the backend has sent.
    pub fn from_backend(&mut self, octets: &[u8]) -> BackendStep {
        if octets.is_empty() {
            return BackendStep::NeedInput;
        }
        match &self.reading {
            Reading::Status => self.status(octets),
            Reading::Lines(_, Due::Capabilities) => self.capability(octets),
            Reading::Lines(_, due) => {
                let due = *due;
                self.content(octets, due)
            }
            Reading::Unframed => BackendStep::Forward(octets.len()),
        }
    }

    fn status(&mut self, octets: &[u8]) -> BackendStep {
        let end = octets.iter().position(|&octet| octet == b'\n').map(|at| at + 1);
        if end.unwrap_or(octets.len()) > RESPONSE_MAX {
            return self.give_up(octets);
        }
        let Some(end) = end else { return BackendStep::NeedInput };
        let Some(reply) = reply(octets.get(..end).unwrap_or_default()) else { return self.give_up(octets) };
        self.refused_last = matches!(reply, Reply::Err(_));
        match (reply, self.due.pop_front()) {
            (Reply::Ok(_), Some(due @ (Due::Multi | Due::Capabilities | Due::Listed(_)))) => {
                self.reading = Reading::Lines(Multiline::default(), due);
            }
            // What nobody asked for is why the connection ends.
            (_, Some(Due::Farewell)) | (Reply::Err(_), None) => self.said_farewell = true,
            (Reply::Ok(_), None) => return self.give_up(octets),
            (Reply::Ok(_), Some(Due::Single)) | (Reply::Err(_), Some(_)) => {}
        }
        BackendStep::Forward(end)
    }

    /// As much of a list or a message as there is.
    fn content(&mut self, octets: &[u8], due: Due) -> BackendStep {
        let Reading::Lines(lines, _) = &mut self.reading else { return BackendStep::NeedInput };
        let mut passed = 0;
        loop {
            let rest = octets.get(passed..).unwrap_or_default();
            match lines.next(rest) {
                Some(Piece::Content { skip, len }) => {
                    if let Due::Listed(answer) = due {
                        self.collector.add(answer, rest.get(skip..skip + len).unwrap_or_default());
                    }
                    passed += skip + len;
                }
                Some(Piece::End(end)) => {
                    if let Due::Listed(answer) = due {
                        self.harvest = self.collector.end(answer).or(self.harvest.take());
                    }
                    self.reading = Reading::Status;
                    return BackendStep::Forward(passed + end);
                }
                None if passed > 0 => return BackendStep::Forward(passed),
                None => return BackendStep::NeedInput,
            }
        }
    }

    /// One line of the answer to CAPA.
    fn capability(&mut self, input: &[u8]) -> BackendStep {
        let Reading::Lines(lines, _) = &mut self.reading else { return BackendStep::NeedInput };
        // Looked at first: only a whole line is taken.
        let mut ahead = lines.clone();
        match ahead.next(input) {
            None => BackendStep::NeedInput,
            Some(Piece::End(end)) => {
                self.reading = Reading::Status;
                BackendStep::Forward(end)
            }
            Some(Piece::Content { skip, len }) => {
                let taken = skip + len;
                if !ahead.at_line_start() {
                    return if taken > RESPONSE_MAX { self.give_up(input) } else { BackendStep::NeedInput };
                }
                *lines = ahead;
                if is_hidden(input.get(skip..taken).unwrap_or_default()) {
                    return BackendStep::Drop(taken);
                }
                BackendStep::Forward(taken)
            }
        }
    }

    /// The server's answers are not those to the commands we counted.
    fn give_up(&mut self, octets: &[u8]) -> BackendStep {
        self.reading = Reading::Unframed;
        self.due.clear();
        self.collector.stop();
        BackendStep::Forward(octets.len())
    }

    /// The harvest of this session, once it is there.
    pub fn take_harvest(&mut self) -> Option<Harvest> {
        self.harvest.take()
    }

    /// Octets of lists that are held for the harvest.
    #[must_use]
    pub fn held(&self) -> usize {
        self.collector.octets()
    }

    /// No harvest is wanted any more.
    pub fn stop_harvest(&mut self) {
        self.collector.stop();
    }

    /// What has been forwarded to the client ends with a whole response: a line of ours may follow.
    #[must_use]
    pub fn between_responses(&self) -> bool {
        matches!(self.reading, Reading::Status)
    }

    /// How many commands have not been answered.
    #[must_use]
    pub fn answers_due(&self) -> usize {
        self.due.len() + usize::from(matches!(self.reading, Reading::Lines(..)))
    }

    /// No command is in flight and no response has begun.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.between_responses() && self.due.is_empty()
    }

    /// The backend has told the client that it closes the connection.
    #[must_use]
    pub fn backend_said_farewell(&self) -> bool {
        self.said_farewell
    }

    /// The backend's last word was a refusal, and nothing else is waited for: if it closes now, that was why.
    #[must_use]
    pub fn backend_refused_last(&self) -> bool {
        self.refused_last && self.at_boundary()
    }
}

fn is_hidden(capability: &[u8]) -> bool {
    let name = capability.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
