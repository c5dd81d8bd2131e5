//! A wire before a real server that lets in by means which that server doesn't know: tokens that can be over, and PROXYAUTH.
//! Behind the login everything is the real server's.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How a session ends whose token is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// BYE, and the end of the connection.
    Bye,
    /// The end of the connection, without a word.
    HangUp,
    /// Every command is refused.
    No,
}

#[derive(Debug)]
struct State {
    /// Tokens are `token-N`; those up to this one are over.
    over: u64,
    /// The next line of a client with this in it ends its session, and its token.
    end: Option<(&'static str, End)>,
    /// Who was let in, in order: the account, and with which token or as whom.
    logins: Vec<(String, String)>,
    refused: usize,
    /// An account that no administrator gets.
    hidden: Option<String>,
}

/// The wire.
#[derive(Clone, Debug)]
pub struct Porter {
    pub port: u16,
    server: u16,
    state: Arc<Mutex<State>>,
    /// `user:password` of who may say PROXYAUTH; none: tokens are wanted.
    admin: Option<&'static str>,
    initial: bool,
}

impl Porter {
    /// Lets in by XOAUTH2 and OAUTHBEARER, with the message in the command or behind it. Tokens are `token-1`, `token-2` and so on.
    pub fn with_tokens(server: u16, initial: bool) -> Self {
        Self::start(server, None, initial)
    }

    /// Lets an administrator in, who says PROXYAUTH then.
    pub fn with_admin(server: u16, admin: &'static str) -> Self {
        Self::start(server, Some(admin), false)
    }

