//! The doveadm service: logging in, and telling the command's output from the server's log lines
//! (dsync reference §2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{escape, quoted};

/// The longest line that a greeting or an answer to `PLAIN` may be: real ones have under 40 bytes.
const MAX_LINE: usize = 1024;

/// Lines before the answer is decided: `VERSION` before or after it (2.2.33 sent it after), and the answer.
const MAX_LINES: usize = 4;

/// Log lines kept for an error message: the reason is in the last few.
const MAX_LOG_LINES: usize = 32;

/// Octets kept of one log line: a Dovecot's own limit is in the thousands, a reason fits in this.
const MAX_LOG_LINE: usize = 1024;

/// The first line that a client sends. Minor 2 gives the server's log lines on a channel of their own.
pub const HELLO: &[u8] = b"VERSION\tdoveadm-server\t1\t2\n";

/// Asks for TLS, in the place of the password; servers know it from 2.3.9 on.
pub const STARTTLS: &[u8] = b"STARTTLS\n";

/// Why there is no doveadm session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Not a doveadm service at all.
    #[error(
        "the peer is not a doveadm service, it said {0:?}: check that the port is the inet_listener of service doveadm"
    )]
    NotDoveadm(String),
    /// The server let us in before TLS was asked for: whoever says that is not to be believed.
    #[error("the peer claims that we are logged in before TLS has begun; nothing is sent to it in clear text")]
    BeforeTls,
    /// The password was refused.
    #[error("the doveadm password was refused: it must equal doveadm_password there")]
    Password,
}

/// What [`Login::input`] wants next.
#[derive(Debug)]
pub enum Progress {
    /// More bytes.
    NeedMore,
    /// These bytes be sent; they contain the password.
    Send(Zeroizing<Vec<u8>>),
    /// [`STARTTLS`] be sent, and TLS begun at once: the server answers with its handshake. Then [`Login::encrypted`].
    StartTls,
    /// Nothing more: authenticated.
    Done {
        /// Whether what follows is in packets, [`Channels`].
        multiplexed: bool,
        /// What came behind the answer.
        rest: Vec<u8>,
    },
}

/// The client's part from the greeting to the answer of `PLAIN`.
#[derive(Debug)]
pub struct Login {
    password: Option<SecretString>,
    buffer: Vec<u8>,
    lines: usize,
    multiplexed: bool,
    starttls: bool,
}

impl Login {
    /// A login that has sent [`HELLO`] and nothing else.
    #[must_use]
    pub fn new(password: SecretString) -> Self {
        Self { password: Some(password), buffer: Vec::new(), lines: 0, multiplexed: false, starttls: false }
    }

    /// The same, but the password is given only inside TLS, which is asked for first.
    #[must_use]
    pub fn starttls(password: SecretString) -> Self {
        Self { starttls: true, ..Self::new(password) }
    }

    /// TLS has begun: what to send now. What came in clear text behind the greeting could have been put there by anybody
    /// and is forgotten.
    pub fn encrypted(&mut self) -> Zeroizing<Vec<u8>> {
        self.starttls = false;
        self.buffer.clear();
        self.password.take().map(|password| plain(&password)).unwrap_or_default()
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// [`LoginError`] if the server is something else, or refuses the password.
    pub fn input(&mut self, bytes: &[u8]) -> Result<Progress, LoginError> {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            line.pop();
            if let Some(progress) = self.line(&line)? {
                return Ok(progress);
            }
        }
        if self.buffer.len() > MAX_LINE {
            return Err(LoginError::NotDoveadm(quoted(&self.buffer)));
        }
        Ok(Progress::NeedMore)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Progress>, LoginError> {
        self.lines += 1;
        if self.lines > MAX_LINES || line.len() > MAX_LINE {
            return Err(LoginError::NotDoveadm(quoted(line)));
        }
        if let Some(version) = line.strip_prefix(b"VERSION\tdoveadm-client\t") {
            let mut numbers = version.split(|&byte| byte == b'\t');
            if numbers.next() != Some(b"1") {
                return Err(LoginError::NotDoveadm(quoted(line)));
            }
            self.multiplexed = numbers.next().is_some_and(|minor| minor != b"0");
            return Ok(None);
        }
        if self.starttls {
            return match line {
                b"-" => Ok(Some(Progress::StartTls)),
                b"+" => Err(LoginError::BeforeTls),
                other => Err(LoginError::NotDoveadm(quoted(other))),
            };
        }
        match (line, self.password.take()) {
            (b"-", Some(password)) => Ok(Some(Progress::Send(plain(&password)))),
            (b"-", None) => Err(LoginError::Password),
            (b"+", _) => {
                Ok(Some(Progress::Done { multiplexed: self.multiplexed, rest: std::mem::take(&mut self.buffer) }))
            }
            (other, _) => Err(LoginError::NotDoveadm(quoted(other))),
        }
    }
}

/// `PLAIN` with the user that is always called `doveadm`.
fn plain(password: &SecretString) -> Zeroizing<Vec<u8>> {
    let message = Zeroizing::new(["\0doveadm\0", password.expose_secret()].concat());
    let encoded = Zeroizing::new(STANDARD.encode(message.as_bytes()));
    Zeroizing::new([b"PLAIN\t", encoded.as_bytes(), b"\n"].concat())
}

/// The command line that starts dsync for `user`. `idle` is the time in seconds without any byte after which the slave
/// gives up (its default is 600, and it counts while we wait for somebody else).
#[must_use]
pub fn dsync_server(user: &str, idle: u64) -> Vec<u8> {
    let mut out = b"\t".to_vec();
    escape::escape(user.as_bytes(), &mut out);
    out.extend_from_slice(b"\tdsync-server\t-u");
    escape::escape(user.as_bytes(), &mut out);
    out.extend_from_slice(format!("\t-T\t{idle}\n").as_bytes());
    out
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 1, and everything unknown.
    Debug,
    /// 2.
    Info,
    /// 3.
    Warning,
    /// 4, fatal and panic too.
    Error,
}

/// A line of the server's log, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: Level,
    /// The text without control characters.
    pub text: String,
}

