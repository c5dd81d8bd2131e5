//! The list of an account's mailboxes, its subscriptions, and STATUS of each mailbox, pipelined.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

use super::carried::{Whose, carry, whose};
use super::{ImapReader, ReadError};
use crate::mailbox::{Account, Listed, MailboxName, ModSeq, Status, UidNext, UidValidity};
use crate::net::imap::{ImapError, printable};
use crate::wire::imap::command::{self, Extended, Simple};
use crate::wire::imap::mutf7;
use crate::wire::imap::scan::{self, ListItem, Namespaces, Response, StatusItems};

/// Mailboxes of one account: far more than any user has, and little memory.
const MAILBOXES_MAX: usize = 100_000;

/// Namespaces of others that are asked for by name.
const PREFIXES_MAX: usize = 16;

/// STATUS commands on the way at once: hides the round trips without filling a slow server's buffers.
const STATUS_WINDOW: usize = 64;

/// What a server lists.
struct Lists {
    namespaces: Namespaces,
    items: Vec<ListItem>,
    subscribed: Vec<ListItem>,
}

impl ImapReader {
    /// The mailboxes of the personal namespace with their STATUS, and the subscriptions.
    ///
    /// # Errors
    /// If the server refuses to list, or refuses the STATUS of a mailbox that it lists.
    pub async fn account(&mut self) -> Result<Account, ReadError> {
        match self.account_once().await {
            Ok(account) => Ok(account),
            Err(error) => {
                self.connect_anew_after(error).await?;
                self.account_once().await
            }
        }
    }

    async fn account_once(&mut self) -> Result<Account, ReadError> {
        self.close().await?;
        let Lists { namespaces, items, subscribed } = self.lists().await?;
        let personal = namespaces.personal.first();
        let delimiter =
            personal.and_then(|space| space.delimiter).or_else(|| items.iter().find_map(|item| item.delimiter));
        let mut account = Account {
            separator: delimiter.map(char::from),
            prefix: personal.map(|space| printable(&space.prefix)),
            carried: self.carried(&namespaces),
            ..Account::default()
        };
        for item in items {
            let raw = printable(&item.name);
            match (whose(&item.name, &namespaces), &mut account.carried) {
                (Whose::Own, _) => {}
                (Whose::Shared(space), Some(carried)) => {
                    if !carry(carried, &item, space, delimiter) {
                        continue;
                    }
                }
                _ => {
                    if is_selectable(&item) {
                        account.others.insert(raw, false);
                    }
                    continue;
                }
            }
            match name_of(&item.name, delimiter) {
                Ok(name) => {
                    if account.mailboxes.insert(name, listed(item)).is_some() {
                        account
                            .unreadable
                            .push((raw, "differs from another name only in the case of INBOX".to_owned()));
                    }
                }
                Err(why) => account.unreadable.push((raw, why)),
            }
        }
        // RFC 3501 §5.1: there always is one, whether it is listed or not.
        account.mailboxes.entry(MailboxName::inbox()).or_insert_with(|| Listed {
            raw: b"INBOX".to_vec(),
            selectable: true,
            ..Listed::default()
        });
        for item in without_parents(subscribed) {
            match (whose(&item.name, &namespaces), &account.carried) {
                (Whose::Own, _) | (Whose::Shared(_), Some(_)) => {}
                _ => {
                    account.others.insert(printable(&item.name), true);
                    continue;
                }
            }
            match name_of(&item.name, delimiter) {
                Ok(name) => drop(account.subscriptions.insert(name)),
                Err(why) => account.unreadable.push((printable(&item.name), why)),
            }
        }
        let read_at = Instant::now();
        self.open_carried(&mut account).await?;
        self.statuses(&mut account).await?;
        self.make_lasting(&mut account.mailboxes, read_at).await?;
        Ok(account)
    }

