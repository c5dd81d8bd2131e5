//! A client's connection before it has logged in: every wait has a deadline, and no password stays behind in memory.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zeroize::Zeroize as _;

use super::{Entry, Front, drain};
use crate::net::{ServerTls, Stream};
use crate::wire::{imap, pop3};

/// A client that has not logged in may take this long for a command: people type their password before the client connects.
pub(super) const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// All the time a client has for logging in.
pub(super) const LOGIN_DEADLINE: Duration = Duration::from_secs(180);

/// A client that takes nothing we say for this long before login is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// When the server ends, a handshake may go on this long.
const HANDSHAKE_AT_THE_END: Duration = Duration::from_secs(2);

/// All that a client may say before it has logged in. Twenty failed logins with long tokens are less.
const OCTETS_MAX: usize = 512 * 1024;

/// Octets read at once.
const READ_SIZE: usize = 4 * 1024;
const _: () = assert!(READ_SIZE <= imap::prelogin::INPUT_MAX && READ_SIZE <= pop3::prelogin::INPUT_MAX);

/// What a client hears last, in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastWords {
    pub(super) too_slow: &'static [u8],
    pub(super) too_much: &'static [u8],
    pub(super) going_down: &'static [u8],
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Something,
    /// The client went away.
    End,
    /// No more is wanted of it; these are our last words.
    Enough(&'static [u8]),
}

/// The client's side of the connection before login.
pub(super) struct Client {
    pub(super) stream: Stream,
    /// When it must have logged in.
    pub(super) login_by: Instant,
    /// When its next command must be complete.
    pub(super) command_by: Instant,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) words: LastWords,
    /// Octets that it has sent.
    pub(super) octets: usize,
}

impl Client {
    /// Greets a client that has just connected; inside TLS, that is begun first.
    pub(super) async fn accept(
        front: &Front,
        tcp: TcpStream,
        entry: Entry,
        greeting: &[u8],
        words: LastWords,
    ) -> io::Result<Self> {
        let stream = match (entry, &front.tls) {
            (Entry::Clear, _) => Stream::Plain(tcp),
            (Entry::Tls, Some(tls)) => handshake(tls, tcp, greeting, front.shutdown.clone()).await?,
            (Entry::Tls, None) => return Err(io::Error::other("no certificate for a TLS listener")),
        };
        let now = Instant::now();
        let (login_by, command_by) = (now + LOGIN_DEADLINE, now + COMMAND_DEADLINE);
        let mut client = Self { stream, login_by, command_by, shutdown: front.shutdown.clone(), words, octets: 0 };
        if entry == Entry::Clear {
            client.write(greeting).await?;
        }
        Ok(client)
    }

    pub(super) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let written = timeout(WRITE_DEADLINE, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    pub(super) async fn last_words(&mut self, words: &[u8]) -> io::Result<()> {
        self.write(words).await?;
        timeout(WRITE_DEADLINE, self.stream.shutdown()).await.unwrap_or(Ok(()))?;
        drain::drain(&mut self.stream, drain::CLIENT).await;
        Ok(())
    }

    /// A command is complete; the next one has its own time.
    pub(super) fn command_complete(&mut self) {
        self.command_by = Instant::now() + COMMAND_DEADLINE;
    }

    pub(super) async fn server_ends(&mut self) {
        // An error means that the sender is gone, which is an end too.
        let _ = self.shutdown.wait_for(|ended| *ended).await;
    }

    /// Reads once; `hear` is given what came.
    pub(super) async fn read(&mut self, hear: impl FnOnce(&[u8])) -> io::Result<Heard> {
        let deadline = self.login_by.min(self.command_by);
        if self.octets > OCTETS_MAX {
            return Ok(Heard::Enough(self.words.too_much));
        }
        let Self { stream, shutdown, words, .. } = self;
        let mut hear = Some(hear);
        // Onto the stack: what waits for a client, and later for its whole session, has no room for what it may say.
        let read = poll_fn(|cx| {
            let mut buffer = [0; READ_SIZE];
            let mut room = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
            let heard = room.filled();
            let count = heard.len();
            if let Some(hear) = hear.take_if(|_| count > 0) {
                hear(heard);
            }
            // A password may have been in it.
            buffer.zeroize();
            Poll::Ready(io::Result::Ok(count))
        });
        let read = tokio::select! {
            // In this order, or a client that always has something to say would never be too slow.
            biased;
            () = sleep_until(deadline) => return Ok(Heard::Enough(words.too_slow)),
            _ = shutdown.wait_for(|ended| *ended) => return Ok(Heard::Enough(words.going_down)),
            read = read => read,
        };
        match read? {
            0 => Ok(Heard::End),
            count => {
                self.octets = self.octets.saturating_add(count);
                Ok(Heard::Something)
            }
        }
    }

    pub(super) async fn start_tls(self, front: &Front) -> io::Result<Self> {
        let (Some(tls), Some(tcp)) = (&front.tls, self.stream.into_plain()) else {
            return Err(io::Error::other("TLS asked for on a connection that can't have it"));
        };
        let stream = handshake(tls, tcp, b"", self.shutdown.clone()).await?;
        Ok(Self { stream, ..self })
    }
}

/// Begins TLS, with first words inside it; when the server ends, only a handshake that is about to be complete still counts.
async fn handshake(
    tls: &ServerTls,
    tcp: TcpStream,
    words: &[u8],
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<Stream> {
    let ends = async {
        // An error means that the sender is gone, which is an end too.
        let _ = shutdown.wait_for(|ended| *ended).await;
        sleep(HANDSHAKE_AT_THE_END).await;
    };
    tokio::select! {
        stream = tls.accept_saying(tcp, words) => stream.map_err(io::Error::other),
        () = ends => Err(io::Error::other("the server ends in the middle of the handshake")),
    }
}
