//! Which UID each message of a POP3 list is, by templates; never by a guess.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use super::{Claims, Pop3List, Template, Uidl};
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

/// How the UID of a message of a POP3 list was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A template gives it, and the message is the one.
    Template,
    /// The UIDL stands in the message's own X-UIDL field.
    Field,
    /// The UIDL is the GUID that IMAP tells.
    Guid,
    /// The UIDL is made of a number that IMAP tells.
    Number,
    /// No other message has its size.
    Size,
    /// No other message of its size has its header.
    Header,
    /// No other message of that size and header has its text.
    Text,
    /// No other message has its body, sender, subject, date and Message-ID: POP3 shows another header.
    Body,
    /// It is one of several equal messages.
    Twin,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Template,
        Self::Field,
        Self::Guid,
        Self::Number,
        Self::Size,
        Self::Header,
        Self::Text,
        Self::Body,
        Self::Twin,
    ];

    /// The name used in records and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Field => "x-uidl",
            Self::Guid => "x-guid",
            Self::Number => "x-gm-msgid",
            Self::Size => "size",
            Self::Header => "header",
            Self::Text => "text",
            Self::Body => "body",
            Self::Twin => "twin",
        }
    }
}

/// No method has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no known way to find a UIDL: {0:?}")]
pub struct UnknownMethod(String);

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Self::ALL.into_iter().find(|method| method.as_str() == name).ok_or_else(|| UnknownMethod(name.to_owned()))
    }
}

/// What becomes of messages that only one of the two lists has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Messages that POP3 doesn't show are no doubt.
    pub ignore_missing: bool,
    /// Messages that INBOX doesn't have are no doubt.
    pub ignore_extra: bool,
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
    /// How its UID was found.
    pub method: Method,
}

/// A POP3 list whose messages' UIDs are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// UIDVALIDITY of INBOX.
    pub uid_validity: UidValidity,
    /// Every template that gives exactly this list; several only while the UIDs are too few to tell them apart. None if
    /// the messages were found by what they contain, or by a number.
    pub templates: Vec<Template>,
    /// The messages in POP3's order, without those that are gone.
    pub messages: Vec<Paired>,
    /// Messages of INBOX that POP3 doesn't show, ascending.
    pub hidden: Vec<Uid>,
    /// Messages that POP3 shows and INBOX doesn't have, in POP3's order.
    pub strangers: Vec<Stranger>,
    /// Mailboxes in which some of those are.
    pub elsewhere: Vec<String>,
    /// Messages that POP3 has never shown anybody: they have no UIDL yet.
    pub unshown: Vec<Uid>,
}

/// A message that POP3 shows and INBOX doesn't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its number in the POP3 list.
    pub number: u32,
    /// Its UIDL.
    pub uidl: Uidl,
    /// Its octets, as LIST tells them.
    pub size: u64,
}

impl Pairing {
    /// What is in doubt: messages that are in one list alone, unless `policy` says that they don't matter.
    #[must_use]
    pub fn doubt(&self, policy: Policy) -> Option<Doubt> {
        let strangers = Named::of(self.strangers.iter().map(|stranger| &stranger.uidl));
        if !self.strangers.is_empty() && !policy.ignore_extra {
            return Some(match self.elsewhere.as_slice() {
                [] => Doubt::Strangers(strangers),
                mailboxes => Doubt::Merged { mailboxes: Named::of(mailboxes), strangers },
            });
        }
        let hidden = !self.hidden.is_empty() && !policy.ignore_missing;
        hidden.then(|| Doubt::Hidden(Named::uids(self.hidden.iter().copied())))
    }

