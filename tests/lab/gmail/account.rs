//! An account as Gmail keeps it: messages with labels, and a mailbox for each label.

use std::collections::{BTreeMap, BTreeSet};

/// The language of Gmail's own mailboxes' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    English,
    German,
    Spanish,
}

/// Which messages a mailbox shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shows {
    All,
    /// Those with this label: `\Inbox`, `\Starred`, or one of the user's own.
    Label(String),
}

/// A mailbox.
#[derive(Debug, Clone)]
pub struct Folder {
    /// As it goes over the wire.
    pub name: String,
    /// Of LIST, beside those that every mailbox has.
    pub special: &'static str,
    pub shows: Shows,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub modseq: u64,
    /// X-GM-MSGID by UID.
    pub uids: BTreeMap<u32, u64>,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Letter {
    pub thread: u64,
    pub labels: BTreeSet<String>,
    /// Without `\Flagged`, which is the label `\Starred`.
    pub flags: BTreeSet<String>,
    pub date: i64,
    pub body: Vec<u8>,
    pub modseq: u64,
    /// A POP3 client has had it.
    pub popped: bool,
}

#[derive(Debug, Clone)]
pub struct Account {
    pub letters: BTreeMap<u64, Letter>,
    pub folders: Vec<Folder>,
    pub parent: &'static str,
    pub unsubscribed: BTreeSet<String>,
    next_id: u64,
    modseq: u64,
}

impl Account {
    pub fn new(tongue: Tongue) -> Self {
        let (parent, names) = match tongue {
            Tongue::English => {
                ("[Gmail]", ["All Mail", "Drafts", "Important", "Sent Mail", "Spam", "Starred", "Trash"])
            }
            Tongue::German => (
                "[Google Mail]",
                ["Alle Nachrichten", "Entw&APw-rfe", "Wichtig", "Gesendet", "Spam", "Markiert", "Papierkorb"],
            ),
            Tongue::Spanish => {
                ("[Gmail]", ["Todos", "Borradores", "Importantes", "Enviados", "Spam", "Destacados", "Papelera"])
            }
        };
        let mut account = Self {
            letters: BTreeMap::new(),
            folders: Vec::new(),
            parent,
            unsubscribed: BTreeSet::new(),
            // Ids are times in microseconds times 1024 or so: 19 digits, 16 in hexadecimal.
            next_id: 0x11be_3f4a_5b6c_7d80,
            modseq: 9000,
        };
        account.folder("INBOX", "", Shows::Label("\\Inbox".to_owned()));
        let labels = ["", "\\Draft", "\\Important", "\\Sent", "\\Junk", "\\Starred", "\\Trash"];
        let uses = ["\\All", "\\Drafts", "\\Important", "\\Sent", "\\Junk", "\\Flagged", "\\Trash"];
        for ((name, label), special) in names.iter().zip(labels).zip(uses) {
            let shows = if label.is_empty() { Shows::All } else { Shows::Label(label.to_owned()) };
            account.folder(&format!("{parent}/{name}"), special, shows);
        }
        account
    }

    fn folder(&mut self, name: &str, special: &'static str, shows: Shows) {
        let uid_validity = u32::try_from(self.folders.len()).unwrap() + 1;
        let (uids, modseq) = (BTreeMap::new(), self.modseq);
        self.folders.push(Folder { name: name.to_owned(), special, shows, uid_validity, uid_next: 1, modseq, uids });
    }

    /// The name of Gmail's own mailbox with this SPECIAL-USE.
    pub fn named(&self, special: &str) -> String {
        self.folders.iter().find(|folder| folder.special == special).unwrap().name.clone()
    }

    pub fn find(&self, name: &str) -> Option<&Folder> {
        self.folders
            .iter()
            .find(|folder| folder.name == name || name.eq_ignore_ascii_case("INBOX") && folder.name == "INBOX")
    }

