//! The model of an account: what a fixture put there, how to write it as a Maildir, and whether a server really serves it.

use super::imap::{Imap, lossy, mailbox_name, mutf7};
use super::server::{Dovecot, Format};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Letters a Maildir file name has for keywords; those beyond live only in Dovecot's index.
const KEYWORD_LETTERS: usize = 26;

/// Exactly what an account holds.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: String,
    pub mailboxes: BTreeMap<String, Mailbox>,
    /// Names that LIST shows with \NoSelect (or \NonExistent), parents of something that exists.
    pub no_select: BTreeSet<String>,
    /// Also names that do not exist.
    pub subscriptions: BTreeSet<String>,
}

/// One mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    pub uid_validity: u32,
    pub uid_next: u32,
    pub messages: BTreeMap<u32, Message>,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The octets of the Maildir file.
    pub raw: Arc<[u8]>,
    /// System flags (`\Seen` …) and keywords, without \Recent.
    pub flags: BTreeSet<String>,
    /// INTERNALDATE, seconds since the epoch.
    pub date: i64,
}

/// Which side is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The server that was filled.
    Source,
    /// A server that got everything from us: octet by octet the same.
    Copy,
    /// A server that got everything by Dovecot's own dsync, which eats CRs.
    DovecotCopy,
}

impl Message {
    pub fn new(raw: impl Into<Vec<u8>>, flags: &str, date: i64) -> Self {
        let raw: Vec<u8> = raw.into();
        Self { raw: raw.into(), flags: flags.split_whitespace().map(str::to_owned).collect(), date }
    }

    /// BODY[] as the filled server serves it: every bare LF as CR LF, NUL as 0x80 (RFC 3501 allows no NUL in a literal).
    pub fn served(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len() + self.raw.len() / 40);
        let mut last = 0;
        for &byte in self.raw.iter() {
            if byte == b'\n' && last != b'\r' {
                out.push(b'\r');
            }
            out.push(if byte == 0 { 0x80 } else { byte });
            last = byte;
        }
        out
    }

    /// BODY[] after a copy by Dovecot's own dsync: it drops one CR before each CR LF and one at the very end.
    pub fn copied(&self) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::with_capacity(self.raw.len());
        for byte in self.served() {
            if byte == b'\n' && out.ends_with(b"\r\r") {
                out.pop();
            }
            out.push(byte);
        }
        if out.last() == Some(&b'\r') {
            out.pop();
        }
        out
    }

    /// Names of the rules that make a copy by Dovecot differ from the source.
    pub fn rules(&self) -> Vec<&'static str> {
        let mut rules = Vec::new();
        if self.raw.windows(3).any(|three| three == b"\r\r\n") {
            rules.push("crcrlf");
        }
        if self.raw.last() == Some(&b'\r') {
            rules.push("trailing-cr");
        }
        rules
    }

    fn seen(&self, view: View) -> Vec<u8> {
        match view {
            View::Source | View::Copy => self.served(),
            View::DovecotCopy => self.copied(),
        }
    }

    fn keywords(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(String::as_str).filter(|flag| !flag.starts_with('\\'))
    }
}

impl Mailbox {
    pub fn new(uid_validity: u32) -> Self {
        Self { uid_validity, uid_next: 1, messages: BTreeMap::new() }
    }

    /// Adds a message at the next UID and gives that UID.
    pub fn push(&mut self, message: Message) -> u32 {
        let uid = self.uid_next;
        self.put(uid, message);
        uid
    }

    /// Adds a message at a UID; UIDNEXT follows.
    pub fn put(&mut self, uid: u32, message: Message) {
        assert!(self.messages.insert(uid, message).is_none(), "UID {uid} twice");
        self.uid_next = self.uid_next.max(uid + 1);
    }

    /// Takes a message away; UIDNEXT stays.
    pub fn expunge(&mut self, uid: u32) {
        assert!(self.messages.remove(&uid).is_some(), "no UID {uid}");
    }
}

