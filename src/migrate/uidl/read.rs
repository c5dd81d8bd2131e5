//! Reads what POP3 shows on a side and finds out for certain which UID each message is.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tracing::debug;

use super::find::{elsewhere, fields, matched, prove};
use super::{Certain, Pop3Reader};
use crate::mailbox::pop3::pairing::Named;
use crate::mailbox::pop3::proof::{Proof, Texts};
use crate::mailbox::pop3::{
    Doubt, KnownUidls, Looks, Matching, Pairing, Pop3List, Snapshot, TextHasher, numbered, pair,
};
use crate::mailbox::{Contents, Listed, Report, Status, Uid, UidNext, compare};
use crate::migrate::Stop;
use crate::source::profile::Quirk;
use crate::source::{BodyEvent, Maildrop, MaildropError, Reader};
use crate::store::Pop3Proof;
use crate::user::CanonicalUser;
use crate::wire::imap::command::Part;

/// Times that a list is read when INBOX loses messages under our hands.
const READS_MAX: u32 = 2;

/// Whether messages are read where sizes don't pin them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::migrate) enum Content {
    /// They are, unless that was done before.
    Proved,
    /// They are not: in the gate there is no time for it, and its templates were proved before.
    Trusted,
}

/// One side's INBOX, with its UIDs.
#[derive(Debug)]
pub(in crate::migrate) struct Inbox<'a> {
    /// The connection.
    pub(in crate::migrate) reader: &'a mut Reader,
    /// How the side lists it.
    pub(in crate::migrate) listed: &'a Listed,
    /// Its messages, as last read.
    pub(in crate::migrate) contents: Contents,
}

impl Inbox<'_> {
    /// The number of each message in all mailboxes, where the side tells it.
    async fn numbers(&mut self) -> Result<Vec<(Uid, u64)>, Stop> {
        let last = Uid(self.contents.uid_next.0.saturating_sub(1));
        let numbers = self.reader.gm_msgids(self.listed, self.contents.uid_validity, Uid(1)..=last).await?;
        self.reader.close().await?;
        Ok(numbers)
    }

    async fn status(&mut self) -> Result<Status, Stop> {
        self.reader.close().await?;
        Ok(self.reader.status(self.listed).await?)
    }

    fn size(&self, uid: Uid) -> Option<u64> {
        let at = self.contents.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.contents.messages.get(at).map(|message| message.size)
    }

    /// Whether its messages are those that were read.
    async fn is_still(&mut self) -> Result<bool, Stop> {
        let now = self.status().await?;
        Ok(now.uid_validity == self.contents.uid_validity
            && now.uid_next == self.contents.uid_next
            && now.messages == self.contents.messages.len() as u64)
    }

    /// Digests of messages by IMAP, and those that can't be read.
    pub(super) async fn texts(&mut self, uids: Vec<Uid>) -> Result<(Texts, BTreeSet<Uid>), Stop> {
        let texts = texts_of(self.reader, self.listed, &self.contents, uids).await?;
        self.reader.close().await?;
        Ok(texts)
    }

    /// Digests of headers by IMAP, as far as the server gives them. Some servers rewrite a header in `BODY[HEADER]` alone (old
    /// servers reference §11): what differs is compared as a whole.
    pub(super) async fn headers(&mut self, uids: &[Uid]) -> Result<Texts, Stop> {
        if uids.is_empty() {
            return Ok(Texts::new());
        }
        let headers = self.reader.headers(self.listed, self.contents.uid_validity, uids).await?;
        self.reader.close().await?;
        Ok(headers)
    }
}

/// Digests of messages of any mailbox, and those that can't be read.
pub(super) async fn texts_of(
    reader: &mut Reader,
    listed: &Listed,
    contents: &Contents,
    mut uids: Vec<Uid>,
) -> Result<(Texts, BTreeSet<Uid>), Stop> {
    let (mut texts, mut unreadable) = (Texts::new(), BTreeSet::new());
    uids.sort_unstable();
    if uids.is_empty() {
        return Ok((texts, unreadable));
    }
    let bodies = reader.bodies(listed, contents.uid_validity, uids).await?;
    let mut bodies = bodies.expecting(&contents.messages);
    let mut hasher = TextHasher::new();
    while let Some(event) = bodies.next().await? {
        match event {
            BodyEvent::Start(..) | BodyEvent::Again(_) => hasher = TextHasher::new(),
            BodyEvent::Chunk(octets) => hasher.update(&octets),
            BodyEvent::End(uid) => drop(texts.insert(uid, std::mem::take(&mut hasher).finish())),
            BodyEvent::Vanished(uid) => debug!("no text of UID {uid}: it is gone"),
            BodyEvent::Unreadable(uid, why) => {
                debug!("no text of UID {uid}: {why}");
                unreadable.insert(uid);
            }
        }
    }
    Ok((texts, unreadable))
}

