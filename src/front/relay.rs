//! Two connections and the octets between them, in both directions at once, with bounded buffers: a peer that does not
//! read stops the other one from being read.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::time::{Instant, sleep_until};

use super::drain;
use super::ending::Ending;
use super::peer::{OUTPUT, Peer, step_both};
use crate::net::Stream;
use crate::user::{SessionPass, Standing};
use crate::wire::imap::tracker::{BackendStep, ClientStep, Relay};

/// Neither peer has sent or taken an octet for this long: the session is dead. A server must allow 30 minutes (RFC 9051 §5.4).
pub(super) const INACTIVITY: Duration = Duration::from_secs(35 * 60);

/// When the session is over, each peer has so long to take what is left, and the backend as long again to end its work.
pub(super) const LINGER: Duration = Duration::from_secs(30);

/// When the server ends, a session may finish its commands this long.
pub(super) const BOUNDARY_PATIENCE: Duration = Duration::from_secs(5);

/// And then both peers have so long to take what they are told.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Octets on their way to a client that does not read, above which its own commands wait as well: we answer some of
/// them ourselves. More than the backend alone can fill, so that only such answers do.
const ANSWERS: usize = 3 * OUTPUT;

const GOING_DOWN: &[u8] = b"* BYE [UNAVAILABLE] The server is going down, connect again.\r\n";
const TOO_QUIET: &[u8] = b"* BYE Nothing was heard of you for too long.\r\n";
const MOVED: &[u8] = b"* BYE [UNAVAILABLE] Your mailbox has been moved, connect again.\r\n";
const LOST: &[u8] = b"* BYE [UNAVAILABLE] The connection to the mail server was lost, connect again.\r\n";

/// What a relay did.
#[derive(Debug)]
pub(super) struct Moved {
    /// Octets that the client took.
    pub(super) to_client: u64,
    /// Octets that the backend took.
    pub(super) to_backend: u64,
    /// Why it ended.
    pub(super) why: &'static str,
}

/// Relays until one of the two is gone, nothing has happened for too long, the user has moved to the other side, or the
/// server ends. While the user's gate is closed it stands still at a command boundary. `pass` is let go when the backend has
/// closed its connection as well (or has had half a minute for it): until then it may be at work for us.
pub(super) async fn run(
    client: Stream,
    backend: (Stream, BytesMut),
    pipelined: &[u8],
    ending: Ending,
    mut pass: SessionPass,
) -> Moved {
    let mut pair = Pair {
        client: Peer::new(client, BytesMut::from(pipelined)),
        backend: Peer::new(backend.0, backend.1),
        relay: Relay::new(),
        torn: false,
        ends_by: None,
    };
    let why = pair.relay(ending, &mut pass).await;
    if pair.relay.is_writing() {
        // Nobody has heard how it ended; the backend may execute it yet.
        pass.wrote();
    }
    pair.farewell(why);
    let patience = if why == Why::ServerEnds { LAST_WORDS } else { LINGER };
    let Pair { mut client, mut backend, .. } = pair;
    let close_backend = async {
        backend.finish(patience, patience).await;
        let sent = backend.sent;
        drop(backend);
        drop(pass);
        sent
    };
    let ((), to_backend) = tokio::join!(client.finish(patience, drain::CLIENT), close_backend);
    Moved { to_client: client.sent, to_backend, why: why.as_str() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    LoggedOut,
    ClientGone,
    BackendGone,
    Silence,
    ServerEnds,
    Unfit,
    Moved,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LoggedOut => "the mail server said goodbye",
            Self::ClientGone => "the client went away",
            Self::BackendGone => "the connection to the mail server was lost",
            Self::Silence => "nothing happened for too long",
            Self::ServerEnds => "we are ending",
            Self::Unfit => "the client can't be served",
            Self::Moved => "the user was switched to the other side",
        }
    }
}

struct Pair {
    client: Peer,
    backend: Peer,
    relay: Relay,
    /// The client was sent the start of a line that will never be complete.
    torn: bool,
    /// The server ends: so must this session, by then.
    ends_by: Option<Instant>,
}

