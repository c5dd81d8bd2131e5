//! An account as an IMAP client can see it, read whole from a server or kept as a model: the two compared, nothing is left
//! unsaid. Names are as they go over the wire (modified UTF-7). It shares no code with the crate under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::account::{instant, list_item};
use super::brands::Served;
use super::imap::{Imap, flags_of, literal, lossy, quoted};

/// Everything of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    pub mailboxes: BTreeMap<String, Shelf>,
    pub subscriptions: BTreeSet<String>,
}

/// One mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// `None`: made by a command that does not tell.
    pub uid_validity: Option<u32>,
    pub uid_next: u32,
    pub mails: BTreeMap<u32, Mail>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub flags: BTreeSet<String>,
    /// INTERNALDATE, seconds since the epoch.
    pub date: i64,
    pub body: Vec<u8>,
    /// The UID is the one that a server will give if it has executed what it was told: only for comparing, see
    /// [`World::differences`].
    pub foretold: bool,
}

/// How much of a UIDNEXT must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Equal,
    /// A server that took over may be ahead.
    AtLeast,
}

impl Mail {
    pub fn new(flags: &[&str], date: i64, body: Vec<u8>) -> Self {
        Self { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), date, body, foretold: false }
    }

    /// What tells this message from others, for a reader.
    pub fn subject(&self) -> String {
        let text = lossy(&self.body);
        text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("(no subject)").to_owned()
    }
}

impl Shelf {
    /// Adds a message at the next UID.
    pub fn push(&mut self, mail: Mail) -> u32 {
        let uid = self.uid_next;
        self.put(uid, mail);
        uid
    }

    /// Adds a message at a UID, which no message of this mailbox may ever have had.
    pub fn put(&mut self, uid: u32, mail: Mail) {
        assert!(uid >= self.uid_next, "UID {uid} where UIDNEXT was {}", self.uid_next);
        self.uid_next = uid + 1;
        self.mails.insert(uid, mail);
    }
}

impl World {
    /// Reads everything of `user` from a server, without a proxy.
    pub fn of(server: &dyn Served, user: &str) -> Self {
        // A server may end a session whose mailbox is deleted while it is read.
        let read = || {
            let mut imap = Imap::connect(server.imap_port());
            imap.login(user, &server.password(user));
            Self::try_read(&mut imap)
        };
        (0..5).find_map(|_| read().ok()).unwrap_or_else(|| {
            panic!("{user}'s mailboxes are deleted all the time, or the server says BYE to everybody")
        })
    }

    /// Reads everything in a session that has logged in.
    pub fn read(imap: &mut Imap) -> Self {
        Self::try_read(imap).unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same; what the server said if it ended the session because of a mailbox that is deleted now.
    fn try_read(imap: &mut Imap) -> Result<Self, String> {
        let (mut world, mut names) = (Self::default(), Vec::new());
        for response in imap.ok("LIST \"\" \"*\"") {
            let (attributes, name) = list_item(&response);
            let lower = attributes.to_ascii_lowercase();
            if !lower.contains("\\noselect") && !lower.contains("\\nonexistent") {
                names.push(name);
            }
        }
        for response in imap.ok("LSUB \"\" \"*\"") {
            let (attributes, name) = list_item(&response);
            if !attributes.to_ascii_lowercase().contains("\\noselect") {
                world.subscriptions.insert(name);
            }
        }
        for name in names {
            if let Some(shelf) = read_shelf(imap, &name)? {
                world.mailboxes.insert(name, shelf);
            }
        }
        Ok(world)
    }

    /// The messages of all mailboxes.
    pub fn count(&self) -> usize {
        self.mailboxes.values().map(|shelf| shelf.mails.len()).sum()
    }

    /// In what `found`, read from a server, is not what this model says. Messages that are foretold may have another UID
    /// than the model's, but not a lower one, and not another place among the others.
    pub fn differences(&self, found: &Self, next: Next) -> Vec<String> {
        let mut out = Vec::new();
        for name in self.mailboxes.keys().filter(|name| !found.mailboxes.contains_key(*name)) {
            out.push(format!("{name:?} is missing"));
        }
        for (name, shelf) in &found.mailboxes {
            match self.mailboxes.get(name) {
                None if name == "INBOX" && shelf.mails.is_empty() => {}
                None => out.push(format!("{name:?} should not be there")),
                Some(wanted) => wanted.compare(name, shelf, next, &mut out),
            }
        }
        if self.subscriptions != found.subscriptions {
            out.push(format!("subscriptions are {:?}, not {:?}", found.subscriptions, self.subscriptions));
        }
        out
    }

    /// A mailbox that must be there.
    pub fn shelf(&mut self, name: &str) -> &mut Shelf {
        self.mailboxes.get_mut(name).unwrap_or_else(|| panic!("no mailbox {name:?}"))
    }

    /// A mailbox, if it is one, and those below it.
    pub fn family(&self, name: &str) -> Vec<String> {
        let below = format!("{name}/");
        self.mailboxes.keys().filter(|known| *known == name || known.starts_with(&below)).cloned().collect()
    }

    /// Whether any message has a flag or keyword.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.mailboxes.values().flat_map(|shelf| shelf.mails.values()).any(|mail| mail.flags.contains(flag))
    }

    /// How often a body is there, in all mailboxes.
    pub fn copies(&self, body: &[u8]) -> usize {
        self.mailboxes.values().flat_map(|shelf| shelf.mails.values()).filter(|mail| mail.body == body).count()
    }
}

