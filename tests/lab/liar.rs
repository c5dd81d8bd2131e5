//! A wire between the proxy and an old server on which chosen messages come as broken servers give them: NIL, nothing, something
//! else, a refusal, the end of the connection. Everything else is the real server's.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What comes when a message is asked for.
#[derive(Clone)]
pub enum Answer {
    /// The server's own.
    True,
    Nil,
    /// This text, of any length.
    Text(Vec<u8>),
    /// `NO …`, to everything in the command.
    Refused(&'static str),
    /// OK, and no word of that message.
    Silence,
    HangUp,
    /// A text one octet longer each time: never the same.
    Growing(Arc<AtomicUsize>),
    /// Does something first, then what the server says.
    First(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::Nil => "Nil",
            Self::Text(_) => "Text",
            Self::Refused(_) => "Refused",
            Self::Silence => "Silence",
            Self::HangUp => "HangUp",
            Self::Growing(_) => "Growing",
            Self::First(_) => "First",
        })
    }
}

/// What is told about one message.
#[derive(Clone, Debug)]
pub struct Lie {
    pub mailbox: &'static str,
    pub uid: u32,
    pub whole: Answer,
    pub header: Answer,
    pub text: Answer,
    pub rfc822: Answer,
    /// In place of RFC822.SIZE.
    pub size: Option<u64>,
}

impl Lie {
    /// The same lie in whatever way the message is asked for.
    pub fn always(mailbox: &'static str, uid: u32, answer: &Answer) -> Self {
        let [whole, header, text, rfc822] = std::array::from_fn(|_| answer.clone());
        Self { mailbox, uid, whole, header, text, rfc822, size: None }
    }

    fn of(&self, item: &str) -> &Answer {
        match item {
            "BODY.PEEK[]" => &self.whole,
            "BODY.PEEK[HEADER]" => &self.header,
            "BODY.PEEK[TEXT]" => &self.text,
            "RFC822" => &self.rfc822,
            _ => &Answer::True,
        }
    }
}

/// The wire.
#[derive(Debug)]
pub struct Liar {
    pub port: u16,
    lies: Arc<Mutex<Vec<Lie>>>,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<u32>>,
}

impl Liar {
    /// A wire to a port of this machine.
    pub fn to(server: u16, lies: Vec<Lie>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let liar = Self {
            port: listener.local_addr().unwrap().port(),
            lies: Arc::new(Mutex::new(lies)),
            asked: Arc::default(),
            connections: Arc::default(),
        };
        let (lies, asked, connections) =
            (Arc::clone(&liar.lies), Arc::clone(&liar.asked), Arc::clone(&liar.connections));
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                *connections.lock().unwrap() += 1;
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (lies, asked) = (Arc::clone(&lies), Arc::clone(&asked));
                let talk = Talk { lies, asked, mailbox: Arc::default(), last: Arc::default() };
                let other = talk.clone();
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || other.answers(from, to));
                thread::spawn(move || talk.commands(client, server));
            }
        });
        liar
    }

    /// `imap://…` of this wire.
    pub fn url(&self) -> String {
        format!("imap://127.0.0.1:{}", self.port)
    }

    /// From now on these are the lies.
    pub fn tell(&self, lies: Vec<Lie>) {
        *self.lies.lock().unwrap() = lies;
    }

    /// How often the messages that are lied about were asked for by `item`.
    pub fn asked(&self, item: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == item).count()
    }

    /// Connections so far.
    pub fn connections(&self) -> u32 {
        *self.connections.lock().unwrap()
    }
}

#[derive(Clone)]
struct Talk {
    lies: Arc<Mutex<Vec<Lie>>>,
    asked: Arc<Mutex<Vec<String>>>,
    mailbox: Arc<Mutex<String>>,
    /// The answer that ends the connection.
    last: Arc<Mutex<Option<String>>>,
}

impl Talk {
    fn lies_here(&self) -> Vec<Lie> {
        let mailbox = self.mailbox.lock().unwrap().clone();
        self.lies.lock().unwrap().iter().filter(|lie| lie.mailbox == mailbox).cloned().collect()
    }

