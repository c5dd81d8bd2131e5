//! Two connections and the octets between them, in both directions at once, with bounded buffers: a peer that does not
//! read stops the other one from being read.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::Stream;
use crate::wire::imap::tracker::{BackendStep, CAPABILITY_LINE_MAX, ClientStep, Relay};

/// Neither peer has sent an octet for this long: the session is dead. A server must allow 30 minutes (RFC 9051 §5.4).
const INACTIVITY: Duration = Duration::from_secs(35 * 60);

/// When one peer has gone, the other may still finish this long.
const LINGER: Duration = Duration::from_secs(30);

/// When the server ends, a session may finish its command this long.
const BOUNDARY_PATIENCE: Duration = Duration::from_secs(5);

/// And then so long to read what it has been told.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Octets read from a peer and not dealt with. More than the longest line that must be seen whole.
const INPUT: usize = 2 * CAPABILITY_LINE_MAX;

/// Octets read at once.
const READ_SIZE: usize = 8 * 1024;

/// Octets on their way to a peer; above it, the other peer is not read.
const OUTPUT: usize = 64 * 1024;

const GOING_DOWN: &[u8] = b"* BYE [UNAVAILABLE] The server is going down, connect again.\r\n";
const TOO_QUIET: &[u8] = b"* BYE Nothing was heard of you for too long.\r\n";
const LOST: &[u8] = b"* BYE [UNAVAILABLE] The connection to the mail server was lost, connect again.\r\n";

/// What a relay did.
#[derive(Debug)]
pub(super) struct Moved {
    /// Octets sent to the client.
    pub(super) to_client: u64,
    /// Octets sent to the backend.
    pub(super) to_backend: u64,
    /// Why it ended.
    pub(super) why: &'static str,
}

/// One peer's socket and buffers.
struct Peer {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    /// Read from it and not dealt with.
    input: BytesMut,
    /// To be written to it.
    output: BytesMut,
    /// Written and not flushed.
    unflushed: bool,
    /// It will send nothing more.
    ended: bool,
    /// It takes nothing more.
    deaf: bool,
    sent: u64,
}

impl Peer {
    fn new(stream: Stream, input: BytesMut) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let output = BytesMut::new();
        Self { reader, writer, input, output, unflushed: false, ended: false, deaf: false, sent: 0 }
    }

    fn may_be_read(&self, other: &Self) -> bool {
        !self.ended && self.input.len() < INPUT && other.output.len() < OUTPUT
    }

    fn wants_writing(&self) -> bool {
        !self.deaf && (!self.output.is_empty() || self.unflushed)
    }

    fn say(&mut self, octets: &[u8]) {
        if !self.deaf {
            self.output.extend_from_slice(octets);
        }
    }

    /// Reads or writes once, whatever is possible first.
    async fn step(&mut self, read: bool) {
        let write = self.wants_writing();
        let Self { reader, writer, input, output, .. } = self;
        if read {
            input.reserve(READ_SIZE);
        }
        let flushing = output.is_empty();
        let put = async { if flushing { writer.flush().await.map(|()| 0) } else { writer.write(output).await } };
        tokio::select! {
            count = reader.read_buf(input), if read => match count {
                Ok(1..) => {}
                Ok(_) => self.ended = true,
                Err(_) => {
                    self.ended = true;
                    self.hangs_up();
                }
            },
            count = put, if write => match count {
                Ok(_) if flushing => self.unflushed = false,
                Ok(count @ 1..) => {
                    self.output.advance(count);
                    self.sent += count as u64;
                    self.unflushed = true;
                }
                _ => self.hangs_up(),
            },
        }
    }

    /// It takes nothing more; what it has said before that is still worth reading.
    fn hangs_up(&mut self) {
        self.deaf = true;
        self.output.clear();
    }

    /// Gives idle buffers back: most sessions are in IDLE.
    fn forget_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Waits until it has closed its end, within reason.
    async fn hear_out(&mut self, patience: Duration) {
        let all = async {
            while !self.ended {
                self.input.clear();
                self.step(true).await;
            }
        };
        let _ = timeout(patience, all).await;
    }

    /// Writes what is left and closes.
    async fn finish(&mut self, patience: Duration) {
        let all = async {
            while self.wants_writing() {
                self.step(false).await;
            }
            self.writer.shutdown().await
        };
        // Nobody is left who could be told of an error.
        let _ = timeout(patience, all).await;
    }
}

/// A client who has been told the end. The backend is closed.
pub(super) struct Leaving(Peer);

impl Leaving {
    /// Waits until the client has closed too, within reason.
    pub(super) async fn gone(mut self) {
        if !self.0.ended && !self.0.deaf {
            super::wait_for_close(&mut self.0.reader).await;
        }
    }
}