    /// Namespaces, mailboxes and subscriptions, in one round trip.
    async fn lists(&mut self) -> Result<Lists, ReadError> {
        let capabilities = self.connection.capabilities();
        let (extended, special) = (capabilities.has("LIST-EXTENDED"), capabilities.has("SPECIAL-USE"));
        let ask = self.namespaces.is_none() && capabilities.has("NAMESPACE");
        let mut tags = VecDeque::new();
        if ask {
            let tag = self.connection.tag();
            tags.push_back(("NAMESPACE", command::simple(&tag, Simple::Namespace), tag));
        }
        let tag = self.connection.tag();
        let all = match extended && special {
            true => command::list_extended(&tag, b"*", Extended::ReturnSpecialUse),
            false => command::list(&tag, b"*"),
        };
        tags.push_back(("LIST", all, tag));
        let tag = self.connection.tag();
        tags.push_back(match extended {
            true => ("LIST (SUBSCRIBED)", command::list_extended(&tag, b"*", Extended::Subscribed), tag),
            false => ("LSUB", command::lsub(&tag, b"*"), tag),
        });
        let mut sent = VecDeque::with_capacity(tags.len());
        for (name, command, tag) in tags {
            let command = self.connection.encoded(command)?;
            self.connection.send(command).await?;
            sent.push_back((name, tag));
        }
        self.connection.flush().await?;
        let mut lists = self.lists_answered(sent).await?;
        self.with_unlisted(&mut lists).await?;
        if extended && lists.subscribed.iter().any(|item| has(item, "\\NonExistent")) {
            self.without_hidden(&mut lists).await?;
        }
        Ok(lists)
    }

    /// Adds the mailboxes of namespaces that are others' and of which LIST shows nothing unless it is asked for them by name (a
    /// Dovecot's `list = no`).
    async fn with_unlisted(&mut self, lists: &mut Lists) -> Result<(), ReadError> {
        // (What is carried is followed as the account's own.)
        if self.unlisted.is_none() || self.carries.is_some() {
            let Namespaces { other, shared, .. } = &lists.namespaces;
            let listed =
                |prefix: &[u8]| prefix.is_empty() || lists.items.iter().any(|item| item.name.starts_with(prefix));
            let prefixes = other.iter().chain(shared).map(|space| &space.prefix);
            let prefixes: Vec<Vec<u8>> =
                prefixes.filter(|prefix| !listed(prefix)).take(PREFIXES_MAX + 1).cloned().collect();
            if prefixes.len() > PREFIXES_MAX && self.carries.is_some() {
                return Err(ReadError::TooMuch {
                    what: format!("more than {PREFIXES_MAX} namespaces that LIST hides"),
                });
            }
            let mut found = Vec::new();
            for prefix in prefixes.into_iter().take(PREFIXES_MAX) {
                let tag = self.connection.tag();
                let command = self.connection.encoded(command::list(&tag, &[prefix.as_slice(), b"*"].concat()))?;
                self.connection.send(command).await?;
                self.connection.flush().await?;
                match self.lists_answered([("LIST", tag)].into()).await {
                    Ok(lists) => found.extend(lists.items),
                    // (What is carried is not gone because it can't be listed now.)
                    Err(ReadError::Imap(ImapError::Refused { text, .. })) if self.carries.is_none() => {
                        tracing::debug!(prefix = printable(&prefix), "LIST refused: {text}");
                    }
                    Err(error) => return Err(error),
                }
            }
            self.unlisted = Some(found);
        }
        let known: BTreeSet<Vec<u8>> = lists.items.iter().map(|item| item.name.clone()).collect();
        let unlisted = self.unlisted.iter().flatten().filter(|item| !known.contains(&item.name));
        lists.items.extend(unlisted.cloned());
        Ok(())
    }