impl Pair {
    async fn relay(&mut self, mut ending: Ending, pass: &mut SessionPass) -> Why {
        let mut quiet_since = Instant::now();
        // All three are begun once, and not for each octet that passes.
        let mut clock = pin!(sleep_until(quiet_since + INACTIVITY));
        let mut ended = pin!(ending.comes());
        let mut changed = pin!(pass.changes().next());
        loop {
            let standing = pass.standing();
            if let Some(why) = self.shuffle(standing != Standing::Parked).or_else(|| self.over()) {
                return why;
            }
            if self.relay.take_written() {
                pass.wrote();
            }
            match standing {
                Standing::Moved => return Why::Moved,
                Standing::Closing if self.relay.at_boundary() => {
                    if self.hears_more().await {
                        // It goes on before anything is waited for.
                        continue;
                    }
                    if !self.client.wants_writing() {
                        pass.park();
                        continue;
                    }
                }
                _ => {}
            }
            let read_client = standing != Standing::Parked && self.client.may_be_read(&self.backend);
            let read_backend = self.backend.may_be_read(&self.client);
            let Self { client, backend, relay, .. } = self;
            let unread = relay.backend_unseen();
            tokio::select! {
                handed = step_both((client, read_client), (backend, read_backend), unread) => {
                    relay.backend_passed(handed);
                    quiet_since = Instant::now();
                }
                changes = changed.as_mut() => changed.set(changes.next()),
                () = clock.as_mut() => {
                    let (wake, at_wake) = self.alarm(quiet_since);
                    if Instant::now() >= wake {
                        return at_wake;
                    }
                    // Something has happened since it was set.
                    clock.as_mut().reset(wake);
                }
                () = ended.as_mut(), if self.ends_by.is_none() => {
                    let end = Instant::now() + BOUNDARY_PATIENCE;
                    self.ends_by = Some(end);
                    clock.as_mut().reset(end);
                }
            }
        }
    }

    /// Whether the client has said something more by now. A command that has arrived already is still executed where the client
    /// sent it, with all that were pipelined behind it.
    async fn hears_more(&mut self) -> bool {
        let said = self.client.input.len();
        let readable = self.client.may_be_read(&self.backend);
        let _ = poll_fn(|cx| Poll::Ready(self.client.poll_step(cx, readable))).await;
        self.client.input.len() != said
    }

    /// When to end the session if nothing happens until then, and why.
    fn alarm(&self, quiet_since: Instant) -> (Instant, Why) {
        match self.ends_by {
            Some(end) => (end, Why::ServerEnds),
            // It has said all it had to say and waits for its answers; if it doesn't, writing to it will show that.
            None if self.client.ended => (quiet_since + INACTIVITY, Why::ClientGone),
            None => (quiet_since + INACTIVITY, Why::Silence),
        }
    }

    /// Whether the session is over.
    fn over(&self) -> Option<Why> {
        if self.backend.ended && self.backend.input.is_empty() {
            return Some(if self.relay.backend_said_bye() { Why::LoggedOut } else { Why::BackendGone });
        }
        if self.client.deaf {
            return Some(Why::ClientGone);
        }
        if self.ends_by.is_some_and(|end| self.relay.at_boundary() || Instant::now() >= end) {
            return Some(Why::ServerEnds);
        }
        let all_passed = !self.client.has_output() && (!self.backend.has_output() || self.backend.deaf);
        (self.client.ended && all_passed && self.relay.answers_due() == 0).then_some(Why::ClientGone)
    }

    /// Moves what can be moved between the buffers; of the client only if its commands may go on.
    fn shuffle(&mut self, from_client: bool) -> Option<Why> {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            if from_client {
                match self.take_from_client() {
                    Ok(some) => moved |= some,
                    Err(why) => return Some(why),
                }
            }
            moved |= self.take_from_backend();
        }
        let Self { client, backend, .. } = self;
        if backend.ended && !backend.input.is_empty() && client.output.len() < OUTPUT {
            client.say(&backend.input.split());
            self.torn = true;
        }
        client.forget_buffers();
        backend.forget_buffers();
        None
    }

    fn take_from_client(&mut self) -> Result<bool, Why> {
        let Self { client, backend, relay, .. } = self;
        let mut moved = false;
        while backend.output.len() < OUTPUT && client.output.len() < ANSWERS {
            match relay.from_client(&client.input) {
                ClientStep::Forward(count) => backend.say_of(&mut client.input, count),
                ClientStep::Answer { octets, answer } => {
                    client.input.advance(octets);
                    client.say(&answer);
                }
                ClientStep::NeedInput | ClientStep::Wait => break,
                ClientStep::Close(words) => {
                    if relay.backend_at_line_start() {
                        client.say(&words);
                    }
                    return Err(Why::Unfit);
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    fn take_from_backend(&mut self) -> bool {
        let Self { client, backend, relay, .. } = self;
        let mut moved = false;
        while client.output.len() < OUTPUT {
            match relay.from_backend(&backend.input) {
                BackendStep::Forward(count) => client.say_of(&mut backend.input, count),
                BackendStep::Replace { octets, with } => {
                    backend.input.advance(octets);
                    client.say(&with);
                }
                BackendStep::NeedInput => break,
            }
            moved = true;
        }
        moved
    }

    /// Tells the client why the session ends, where it can be told: behind a complete response.
    fn farewell(&mut self, why: Why) {
        if self.relay.backend_said_bye() || self.torn || !self.relay.backend_at_line_start() {
            return;
        }
        match why {
            Why::BackendGone => self.client.say(LOST),
            Why::ServerEnds => self.client.say(GOING_DOWN),
            Why::Silence => self.client.say(TOO_QUIET),
            Why::Moved => self.client.say(MOVED),
            Why::LoggedOut | Why::ClientGone | Why::Unfit => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
