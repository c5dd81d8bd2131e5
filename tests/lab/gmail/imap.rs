//! What the scripted Gmail says.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;

use super::account::Folder;
use super::wire::Wire;
use super::{Account, Fetched, State, tokens};

const BEFORE: &str = "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 XYZZY SASL-IR";
const AFTER: &str = "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE \
                     CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584";
const SPENT: &str = "NO [OVERQUOTA] Account exceeded command or bandwidth limits.";

/// A mailbox that is open, and its messages as the client was told of them.
struct Opened {
    name: String,
    uids: Vec<u32>,
    writable: bool,
}

pub struct Session {
    wire: Wire,
    state: Arc<Mutex<State>>,
    user: Option<String>,
    /// The number of the token that it began with.
    token: Option<u64>,
    opened: Option<Opened>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(user) = self.user.take() {
            *self.state.lock().unwrap().open.entry(user).or_insert(1) -= 1;
        }
    }
}

impl Session {
    pub fn new(wire: Wire, state: Arc<Mutex<State>>) -> Self {
        Self { wire, state, user: None, token: None, opened: None }
    }

    pub fn run(mut self) -> Option<()> {
        self.wire.say(b"* OK Gimap ready for requests from 127.0.0.1 d2e1a72fcca58\r\n")?;
        loop {
            let words = self.wire.command()?;
            let mut words = words.iter().map(String::as_str);
            let (tag, name) = (words.next()?, words.next().unwrap_or_default().to_ascii_uppercase());
            let args: Vec<&str> = words.collect();
            let mut out = Vec::new();
            if self.token.is_some_and(|number| number <= self.state().tokens.over) {
                self.wire.say(b"* BYE Session expired, please login again.\r\n")?;
                return None;
            }
            let said = self.answer(&name, &args, &mut out)?;
            self.news(&name, &mut out);
            out.extend_from_slice(format!("{tag} {said}\r\n").as_bytes());
            self.wire.say(&out)?;
            if name == "LOGOUT" {
                return None;
            }
        }
    }

