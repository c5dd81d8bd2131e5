//! A small IMAP client of the tests' own. It shares no code with the crate under test, so that a mistake there can not
//! hide itself here. It blocks, it has deadlines, and it panics when the other side leaves the protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls;

/// No answer a test waits for may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

trait Wire: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// One connection.
pub struct Imap {
    wire: Box<dyn Wire>,
    /// Received and not yet consumed.
    buffer: Vec<u8>,
    patience: Duration,
    tags: u32,
    pub greeting: String,
}

impl std::fmt::Debug for Imap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imap").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Imap {
    /// Connects to 127.0.0.1 and reads the greeting.
    pub fn connect(port: u16) -> Self {
        Self::connect_from("127.0.0.1", port)
    }

    /// Connects to 127.0.0.1 from another loopback address, to be seen as another client.
    pub fn connect_from(source: &str, port: u16) -> Self {
        let mut imap = Self::connect_silently(source, port);
        imap.read_greeting();
        imap
    }

    /// Connects from a loopback address without waiting for a greeting.
    pub fn connect_silently(source: &str, port: u16) -> Self {
        Self::over(Box::new(dial(source, port)))
    }

    /// IMAPS; the certificate must be good for `localhost` under `ca`.
    pub fn connect_tls(port: u16, ca: &Path) -> Self {
        Self::connect_tls_from("127.0.0.1", port, ca)
    }

    /// The same from another loopback address.
    pub fn connect_tls_from(source: &str, port: u16, ca: &Path) -> Self {
        let mut imap = Self::connect_tls_silently(source, port, ca);
        imap.read_greeting();
        imap
    }

    /// The same without waiting for a greeting.
    pub fn connect_tls_silently(source: &str, port: u16, ca: &Path) -> Self {
        Self::over(Box::new(encrypt(dial(source, port), ca)))
    }

    /// Connects, sends STARTTLS and goes on encrypted.
    pub fn connect_starttls(port: u16, ca: &Path) -> Self {
        let mut plain = Self::connect(port);
        plain.ok("STARTTLS");
        plain.encrypted(ca)
    }

    /// Goes on encrypted, after the answer to STARTTLS.
    pub fn encrypted(self, ca: &Path) -> Self {
        assert!(self.buffer.is_empty(), "bytes after the answer to STARTTLS: {:?}", lossy(&self.buffer));
        let socket = self.wire.socket().try_clone().unwrap();
        let mut imap = Self::over(Box::new(encrypt(socket, ca)));
        imap.greeting = self.greeting;
        imap
    }

    /// Our own address, as the server sees it.
    pub fn local_addr(&self) -> SocketAddr {
        self.wire.socket().local_addr().unwrap()
    }

    /// The socket below, for sending (in clear) while somebody else reads.
    pub fn clone_socket(&self) -> TcpStream {
        self.wire.socket().try_clone().unwrap()
    }

    /// Says that we will send nothing more (FIN), and goes on reading.
    pub fn end_sending(&mut self) {
        self.wire.socket().shutdown(Shutdown::Write).unwrap();
    }

    fn over(wire: Box<dyn Wire>) -> Self {
        Self { wire, buffer: Vec::new(), patience: PATIENCE, tags: 0, greeting: String::new() }
    }

    fn read_greeting(&mut self) {
        loop {
            self.greeting = lossy(&self.response());
            if !self.greeting.contains("Waiting for authentication process") {
                return;
            }
        }
    }

    /// How long each read may wait from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server closed the connection while we sent");
    }

    /// Sends bytes as they are, for tests that expect to be cut off.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Sends a command and gives its tag, without waiting.
    pub fn start(&mut self, command: &str) -> String {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.send(format!("{tag} {command}\r\n").as_bytes());
        tag
    }

    /// Sends a command and gives the tagged line without its tag (`OK …`, `NO …`, `BAD …`) and every untagged response as
    /// it came, literals inside, without the final CRLF. A BYE that ends the connection instead is given as the tagged line.
    pub fn cmd(&mut self, command: &str) -> (String, Vec<Vec<u8>>) {
        let tag = self.start(command);
        self.finish(&tag)
    }

    /// Waits for the answer of a command begun with [`Imap::start`].
    pub fn finish(&mut self, tag: &str) -> (String, Vec<Vec<u8>>) {
        let mut untagged = Vec::new();
        loop {
            let Some(response) = self.try_response() else {
                let last = untagged.pop().map(|bytes: Vec<u8>| lossy(&bytes)).unwrap_or_default();
                return (last, untagged);
            };
            if let Some(rest) = response.strip_prefix(format!("{tag} ").as_bytes()) {
                return (lossy(rest), untagged);
            }
            untagged.push(response);
        }
    }

    /// A command that must succeed.
    pub fn ok(&mut self, command: &str) -> Vec<Vec<u8>> {
        let (tagged, untagged) = self.cmd(command);
        assert!(tagged.starts_with("OK"), "{command}: {tagged}");
        untagged
    }

    /// LOGIN with quoted strings; the tagged line.
    pub fn try_login(&mut self, user: &str, password: &str) -> String {
        self.cmd(&format!("LOGIN {} {}", quoted(user), quoted(password))).0
    }

    /// LOGIN that must succeed.
    pub fn login(&mut self, user: &str, password: &str) {
        let tagged = self.try_login(user, password);
        assert!(tagged.starts_with("OK"), "LOGIN {user}: {tagged}");
    }

    /// APPEND; `mailbox` as clients read it (it is encoded here), `flags` as between the parentheses, `date` as INTERNALDATE
    /// (`17-Jul-1996 02:44:25 -0700`) or empty. Gives the UID if the server announced it.
    pub fn append(&mut self, mailbox: &str, flags: &str, date: &str, message: &[u8]) -> Option<u32> {
        let tagged = self.try_append(mailbox, flags, date, message);
        assert!(tagged.starts_with("OK"), "APPEND {mailbox}: {tagged}");
        let code = tagged.split("APPENDUID ").nth(1)?;
        code.split([' ', ']']).nth(1)?.parse().ok()
    }

    /// The same for an APPEND that may fail; the tagged line.
    pub fn try_append(&mut self, mailbox: &str, flags: &str, date: &str, message: &[u8]) -> String {
        let date = if date.is_empty() { String::new() } else { format!("\"{date}\" ") };
        let tag = self.start(&format!("APPEND {} ({flags}) {date}{{{}}}", mailbox_name(mailbox), message.len()));
        let answer = self.response();
        if !answer.starts_with(b"+") {
            return lossy(&answer).trim_start_matches(&format!("{tag} ")).to_owned();
        }
        self.send(message);
        self.send(b"\r\n");
        self.finish(&tag).0
    }

    /// SELECT; the untagged responses and the tagged line's code are in the result.
    pub fn select(&mut self, mailbox: &str) -> Selected {
        self.open("SELECT", mailbox)
    }

    /// EXAMINE.
    pub fn examine(&mut self, mailbox: &str) -> Selected {
        self.open("EXAMINE", mailbox)
    }

    fn open(&mut self, verb: &str, mailbox: &str) -> Selected {
        let untagged = self.ok(&format!("{verb} {}", mailbox_name(mailbox)));
        let mut selected = Selected::default();
        for line in untagged.iter().map(|bytes| lossy(bytes)) {
            let code = |name: &str| {
                line.split(name).nth(1).and_then(|rest| rest.split(']').next()?.trim().parse::<u64>().ok())
            };
            if let Some(count) = line.strip_prefix("* ").and_then(|rest| rest.strip_suffix(" EXISTS")) {
                selected.exists = count.parse().unwrap();
            }
            selected.uid_validity = code("[UIDVALIDITY ").map_or(selected.uid_validity, |n| u32::try_from(n).unwrap());
            selected.uid_next = code("[UIDNEXT ").map_or(selected.uid_next, |n| u32::try_from(n).unwrap());
            selected.highest_modseq = code("[HIGHESTMODSEQ ").unwrap_or(selected.highest_modseq);
        }
        selected
    }

    /// The UIDs of the selected mailbox, ascending.
    pub fn uids(&mut self) -> Vec<u32> {
        let untagged = self.ok("UID SEARCH ALL");
        let mut uids: Vec<u32> = untagged
            .iter()
            .map(|line| lossy(line))
            .filter_map(|line| line.strip_prefix("* SEARCH").map(str::to_owned))
            .flat_map(|list| list.split_whitespace().map(|uid| uid.parse().unwrap()).collect::<Vec<u32>>())
            .collect();
        uids.sort_unstable();
        uids
    }

    /// BODY.PEEK[] of one UID of the selected mailbox.
    pub fn body(&mut self, uid: u32) -> Option<Vec<u8>> {
        let untagged = self.ok(&format!("UID FETCH {uid} (UID BODY.PEEK[])"));
        untagged.into_iter().find_map(|response| literal(&response))
    }

    /// Flags and keywords of one UID of the selected mailbox, sorted, without \Recent.
    pub fn flags(&mut self, uid: u32) -> Option<Vec<String>> {
        let untagged = self.ok(&format!("UID FETCH {uid} (UID FLAGS)"));
        untagged.iter().find_map(|response| flags_of(&lossy(response)))
    }

    /// One whole response (a line with the literals in it), without the final CRLF; panics at the end of the stream.
    pub fn response(&mut self) -> Vec<u8> {
        self.try_response().expect("the server closed the connection")
    }

    /// The same; `None` at the end of the stream.
    pub fn try_response(&mut self) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        loop {
            let line = self.try_line()?;
            whole.extend_from_slice(&line);
            let Some(length) = announced_literal(&line) else { return Some(whole) };
            whole.extend_from_slice(b"\r\n");
            whole.extend_from_slice(&self.take(length)?);
        }
    }

    /// One line without its CRLF; `None` at the end of the stream.
    pub fn try_line(&mut self) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Some(line);
            }
            searched = self.buffer.len();
            self.fill()?;
        }
    }

    /// Everything until the server closes the connection, or `limit` passes (then the second part is false).
    pub fn read_to_end(&mut self, limit: Duration) -> (Vec<u8>, bool) {
        let deadline = Instant::now() + limit;
        let mut bytes = std::mem::take(&mut self.buffer);
        let mut chunk = vec![0; 65536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (bytes, false);
            }
            self.wire.socket().set_read_timeout(Some(left)).unwrap();
            match self.wire.read(&mut chunk) {
                Ok(0) => return (bytes, true),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if is_timeout(&error) => return (bytes, false),
                Err(_) => return (bytes, true),
            }
        }
    }

    /// Whether anything arrives within `limit`; what arrived stays to be read.
    pub fn hears_within(&mut self, limit: Duration) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        let before = std::mem::replace(&mut self.patience, limit);
        let heard = self.try_fill();
        self.patience = before;
        matches!(heard, Ok(count) if count > 0)
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> Option<()> {
        match self.try_fill() {
            Ok(0) => None,
            Ok(_) => Some(()),
            Err(error) if is_timeout(&error) => {
                panic!("nothing came for {:?}; so far: {:?}", self.patience, lossy(&self.buffer))
            }
            Err(_) => None,
        }
    }

    fn try_fill(&mut self) -> std::io::Result<usize> {
        self.wire.socket().set_read_timeout(Some(self.patience))?;
        let mut chunk = vec![0; 65536];
        let count = self.wire.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// What SELECT or EXAMINE told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selected {
    pub exists: usize,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub highest_modseq: u64,
}

