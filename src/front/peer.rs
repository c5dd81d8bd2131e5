//! One end of a relay: a socket and what is on its way from and to it.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::drain::drain;
use crate::net::Stream;
use crate::wire::imap::tracker::CAPABILITY_LINE_MAX;

/// Octets read from a peer and not dealt with. More than the longest line that must be seen whole.
pub(super) const INPUT: usize = 2 * CAPABILITY_LINE_MAX;

/// Octets on their way to a peer; above it, the other peer is not read.
pub(super) const OUTPUT: usize = 64 * 1024;

/// Octets asked for at once of a peer that has said little lately: most sessions are in IDLE, and each of them waits
/// with two such buffers.
const SMALL_READ: usize = 1024;

/// Octets asked for at once of a peer that fills whatever is offered.
const LARGE_READ: usize = 32 * 1024;

/// One peer's socket and buffers.
pub(super) struct Peer {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    /// Read from it and not dealt with.
    pub(super) input: BytesMut,
    /// To be written to it.
    pub(super) output: BytesMut,
    /// Written and not flushed.
    unflushed: bool,
    /// It will send nothing more.
    pub(super) ended: bool,
    /// It takes nothing more.
    pub(super) deaf: bool,
    /// Octets to ask for next.
    appetite: usize,
    /// Octets that it has taken.
    pub(super) sent: u64,
}

impl Peer {
    pub(super) fn new(stream: Stream, input: BytesMut) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let output = BytesMut::new();
        Self {
            reader,
            writer,
            input,
            output,
            unflushed: false,
            ended: false,
            deaf: false,
            appetite: SMALL_READ,
            sent: 0,
        }
    }

    pub(super) fn may_be_read(&self, other: &Self) -> bool {
        !self.ended && self.input.len() < INPUT && other.output.len() < OUTPUT
    }

    pub(super) fn wants_writing(&self) -> bool {
        !self.deaf && (!self.output.is_empty() || self.unflushed)
    }

    pub(super) fn say(&mut self, octets: &[u8]) {
        if !self.deaf {
            self.output.extend_from_slice(octets);
        }
    }

    /// Reads or writes once, whatever is possible first. May be dropped at its await: nothing is lost.
    pub(super) async fn step(&mut self, read: bool) {
        let write = self.wants_writing();
        let Self { reader, writer, input, output, .. } = self;
        if read {
            input.reserve(self.appetite);
        }
        // Else it would fill whatever room there happens to be.
        let mut room = input.limit(self.appetite);
        let flushing = output.is_empty();
        let put = async { if flushing { writer.flush().await.map(|()| 0) } else { writer.write(output).await } };
        tokio::select! {
            count = reader.read_buf(&mut room), if read => match count {
                Ok(0) => self.ended = true,
                Ok(count) => self.has_sent(count),
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

    fn has_sent(&mut self, count: usize) {
        let more = count >= self.appetite;
        self.appetite = if more { self.appetite.saturating_mul(2).min(LARGE_READ) } else { SMALL_READ };
    }

    /// It takes nothing more; what it has said before that is still worth reading.
    fn hangs_up(&mut self) {
        self.deaf = true;
        self.output.clear();
    }

    /// Gives the buffers of a quiet peer back.
    pub(super) fn forget_buffers(&mut self) {
        if self.input.is_empty() && self.appetite == SMALL_READ {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Writes what is left and closes our direction, then waits until the peer has closed as well; at most `write` and
    /// `wait`.
    pub(super) async fn finish(&mut self, write: Duration, wait: Duration) {
        let Self { reader, writer, output, sent, deaf, .. } = self;
        let all = async {
            while !*deaf && !output.is_empty() {
                match writer.write(output).await {
                    Ok(count @ 1..) => {
                        output.advance(count);
                        *sent += count as u64;
                    }
                    _ => break,
                }
            }
            writer.shutdown().await
        };
        // Nobody is left who could be told of an error.
        let all = timeout(write, all);
        tokio::pin!(all);
        if !self.ended {
            // A peer that waits to be read takes nothing: what it says meanwhile goes nowhere.
            tokio::select! {
                _ = &mut all => {
                    drain(reader, wait).await;
                    return;
                }
                () = drain(reader, write) => {}
            }
        }
        let _ = all.await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
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