/// Compares what POP3 shows on both sides. Messages in `altered` are known to differ in size by a named rule.
///
/// # Errors
/// If a side can't be read: that is no finding.
pub(in crate::migrate) async fn compare_sides(
    pop3: &Pop3Reader,
    user: &CanonicalUser,
    (old, new): (&mut Inbox<'_>, &mut Inbox<'_>),
    content: Content,
    report: &mut Report,
) -> Result<(), Stop> {
    let pairing = match Box::pin(pop3.old_pairing(user, old, content)).await? {
        Ok(pairing) => pairing,
        Err(doubt) => {
            compare::pop3::doubtful(&doubt, report);
            return Ok(());
        }
    };
    if let Some(doubt) = pairing.doubt(pop3.policy) {
        compare::pop3::doubtful(&doubt, report);
        return Ok(());
    }
    let altered: BTreeSet<Uid> = compare::pop3::altered(report);
    match Box::pin(pop3.new_list(new, &pairing, content)).await? {
        Ok((list, proved)) => {
            let hidden: Vec<u64> =
                pairing.hidden.iter().chain(&pairing.unshown).filter_map(|uid| new.size(*uid)).collect();
            compare::pop3::lists(&pairing, &list, &altered, &hidden, report);
            if let Err(doubt) = proved {
                compare::pop3::spoilt(&doubt, report);
            }
        }
        Err(doubt) => compare::pop3::spoilt(&doubt, report),
    }
    Ok(())
}

impl Pop3Reader {
    /// The old side's POP3 list with its UIDs: from a session of the user that passed by, else by a login of our own. Messages
    /// that one of the two lists lacks are a doubt for the caller.
    ///
    /// # Errors
    /// [`Stop`] if it can't be read now; a [`Doubt`] is a result.
    pub(in crate::migrate) async fn old_pairing(
        &self,
        user: &CanonicalUser,
        inbox: &mut Inbox<'_>,
        content: Content,
    ) -> Result<Certain<Pairing>, Stop> {
        if inbox.reader.profile().has(Quirk::Pop3Locks) {
            return Box::pin(self.by_fields(user, inbox, content)).await;
        }
        let known = Known {
            proof: self.store.pop3_proof(user.as_str()).await?,
            uidls: self.store.pop3_uidls(user.as_str(), inbox.contents.uid_validity).await?,
        };
        if let Some(list) = self.harvests.take_fresh(user)
            && let Some(pairing) = harvested(&list, &self.shown(&inbox.contents), &known)
        {
            debug!(%user, messages = list.messages().len(), "the POP3 list of the user's own session will do");
            self.remember(user, &pairing, inbox.contents.uid_next).await?;
            return Ok(Ok(pairing));
        }
        for read in 1.. {
            let paired = self.in_turn(user, Box::pin(self.read_old(inbox, &known, content))).await?;
            let whole = paired.as_ref().is_ok_and(|(pairing, _)| pairing.is_whole());
            if whole || inbox.is_still().await? {
                let (pairing, unproved) = match paired {
                    Ok(paired) => paired,
                    Err(doubt) => return Ok(Err(doubt)),
                };
                if content == Content::Proved {
                    let below = unproved.map_or(inbox.contents.uid_next, |uid| UidNext(uid.0));
                    self.remember(user, &pairing, below).await?;
                }
                return Ok(Ok(pairing));
            }
            if read >= READS_MAX {
                break;
            }
            inbox.contents = inbox.reader.contents(inbox.listed).await?;
        }
        Err(Stop::Later("INBOX changes while its POP3 list is read".to_owned()))
    }