    /// Whether each list has all that the other one has.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.hidden.is_empty() && self.strangers.is_empty()
    }

    /// What only one of the two lists has, to be said behind what was paired; empty if there is nothing.
    #[must_use]
    pub fn beside(&self) -> String {
        let parts = [
            (self.hidden.len(), "not shown by POP3, ignored"),
            (self.strangers.len(), "not in INBOX, ignored"),
            (self.unshown.len(), "without UIDL yet"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("; {count} {what}")).collect()
    }

    /// How many messages each method found.
    #[must_use]
    pub fn methods(&self) -> BTreeMap<Method, usize> {
        let mut methods = BTreeMap::new();
        for paired in &self.messages {
            *methods.entry(paired.method).or_default() += 1;
        }
        methods
    }

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
            Some(Paired { number, uidl, size, uid, imap_size: snapshot.has(uid), method: Method::Template })
        });
        Self {
            uid_validity: self.uid_validity,
            templates: self.templates.clone(),
            messages: messages.collect(),
            hidden: Vec::new(),
            strangers: Vec::new(),
            elsewhere: Vec::new(),
            unshown: Vec::new(),
        }
    }

    /// The pairing of messages that have their UIDLs in a field that IMAP shows, on a server whose POP3 takes them from there and
    /// shows messages in the order of their UIDs; `unshown` are those that have no such field yet.
    #[must_use]
    pub fn of_fields(list: &Pop3List, uids: &[Uid], contents: &Contents, unshown: Vec<Uid>) -> Self {
        let snapshot = Snapshot { contents, uid_next_after: contents.uid_next, list_is_older: false };
        let messages = (1..).zip(list.messages()).zip(uids).map(|((number, message), &uid)| {
            let (uidl, size) = (message.uidl.clone(), message.size);
            Paired { number, uidl, size, uid, imap_size: snapshot.has(uid), method: Method::Field }
        });
        Self {
            uid_validity: contents.uid_validity,
            templates: Vec::new(),
            messages: messages.collect(),
            hidden: Vec::new(),
            strangers: Vec::new(),
            elsewhere: Vec::new(),
            unshown,
        }
    }

    /// How the messages were found: the templates' names, or how many by each method.
    #[must_use]
    pub fn method(&self) -> String {
        if !self.messages.is_empty() && self.messages.iter().all(|paired| paired.method == Method::Number) {
            return "by X-GM-MSGID".to_owned();
        }
        if self.templates.is_empty() {
            let count = |(method, count): (Method, usize)| match method {
                Method::Twin => {
                    format!("{count} twin (twins are the same to every client: any UIDL of theirs fits each)")
                }
                method => format!("{count} {}", method.as_str()),
            };
            let counts: Vec<String> = self.methods().into_iter().map(count).collect();
            return format!("paired by {}", if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") });
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
    /// No template gives it.
    #[error("no known template gives all UIDLs")]
    NoTemplate,
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
    /// It is known where they are.
    #[error("POP3 shows more mailboxes than INBOX, also {mailboxes}: {strangers}")]
    Merged {
        /// The other mailboxes.
        mailboxes: Named,
        /// The messages.
        strangers: Named,
    },
    /// Messages that differ only where POP3 and IMAP show other headers.
    #[error("POP3 shows other headers than IMAP, and without them {0} can't be told apart")]
    Tied(Named),
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
    let fits: Vec<Fit> = Template::ALL.into_iter().map(|template| Fit::of(template, list, snapshot)).collect();
    let whole: Vec<&Fit> = fits.iter().filter(|fit| !fit.foreign).collect();
    let Some((first, others)) = whole.split_first() else { return Err(Doubt::NoTemplate) };
    if let Some(other) = others.iter().find(|other| other.messages != first.messages) {
        return Err(Doubt::Ambiguous(first.template, other.template));
    }
    let shown: HashSet<Uid> = first.messages.iter().map(|message| message.uid).collect();
    let hidden = snapshot.contents.messages.iter().map(|message| message.uid).filter(|uid| !shown.contains(uid));
    Ok(Pairing {
        uid_validity: snapshot.contents.uid_validity,
        templates: whole.iter().map(|fit| fit.template).collect(),
        messages: first.messages.clone(),
        hidden: hidden.collect(),
        strangers: Vec::new(),
        elsewhere: Vec::new(),
        unshown: Vec::new(),
    })
}

/// What the template that gives most of a list's UIDLs makes of it: nothing that is proved.
#[must_use]
pub fn nearest(list: &Pop3List, snapshot: &Snapshot<'_>) -> Claims {
    let fits = Template::ALL.into_iter().map(|template| Fit::of(template, list, snapshot));
    let nearest = fits.max_by_key(|fit| fit.messages.len()).map(|fit| fit.messages).unwrap_or_default();
    Claims { method: Method::Template, uidls: nearest.into_iter().map(|paired| (paired.uid, paired.uidl)).collect() }
}

/// What one template makes of a list.
#[derive(Debug)]
struct Fit {
    template: Template,
    messages: Vec<Paired>,
    /// There are UIDLs that it doesn't give, or gives only for a message that isn't there.
    foreign: bool,
}

impl Fit {
    fn of(template: Template, list: &Pop3List, snapshot: &Snapshot<'_>) -> Self {
        let mut fit = Self { template, messages: Vec::new(), foreign: false };
        let (fence, end) = (snapshot.contents.uid_next.0, snapshot.uid_next_after.0);
        for (number, message) in (1..).zip(list.messages()) {
            let Some(uid) = template.uid_of(snapshot.contents.uid_validity, &message.uidl) else {
                fit.foreign = true;
                continue;
            };
            let imap_size = snapshot.has(uid);
            let newer = (fence..end).contains(&uid.0);
            if imap_size.is_some() || newer {
                let (uidl, size) = (message.uidl.clone(), message.size);
                fit.messages.push(Paired { number, uidl, size, uid, imap_size, method: Method::Template });
            } else if !(snapshot.list_is_older && uid.0 < fence) {
                fit.foreign = true;
            }
        }
        fit
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
        let odd = list(&[("7.3", 1), ("foreign", 2), ("7.17", 3)]);
        assert_eq!(pair(&odd, &snapshot(&inbox)), Err(Doubt::NoTemplate));
        let near = nearest(&odd, &snapshot(&inbox));
        assert_eq!(near.uidls.keys().map(|uid| uid.0).collect::<Vec<_>>(), [3, 17], "it gives the others");
        assert_eq!(pair(&list(&[("a", 1), ("b", 2), ("c", 3)]), &snapshot(&inbox)), Err(Doubt::NoTemplate));
        let unknown = list(&[("7.3", 1), ("7.5", 2), ("7.17", 3), ("7.18", 4)]);
        assert_eq!(pair(&unknown, &snapshot(&inbox)), Err(Doubt::NoTemplate), "a message that IMAP doesn't have");
    }

    #[test]
    fn messages_that_pop3_does_not_show_are_named() {
        let inbox = inbox(20, &[(3, 1), (5, 2), (17, 3)]);
        let pairing = pair(&list(&[("7.5", 2)]), &snapshot(&inbox)).unwrap();
        assert_eq!((uids(&pairing), pairing.is_whole()), (vec![5], false));
        let doubt = pairing.doubt(Policy { ignore_extra: true, ..Policy::default() }).unwrap();
        assert_eq!(doubt.to_string(), "POP3 does not show UID 3, 17 of INBOX");
        assert_eq!(pairing.doubt(Policy { ignore_missing: true, ..Policy::default() }), None);
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
        assert_eq!(pair(&list(&[("7.3", 1)]), &older).unwrap().hidden, [Uid(5)]);
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