    fn answer(&mut self, name: &str, args: &[&str], out: &mut Vec<u8>) -> Option<String> {
        let say = |out: &mut Vec<u8>, line: String| out.extend_from_slice(format!("* {line}\r\n").as_bytes());
        let ok = |said: &str| Some(format!("OK {said}"));
        match (name, args) {
            ("CAPABILITY", _) => {
                say(out, format!("CAPABILITY {}", self.capabilities()));
                ok("Thats all she wrote!")
            }
            ("ID", _) => {
                say(
                    out,
                    "ID (\"name\" \"GImap\" \"vendor\" \"Google, Inc.\" \"version\" \"gmail_imap_261120.05_p0\")"
                        .to_owned(),
                );
                ok("Success")
            }
            ("NOOP" | "CHECK" | "ENABLE", _) => ok("Success"),
            ("LOGOUT", _) => {
                say(out, "BYE LOGOUT Requested".to_owned());
                ok("73 good day (Success)")
            }
            ("LOGIN", [user, password]) => Some(self.login(user, password, out)),
            ("AUTHENTICATE", ["PLAIN", rest @ ..]) => {
                let given = match rest {
                    [given] => (*given).to_owned(),
                    _ => {
                        self.wire.say(b"+ \r\n")?;
                        self.wire.line()?
                    }
                };
                let message = base64::engine::general_purpose::STANDARD.decode(given).unwrap_or_default();
                let mut parts = message.split(|octet| *octet == 0).map(String::from_utf8_lossy).skip(1);
                let (user, password) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                Some(self.login(&user, &password, out))
            }
            ("AUTHENTICATE", [mechanism, rest @ ..])
                if self.wire.encrypted && tokens::MECHANISMS.contains(mechanism) =>
            {
                let given = (*mechanism, rest.first().copied());
                Some(match tokens::exchange(&mut self.wire, &self.state, "IMAP", given)? {
                    Some((user, number)) => {
                        self.token = Some(number);
                        self.enter(&user, out)
                    }
                    None => "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)".to_owned(),
                })
            }
            _ if self.user.is_none() => Some("BAD Unknown command".to_owned()),
            ("NAMESPACE", _) => {
                say(out, "NAMESPACE ((\"\" \"/\")) NIL NIL".to_owned());
                ok("Success")
            }
            ("LIST" | "LSUB", args) => {
                let only_subscribed = name == "LSUB" || args.first() == Some(&"(SUBSCRIBED)");
                self.list(if name == "LSUB" { "LSUB" } else { "LIST" }, only_subscribed, out);
                ok("Success")
            }
            ("STATUS", [mailbox, _]) => {
                let state = self.state();
                let Some(folder) = self.account(&state).find(mailbox) else {
                    return Some("NO [NONEXISTENT] Unknown Mailbox: (Failure)".to_owned());
                };
                let unseen =
                    folder.uids.values().filter(|id| !self.account(&state).letters[*id].flags.contains("\\Seen"));
                let Folder { name, uids, uid_next, uid_validity, modseq, .. } = folder;
                say(
                    out,
                    format!(
                        "STATUS \"{name}\" (MESSAGES {} UIDNEXT {uid_next} UIDVALIDITY {uid_validity} UNSEEN {} HIGHESTMODSEQ {modseq})",
                        uids.len(),
                        unseen.count()
                    ),
                );
                ok("Success")
            }
            ("SELECT" | "EXAMINE", [mailbox, ..]) => Some(self.open(mailbox, name == "SELECT", out)),
            ("UNSELECT" | "CLOSE", _) => {
                if name == "CLOSE" {
                    self.expunge();
                }
                self.opened = None;
                ok("Returned to authenticated state. (Success)")
            }
            ("EXPUNGE", _) => {
                self.expunge();
                ok("Success")
            }
            ("IDLE", _) => {
                self.wire.say(b"+ idling\r\n")?;
                self.wire.line()?;
                ok("IDLE terminated (Success)")
            }
            ("UID", [command, rest @ ..]) => self.on_messages(&command.to_ascii_uppercase(), rest, true, out),
            (_, rest) => self.on_messages(name, rest, false, out),
        }
    }

    fn capabilities(&self) -> String {
        let ways =
            if self.wire.encrypted { "AUTH=XOAUTH2 AUTH=PLAIN AUTH=PLAIN-CLIENTTOKEN AUTH=OAUTHBEARER" } else { "" };
        if self.user.is_some() { AFTER.to_owned() } else { format!("{BEFORE} {ways}") }
    }

    fn login(&mut self, user: &str, password: &str, out: &mut Vec<u8>) -> String {
        if !self.state().accounts.contains_key(user) || password != format!("pw-of-{user}") {
            return "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)".to_owned();
        }
        self.enter(user, out)
    }

