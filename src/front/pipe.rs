//! Pipes through which octets pass from one connection in clear to another without coming to us (`splice`, Linux).
//!
//! There are only so many of them, lent while a message passes. Who gets none, or whose system has none, copies.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Pipes in all, each with two descriptors.
const PIPES: usize = 16;

/// Octets in a pipe, if the system allows so many; else it is 64 KiB.
const SIZE: usize = 256 * 1024;

static PLACES: Mutex<Places> = Mutex::new(Places { free: Vec::new(), made: 0, most: PIPES });

struct Places {
    free: Vec<Ends>,
    /// Those that are lent as well.
    made: usize,
    most: usize,
}

struct Ends {
    outlet: OwnedFd,
    inlet: OwnedFd,
}

/// A pipe, lent until it is dropped.
pub(super) struct Pipe {
    ends: Option<Ends>,
    /// Octets in it.
    held: usize,
}

impl Pipe {
    /// An empty one, if there is one.
    pub(super) fn lend() -> Option<Self> {
        let mut places = places();
        let ends = match places.free.pop() {
            _ if places.most == 0 => return None,
            Some(ends) => ends,
            None if places.made < places.most => {
                let (outlet, inlet) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
                // A smaller one does it as well.
                let _ = fcntl_setpipe_size(&inlet, SIZE);
                places.made += 1;
                Ends { outlet, inlet }
            }
            None => return None,
        };
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Whether filling one has failed because this system lets nobody do that. There will be no more of them then.
    pub(super) fn is_impossible(error: &io::Error) -> bool {
        let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied];
        let impossible = kinds.contains(&error.kind());
        if impossible {
            places().most = 0;
        }
        impossible
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes at most `count` octets of `from` into the empty pipe; gives how many, none at the end of `from`.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(Ends { inlet, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || pass(from, inlet, count.min(SIZE))) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(taken) => {
                    self.held += taken;
                    return Poll::Ready(Ok(taken));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives `to` what is in the pipe; tells how much of it was taken at once.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(Ends { outlet, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pass(outlet, to, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(given) => {
                    self.held = self.held.saturating_sub(given);
                    return Poll::Ready(Ok(given));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn pass(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, count: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, count, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut places = places();
        match self.ends.take() {
            // Nobody else may be given what is in it.
            Some(ends) if self.held == 0 => places.free.push(ends),
            _ => places.made = places.made.saturating_sub(1),
        }
    }
}

fn places() -> MutexGuard<'static, Places> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn octets_pass_and_what_is_left_in_a_pipe_is_nobodys() {
        let ((mut from, source), (target, mut to)) = (pair().await, pair().await);
        from.write_all(b"secret").await.unwrap();
        let mut pipe = Pipe::lend().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &source, 100)).await.unwrap(), 6);
        assert!(!pipe.is_empty());
        drop(pipe);
        from.write_all(b"public, and more").await.unwrap();
        let mut pipe = Pipe::lend().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &source, 6)).await.unwrap(), 6);
        assert_eq!(poll_fn(|cx| pipe.poll_drain(cx, &target)).await.unwrap(), 6);
        assert!(pipe.is_empty());
        drop(target);
        let mut heard = String::new();
        to.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "public");
    }

    #[test]
    fn there_are_only_so_many() {
        let mut pipes: Vec<Pipe> = std::iter::from_fn(Pipe::lend).take(2 * PIPES).collect();
        assert!(!pipes.is_empty() && pipes.len() <= PIPES);
        drop(pipes.pop());
        assert!(Pipe::lend().is_some());
    }
}
