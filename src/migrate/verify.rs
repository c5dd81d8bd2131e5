//! Verification: reads both sides over IMAP, as clients see them, independent of whoever read and wrote the copy, and reports every
//! finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::plan::on_new_side;
use super::quarantine::Quarantine;
use super::uidl::{self, Content, Inbox};
use super::{Readers, Stop, scripts};
use crate::config::Bodies;
use crate::mailbox::body::BodyHasher;
use crate::mailbox::{
    Account, BodyDigest, Class, Contents, Finding, Listed, MailboxName, Message, Report, Scripts, Sharing, Uid,
    UidValidity, compare,
};
use crate::source::profile::Quirk;
use crate::source::{BodyEvent, Reader};
use crate::user::CanonicalUser;

/// How thoroughly to compare.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Whose octets are read.
    pub bodies: Bodies,
    /// Altered messages block too.
    pub strict: bool,
}

/// Digests of messages whose octets were read on both sides. They hold for ever: a message never changes
/// (RFC 9051 §2.3.1.1). Only where its size does it is another one all the same: a mailbox was made anew on the new side, or a
/// server writes into messages.
pub type KnownBodies = HashMap<(MailboxName, UidValidity, Uid), Arc<KnownBody>>;

/// A message that was read on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBody {
    old: BodyDigest,
    new: BodyDigest,
    /// What the old and the new side told of its size then.
    sizes: (u64, u64),
}

/// A comparison of two sides, and what STATUS said of them before it began.
#[derive(Debug)]
pub struct Verified {
    /// Names, separator, subscriptions, SPECIAL-USE.
    pub account: Report,
    /// Each mailbox on its own, so that one can be verified again.
    pub mailboxes: BTreeMap<MailboxName, Report>,
    /// The old side before.
    pub old: Account,
    /// The new side before.
    pub new: Account,
    /// Who may do what on both sides.
    pub sharing: (Sharing, Sharing),
    /// The scripts of both sides, where there are any to compare.
    pub scripts: Option<(Scripts, Scripts)>,
}

impl Verified {
    /// One report of it all.
    #[must_use]
    pub fn report(&self, at: i64) -> Report {
        let mut whole = self.account.clone();
        for part in self.mailboxes.values() {
            whole.absorb(part);
        }
        if let Some(inbox) = self.mailboxes.get(&MailboxName::inbox()) {
            whole.pop3.clone_from(&inbox.pop3);
            whole.pop3_methods.clone_from(&inbox.pop3_methods);
        }
        whole.at = at;
        whole
    }
}

/// A verification of one user.
#[derive(Debug)]
pub struct Verification<'a> {
    /// The canonical user, for the report.
    pub user: &'a str,
    /// How thoroughly.
    pub depth: Depth,
    /// Both sides.
    pub readers: &'a mut Readers,
    /// What was read before, and what will be.
    pub known: &'a mut KnownBodies,
    /// Messages of these mailboxes from these UIDs on are compared octet by octet, whatever the depth.
    pub all_from: Option<&'a BTreeMap<MailboxName, Uid>>,
    /// Messages that are left out on the new side.
    pub left_out: &'a Quarantine,
}