    /// Brings a message; gives its X-GM-MSGID. A label that is not there yet is made, with its mailbox.
    pub fn deliver(&mut self, labels: &[&str], date: i64, body: Vec<u8>) -> u64 {
        self.next_id += 0x1_0000_1003;
        let (id, thread) = (self.next_id, self.next_id & !0xff);
        let labels: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        for label in labels.iter().filter(|label| !label.starts_with('\\')) {
            if self.find(label).is_none() {
                self.folder(label, "", Shows::Label(label.clone()));
            }
        }
        self.letters
            .insert(id, Letter { thread, labels, flags: BTreeSet::new(), date, body, modseq: 0, popped: false });
        self.changed(id);
        id
    }

    pub fn label(&mut self, id: u64, label: &str, has: bool) {
        if has && !label.starts_with('\\') && self.find(label).is_none() {
            self.folder(label, "", Shows::Label(label.to_owned()));
        }
        let labels = &mut self.letters.get_mut(&id).unwrap().labels;
        if has {
            labels.insert(label.to_owned())
        } else {
            labels.remove(label)
        };
        self.changed(id);
    }

    /// Sets or takes a flag as STORE does.
    pub fn flag(&mut self, id: u64, flag: &str, has: bool) {
        if flag.eq_ignore_ascii_case("\\Flagged") {
            return self.label(id, "\\Starred", has);
        }
        let flags = &mut self.letters.get_mut(&id).unwrap().flags;
        if has {
            flags.insert(flag.to_owned())
        } else {
            flags.remove(flag)
        };
        self.changed(id);
    }

    /// What EXPUNGE in a mailbox does: takes its label, or, in Trash and Spam, the message.
    pub fn expunge(&mut self, folder: &str) {
        let Some(Folder { uids, shows, .. }) = self.find(folder).cloned() else { return };
        for id in uids.into_values() {
            if !self.letters[&id].flags.contains("\\Deleted") {
                continue;
            }
            self.flag(id, "\\Deleted", false);
            match &shows {
                Shows::Label(label) if label == "\\Trash" || label == "\\Junk" => {
                    self.letters.remove(&id);
                    self.changed(id);
                }
                Shows::Label(label) => self.label(id, label, false),
                Shows::All => self.label(id, "\\Trash", true),
            }
        }
    }

    /// FLAGS as a mailbox shows them.
    pub fn flags(&self, id: u64) -> Vec<String> {
        let letter = &self.letters[&id];
        let starred = letter.labels.contains("\\Starred").then(|| "\\Flagged".to_owned());
        letter.flags.iter().cloned().chain(starred).collect()
    }

    /// A message is another one now, or gone: mailboxes show it, or no longer.
    fn changed(&mut self, id: u64) {
        self.modseq += 1;
        let modseq = self.modseq;
        let letter = self.letters.get_mut(&id);
        let labels = letter.map(|letter| {
            letter.modseq = modseq;
            letter.labels.clone()
        });
        for folder in &mut self.folders {
            let shown = labels.as_ref().is_some_and(|labels| {
                let aside = labels.iter().find(|label| ["\\Trash", "\\Junk"].contains(&label.as_str()));
                match (&folder.shows, aside) {
                    (Shows::All, aside) => aside.is_none(),
                    (Shows::Label(label), Some(aside)) => label == aside,
                    (Shows::Label(label), None) => labels.contains(label),
                }
            });
            let uid = folder.uids.iter().find(|(_, known)| **known == id).map(|(uid, _)| *uid);
            match (uid, shown) {
                (None, true) => {
                    folder.uids.insert(folder.uid_next, id);
                    folder.uid_next += 1;
                }
                (Some(uid), false) => drop(folder.uids.remove(&uid)),
                (None, false) => continue,
                (Some(_), true) => {}
            }
            folder.modseq = modseq;
        }
    }

    /// Labels as X-GM-LABELS tells them in a mailbox: without that mailbox's own.
    pub fn shown_labels(&self, id: u64, folder: &Folder) -> Vec<String> {
        let own = |label: &String| matches!(&folder.shows, Shows::Label(own) if own == label);
        self.letters[&id].labels.iter().filter(|label| !own(label)).cloned().collect()
    }
}
