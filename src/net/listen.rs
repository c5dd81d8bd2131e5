//! Listening: sockets, a bound on connections, and an accept that survives a shortage of descriptors.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stream::tune;

/// Connections that wait in the kernel between two accepts: a reconnect storm after a restart arrives in one second.
const BACKLOG: i32 = 1024;
/// First wait after a failed accept, then doubled: descriptors come back when sessions end.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest wait: a client sees it as a slow greeting.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {}", advice(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another process listens there already (see `ss -ltnp`)".to_owned(),
        ErrorKind::PermissionDenied => {
            format!("{error}; ports below 1024 need root or CAP_NET_BIND_SERVICE")
        }
        ErrorKind::AddrNotAvailable => "this machine doesn't have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// Listens on `address`. `[::]` takes IPv4 clients as well, where the system allows it.
///
/// # Errors
/// What the system says; see [`bind_all`] for one that explains it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_socket(address, false)
}

/// Listens on every address of `addresses`, in their order. `[::]:N` leaves IPv4 alone if `0.0.0.0:N` is listed too.
///
/// # Errors
/// [`BindError`] for the first address that fails; those before it are closed again.
pub fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let only_v6 = |address: &SocketAddr| {
        let twin = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
        address.is_ipv6() && address.ip().is_unspecified() && addresses.contains(&twin)
    };
    let listen = |address: &SocketAddr| {
        bind_socket(*address, only_v6(address)).map_err(|source| BindError { address: *address, source })
    };
    addresses.iter().map(listen).collect()
}

fn bind_socket(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else a restart would have to wait until the old sessions' sockets have left TIME_WAIT.
    socket.set_reuse_address(true)?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The places for client connections, shared by all listeners.
#[derive(Clone, Debug)]
pub struct ConnectionSlots {
    free: Arc<Semaphore>,
    limit: usize,
}

impl ConnectionSlots {
    /// `limit` places (`[limits] connections`).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit }
    }

    /// A place, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<ConnectionSlot> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| ConnectionSlot { _permit: permit })
    }

    /// Places taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }
}

/// A place taken; free again when dropped. Keep it as long as the connection.
#[derive(Debug)]
pub struct ConnectionSlot {
    _permit: OwnedSemaphorePermit,
}

/// A client's connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, with TCP_NODELAY and keepalive set.
    pub tcp: TcpStream,
    /// The client's address.
    pub peer: SocketAddr,
    /// Its place.
    pub slot: ConnectionSlot,
}

/// A listener that hands out connections while there are places.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    slots: ConnectionSlots,
    refusal: &'static [u8],
}

impl Acceptor {
    /// `refusal` is told to a client for whom there is no place; empty where nothing can be said (inside TLS).
    #[must_use]
    pub fn new(listener: TcpListener, slots: ConnectionSlots, refusal: &'static [u8]) -> Self {
        // Once here, and not four calls for each client: Linux hands them on.
        if let Err(error) = tune(&listener) {
            tracing::warn!(%error, "a listener can't be set up: small answers may be late, and dead clients stay longer");
        }
        Self { listener, slots, refusal }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next client. Never fails: a shortage of descriptors or memory is waited out, and a client for whom there
    /// is no place is told so and closed. May be dropped at any await without losing a client.
    pub async fn next(&self) -> Accepted {
        let mut pause = FIRST_PAUSE;
        loop {
            let (tcp, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                // That client gave up while it waited; the next one may be fine.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "can't accept a connection: waiting (too few file descriptors?)");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            pause = FIRST_PAUSE;
            let Some(slot) = self.slots.take() else {
                tracing::warn!(%peer, limit = self.slots.limit, "connection refused: limits.connections is reached");
                // The send buffer of a fresh connection has room for a line, so there is nothing to wait for.
                let _ = tcp.try_write(self.refusal);
                continue;
            };
            return Accepted { tcp, peer, slot };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::{Acceptor, ConnectionSlots, bind, bind_all};

    #[tokio::test]
    async fn above_the_limit_a_client_is_told_and_closed() {
        let slots = ConnectionSlots::new(1);
        let acceptor = Acceptor::new(bind("127.0.0.1:0".parse().unwrap()).unwrap(), slots.clone(), b"* BYE full\r\n");
        let address = acceptor.local_addr().unwrap();

        let mut first = TcpStream::connect(address).await.unwrap();
        let accepted = acceptor.next().await;
        assert_eq!(accepted.peer, first.local_addr().unwrap());
        assert!(accepted.tcp.nodelay().unwrap());
        assert!(socket2::SockRef::from(&accepted.tcp).keepalive().unwrap());
        assert_eq!(slots.taken(), 1);

        let mut second = TcpStream::connect(address).await.unwrap();
        let mut told = String::new();
        tokio::select! {
            _ = acceptor.next() => unreachable!("there is no place"),
            read = second.read_to_string(&mut told) => { read.unwrap(); }
        }
        assert_eq!(told, "* BYE full\r\n");

        drop(accepted);
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(slots.taken(), 0);
        let third = TcpStream::connect(address).await.unwrap();
        assert_eq!(acceptor.next().await.peer, third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind_all(&[address]).unwrap_err().to_string();
        assert_eq!(error, format!("can't listen on {address}: another process listens there already (see `ss -ltnp`)"));
    }

    #[tokio::test]
    async fn both_families_can_be_listed_with_one_port() {
        if bind("[::]:0".parse().unwrap()).is_err() {
            return; // a machine without IPv6
        }
        let port = bind("0.0.0.0:0".parse().unwrap()).unwrap().local_addr().unwrap().port();
        let (v4, v6) = (format!("0.0.0.0:{port}").parse().unwrap(), format!("[::]:{port}").parse().unwrap());
        let listeners = bind_all(&[v6, v4]).unwrap();
        assert_eq!(listeners.len(), 2);
    }
}