impl Account {
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            mailboxes: BTreeMap::new(),
            no_select: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
        }
    }

    /// The mailbox of that name, made with a UIDVALIDITY of its own if it is new.
    pub fn mailbox(&mut self, name: &str) -> &mut Mailbox {
        let next = 1_500_000_001 + u32::try_from(self.mailboxes.len()).unwrap();
        self.mailboxes.entry(name.to_owned()).or_insert_with(|| Mailbox::new(next))
    }

    /// Number of messages in all mailboxes.
    pub fn message_count(&self) -> usize {
        self.mailboxes.values().map(|mailbox| mailbox.messages.len()).sum()
    }

    /// Names of the parents that exist only because something below them does.
    pub fn implied_parents(&self) -> BTreeSet<String> {
        let mut parents = BTreeSet::new();
        for name in self.mailboxes.keys() {
            for (at, _) in name.match_indices('/') {
                let parent = &name[..at];
                if !self.mailboxes.contains_key(parent) {
                    parents.insert(parent.to_owned());
                }
            }
        }
        parents
    }

    /// Writes everything as Maildir++ for a server that has never seen this user.
    /// Keywords beyond the 26th of a mailbox are set by IMAP STORE afterwards.
    pub fn write_to(&self, server: &Dovecot) {
        assert_eq!(server.spec().format, Format::Maildir, "fixtures are written as Maildir");
        let root = server.mail_dir(&self.user);
        assert!(!root.join("cur").exists(), "{} has mail already", self.user);
        for name in self.mailboxes.keys() {
            self.write_mailbox(&root, name);
        }
        if !self.mailboxes.contains_key("INBOX") {
            make_maildir(&root);
        }
        let mut subscriptions = "V\t2\n\n".to_owned();
        for name in &self.subscriptions {
            let parts: Vec<String> = name.split('/').map(mutf7).collect();
            let _ = writeln!(subscriptions, "{}", parts.join("\t"));
        }
        fs::write(root.join("subscriptions"), subscriptions).unwrap();
        server.give_to_mail_user(&root);
        self.store_further_keywords(server);
    }

    fn write_mailbox(&self, root: &Path, name: &str) {
        let mailbox = &self.mailboxes[name];
        let folder = folder_of(root, name);
        make_maildir(&folder);
        if name != "INBOX" {
            fs::write(folder.join("maildirfolder"), "").unwrap();
        }
        let letters = lettered_keywords(mailbox);
        let mut uidlist = format!("3 V{} N{}\n", mailbox.uid_validity, mailbox.uid_next);
        for (uid, message) in &mailbox.messages {
            let virtual_size = message.served().len();
            let size = message.raw.len();
            let base = format!("{}.M{uid}V{}.lab,S={size},W={virtual_size}", message.date, mailbox.uid_validity);
            let path = folder.join("cur").join(format!("{base}:2,{}", letters_of(message, &letters)));
            fs::write(&path, &message.raw).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(message.date).unwrap());
            File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
            let _ = writeln!(uidlist, "{uid} :{base}");
        }
        fs::write(folder.join("dovecot-uidlist"), uidlist).unwrap();
        let keywords: String = letters.iter().enumerate().map(|(at, name)| format!("{at} {name}\n")).collect();
        fs::write(folder.join("dovecot-keywords"), keywords).unwrap();
    }

    fn store_further_keywords(&self, server: &Dovecot) {
        let mut session: Option<Imap> = None;
        for (name, mailbox) in &self.mailboxes {
            let letters: BTreeSet<String> = lettered_keywords(mailbox).into_iter().collect();
            let mut selected = false;
            for (uid, message) in &mailbox.messages {
                let further: Vec<&str> = message.keywords().filter(|keyword| !letters.contains(*keyword)).collect();
                if further.is_empty() {
                    continue;
                }
                let imap = session.get_or_insert_with(|| self.log_in(server));
                if !selected {
                    imap.select(name);
                    selected = true;
                }
                imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT ({})", further.join(" ")));
            }
        }
    }

    /// A session of this user on `server`.
    pub fn log_in(&self, server: &Dovecot) -> Imap {
        let mut imap = Imap::connect(server.imap_port());
        imap.login(&self.user, server.password(&self.user));
        imap
    }

    /// Everything in which what a logged-in session sees is not what this model says; at most some hundred lines.
    pub fn differences(&self, imap: &mut Imap, view: View) -> Vec<String> {
        let mut found = Vec::new();
        self.compare_names(imap, &mut found);
        for (name, mailbox) in &self.mailboxes {
            if !found.iter().any(|line| line.starts_with(&format!("{name:?} is missing"))) {
                mailbox.compare(name, imap, view, &mut found);
            }
        }
        found.truncate(300);
        found
    }

    fn compare_names(&self, imap: &mut Imap, found: &mut Vec<String>) {
        let mut listed = BTreeMap::new();
        for response in imap.ok("LIST \"\" \"*\"") {
            let (attributes, name) = list_item(&response);
            listed.insert(name, attributes);
        }
        let selectable = |attributes: &String| {
            let lower = attributes.to_ascii_lowercase();
            !lower.contains("\\noselect") && !lower.contains("\\nonexistent")
        };
        let expected: BTreeMap<String, &String> = self.mailboxes.keys().map(|name| (mutf7(name), name)).collect();
        for (raw, name) in &expected {
            match listed.get(raw) {
                None => found.push(format!("{name:?} is missing")),
                Some(attributes) if !selectable(attributes) => found.push(format!("{name:?} is missing: {attributes}")),
                Some(_) => {}
            }
        }
        let parents: BTreeSet<String> = self.no_select.iter().map(|name| mutf7(name)).collect();
        for (name, attributes) in &listed {
            if selectable(attributes) && !expected.contains_key(name) && name != "INBOX" {
                found.push(format!("unexpected mailbox {name:?}"));
            }
            if !selectable(attributes) && !parents.contains(name) {
                found.push(format!("{name:?} is {attributes}"));
            }
        }
        for name in parents.iter().filter(|name| !listed.contains_key(*name)) {
            found.push(format!("the parent {name:?} is not listed"));
        }
        let subscribed: BTreeSet<String> =
            imap.ok("LIST (SUBSCRIBED) \"\" \"*\"").iter().map(|response| list_item(response).1).collect();
        let wanted: BTreeSet<String> = self.subscriptions.iter().map(|name| mutf7(name)).collect();
        if subscribed != wanted {
            found.push(format!("subscriptions are {subscribed:?}, not {wanted:?}"));
        }
    }
}