fn dial(source: &str, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Without a bind the kernel has more ports to pick from.
    if source != "127.0.0.1" {
        let address: SocketAddr = format!("{source}:0").parse().unwrap();
        socket.bind(&address.into()).unwrap();
    }
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&server.into()).unwrap_or_else(|error| panic!("connect to {server} from {source}: {error}"));
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn encrypt(socket: TcpStream, ca: &Path) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// `{n}` at the end of a line that can announce one. Status responses are text: nothing in them is a literal.
fn announced_literal(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"}")?;
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, number) = text.split_at(text.len() - digits);
    let head = lossy(head);
    let mut words = head.split(' ').skip(1);
    if digits == 0 || !head.ends_with('{') || matches!(words.next(), Some("OK" | "NO" | "BAD" | "BYE" | "PREAUTH")) {
        return None;
    }
    lossy(number).parse().ok()
}

/// The first literal inside a response, or the first quoted string after `BODY[]`.
pub fn literal(response: &[u8]) -> Option<Vec<u8>> {
    let end = response.windows(2).position(|pair| pair == b"\r\n");
    if let Some(end) = end
        && let Some(length) = announced_literal(&response[..end])
    {
        return response.get(end + 2..end + 2 + length).map(<[u8]>::to_vec);
    }
    let text = lossy(response);
    let quoted = text.split("BODY[] \"").nth(1)?.split('"').next()?;
    Some(quoted.as_bytes().to_vec())
}

