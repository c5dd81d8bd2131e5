//! One end of a relay: a socket and what is on its way from and to it.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::time::timeout;

use super::buffers::{self, LARGE};
use super::drain;
use super::pipe::Pipe;
use crate::net::Stream;
use crate::wire::imap::tracker::CAPABILITY_LINE_MAX;

/// Octets read from a peer and not dealt with. More than the longest line that must be seen whole.
pub(super) const INPUT: usize = 2 * CAPABILITY_LINE_MAX;

/// Octets on their way to a peer; above it, the other peer is not read.
pub(super) const OUTPUT: usize = 64 * 1024;

/// Octets asked for at once of a peer that has said little lately: most sessions are in IDLE, and what these peers say
/// next is read onto the stack.
const SMALL: usize = 4 * 1024;

/// Octets of a message for which a pipe is worth while.
const WORTH_A_PIPE: u64 = LARGE as u64;

/// One peer's socket and buffers.
pub(super) struct Peer {
    stream: Stream,
    /// Read from it and not dealt with.
    pub(super) input: BytesMut,
    /// To be written to it, behind what is in `pipe`.
    pub(super) output: BytesMut,
    /// While a message passes through one; it may still hold some of it.
    pipe: Option<Pipe>,
    /// Written and not flushed.
    unflushed: bool,
    /// It will send nothing more.
    pub(super) ended: bool,
    /// It takes nothing more.
    pub(super) deaf: bool,
    /// It fills whatever it is offered: a large buffer is worth while.
    flows: bool,
    /// Octets that it has taken.
    pub(super) sent: u64,
}

/// Reads or writes at both peers whatever is possible, each read only if it may be; returns when anything was. The next
/// `unread` octets of the backend are of no interest to us: it returns how many of them have gone to the client. May be dropped at
/// its await: nothing is lost.
pub(super) async fn step_both(client: (&mut Peer, bool), backend: (&mut Peer, bool), unread: u64) -> u64 {
    let ((client, read_client), (backend, read_backend)) = (client, backend);
    poll_fn(|cx| {
        let mut handed = 0;
        let mut moved = client.poll_step(cx, read_client).is_ready();
        if read_backend && let Some(step) = client.poll_hand_through(cx, backend, unread) {
            moved |= step.map(|count| handed = count).is_ready() | backend.poll_step(cx, false).is_ready();
        } else {
            moved |= backend.poll_step(cx, read_backend).is_ready();
        }
        if moved { Poll::Ready(handed) } else { Poll::Pending }
    })
    .await
}

impl Peer {
    pub(super) fn new(stream: Stream, input: BytesMut) -> Self {
        let output = BytesMut::new();
        Self { stream, input, output, pipe: None, unflushed: false, ended: false, deaf: false, flows: false, sent: 0 }
    }

    pub(super) fn may_be_read(&self, other: &Self) -> bool {
        !self.ended && self.input.len() < INPUT && other.output.len() < OUTPUT && other.pipe_is_empty()
    }

    pub(super) fn wants_writing(&self) -> bool {
        !self.deaf && (self.has_output() || self.unflushed)
    }

