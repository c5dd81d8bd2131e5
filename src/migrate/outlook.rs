//! What would happen if a user moved now: both sides are looked at, nothing is written.

mod labels;
mod pace;

use std::collections::{BTreeMap, BTreeSet};

use super::credentials::own_login;
use super::enrolled::is_enrolled;
use super::quota::Room;
use super::uidl::{Content, Inbox};
use super::{Job, Platform, Readers, Stop, preflight, scripts};
use crate::mailbox::compare::{added, left_behind, misplaced, sharing};
use crate::mailbox::{Account, Contents, Finding, Listed, MailboxName, Report, Sharing, Side};
use crate::net::imap::printable;
use crate::source::{ReadError, Reader};
use crate::store::{Mark, Phase, UserRecord};
pub use labels::{Labelled, Labels};
pub use pace::Pace;

/// Keywords named that the new side can't hold.
const NAMED_MAX: usize = 5;

/// What one side of an account holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Mailboxes that can be opened.
    pub mailboxes: usize,
    /// Messages in them.
    pub messages: u64,
    /// Their octets, as the server tells their sizes.
    pub octets: u64,
    /// Those of them that are in mailboxes which the account carries for everybody.
    pub carried: u64,
}

/// What would happen.
#[derive(Debug)]
pub struct Outlook {
    /// The user's record, if there is one.
    pub record: Option<UserRecord>,
    /// What the account on the new side is marked with, where it is no whole copy.
    pub mark: Option<Mark>,
    /// Whether the next login starts the move, and on whose word; `None`: it has begun.
    pub enrolled: Option<(bool, String)>,
    /// How names look on each side, in words.
    pub names: [String; 2],
    /// The old side.
    pub old: Holdings,
    /// The new side.
    pub new: Holdings,
    /// What each side announces after the login.
    pub capabilities: [BTreeSet<String>; 2],
    /// Mailboxes that others share with the user on the old side only, in words.
    pub shared: Option<String>,
    /// How many shared mailboxes the account carries for everybody on each side, if it is the one that does.
    pub carries: Option<[usize; 2]>,
    /// With whom the user shares their own mailboxes, and how many with each.
    pub shared_with: BTreeMap<String, u64>,
    /// Rights that are not the same on both sides, and folders that may be written and not read.
    pub rights: Vec<Finding>,
    /// What reading some messages of the old side took; nothing is read where the user is on the new side.
    pub pace: Pace,
    /// What is in several mailboxes of the old side, where that tells.
    pub labels: Option<Labels>,
    /// Why each of those is stored anew, although the new side's virtual mailbox of all mail is configured.
    pub apart: Option<String>,
    /// Octets that the old side may give us today, and how many there are a day, if there is a limit.
    pub budget: Option<(u64, u64)>,
    /// What is known of POP3.
    pub pop3: String,
    /// The quotas of both sides, in words.
    pub quota: [String; 2],
    /// Sieve scripts on both sides, in words, where the platform has ManageSieve.
    pub sieve: Option<String>,
    /// Folders that clients would find only after the switch.
    pub added: Vec<String>,
    /// What keeps the user from being switched.
    pub blocks: Vec<String>,
}