    /// The list of a server that keeps UIDLs in its messages and whose POP3 can't be opened without harm.
    async fn by_fields(
        &self,
        user: &CanonicalUser,
        inbox: &mut Inbox<'_>,
        content: Content,
    ) -> Result<Certain<Pairing>, Stop> {
        let uids: Vec<Uid> = inbox.contents.messages.iter().map(|message| message.uid).collect();
        let told = fields(inbox, &uids, Part::XUidl).await?;
        inbox.reader.close().await?;
        let unshown = uids.into_iter().filter(|uid| !told.contains_key(uid)).collect();
        let shown: Vec<Uid> = told.keys().copied().collect();
        let sizes: Vec<u64> = shown.iter().filter_map(|uid| inbox.size(*uid)).collect();
        let list = match Pop3List::new(told.into_values().zip(sizes)) {
            Ok(list) => list,
            Err(bad) => return Ok(Err(bad.into())),
        };
        let pairing = Pairing::of_fields(&list, &shown, &inbox.contents, unshown);
        if content == Content::Proved {
            self.remember(user, &pairing, inbox.contents.uid_next).await?;
        }
        Ok(Ok(pairing))
    }

    /// The list, and the first message of it that could not be read.
    async fn read_old(
        &self,
        inbox: &mut Inbox<'_>,
        known: &Known,
        content: Content,
    ) -> Result<Certain<(Pairing, Option<Uid>)>, Stop> {
        let mut maildrop = Maildrop::open(&self.sides.old, self.may_read_old()?).await?;
        crate::fault::point("pop3-open").await;
        let list = match maildrop.list().await {
            Err(MaildropError::BadList { bad, .. }) => {
                maildrop.quit().await;
                return Ok(Err(bad.into()));
            }
            list => list?,
        };
        let uid_next_after = inbox.status().await?.uid_next;
        let contents = self.shown(&inbox.contents).into_owned();
        let snapshot = Snapshot { contents: &contents, uid_next_after, list_is_older: false };
        if inbox.reader.has_labels() {
            // Nothing is read there: what POP3 has given once, it hides.
            maildrop.quit().await;
            let numbers = inbox.numbers().await?;
            return Ok(numbered(&list, &snapshot, &numbers).map(|pairing| (pairing, None)));
        }
        let proof = known.proof.as_ref();
        let certain = match if known.by_content(&contents) { None } else { pair(&list, &snapshot).ok() } {
            Some(pairing) => {
                // A template that was never proved can't be trusted in the gate either.
                let content = if same_proof(proof, &pairing).is_some() { content } else { Content::Proved };
                let proved = proved_before(proof, &pairing);
                let proof = Box::pin(prove(&mut maildrop, inbox, &pairing, proved, content)).await?;
                proof.map(|unreadable| (pairing, unreadable.first().copied()))
            }
            None => Err(Doubt::NoTemplate),
        };
        let mut certain = match certain {
            // The template hits by chance, or POP3 shows the messages otherwise than IMAP does: they tell themselves.
            Err(Doubt::NoTemplate | Doubt::Sizes(_) | Doubt::Contents { .. }) => {
                let how = (known, content, &contents);
                Box::pin(matched(&mut maildrop, inbox, &list, how, uid_next_after))
                    .await?
                    .map(|pairing| (pairing, None))
            }
            certain => certain,
        };
        if let (Ok((pairing, _)), Content::Proved) = (&mut certain, content) {
            Box::pin(elsewhere(&mut maildrop, inbox, pairing)).await?;
        }
        maildrop.quit().await;
        Ok(certain)
    }

    /// The new side's POP3 list, and whether it shows under the UIDLs the messages that IMAP has.
    async fn new_list(
        &self,
        inbox: &mut Inbox<'_>,
        old: &Pairing,
        content: Content,
    ) -> Result<Certain<(Pop3List, Certain<()>)>, Stop> {
        let mut maildrop = Maildrop::open(&self.sides.new, &self.new).await?;
        let list = match maildrop.list().await {
            Err(MaildropError::BadList { bad, .. }) => {
                maildrop.quit().await;
                return Ok(Err(bad.into()));
            }
            list => list?,
        };
        let pairing = old.carried_to(&list, &inbox.contents);
        let proved = Box::pin(prove(&mut maildrop, inbox, &pairing, |_| false, content)).await?;
        maildrop.quit().await;
        let all = |unreadable: BTreeSet<Uid>| {
            let why = "the new side does not give their text".to_owned();
            let named = Named::uids(unreadable.iter().copied());
            let method = pairing.method();
            if unreadable.is_empty() { Ok(()) } else { Err(Doubt::Unread { method, named, why }) }
        };
        Ok(Ok((list, proved.and_then(all))))
    }

