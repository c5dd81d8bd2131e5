//! A connection of the scripted Gmail: commands in, with their literals; answers out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::lab::tls::TlsFiles;

/// A client that says nothing for so long is a test that hangs.
const PATIENCE: Duration = Duration::from_secs(600);

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

pub struct Wire {
    stream: Box<dyn Both>,
    buffer: Vec<u8>,
    pub encrypted: bool,
}

/// A server's half of TLS with these files.
pub fn config(files: &TlsFiles) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&files.cert).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

impl Wire {
    pub fn over(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> Option<Self> {
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.set_nodelay(true).ok()?;
        let encrypted = tls.is_some();
        let stream: Box<dyn Both> = match tls {
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).ok()?, socket)),
            None => Box::new(socket),
        };
        Some(Self { stream, buffer: Vec::new(), encrypted })
    }

    pub fn say(&mut self, octets: &[u8]) -> Option<()> {
        self.stream.write_all(octets).ok()?;
        self.stream.flush().ok()
    }

    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Some(())
    }

    /// A line without its end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.more()?;
        }
    }

    /// A command's words: a list is one word with its parentheses, a string one without its quotes.
    pub fn command(&mut self) -> Option<Vec<String>> {
        let mut words = Vec::new();
        loop {
            let line = self.line()?;
            let Some((before, count)) = literal(&line) else {
                words.extend(split(&line));
                return Some(words);
            };
            if !line.ends_with("+}") {
                self.say(b"+ go ahead\r\n")?;
            }
            words.extend(split(before));
            while self.buffer.len() < count {
                self.more()?;
            }
            words.push(String::from_utf8_lossy(&self.buffer.drain(..count).collect::<Vec<u8>>()).into_owned());
        }
    }
}

/// What stands before the literal at the end of a line, and its length.
fn literal(line: &str) -> Option<(&str, usize)> {
    let (before, count) = line.strip_suffix('}')?.rsplit_once('{')?;
    Some((before, count.trim_end_matches('+').parse().ok()?))
}

fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut quoted, mut escaped) = (Vec::new(), String::new(), 0, false, false);
    let mut begun = false;
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                begun = true;
                if depth > 0 {
                    word.push(c);
                }
            }
            ' ' if !quoted && depth == 0 => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                begun = true;
                if !quoted {
                    depth += i32::from(c == '(' || c == '[') - i32::from(c == ')' || c == ']');
                }
                word.push(c);
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}