    /// Leaves out subscriptions to mailboxes that don't exist where the server's own LSUB does (Cyrus): clients that ask by LSUB
    /// would see them appear on a server that shows them.
    async fn without_hidden(&mut self, lists: &mut Lists) -> Result<(), ReadError> {
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::lsub(&tag, b"*"))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        let shown = self.lists_answered([("LSUB", tag)].into()).await?.subscribed;
        let shown: BTreeSet<Vec<u8>> = shown.into_iter().map(|item| item.name).collect();
        lists.subscribed.retain(|item| !has(item, "\\NonExistent") || shown.contains(&item.name));
        Ok(())
    }

    async fn lists_answered(&mut self, mut sent: VecDeque<(&'static str, String)>) -> Result<Lists, ReadError> {
        let (mut items, mut subscribed) = (Vec::new(), Vec::new());
        while let Some((name, tag)) = sent.front() {
            let response = self.connection.response().await?;
            if self.connection.ended(name, tag, &response)?.is_some() {
                sent.pop_front();
                continue;
            }
            match scan::response(&response) {
                Response::Namespace(namespaces) => self.namespaces = Some(namespaces),
                Response::Lsub(item) => subscribed.push(item),
                // A server answers commands of one kind in their order (RFC 3501 §5.5).
                Response::List(item) if *name == "LIST (SUBSCRIBED)" => subscribed.push(item),
                Response::List(item) => items.push(item),
                _ => {}
            }
            if items.len().max(subscribed.len()) > MAILBOXES_MAX {
                return Err(ReadError::TooMuch { what: format!("more than {MAILBOXES_MAX} mailboxes in one account") });
            }
        }
        Ok(Lists { namespaces: self.namespaces.clone().unwrap_or_default(), items, subscribed })
    }

    /// Asks the STATUS of all selectable mailboxes, many commands at a time.
    async fn statuses(&mut self, account: &mut Account) -> Result<(), ReadError> {
        let Account { mailboxes, carried, .. } = account;
        let mut selectable: Vec<(&MailboxName, &mut Listed)> =
            mailboxes.iter_mut().filter(|(_, listed)| listed.selectable).collect();
        for window in selectable.chunks_mut(STATUS_WINDOW) {
            let mut tags = Vec::with_capacity(window.len());
            for (_, listed) in window.iter() {
                let tag = self.connection.tag();
                let command = self.connection.encoded(command::status(&tag, &listed.raw, self.has_modseq()))?;
                self.connection.send(command).await?;
                tags.push(tag);
            }
            self.connection.flush().await?;
            for ((name, listed), tag) in window.iter_mut().zip(tags) {
                listed.status = match (self.status_answer(listed, &tag).await, carried.as_mut()) {
                    (Err(ReadError::Mailbox { what, .. }), Some(carried))
                        if carried.mailboxes.contains(*name) && is_forbidden(&what) =>
                    {
                        carried.closed.insert(printable(&listed.raw), format!("can't be read by this account: {what}"));
                        None
                    }
                    (status, _) => status?,
                };
                // A Dovecot lists what was deleted above other mailboxes as if it could be opened.
                listed.selectable = listed.status.is_some();
            }
        }
        if let Some(carried) = carried {
            carried.mailboxes.retain(|name| mailboxes.get(name).is_some_and(|listed| listed.selectable));
        }
        Ok(())
    }

    /// STATUS of one mailbox.
    ///
    /// # Errors
    /// If the server refuses it, or has no such mailbox.
    pub async fn status(&mut self, listed: &Listed) -> Result<Status, ReadError> {
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::status(&tag, &listed.raw, self.has_modseq()))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        let status = self.status_answer(listed, &tag).await?;
        status.ok_or_else(|| self.in_mailbox(listed, "does not exist".to_owned()))
    }

    /// None if there is no such mailbox.
    async fn status_answer(&mut self, listed: &Listed, tag: &str) -> Result<Option<Status>, ReadError> {
        let mut found = None;
        loop {
            let response = self.connection.response().await?;
            match self.connection.ended("STATUS", tag, &response) {
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(ImapError::Refused { text, .. }) if is_nonexistent(&text) => return Ok(None),
                Err(ImapError::Refused { text, .. }) => {
                    return Err(self.in_mailbox(listed, format!("STATUS refused: {text}")));
                }
                Err(error) => return Err(error.into()),
            }
            // One that somebody else's command brought along must not be taken for this one.
            if let Response::StatusItems(items) = scan::response(&response)
                && (found.is_none() || items.name.eq_ignore_ascii_case(&listed.raw))
            {
                found = fingerprint(&items);
            }
        }
        let found = found.map(|status| {
            let uid_validity = self.lasting_validity(status.messages, status.uid_validity);
            Some(Status { uid_validity, ..status })
        });
        found.ok_or_else(|| self.in_mailbox(listed, "STATUS without UIDVALIDITY, UIDNEXT or MESSAGES".to_owned()))
    }
}

/// Whether a refusal says that there is no such mailbox any more, and not only that it can't be read now. Dovecot 2.3
/// sends no NONEXISTENT (RFC 5530 §3) with STATUS, and Cyrus none at all.
pub(super) fn is_nonexistent(text: &str) -> bool {
    let known = ["Mailbox doesn't exist", "Mailbox was deleted under us", "Mailbox does not exist"];
    text.to_ascii_uppercase().starts_with("[NONEXISTENT]") || known.iter().any(|known| text.starts_with(known))
}

/// Whether a refusal says that the account has not the right (RFC 5530 §3; a Dovecot says it of the file system in words).
fn is_forbidden(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    ["[NOPERM]", "PERMISSION DENIED", "ACCESS DENIED"].iter().any(|known| text.contains(known))
}

fn fingerprint(items: &StatusItems) -> Option<Status> {
    Some(Status {
        uid_validity: UidValidity(items.uid_validity?),
        uid_next: UidNext(items.uid_next?),
        messages: items.messages?,
        unseen: items.unseen.unwrap_or_default(),
        // 0 says that the mailbox keeps none (RFC 7162 §3.1.7): then it proves nothing.
        highest_modseq: items.highest_modseq.filter(|modseq| *modseq > 0).map(ModSeq),
        guid: None,
    })
}

