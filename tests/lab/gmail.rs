//! A scripted Gmail: an IMAP and POP3 server that behaves as Gmail's is documented and was seen to. Gmail itself can't be had for a test.
//!
//! A message is there once, has one X-GM-MSGID, and shows in the mailbox of each of its labels and in `[Gmail]/All Mail`
//! ([`account`]); the names of Gmail's own mailboxes depend on the user's language, their SPECIAL-USE doesn't. Passwords are
//! taken over TLS only. An account has a number of connections and of octets a day ([`Limits`]); what is more is refused in
//! Gmail's words. Every body that is sent is written down ([`Fetched`]).

pub mod account;
mod imap;
mod pop3;
mod tokens;
mod wire;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::brands::Served;
use super::tls::{self, TlsFiles};
pub use account::{Account, Letter, Tongue};

/// What an account may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at once.
    pub connections: usize,
    /// Octets of messages a day.
    pub octets: u64,
    /// Answers that say `[THROTTLED]`, from now on.
    pub throttled: u32,
}

/// One body as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub user: String,
    pub folder: String,
    pub msgid: u64,
    pub octets: u64,
}

/// What all sessions share.
#[derive(Debug)]
pub struct State {
    pub accounts: BTreeMap<String, Account>,
    pub limits: Limits,
    pub tokens: tokens::Tokens,
    /// Octets of messages that each user was sent today.
    pub sent: BTreeMap<String, u64>,
    /// Sessions of each user.
    pub open: BTreeMap<String, usize>,
    /// The most there ever were.
    pub most_open: usize,
    pub fetched: Vec<Fetched>,
    /// Commands that were refused because of a limit.
    pub refused: u32,
}

/// The server. Its threads end with the test's process.
#[derive(Debug)]
pub struct Gmail {
    folder: tempfile::TempDir,
    tls: TlsFiles,
    imap: [u16; 2],
    pop3: [u16; 2],
    state: Arc<Mutex<State>>,
}

impl Gmail {
    /// With these users, whose passwords are `pw-of-USER`.
    pub fn start(users: &[&str], tongue: Tongue) -> Self {
        let folder = tempfile::Builder::new().prefix("mfgmail").tempdir().unwrap();
        let tls = tls::write(folder.path());
        let state = State {
            accounts: users.iter().map(|user| ((*user).to_owned(), Account::new(tongue))).collect(),
            limits: Limits { connections: 15, octets: u64::MAX, throttled: 0 },
            tokens: tokens::Tokens::default(),
            sent: BTreeMap::new(),
            open: BTreeMap::new(),
            most_open: 0,
            fetched: Vec::new(),
            refused: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let config = wire::config(&tls);
        let listen = |is_imap: bool, encrypted: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (state, config) = (Arc::clone(&state), Arc::clone(&config));
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let (state, config) = (Arc::clone(&state), Arc::clone(&config));
                    thread::spawn(move || {
                        if let Some(wire) = wire::Wire::over(client, encrypted.then_some(config)) {
                            if is_imap {
                                imap::Session::new(wire, state).run();
                            } else {
                                pop3::Session::new(wire, state).run();
                            }
                        }
                    });
                }
            });
            port
        };
        let (imap, pop3) = ([false, true].map(|tls| listen(true, tls)), [false, true].map(|tls| listen(false, tls)));
        Self { folder, tls, imap, pop3, state }
    }

    /// `imaps://…`, the way in for everybody but the tests' own client.
    pub fn url(&self) -> String {
        format!("imaps://localhost:{}", self.imap[1])
    }

    /// `pop3s://…`
    pub fn pop3_url(&self) -> String {
        format!("pop3s://localhost:{}", self.pop3[1])
    }

    /// What all sessions share: held, they wait.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Brings a message; gives its X-GM-MSGID.
    pub fn deliver(&self, user: &str, labels: &[&str], date: i64, body: &str) -> u64 {
        self.state().accounts.get_mut(user).unwrap().deliver(labels, date, body.replace('\n', "\r\n").into_bytes())
    }

    /// Changes an account in the web interface.
    pub fn change<T>(&self, user: &str, change: impl FnOnce(&mut Account) -> T) -> T {
        change(self.state().accounts.get_mut(user).unwrap())
    }

    /// A new day begins.
    pub fn new_day(&self) {
        self.state().sent.clear();
    }

    /// How often each message's body was sent, by X-GM-MSGID.
    pub fn fetches(&self, user: &str) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        self.state()
            .fetched
            .iter()
            .filter(|one| one.user == user)
            .for_each(|one| *counts.entry(one.msgid).or_default() += 1);
        counts
    }

    /// Octets of bodies that were sent.
    pub fn octets(&self, user: &str) -> u64 {
        self.state().fetched.iter().filter(|one| one.user == user).map(|one| one.octets).sum()
    }
}

impl Served for Gmail {
    /// For the tests' own client, which is let in without TLS.
    fn imap_port(&self) -> u16 {
        self.imap[0]
    }

    fn pop3_port(&self) -> u16 {
        self.pop3[0]
    }

    fn password(&self, user: &str) -> String {
        format!("pw-of-{user}")
    }

    fn ca(&self) -> Option<&Path> {
        Some(&self.tls.ca)
    }
}