impl Outlook {
    /// Looks at both sides.
    ///
    /// # Errors
    /// [`Stop`] if one of them can't be read.
    pub async fn of(platform: &Platform, job: &Job) -> Result<Self, Stop> {
        let record = platform.store.user(job.user.as_str()).await?;
        let mark = platform.store.mark(job.user.as_str()).await?;
        let begun = record.as_ref().is_some_and(|record| record.phase != Phase::Old);
        let moved = record.as_ref().is_some_and(|record| record.authority == Side::New);
        let enrolled = if begun { None } else { Some(is_enrolled(platform, &job.user).await?) };
        let mut readers = Readers::open(platform, &job.login).await?;
        let words = |reader: &Reader| reader.capabilities().map(str::to_owned).collect::<BTreeSet<_>>();
        let (seen, new, _) = readers.seen().await?;
        let capabilities = [words(seen), words(new)];
        let (mut old, new) = (readers.old.account().await?, readers.new.account().await?);
        let mut blocks: Vec<String> = readers.unlike(&mut old).await?.into_iter().collect();
        blocks.extend(mark.as_ref().map(Mark::to_string));
        if record.as_ref().is_none_or(|record| record.phase != Phase::New && record.phase != Phase::Settled) {
            let records = super::copy::records(platform, job).await?;
            match preflight::check(&old, &new, &records) {
                Err(Stop::Refused(why)) => blocks.push(why),
                other => other?,
            }
        }
        let (mut unfit, mut pace) = (BTreeMap::new(), Pace::default());
        let all_mail = old.mailboxes.values().any(Listed::is_all_mail);
        let mut labels = readers.old.has_labels().then(|| labels::Count::new(all_mail));
        let of_old = OfOld { unfit: &mut unfit, pace: (!moved).then_some(&mut pace), labels: labels.as_mut() };
        let old_holds = holdings(&mut readers.old, &old, Some(of_old)).await?;
        let new_holds = holdings(&mut readers.new, &new, None).await?;
        if !unfit.is_empty() {
            let messages: u64 = unfit.values().sum();
            let names: Vec<&str> = unfit.keys().take(NAMED_MAX).map(String::as_str).collect();
            blocks.push(format!(
                "{messages} messages have keywords that the new side can't hold ({} different ones, such as {})",
                unfit.len(),
                names.join(", ")
            ));
        }
        let room = Room::of(&mut readers).await?;
        if !moved {
            blocks.extend(misplaced(&old, &new));
            blocks.extend(room.in_the_way(&old, old_holds.octets - old_holds.carried));
        }
        let apart = virtual_all(platform, &mut readers).await?;
        let quota = [room.old.to_string(), room.new.to_string()];
        let pop3 = match pop3(job, &mut readers, &old).await? {
            Ok(known) => known,
            Err(doubt) => {
                blocks.push(format!("POP3: {doubt}"));
                "the UIDLs can't be carried over".to_owned()
            }
        };
        let budget = readers.tally.left();
        let sieve = scripts::outlook(platform, job, &mut readers).await?.map(|(known, in_the_way)| {
            if !moved {
                blocks.extend(in_the_way);
            }
            known
        });
        let (seen, new_side, _) = readers.seen().await?;
        let rights = (seen.sharing(&old).await?, new_side.sharing(&new).await?);
        readers.close().await;
        if let Some(Err(refusal)) = own_login(platform, &job.login).await? {
            blocks.push(refusal);
        }
        let shared = left_behind(&old, &new);
        let count = |account: &Account| account.carried.as_ref().map(|carried| carried.mailboxes.len());
        let carries = count(&old).zip(count(&new)).map(<[usize; 2]>::from);
        let shared_with = rights.0.with_whom();
        let rights = differing(job, &rights);
        let names = [form(&old), form(&new)];
        Ok(Self {
            record,
            mark,
            enrolled,
            names,
            old: old_holds,
            new: new_holds,
            capabilities,
            shared,
            carries,
            shared_with,
            rights,
            pace,
            labels: labels.map(labels::Count::finish),
            apart,
            budget,
            pop3,
            quota,
            sieve,
            added: if moved { Vec::new() } else { added(&old, &new) },
            blocks,
        })
    }
}

/// What a report would say of rights.
fn differing(job: &Job, (old, new): &(Sharing, Sharing)) -> Vec<Finding> {
    let mut report = Report::new(job.user.as_str(), false);
    sharing(old, new, &mut report);
    report.findings
}

/// How an account's names look, in words.
fn form(account: &Account) -> String {
    let separator = account.separator.map_or_else(|| "no separator".to_owned(), |known| format!("separator {known:?}"));
    match account.prefix.as_deref() {
        None => separator,
        Some("") => format!("{separator}, no prefix"),
        Some(prefix) => format!("{separator}, prefix {prefix:?}"),
    }
}

/// What is of interest in the old side alone.
#[derive(Debug)]
struct OfOld<'a> {
    /// Keywords that the new side can't hold, each with its messages.
    unfit: &'a mut BTreeMap<String, u64>,
    /// How fast it can be read.
    pace: Option<&'a mut Pace>,
    /// What is in several mailboxes.
    labels: Option<&'a mut labels::Count>,
}

