//! What stands behind every proxy: an IMAP server without mail, and the HTTP service that tells nginx where it is.

use std::io;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Octets of the one message.
pub(crate) const MESSAGE: usize = 4 << 20;

/// What NOOP gets, behind the tag.
pub(crate) const NOOP: &str = " OK NOOP completed.\r\n";

/// What LOGOUT gets before the tag, and behind it.
pub(crate) const LOGOUT: (&str, &str) = ("* BYE Logging out\r\n", " OK Logout completed.\r\n");

const CAPABILITIES: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN";
const MORE_CAPABILITIES: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT THREAD=REFERENCES MULTIAPPEND UNSELECT \
                                 CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED CONDSTORE QRESYNC ESEARCH SEARCHRES LITERAL+";

/// The message: no two of its blocks are alike, so that octets that are lost or doubled are seen.
pub(crate) static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut line = 0_u32;
    let mut body = Vec::with_capacity(MESSAGE + 64);
    while body.len() < MESSAGE {
        body.extend_from_slice(
            format!("{line:010} All work and no play makes a proxy a dull boy, line by line.\r\n").as_bytes(),
        );
        line += 1;
    }
    body.truncate(MESSAGE);
    body
});

/// The password of the user with this name.
pub(crate) fn password(user: &str) -> String {
    format!("secret of {user}")
}

/// Answers whoever comes, as long as the process lives.
pub(crate) async fn serve(listener: TcpListener) {
    loop {
        let (tcp, _) = listener.accept().await.expect("too few descriptors (ulimit -n)?");
        tokio::spawn(async move {
            // A proxy may hang up whenever it likes; what the client got is counted at the client.
            let _ = session(tcp).await;
        });
    }
}

struct Session {
    tcp: TcpStream,
    input: Vec<u8>,
    /// Octets of `input` that have been dealt with.
    taken: usize,
}

async fn session(tcp: TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut session = Session { tcp, input: Vec::new(), taken: 0 };
    session.say(&format!("* OK [CAPABILITY {CAPABILITIES}] ready.\r\n")).await?;
    loop {
        let command = session.command().await?;
        let (tag, command) = command.split_once(' ').unwrap_or((&command, ""));
        let (verb, arguments) = command.split_once(' ').unwrap_or((command, ""));
        match verb.to_ascii_uppercase().as_str() {
            "NOOP" => session.say(&format!("{tag}{NOOP}")).await?,
            "FETCH" => {
                session.say(&format!("* 1 FETCH (BODY[] {{{MESSAGE}}}\r\n")).await?;
                session.tcp.write_all(&BODY).await?;
                session.say(&format!(")\r\n{tag} OK Fetch completed.\r\n")).await?;
            }
            "IDLE" => {
                session.say("+ idling\r\n").await?;
                let said = session.line().await?;
                let word = if said.eq_ignore_ascii_case("DONE") { "OK" } else { "BAD" };
                session.say(&format!("{tag} {word} Idle completed.\r\n")).await?;
            }
            "CAPABILITY" => {
                session.say(&format!("* CAPABILITY {CAPABILITIES}\r\n{tag} OK Capability completed.\r\n")).await?;
            }
            "ID" => session.say(&format!("* ID (\"name\" \"bench\")\r\n{tag} OK ID completed.\r\n")).await?,
            "LOGIN" => {
                let words: Vec<&str> = arguments.splitn(2, ' ').map(|word| word.trim_matches('"')).collect();
                session.logged_in(tag, words.first().copied(), words.get(1).copied()).await?;
            }
            "AUTHENTICATE" => {
                let message = match arguments.split_once(' ') {
                    Some((_, initial)) => initial.to_owned(),
                    None => {
                        session.say("+ \r\n").await?;
                        session.line().await?
                    }
                };
                let message = STANDARD.decode(message).map_err(io::Error::other)?;
                let message = String::from_utf8(message).map_err(io::Error::other)?;
                let mut words = message.split('\0').skip(1);
                session.logged_in(tag, words.next(), words.next()).await?;
            }
            "LOGOUT" => {
                session.say(&format!("{}{tag}{}", LOGOUT.0, LOGOUT.1)).await?;
                return session.tcp.shutdown().await;
            }
            _ => session.say(&format!("{tag} BAD Unknown command.\r\n")).await?,
        }
    }
}

impl Session {
    async fn logged_in(&mut self, tag: &str, user: Option<&str>, given: Option<&str>) -> io::Result<()> {
        let right = user.is_some_and(|user| given == Some(&password(user)));
        let answer = if right {
            format!("{tag} OK [CAPABILITY {MORE_CAPABILITIES}] Logged in\r\n")
        } else {
            format!("{tag} NO [AUTHENTICATIONFAILED] That came through wrong: {user:?} {given:?}\r\n")
        };
        self.say(&answer).await
    }

    async fn say(&mut self, words: &str) -> io::Result<()> {
        self.tcp.write_all(words.as_bytes()).await
    }

    /// The next command; each literal in it stands in the place of its announcement.
    async fn command(&mut self) -> io::Result<String> {
        let mut command = String::new();
        loop {
            let line = self.line().await?;
            let announced = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
            let Some((text, octets)) = announced else {
                command.push_str(&line);
                return Ok(command);
            };
            let size = octets.strip_suffix('+');
            if size.is_none() {
                self.say("+ OK\r\n").await?;
            }
            let size = size.unwrap_or(octets).parse().map_err(io::Error::other)?;
            command.push_str(text);
            while self.input.len() - self.taken < size {
                self.read().await?;
            }
            let literal = &self.input[self.taken..self.taken + size];
            command.push_str(&String::from_utf8_lossy(literal));
            self.taken += size;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            let rest = &self.input[self.taken..];
            if let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
                let line = String::from_utf8_lossy(rest[..end].trim_ascii_end()).into_owned();
                self.taken += end + 1;
                return Ok(line);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.input.drain(..self.taken);
        self.taken = 0;
        match self.tcp.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Tells nginx for each login that the server is at `backend`.
pub(crate) async fn tell_where(listener: TcpListener, backend: u16) {
    loop {
        let (mut tcp, _) = listener.accept().await.expect("too few descriptors (ulimit -n)?");
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if tcp.read_buf(&mut request).await? == 0 {
                    return Ok(());
                }
            }
            let answer =
                format!("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: {backend}\r\n\r\n");
            tcp.write_all(answer.as_bytes()).await?;
            tcp.shutdown().await
        });
    }
}