impl Verification<'_> {
    /// Compares everything.
    ///
    /// # Errors
    /// If a side can't be read: that is no finding, it is no verification.
    pub async fn full(&mut self) -> Result<Verified, Stop> {
        let (old, new, _) = self.readers.seen().await?;
        if old.profile().has(Quirk::RewritesMessages) {
            // What it writes may be as long as what it takes out.
            self.known.clear();
        }
        let (old, new) = (old.account().await?, new.account().await?);
        let mut account = Report::new(self.user, self.depth.strict);
        let names = compare::accounts(&old, &new, &mut account);
        let scripts = scripts::compared(self.readers, &mut account).await?;
        let (old_side, new_side, _) = self.readers.seen().await?;
        let sharing = (old_side.sharing(&old).await?, new_side.sharing(&new).await?);
        compare::sharing(&sharing.0, &sharing.1, &mut account);
        let mut sample = Sample::of(self.depth.bodies, &names, &old);
        let mut mailboxes = BTreeMap::new();
        for name in names {
            let drawn = sample.draw(&name, &old);
            let report = self.mailbox(&name, &old, &new, &drawn).await?;
            mailboxes.insert(name, report);
        }
        let (old_side, new_side, _) = self.readers.seen().await?;
        old_side.close().await?;
        new_side.close().await?;
        Ok(Verified { account, mailboxes, old, new, sharing, scripts })
    }

    /// Compares one mailbox again, without reading any body: inside the gate there is no time for it.
    ///
    /// # Errors
    /// If a side can't be read.
    pub async fn again(&mut self, name: &MailboxName, old: &Account, new: &Account) -> Result<Report, Stop> {
        self.mailbox(name, old, new, &Drawn::InGate).await
    }

    async fn mailbox(
        &mut self,
        name: &MailboxName,
        old: &Account,
        new: &Account,
        drawn: &Drawn,
    ) -> Result<Report, Stop> {
        let mut report = Report::new(self.user, self.depth.strict);
        let Some(listed) = old.mailboxes.get(name) else { return Ok(report) };
        let target = on_new_side(name, new);
        let (old_side, new_side, _) = self.readers.seen().await?;
        let mut source = old_side.contents(listed).await?;
        let copy = new_side.contents(&target).await?;
        let has = |uid| copy.messages.binary_search_by_key(&uid, |message: &Message| message.uid).is_ok();
        let (there, left_out) =
            self.left_out.take_from(name, &mut source).into_iter().partition(|message| has(message.uid));
        put_back(&mut source, there);
        for message in &left_out {
            report.add(self.left_out.finding(name, source.uid_validity, message));
        }
        let suspects: BTreeSet<Uid> = compare::contents(name, &source, &copy, &mut report).into_iter().collect();
        let mut wanted = suspects.clone();
        match drawn {
            Drawn::InGate => {}
            Drawn::All => wanted.extend(source.messages.iter().map(|message| message.uid)),
            Drawn::Some(places) => {
                let at = |place: &u64| usize::try_from(*place).ok().and_then(|place| source.messages.get(place));
                wanted.extend(places.iter().filter_map(at).map(|message| message.uid));
            }
        }
        if let Some(from) = self.all_from.and_then(|from| from.get(name)) {
            wanted.extend(source.messages.iter().map(|message| message.uid).filter(|uid| uid >= from));
        }
        wanted.retain(|uid| copy.messages.binary_search_by_key(uid, |message| message.uid).is_ok());
        if !matches!(drawn, Drawn::InGate) {
            self.read_bodies(name, (listed, &target), (&source, &copy), &wanted).await?;
        }
        for uid in wanted {
            self.judge(name, uid, (&source, &copy), &mut report);
        }
        if name.is_inbox() {
            report_hidden(self.readers.seen().await?.0.popped(), name, &source, &mut report);
            put_back(&mut source, left_out);
            self.pop3((listed, source), (&target, copy), drawn, &mut report).await?;
        }
        tracing::debug!(user = self.user, mailbox = %name, identical = report.identical, "compared");
        Ok(report)
    }

    /// Compares what POP3 shows of INBOX.
    async fn pop3(
        &mut self,
        (listed, source): (&Listed, Contents),
        (target, copy): (&Listed, Contents),
        drawn: &Drawn,
        report: &mut Report,
    ) -> Result<(), Stop> {
        let (old, new, pop3) = self.readers.seen().await?;
        let Some(pop3) = pop3 else {
            report.pop3 = "not configured".to_owned();
            return Ok(());
        };
        let user = CanonicalUser::from_stored(self.user.to_owned());
        let content = if matches!(drawn, Drawn::InGate) { Content::Trusted } else { Content::Proved };
        let mut old = Inbox { reader: old, listed, contents: source };
        let mut new = Inbox { reader: new, listed: target, contents: copy };
        Box::pin(uidl::compare_sides(pop3, &user, (&mut old, &mut new), content, report)).await
    }

    fn judge(&self, name: &MailboxName, uid: Uid, (source, copy): (&Contents, &Contents), report: &mut Report) {
        let (old_size, new_size) = (size(source, uid), size(copy, uid));
        match self.known(name, uid, (source, copy)) {
            Some(KnownBody { old, new, .. }) => compare::body(name, uid, (old, old_size), (new, new_size), report),
            None => compare::size(name, uid, old_size, new_size, report),
        }
    }

    /// What was read of a message that is still the same.
    fn known(&self, name: &MailboxName, uid: Uid, (source, copy): (&Contents, &Contents)) -> Option<&KnownBody> {
        let known = self.known.get(&(name.clone(), source.uid_validity, uid)).map(Arc::as_ref);
        known.filter(|known| known.sizes == (size(source, uid), size(copy, uid)))
    }

    /// Reads the octets of `wanted` on both sides, unless they were read before.
    async fn read_bodies(
        &mut self,
        name: &MailboxName,
        (listed, target): (&Listed, &Listed),
        (source, copy): (&Contents, &Contents),
        wanted: &BTreeSet<Uid>,
    ) -> Result<(), Stop> {
        let uid_validity = source.uid_validity;
        let unread: Vec<Uid> =
            wanted.iter().copied().filter(|uid| self.known(name, *uid, (source, copy)).is_none()).collect();
        if unread.is_empty() {
            return Ok(());
        }
        let (old, new, _) = self.readers.seen().await?;
        let (old, new) = tokio::join!(
            digests(old, listed, (source.uid_validity, &source.messages), unread.clone()),
            digests(new, target, (source.uid_validity, &copy.messages), unread)
        );
        let mut new = new?;
        for (uid, digest) in old? {
            if let Some(theirs) = new.remove(&uid) {
                let sizes = (size(source, uid), size(copy, uid));
                let body = KnownBody { old: digest, new: theirs, sizes };
                self.known.insert((name.clone(), uid_validity, uid), Arc::new(body));
            }
        }
        Ok(())
    }
}

