//! Which UID each message of a POP3 list is, by templates; never by a guess.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{Pop3List, Template, Uidl};
use crate::mailbox::{Contents, Uid, UidNext, UidValidity};

/// UIDs or UIDLs named in one reason; the rest is counted.
const NAMED_MAX: usize = 5;

/// INBOX as IMAP shows it, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The list.
    pub contents: &'a Contents,
    /// UIDNEXT after the POP3 list was read: no message in it has a UID from there on.
    pub uid_next_after: UidNext,
    /// The POP3 list is older than the snapshot: what it has and the snapshot has not may have been expunged since.
    pub list_is_older: bool,
}

impl Snapshot<'_> {
    /// The size of a message, if it is there.
    pub(super) fn has(&self, uid: Uid) -> Option<u64> {
        let at = self.contents.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.contents.messages.get(at).map(|message| message.size)
    }
}

/// A message of the POP3 list whose UID is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paired {
    /// Its number in the POP3 list.
    pub number: u32,
    /// Its UIDL.
    pub uidl: Uidl,
    /// Its octets, as LIST tells them.
    pub size: u64,
    /// Its UID.
    pub uid: Uid,
    /// RFC822.SIZE; none if it is newer than the snapshot.
    pub imap_size: Option<u64>,
}

/// A POP3 list whose messages' UIDs are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// UIDVALIDITY of INBOX.
    pub uid_validity: UidValidity,
    /// Every template that gives exactly this list; several only while the UIDs are too few to tell them apart. None if
    /// the messages were found by what they contain, or by a number.
    pub templates: Vec<Template>,
    /// IMAP tells the number that a UIDL is made of.
    pub numbered: bool,
    /// The messages in POP3's order, without those that are gone.
    pub messages: Vec<Paired>,
}

impl Pairing {
    /// Whether POP3 shows the messages in the order of their UIDs, and enough of them to call it an order.
    #[must_use]
    pub fn is_ascending(&self) -> bool {
        self.messages.len() > 1 && self.messages.is_sorted_by_key(|message| message.uid)
    }

    /// The same for another server's list: a message there is the one that has its UIDL here. `contents` is what that
    /// server has by IMAP.
    #[must_use]
    pub fn carried_to(&self, list: &Pop3List, contents: &Contents) -> Self {
        let uids: HashMap<&Uidl, Uid> = self.messages.iter().map(|paired| (&paired.uidl, paired.uid)).collect();
        let snapshot = Snapshot { contents, uid_next_after: contents.uid_next, list_is_older: false };
        let messages = (1..).zip(list.messages()).filter_map(|(number, message)| {
            let uid = *uids.get(&message.uidl)?;
            let (uidl, size) = (message.uidl.clone(), message.size);
            Some(Paired { number, uidl, size, uid, imap_size: snapshot.has(uid) })
        });
        Self { messages: messages.collect(), templates: self.templates.clone(), ..*self }
    }

    /// How the messages of a list without a template were found.
    pub const BY_CONTENT: &str = "by size and content";

    /// How the messages were found: the templates' names, or by content.
    #[must_use]
    pub fn method(&self) -> String {
        if self.numbered {
            return "by X-GM-MSGID".to_owned();
        }
        if self.templates.is_empty() {
            return Self::BY_CONTENT.to_owned();
        }
        let names: Vec<&str> = self.templates.iter().map(|template| template.as_str()).collect();
        format!("template {}", names.join(" or "))
    }
}

/// Why a POP3 list can't be paired with the UIDs of INBOX for certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The list can't be used.
    #[error("the POP3 list can't be used: {0}")]
    BadList(#[from] super::BadList),
    /// It can't be read without harm.
    #[error(
        "{0} locks INBOX while POP3 has it open, and changes its messages: its POP3 list is not read. Leave `pop3` out on \
             both sides to move users without their UIDLs"
    )]
    Locks(&'static str),
    /// No template gives it.
    #[error("no known template gives {foreign} of {all} UIDLs{nearest}: {named}")]
    NoTemplate {
        /// UIDLs that the nearest template doesn't give.
        foreign: usize,
        /// All of them.
        all: usize,
        /// The nearest template, if one is near.
        nearest: String,
        /// The first of them.
        named: Named,
    },
    /// POP3 doesn't show messages that IMAP has.
    #[error("POP3 does not show {0} of INBOX")]
    Hidden(Named),
    /// Templates contradict each other.
    #[error("the templates {0} and {1} both give the list, but for other messages")]
    Ambiguous(Template, Template),
    /// A message's two sizes differ.
    #[error("POP3 and IMAP tell different sizes for {0}")]
    Sizes(Named),
    /// POP3 shows what INBOX doesn't have.
    #[error("POP3 shows messages that are not in INBOX: {0}")]
    Strangers(Named),
    /// The messages contradict the template.
    #[error("every UIDL was paired ({method}), but POP3 shows other messages under them than IMAP: {named}")]
    Contents {
        /// How they were paired.
        method: String,
        /// Which messages.
        named: Named,
    },
    /// What would prove it can't be read.
    #[error("UIDLs are paired {method}, but {named} can't be compared: {why}")]
    Unread {
        /// How they are paired.
        method: String,
        /// Which messages.
        named: Named,
        /// Why not.
        why: String,
    },
}