    fn enter(&mut self, user: &str, out: &mut Vec<u8>) -> String {
        let mut state = self.state.lock().unwrap();
        if state.open.get(user).is_some_and(|open| *open >= state.limits.connections) {
            state.refused += 1;
            return "NO [ALERT] Too many simultaneous connections. (Failure)".to_owned();
        }
        let open = state.open.entry(user.to_owned()).or_default();
        *open += 1;
        let open = *open;
        state.most_open = state.most_open.max(open);
        drop(state);
        self.user = Some(user.to_owned());
        out.extend_from_slice(format!("* CAPABILITY {AFTER}\r\n").as_bytes());
        format!("OK {user} authenticated (Success)")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn account<'a>(&self, state: &'a State) -> &'a Account {
        &state.accounts[self.user.as_deref().unwrap_or_default()]
    }

    fn list(&self, word: &str, only_subscribed: bool, out: &mut Vec<u8>) {
        let state = self.state();
        let account = self.account(&state);
        let mut line = |attributes: &str, name: &str| {
            out.extend_from_slice(format!("* {word} ({attributes}) \"/\" \"{name}\"\r\n").as_bytes());
        };
        for folder in
            account.folders.iter().filter(|folder| !only_subscribed || !account.unsubscribed.contains(&folder.name))
        {
            let special = if folder.special.is_empty() { String::new() } else { format!("{} ", folder.special) };
            line(&format!("{special}\\HasNoChildren"), &folder.name);
        }
        if !only_subscribed {
            line("\\HasChildren \\Noselect", account.parent);
        }
    }

    fn open(&mut self, mailbox: &str, writable: bool, out: &mut Vec<u8>) -> String {
        let state = self.state();
        let Some(folder) = self.account(&state).find(mailbox) else {
            drop(state);
            self.opened = None;
            return "NO [NONEXISTENT] Unknown Mailbox: (Failure)".to_owned();
        };
        let Folder { name, uids, uid_next, uid_validity, modseq, .. } = folder.clone();
        drop(state);
        let flags = "\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing";
        let mut text = String::new();
        let _ = write!(
            text,
            "* FLAGS ({flags})\r\n* OK [PERMANENTFLAGS ({flags} \\*)] Flags permitted.\r\n* OK [UIDVALIDITY {uid_validity}] UIDs valid.\r\n\
             * {} EXISTS\r\n* 0 RECENT\r\n* OK [UIDNEXT {uid_next}] Predicted next UID.\r\n* OK [HIGHESTMODSEQ {modseq}]\r\n",
            uids.len()
        );
        out.extend_from_slice(text.as_bytes());
        self.opened = Some(Opened { name: name.clone(), uids: uids.into_keys().collect(), writable });
        format!("OK [READ-{}] {name} selected. (Success)", if writable { "WRITE" } else { "ONLY" })
    }

    /// What happened to the open mailbox since the client was last told.
    fn news(&mut self, name: &str, out: &mut Vec<u8>) {
        let state = Arc::clone(&self.state);
        let state = state.lock().unwrap();
        let Some(user) = self.user.as_deref() else { return };
        let Some(opened) = &mut self.opened else { return };
        let Some(folder) = state.accounts[user].find(&opened.name) else { return };
        if !["FETCH", "STORE", "SEARCH"].contains(&name) {
            for at in (0..opened.uids.len())
                .rev()
                .filter(|at| !folder.uids.contains_key(&opened.uids[*at]))
                .collect::<Vec<_>>()
            {
                opened.uids.remove(at);
                out.extend_from_slice(format!("* {} EXPUNGE\r\n", at + 1).as_bytes());
            }
        }
        let last = opened.uids.last().copied().unwrap_or_default();
        let before = opened.uids.len();
        opened.uids.extend(folder.uids.keys().filter(|uid| **uid > last));
        if opened.uids.len() > before {
            out.extend_from_slice(format!("* {} EXISTS\r\n", opened.uids.len()).as_bytes());
        }
    }

    fn expunge(&mut self) {
        let Some(Opened { name, writable: true, .. }) = &self.opened else { return };
        let (name, user) = (name.clone(), self.user.clone().unwrap_or_default());
        self.state().accounts.get_mut(&user).unwrap().expunge(&name);
    }

    fn on_messages(&mut self, command: &str, args: &[&str], by_uid: bool, out: &mut Vec<u8>) -> Option<String> {
        let bad = Some("BAD Could not parse command".to_owned());
        let (user, state) = (self.user.clone()?, Arc::clone(&self.state));
        let Some(opened) = &self.opened else { return bad };
        let mut state = state.lock().unwrap();
        let account = &state.accounts[&user];
        let Some(folder) = account.find(&opened.name).cloned() else { return bad };
        let last = if by_uid {
            opened.uids.last().copied().unwrap_or_default()
        } else {
            u32::try_from(opened.uids.len()).ok()?
        };
        let chosen = |set: &str| -> Vec<(usize, u32)> {
            let ranges = ranges(set, last);
            let all = opened.uids.iter().enumerate().map(|(at, uid)| (at + 1, *uid));
            let number =
                |(seq, uid): &(usize, u32)| if by_uid { *uid } else { u32::try_from(*seq).unwrap_or_default() };
            all.filter(|one| ranges.iter().any(|(from, to)| (*from..=*to).contains(&number(one)))).collect()
        };
        match (command, args) {
            ("FETCH", [set, items, more @ ..]) => {
                let since = more
                    .first()
                    .and_then(|more| more.strip_prefix("(CHANGEDSINCE ")?.strip_suffix(')')?.parse::<u64>().ok());
                let items = items_of(items);
                let wants_body = items
                    .iter()
                    .any(|item| item.starts_with("BODY") || item.starts_with("RFC822") && !item.ends_with("SIZE"));
                for (seq, uid) in chosen(set) {
                    let Some(id) = folder.uids.get(&uid) else { continue };
                    let account = &state.accounts[&user];
                    let letter = &account.letters[id];
                    if since.is_some_and(|since| letter.modseq <= since) {
                        continue;
                    }
                    if wants_body && state.sent.get(&user).copied().unwrap_or_default() >= state.limits.octets {
                        state.refused += 1;
                        return Some(SPENT.to_owned());
                    }
                    let (octets, text) = fetched(account, &folder, (seq, uid, *id), &items, since.is_some());
                    out.extend_from_slice(&text);
                    if wants_body && self.wire.encrypted {
                        *state.sent.entry(user.clone()).or_default() += octets;
                        let (user, folder, msgid) = (user.clone(), folder.name.clone(), *id);
                        state.fetched.push(Fetched { user, folder, msgid, octets });
                        let bodies = state.fetched.len();
                        state.tokens.sent(bodies);
                    }
                }
                let throttled = state.limits.throttled > 0;
                state.limits.throttled = state.limits.throttled.saturating_sub(1);
                Some(if throttled { "OK Success [THROTTLED]".to_owned() } else { "OK Success".to_owned() })
            }
            ("SEARCH", args) => {
                let found: Vec<u32> = match args {
                    [.., "UID", set] => chosen(set).into_iter().map(|(_, uid)| uid).collect(),
                    [.., "X-GM-RAW", "in:^pop"] => {
                        folder.uids.iter().filter(|(_, id)| account.letters[*id].popped).map(|(uid, _)| *uid).collect()
                    }
                    _ => return bad,
                };
                let numbers: Vec<String> = found.iter().map(u32::to_string).collect();
                let line = match args.first() {
                    Some(&"RETURN") if numbers.is_empty() => "* ESEARCH UID\r\n".to_owned(),
                    Some(&"RETURN") => format!("* ESEARCH UID ALL {}\r\n", numbers.join(",")),
                    _ => format!("* SEARCH {}\r\n", numbers.join(" ")),
                };
                out.extend_from_slice(line.as_bytes());
                Some("OK SEARCH completed (Success)".to_owned())
            }
            ("STORE", [set, how, flags]) if opened.writable => {
                let flags: Vec<&str> = flags.trim_matches(['(', ')']).split_whitespace().collect();
                for (seq, uid) in chosen(set) {
                    let Some(id) = folder.uids.get(&uid) else { continue };
                    let account = state.accounts.get_mut(&user)?;
                    flags.iter().for_each(|flag| account.flag(*id, flag, how.starts_with('+')));
                    let now = account.flags(*id).join(" ");
                    out.extend_from_slice(format!("* {seq} FETCH (UID {uid} FLAGS ({now}))\r\n").as_bytes());
                }
                Some("OK Success".to_owned())
            }
            _ => bad,
        }
    }
}