    fn commands(&self, client: TcpStream, mut server: TcpStream) {
        let mut back = client.try_clone().unwrap();
        let mut reader = BufReader::new(client);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = text.trim_end().splitn(5, ' ').collect();
            if let [_, "EXAMINE" | "SELECT", name, ..] = words[..] {
                *self.mailbox.lock().unwrap() = name.trim_matches('"').to_owned();
            }
            if let [tag, "UID", "FETCH", set, items] = words[..]
                && let Some(rest) = self.lie(tag, set, items, &mut back)
            {
                line = rest.into_bytes();
            }
            if line.is_empty() {
                let _ = back.shutdown(Shutdown::Both);
                break;
            }
            if server.write_all(&line).is_err() {
                break;
            }
            line.clear();
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    /// What is passed on in place of a FETCH of which a part is a lie: nothing at all ends the connection.
    fn lie(&self, tag: &str, set: &str, items: &str, back: &mut TcpStream) -> Option<String> {
        let item = items.trim_matches(['(', ')']).strip_prefix("UID ")?;
        let mut rest: Vec<&str> = set.split(',').collect();
        let mut told = String::new();
        for lie in self.lies_here() {
            let uid = lie.uid.to_string();
            let answer = lie.of(item);
            if !rest.contains(&uid.as_str()) || matches!(answer, Answer::True) {
                continue;
            }
            self.asked.lock().unwrap().push(item.to_owned());
            let name = item.replace(".PEEK", "");
            match answer {
                Answer::First(act) => {
                    act();
                    continue;
                }
                Answer::HangUp => {
                    // What comes before it is given.
                    let at = rest.iter().position(|one| *one == uid).unwrap_or_default();
                    if at == 0 {
                        return Some(String::new());
                    }
                    *self.last.lock().unwrap() = Some(format!("{tag} "));
                    return Some(format!("{tag} UID FETCH {} {items}\r\n", rest[..at].join(",")));
                }
                Answer::Refused(why) => {
                    let _ = back.write_all(format!("{tag} NO {why}\r\n").as_bytes());
                    return Some("liar NOOP\r\n".to_owned());
                }
                Answer::Nil => told.push_str(&format!("* 1 FETCH (UID {uid} {name} NIL)\r\n")),
                Answer::Growing(count) => {
                    let text = "x".repeat(count.fetch_add(1, Ordering::Relaxed) + 1);
                    told.push_str(&format!("* 1 FETCH (UID {uid} {name} {{{}}}\r\n{text})\r\n", text.len()));
                }
                Answer::Text(text) => {
                    let head = format!("* 1 FETCH (UID {uid} {name} {{{}}}\r\n", text.len());
                    let _ = back.write_all(&[head.as_bytes(), text, b")\r\n"].concat());
                }
                Answer::Silence | Answer::True => {}
            }
            rest.retain(|one| *one != uid);
        }
        let _ = back.write_all(told.as_bytes());
        if rest.is_empty() {
            let _ = back.write_all(format!("{tag} OK that is all\r\n").as_bytes());
            return Some("liar NOOP\r\n".to_owned());
        }
        Some(format!("{tag} UID FETCH {} {items}\r\n", rest.join(",")))
    }

    fn answers(&self, server: TcpStream, mut client: TcpStream) {
        let mut reader = BufReader::new(server);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            for lie in self.lies_here() {
                let (Some(size), true) = (lie.size, text.contains(&format!("(UID {} ", lie.uid))) else { continue };
                if let Some((before, after)) = text.split_once("RFC822.SIZE ") {
                    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                    line = format!("{before}RFC822.SIZE {size}{after}").into_bytes();
                }
            }
            if self.last.lock().unwrap().as_ref().is_some_and(|last| text.starts_with(last)) {
                break;
            }
            // The answer to a NOOP of our own.
            if !line.starts_with(b"liar ") && client.write_all(&line).is_err() {
                break;
            }
            line.clear();
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = reader.into_inner().shutdown(Shutdown::Both);
    }
}