/// The size of a message, as its side tells it.
fn size(contents: &Contents, uid: Uid) -> u64 {
    let at = contents.messages.binary_search_by_key(&uid, |message| message.uid);
    at.ok().and_then(|at| contents.messages.get(at)).map(|message| message.size).unwrap_or_default()
}

/// Tells of messages that have a keyword from us, because the old side's POP3 shows them no more and says so in no other way.
fn report_hidden(keyword: Option<&str>, name: &MailboxName, source: &Contents, report: &mut Report) {
    let Some(keyword) = keyword else { return };
    let hidden = source.messages.iter().filter(|message| message.keywords.contains(keyword)).count();
    if hidden > 0 {
        report.add(Finding {
            class: Class::Note,
            rule: "pop3-hidden".to_owned(),
            mailbox: Some(name.to_string()),
            uid: None,
            old: format!("POP3 hides {hidden} messages"),
            new: format!("they have the keyword {keyword}, which hides them"),
        });
    }
}

/// Puts messages back into the list that they were taken from.
fn put_back(contents: &mut Contents, messages: Vec<Message>) {
    contents.messages.extend(messages);
    contents.messages.sort_by_key(|message| message.uid);
}

/// The digests of messages; none for those that can't be read.
///
/// # Errors
/// If the side can't be read.
pub(super) async fn digests(
    reader: &mut Reader,
    listed: &Listed,
    (uid_validity, messages): (UidValidity, &[Message]),
    uids: Vec<Uid>,
) -> Result<HashMap<Uid, BodyDigest>, Stop> {
    let mut digests = HashMap::new();
    let mut bodies = reader.bodies(listed, uid_validity, uids).await?.expecting(messages);
    let mut hasher = BodyHasher::new();
    while let Some(event) = bodies.next().await? {
        match event {
            BodyEvent::Start(..) | BodyEvent::Again(_) => hasher = BodyHasher::new(),
            BodyEvent::Chunk(octets) => hasher.update(&octets),
            BodyEvent::End(uid) => drop(digests.insert(uid, std::mem::take(&mut hasher).finish())),
            // Judged without a digest: a difference, unless the next look finds the message gone on both sides.
            event @ (BodyEvent::Vanished(_) | BodyEvent::Unreadable(..)) => tracing::debug!("no digest: {event:?}"),
        }
    }
    Ok(digests)
}

/// Whose octets are read in one mailbox.
#[derive(Debug)]
enum Drawn {
    /// Nobody's: bodies are never read in the gate.
    InGate,
    All,
    /// Those at these places of the list, and all whose sizes differ.
    Some(BTreeSet<u64>),
}

/// A random sample over all messages of the account, drawn before they are listed.
#[derive(Debug)]
enum Sample {
    All,
    Places { first: u64, places: BTreeSet<u64> },
}

impl Sample {
    fn of(bodies: Bodies, names: &[MailboxName], old: &Account) -> Self {
        let total: u64 = names.iter().map(|name| messages(name, old)).sum();
        match bodies {
            Bodies::All => Self::All,
            Bodies::Sample(count) if u64::from(count) >= total => Self::All,
            Bodies::Sample(count) => {
                let mut places = BTreeSet::new();
                while (places.len() as u64) < u64::from(count) {
                    places.insert(rand::random_range(0..total));
                }
                Self::Places { first: 0, places }
            }
            Bodies::None => Self::Places { first: 0, places: BTreeSet::new() },
        }
    }

    fn draw(&mut self, name: &MailboxName, old: &Account) -> Drawn {
        match self {
            Self::All => Drawn::All,
            Self::Places { first, places } => {
                let next = *first + messages(name, old);
                let drawn = places.range(*first..next).map(|place| place - *first).collect();
                *first = next;
                Drawn::Some(drawn)
            }
        }
    }
}

fn messages(name: &MailboxName, account: &Account) -> u64 {
    account.mailboxes.get(name).and_then(|listed| listed.status).map(|status| status.messages).unwrap_or_default()
}
