//! One session of the walker.

use crate::lab::Imap;
use crate::lab::imap::{lossy, quoted};

use super::op::{Op, Told};

/// The answer to one command.
#[derive(Debug)]
pub(super) struct Reply {
    /// Without the tag.
    pub(super) tagged: String,
    /// The response code that tells of new UIDs: COPYUID of a MOVE comes in an untagged response before the answer.
    pub(super) told: Option<Told>,
}

/// A session that has logged in.
pub(super) struct Session {
    pub(super) imap: Imap,
    /// The mailbox that is selected.
    pub(super) selected: Option<String>,
    /// The tag of the IDLE that goes on.
    idling: Option<String>,
    tags: u32,
    last: String,
}

impl Session {
    pub(super) fn log_in(port: u16, user: &str, password: &str) -> Self {
        let mut imap = Imap::connect(port);
        imap.login(user, password);
        Self { imap, selected: None, idling: None, tags: 0, last: String::new() }
    }

    /// Sends everything at once; each command has its answer, unless the session ended before it.
    pub(super) fn run(&mut self, batch: &[Op]) -> Vec<Option<Reply>> {
        let mut octets = Vec::new();
        let mut tags = Vec::new();
        self.end_idle(&mut octets, &mut tags);
        let idle = tags.len();
        let mut selects = Vec::new();
        for op in batch {
            // Always anew, so that it knows what other sessions have done.
            if let Some(mailbox) = op.selected() {
                selects.push(tags.len() - idle);
                self.say(&format!("SELECT {}", quoted(mailbox)), &mut octets, &mut tags);
                self.selected = Some(mailbox.to_owned());
            }
            self.tags += 1;
            tags.push(format!("w{}", self.tags));
            octets.extend_from_slice(format!("w{} ", self.tags).as_bytes());
            octets.extend_from_slice(&op.command());
            octets.extend_from_slice(b"\r\n");
        }
        let (tagged, untagged) = self.converse(&octets, &tags);
        let mut moves = untagged.iter().filter(|line| line.contains("[COPYUID "));
        let mut replies = Vec::new();
        let mut ops = batch.iter();
        for (at, tagged) in tagged.into_iter().skip(idle).enumerate() {
            if selects.contains(&at) {
                assert!(tagged.is_none_or(|tagged| tagged.starts_with("OK")), "a mailbox can't be selected: {batch:?}");
                continue;
            }
            let op = ops.next();
            replies.push(tagged.map(|tagged| {
                let moved = matches!(op, Some(Op::Move { .. })).then(|| moves.next()).flatten();
                Reply { told: Told::within(moved.unwrap_or(&tagged)), tagged }
            }));
        }
        replies
    }

    /// Starts to wait for news, if a mailbox is selected. False if the session was ended.
    pub(super) fn idle(&mut self) -> bool {
        if self.selected.is_none() || self.idling.is_some() {
            return true;
        }
        self.tags += 1;
        let tag = format!("w{}", self.tags);
        if self.imap.try_send(format!("{tag} IDLE\r\n").as_bytes()).is_err() {
            return false;
        }
        while let Some(response) = self.hear() {
            if response.starts_with(b"+") {
                self.idling = Some(tag);
                return true;
            }
        }
        false
    }

    /// Leaves the mailbox. False if the session was ended.
    pub(super) fn leave(&mut self) -> bool {
        self.selected = None;
        self.simple("UNSELECT")
    }

    /// Ends the session in good order. False if the other side ended it before.
    pub(super) fn log_out(&mut self) -> bool {
        self.simple("LOGOUT")
    }

    /// The UIDs of the selected mailbox, as it is now; `None` if the session was ended.
    pub(super) fn uids(&mut self) -> Option<Vec<u32>> {
        // Not in one segment: Dovecot may search before it has told what is new.
        if !self.simple("NOOP") {
            return None;
        }
        let (mut octets, mut tags) = (Vec::new(), Vec::new());
        self.say("UID SEARCH ALL", &mut octets, &mut tags);
        let (mut tagged, untagged) = self.converse(&octets, &tags);
        let last = tagged.pop()??;
        assert!(last.starts_with("OK"), "{last}");
        let found = untagged.iter().find(|line| line.starts_with("* SEARCH"))?;
        let mut uids: Vec<u32> = found.split(' ').skip(2).map(|uid| uid.parse().unwrap()).collect();
        uids.sort_unstable();
        Some(uids)
    }

    /// What the server said last.
    pub(super) fn last_words(&self) -> &str {
        &self.last
    }

    fn simple(&mut self, command: &str) -> bool {
        let (mut octets, mut tags) = (Vec::new(), Vec::new());
        self.end_idle(&mut octets, &mut tags);
        self.say(command, &mut octets, &mut tags);
        match self.converse(&octets, &tags).0.pop() {
            Some(Some(tagged)) => {
                assert!(tagged.starts_with("OK"), "{command}: {tagged}");
                true
            }
            _ => false,
        }
    }

    fn end_idle(&mut self, octets: &mut Vec<u8>, tags: &mut Vec<String>) {
        if let Some(tag) = self.idling.take() {
            octets.extend_from_slice(b"DONE\r\n");
            tags.push(tag);
        }
    }

    fn say(&mut self, command: &str, octets: &mut Vec<u8>, tags: &mut Vec<String>) {
        self.tags += 1;
        octets.extend_from_slice(format!("w{} {command}\r\n", self.tags).as_bytes());
        tags.push(format!("w{}", self.tags));
    }

    /// Says something, and gives the tagged answers and all that was said beside them. (Dovecot may answer a command before
    /// the one before it, when that one has only to be told of.)
    fn converse(&mut self, octets: &[u8], tags: &[String]) -> (Vec<Option<String>>, Vec<String>) {
        // What was said before the connection was closed is still there to be read.
        let _ = self.imap.try_send(octets);
        let (mut tagged, mut untagged) = (vec![None; tags.len()], Vec::new());
        while tagged.iter().any(Option::is_none) {
            let Some(response) = self.hear() else { break };
            let text = lossy(&response);
            let (tag, rest) = text.split_once(' ').unwrap_or((&text, ""));
            match tags.iter().position(|known| known == tag) {
                Some(at) => {
                    assert!(tagged[at].is_none(), "answered twice: {text}");
                    tagged[at] = Some(rest.to_owned());
                }
                None => {
                    assert_eq!(tag, "*", "nobody asked for this: {text}");
                    untagged.push(text);
                }
            }
        }
        (tagged, untagged)
    }

    fn hear(&mut self) -> Option<Vec<u8>> {
        let response = self.imap.try_response()?;
        self.last = lossy(&response);
        Some(response)
    }
}
