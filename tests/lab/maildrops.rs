//! A POP3 server that shows whatever a test wants of it: lists that no real server makes on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A message as it is shown.
#[derive(Clone, Debug)]
pub struct Letter {
    pub uidl: Vec<u8>,
    /// What LIST tells.
    pub size: u64,
    /// With CRLF.
    pub text: Vec<u8>,
}

impl Letter {
    /// A message whose size is true.
    pub fn new(uidl: &str, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self { uidl: uidl.as_bytes().to_vec(), size: text.len() as u64, text }
    }
}

/// The server. Any password is right.
#[derive(Debug)]
pub struct Maildrops {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    letters: HashMap<String, Vec<Letter>>,
    asked: Vec<(String, String)>,
}

impl Maildrops {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let ours = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(client, &shared));
            }
        });
        Self { port, shared: ours }
    }

    /// From now on this user's maildrop has these messages.
    pub fn put(&self, user: &str, letters: Vec<Letter>) {
        self.shared.lock().unwrap().letters.insert(user.to_owned(), letters);
    }

    /// `pop3 = "…"`.
    pub fn key(&self) -> String {
        format!("pop3 = \"pop3://127.0.0.1:{}\"", self.port)
    }

    /// How often a user's maildrop was asked with a command that begins like this.
    pub fn asked(&self, user: &str, command: &str) -> usize {
        let shared = self.shared.lock().unwrap();
        shared.asked.iter().filter(|(name, said)| name == user && said.starts_with(command)).count()
    }
}

/// One session. It ends when the client is gone.
fn serve(client: TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut out = client.try_clone().ok()?;
    let mut lines = BufReader::new(client).lines();
    let (mut user, mut letters) = (String::new(), Vec::new());
    out.write_all(b"+OK\r\n").ok()?;
    loop {
        let line = lines.next()?.ok()?;
        let mut words = line.split(' ');
        let (verb, args) = (words.next()?.to_uppercase(), words.collect::<Vec<_>>());
        shared.lock().unwrap().asked.push((user.clone(), line.clone()));
        let number = |at: usize| args.get(at).and_then(|word| word.parse::<usize>().ok());
        let answer: Vec<u8> = match verb.as_str() {
            "CAPA" => b"+OK\r\nTOP\r\nUIDL\r\nUSER\r\nPIPELINING\r\n.\r\n".to_vec(),
            "USER" => {
                user = (*args.first()?).to_owned();
                b"+OK\r\n".to_vec()
            }
            "PASS" => {
                letters = shared.lock().unwrap().letters.get(&user).cloned().unwrap_or_default();
                b"+OK\r\n".to_vec()
            }
            "UIDL" => listed(&letters, |letter| letter.uidl.clone()),
            "LIST" => listed(&letters, |letter| letter.size.to_string().into_bytes()),
            "TOP" | "RETR" => match number(0).and_then(|number| letters.get(number.checked_sub(1)?)) {
                Some(letter) => top(&letter.text, number(1)),
                None => b"-ERR no such message\r\n".to_vec(),
            },
            "QUIT" => {
                out.write_all(b"+OK\r\n").ok()?;
                return None;
            }
            "NOOP" | "STAT" => format!("+OK {} 0\r\n", letters.len()).into_bytes(),
            _ => b"-ERR unknown\r\n".to_vec(),
        };
        out.write_all(&answer).ok()?;
    }
}

fn listed(letters: &[Letter], value: impl Fn(&Letter) -> Vec<u8>) -> Vec<u8> {
    let mut answer = b"+OK\r\n".to_vec();
    for (number, letter) in (1..).zip(letters) {
        answer.extend_from_slice(format!("{number} ").as_bytes());
        answer.extend_from_slice(&value(letter));
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b".\r\n");
    answer
}

/// The header and so many lines of the body; all of them for RETR.
fn top(text: &[u8], lines: Option<usize>) -> Vec<u8> {
    let mut answer = b"+OK\r\n".to_vec();
    let (mut in_body, mut left) = (false, lines.unwrap_or(usize::MAX));
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        if in_body && left == 0 {
            break;
        }
        left -= usize::from(in_body);
        in_body |= line == b"\r\n";
        if line.starts_with(b".") {
            answer.push(b'.');
        }
        answer.extend_from_slice(line);
    }
    if !answer.ends_with(b"\r\n") {
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b".\r\n");
    answer
}