/// A FETCH response, and how many octets of the message are in it.
fn fetched(
    account: &Account,
    folder: &Folder,
    (seq, uid, id): (usize, u32, u64),
    items: &[String],
    modseq: bool,
) -> (u64, Vec<u8>) {
    let letter = &account.letters[&id];
    let (mut parts, mut octets): (Vec<Vec<u8>>, u64) = (Vec::new(), 0);
    for item in items {
        let end = letter.body.windows(4).position(|four| four == b"\r\n\r\n").map_or(letter.body.len(), |at| at + 4);
        let mut text = |name: &str, part: &[u8]| {
            octets += part.len() as u64;
            [format!("{name} {{{}}}\r\n", part.len()).as_bytes(), part].concat()
        };
        parts.push(match item.as_str() {
            "UID" => format!("UID {uid}").into_bytes(),
            "FLAGS" => format!("FLAGS ({})", account.flags(id).join(" ")).into_bytes(),
            "INTERNALDATE" => format!("INTERNALDATE \"{}\"", date(letter.date)).into_bytes(),
            "RFC822.SIZE" => format!("RFC822.SIZE {}", letter.body.len()).into_bytes(),
            "MODSEQ" => format!("MODSEQ ({})", letter.modseq).into_bytes(),
            "X-GM-MSGID" => format!("X-GM-MSGID {id}").into_bytes(),
            "X-GM-THRID" => format!("X-GM-THRID {}", letter.thread).into_bytes(),
            "X-GM-LABELS" => {
                let labels = account.shown_labels(id, folder);
                let quoted = labels.iter().map(|label| format!("\"{}\"", label.replace('\\', "\\\\")));
                format!("X-GM-LABELS ({})", quoted.collect::<Vec<_>>().join(" ")).into_bytes()
            }
            "BODY.PEEK[]" | "BODY[]" => text("BODY[]", &letter.body),
            "RFC822" => text("RFC822", &letter.body),
            "BODY.PEEK[HEADER]" => text("BODY[HEADER]", &letter.body[..end]),
            "BODY.PEEK[TEXT]" => text("BODY[TEXT]", &letter.body[end..]),
            _ => format!("{item} NIL").into_bytes(),
        });
    }
    if !items.iter().any(|item| item == "UID") {
        parts.push(format!("UID {uid}").into_bytes());
    }
    if modseq && !items.iter().any(|item| item == "MODSEQ") {
        parts.push(format!("MODSEQ ({})", letter.modseq).into_bytes());
    }
    let inside = parts.join(&b' ');
    (octets, [format!("* {seq} FETCH (").as_bytes(), &inside, b")\r\n"].concat())
}

