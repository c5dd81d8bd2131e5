//! Connecting to a host and port, address by address, within a deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::stream::tune;

/// Addresses of one name that are tried: a name with more is no mail server, and each costs a share of the deadline.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("can't find the address of {host}: {source}; check the host name and the resolver")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name server did not answer in time.
    #[error("can't find the address of {host}: the resolver gave no answer within {deadline:?}")]
    LookupTimeout {
        /// The name.
        host: String,
        /// The whole deadline.
        deadline: Duration,
    },
    /// No address took the connection.
    #[error("can't connect to {endpoint}: {}", reasons(tried))]
    Refused {
        /// `host:port`.
        endpoint: String,
        /// Each address tried, with what happened; never empty.
        tried: Vec<(SocketAddr, io::Error)>,
    },
}

fn reasons(tried: &[(SocketAddr, io::Error)]) -> String {
    let reason = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused (nothing listens there, or a firewall says so)".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time (host down, or a firewall drops the packets)".to_owned(),
        _ => error.to_string(),
    };
    let each: Vec<String> = tried.iter().map(|(address, error)| format!("{address}: {}", reason(error))).collect();
    each.join("; ")
}

/// Connects to `host` (a name or an address) within `deadline` in all; several addresses are tried in turn, each with
/// an equal share of the time that is left.
///
/// # Errors
/// [`DialError`], which names host, port and what happened at each address.
pub async fn dial(host: &str, port: u16, deadline: Duration) -> Result<TcpStream, DialError> {
    let end = Instant::now() + deadline;
    let addresses = match timeout_at(end, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect::<Vec<_>>(),
        Ok(Err(source)) => return Err(DialError::Lookup { host: host.to_owned(), source }),
        Err(_) => return Err(DialError::LookupTimeout { host: host.to_owned(), deadline }),
    };
    if addresses.is_empty() {
        let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(DialError::Lookup { host: host.to_owned(), source });
    }
    let mut tried = Vec::new();
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let now = Instant::now();
        let share = end.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(1);
        let connected = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match connected.and_then(|tcp| tune(&tcp).map(|()| tcp)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => tried.push((address, error)),
        }
    }
    let endpoint = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Err(DialError::Refused { endpoint, tried })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::dial;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn connects_to_a_name_and_to_an_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            let tcp = dial(host, port, LONG).await.unwrap();
            assert!(tcp.nodelay().unwrap());
            assert!(socket2::SockRef::from(&tcp).keepalive().unwrap());
        }
    }

    #[tokio::test]
    async fn a_refusal_names_host_port_and_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = dial("127.0.0.1", port, LONG).await.unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        let error = dial("no.such.host.invalid", 143, LONG).await.unwrap_err().to_string();
        assert!(error.contains("no.such.host.invalid"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_host_ends_with_the_deadline() {
        // A full backlog: the kernel drops further SYNs, like a firewall.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut filling = Vec::new();
        let error = loop {
            match dial("127.0.0.1", port, Duration::from_millis(300)).await {
                Ok(tcp) => filling.push(tcp),
                Err(error) => break error.to_string(),
            }
            assert!(filling.len() < 100, "the backlog never fills");
        };
        assert!(error.contains("no answer in time"), "{error}");
    }
}