    /// INBOX without the messages that POP3 hides.
    fn shown<'a>(&self, contents: &'a Contents) -> Cow<'a, Contents> {
        let Some(keyword) = self.hidden.as_deref() else { return Cow::Borrowed(contents) };
        let mut shown = contents.clone();
        shown.messages.retain(|message| !message.keywords.contains(keyword));
        Cow::Owned(shown)
    }

    /// Runs `job`, which opens a POP3 session of ours, only while the user has none, and drops it when the user wants in.
    async fn in_turn<T>(&self, user: &CanonicalUser, job: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let Some(registry) = &self.registry else { return job.await };
        let Some(turn) = registry.gate(user).await?.pop3_turn() else {
            return Err(Stop::Later("the user has a POP3 session open on the old side".to_owned()));
        };
        // Declared after the turn: our session is gone before the turn is given back.
        tokio::pin!(job);
        tokio::select! {
            done = &mut job => done,
            () = turn.wanted() => Err(Stop::Later("the user's own POP3 login was waiting for ours".to_owned())),
        }
    }

    async fn remember(&self, user: &CanonicalUser, pairing: &Pairing, proved_below: UidNext) -> Result<(), Stop> {
        let (uid_validity, templates) = (pairing.uid_validity, pairing.templates.clone());
        if templates.is_empty() {
            let uidls = pairing.messages.iter().map(|paired| (paired.uid, (paired.uidl.clone(), paired.method)));
            let uidls = uidls.collect();
            self.store.put_pop3_uidls(user.as_str(), uid_validity, uidls).await?;
        }
        let proof = Pop3Proof { uid_validity, templates, proved_below, follows_uid: pairing.is_ascending() };
        Ok(self.store.put_pop3_proof(user.as_str(), &proof).await?)
    }
}

/// Which messages were proved before: with the same template, their UIDLs can't have changed hands.
fn proved_before(known: Option<&Pop3Proof>, pairing: &Pairing) -> impl Fn(Uid) -> bool + use<> {
    let below = same_proof(known, pairing).map(|known| known.proved_below.0).unwrap_or_default();
    move |uid| uid.0 < below
}

fn same_proof<'a>(known: Option<&'a Pop3Proof>, pairing: &Pairing) -> Option<&'a Pop3Proof> {
    known.filter(|known| {
        known.uid_validity == pairing.uid_validity
            && known.templates.iter().any(|template| pairing.templates.contains(template))
    })
}

/// What is known of a user's list from before.
#[derive(Debug, Default)]
pub(super) struct Known {
    proof: Option<Pop3Proof>,
    /// Where no template gives them.
    pub(super) uidls: KnownUidls,
}

impl Known {
    /// The messages told which is which before, not a template.
    fn by_content(&self, contents: &Contents) -> bool {
        let proof = self.proof.as_ref().filter(|proof| proof.uid_validity == contents.uid_validity);
        !self.uidls.is_empty() && proof.is_some_and(|proof| proof.templates.is_empty())
    }
}

