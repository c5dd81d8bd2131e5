//! The connection under a dsync session: both directions move at the same time, each wait has a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Reason;
use crate::net::{ClientTls, Stream};
use crate::wire::dsync::Role;
use crate::wire::dsync::doveadm::{self, Channels, LogLine, Login, LoginError, Progress};
use crate::wire::dsync::error::MasterError;

/// Octets read at once.
const READ: usize = 16 << 10;

/// Octets collected before they are written: enough to fill packets, far below what a message may have.
const WRITE: usize = 64 << 10;

/// How long the rest of a broken session is read: the slave's reason comes in it.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Octets of last words.
const LAST_WORDS_MAX: usize = 1 << 20;

/// The connection of one session, in which we have the role `R`. Dropping it closes it without waiting.
#[derive(Debug)]
pub struct Link<R> {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    channels: Channels,
    role: R,
    idle: Duration,
    chunk: Box<[u8]>,
    output: Vec<u8>,
}

const LOGIN: &str = "logging in to the doveadm service";

/// Logs in over a fresh connection; `tls` is what to start, with which host, if `login` wants TLS.
pub(super) async fn login(
    mut stream: Stream,
    mut login: Login,
    tls: Option<(&ClientTls, &str)>,
    idle: Duration,
) -> Result<(Stream, bool, Vec<u8>), Reason> {
    send(&mut stream, doveadm::HELLO, idle).await?;
    let mut chunk = [0; 1024];
    let mut got = 0;
    loop {
        match login.input(chunk.get(..got).unwrap_or_default())? {
            Progress::NeedMore => {}
            Progress::Send(bytes) => {
                send(&mut stream, &bytes, idle).await?;
                // The answer may already be in the machine's hands.
                got = 0;
                continue;
            }
            Progress::StartTls => {
                send(&mut stream, doveadm::STARTTLS, idle).await?;
                let (Some((tls, host)), Some(tcp)) = (tls, stream.into_plain()) else {
                    return Err(Reason::Login(LoginError::BeforeTls));
                };
                stream = tls.connect(tcp, host).await.map_err(Reason::StartTls)?;
                send(&mut stream, &login.encrypted(), idle).await?;
            }
            Progress::Done { multiplexed, rest } => return Ok((stream, multiplexed, rest)),
        }
        let silent = |_| Reason::Silent { state: LOGIN, idle };
        got = timeout(idle, stream.read(&mut chunk)).await.map_err(silent)?.map_err(io)?;
        if got == 0 {
            return Err(Reason::Closed { state: LOGIN });
        }
    }
}

fn io(error: std::io::Error) -> Reason {
    Reason::Io { state: LOGIN, error }
}

async fn send(stream: &mut Stream, bytes: &[u8], idle: Duration) -> Result<(), Reason> {
    let sent = timeout(idle, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    });
    sent.await.map_err(|_| Reason::Stalled { state: LOGIN, idle })?.map_err(io)
}