impl Shelf {
    fn compare(&self, name: &str, found: &Self, next: Next, out: &mut Vec<String>) {
        if self.uid_validity.is_some() && self.uid_validity != found.uid_validity {
            out.push(format!("{name:?} has UIDVALIDITY {:?}, not {:?}", found.uid_validity, self.uid_validity));
        }
        let next_is_fine = found.uid_next == self.uid_next || next == Next::AtLeast && found.uid_next > self.uid_next;
        if !next_is_fine {
            out.push(format!("{name:?} has UIDNEXT {}, not {}", found.uid_next, self.uid_next));
        }
        let wanted: Vec<(&u32, &Mail)> = self.mails.iter().collect();
        let found: Vec<(&u32, &Mail)> = found.mails.iter().collect();
        let uids = |mails: &[(&u32, &Mail)]| mails.iter().map(|(uid, _)| **uid).collect::<Vec<_>>();
        if wanted.len() != found.len() {
            out.push(format!("{name:?} has the UIDs {:?}, not {:?}", uids(&found), uids(&wanted)));
            return;
        }
        for ((uid, mail), (found_uid, found_mail)) in wanted.into_iter().zip(found) {
            if found_uid != uid && !(mail.foretold && found_uid > uid) {
                out.push(format!("{name:?} has UID {found_uid} in the place of {uid} ({})", mail.subject()));
            }
            mail.compare(&format!("{name:?} UID {found_uid} ({})", mail.subject()), found_mail, out);
        }
    }
}

impl Mail {
    fn compare(&self, what: &str, found: &Self, out: &mut Vec<String>) {
        let mut line = String::new();
        if self.flags != found.flags {
            let _ = write!(line, " has flags {:?}, not {:?}", found.flags, self.flags);
        }
        if self.date != found.date {
            let _ = write!(line, " has date {}, not {}", found.date, self.date);
        }
        if self.body != found.body {
            let _ = write!(line, " is another message: {}", found.subject());
        }
        if !line.is_empty() {
            out.push(format!("{what}{line}"));
        }
    }
}

/// `None` if there is no such mailbox.
fn read_shelf(imap: &mut Imap, name: &str) -> Result<Option<Shelf>, String> {
    let mut shelf = Shelf::default();
    let (tagged, untagged) = imap.cmd(&format!("EXAMINE {}", quoted(name)));
    let gone = ["Mailbox doesn't exist", "Mailbox was deleted under us", "Mailbox does not exist"];
    let said = tagged.strip_prefix("NO ").unwrap_or_default();
    let said = said.strip_prefix("[NONEXISTENT] ").unwrap_or(said);
    if gone.iter().any(|words| said.starts_with(words)) {
        // Dovecot's list of mailboxes may show one that was deleted a moment ago, and has others below it, as if it were
        // still there; and it may be deleted while it is opened.
        return Ok(None);
    }
    assert!(tagged.starts_with("OK"), "EXAMINE {name:?}: {tagged}");
    for response in untagged {
        let line = lossy(&response);
        let code = |code: &str| line.split_once(code).and_then(|(_, rest)| rest.split(']').next()?.parse().ok());
        shelf.uid_validity = code("[UIDVALIDITY ").or(shelf.uid_validity);
        shelf.uid_next = code("[UIDNEXT ").unwrap_or(shelf.uid_next);
    }
    let (tagged, untagged) = imap.cmd("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])");
    if tagged.starts_with("* BYE") {
        return Err(tagged);
    }
    assert!(tagged.starts_with("OK"), "UID FETCH in {name:?}: {tagged}");
    for response in untagged {
        let text = lossy(&response);
        // (Flags alone are what another session has just set.)
        let Some((_, facts)) = text.split_once(" FETCH (").filter(|(_, facts)| facts.contains("INTERNALDATE")) else {
            continue;
        };
        let uid = facts.split_once("UID ").and_then(|(_, rest)| rest.split([' ', ')']).next()?.parse().ok());
        let date = facts.split_once("INTERNALDATE \"").and_then(|(_, rest)| instant(rest.split('"').next()?));
        let mail = Mail {
            flags: flags_of(facts).unwrap().into_iter().collect(),
            date: date.unwrap_or_else(|| panic!("no date in {text}")),
            body: literal(&response).unwrap(),
            foretold: false,
        };
        let before = shelf.mails.insert(uid.unwrap_or_else(|| panic!("no UID in {text}")), mail);
        assert!(before.is_none(), "a UID twice: {text}");
    }
    // It was opened to be read only: that expunges nothing, and every server knows it.
    let (tagged, _) = imap.cmd("CLOSE");
    if tagged.starts_with("* BYE") {
        return Err(tagged);
    }
    assert!(tagged.starts_with("OK"), "CLOSE of {name:?}: {tagged}");
    if shelf.uid_next == 0 {
        // Courier tells it here only.
        let said = imap.ok(&format!("STATUS {} (UIDNEXT)", quoted(name)));
        let line = lossy(said.first().unwrap_or_else(|| panic!("no STATUS of {name}")));
        let next = line.rsplit_once("UIDNEXT ").and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok());
        shelf.uid_next = next.unwrap_or_else(|| panic!("no UIDNEXT in {line}"));
    }
    Ok(Some(shelf))
}
