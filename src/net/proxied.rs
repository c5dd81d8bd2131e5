//! Who a client is, told by the proxy in front of us; and told to the server behind us.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::proxy::{self, Ends, ProxyError, Step};

/// A proxy sends its header with the connection; what takes longer is none.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why nobody knows who the client is.
#[derive(Debug, thiserror::Error)]
pub enum ProxiedError {
    /// It sent something else.
    #[error("{0}; listen.proxy_protocol says that this network sends one with every connection")]
    Header(#[from] ProxyError),
    /// It sent nothing, or not all of it.
    #[error("no PROXY header within {} s; listen.proxy_protocol says that this network sends one with every connection", DEADLINE.as_secs())]
    Slow,
    /// The connection broke.
    #[error("the connection ended in the PROXY header: {0}")]
    Lost(#[from] io::Error),
}

/// Reads the header that a connection begins with, and not one octet of what follows.
///
/// # Errors
/// [`ProxiedError`] if there is none. Nothing may be said to the client then.
pub async fn read_header(tcp: &mut TcpStream) -> Result<Option<Ends>, ProxiedError> {
    let header = async {
        let mut octets = Vec::with_capacity(proxy::LINE_MAX);
        loop {
            match proxy::read(&octets)? {
                Step::Done(ends) => return Ok(ends),
                Step::Need(more) => {
                    let have = octets.len();
                    octets.resize(have + more, 0);
                    tcp.read_exact(octets.get_mut(have..).unwrap_or_default()).await?;
                }
            }
        }
    };
    timeout(DEADLINE, header).await.unwrap_or(Err(ProxiedError::Slow))
}

/// Tells the server at the other end of a new connection who the client is; nobody, for a connection of our own.
///
/// # Errors
/// If the connection breaks, or takes no header for too long.
pub async fn send_header(tcp: &mut TcpStream, ends: Option<Ends>) -> io::Result<()> {
    let header = proxy::write(ends);
    timeout(DEADLINE, tcp.write_all(&header)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left_for_whoever_reads_next() {
        let ends = Ends { client: "192.0.2.7:1".parse().unwrap(), server: "192.0.2.1:143".parse().unwrap() };
        let (mut near, mut far) = pair().await;
        send_header(&mut near, Some(ends)).await.unwrap();
        near.write_all(b"a1 NOOP\r\n").await.unwrap();
        assert_eq!(read_header(&mut far).await.unwrap(), Some(ends));
        let mut rest = [0; 9];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"a1 NOOP\r\n");
    }

    #[tokio::test]
    async fn a_header_in_pieces_is_waited_for_and_not_for_ever() {
        let (mut near, mut far) = pair().await;
        let reading = tokio::spawn(async move { read_header(&mut far).await });
        for octet in b"PROXY TCP4 192.0.2.7 192.0.2.1 1 143\r\n" {
            near.write_all(&[*octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(reading.await.unwrap().unwrap().is_some());

        tokio::time::pause();
        let (mut near, mut far) = pair().await;
        near.write_all(b"PROXY TCP4 192.").await.unwrap();
        assert!(matches!(read_header(&mut far).await, Err(ProxiedError::Slow)));
        drop(near);
        let (near, mut far) = pair().await;
        drop(near);
        assert!(matches!(read_header(&mut far).await, Err(ProxiedError::Lost(_))));
    }
}
