//! What a client says before it is logged in, and what we answer (RFC 1939 §4, AUTHORIZATION state).
//!
//! Whoever has not logged in costs a fixed buffer and little else: every line has a limit, and so has the number of things
//! that may go wrong. Logins in clear text are refused without looking at the password. What stands in the buffer behind
//! STLS was sent by nobody knows whom and is thrown away (RFC 2595 §4).

mod say;

use std::collections::VecDeque;
use std::mem;

use zeroize::{Zeroize as _, Zeroizing};

use super::reply::without_end;
use crate::wire::credentials::{Credentials, Unfit, append, is_name};
use crate::wire::sasl::Bearer;
use crate::wire::sasl::exchange::{Exchange, Step};

/// Octets of a line with its end: room for AUTH with the longest SASL message.
pub const LINE_MAX: usize = 8 * 1024;
/// Octets that may be offered to [`PreLogin::input`] at a time.
pub const INPUT_MAX: usize = 4 * 1024;
/// All that a client's buffer can hold: a line that is not complete, and what arrived with its end.
const BUFFER_MAX: usize = LINE_MAX + INPUT_MAX;
/// Refused commands and failed logins before we close: enough for any client's trials, too few to guess passwords on one connection.
pub const FAULTS_MAX: u32 = 20;

/// What kind of connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreLoginConfig {
    /// STLS is offered (once).
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
    Login(Credentials),
    /// Write these last words and close.
    Close(Vec<u8>),
}

