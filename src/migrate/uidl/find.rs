//! Finds out which UID each message of a POP3 list is, reading both protocols at once, and as little as will do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tracing::debug;

use super::Certain;
use super::read::{Content, Inbox, Known, texts_of};
use crate::mailbox::pop3::proof::{Proof, Texts};
use crate::mailbox::pop3::{
    Claims, Looks, Matching, Method, Paired, Pairing, Pop3List, Snapshot, TextDigest, Uidl, nearest,
};
use crate::mailbox::{Contents, MailboxName, Uid, UidNext};
use crate::migrate::Stop;
use crate::source::Maildrop;
use crate::source::pop3::Part;
use crate::source::profile::Brand;
use crate::wire::imap::command::Part as Field;

/// Messages of which a field is asked for to see whether it tells UIDLs.
const PROBES: usize = 8;

/// Messages that INBOX doesn't have which are looked for elsewhere.
const STRANGERS: usize = 8;

/// Messages elsewhere that are read because they have the size of one of those.
const READ_ELSEWHERE: usize = 32;

/// Mailboxes in which they are looked for.
const ELSEWHERE: usize = 500;

/// Proves a pairing on the messages, reading both protocols at once. Gives those that it could not be proved on because IMAP
/// can't give them.
pub(super) async fn prove(
    maildrop: &mut Maildrop,
    inbox: &mut Inbox<'_>,
    pairing: &Pairing,
    proved: impl Fn(Uid) -> bool,
    content: Content,
) -> Result<Certain<BTreeSet<Uid>>, Stop> {
    let looks = if content == Content::Proved { Looks::Some } else { Looks::None };
    let mut proof = match Proof::begin(pairing, proved, looks) {
        Ok(proof) => proof,
        Err(doubt) => return Ok(Err(doubt)),
    };
    if content == Content::Trusted {
        return Ok(Ok(BTreeSet::new()));
    }
    debug!(headers = proof.headers().len(), wholes = proof.wholes().len(), "proving UIDLs on the messages");
    let headers = proof.headers().to_vec();
    let uids: Vec<Uid> = headers.iter().map(|paired| paired.uid).collect();
    let (by_pop3, by_imap) = tokio::join!(paired_texts(maildrop, &headers, Part::Header), inbox.headers(&uids));
    let (by_pop3, mut by_imap) = (by_pop3?, by_imap?);
    let missing: Vec<Uid> = uids.into_iter().filter(|uid| !by_imap.contains_key(uid)).collect();
    let (more, mut unreadable) = inbox.texts(missing).await?;
    by_imap.extend(more);
    proof.leave_out(&unreadable);
    if let Err(doubt) = proof.compare_headers(&by_pop3, &by_imap) {
        return Ok(Err(doubt));
    }
    let wholes = proof.wholes().to_vec();
    let uids: Vec<Uid> = wholes.iter().map(|paired| paired.uid).collect();
    let (by_pop3, by_imap) = tokio::join!(paired_texts(maildrop, &wholes, Part::Whole), inbox.texts(uids));
    let (by_pop3, (by_imap, more)) = (by_pop3?, by_imap?);
    proof.leave_out(&more);
    unreadable.extend(more);
    Ok(proof.compare_wholes(&by_pop3, &by_imap).map(|()| unreadable))
}

/// Finds out by their contents which UID each message is.
pub(super) async fn matched(
    maildrop: &mut Maildrop,
    inbox: &mut Inbox<'_>,
    list: &Pop3List,
    (known, content, contents): (&Known, Content, &Contents),
    uid_next_after: UidNext,
) -> Result<Certain<Pairing>, Stop> {
    let snapshot = Snapshot { contents, uid_next_after, list_is_older: false };
    // What was never found before can't be trusted in the gate either.
    let content = if known.uidls.is_empty() { Content::Proved } else { content };
    if content == Content::Trusted {
        return Ok(Matching::begin(list, &snapshot, &known.uidls, None, Looks::None).finish());
    }
    let claims = match claims(inbox, list, known).await? {
        Some(claims) => claims,
        None => nearest(list, &snapshot),
    };
    let mut matching = Matching::begin(list, &snapshot, &known.uidls, Some(&claims), Looks::Some);
    loop {
        let (numbers, uids) = (matching.numbers_for_headers(), matching.uids_for_headers());
        debug!(messages = numbers.len(), "telling messages apart by their headers, no template gives their UIDLs");
        let (by_pop3, by_imap) = tokio::join!(digests(maildrop, &numbers, Part::Header), inbox.headers(&uids));
        matching.by_headers(&by_pop3?, &by_imap?);
        let (numbers, uids) = (matching.numbers_for_wholes(), matching.uids_for_wholes());
        let (by_pop3, by_imap) = tokio::join!(digests(maildrop, &numbers, Part::Whole), inbox.texts(uids));
        if let Err(doubt) = matching.by_wholes(&by_pop3?, &by_imap?.0) {
            return Ok(Err(doubt));
        }
        if !matching.look_again() {
            return Ok(matching.finish());
        }
    }
}