/// The flags in a FETCH response, sorted, without \Recent.
pub fn flags_of(response: &str) -> Option<Vec<String>> {
    let inside = response.split("FLAGS (").nth(1)?.split(')').next()?;
    let mut flags: Vec<String> =
        inside.split_whitespace().filter(|flag| *flag != "\\Recent").map(str::to_owned).collect();
    flags.sort();
    Some(flags)
}

/// A quoted string.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A mailbox name as it goes over the wire: modified UTF-7 (RFC 3501 §5.1.3) in quotes.
pub fn mailbox_name(name: &str) -> String {
    quoted(&mutf7(name))
}

/// Modified UTF-7 (RFC 3501 §5.1.3), without quotes.
pub fn mutf7(name: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    let mut out = String::new();
    let mut pending: Vec<u16> = Vec::new();
    let flush = |pending: &mut Vec<u16>, out: &mut String| {
        if pending.is_empty() {
            return;
        }
        let bytes: Vec<u8> = pending.drain(..).flat_map(u16::to_be_bytes).collect();
        out.push('&');
        let (mut bits, mut count) = (0u32, 0u32);
        for byte in bytes {
            bits = bits << 8 | u32::from(byte);
            count += 8;
            while count >= 6 {
                count -= 6;
                out.push(char::from(ALPHABET[(bits >> count & 63) as usize]));
            }
        }
        if count > 0 {
            out.push(char::from(ALPHABET[(bits << (6 - count) & 63) as usize]));
        }
        out.push('-');
    };
    for character in name.chars() {
        match character {
            '&' => {
                flush(&mut pending, &mut out);
                out.push_str("&-");
            }
            ' '..='~' => {
                flush(&mut pending, &mut out);
                out.push(character);
            }
            other => pending.extend(other.encode_utf16(&mut [0; 2]).iter()),
        }
    }
    flush(&mut pending, &mut out);
    out
}

/// Bytes as text, for looking at.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