/// What the next line is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A command.
    Commands,
    /// The answer to our `+`.
    SaslMessage(Exchange),
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
    /// Octets of `buffer` in which there is no line end.
    searched: usize,
    /// The name that USER gave.
    user: Option<String>,
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
            searched: 0,
            user: None,
            faults: 0,
            actions: VecDeque::new(),
        }
    }

    /// What the client is greeted with. Without a timestamp in it: there is no APOP here (RFC 1939 §7).
    #[must_use]
    pub fn greeting(&self) -> Vec<u8> {
        b"+OK mailferry ready.\r\n".to_vec()
    }

    /// Takes in what the client sent, at most [`INPUT_MAX`] octets after [`PreLogin::next`] has given `None`, and nothing
    /// during a login or the start of TLS. More than fits ends the connection.
    pub fn input(&mut self, octets: &[u8]) {
        match self.state {
            State::StartingTls | State::Closed => {}
            _ if self.buffer.len().saturating_add(octets.len()) > BUFFER_MAX => self.close(say::TOO_LONG.to_vec()),
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
                State::Commands | State::SaslMessage(_) | State::TokenRefused { .. } => {
                    let line = self.take_line()?;
                    self.line(&line);
                }
                State::LoggingIn { .. } | State::StartingTls | State::Closed => return None,
            }
        }
    }

    /// The login didn't succeed: `line` is the whole answer with its line end. The client may go on.
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

    /// The next complete line with its end. Ends the connection if there is none and never will be.
    fn take_line(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let fresh = self.buffer.get(self.searched..).unwrap_or_default();
        let end = fresh.iter().position(|&octet| octet == b'\n').map(|at| self.searched + at + 1);
        if end.unwrap_or(self.buffer.len()) > LINE_MAX {
            self.close(say::TOO_LONG.to_vec());
            // There is an action now, and no line.
            return Some(Zeroizing::default());
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = Zeroizing::new(self.buffer.get(..end).unwrap_or_default().to_vec());
        // Wiped, since it may have been a password.
        self.buffer.rotate_left(end);
        let kept = self.buffer.len() - end;
        self.buffer.get_mut(kept..).unwrap_or_default().zeroize();
        self.buffer.truncate(kept);
        self.searched = 0;
        Some(line)
    }

    fn line(&mut self, line: &[u8]) {
        let line = without_end(line);
        match mem::replace(&mut self.state, State::Commands) {
            State::Commands => self.command(line),
            State::SaslMessage(_) if line.trim_ascii() == b"*" => self.fault(say::err("Authentication cancelled.")),
            State::TokenRefused { answer } => self.fault(answer),
            State::SaslMessage(exchange) => self.sasl(exchange.answer(line.trim_ascii())),
            other => self.state = other,
        }
    }

    fn command(&mut self, line: &[u8]) {
        let (verb, arguments) = match line.iter().position(|&octet| octet == b' ') {
            Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default()),
            None => (line, &b""[..]),
        };
        let verb = verb.to_ascii_uppercase();
        match verb.as_slice() {
            b"CAPA" => self.reply(say::capabilities(self.config)),
            b"AUTH" if arguments.trim_ascii().is_empty() => self.reply(say::mechanisms(self.config)),
            b"USER" | b"PASS" | b"AUTH" if !self.may_log_in() => self.fault(say::err(say::PRIVACY_REQUIRED)),
            b"USER" => self.user(arguments),
            b"PASS" => self.pass(arguments),
            b"AUTH" => self.auth(arguments),
            b"STLS" => self.stls(),
            b"QUIT" => self.close(b"+OK Logging out.\r\n".to_vec()),
            b"APOP" => self.fault(say::err("APOP is not available here.")),
            _ => self.fault(say::err("The command is unknown, or needs a login first.")),
        }
    }

    fn user(&mut self, name: &[u8]) {
        match std::str::from_utf8(name) {
            Ok(name) if is_name(name) => {
                self.user = Some(name.to_owned());
                self.reply(b"+OK\r\n".to_vec());
            }
            _ => self.fault(say::unfit(Unfit::User)),
        }
    }

    /// The password is all that stands behind the blank (RFC 1939 §7): blanks are part of it.
    fn pass(&mut self, password: &[u8]) {
        // Some clients don't look at what USER was answered.
        let Some(user) = &self.user else { return self.fault(say::err("USER comes first.")) };
        let read = Credentials::new(user.as_bytes(), Zeroizing::new(password.to_vec()));
        self.log_in(read);
    }

    fn auth(&mut self, arguments: &[u8]) {
        let mut words = arguments.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (mechanism, initial, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        let Some(exchange) = Exchange::begin(mechanism, self.config.tokens) else {
            return self.fault(say::err("Unsupported authentication mechanism."));
        };
        match initial {
            _ if more.is_some() => self.fault(say::err("Too many arguments.")),
            None => self.sasl(Ok(Step::Ask(exchange))),
            Some(message) => self.sasl(exchange.initial(message)),
        }
    }

    fn sasl(&mut self, step: Result<Step, Unfit>) {
        match step {
            Ok(Step::Ask(exchange)) => {
                self.reply(format!("+ {}\r\n", exchange.challenge()).into_bytes());
                self.state = State::SaslMessage(exchange);
            }
            Ok(Step::LogIn(credentials)) => self.log_in(Ok(credentials)),
            Err(unfit) => self.log_in(Err(unfit)),
        }
    }

    fn stls(&mut self) {
        if self.config.tls_active {
            self.fault(say::err("TLS is active already."));
        } else if !self.config.tls_available {
            self.fault(say::err("TLS is not available here."));
        } else {
            self.reply(b"+OK Begin TLS negotiation now.\r\n".to_vec());
            self.actions.push_back(Action::StartTls);
            self.state = State::StartingTls;
            self.discard();
        }
    }

    fn log_in(&mut self, read: Result<Credentials, Unfit>) {
        match read {
            Ok(credentials) => {
                self.state = State::LoggingIn { bearer: credentials.bearer };
                self.actions.push_back(Action::Login(credentials));
            }
            Err(unfit) => self.fault(say::unfit(unfit)),
        }
    }

    fn may_log_in(&self) -> bool {
        self.config.tls_active || self.config.cleartext_allowed
    }

    fn reply(&mut self, words: Vec<u8>) {
        self.actions.push_back(Action::Reply(words));
    }

    /// Says no, and counts it.
    fn fault(&mut self, words: Vec<u8>) {
        self.faults = self.faults.saturating_add(1);
        if self.faults < FAULTS_MAX {
            self.reply(words);
        } else {
            self.close(words);
        }
    }

    fn close(&mut self, words: Vec<u8>) {
        self.actions.push_back(Action::Close(words));
        self.state = State::Closed;
        self.discard();
    }

    /// Drops everything that has come in.
    fn discard(&mut self) {
        self.buffer.zeroize();
        self.searched = 0;
        self.user = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
