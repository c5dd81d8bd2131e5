//! Reading what a server says: status lines, lists and bodies.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::{Pop3Answer, Pop3Connection, Pop3Error, SILENCE_DEADLINE, printable};
use crate::wire::pop3::multiline::{Multiline, Piece};
use crate::wire::pop3::reply::{Reply, reply, without_end};

/// Octets of a line that is read whole: RFC 1939 §3 allows a server 512, and nobody comes near this.
const LINE_MAX: usize = 16 * 1024;

/// Octets read from the socket at once.
const READ_SIZE: usize = 32 * 1024;

/// How long a server may take to close the connection after QUIT.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

impl Pop3Connection {
    /// The next answer's status line.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no status line.
    pub async fn answer(&mut self) -> Result<Pop3Answer, Pop3Error> {
        let line = self.line().await?;
        let Some(reply) = reply(&line) else {
            return Err(self.server.protocol(format!("answered with `{}`", printable(&line))));
        };
        Ok(Pop3Answer::read(&line, reply))
    }

    /// The rest of a multi-line answer, line by line without line ends and stuffing.
    ///
    /// # Errors
    /// If the connection breaks, or a line is longer than we hold.
    pub async fn lines(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Pop3Error> {
        let mut line = BytesMut::new();
        let mut too_long = false;
        let mut collect = |chunk: &[u8]| {
            too_long |= line.len() + chunk.len() > LINE_MAX;
            if too_long {
                return;
            }
            line.extend_from_slice(chunk);
            if chunk.ends_with(b"\n") {
                each(without_end(&line));
                line.clear();
            }
        };
        self.body(&mut collect).await?;
        if too_long {
            return Err(self.server.protocol(format!("a line is longer than {LINE_MAX} octets")));
        }
        Ok(())
    }

    /// The rest of a multi-line answer in pieces, line ends included, without stuffing.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn body(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Pop3Error> {
        let mut multiline = Multiline::default();
        loop {
            match multiline.next(&self.input) {
                Some(Piece::Content { skip, len }) => {
                    self.input.advance(skip);
                    each(&self.input.split_to(len));
                }
                Some(Piece::End(octets)) => {
                    self.input.advance(octets);
                    return Ok(());
                }
                None => self.fill().await?,
            }
        }
    }

    pub(super) async fn greeting(&mut self) -> Result<(), Pop3Error> {
        let line = self.line().await?;
        match reply(&line) {
            Some(Reply::Ok(text)) => {
                // Dovecot offers it so to the networks it trusts, and only before anything else.
                self.xclient = text.windows(9).any(|word| word == b"[XCLIENT]");
                Ok(())
            }
            Some(Reply::Err(_)) => Err(self.server.refused("the connection", &line)),
            None => Err(self.server.protocol(format!("greeted with `{}`", printable(&line)))),
        }
    }

    /// One line without its end.
    pub(super) async fn line(&mut self) -> Result<BytesMut, Pop3Error> {
        let mut searched = 0;
        loop {
            let fresh = self.input.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|&octet| octet == b'\n') {
                let mut line = self.input.split_to(searched + at + 1);
                line.truncate(without_end(&line).len());
                return Ok(line);
            }
            searched = self.input.len();
            if searched > LINE_MAX {
                return Err(self.server.protocol(format!("a line is longer than {LINE_MAX} octets")));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Pop3Error> {
        self.input.reserve(READ_SIZE);
        match timeout(SILENCE_DEADLINE, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.server.lost("closed the connection".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.server.lost(format!("connection lost: {error}"))),
            Err(_) => Err(self.server.lost(format!("silent for {} s", SILENCE_DEADLINE.as_secs()))),
        }
    }

    /// Waits until the server has closed, a moment at most. What it still says goes nowhere.
    pub(super) async fn closed(&mut self) {
        let closed = async {
            while matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                self.input.clear();
            }
        };
        let _ = timeout(CLOSE_PATIENCE, closed).await;
    }
}