    /// Whether something is on its way to it.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || !self.pipe_is_empty()
    }

    fn pipe_is_empty(&self) -> bool {
        self.pipe.as_ref().is_none_or(Pipe::is_empty)
    }

    pub(super) fn say(&mut self, octets: &[u8]) {
        if !self.deaf {
            self.output.extend_from_slice(octets);
        }
    }

    /// Says the first `count` octets that the other peer has sent. All of them change hands together with their buffer.
    pub(super) fn say_of(&mut self, input: &mut BytesMut, count: usize) {
        if self.output.is_empty() && count == input.len() && !self.deaf {
            mem::swap(&mut self.output, input);
        } else {
            self.say(input.get(..count).unwrap_or(input));
            input.advance(count.min(input.len()));
        }
    }

    /// Writes what there is to write, and reads once if it may be read; ready if anything came of it.
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<()> {
        let wrote = self.wants_writing() && self.poll_write(cx).is_ready();
        let heard = read && self.poll_read(cx).is_ready();
        if wrote || heard { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wrote = Poll::Pending;
        while self.has_output() {
            match self.poll_write_once(cx) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.sent += count as u64;
                    self.unflushed = true;
                    wrote = Poll::Ready(());
                }
                Poll::Pending => return wrote,
                Poll::Ready(_) => {
                    self.hangs_up();
                    return Poll::Ready(());
                }
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Pending => return wrote,
            Poll::Ready(Err(_)) => self.hangs_up(),
        }
        Poll::Ready(())
    }

    fn poll_write_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let (Some(pipe), Some(tcp)) = (&mut self.pipe, self.stream.as_plain())
            && !pipe.is_empty()
        {
            return pipe.poll_drain(cx, tcp);
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
        self.output.advance(count);
        Poll::Ready(Ok(count))
    }

    /// Hands at most `count` octets of `from` through, if that is possible now and worth while; gives how many have left it.
    fn poll_hand_through(&mut self, cx: &mut Context<'_>, from: &mut Self, count: u64) -> Option<Poll<u64>> {
        if count < WORTH_A_PIPE || self.deaf || self.has_output() || !from.input.is_empty() {
            return None;
        }
        let (Some(source), Some(_)) = (from.stream.as_plain(), self.stream.as_plain()) else { return None };
        let mut pipe = self.pipe.take().or_else(Pipe::lend)?;
        let taken = match pipe.poll_fill(cx, source, usize::try_from(count).unwrap_or(usize::MAX)) {
            Poll::Pending => return Some(Poll::Pending),
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) if Pipe::is_impossible(&error) => return None,
            Poll::Ready(Err(_)) => {
                from.hangs_up();
                0
            }
        };
        from.ended = taken == 0;
        self.pipe = Some(pipe);
        // What can't be written now waits for its next turn.
        let _ = self.poll_write(cx);
        Some(Poll::Ready(taken as u64))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let read = if self.flows { self.poll_read_much(cx) } else { self.poll_read_little(cx) };
        match ready!(read) {
            Ok(0) => self.ended = true,
            Ok(count) => self.flows = count >= SMALL,
            Err(_) => {
                self.ended = true;
                self.hangs_up();
            }
        }
        Poll::Ready(())
    }

    fn poll_read_little(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); SMALL];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        self.input.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    fn poll_read_much(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            buffers::take_back(mem::replace(&mut self.input, buffers::lend()));
        } else {
            self.input.reserve(LARGE);
        }
        // Else it would fill whatever room there happens to be.
        let mut room = (&mut self.input).limit(LARGE);
        let read = pin!(self.stream.read_buf(&mut room)).poll(cx);
        if read.is_pending() && self.input.is_empty() {
            buffers::take_back(mem::take(&mut self.input));
        }
        read
    }

    /// It takes nothing more; what it has said before that is still worth reading.
    fn hangs_up(&mut self) {
        self.deaf = true;
        self.output.clear();
        self.pipe = None;
    }

    /// Gives the buffers of a quiet peer back.
    pub(super) fn forget_buffers(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() {
                buffers::take_back(mem::take(buffer));
            }
        }
        self.pipe.take_if(|pipe| pipe.is_empty());
    }

    /// Writes what is left and closes our direction, then waits until the peer has closed as well; at most `write` and
    /// `wait`.
    pub(super) async fn finish(&mut self, write: Duration, wait: Duration) {
        // Nobody is left who could be told of an error.
        let _ = timeout(write, poll_fn(|cx| self.poll_finish(cx))).await;
        if !self.ended {
            drain::drain(&mut self.stream, wait).await;
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A peer that waits to be read takes nothing: what it says meanwhile goes nowhere.
        self.ended = self.ended || drain::poll_drained(cx, &mut self.stream).is_ready();
        while !self.deaf && self.has_output() {
            match ready!(self.poll_write_once(cx)) {
                Ok(count @ 1..) => self.sent += count as u64,
                _ => self.hangs_up(),
            }
        }
        Pin::new(&mut self.stream).poll_shutdown(cx).map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// More than the buffers of two sockets take.
    const MUCH: usize = 32 << 20;

    async fn pair() -> (Peer, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Peer::new(Stream::Plain(one.unwrap()), BytesMut::new()), other.unwrap().0)
    }

    #[tokio::test]
    async fn a_peer_that_waits_to_be_read_gets_what_is_left_and_its_end() {
        let (mut peer, mut other) = pair().await;
        peer.say(&vec![b'x'; MUCH]);
        let begun = tokio::time::Instant::now();
        let theirs = async {
            other.write_all(&vec![b'y'; MUCH]).await.unwrap();
            let mut heard = Vec::new();
            other.read_to_end(&mut heard).await.unwrap();
            drop(other);
            heard.len()
        };
        let ((), heard) = tokio::join!(peer.finish(LONG, LONG), theirs);
        assert_eq!((heard, peer.sent), (MUCH, MUCH as u64));
        assert!(begun.elapsed() < LONG, "no patience ran out");
    }

    #[tokio::test]
    async fn a_peer_that_has_said_all_gets_what_is_left() {
        let (mut peer, mut other) = pair().await;
        peer.say(&vec![b'x'; MUCH]);
        let theirs = async {
            other.shutdown().await.unwrap();
            let mut heard = Vec::new();
            other.read_to_end(&mut heard).await.unwrap();
            heard.len()
        };
        let ((), heard) = tokio::join!(peer.finish(LONG, LONG), theirs);
        assert_eq!(heard, MUCH);
    }
}