impl<R: Role> Link<R> {
    pub(super) fn new(stream: Stream, multiplexed: bool, role: R, idle: Duration) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            channels: Channels::new(multiplexed),
            role,
            idle,
            chunk: vec![0; READ].into_boxed_slice(),
            output: Vec::new(),
        }
    }

    /// Our role.
    pub const fn role(&self) -> &R {
        &self.role
    }

    /// Our role, to say something in it.
    pub const fn role_mut(&mut self) -> &mut R {
        &mut self.role
    }

    /// Takes bytes that came in.
    pub(super) fn ingest(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.output.clear();
        self.channels.input(bytes, &mut self.output);
        Ok(self.role.input(&self.output)?)
    }

    fn ingest_chunk(&mut self, got: usize) -> Result<(), Reason> {
        if got == 0 {
            return Err(self.closed());
        }
        self.output.clear();
        self.channels.input(self.chunk.get(..got).unwrap_or_default(), &mut self.output);
        Ok(self.role.input(&self.output)?)
    }

    fn closed(&self) -> Reason {
        if self.role.unanswered() { Reason::Forbidden } else { Reason::Closed { state: self.role.state() } }
    }

    fn io(&self, error: std::io::Error) -> Reason {
        Reason::Io { state: self.role.state(), error }
    }

    /// Writes when enough has been collected.
    ///
    /// # Errors
    /// [`Reason`].
    pub async fn relieve(&mut self) -> Result<(), Reason> {
        if self.role.pending() < WRITE { Ok(()) } else { self.flush().await }
    }

    /// Writes everything that waits, and reads what comes meanwhile: a slave whose own writing is stuck would stop
    /// reading, and both would wait for ever.
    ///
    /// # Errors
    /// [`Reason`].
    pub async fn flush(&mut self) -> Result<(), Reason> {
        while self.role.pending() > 0 {
            let bytes = self.role.take_output();
            self.write(&bytes).await?;
        }
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        let mut deadline = Instant::now() + self.idle;
        while !bytes.is_empty() {
            let step = async {
                tokio::select! {
                    // What the slave said before it hung up must be read before our write meets the closed socket.
                    biased;
                    got = self.reader.read(&mut self.chunk) => Step::Read(got),
                    written = self.writer.write(bytes) => Step::Written(written),
                }
            };
            match timeout_at(deadline, step).await {
                Err(_) => return Err(Reason::Stalled { state: self.role.state(), idle: self.idle }),
                Ok(Step::Written(Ok(0))) => return Err(self.closed()),
                Ok(Step::Written(Ok(count))) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    deadline = Instant::now() + self.idle;
                }
                Ok(Step::Read(Ok(got))) => self.ingest_chunk(got)?,
                Ok(Step::Written(Err(error)) | Step::Read(Err(error))) => return Err(self.io(error)),
            }
        }
        let flushed = timeout(self.idle, self.writer.flush()).await;
        flushed
            .map_err(|_| Reason::Stalled { state: self.role.state(), idle: self.idle })?
            .map_err(|error| self.io(error))
    }

    /// Waits for the next thing that the slave does.
    ///
    /// # Errors
    /// [`Reason`].
    pub async fn event(&mut self) -> Result<R::Event, Reason> {
        loop {
            if let Some(event) = self.role.poll() {
                return Ok(event);
            }
            if self.role.pending() > 0 {
                self.flush().await?;
                continue;
            }
            let got = match timeout(self.idle, self.reader.read(&mut self.chunk)).await {
                Err(_) => return Err(Reason::Silent { state: self.role.state(), idle: self.idle }),
                Ok(Err(error)) => return Err(self.io(error)),
                Ok(Ok(got)) => got,
            };
            self.ingest_chunk(got)?;
        }
    }

    /// Closes our direction and waits until the slave has closed its own, so that it writes nothing any more; its last
    /// log lines are kept. What it says otherwise doesn't matter any more.
    pub async fn close(&mut self, patience: Duration) {
        let _ = timeout(LAST_WORDS, self.writer.shutdown()).await;
        let deadline = Instant::now() + patience;
        let mut total = 0;
        while total < LAST_WORDS_MAX {
            match timeout_at(deadline, self.reader.read(&mut self.chunk)).await {
                Ok(Ok(got)) if got > 0 => {
                    total += got;
                    self.output.clear();
                    self.channels.input(self.chunk.get(..got).unwrap_or_default(), &mut self.output);
                }
                _ => return,
            }
        }
    }

    /// The log lines so far, after the last words of a session that failed for `reason`. If the slave told its failure behind
    /// the one that we noticed (our write broke, its reason was still on the way), its own words are the better reason.
    pub async fn last_words(&mut self, mut reason: Option<Reason>) -> (Option<Reason>, Vec<LogLine>) {
        let deadline = Instant::now() + LAST_WORDS.min(self.idle);
        let mut total = 0;
        let _ = timeout_at(deadline, self.writer.shutdown()).await;
        while total < LAST_WORDS_MAX {
            match timeout_at(deadline, self.reader.read(&mut self.chunk)).await {
                Ok(Ok(got)) if got > 0 => {
                    total += got;
                    if let Err(told) = self.ingest_chunk(got)
                        && matches!(reason, Some(Reason::Io { .. }))
                        && matches!(told, Reason::Peer(MasterError::Failed { .. } | MasterError::GaveUp(_)))
                    {
                        reason = Some(told);
                    }
                }
                _ => break,
            }
        }
        (reason, self.channels.take_log())
    }

    /// The last log lines of the server.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.channels.take_log()
    }
}

enum Step {
    Written(std::io::Result<usize>),
    Read(std::io::Result<usize>),
}
