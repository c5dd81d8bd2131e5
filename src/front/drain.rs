//! Waits for a peer to close, once we have said our last word.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::timeout;

/// Octets read at once, and thrown away.
const CHUNK: usize = 4 * 1024;

/// A client gets this long to read our last words and close. Were the connection closed at once while octets of the
/// client are still coming, its system would throw away what it has received and not read yet: our last words.
pub(super) const CLIENT: Duration = Duration::from_secs(2);

/// Reads until the peer closes or `limit` passes. What comes goes nowhere.
pub(super) async fn drain(peer: &mut (impl AsyncRead + Unpin), limit: Duration) {
    let _ = timeout(limit, poll_fn(|cx| poll_drained(cx, peer))).await;
}

/// Reads all that there is and throws it away; ready when the peer has closed.
pub(super) fn poll_drained(cx: &mut Context<'_>, peer: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
    loop {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        let read = ready!(Pin::new(&mut *peer).poll_read(cx, &mut chunk));
        // An error is an end as well.
        if read.is_err() || chunk.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