/// The items of a FETCH: `(UID BODY.PEEK[HEADER.FIELDS (DATE)])` has two.
fn items_of(items: &str) -> Vec<String> {
    let inside = items.strip_prefix('(').and_then(|items| items.strip_suffix(')')).unwrap_or(items);
    let (mut out, mut depth) = (vec![String::new()], 0);
    for c in inside.chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        match (c, out.last_mut()) {
            (' ', _) if depth == 0 => out.push(String::new()),
            (c, Some(last)) => last.push(c.to_ascii_uppercase()),
            _ => {}
        }
    }
    out
}

fn ranges(set: &str, last: u32) -> Vec<(u32, u32)> {
    let number = |text: &str| if text == "*" { last } else { text.parse().unwrap_or_default() };
    let range = |part: &str| match part.split_once(':') {
        Some((from, to)) => (number(from).min(number(to)), number(from).max(number(to))),
        None => (number(part), number(part)),
    };
    set.split(',').map(range).collect()
}

/// INTERNALDATE, always in UTC.
fn date(seconds: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil dates from days, counting years from March.
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let name = MONTHS[usize::try_from(month - 1).unwrap()];
    format!("{day:02}-{name}-{year} {:02}:{:02}:{:02} +0000", clock / 3600, clock / 60 % 60, clock % 60)
}