/// What a server's log says beside an error of ours; nothing if it says nothing grave.
#[must_use]
pub fn said(log: &[LogLine]) -> String {
    let told = |line: &&LogLine| line.level >= Level::Warning && !line.text.contains("Raw backtrace: ");
    let lines: Vec<&str> = log.iter().filter(told).map(|line| line.text.as_str()).collect();
    if lines.is_empty() { String::new() } else { format!("; the log there says: {}", lines.join(" ")) }
}

/// Whether a server's log says that there is no room for what it was to write: its own words for a full quota, or the system's for
/// a full disk.
#[must_use]
pub fn is_out_of_room(log: &[LogLine]) -> bool {
    const WORDS: [&str; 4] =
        ["Not enough disk quota", "Quota exceeded", "Disk quota exceeded", "No space left on device"];
    log.iter().any(|line| line.level >= Level::Warning && WORDS.iter().any(|words| line.text.contains(words)))
}

/// Separates the packets that a server sends after the authentication: channel 0 is the command's output, channel `L`
/// its log. Any split of the bytes gives the same.
#[derive(Debug)]
pub struct Channels {
    multiplexed: bool,
    header: Vec<u8>,
    channel: u8,
    left: usize,
    logging: Vec<u8>,
    log: Vec<LogLine>,
}

const OUTPUT: u8 = 0;
const LOG: u8 = b'L';
const HEADER: usize = 5;

impl Channels {
    /// Of a connection that has just been authenticated.
    #[must_use]
    pub fn new(multiplexed: bool) -> Self {
        Self { multiplexed, header: Vec::new(), channel: OUTPUT, left: 0, logging: Vec::new(), log: Vec::new() }
    }