/// UIDLs that stand in something that IMAP shows, if any do.
pub(super) async fn claims(inbox: &mut Inbox<'_>, list: &Pop3List, known: &Known) -> Result<Option<Claims>, Stop> {
    let shown: HashSet<&Uidl> = list.messages().iter().map(|message| &message.uidl).collect();
    let uids: Vec<Uid> = inbox.contents.messages.iter().map(|message| message.uid).collect();
    let uids: Vec<Uid> = uids.into_iter().filter(|uid| !known.uidls.contains_key(uid)).collect();
    let step = (uids.len() / PROBES).max(1);
    let probes: Vec<Uid> = uids.iter().copied().step_by(step).chain(uids.last().copied()).collect();
    let mut ways = vec![(Field::XUidl, Method::Field)];
    if inbox.reader.profile().brand == Brand::Dovecot {
        ways.push((Field::XGuid, Method::Guid));
    }
    for (field, method) in ways {
        let some = uidls(fields(inbox, &probes, field).await?);
        if some.values().any(|uidl| shown.contains(uidl)) {
            let uidls = uidls(fields(inbox, &uids, field).await?);
            let uidls = uidls.into_iter().filter(|(_, uidl)| shown.contains(uidl)).collect();
            return Ok(Some(Claims { method, uidls }));
        }
    }
    Ok(None)
}

/// What a field tells of messages that have it.
pub(super) async fn fields(inbox: &mut Inbox<'_>, uids: &[Uid], field: Field) -> Result<BTreeMap<Uid, Vec<u8>>, Stop> {
    if uids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let told = inbox.reader.fields(inbox.listed, inbox.contents.uid_validity, uids, field).await?;
    let value = |octets: &[u8]| {
        let value = match field {
            Field::XGuid => octets,
            // The first, if there are several.
            Field::XUidl | Field::Header => {
                let at = octets.iter().position(|&octet| octet == b':')?;
                octets.get(at + 1..)?.split(|&octet| octet == b'\n').next()?
            }
        };
        let value = value.trim_ascii();
        (!value.is_empty()).then(|| value.to_vec())
    };
    Ok(told.into_iter().filter_map(|(uid, octets)| Some((uid, value(&octets)?))).collect())
}

/// Those that can be UIDLs.
fn uidls(fields: BTreeMap<Uid, Vec<u8>>) -> BTreeMap<Uid, Uidl> {
    fields.into_iter().filter_map(|(uid, octets)| Some((uid, Uidl::from_octets(&octets)?))).collect()
}

/// Looks in the other mailboxes for messages that INBOX doesn't have: names those mailboxes in which some of them are.
pub(super) async fn elsewhere(
    maildrop: &mut Maildrop,
    inbox: &mut Inbox<'_>,
    pairing: &mut Pairing,
) -> Result<(), Stop> {
    let some = pairing.strangers.iter().take(STRANGERS);
    let (numbers, sizes): (Vec<u32>, HashSet<u64>) = some.map(|stranger| (stranger.number, stranger.size)).unzip();
    if numbers.is_empty() {
        return Ok(());
    }
    let strangers: Vec<TextDigest> = digests(maildrop, &numbers, Part::Whole).await?.into_values().collect();
    let same = |one: &TextDigest, other: &TextDigest| {
        one.whole == other.whole || one.identity.is_some() && (one.identity, one.body) == (other.identity, other.body)
    };
    let account = inbox.reader.account().await?;
    let others = account.mailboxes.iter().filter(|(name, listed)| listed.selectable && **name != MailboxName::inbox());
    for (name, listed) in others.take(ELSEWHERE) {
        if listed.status.is_some_and(|status| status.messages == 0) {
            continue;
        }
        let contents: Contents = inbox.reader.contents(listed).await?;
        let alike = contents.messages.iter().filter(|message| sizes.contains(&message.size));
        let uids: Vec<Uid> = alike.map(|message| message.uid).take(READ_ELSEWHERE).collect();
        let (texts, _) = texts_of(inbox.reader, listed, &contents, uids).await?;
        if texts.values().any(|text| strangers.iter().any(|stranger| same(text, stranger))) {
            pairing.elsewhere.push(name.to_string());
        }
    }
    inbox.reader.close().await?;
    Ok(())
}

async fn digests(maildrop: &mut Maildrop, numbers: &[u32], part: Part) -> Result<HashMap<u32, TextDigest>, Stop> {
    let digests = maildrop.texts(numbers, part).await?;
    Ok(numbers.iter().copied().zip(digests).filter_map(|(number, digest)| Some((number, digest?))).collect())
}

async fn paired_texts(maildrop: &mut Maildrop, messages: &[&Paired], part: Part) -> Result<Texts, Stop> {
    let numbers: Vec<u32> = messages.iter().map(|paired| paired.number).collect();
    let digests = maildrop.texts(&numbers, part).await?;
    Ok(messages.iter().zip(digests).filter_map(|(paired, digest)| Some((paired.uid, digest?))).collect())
}
