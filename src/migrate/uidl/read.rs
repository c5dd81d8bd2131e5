//! Reads what POP3 shows on a side and finds out for certain which UID each message is.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use tracing::debug;

use super::{Certain, Pop3Reader};
use crate::mailbox::pop3::pairing::Named;
use crate::mailbox::pop3::proof::{Proof, Texts};
use crate::mailbox::pop3::{
    Doubt, KnownUidls, Matching, Paired, Pairing, Pop3List, Snapshot, TextDigest, TextHasher, numbered, pair,
};
use crate::mailbox::{Contents, Listed, Report, Status, Uid, UidNext, compare};
use crate::migrate::Stop;
use crate::source::pop3::Part;
use crate::source::profile::Quirk;
use crate::source::{BodyEvent, Maildrop, MaildropError, Reader};
use crate::store::Pop3Proof;
use crate::user::CanonicalUser;

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

    /// Digests of messages, and those that can't be read.
    async fn texts(&mut self, mut uids: Vec<Uid>) -> Result<(Texts, BTreeSet<Uid>), Stop> {
        let (mut texts, mut unreadable) = (Texts::new(), BTreeSet::new());
        uids.sort_unstable();
        if uids.is_empty() {
            return Ok((texts, unreadable));
        }
        // Whole messages, not BODY[HEADER]: some servers rewrite the header in that alone (old servers reference §11).
        let bodies = self.reader.bodies(self.listed, self.contents.uid_validity, uids).await?;
        let mut bodies = bodies.expecting(&self.contents.messages);
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
        drop(bodies);
        self.reader.close().await?;
        Ok((texts, unreadable))
    }
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
    let pairing = match pop3.old_pairing(user, old, content).await? {
        Ok(pairing) => pairing,
        Err(doubt) => {
            compare::pop3::doubtful(&doubt, report);
            return Ok(());
        }
    };
    let altered: BTreeSet<Uid> = compare::pop3::altered(report);
    match pop3.new_list(new, &pairing, content).await? {
        Ok((list, proved)) => {
            compare::pop3::lists(&pairing, &list, &altered, report);
            if let Err(doubt) = proved {
                compare::pop3::spoilt(&doubt, report);
            }
        }
        Err(doubt) => compare::pop3::spoilt(&doubt, report),
    }
    Ok(())
}

impl Pop3Reader {
    /// The old side's POP3 list with its UIDs: from a session of the user that passed by, else by a login of our own.
    ///
    /// # Errors
    /// [`Stop`] if it can't be read now; a [`Doubt`] is a result.
    pub(in crate::migrate) async fn old_pairing(
        &self,
        user: &CanonicalUser,
        inbox: &mut Inbox<'_>,
        content: Content,
    ) -> Result<Certain<Pairing>, Stop> {
        let profile = inbox.reader.profile();
        if profile.has(Quirk::Pop3Locks) {
            return Ok(Err(Doubt::Locks(profile.name)));
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
            let paired = self.in_turn(user, self.read_old(inbox, &known, content)).await?;
            let doubt = match paired {
                Ok((pairing, unproved)) => {
                    if content == Content::Proved {
                        let below = unproved.map_or(inbox.contents.uid_next, |uid| UidNext(uid.0));
                        self.remember(user, &pairing, below).await?;
                    }
                    return Ok(Ok(pairing));
                }
                Err(doubt) => doubt,
            };
            let now = inbox.status().await?;
            let still = now.uid_validity == inbox.contents.uid_validity
                && now.uid_next == inbox.contents.uid_next
                && now.messages == inbox.contents.messages.len() as u64;
            if still {
                return Ok(Err(doubt));
            }
            if read >= READS_MAX {
                break;
            }
            inbox.contents = inbox.reader.contents(inbox.listed).await?;
        }
        Err(Stop::Later("INBOX changes while its POP3 list is read".to_owned()))
    }