    /// Takes bytes from the server and appends the command's output to `out`. A packet is never held back as a whole,
    /// so its announced length costs no memory; channels that we don't know are skipped.
    pub fn input(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        if !self.multiplexed {
            out.extend_from_slice(bytes);
            return;
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(head);
                bytes = rest;
                if let [channel, length @ ..] = self.header.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.channel = *channel;
                    self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                    self.header.clear();
                }
                continue;
            }
            let (data, rest) = bytes.split_at(bytes.len().min(self.left));
            bytes = rest;
            self.left -= data.len();
            match self.channel {
                OUTPUT => out.extend_from_slice(data),
                LOG => self.log_data(data),
                _ => {}
            }
        }
    }

    fn log_data(&mut self, data: &[u8]) {
        let room = (MAX_LOG_LINE + 1).saturating_sub(self.logging.len());
        self.logging.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
        if self.left > 0 {
            return;
        }
        let packet = std::mem::take(&mut self.logging);
        let Some((&level, text)) = packet.split_first() else { return };
        let level = match level {
            2 => Level::Info,
            3 => Level::Warning,
            4..=6 => Level::Error,
            _ => Level::Debug,
        };
        let text: String =
            String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.log.len() >= MAX_LOG_LINES {
            self.log.remove(0);
        }
        self.log.push(LogLine { level, text: text.trim_end().to_owned() });
    }

    /// The last log lines since they were taken, oldest first.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn login() -> Login {
        Login::new(SecretString::from("supersecret"))
    }

    #[test]
    fn a_log_that_tells_of_no_room_is_understood_and_shown_without_backtraces() {
        let line = |level, text: &str| LogLine { level, text: text.to_owned() };
        for text in [
            "doveadm(u1)<7><s>: Mailbox INBOX: Saving failed: Not enough disk quota",
            "write() failed for file /mail/u1/storage/m.1: No space left on device",
        ] {
            assert!(is_out_of_room(&[line(Level::Info, "x"), line(Level::Error, text)]), "{text}");
            assert!(!is_out_of_room(&[line(Level::Debug, text)]), "{text}");
        }
        let log =
            [line(Level::Error, "u1: Raw backtrace: #0 t_askpass[0x7f]"), line(Level::Error, "Permission denied")];
        assert!(!is_out_of_room(&log));
        assert_eq!(said(&log), "; the log there says: Permission denied");
    }

    #[test]
    fn a_login_as_recorded() {
        let mut login = login();
        assert!(matches!(login.input(b"VERSION\tdoveadm-client\t1\t2\n"), Ok(Progress::NeedMore)));
        let Ok(Progress::Send(bytes)) = login.input(b"-\n") else { panic!() };
        assert_eq!(bytes.as_slice(), b"PLAIN\tAGRvdmVhZG0Ac3VwZXJzZWNyZXQ=\n");
        let Ok(Progress::Done { multiplexed, rest }) = login.input(b"+\n\0\0") else { panic!() };
        assert!(multiplexed);
        assert_eq!(rest, b"\0\0");
    }

    #[test]
    fn a_version_behind_the_greeting_and_none_at_all() {
        let mut late = login();
        assert!(matches!(late.input(b"-\n"), Ok(Progress::Send(_))));
        assert!(matches!(
            late.input(b"VERSION\tdoveadm-client\t1\t1\n+\n"),
            Ok(Progress::Done { multiplexed: true, .. })
        ));
        let mut old = login();
        assert!(matches!(old.input(b"-\n"), Ok(Progress::Send(_))));
        assert!(matches!(old.input(b"+\n"), Ok(Progress::Done { multiplexed: false, .. })));
    }

    #[test]
    fn refusals_and_strangers() {
        let mut wrong = login();
        wrong.input(b"-\n").unwrap();
        assert_eq!(wrong.input(b"-\n").unwrap_err(), LoginError::Password);
        let greeting = b"* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n";
        let LoginError::NotDoveadm(said) = login().input(greeting).unwrap_err() else { panic!() };
        assert!(said.starts_with("* OK"));
        assert!(login().input(&[b'x'; 4096]).is_err(), "a line without end");
        let mut endless = login();
        assert!(endless.input(&b"VERSION\tdoveadm-client\t1\t2\n".repeat(9)).is_err());
        assert!(!format!("{:?}", self::login()).contains("supersecret"));
    }

    #[test]
    fn with_starttls_the_password_waits_for_tls() {
        let mut login = Login::starttls(SecretString::from("supersecret"));
        // What stands behind the greeting is not from inside TLS.
        assert!(matches!(login.input(b"VERSION\tdoveadm-client\t1\t2\n-\n+\nevil"), Ok(Progress::StartTls)));
        assert_eq!(login.encrypted().as_slice(), b"PLAIN\tAGRvdmVhZG0Ac3VwZXJzZWNyZXQ=\n");
        assert!(matches!(login.input(b""), Ok(Progress::NeedMore)));
        let Ok(Progress::Done { multiplexed, rest }) = login.input(b"+\n") else { panic!() };
        assert!(multiplexed && rest.is_empty());
        let mut early = Login::starttls(SecretString::from("supersecret"));
        assert_eq!(early.input(b"+\n").unwrap_err(), LoginError::BeforeTls);
        let mut other = Login::starttls(SecretString::from("supersecret"));
        assert!(matches!(other.input(b"* OK\n"), Err(LoginError::NotDoveadm(_))));
    }

    #[test]
    fn the_command_line_escapes_the_user() {
        assert_eq!(dsync_server("u1", 60), b"\tu1\tdsync-server\t-uu1\t-T\t60\n");
        assert_eq!(dsync_server("a\tb", 60), b"\ta\x01tb\tdsync-server\t-ua\x01tb\t-T\t60\n");
    }

    fn packet(channel: u8, data: &[u8]) -> Vec<u8> {
        [&[channel][..], &u32::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
    }

    #[test]
    fn channels_are_told_apart_at_any_split() {
        let stream = [
            packet(0, b"\n+\n"),
            packet(LOG, b"\x04doveadm(u)<1>: Error: no\tway"),
            packet(0, b""),
            packet(9, b"???"),
            packet(0, b"F\n"),
        ]
        .concat();
        for cut in 0..=stream.len() {
            let mut channels = Channels::new(true);
            let mut out = Vec::new();
            let (head, tail) = stream.split_at(cut);
            channels.input(head, &mut out);
            channels.input(tail, &mut out);
            assert_eq!(out, b"\n+\nF\n", "cut at {cut}");
            let line = LogLine { level: Level::Error, text: "doveadm(u)<1>: Error: no way".to_owned() };
            assert_eq!(channels.take_log(), [line], "cut at {cut}");
        }
    }

    #[test]
    fn a_talkative_log_is_bounded() {
        let mut channels = Channels::new(true);
        for number in 0..100 {
            let text = [b"\x03".to_vec(), number.to_string().into_bytes(), vec![b'x'; 5000]].concat();
            channels.input(&packet(LOG, &text), &mut Vec::new());
        }
        let log = channels.take_log();
        assert_eq!(log.len(), MAX_LOG_LINES);
        assert!(log.iter().all(|line| line.text.len() <= MAX_LOG_LINE));
        assert!(log.last().unwrap().text.starts_with("99"), "the last lines say why");
    }
}
