//! What a client says before it is logged in, and what we answer.
//!
//! Whoever has not logged in costs a fixed buffer and little else: every line, literal and command has a limit, and so has the
//! number of things that may go wrong. Logins in clear text are refused without looking at the password. What stands in the
//! buffer behind STARTTLS was sent by nobody knows whom and is thrown away (RFC 9051 §11.3).
//!
//! LOGIN and AUTHENTICATE are read here by hand: passwords must reach the backend as the octets that were typed (8-bit ones
//! too), and no parser's copies of them may stay behind in memory. Everything else is imap-codec's.

mod credentials;
mod say;

use std::collections::VecDeque;
use std::mem;

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder as _;
use imap_codec::imap_types::command::CommandBody;
use zeroize::{Zeroize as _, Zeroizing};

use super::framer::{Event, Framer, Role};
use super::scan::Cursor;
use crate::wire::credentials::{Credentials, Unfit, append};
use crate::wire::sasl::Bearer;
use crate::wire::sasl::exchange::{Exchange, Step};
use credentials::Refusal;

/// Octets of a command without its literals: room for AUTHENTICATE with the longest SASL message.
pub const LINE_MAX: u64 = 8 * 1024;
/// Octets of a literal: what LITERAL- (RFC 7888) lets a client send unasked; no name or password is longer.
pub const LITERAL_MAX: u64 = 4 * 1024;
/// Octets of a command with its literals: two literals and a line.
pub const COMMAND_MAX: u64 = 16 * 1024;
/// Octets that may be offered to [`PreLogin::input`] at a time.
pub const INPUT_MAX: usize = 4 * 1024;
/// All that a client's buffer can hold: a command that is not complete, and what arrived with its end.
const BUFFER_MAX: usize = COMMAND_MAX as usize + INPUT_MAX;
/// Refused commands and failed logins before we say BYE: enough for any client's trials, too few to guess passwords on one connection.
pub const FAULTS_MAX: u32 = 20;
/// Octets of a tag. Clients use up to some ten; backends get ours, not theirs.
const TAG_MAX: usize = 64;

/// What kind of connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreLoginConfig {
    /// STARTTLS is offered (once).
    pub tls_available: bool,
    /// The connection is encrypted already.
    pub tls_active: bool,
    /// The client may log in without encryption.
    pub cleartext_allowed: bool,
    /// Tokens are taken in place of passwords.
    pub tokens: bool,
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this.
    Reply(Vec<u8>),
    /// Flush, start TLS, then call [`PreLogin::tls_started`].
    StartTls,
    /// Try these credentials, then call [`PreLogin::login_failed`] or [`PreLogin::into_pipelined`].
    Login(Login),
    /// Write these last words and close.
    Close(Vec<u8>),
}

/// Credentials to try.
#[derive(PartialEq, Eq)]
pub struct Login {
    /// The client's tag, for the answer.
    pub tag: String,
    /// The user name as it was typed.
    pub user: String,
    /// SASL authorization identity, if one was given.
    pub authzid: Option<String>,
    /// The password's octets, without NUL.
    pub password: Zeroizing<Vec<u8>>,
    /// It is no password but a token, which goes on by this mechanism.
    pub bearer: Option<Bearer>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tag, user, authzid, password: _, bearer } = self;
        let mut shown = f.debug_struct("Login");
        shown.field("tag", tag).field("user", user).field("authzid", authzid).field("bearer", bearer);
        shown.finish_non_exhaustive()
    }
}

/// What the next octets are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A command.
    Commands,
    /// The answer to our `+`, for AUTHENTICATE with this tag.
    SaslMessage { tag: String, exchange: Exchange },
    /// Nothing until the driver says how the login ended.
    LoggingIn { bearer: Option<Bearer> },
    /// Whatever ends a login by a token that was refused; then it hears this.
    TokenRefused { answer: Vec<u8> },
    /// Nothing until TLS is up.
    StartingTls,
    /// Nothing more.
    Closed,
}

/// See the [module](self).
pub struct PreLogin {
    config: PreLoginConfig,
    state: State,
    buffer: Zeroizing<Vec<u8>>,
    /// Octets of `buffer` that the framer has seen.
    framed: usize,
    framer: Framer,
    literal_octets: u64,
    faults: u32,
    actions: VecDeque<Action>,
}

