//! Connections that are handed through octet by octet (`[[passthrough]]`): submission, ManageSieve, whatever belongs to the same
//! name but needs no proxy that understands it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument as _, error_span, info, warn};

use super::Front;
use super::relay::INACTIVITY;
use crate::config::Passthrough;
use crate::net::dial;
use crate::net::proxied::send_header;

/// How long the server may take to be reached.
const CONNECT: Duration = Duration::from_secs(20);

/// A peer that takes nothing of what is there for it for this long is gone (RFC 5321 §4.5.3.2 asks for no more patience).
const STALL: Duration = Duration::from_secs(5 * 60);

/// Once one of them has said all, so long may the other one be silent.
const HALF_CLOSED: Duration = Duration::from_secs(5 * 60);

/// Octets on their way in each direction, and only while there are some.
const CHUNK: usize = 16 * 1024;

/// Serves one client to its end.
pub(super) async fn run(front: Arc<Front>, mut tcp: TcpStream, peer: SocketAddr, route: Arc<Passthrough>) {
    let Some(ends) = front.whose(&mut tcp, peer).await else { return };
    let id = format!("{:016x}", rand::random::<u64>());
    let span = error_span!("passthrough", id, peer = %ends.client, to = %route.to);
    // Nobody logs in here: it is as good as known.
    let mut place = match front.guard.enter(ends.client.ip()) {
        Ok(place) => place,
        Err(full) => return span.in_scope(|| warn!("connection refused: {full}")),
    };
    place.known();
    let (shutdown, limit) = (front.shutdown.clone(), front.drain.limit);
    let served = async {
        let to = &route.to;
        let server = async {
            let mut server = dial(&to.host, to.port, CONNECT).await.map_err(io::Error::other)?;
            if to.proxy_protocol {
                send_header(&mut server, Some(ends)).await?;
            }
            io::Result::Ok(server)
        };
        match server.await {
            Ok(server) => {
                let passed = Passed::new();
                let why = passed.through(tcp, server, shutdown, limit).await;
                let [sent, received] =
                    [&passed.to_client, &passed.to_server].map(|count| count.load(Ordering::Relaxed));
                info!(sent, received, "ended: {why}");
            }
            Err(error) => warn!("not handed through: {error}"),
        }
    };
    served.instrument(span).await;
    drop(place);
}

/// What has passed between two peers.
struct Passed {
    to_client: AtomicU64,
    to_server: AtomicU64,
    moved: Mutex<Moved>,
}

#[derive(Clone, Copy)]
struct Moved {
    /// When an octet has moved last.
    last: Instant,
    /// One of the two has said all.
    half_closed: bool,
}

impl Passed {
    fn new() -> Self {
        let moved = Mutex::new(Moved { last: Instant::now(), half_closed: false });
        Self { to_client: AtomicU64::new(0), to_server: AtomicU64::new(0), moved }
    }

    /// Hands everything through until both have said all, one of them breaks off, or it takes too long; says which. Once the
    /// server ends, `limit` is left: nothing tells where such a connection could end without harm.
    async fn through(
        &self,
        mut client: TcpStream,
        mut server: TcpStream,
        mut shutdown: watch::Receiver<bool>,
        limit: Duration,
    ) -> &'static str {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let both = async {
            tokio::try_join!(
                self.flow(from_client, to_server, &self.to_server),
                self.flow(from_server, to_client, &self.to_client)
            )
        };
        let ends = async {
            // An error means that the sender is gone, which is an end too.
            let _ = shutdown.wait_for(|ended| *ended).await;
            sleep(limit).await;
        };
        tokio::select! {
            both = both => both.map_or_else(|why| why, |_| "both have said all"),
            () = self.silence() => "nothing happened for too long",
            () = ends => "we are ending",
        }
    }

    async fn flow(&self, from: ReadHalf<'_>, mut to: WriteHalf<'_>, count: &AtomicU64) -> Result<(), &'static str> {
        const BROKEN: &str = "one of the two broke off";
        loop {
            let chunk = read(&from).await.map_err(|_| BROKEN)?;
            if chunk.is_empty() {
                self.change(|moved| moved.half_closed = true);
                return to.shutdown().await.map_err(|_| BROKEN);
            }
            self.change(|_| {});
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                let written = match timeout(STALL, to.write(rest)).await {
                    Ok(Ok(written @ 1..)) => written,
                    Ok(_) => return Err(BROKEN),
                    Err(_) => return Err("one of the two took nothing for too long"),
                };
                rest = rest.get(written..).unwrap_or_default();
                count.fetch_add(written as u64, Ordering::Relaxed);
                self.change(|_| {});
            }
        }
    }

    fn change(&self, how: impl FnOnce(&mut Moved)) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.last = Instant::now();
        how(&mut moved);
    }

    /// Resolves when nothing has moved for too long.
    async fn silence(&self) {
        loop {
            let Moved { last, half_closed } = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            let until = last + if half_closed { HALF_CLOSED } else { INACTIVITY };
            if Instant::now() >= until {
                return;
            }
            // Half-closed in between, it is looked at again when half of that time is over at the latest.
            sleep_until(until.min(Instant::now() + HALF_CLOSED / 2)).await;
        }
    }
}