    /// The list, and the first message of it that could not be read.
    async fn read_old(
        &self,
        inbox: &mut Inbox<'_>,
        known: &Known,
        content: Content,
    ) -> Result<Certain<(Pairing, Option<Uid>)>, Stop> {
        let access = self.old.as_ref().map_err(|why| Stop::Later(format!("POP3: {why}")))?;
        let mut maildrop = Maildrop::open(&self.sides.old, access).await?;
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
        let certain = match pair(&list, &snapshot) {
            Ok(pairing) => {
                // A template that was never proved can't be trusted in the gate either.
                let proof = known.proof.as_ref();
                let content = if same_proof(proof, &pairing).is_some() { content } else { Content::Proved };
                let proved = proved_before(proof, &pairing);
                let proof = prove(&mut maildrop, inbox, &pairing, proved, content).await?;
                proof.map(|unreadable| (pairing, unreadable.first().copied()))
            }
            Err(Doubt::NoTemplate { .. }) => {
                // What was never found before can't be trusted in the gate either.
                let content = if known.uidls.is_empty() { Content::Proved } else { content };
                let matching = Matching::begin(&list, &snapshot, &known.uidls, content == Content::Proved);
                matched(&mut maildrop, inbox, matching, content).await?.map(|pairing| (pairing, None))
            }
            Err(doubt) => Err(doubt),
        };
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
        let proved = prove(&mut maildrop, inbox, &pairing, |_| false, content).await?;
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
            let uidls = pairing.messages.iter().map(|paired| (paired.uid, paired.uidl.clone())).collect();
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
struct Known {
    proof: Option<Pop3Proof>,
    /// Where no template gives them.
    uidls: KnownUidls,
}

/// A list that passed by will do if it has every message that is there now, and nothing has to be read to prove it.
fn harvested(list: &Pop3List, contents: &Contents, known: &Known) -> Option<Pairing> {
    let snapshot = Snapshot { contents, uid_next_after: contents.uid_next, list_is_older: true };
    let pairing = match pair(list, &snapshot) {
        Ok(pairing) => pairing,
        Err(Doubt::NoTemplate { .. }) if !known.uidls.is_empty() => {
            return Matching::begin(list, &snapshot, &known.uidls, false).finish().ok();
        }
        Err(_) => return None,
    };
    let proof = Proof::begin(&pairing, proved_before(known.proof.as_ref(), &pairing)).ok()?;
    let enough = proof.headers().is_empty() && proof.wholes().is_empty();
    enough.then_some(pairing)
}

/// Proves a pairing on the messages, reading both protocols at once. Gives those that it could not be proved on because IMAP
/// can't give them.
async fn prove(
    maildrop: &mut Maildrop,
    inbox: &mut Inbox<'_>,
    pairing: &Pairing,
    proved: impl Fn(Uid) -> bool,
    content: Content,
) -> Result<Certain<BTreeSet<Uid>>, Stop> {
    let mut proof = match Proof::begin(pairing, proved) {
        Ok(proof) => proof,
        Err(doubt) => return Ok(Err(doubt)),
    };
    if content == Content::Trusted {
        return Ok(Ok(BTreeSet::new()));
    }
    let asked: Vec<Uid> = proof.headers().iter().chain(proof.wholes()).map(|paired| paired.uid).collect();
    debug!(headers = proof.headers().len(), wholes = proof.wholes().len(), "proving UIDLs on the messages");
    let headers = proof.headers().to_vec();
    let (by_pop3, by_imap) = tokio::join!(texts(maildrop, &headers, Part::Header), inbox.texts(asked));
    let (by_pop3, (by_imap, unreadable)) = (by_pop3?, by_imap?);
    proof.leave_out(&unreadable);
    if let Err(doubt) = proof.compare_headers(&by_pop3, &by_imap) {
        return Ok(Err(doubt));
    }
    let by_pop3 = texts(maildrop, proof.wholes(), Part::Whole).await?;
    Ok(proof.compare_wholes(&by_pop3, &by_imap).map(|()| unreadable))
}

/// Finds out by their contents which UID each message is, reading both protocols at once.
async fn matched(
    maildrop: &mut Maildrop,
    inbox: &mut Inbox<'_>,
    mut matching: Matching<'_>,
    content: Content,
) -> Result<Certain<Pairing>, Stop> {
    if content == Content::Trusted || matching.is_told_apart() {
        return Ok(matching.finish());
    }
    let (numbers, uids) = (matching.numbers_for_headers(), matching.uids());
    debug!(messages = numbers.len(), "telling messages apart by their headers, no template gives their UIDLs");
    let (by_pop3, by_imap) = tokio::join!(digests(maildrop, &numbers, Part::Header), inbox.texts(uids));
    let (by_pop3, (by_imap, _)) = (by_pop3?, by_imap?);
    matching.by_headers(&by_pop3, &by_imap);
    let by_pop3 = digests(maildrop, &matching.numbers_for_wholes(), Part::Whole).await?;
    Ok(matching.by_wholes(&by_pop3, &by_imap).and_then(|()| matching.finish()))
}

async fn digests(maildrop: &mut Maildrop, numbers: &[u32], part: Part) -> Result<HashMap<u32, TextDigest>, Stop> {
    let digests = maildrop.texts(numbers, part).await?;
    Ok(numbers.iter().copied().zip(digests).filter_map(|(number, digest)| Some((number, digest?))).collect())
}

async fn texts(maildrop: &mut Maildrop, messages: &[&Paired], part: Part) -> Result<Texts, Stop> {
    let numbers: Vec<u32> = messages.iter().map(|paired| paired.number).collect();
    let digests = maildrop.texts(&numbers, part).await?;
    Ok(messages.iter().zip(digests).filter_map(|(paired, digest)| Some((paired.uid, digest?))).collect())
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
    use crate::mailbox::pop3::{Template, Uidl};
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
        let uidls = [(Uid(3), uidl("UID8-7")), (Uid(5), uidl("UID9-7"))].into();
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
