//! What the scripted Gmail says over POP3: INBOX without what a POP3 client has had, the oldest first.

use std::sync::{Arc, Mutex};

use base64::Engine as _;

use super::wire::Wire;
use super::{State, tokens};

pub struct Session {
    wire: Wire,
    state: Arc<Mutex<State>>,
    user: String,
    /// X-GM-MSGID by message number.
    ids: Vec<u64>,
    taken: Vec<u64>,
}

impl Session {
    pub fn new(wire: Wire, state: Arc<Mutex<State>>) -> Self {
        Self { wire, state, user: String::new(), ids: Vec::new(), taken: Vec::new() }
    }

    pub fn run(mut self) -> Option<()> {
        self.wire.say(b"+OK Gpop ready for requests from 127.0.0.1 d2e1a72fcca58\r\n")?;
        let mut name = String::new();
        loop {
            let line = self.wire.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let said = match (words[0].to_ascii_uppercase().as_str(), &words[1..]) {
                ("CAPA", _) => {
                    let ways = if self.wire.encrypted { "SASL PLAIN XOAUTH2 OAUTHBEARER\r\n" } else { "" };
                    format!("+OK Capability list follows\r\nUSER\r\nRESP-CODES\r\nEXPIRE 0\r\nTOP\r\nUIDL\r\n{ways}.")
                }
                ("AUTH", ["PLAIN", given]) => {
                    let message = base64::engine::general_purpose::STANDARD.decode(given).unwrap_or_default();
                    let parts: Vec<_> = message.split(|octet| *octet == 0).map(String::from_utf8_lossy).collect();
                    match &parts[..] {
                        [_, user, password] if *password == format!("pw-of-{user}") => {
                            self.enter(user);
                            "+OK Welcome.".to_owned()
                        }
                        _ => "-ERR [AUTH] Username and password not accepted.".to_owned(),
                    }
                }
                ("AUTH", [mechanism, rest @ ..]) if self.wire.encrypted && tokens::MECHANISMS.contains(mechanism) => {
                    let given = (*mechanism, rest.first().copied());
                    match tokens::exchange(&mut self.wire, &self.state, "POP3", given)? {
                        Some((user, _)) => {
                            self.enter(&user);
                            "+OK Welcome.".to_owned()
                        }
                        None => "-ERR [AUTH] Username and password not accepted.".to_owned(),
                    }
                }
                ("USER", [user]) => {
                    name = (*user).to_owned();
                    "+OK send PASS".to_owned()
                }
                ("PASS", [password]) if *password == format!("pw-of-{name}") => {
                    self.enter(&name);
                    "+OK Welcome.".to_owned()
                }
                ("PASS", _) => "-ERR [AUTH] Username and password not accepted.".to_owned(),
                ("QUIT", _) => {
                    self.leave();
                    self.wire.say(b"+OK Farewell.\r\n")?;
                    return None;
                }
                ("NOOP", _) => "+OK".to_owned(),
                ("STAT", []) => {
                    format!("+OK {} {}", self.ids.len(), self.ids.iter().map(|id| self.size(*id)).sum::<usize>())
                }
                ("LIST", []) => self.each(|this, id| this.size(id).to_string()),
                ("UIDL", []) => self.each(|_, id| format!("GmailId{id:x}")),
                ("RETR" | "TOP", [number, ..]) => {
                    match number.parse::<usize>().ok().and_then(|number| self.ids.get(number - 1)) {
                        Some(&id) => self.text(id, words[0].eq_ignore_ascii_case("TOP")),
                        None => "-ERR no such message".to_owned(),
                    }
                }
                _ => "-ERR bad command".to_owned(),
            };
            self.wire.say(format!("{said}\r\n").as_bytes())?;
        }
    }

    fn enter(&mut self, user: &str) {
        user.clone_into(&mut self.user);
        let state = self.state.lock().unwrap();
        let account = &state.accounts[user];
        let inbox = account.find("INBOX").unwrap();
        let mut ids: Vec<u64> = inbox.uids.values().copied().filter(|id| !account.letters[id].popped).collect();
        ids.sort_unstable();
        drop(state);
        self.ids = ids;
    }

    /// What was retrieved is hidden from the next session.
    fn leave(&self) {
        let mut state = self.state.lock().unwrap();
        for id in &self.taken {
            if let Some(letter) = state.accounts.get_mut(&self.user).and_then(|account| account.letters.get_mut(id)) {
                letter.popped = true;
            }
        }
    }

    fn size(&self, id: u64) -> usize {
        self.state.lock().unwrap().accounts[&self.user].letters.get(&id).map_or(0, |letter| letter.body.len())
    }

    fn each(&self, of: impl Fn(&Self, u64) -> String) -> String {
        let lines = self.ids.iter().enumerate().map(|(at, id)| format!("{} {}\r\n", at + 1, of(self, *id)));
        format!("+OK\r\n{}.", lines.collect::<String>())
    }

    /// (No test has a line that begins with a dot.)
    fn text(&mut self, id: u64, only_head: bool) -> String {
        let state = self.state.lock().unwrap();
        let text = String::from_utf8_lossy(&state.accounts[&self.user].letters[&id].body).into_owned();
        drop(state);
        if only_head {
            return format!("+OK\r\n{}\r\n\r\n.", text.split("\r\n\r\n").next().unwrap_or_default());
        }
        self.taken.push(id);
        format!("+OK message follows\r\n{text}.")
    }
}
