//! Two connections and the octets between them, in both directions at once, with bounded buffers: a peer that does not
//! read stops the other one from being read.

use std::pin::pin;

use bytes::{Buf as _, BytesMut};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::share::Share;
use crate::front::drain;
use crate::front::ending::Ending;
use crate::front::peer::{OUTPUT, Peer, step_both};
use crate::front::relay::{BOUNDARY_PATIENCE, INACTIVITY, LAST_WORDS, LINGER, Moved};
use crate::net::Stream;
use crate::user::SessionPass;
use crate::wire::pop3::harvest::Harvest;
use crate::wire::pop3::tracker::{BackendStep, ClientStep, Relay};

const GOING_DOWN: &[u8] = b"-ERR [SYS/TEMP] The server is going down, connect again.\r\n";
const TOO_QUIET: &[u8] = b"-ERR Nothing was heard of you for too long.\r\n";
const TOO_LONG: &[u8] = b"-ERR The command line is too long.\r\n";
const LOST: &[u8] = b"-ERR [SYS/TEMP] The connection to the mail server was lost, connect again.\r\n";

/// Who wants the lists of a session.
pub(super) struct Wanted<G> {
    /// Is given them.
    pub(super) give: G,
    /// Bounds what is held until they are complete.
    pub(super) share: Share,
}

/// Relays until one of the two is gone, nothing has happened for too long (RFC 1939 §3 wants 10 minutes at least), or the
/// server ends. `wanted` is given the lists of the session, if it is there. `pass` is let go when the backend has closed
/// its connection as well (or has had half a minute for it): until then it may be at work for us.
pub(super) async fn run(
    client: Stream,
    backend: (Stream, BytesMut),
    pipelined: &[u8],
    ending: Ending,
    pass: SessionPass,
    wanted: Option<Wanted<impl Fn(Harvest)>>,
) -> Moved {
    let mut pair = Pair {
        client: Peer::new(client, BytesMut::from(pipelined)),
        backend: Peer::new(backend.0, backend.1),
        relay: Relay::new(wanted.is_some()),
        torn: false,
        ends_by: None,
    };
    let why = pair.relay(ending, wanted).await;
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
        }
    }
}

struct Pair {
    client: Peer,
    backend: Peer,
    relay: Relay,
    /// The client was sent the start of a response that will never be complete.
    torn: bool,
    /// The server ends: so must this session, by then.
    ends_by: Option<Instant>,
}

impl Pair {
    async fn relay(&mut self, mut ending: Ending, mut wanted: Option<Wanted<impl Fn(Harvest)>>) -> Why {
        let mut quiet_since = Instant::now();
        // Both are begun once, and not for each octet that passes.
        let mut clock = pin!(sleep_until(quiet_since + INACTIVITY));
        let mut ended = pin!(ending.comes());
        loop {
            let unfit = self.shuffle();
            if let Some(wanted) = &mut wanted {
                self.harvest(wanted);
            }
            if let Some(why) = unfit.or_else(|| self.over()) {
                return why;
            }
            let read_client = self.client.may_be_read(&self.backend);
            let read_backend = self.backend.may_be_read(&self.client);
            let Self { client, backend, .. } = self;
            tokio::select! {
                // Its messages are lines, of which each is looked at.
                _ = step_both((client, read_client), (backend, read_backend), 0) => quiet_since = Instant::now(),
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

    fn harvest(&mut self, wanted: &mut Wanted<impl Fn(Harvest)>) {
        if let Some(harvest) = self.relay.take_harvest() {
            (wanted.give)(harvest);
        }
        if !wanted.share.set(self.relay.held()) {
            debug!("too many POP3 lists at once: this one passes by unused");
            self.relay.stop_harvest();
            wanted.share.set(0);
        }
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
            return Some(if self.relay.backend_said_farewell() { Why::LoggedOut } else { Why::BackendGone });
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

    /// Moves what can be moved between the buffers.
    fn shuffle(&mut self) -> Option<Why> {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            match self.take_from_client() {
                Ok(some) => moved |= some,
                Err(why) => return Some(why),
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
        while backend.output.len() < OUTPUT {
            match relay.from_client(&client.input) {
                ClientStep::Forward(count) => backend.say_of(&mut client.input, count),
                ClientStep::NeedInput | ClientStep::Wait => break,
                ClientStep::Close => return Err(Why::Unfit),
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
                BackendStep::Drop(count) => backend.input.advance(count),
                BackendStep::NeedInput => break,
            }
            moved = true;
        }
        moved
    }

    /// Tells the client why the session ends, where it can be told: behind a complete response.
    fn farewell(&mut self, why: Why) {
        if self.relay.backend_said_farewell() || self.torn || !self.relay.between_responses() {
            return;
        }
        match why {
            Why::BackendGone if self.relay.backend_refused_last() => {}
            Why::BackendGone => self.client.say(LOST),
            Why::ServerEnds => self.client.say(GOING_DOWN),
            Why::Silence => self.client.say(TOO_QUIET),
            Why::Unfit => self.client.say(TOO_LONG),
            Why::LoggedOut | Why::ClientGone => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