/// Counts what a side holds.
async fn holdings(reader: &mut Reader, account: &Account, mut old: Option<OfOld<'_>>) -> Result<Holdings, Stop> {
    let mut holds = Holdings::default();
    for (name, listed) in account.mailboxes.iter().filter(|(_, listed)| listed.selectable) {
        holds.mailboxes += 1;
        if listed.status.is_some_and(|status| status.messages == 0) {
            continue;
        }
        let contents = reader.contents(listed).await?;
        holds.messages += contents.messages.len() as u64;
        for message in &contents.messages {
            holds.octets += message.size;
            holds.carried += if account.carries(name) { message.size } else { 0 };
            if let Some(OfOld { unfit, .. }) = &mut old {
                for name in message.keywords.fit().1 {
                    *unfit.entry(name).or_default() += 1;
                }
            }
        }
        if let Some(OfOld { labels: Some(labels), .. }) = &mut old {
            labelled(reader, listed, &contents, labels).await?;
        }
        if let Some(OfOld { pace: Some(pace), .. }) = &mut old {
            pace.read(reader, listed, &contents).await?;
        }
    }
    reader.close().await?;
    Ok(holds)
}

/// Why messages of several mailboxes can't be copied from a virtual mailbox of the new side, if that is configured.
async fn virtual_all(platform: &Platform, readers: &mut Readers) -> Result<Option<String>, Stop> {
    let Some(name) = platform.config.new.virtual_all.as_deref().filter(|_| readers.old.has_labels()) else {
        return Ok(None);
    };
    let listed = Listed { raw: name.into(), selectable: true, ..Listed::default() };
    readers.new.revive().await?;
    Ok(match readers.new.status(&listed).await {
        Ok(_) => None,
        Err(error @ ReadError::Mailbox { .. }) => Some(format!(
            "there is no virtual mailbox of all mail as new.virtual_all says, so each is stored anew: {error}"
        )),
        Err(error) => return Err(error.into()),
    })
}

/// Counts the messages of a mailbox by what they are called in all mailboxes.
async fn labelled(
    reader: &mut Reader,
    listed: &Listed,
    contents: &Contents,
    labels: &mut labels::Count,
) -> Result<(), Stop> {
    let (messages, all) = (&contents.messages, contents.messages.iter().map(|message| message.size).sum::<u64>());
    let Some((first, last)) = messages.first().zip(messages.last()) else { return Ok(()) };
    let numbers = reader.gm_msgids(listed, contents.uid_validity, first.uid..=last.uid).await?;
    let size = |uid| messages.binary_search_by_key(&uid, |message| message.uid).ok().and_then(|at| messages.get(at));
    let numbered: Vec<(u64, u64)> =
        numbers.into_iter().filter_map(|(uid, number)| Some((number, size(uid)?.size))).collect();
    let known: u64 = numbered.iter().map(|(_, size)| size).sum();
    let rest = (messages.len() as u64 - numbered.len() as u64, all - known);
    labels.mailbox(printable(&listed.raw), &numbered, rest);
    Ok(())
}

/// What POP3 shows of INBOX, or why it can't be told which message is which.
async fn pop3(job: &Job, readers: &mut Readers, old: &Account) -> Result<Result<String, String>, Stop> {
    let Some(pop3) = readers.pop3.clone() else {
        return Ok(Ok("not configured: UIDLs are not carried over".to_owned()));
    };
    let Some(listed) = old.mailboxes.get(&MailboxName::inbox()) else { return Ok(Ok("no INBOX".to_owned())) };
    let (reader, ..) = readers.seen().await?;
    let contents = reader.contents(listed).await?;
    let mut inbox = Inbox { reader, listed, contents };
    // (What was never proved is proved all the same, but not remembered.)
    let pairing = Box::pin(pop3.old_pairing(&job.user, &mut inbox, Content::Trusted)).await?;
    inbox.reader.close().await?;
    let pairing = pairing.and_then(|pairing| pop3.doubt(&pairing).map_or(Ok(pairing), Err));
    Ok(match pairing {
        Ok(pairing) if pairing.messages.is_empty() => Ok("no messages".to_owned()),
        Ok(pairing) => {
            let order = if pairing.is_ascending() { "in the order of the UIDs" } else { "in an order of their own" };
            Ok(format!("{} UIDLs, {}, {order}{}", pairing.messages.len(), pairing.method(), pairing.beside()))
        }
        Err(doubt) => Err(doubt.to_string()),
    })
}