    fn start(server: u16, admin: Option<&'static str>, initial: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State { over: 0, end: None, logins: Vec::new(), refused: 0, hidden: None };
        let port = listener.local_addr().unwrap().port();
        let porter = Self { port, server, state: Arc::new(Mutex::new(state)), admin, initial };
        let another = porter.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let porter = another.clone();
                thread::spawn(move || porter.serve(client));
            }
        });
        porter
    }

    /// `imap://…` of this wire.
    pub fn url(&self) -> String {
        format!("imap://127.0.0.1:{}", self.port)
    }

    /// The next line of a client with `word` in it finds that its token is over.
    pub fn end_at(&self, word: &'static str, end: End) {
        self.state.lock().unwrap().end = Some((word, end));
    }

    /// Whether that has happened.
    pub fn has_ended(&self) -> bool {
        self.state.lock().unwrap().end.is_none()
    }

    /// All tokens up to `token-N` are over.
    pub fn over(&self, number: u64) {
        self.state.lock().unwrap().over = number;
    }

    /// From now on no administrator gets this account.
    pub fn refuse(&self, user: &str) {
        self.state.lock().unwrap().hidden = Some(user.to_owned());
    }

    /// Who was let in, in order: the account, and with which token or as whom.
    pub fn logins(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().logins.clone()
    }

    /// Logins that were refused.
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }

    fn serve(&self, client: TcpStream) {
        let mut say = client.try_clone().unwrap();
        let mut lines = BufReader::new(client);
        let ways = match (self.admin, self.initial) {
            (Some(_), _) => "AUTH=PLAIN",
            (None, true) => "AUTH=XOAUTH2 AUTH=OAUTHBEARER SASL-IR",
            (None, false) => "AUTH=XOAUTH2 AUTH=OAUTHBEARER",
        };
        let capabilities = format!("* OK [CAPABILITY IMAP4rev1 {ways}] at the door\r\n");
        if say.write_all(capabilities.as_bytes()).is_err() {
            return;
        }
        let mut admin = false;
        while let Some(line) = next(&mut lines) {
            let words: Vec<&str> = line.split(' ').collect();
            let (user, by, tag) = match words[..] {
                [tag, "AUTHENTICATE", mechanism, ref rest @ ..] => {
                    let message = match rest {
                        [initial] if self.initial => (*initial).to_owned(),
                        _ => {
                            let _ = say.write_all(b"+ \r\n");
                            let Some(message) = next(&mut lines) else { return };
                            message
                        }
                    };
                    let message = String::from_utf8(STANDARD.decode(message).unwrap()).unwrap();
                    if mechanism == "PLAIN" {
                        admin = self.admin.is_some_and(|admin| message == format!("\0{}", admin.replace(':', "\0")));
                        let answer = if admin { "OK in" } else { "NO [AUTHENTICATIONFAILED] not you" };
                        let _ = say.write_all(format!("{tag} {answer}\r\n").as_bytes());
                        continue;
                    }
                    let (user, token) = read(mechanism, &message);
                    let number: u64 = token.strip_prefix("token-").and_then(|n| n.parse().ok()).unwrap_or_default();
                    if number <= self.state.lock().unwrap().over {
                        self.state.lock().unwrap().refused += 1;
                        let why = STANDARD.encode("{\"status\":\"401\",\"schemes\":\"bearer\"}");
                        let _ = say.write_all(format!("+ {why}\r\n").as_bytes());
                        // RFC 7628 §3.2.3, and the empty line of XOAUTH2.
                        let wanted = if mechanism == "XOAUTH2" { "" } else { "AQ==" };
                        let said = next(&mut lines);
                        assert_eq!(said.as_deref(), Some(wanted), "what ends {mechanism}");
                        let _ = say.write_all(format!("{tag} NO [AUTHENTICATIONFAILED] Invalid token\r\n").as_bytes());
                        continue;
                    }
                    (user, token, tag)
                }
                [tag, "PROXYAUTH", user] if admin => {
                    let user = user.trim_matches('"');
                    if self.state.lock().unwrap().hidden.as_deref() == Some(user) {
                        let _ = say.write_all(format!("{tag} NO you may not have that account\r\n").as_bytes());
                        continue;
                    }
                    (user.to_owned(), "PROXYAUTH".to_owned(), tag)
                }
                [tag, "CAPABILITY"] => {
                    let _ = say.write_all(format!("* CAPABILITY IMAP4rev1 {ways}\r\n{tag} OK that\r\n").as_bytes());
                    continue;
                }
                [tag, "LOGOUT"] => {
                    let _ = say.write_all(format!("* BYE\r\n{tag} OK\r\n").as_bytes());
                    return;
                }
                _ => {
                    let tag = words.first().copied().unwrap_or("*");
                    let _ = say.write_all(format!("{tag} BAD not here\r\n").as_bytes());
                    continue;
                }
            };
            self.state.lock().unwrap().logins.push((user.clone(), by.clone()));
            return self.relay(&user, tag, lines, say, &by);
        }
    }

    /// Logs in behind, and passes on.
    fn relay(&self, user: &str, tag: &str, mut lines: BufReader<TcpStream>, mut say: TcpStream, by: &str) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        let mut answers = BufReader::new(server.try_clone().unwrap());
        let _greeting = next(&mut answers);
        server.write_all(format!("{tag} LOGIN {user} pw-of-{user}\r\n").as_bytes()).unwrap();
        let mut back = say.try_clone().unwrap();
        thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let mut refuses = false;
        while let Some(line) = next(&mut lines) {
            let mut state = self.state.lock().unwrap();
            if let Some((word, end)) = state.end
                && line.contains(word)
            {
                let number = by.strip_prefix("token-").and_then(|n| n.parse().ok()).unwrap_or_default();
                state.over = state.over.max(number);
                state.end = None;
                match end {
                    End::Bye => drop(say.write_all(b"* BYE Session invalidated: AccessTokenExpired\r\n")),
                    End::HangUp => {}
                    End::No => refuses = true,
                }
                if !refuses {
                    let _ = say.shutdown(Shutdown::Both);
                    break;
                }
            }
            drop(state);
            if refuses {
                let tag = line.split(' ').next().unwrap_or_default();
                let _ = say.write_all(format!("{tag} NO [AUTHENTICATIONFAILED] Token expired\r\n").as_bytes());
                continue;
            }
            if server.write_all(format!("{line}\r\n").as_bytes()).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }
}

/// Whose account a message asks for, and with which token.
fn read(mechanism: &str, message: &str) -> (String, String) {
    let parts: Vec<&str> = message.split('\u{1}').collect();
    let user = match (mechanism, &parts[..]) {
        ("XOAUTH2", [user, _, "", ""]) => user.strip_prefix("user="),
        ("OAUTHBEARER", [user, host, port, _, "", ""]) => {
            assert!(*host == "host=127.0.0.1" && port.starts_with("port="), "{message:?}");
            user.strip_prefix("n,a=").and_then(|user| user.strip_suffix(','))
        }
        _ => panic!("{mechanism}: {message:?}"),
    };
    let auth = parts.iter().find_map(|part| part.strip_prefix("auth=Bearer ")).expect("a token");
    (user.expect("a user").to_owned(), auth.to_owned())
}

fn next(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    lines.read_line(&mut line).is_ok_and(|read| read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}