/// Some of many, for a reason that people read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named(String);

impl Named {
    /// `first` of each name, then how many more there are.
    pub fn of(names: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let mut names = names.into_iter();
        let first: Vec<String> = names.by_ref().take(NAMED_MAX).map(|name| name.to_string()).collect();
        let more = names.count();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Self(format!("{}{more}", first.join(", ")))
    }

    /// The same for UIDs.
    pub fn uids(uids: impl IntoIterator<Item = Uid>) -> Self {
        Self(format!("UID {}", Self::of(uids)))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds the UIDs of a whole list. The result says only which messages the UIDLs *name*; that they are what POP3 shows under
/// them is for [`super::proof`] to tell.
///
/// # Errors
/// [`Doubt`], if it is not certain for every message.
pub fn pair(list: &Pop3List, snapshot: &Snapshot<'_>) -> Result<Pairing, Doubt> {
    let fits: Vec<Fit<'_>> = Template::ALL.into_iter().map(|template| Fit::of(template, list, snapshot)).collect();
    let whole: Vec<&Fit<'_>> = fits.iter().filter(|fit| fit.foreign.is_empty()).collect();
    let Some((first, others)) = whole.split_first() else { return Err(no_template(&fits, list)) };
    if let Some(other) = others.iter().find(|other| other.messages != first.messages) {
        return Err(Doubt::Ambiguous(first.template, other.template));
    }
    let shown: HashSet<Uid> = first.messages.iter().map(|message| message.uid).collect();
    let mut hidden = snapshot.contents.messages.iter().map(|message| message.uid).filter(|uid| !shown.contains(uid));
    if let Some(one) = hidden.next() {
        return Err(Doubt::Hidden(Named::uids(std::iter::once(one).chain(hidden))));
    }
    Ok(Pairing {
        uid_validity: snapshot.contents.uid_validity,
        templates: whole.iter().map(|fit| fit.template).collect(),
        numbered: false,
        messages: first.messages.clone(),
    })
}

/// What one template makes of a list.
#[derive(Debug)]
struct Fit<'a> {
    template: Template,
    messages: Vec<Paired>,
    /// UIDLs that it doesn't give, or gives only for a message that isn't there.
    foreign: Vec<&'a Uidl>,
}

impl<'a> Fit<'a> {
    fn of(template: Template, list: &'a Pop3List, snapshot: &Snapshot<'_>) -> Self {
        let mut fit = Self { template, messages: Vec::new(), foreign: Vec::new() };
        let (fence, end) = (snapshot.contents.uid_next.0, snapshot.uid_next_after.0);
        for (number, message) in (1..).zip(list.messages()) {
            let Some(uid) = template.uid_of(snapshot.contents.uid_validity, &message.uidl) else {
                fit.foreign.push(&message.uidl);
                continue;
            };
            let imap_size = snapshot.has(uid);
            let newer = (fence..end).contains(&uid.0);
            if imap_size.is_some() || newer {
                let (uidl, size) = (message.uidl.clone(), message.size);
                fit.messages.push(Paired { number, uidl, size, uid, imap_size });
            } else if !(snapshot.list_is_older && uid.0 < fence) {
                fit.foreign.push(&message.uidl);
            }
        }
        fit
    }
}

fn no_template(fits: &[Fit<'_>], list: &Pop3List) -> Doubt {
    let nearest = fits.iter().min_by_key(|fit| fit.foreign.len());
    let foreign: &[&Uidl] = nearest.map(|fit| fit.foreign.as_slice()).unwrap_or_default();
    let near = nearest.filter(|fit| fit.foreign.len() < list.messages().len());
    Doubt::NoTemplate {
        foreign: foreign.len(),
        all: list.messages().len(),
        nearest: near.map(|fit| format!(" ({} gives the others)", fit.template)).unwrap_or_default(),
        named: Named::of(foreign),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in crate::mailbox) mod tests {
    use super::super::tests::list;
    use super::*;
    use crate::mailbox::diff::tests::{contents, message};

    pub(in crate::mailbox) fn inbox(uid_next: u32, messages: &[(u32, u64)]) -> Contents {
        let messages = messages.iter().map(|&(uid, size)| {
            let mut message = message(uid, 0, &[]);
            message.size = size;
            message
        });
        Contents { uid_validity: UidValidity(7), ..contents(uid_next, messages.collect()) }
    }

    pub(in crate::mailbox) fn snapshot(contents: &Contents) -> Snapshot<'_> {
        Snapshot { contents, uid_next_after: contents.uid_next, list_is_older: false }
    }

    fn uids(pairing: &Pairing) -> Vec<u32> {
        pairing.messages.iter().map(|message| message.uid.0).collect()
    }

    #[test]
    fn every_message_is_paired_in_the_servers_order() {
        let inbox = inbox(20, &[(3, 1), (5, 2), (17, 3)]);
        let pairing = pair(&list(&[("7.5", 2), ("7.17", 3), ("7.3", 1)]), &snapshot(&inbox)).unwrap();
        assert_eq!(uids(&pairing), [5, 17, 3]);
        assert_eq!((pairing.method().as_str(), pairing.is_ascending()), ("template %v.%u", false));
        assert_eq!(pairing.messages[1].imap_size, Some(3));
    }

    #[test]
    fn one_uidl_that_no_template_gives_is_one_too_many() {
        let inbox = inbox(20, &[(3, 1), (5, 2), (17, 3)]);
        let doubt = pair(&list(&[("7.3", 1), ("foreign", 2), ("7.17", 3)]), &snapshot(&inbox)).unwrap_err();
        let text = doubt.to_string();
        assert_eq!(text, "no known template gives 1 of 3 UIDLs (%v.%u gives the others): foreign");
        let doubt = pair(&list(&[("a", 1), ("b", 2), ("c", 3)]), &snapshot(&inbox)).unwrap_err();
        assert_eq!(doubt.to_string(), "no known template gives 3 of 3 UIDLs: a, b, c");
        let unknown = pair(&list(&[("7.3", 1), ("7.5", 2), ("7.17", 3), ("7.18", 4)]), &snapshot(&inbox)).unwrap_err();
        assert!(unknown.to_string().contains("7.18"), "a message that IMAP doesn't have: {unknown}");
    }

    #[test]
    fn messages_that_pop3_does_not_show_are_named() {
        let inbox = inbox(20, &[(3, 1), (5, 2), (17, 3)]);
        let doubt = pair(&list(&[("7.5", 2)]), &snapshot(&inbox)).unwrap_err();
        assert_eq!(doubt.to_string(), "POP3 does not show UID 3, 17 of INBOX");
    }

    #[test]
    fn what_came_after_the_snapshot_is_no_stranger_and_what_can_not_have_come_is() {
        let inbox = inbox(20, &[(3, 1)]);
        let later = Snapshot { uid_next_after: UidNext(22), ..snapshot(&inbox) };
        let pairing = pair(&list(&[("7.3", 1), ("7.21", 9)]), &later).unwrap();
        assert_eq!((uids(&pairing), pairing.messages[1].imap_size), (vec![3, 21], None));
        assert!(pair(&list(&[("7.3", 1), ("7.22", 9)]), &later).is_err());
        assert!(pair(&list(&[("4711", 1), ("4712", 9)]), &snapshot(&inbox)).is_err(), "numbers are no UIDs");
    }

    #[test]
    fn an_older_list_may_hold_what_is_gone_and_must_hold_what_is_there() {
        let inbox = inbox(20, &[(3, 1), (5, 1)]);
        let older = Snapshot { list_is_older: true, ..snapshot(&inbox) };
        let pairing = pair(&list(&[("7.3", 1), ("7.4", 1), ("7.5", 1)]), &older).unwrap();
        assert_eq!(uids(&pairing), [3, 5]);
        assert_eq!(pairing.messages[1].number, 3);
        assert!(matches!(pair(&list(&[("7.3", 1)]), &older), Err(Doubt::Hidden(_))));
        assert!(pair(&list(&[("7.3", 1), ("7.4", 1), ("7.5", 1)]), &snapshot(&inbox)).is_err());
    }

    #[test]
    fn templates_that_can_not_be_told_apart_are_all_kept() {
        let few = Contents { uid_validity: UidValidity(0x11), ..inbox(20, &[(3, 1)]) };
        let pairing = pair(&list(&[("0000000300000011", 1)]), &snapshot(&few)).unwrap();
        assert_eq!(pairing.templates, [Template::UidValidityHex, Template::UidValidityCapitals]);
        let more = Contents { uid_validity: UidValidity(0x11), ..inbox(20, &[(3, 1), (10, 1)]) };
        let pairing = pair(&list(&[("0000000300000011", 1), ("0000000A00000011", 1)]), &snapshot(&more)).unwrap();
        assert_eq!(pairing.templates, [Template::UidValidityCapitals]);
        let empty = pair(&list(&[]), &snapshot(&inbox(20, &[]))).unwrap();
        assert!(empty.messages.is_empty() && empty.templates.len() == Template::ALL.len() && !empty.is_ascending());
    }
}