impl Mailbox {
    fn compare(&self, name: &str, imap: &mut Imap, view: View, found: &mut Vec<String>) {
        let untagged = imap.ok(&format!("STATUS {} (UIDVALIDITY UIDNEXT MESSAGES)", mailbox_name(name)));
        let line =
            untagged.iter().map(|bytes| lossy(bytes)).find(|line| line.contains("UIDVALIDITY")).unwrap_or_default();
        let number = |key: &str| -> u64 {
            line.rsplit(key)
                .next()
                .and_then(|rest| rest.split([' ', ')']).find_map(|word| word.parse().ok()))
                .unwrap_or(0)
        };
        for (what, has, wants) in [
            ("UIDVALIDITY", number("UIDVALIDITY"), u64::from(self.uid_validity)),
            ("UIDNEXT", number("UIDNEXT"), u64::from(self.uid_next)),
            ("MESSAGES", number("MESSAGES"), self.messages.len() as u64),
        ] {
            if has != wants {
                found.push(format!("{name:?} has {what} {has}, not {wants}"));
            }
        }
        imap.examine(name);
        let uids = imap.uids();
        if !uids.iter().eq(self.messages.keys()) {
            found.push(format!("{name:?} has UIDs {uids:?}, not {:?}", self.messages.keys().collect::<Vec<_>>()));
            return;
        }
        if uids.is_empty() {
            return;
        }
        for response in imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)") {
            let text = lossy(&response);
            let Some(uid) =
                text.split("UID ").nth(1).and_then(|rest| rest.split([' ', ')']).next()?.parse::<u32>().ok())
            else {
                continue;
            };
            self.compare_facts(name, uid, &text, view, found);
        }
        for (uid, message) in &self.messages {
            let wanted = message.seen(view);
            let body = imap.body(*uid).unwrap_or_default();
            if body != wanted {
                let at = body.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
                found.push(format!(
                    "{name:?} UID {uid}: {} octets, not {}; they part at {at}: {:?} and {:?}",
                    body.len(),
                    wanted.len(),
                    excerpt(&body, at),
                    excerpt(&wanted, at)
                ));
            }
        }
    }

    fn compare_facts(&self, name: &str, uid: u32, response: &str, view: View, found: &mut Vec<String>) {
        let Some(message) = self.messages.get(&uid) else { return };
        let lower = |flag: &str| flag.to_ascii_lowercase();
        let has: BTreeSet<String> =
            super::imap::flags_of(response).unwrap_or_default().iter().map(|flag| lower(flag)).collect();
        let wants: BTreeSet<String> = message.flags.iter().map(|flag| lower(flag)).collect();
        if has != wants {
            found.push(format!("{name:?} UID {uid} has flags {has:?}, not {wants:?}"));
        }
        let date = response.split("INTERNALDATE \"").nth(1).and_then(|rest| instant(rest.split('"').next()?));
        if date != Some(message.date) {
            found.push(format!("{name:?} UID {uid} has INTERNALDATE {date:?}, not {}", message.date));
        }
        let size = message.seen(view).len();
        if !response.contains(&format!("RFC822.SIZE {size}")) {
            found.push(format!("{name:?} UID {uid}: {response} where RFC822.SIZE {size} was expected"));
        }
    }
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    lossy(&bytes[at.min(bytes.len())..(at + 20).min(bytes.len())])
}