/// Relays until one of the two is gone, nothing has happened for too long, or the server ends.
pub(super) async fn run(
    client: Stream,
    backend: Stream,
    pipelined: &[u8],
    said: BytesMut,
    shutdown: watch::Receiver<bool>,
) -> (Moved, Leaving) {
    let mut pair = Pair {
        client: Peer::new(client, BytesMut::from(pipelined)),
        backend: Peer::new(backend, said),
        relay: Relay::new(),
        until: None,
    };
    let why = pair.relay(shutdown).await;
    pair.farewell(why);
    let Pair { mut client, mut backend, .. } = pair;
    let patience = if why == Why::ServerEnds { LAST_WORDS } else { LINGER };
    // What the backend was told to do it may still be doing: the session counts until it has closed its end.
    tokio::join!(client.finish(patience), async {
        backend.finish(patience).await;
        backend.hear_out(patience).await;
    });
    (Moved { to_client: client.sent, to_backend: backend.sent, why: why.as_str() }, Leaving(client))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    ClientGone,
    BackendGone,
    Silence,
    ServerEnds,
    Unfit,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "the client went away",
            Self::BackendGone => "the mail server closed the connection",
            Self::Silence => "nothing happened for too long",
            Self::ServerEnds => "the server ends",
            Self::Unfit => "the client can't be served",
        }
    }
}

struct Pair {
    client: Peer,
    backend: Peer,
    relay: Relay,
    /// The session has begun to end, and must have ended then.
    until: Option<(Instant, Why)>,
}

impl Pair {
    async fn relay(&mut self, mut shutdown: watch::Receiver<bool>) -> Why {
        let mut quiet_since = Instant::now();
        loop {
            if let Some(why) = self.shuffle() {
                return why;
            }
            if let Some(why) = self.over() {
                return why;
            }
            let (wake, at_wake) = self.until.unwrap_or((quiet_since + INACTIVITY, Why::Silence));
            let client = self.client.may_be_read(&self.backend) && self.client.output.len() < OUTPUT;
            let backend = self.backend.may_be_read(&self.client);
            tokio::select! {
                () = self.client.step(client), if client || self.client.wants_writing() => quiet_since = Instant::now(),
                () = self.backend.step(backend), if backend || self.backend.wants_writing() => quiet_since = Instant::now(),
                () = sleep_until(wake) => return at_wake,
                _ = shutdown.wait_for(|ended| *ended), if at_wake != Why::ServerEnds => {
                    self.until = Some((wake.min(Instant::now() + BOUNDARY_PATIENCE), Why::ServerEnds));
                }
            }
        }
    }

    /// Whether the session is over, or begins to be.
    fn over(&mut self) -> Option<Why> {
        if self.backend.ended && self.backend.input.is_empty() {
            return Some(Why::BackendGone);
        }
        if self.client.deaf {
            return Some(Why::ClientGone);
        }
        match self.until {
            Some((_, Why::ServerEnds)) if self.relay.at_boundary() => return Some(Why::ServerEnds),
            // A client that has said all it had to say still gets its answers. An IDLE has none: who hangs up there has gone.
            _ if self.client.ended && self.client.output.is_empty() && self.nothing_to_answer() => {
                return Some(Why::ClientGone);
            }
            // It may still be reading: one that is not makes itself known when it is written to.
            None if self.client.ended => self.until = Some((Instant::now() + INACTIVITY, Why::ClientGone)),
            _ => {}
        }
        None
    }

    fn nothing_to_answer(&self) -> bool {
        self.relay.in_flight() == 0 || (self.relay.at_boundary() && self.client.input.is_empty())
    }

    /// Moves what can be moved between the buffers.
    fn shuffle(&mut self) -> Option<Why> {
        let Self { client, backend, relay, .. } = self;
        let mut moved = true;
        while std::mem::take(&mut moved) {
            // Our own answers are bounded too: a client may send what we refuse and never read.
            while backend.output.len() < OUTPUT && client.output.len() < OUTPUT {
                match relay.from_client(&client.input) {
                    ClientStep::Forward(count) => backend.say(&client.input.split_to(count)),
                    ClientStep::Answer { octets, answer } => {
                        client.input.advance(octets);
                        client.say(&answer);
                    }
                    ClientStep::NeedInput | ClientStep::Wait => break,
                    ClientStep::Close(words) => {
                        client.say(&words);
                        return Some(Why::Unfit);
                    }
                }
                moved = true;
            }
            while client.output.len() < OUTPUT {
                match relay.from_backend(&backend.input) {
                    BackendStep::Forward(count) => client.say(&backend.input.split_to(count)),
                    BackendStep::Replace { octets, with } => {
                        backend.input.advance(octets);
                        client.say(&with);
                    }
                    BackendStep::NeedInput => break,
                }
                moved = true;
            }
        }
        if backend.ended && !backend.input.is_empty() && client.output.len() < OUTPUT {
            // The start of a line that will never be complete.
            client.say(&backend.input.split());
        }
        client.forget_buffers();
        backend.forget_buffers();
        None
    }

    /// Tells the client why the session ends, where it can be told: behind a complete response.
    fn farewell(&mut self, why: Why) {
        if self.relay.backend_said_bye() || !self.relay.backend_at_line_start() {
            return;
        }
        match why {
            Why::BackendGone => self.client.say(LOST),
            Why::ServerEnds => self.client.say(GOING_DOWN),
            Why::Silence => self.client.say(TOO_QUIET),
            Why::ClientGone | Why::Unfit => {}
        }
    }
}