/// A list that passed by will do if it has every message that is there now, and nothing has to be read to prove it.
fn harvested(list: &Pop3List, contents: &Contents, known: &Known) -> Option<Pairing> {
    let snapshot = Snapshot { contents, uid_next_after: contents.uid_next, list_is_older: true };
    if !known.uidls.is_empty() {
        let pairing = Matching::begin(list, &snapshot, &known.uidls, None, Looks::None).finish();
        return pairing.ok().filter(|pairing| pairing.hidden.is_empty());
    }
    let pairing = pair(list, &snapshot).ok().filter(|pairing| pairing.hidden.is_empty())?;
    let proof = Proof::begin(&pairing, proved_before(known.proof.as_ref(), &pairing), Looks::None).ok()?;
    let enough = proof.headers().is_empty() && proof.wholes().is_empty();
    enough.then_some(pairing)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Harvests, Pop3Sides};
    use super::*;
    use crate::config::Endpoint;
    use crate::mailbox::diff::tests::{contents, message};
    use crate::mailbox::pop3::{Method, Policy, Template, Uidl};
    use crate::mailbox::{Side, UidValidity};
    use crate::net::Access;
    use crate::net::pop3::Pop3Server;
    use crate::store::Store;
    use crate::user::{Protocol, Registry};

    fn inbox(sizes: &[(u32, u64)]) -> Contents {
        let sized = |&(uid, size): &(u32, u64)| {
            let mut message = message(uid, 0, &[]);
            message.size = size;
            message
        };
        contents(20, sizes.iter().map(sized).collect())
    }

    fn list(messages: &[(&str, u64)]) -> Pop3List {
        Pop3List::new(messages.iter().map(|(uidl, size)| (uidl.as_bytes().to_vec(), *size))).unwrap()
    }

    #[test]
    fn a_list_that_passed_by_will_do_only_if_nothing_is_missing_and_nothing_must_be_read() {
        let now = inbox(&[(3, 30), (5, 50), (9, 90)]);
        let whole = [("7.3", 30), ("7.4", 40), ("7.5", 50), ("7.9", 90)];
        let pairing = harvested(&list(&whole), &now, &Known::default()).unwrap();
        assert_eq!(pairing.messages.iter().map(|paired| paired.uid.0).collect::<Vec<_>>(), [3, 5, 9]);
        assert!(harvested(&list(&whole[..3]), &now, &Known::default()).is_none(), "UID 9 came after it");
        assert!(harvested(&list(&[("x", 30), ("7.5", 50), ("7.9", 90)]), &now, &Known::default()).is_none());

        let alike = inbox(&[(3, 30), (5, 30)]);
        let passed = list(&[("7.3", 30), ("7.5", 30)]);
        assert!(harvested(&passed, &alike, &Known::default()).is_none(), "two of one size must be looked at");
        let known = |uid_validity, template| {
            let proof = Pop3Proof {
                uid_validity: UidValidity(uid_validity),
                templates: vec![template],
                proved_below: UidNext(5),
                follows_uid: true,
            };
            Known { proof: Some(proof), ..Known::default() }
        };
        assert!(harvested(&passed, &alike, &known(7, Template::ValidityDotUid)).is_some());
        assert!(harvested(&passed, &alike, &known(8, Template::ValidityDotUid)).is_none(), "another INBOX");
        assert!(harvested(&passed, &alike, &known(7, Template::Uid)).is_none(), "another template");

        let odd = list(&[("UID9-7", 30), ("UID8-7", 30), ("UID7-7", 40)]);
        assert!(harvested(&odd, &alike, &Known::default()).is_none());
        let uidl = |text: &str| Uidl::from_octets(text.as_bytes()).unwrap();
        let uidls = [(Uid(3), (uidl("UID8-7"), Method::Size)), (Uid(5), (uidl("UID9-7"), Method::Size))].into();
        let pairing = harvested(&odd, &alike, &Known { uidls, ..Known::default() }).unwrap();
        assert_eq!(pairing.messages.iter().map(|paired| paired.uid.0).collect::<Vec<_>>(), [5, 3]);
    }

    fn reader(registry: Option<Registry>, store: Store) -> Pop3Reader {
        let endpoint = Endpoint::clear("127.0.0.1", 1);
        let server = |side| Pop3Server::new(side, &endpoint).unwrap();
        Pop3Reader {
            sides: Pop3Sides { old: server(Side::Old), new: server(Side::New) },
            old: Ok(Access::own("u1", Arc::new(b"pw".to_vec().into()))),
            new: Access::own("u1", Arc::new(b"pw".to_vec().into())),
            store,
            registry,
            harvests: Harvests::default(),
            policy: Policy::default(),
            hidden: None,
        }
    }

    #[tokio::test]
    async fn our_session_waits_for_the_users_and_gives_way_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        let registry = Registry::new(store.clone(), None);
        let user = CanonicalUser::from_stored("u1".to_owned());
        let reader = reader(Some(registry.clone()), store);
        let patience = Duration::from_secs(60);

        let theirs = registry.attempt(&user, Protocol::Pop3, patience).await.unwrap();
        let stop = reader.in_turn(&user, async { Ok(()) }).await.unwrap_err();
        assert!(matches!(&stop, Stop::Later(why) if why.contains("POP3 session open")), "{stop}");
        drop(theirs);
        assert!(reader.in_turn(&user, async { Ok(()) }).await.is_ok());

        // The store is not asked from here on, so time may stand still.
        let gate = registry.gate(&user).await.unwrap();
        tokio::time::pause();
        let session = Arc::new(());
        let held = Arc::clone(&session);
        let ours = reader.in_turn(&user, async move {
            let _held = held;
            std::future::pending::<Result<(), Stop>>().await
        });
        let theirs = async {
            tokio::task::yield_now().await;
            let attempt = registry.attempt(&user, Protocol::Pop3, patience).await.unwrap();
            assert_eq!(Arc::strong_count(&session), 1, "ours is gone before theirs is tried");
            attempt
        };
        let (stop, _attempt) = tokio::join!(ours, theirs);
        assert!(stop.unwrap_err().to_string().contains("own POP3 login was waiting"));
        drop(gate);
    }
}