/// The Maildir++ folder of a mailbox.
pub fn folder_of(root: &Path, name: &str) -> PathBuf {
    if name == "INBOX" {
        return root.to_owned();
    }
    root.join(name.split('/').map(|part| format!(".{}", mutf7(part))).collect::<String>())
}

fn make_maildir(folder: &Path) {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.join(sub)).unwrap();
    }
}

/// The first keywords of a mailbox, in the order in which messages bring them, as many as have letters.
fn lettered_keywords(mailbox: &Mailbox) -> Vec<String> {
    let mut keywords: Vec<String> = Vec::new();
    for keyword in mailbox.messages.values().flat_map(Message::keywords) {
        if keywords.len() < KEYWORD_LETTERS && !keywords.iter().any(|known| known == keyword) {
            keywords.push(keyword.to_owned());
        }
    }
    keywords
}

/// The part of a Maildir file name behind `:2,`: system flags in ASCII order, then keywords.
fn letters_of(message: &Message, keywords: &[String]) -> String {
    let system = [("\\Draft", 'D'), ("\\Flagged", 'F'), ("\\Answered", 'R'), ("\\Seen", 'S'), ("\\Deleted", 'T')];
    let mut letters: String =
        system.iter().filter(|(flag, _)| message.flags.contains(*flag)).map(|(_, letter)| *letter).collect();
    letters
        .extend(('a'..='z').zip(keywords).filter(|(_, name)| message.flags.contains(*name)).map(|(letter, _)| letter));
    letters
}

/// Attributes and name (as on the wire, unquoted) of a LIST response.
pub fn list_item(response: &[u8]) -> (String, String) {
    let text = lossy(response);
    let (head, rest) = text.split_once(") ").unwrap_or_else(|| panic!("no LIST response: {text}"));
    let attributes = head.rsplit('(').next().unwrap_or_default().to_owned();
    // The delimiter: "x", "\\" or NIL.
    let name = rest.strip_prefix("NIL ").or_else(|| rest.strip_prefix('"')?.split_once("\" ").map(|(_, name)| name));
    let name = name.unwrap_or_else(|| panic!("no name in {text}"));
    let unquoted = if let Some(inside) = name.strip_prefix('"') {
        let mut out = String::new();
        let mut characters = inside.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => out.extend(characters.next()),
                other => out.push(other),
            }
        }
        out
    } else if let Some((_, literal)) = name.split_once("}\r\n") {
        literal.to_owned()
    } else {
        name.split(" (").next().unwrap_or(name).to_owned()
    };
    (attributes, unquoted)
}

/// INTERNALDATE as seconds since the epoch.
pub fn instant(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_whitespace();
    let (day, time, zone) = (words.next()?, words.next()?, words.next()?);
    let mut parts = day.split('-');
    let day: i64 = parts.next()?.parse().ok()?;
    let month_name = parts.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month_name)?).ok()? + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let clock: Vec<i64> = time.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = clock[..] else { return None };
    let (sign, digits) = zone.split_at(1);
    let offset: i64 = digits.parse().ok()?;
    let offset = (offset / 100 * 60 + offset % 100) * 60 * if sign == "-" { -1 } else { 1 };
    // Days from a civil date, counting years from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds - offset)
}