/// What there is to read; nothing at the end. A silent connection has no buffer.
async fn read(from: &ReadHalf<'_>) -> io::Result<Vec<u8>> {
    loop {
        from.readable().await?;
        let mut chunk = vec![0; CHUNK];
        match from.try_read(&mut chunk) {
            Ok(count) => {
                chunk.truncate(count);
                return Ok(chunk);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    struct Stage {
        client: TcpStream,
        server: TcpStream,
        shutdown: watch::Sender<bool>,
        ended: JoinHandle<(&'static str, u64, u64)>,
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    async fn stage() -> Stage {
        let ((client, near), (far, server)) = (pair().await, pair().await);
        let (shutdown, ends) = watch::channel(false);
        let ended = tokio::spawn(async move {
            let passed = Passed::new();
            let why = passed.through(near, far, ends, Duration::from_secs(10)).await;
            (why, passed.to_client.into_inner(), passed.to_server.into_inner())
        });
        Stage { client, server, shutdown, ended }
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let mut at = stage().await;
        at.client.write_all(b"QUIT\r\n").await.unwrap();
        at.client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        at.server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"QUIT\r\n");
        // Much more than any buffer on the way.
        let much = vec![b'x'; 8 << 20];
        let (sent, received) = (much.clone(), async {
            let mut received = Vec::new();
            at.client.read_to_end(&mut received).await.unwrap();
            received
        });
        let sending = async {
            at.server.write_all(&sent).await.unwrap();
            at.server.shutdown().await.unwrap();
        };
        let ((), received) = tokio::join!(sending, received);
        assert!(received == much);
        assert_eq!(at.ended.await.unwrap(), ("both have said all", 8 << 20, 6));
    }

    #[tokio::test]
    async fn who_breaks_off_ends_it_for_both() {
        let mut at = stage().await;
        at.client.set_zero_linger().unwrap();
        drop(at.client);
        let mut heard = Vec::new();
        let _ = at.server.read_to_end(&mut heard).await;
        assert_eq!(at.ended.await.unwrap().0, "one of the two broke off");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_borne_long_and_a_half_closed_one_shorter() {
        let at = stage().await;
        let begun = Instant::now();
        assert_eq!(at.ended.await.unwrap().0, "nothing happened for too long");
        assert!(begun.elapsed() >= INACTIVITY && begun.elapsed() < INACTIVITY * 2);
        let mut at = stage().await;
        at.client.shutdown().await.unwrap();
        let begun = Instant::now();
        assert_eq!(at.server.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(at.ended.await.unwrap().0, "nothing happened for too long");
        assert!(begun.elapsed() < HALF_CLOSED * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_waited_for_for_ever() {
        let at = stage().await;
        let Stage { client: _client, mut server, ended, .. } = at;
        let sending = tokio::spawn(async move {
            let much = vec![b'x'; 1 << 20];
            let mut sent = 0;
            while let Ok(count) = server.write(&much).await {
                sent += count;
            }
            sent
        });
        let (why, to_client, _) = ended.await.unwrap();
        assert_eq!(why, "one of the two took nothing for too long");
        let held = sending.await.unwrap() as u64 - to_client;
        assert!(held < 64 << 20, "{held} octets were taken in for it");
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_server_ends_what_goes_on_may_go_on_for_a_while() {
        let mut at = stage().await;
        at.shutdown.send(true).unwrap();
        let begun = Instant::now();
        at.client.write_all(b"x").await.unwrap();
        assert_eq!(at.server.read(&mut [0; 8]).await.unwrap(), 1);
        assert_eq!(at.ended.await.unwrap(), ("we are ending", 0, 1));
        assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}