impl std::fmt::Debug for PreLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreLogin").field("config", &self.config).field("state", &self.state).finish_non_exhaustive()
    }
}

impl PreLogin {
    /// A client that has just connected.
    #[must_use]
    pub fn new(config: PreLoginConfig) -> Self {
        Self {
            config,
            state: State::Commands,
            buffer: Zeroizing::default(),
            framed: 0,
            framer: Framer::new(Role::Client),
            literal_octets: 0,
            faults: 0,
            actions: VecDeque::new(),
        }
    }

    /// What the client is greeted with.
    #[must_use]
    pub fn greeting(&self) -> Vec<u8> {
        format!("* OK [{}] mailferry ready.\r\n", say::capabilities(self.config)).into_bytes()
    }

    /// Takes in what the client sent, at most [`INPUT_MAX`] octets after [`PreLogin::next`] has given `None`, and nothing
    /// during a login or the start of TLS. More than fits ends the connection.
    pub fn input(&mut self, octets: &[u8]) {
        match self.state {
            State::StartingTls | State::Closed => {}
            _ if self.buffer.len().saturating_add(octets.len()) > BUFFER_MAX => {
                self.close(say::bye("too much input"));
            }
            _ => append(&mut self.buffer, octets),
        }
    }

    /// What to do next; `None` when more input is needed, or the driver's word on a login or TLS.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: input comes in between")]
    pub fn next(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            match self.state {
                State::Commands | State::SaslMessage { .. } | State::TokenRefused { .. } => {
                    if !self.advance() {
                        return None;
                    }
                }
                State::LoggingIn { .. } | State::StartingTls | State::Closed => return None,
            }
        }
    }

    /// The login didn't succeed: `line` is the whole tagged answer with its line end. The client may go on.
    pub fn login_failed(&mut self, line: &[u8]) {
        let State::LoggingIn { bearer } = self.state else { return };
        match bearer {
            None => {
                self.state = State::Commands;
                self.fault(line.to_vec());
            }
            // The client hears first why, and says that it has (RFC 7628 §3.2.3).
            Some(mechanism) => {
                self.state = State::TokenRefused { answer: line.to_vec() };
                self.reply(format!("+ {}\r\n", mechanism.refusal()).into_bytes());
            }
        }
    }

    /// The login succeeded: what the client had already sent behind it. Goes to the backend.
    #[must_use]
    pub fn into_pipelined(self) -> Zeroizing<Vec<u8>> {
        // As large as it is, which is next to always nothing: the session may last for days.
        Zeroizing::new(self.buffer.to_vec())
    }

    /// TLS is up; the client starts anew, but its faults are not forgotten.
    pub fn tls_started(&mut self) {
        if self.state == State::StartingTls {
            self.config.tls_active = true;
            self.config.tls_available = false;
            self.state = State::Commands;
        }
    }

    /// Looks at what is in the buffer. False if it completes nothing.
    fn advance(&mut self) -> bool {
        let input = self.buffer.get(self.framed..).unwrap_or_default();
        let (used, event) = self.framer.advance(input);
        self.framed = self.framed.saturating_add(used);
        if self.framer.line_octets() > LINE_MAX {
            self.too_long();
            return true;
        }
        match event {
            None => return false,
            Some(Event::LiteralAnnounced { len, sync }) => self.literal_announced(len, sync),
            Some(Event::LiteralEnd) => {}
            Some(Event::LineEnd) => self.line_complete(),
        }
        true
    }

    fn too_long(&mut self) {
        let mut words = say::tagged(self.answer_tag().as_deref(), "BAD [TOOBIG] The command line is too long.");
        words.extend_from_slice(&say::bye("The command line is too long."));
        self.close(words);
    }

    fn literal_announced(&mut self, len: u64, sync: bool) {
        self.literal_octets = self.literal_octets.saturating_add(len);
        let tag = self.answer_tag();
        let too_big = len > LITERAL_MAX || self.framer.line_octets().saturating_add(self.literal_octets) > COMMAND_MAX;
        let refusal = if too_big {
            Some("NO [TOOBIG] The literal is too long.")
        } else if !sync {
            None
        } else if self.state != State::Commands {
            Some("BAD Invalid base64 data in SASL response.")
        } else {
            match self.verb().as_slice() {
                b"LOGIN" if !self.may_log_in() => Some(say::PRIVACY_REQUIRED),
                b"LOGIN" | b"ID" => None,
                _ => Some(say::NOT_BEFORE_LOGIN),
            }
        };
        match (refusal, sync) {
            (None, true) => self.actions.push_back(Action::Reply(b"+ OK\r\n".to_vec())),
            (None, false) => {}
            (Some(words), true) => {
                self.framer.literal_refused();
                self.forget_command();
                self.state = State::Commands;
                self.fault(say::tagged(tag.as_deref(), words));
            }
            (Some(_), false) => {
                // Its octets are on the way and can't be told from commands (RFC 7888 §4).
                let mut words = say::tagged(tag.as_deref(), "BAD [TOOBIG] The literal is too long.");
                words.extend_from_slice(&say::bye("The literal is too long."));
                self.close(words);
            }
        }
    }

    fn line_complete(&mut self) {
        let line = self.take_command();
        match mem::replace(&mut self.state, State::Commands) {
            State::TokenRefused { answer } => self.fault(answer),
            State::SaslMessage { tag, exchange } => {
                let message = line.trim_ascii();
                if message == b"*" {
                    self.fault(say::tagged(Some(&tag), "BAD Authentication cancelled."));
                } else {
                    self.sasl(tag, exchange.answer(message));
                }
            }
            _ => self.command(&line),
        }
    }

    fn command(&mut self, line: &[u8]) {
        let Some(tag) = self.tag() else {
            return self.fault(say::tagged(None, "BAD The line doesn't start with a tag."));
        };
        let mut cursor = Cursor::new(line);
        cursor.word();
        let verb = cursor.word().to_ascii_uppercase();
        match verb.as_slice() {
            b"LOGIN" | b"AUTHENTICATE" if !self.may_log_in() => {
                self.fault(say::tagged(Some(&tag), say::PRIVACY_REQUIRED));
            }
            b"LOGIN" => {
                let read = credentials::login(cursor);
                self.log_in(tag, read);
            }
            b"AUTHENTICATE" => self.authenticate(tag, cursor),
            _ => self.other(&tag, &verb, cursor.rest()),
        }
    }

    fn authenticate(&mut self, tag: String, mut cursor: Cursor<'_>) {
        let mechanism = cursor.word();
        let initial = cursor.word();
        let Some(exchange) = Exchange::begin(mechanism, self.config.tokens) else {
            return self.fault(say::tagged(Some(&tag), "NO Unsupported authentication mechanism."));
        };
        if !cursor.word().is_empty() {
            self.fault(say::tagged(Some(&tag), "BAD Too many arguments."));
        } else if initial.is_empty() {
            self.sasl(tag, Ok(Step::Ask(exchange)));
        } else {
            self.sasl(tag, exchange.initial(initial));
        }
    }

    fn sasl(&mut self, tag: String, step: Result<Step, Unfit>) {
        match step {
            Ok(Step::Ask(exchange)) => {
                self.reply(format!("+ {}\r\n", exchange.challenge()).into_bytes());
                self.state = State::SaslMessage { tag, exchange };
            }
            Ok(Step::LogIn(credentials)) => self.log_in(tag, Ok(credentials)),
            Err(unfit) => self.log_in(tag, Err(unfit.into())),
        }
    }

    fn log_in(&mut self, tag: String, read: Result<Credentials, Refusal>) {
        match read {
            Ok(Credentials { user, authzid, password, bearer }) => {
                self.state = State::LoggingIn { bearer };
                self.actions.push_back(Action::Login(Login { tag, user, authzid, password, bearer }));
            }
            Err(refusal) => self.fault(say::tagged(Some(&tag), &format!("BAD {refusal}."))),
        }
    }

    /// Every other command, as imap-codec reads it.
    fn other(&mut self, tag: &str, verb: &[u8], arguments: &[u8]) {
        // Written anew under a tag that it takes, with one CRLF behind and no blanks before that: some clients leave one.
        let arguments = arguments.trim_ascii();
        let mut line = Zeroizing::new(Vec::with_capacity(verb.len() + arguments.len() + 8));
        line.extend_from_slice(b"a ");
        line.extend_from_slice(verb);
        line.extend_from_slice(if arguments.is_empty() { b"" } else { b" " });
        line.extend_from_slice(arguments);
        line.extend_from_slice(b"\r\n");
        let body = CommandCodec::default().decode(&line).map(|(_, command)| command.body);
        let answer = |untagged: &str, text: &str| {
            let mut words = untagged.as_bytes().to_vec();
            words.extend_from_slice(&say::tagged(Some(tag), text));
            words
        };
        match body {
            Ok(CommandBody::Capability) => {
                let untagged = format!("* {}\r\n", say::capabilities(self.config));
                self.reply(answer(&untagged, "OK CAPABILITY completed."));
            }
            Ok(CommandBody::Noop) => self.reply(answer("", "OK NOOP completed.")),
            Ok(CommandBody::Id { .. }) => {
                self.reply(answer("* ID (\"name\" \"mailferry\")\r\n", "OK ID completed."));
            }
            Ok(CommandBody::Logout) => self.close(answer("* BYE Logging out\r\n", "OK LOGOUT completed.")),
            Ok(CommandBody::StartTLS) if self.config.tls_active => {
                self.fault(answer("", "BAD TLS is active already."));
            }
            Ok(CommandBody::StartTLS) if !self.config.tls_available => {
                self.fault(answer("", "BAD TLS is not available here."));
            }
            Ok(CommandBody::StartTLS) => {
                self.reply(answer("", "OK Begin TLS negotiation now."));
                self.actions.push_back(Action::StartTls);
                self.state = State::StartingTls;
                self.discard();
            }
            Ok(_) | Err(_) => self.fault(answer("", say::NOT_BEFORE_LOGIN)),
        }
    }

    fn may_log_in(&self) -> bool {
        self.config.tls_active || self.config.cleartext_allowed
    }

    /// The tag of the command that the framer is in or has just left.
    fn tag(&self) -> Option<String> {
        let tag = Cursor::new(self.framer.head()).word();
        let valid = (1..=TAG_MAX).contains(&tag.len())
            && tag.iter().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(octet));
        valid.then(|| String::from_utf8_lossy(tag).into_owned())
    }

    /// Whom to answer: the AUTHENTICATE that waits for its message, or the command that the framer is in.
    fn answer_tag(&self) -> Option<String> {
        match &self.state {
            State::SaslMessage { tag, .. } => Some(tag.clone()),
            _ => self.tag(),
        }
    }

    /// The command word of the line that the framer is in, in upper case.
    fn verb(&self) -> Vec<u8> {
        let mut cursor = Cursor::new(self.framer.head());
        cursor.word();
        cursor.word().to_ascii_uppercase()
    }

    fn reply(&mut self, words: Vec<u8>) {
        self.actions.push_back(Action::Reply(words));
    }

    /// Says no, and counts it.
    fn fault(&mut self, mut words: Vec<u8>) {
        self.faults = self.faults.saturating_add(1);
        if self.faults < FAULTS_MAX {
            self.reply(words);
        } else {
            words.extend_from_slice(&say::bye("Too many failed commands."));
            self.close(words);
        }
    }

    fn close(&mut self, words: Vec<u8>) {
        self.actions.push_back(Action::Close(words));
        self.state = State::Closed;
        self.discard();
    }

    /// Takes the complete command out of the buffer.
    fn take_command(&mut self) -> Zeroizing<Vec<u8>> {
        let line = Zeroizing::new(self.buffer.get(..self.framed).unwrap_or_default().to_vec());
        self.forget_command();
        line
    }

    /// Drops what the framer has seen, and wipes it, since it may have been a password.
    fn forget_command(&mut self) {
        let seen = self.framed.min(self.buffer.len());
        let kept = self.buffer.len() - seen;
        self.buffer.rotate_left(seen);
        if let Some(seen) = self.buffer.get_mut(kept..) {
            seen.zeroize();
        }
        self.buffer.truncate(kept);
        self.framed = 0;
        self.literal_octets = 0;
    }

    /// Drops everything that has come in.
    fn discard(&mut self) {
        self.buffer.zeroize();
        self.framed = 0;
        self.literal_octets = 0;
        self.framer = Framer::new(Role::Client);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
