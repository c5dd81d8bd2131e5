//! Delivery over LMTP (RFC 2033) straight into a server: mail that comes past the proxy.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::cyrus::Cyrus;
use super::server::Dovecot;

/// A delivery on a machine where everything else runs at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that can be delivered to.
pub trait TakesLmtp {
    fn lmtp_port(&self) -> u16;
}

impl TakesLmtp for Dovecot {
    fn lmtp_port(&self) -> u16 {
        Self::lmtp_port(self)
    }
}

impl TakesLmtp for Cyrus {
    fn lmtp_port(&self) -> u16 {
        Self::lmtp_port(self)
    }
}

/// Delivers `raw` (lines end with LF or CR LF) into `user`'s INBOX; panics unless the server takes it. What is stored has
/// the server's own `Return-Path`, `Delivered-To` and `Received` in front.
pub fn deliver(server: &dyn TakesLmtp, user: &str, raw: &[u8]) {
    let answer = try_deliver(server, user, raw);
    assert!(answer.starts_with('2'), "LMTP to {user}: {answer}");
}

/// The same for a delivery that may fail; the server's answer for this recipient.
pub fn try_deliver(server: &dyn TakesLmtp, user: &str, raw: &[u8]) -> String {
    let stream = TcpStream::connect(("127.0.0.1", server.lmtp_port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    answer(&mut lines);
    for command in ["LHLO lab", "MAIL FROM:<sender@example.org>", &format!("RCPT TO:<{user}>"), "DATA"] {
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let said = answer(&mut lines);
        if !said.starts_with(['2', '3']) {
            return said;
        }
    }
    stream.write_all(&stuffed(raw)).unwrap();
    let said = answer(&mut lines);
    stream.write_all(b"QUIT\r\n").unwrap();
    said
}

/// Lines ended by CR LF, dots doubled, and the final dot (RFC 5321 §4.5.2).
fn stuffed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 20 + 5);
    let body = raw.strip_suffix(b"\n").unwrap_or(raw);
    for line in body.split(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// The last line of an answer (`250-` goes on, `250 ` ends).
fn answer(lines: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        if line.as_bytes().get(3) != Some(&b'-') {
            return line.trim_end().to_owned();
        }
    }
}