pub(super) fn has(item: &ListItem, attribute: &str) -> bool {
    item.attributes.iter().any(|known| known.eq_ignore_ascii_case(attribute.as_bytes()))
}

pub(super) fn is_selectable(item: &ListItem) -> bool {
    !has(item, "\\NoSelect") && !has(item, "\\NonExistent")
}

/// The names that are subscribed themselves: LSUB may show a parent that is not, only because something below it is
/// (Courier, RFC 3501 §6.3.9).
fn without_parents(subscribed: Vec<ListItem>) -> impl Iterator<Item = ListItem> {
    let names: BTreeSet<Vec<u8>> = subscribed.iter().map(|item| item.name.clone()).collect();
    subscribed.into_iter().filter(move |item| {
        let Some(delimiter) = item.delimiter.filter(|_| has(item, "\\NoSelect")) else { return true };
        let below = [item.name.as_slice(), &[delimiter]].concat();
        // The first name from there on is one that begins so, if there is one at all.
        names.range(below.clone()..).next().is_none_or(|name| !name.starts_with(&below))
    })
}

fn listed(item: ListItem) -> Listed {
    Listed {
        selectable: is_selectable(&item),
        special_use: special_use(&item.attributes),
        raw: item.name,
        status: None,
    }
}

/// The attributes of RFC 6154 §2, lower case.
fn special_use(attributes: &[Vec<u8>]) -> BTreeSet<String> {
    const KNOWN: [&str; 8] =
        ["\\all", "\\archive", "\\drafts", "\\flagged", "\\junk", "\\sent", "\\trash", "\\important"];
    attributes
        .iter()
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .filter(|name| KNOWN.contains(&name.as_str()))
        .collect()
}

/// Takes a raw name apart. Both steps can be undone exactly, so the parts identify the mailbox as well as the raw name.
pub(super) fn name_of(raw: &[u8], delimiter: Option<u8>) -> Result<MailboxName, String> {
    let parts: Vec<&[u8]> = match delimiter {
        Some(delimiter) => raw.split(|&octet| octet == delimiter).collect(),
        None => vec![raw],
    };
    let parts = parts.into_iter().map(mutf7::decode).collect::<Option<Vec<_>>>();
    let parts = parts.ok_or("is not valid modified UTF-7 (RFC 3501 §5.1.3): rename it on the old side")?;
    MailboxName::from_parts(parts).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_decoded() {
        let name = name_of(b"Entw&APw-rfe/a.b", Some(b'/')).unwrap();
        assert_eq!(name.parts(), ["Entwürfe", "a.b"]);
        assert!(name_of(b"inbox", Some(b'/')).unwrap().is_inbox());
        assert!(name_of(b"a//b", Some(b'/')).is_err());
        assert!(name_of(b"a&b", Some(b'/')).is_err());
        assert_eq!(name_of(b"a/b", None).unwrap().parts(), ["a/b"]);
    }

    #[test]
    fn only_a_mailbox_that_is_not_there_counts_as_missing() {
        assert!(is_nonexistent("Mailbox doesn't exist: Empty (0.001 + 0.000 secs)."));
        assert!(is_nonexistent("[NONEXISTENT] Unknown mailbox"));
        assert!(is_nonexistent("Mailbox does not exist"));
        for text in ["[SERVERBUG] Internal error", "[NOPERM] Permission denied", "[INUSE] locked", "NO"] {
            assert!(!is_nonexistent(text), "{text}");
        }
    }

    #[test]
    fn a_parent_that_lsub_shows_for_what_is_below_it_is_not_subscribed() {
        let item = |name: &str, attribute: &str| ListItem {
            attributes: vec![attribute.as_bytes().to_vec()],
            delimiter: Some(b'.'),
            name: name.as_bytes().to_vec(),
        };
        let lsub = vec![
            item("INBOX.a.b", "\\HasNoChildren"),
            item("INBOX", "\\Noselect"),
            item("INBOX.a", "\\Noselect"),
            item("INBOX.gone", "\\Noselect"),
            item("INBOX.gone-too", "\\HasNoChildren"),
        ];
        let left: Vec<String> =
            without_parents(lsub).map(|item| String::from_utf8_lossy(&item.name).into_owned()).collect();
        assert_eq!(left, ["INBOX.a.b", "INBOX.gone", "INBOX.gone-too"]);
    }
}
