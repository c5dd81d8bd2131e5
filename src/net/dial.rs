//! Connecting to a host and port within a deadline. A name may have several addresses, of both families: they are tried one
//! soon after the other, and whichever answers first is taken (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::breaker::Resting;
use super::stream::tune;

/// Addresses of one name that are tried: a name with more is no mail server.
const MAX_ADDRESSES: usize = 8;

/// How long an address has for itself before the next one is tried besides it (RFC 8305 §5, Connection Attempt Delay).
const HEAD_START: Duration = Duration::from_millis(250);

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
    /// It is left alone for now.
    #[error("{endpoint}: {source}")]
    Resting {
        /// `host:port`.
        endpoint: String,
        /// Why.
        source: Resting,
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

/// Connects to `host` (a name or an address) within `deadline` in all.
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
    let connected = match addresses.as_slice() {
        [address] => connect(*address, end).await.map_err(|error| vec![(*address, error)]),
        _ => first_of(by_turns(addresses), end).await,
    };
    connected.map_err(|tried| {
        let endpoint = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        DialError::Refused { endpoint, tried }
    })
}

async fn connect(address: SocketAddr, end: Instant) -> io::Result<TcpStream> {
    let tcp = timeout_at(end, TcpStream::connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    tune(&tcp)?;
    Ok(tcp)
}

/// The resolver's order, but so that the families take turns: where one of them leads nowhere, the second address is of the
/// other (RFC 8305 §4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, theirs): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return ordered,
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
}

/// The first connection to one of `addresses`, or what happened at each of them.
async fn first_of(addresses: Vec<SocketAddr>, end: Instant) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut left = VecDeque::from(addresses);
    // Those that are under way when one has answered end with the set.
    let mut going = JoinSet::new();
    let mut tried = Vec::new();
    loop {
        if let Some(address) = left.pop_front() {
            going.spawn(async move { (address, connect(address, end).await) });
        }
        let next = Instant::now() + HEAD_START;
        loop {
            let done = tokio::select! {
                done = going.join_next() => done,
                () = sleep_until(next), if !left.is_empty() => break,
            };
            match done {
                Some(Ok((_, Ok(tcp)))) => return Ok(tcp),
                Some(Ok((address, Err(error)))) => {
                    tried.push((address, error));
                    break;
                }
                Some(Err(_)) => {}
                None if left.is_empty() => return Err(tried),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::{by_turns, dial, first_of};
    use std::io;
    use std::net::SocketAddr;
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    /// A listener whose backlog is full: the kernel drops further SYNs, like a firewall. And what fills it.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(tcp) = dial("127.0.0.1", address.port(), Duration::from_millis(300)).await {
            filling.push(tcp);
            assert!(filling.len() < 100, "the backlog never fills");
        }
        (address, listener, filling)
    }

    async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_families_take_turns() {
        let order = |all: &[&str]| {
            by_turns(all.iter().map(|address| address.parse().unwrap()).collect())
                .iter()
                .map(|address| address.ip().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
            ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
        );
        assert_eq!(order(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]), ["1.1.1.1", "::1", "2.2.2.2"]);
        assert_eq!(order(&["1.1.1.1:1", "2.2.2.2:1"]), ["1.1.1.1", "2.2.2.2"]);
    }

    #[tokio::test]
    async fn one_that_is_silent_keeps_nobody_from_the_next() {
        let (silent, _listener, _filling) = silent().await;
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = live.local_addr().unwrap();
        // Whoever waits for the first one, or for a share of the time, waits here until the run is ended.
        let end = Instant::now() + Duration::from_secs(24 * 3600);
        let tcp = first_of(vec![silent, nobody().await, there], end).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), there);
    }

    #[tokio::test]
    async fn where_none_answers_each_is_named_with_what_happened() {
        let (silent, _listener, _filling) = silent().await;
        let (one, other) = (nobody().await, nobody().await);
        let tried = first_of(vec![one, silent, other], Instant::now() + Duration::from_secs(2)).await.unwrap_err();
        let mut kinds: Vec<_> = tried.iter().map(|(address, error)| (*address, error.kind())).collect();
        kinds.sort_by_key(|(address, _)| [one, silent, other].iter().position(|known| known == address));
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(kinds, [(one, refused), (silent, io::ErrorKind::TimedOut), (other, refused)]);
    }

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
        let (silent, _listener, _filling) = silent().await;
        let error = dial("127.0.0.1", silent.port(), Duration::from_millis(300)).await.unwrap_err().to_string();
        assert!(error.contains("no answer in time"), "{error}");
    }
}
