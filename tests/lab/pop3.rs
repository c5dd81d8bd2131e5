//! A small POP3 client of the tests' own, on the same sockets as [`Imap`]. It blocks, it has deadlines, and it panics when
//! the other side leaves the protocol.

use std::path::Path;
use std::time::Duration;

use super::imap::{Imap, lossy};

/// One connection.
#[derive(Debug)]
pub struct Pop3 {
    lines: Imap,
    pub greeting: String,
}

impl Pop3 {
    /// Connects to 127.0.0.1 and reads the greeting.
    pub fn connect(port: u16) -> Self {
        Self::connect_from("127.0.0.1", port)
    }

    /// The same from another loopback address, to be seen as another client.
    pub fn connect_from(source: &str, port: u16) -> Self {
        Self::greeted(Imap::connect_silently(source, port))
    }

    /// POP3S; the certificate must be good for `localhost` under `ca`.
    pub fn connect_tls(port: u16, ca: &Path) -> Self {
        Self::greeted(Imap::connect_tls_silently("127.0.0.1", port, ca))
    }

    /// Connects, sends STLS and goes on encrypted.
    pub fn connect_stls(port: u16, ca: &Path) -> Self {
        let mut plain = Self::connect(port);
        plain.ok("STLS");
        plain.encrypted(ca)
    }

    /// Goes on encrypted, after the answer to STLS.
    pub fn encrypted(self, ca: &Path) -> Self {
        Self { lines: self.lines.encrypted(ca), greeting: self.greeting }
    }

    fn greeted(lines: Imap) -> Self {
        let mut pop3 = Self { lines, greeting: String::new() };
        pop3.greeting = pop3.line();
        pop3
    }

    /// The connection for sending and reading octets as they are.
    pub fn wire(&mut self) -> &mut Imap {
        &mut self.lines
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) {
        self.lines.send(octets);
    }

    /// One line without its end; empty at the end of the stream.
    pub fn line(&mut self) -> String {
        lossy(&self.lines.try_line().unwrap_or_default())
    }

    /// Sends a command and reads its status line.
    pub fn cmd(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.line()
    }

    /// A command that must succeed; what stands behind `+OK`.
    pub fn ok(&mut self, command: &str) -> String {
        let said = self.cmd(command);
        let text = said.strip_prefix("+OK").unwrap_or_else(|| panic!("{command}: {said:?}"));
        text.trim_start().to_owned()
    }

    /// A command with a multi-line answer that must succeed; its lines without stuffing, each with CRLF.
    pub fn body(&mut self, command: &str) -> Vec<u8> {
        self.ok(command);
        self.rest()
    }

    /// The lines of a multi-line answer, behind its first.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.lines.try_line().expect("the server closed the connection");
            if line == b"." {
                return body;
            }
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            body.extend_from_slice(b"\r\n");
        }
    }

    /// The same as lines of text.
    pub fn list(&mut self, command: &str) -> Vec<String> {
        lossy(&self.body(command)).lines().map(str::to_owned).collect()
    }

    /// USER and PASS; the answer to the last.
    pub fn try_login(&mut self, user: &str, password: &str) -> String {
        let said = self.cmd(&format!("USER {user}"));
        if said.starts_with("+OK") { self.cmd(&format!("PASS {password}")) } else { said }
    }

    /// USER and PASS that must succeed.
    pub fn login(&mut self, user: &str, password: &str) {
        let said = self.try_login(user, password);
        assert!(said.starts_with("+OK"), "{user}: {said}");
    }

    /// QUIT, and waits until the server has closed.
    pub fn quit(mut self) {
        self.ok("QUIT");
        let (rest, closed) = self.lines.read_to_end(Duration::from_secs(60));
        assert!(closed && rest.is_empty(), "{:?}", lossy(&rest));
    }

    /// Everything until the server closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let (said, closed) = self.lines.read_to_end(Duration::from_secs(60));
        assert!(closed, "still connected: {:?}", lossy(&said));
        said
    }
}
