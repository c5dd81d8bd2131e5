//! Waits for a peer to close, once we have said our last word.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Octets read at once, and thrown away.
const CHUNK: usize = 4 * 1024;

/// A client gets this long to read our last words and close. Were the connection closed at once while octets of the
/// client are still coming, its system would throw away what it has received and not read yet: our last words.
pub(super) const CLIENT: Duration = Duration::from_secs(2);

/// Reads until the peer closes or `limit` passes. What comes goes nowhere.
pub(super) async fn drain(peer: &mut (impl AsyncRead + Unpin), limit: Duration) {
    let mut chunk = vec![0; CHUNK];
    // An error is an end as well.
    let closed = async { while matches!(peer.read(&mut chunk).await, Ok(1..)) {} };
    let _ = timeout(limit, closed).await;
}
