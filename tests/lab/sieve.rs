//! ManageSieve: a door for it in a Dovecot (2.3, with Pigeonhole), and a small client of the tests' own. It blocks, it has
//! deadlines, and it panics when the other side leaves the protocol.

use super::ports::{self, Port};
use super::server::Spec;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Where a server speaks ManageSieve.
#[derive(Debug)]
pub struct SieveDoor {
    clear: Port,
    tls: Port,
}

impl SieveDoor {
    /// Makes `spec` one with ManageSieve. `settings` are Pigeonhole's, as `sieve_extensions = -vacation`, each with its line end.
    pub fn into(spec: Spec, settings: &str) -> (Spec, Self) {
        assert!(
            std::path::Path::new("/usr/lib/dovecot/managesieve").exists(),
            "no Pigeonhole: install dovecot-sieve dovecot-managesieved"
        );
        let door = Self { clear: ports::claim(), tls: ports::claim() };
        let extra = format!(
            "{}protocols = imap pop3 lmtp sieve\n\
             plugin {{\n  sieve = file:~/sieve;active=~/active.sieve\n{settings}}}\n\
             service managesieve-login {{\n  service_count = 0\n  inet_listener sieve {{\n    port = {}\n  }}\n  \
             inet_listener sieves {{\n    port = {}\n    ssl = yes\n  }}\n}}\n",
            spec.extra, door.clear.number, door.tls.number
        );
        (Spec { extra, ..spec }, door)
    }

    /// The port in clear, where STARTTLS is offered as well.
    pub fn port(&self) -> u16 {
        self.clear.number
    }

    /// The port inside TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls.number
    }

    /// The key `sieve` for the configuration.
    pub fn key(&self) -> String {
        format!("sieve = \"sieve://127.0.0.1:{}\"", self.port())
    }
}

/// A user's scripts as a server gives them, each with its octets; and which one is active.
pub type Scripts = (BTreeMap<String, String>, Option<String>);

/// A session.
#[derive(Debug)]
pub struct Sieve {
    stream: BufReader<TcpStream>,
}

impl Sieve {
    /// Connects to 127.0.0.1 and logs in.
    pub fn login(port: u16, user: &str, password: &str) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut sieve = Self { stream: BufReader::new(tcp) };
        let (said, announced) = sieve.answer();
        assert!(said.starts_with("OK"), "{said} {announced:?}");
        let message = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
        sieve.ok(&format!("AUTHENTICATE \"PLAIN\" \"{message}\""));
        sieve
    }

    pub fn put(&mut self, name: &str, script: &str) {
        self.ok(&format!("PUTSCRIPT {} {{{}+}}\r\n{script}", quoted(name), script.len()));
    }

    /// Empty: none.
    pub fn set_active(&mut self, name: &str) {
        self.ok(&format!("SETACTIVE {}", quoted(name)));
    }

    pub fn delete(&mut self, name: &str) {
        self.ok(&format!("DELETESCRIPT {}", quoted(name)));
    }

    pub fn scripts(&mut self) -> Scripts {
        let (mut all, mut active) = (BTreeMap::new(), None);
        for line in self.ok("LISTSCRIPTS") {
            let name = line[0].clone();
            if line.get(1).is_some_and(|word| word == "ACTIVE") {
                active = Some(name.clone());
            }
            let script = self.ok(&format!("GETSCRIPT {}", quoted(&name)))[0][0].clone();
            all.insert(name, script);
        }
        (all, active)
    }

    /// A command that must succeed; the lines of its answer, taken apart.
    pub fn ok(&mut self, command: &str) -> Vec<Vec<String>> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let (said, lines) = self.answer();
        assert!(said.starts_with("OK"), "{command}: {said}");
        lines
    }

    fn answer(&mut self) -> (String, Vec<Vec<String>>) {
        let mut lines = Vec::new();
        loop {
            let words = self.words();
            if ["OK", "NO", "BYE"].contains(&words[0].as_str()) {
                return (words.join(" "), lines);
            }
            lines.push(words);
        }
    }

    /// One line: its words and strings.
    fn words(&mut self) -> Vec<String> {
        let (mut words, mut word) = (Vec::new(), Vec::new());
        loop {
            match self.octet() {
                b'\r' => {}
                end @ (b' ' | b'\n') => {
                    if !word.is_empty() {
                        words.push(String::from_utf8(std::mem::take(&mut word)).unwrap());
                    }
                    if end == b'\n' {
                        return words;
                    }
                }
                b'"' => {
                    let mut text = Vec::new();
                    loop {
                        match self.octet() {
                            b'"' => break,
                            b'\\' => text.push(self.octet()),
                            octet => text.push(octet),
                        }
                    }
                    words.push(String::from_utf8(text).unwrap());
                }
                b'{' => {
                    let mut digits = String::new();
                    loop {
                        match self.octet() {
                            b'\n' => break,
                            octet => digits.push(char::from(octet)),
                        }
                    }
                    let mut text = vec![0; digits.trim_end_matches(['\r', '}', '+']).parse().unwrap()];
                    self.stream.read_exact(&mut text).unwrap();
                    words.push(String::from_utf8(text).unwrap());
                }
                octet => word.push(octet),
            }
        }
    }

    fn octet(&mut self) -> u8 {
        let mut octet = [0];
        self.stream.read_exact(&mut octet).unwrap();
        octet[0]
    }
}

/// A name as a string; Cyrus takes none with more than ASCII in quotes.
fn quoted(name: &str) -> String {
    if !name.is_ascii() {
        return format!("{{{}+}}\r\n{name}", name.len());
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
