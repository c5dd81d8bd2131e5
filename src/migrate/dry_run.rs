//! What a run of `mailferry sync` would do, mailbox by mailbox. Both sides are read, nothing is written anywhere.

use std::collections::BTreeSet;
use std::fmt;

use super::copy::{filter_by_labels, filter_by_use, records};
use super::plan::{Work, on_new_side};
use super::quarantine::Quarantine;
use super::{Job, Platform, Readers, Stop, preflight, rename};
use crate::mailbox::diff::{self, Spoilt};
use crate::mailbox::{Contents, Filter, Listed, MailboxName, UidNext};
use crate::store::MailboxRecord;

/// What would be done in one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Messages that would be copied.
    pub copy: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that are on the new side already.
    pub there: u64,
    /// Messages that the filter leaves out.
    pub left_out: u64,
    /// Messages whose flags would be changed.
    pub flags: u64,
    /// Messages of ours that would be deleted.
    pub delete: u64,
}

/// What would become of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It would be brought up to date.
    Steps(Steps),
    /// Our copy would be deleted first, for the reason, and then written anew.
    Anew(String, Steps),
    /// The filter leaves it out, with so many messages.
    LeftOut(u64),
    /// Our copy of it would be deleted, as it is gone from the old side.
    Deleted(u64),
    /// Our copy would be renamed to this.
    Renamed(MailboxName),
    /// The run would end here, for this reason.
    Refused(String),
}

/// What a run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foretold {
    /// The user.
    pub user: String,
    /// Each mailbox, those of the old side first.
    pub mailboxes: Vec<(MailboxName, Fate)>,
}

impl Foretold {
    /// Whether the run would come to its end.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        !self.mailboxes.iter().any(|(_, fate)| matches!(fate, Fate::Refused(_)))
    }
}

/// A line for each mailbox, and their sum.
impl fmt::Display for Foretold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut copy, mut octets, mut left_out) = (0, 0, 0);
        for (name, fate) in &self.mailboxes {
            let name: String = name.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            match fate {
                Fate::Steps(steps) => writeln!(f, "{name}: {steps}")?,
                Fate::Anew(why, steps) => writeln!(f, "{name}: {steps}; our copy is deleted first: {why}")?,
                Fate::LeftOut(messages) => writeln!(f, "{name}: left out as a whole, {messages} messages")?,
                Fate::Deleted(messages) => writeln!(f, "{name}: our copy is deleted, {messages} messages")?,
                Fate::Renamed(to) => writeln!(f, "{name}: our copy is renamed to {to}")?,
                Fate::Refused(why) => writeln!(f, "{name}: refused: {why}")?,
            }
            match fate {
                Fate::Steps(steps) | Fate::Anew(_, steps) => {
                    copy += steps.copy;
                    octets += steps.octets;
                    left_out += steps.left_out;
                }
                Fate::LeftOut(messages) => left_out += messages,
                Fate::Deleted(_) | Fate::Renamed(_) | Fate::Refused(_) => {}
            }
        }
        let user = &self.user;
        writeln!(f, "{user}: {copy} messages to copy ({octets} octets), {left_out} left out; nothing was written")
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copy, octets, there, left_out, flags, delete } = self;
        write!(f, "{copy} to copy ({octets} octets), {there} there, {left_out} left out by the filter")?;
        for (count, what) in [(flags, "with other flags"), (delete, "to delete")] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Foretells a copy of what `filter` takes.
///
/// # Errors
/// [`Stop`], also where the run would refuse the whole account.
pub async fn foretell(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    filter: &Filter,
) -> Result<Foretold, Stop> {
    let mut records = records(platform, job).await?;
    let mut whole = readers.old.account().await?;
    let new = readers.new.account().await?;
    if records.is_empty()
        && let Some(unlike) = readers.unlike(&mut whole).await?
    {
        return Err(Stop::Refused(unlike));
    }
    filter_by_use(readers, &whole, filter)?;
    filter_by_labels(readers, &whole, filter)?;
    for name in rename::left_behind(&new, &records) {
        records.remove(&name);
    }
    let mut old = whole.clone();
    filter.narrow(&mut old, &new, |name| records.contains_key(name));
    preflight::check(&old, &new, &records)?;
    let left_out = Quarantine::of(platform, job).await?;
    let marked = platform.store.mark(job.user.as_str()).await?.is_some();
    let work = Work::of(&old, &new, &records, &BTreeSet::new());
    let renames = rename::found(&old, &new, &records);
    let mut mailboxes = Vec::new();
    for (name, listed) in whole.mailboxes.iter().filter(|(_, listed)| listed.selectable) {
        let messages = listed.status.map(|status| status.messages).unwrap_or_default();
        let fate = if !filter.takes_mailbox(name, listed) {
            Fate::LeftOut(messages)
        } else {
            let renamed = renames.iter().find(|rename| rename.to == *name).map(|rename| &rename.from);
            let record = renamed.map_or_else(|| records.get(name), |from| records.get(from));
            let target = on_new_side(renamed.unwrap_or(name), &new);
            let ours = record.is_some_and(|record| is_there(record, &target));
            let target = Some(&target).filter(|_| ours);
            let look = Look { name, filter, left_out: &left_out, inbox_goes: marked };
            look.mailbox(readers, listed, target).await?
        };
        mailboxes.push((name.clone(), fate));
    }
    for name in work.gone {
        let messages = new.mailboxes.get(&name).and_then(|listed| listed.status).map(|status| status.messages);
        let renamed = renames.iter().find(|rename| rename.from == name);
        let fate =
            renamed.map_or(Fate::Deleted(messages.unwrap_or_default()), |rename| Fate::Renamed(rename.to.clone()));
        mailboxes.push((name, fate));
    }
    readers.old.close().await?;
    readers.new.close().await?;
    Ok(Foretold { user: job.user.to_string(), mailboxes })
}

/// Whether what the new side has there is our copy.
fn is_there(record: &MailboxRecord, target: &Listed) -> bool {
    target.status.is_some_and(|there| there.uid_validity == record.uid_validity)
}

/// A look at one mailbox.
#[derive(Debug)]
struct Look<'a> {
    name: &'a MailboxName,
    filter: &'a Filter,
    left_out: &'a Quarantine,
    /// INBOX is made anew without being asked, if it must be.
    inbox_goes: bool,
}

impl Look<'_> {
    /// `target` is our copy, if there is one.
    async fn mailbox(&self, readers: &mut Readers, listed: &Listed, target: Option<&Listed>) -> Result<Fate, Stop> {
        let mut all = readers.old.contents(listed).await?;
        self.left_out.take_from(self.name, &mut all);
        let nothing = Contents { uid_next: UidNext(1), highest_modseq: None, messages: Vec::new(), ..all.clone() };
        let before = match target {
            Some(target) => readers.new.contents(target).await?,
            None => nothing.clone(),
        };
        Ok(match self.steps(&all, &before) {
            Ok(steps) => Fate::Steps(steps),
            Err(spoilt @ (Spoilt::Gap { .. } | Spoilt::UidValidity { .. }))
                if self.inbox_goes || !self.name.is_inbox() =>
            {
                match self.steps(&all, &nothing) {
                    Ok(steps) => Fate::Anew(spoilt.to_string(), steps),
                    Err(spoilt) => Fate::Refused(spoilt.to_string()),
                }
            }
            Err(spoilt) => Fate::Refused(spoilt.to_string()),
        })
    }

    fn steps(&self, all: &Contents, before: &Contents) -> Result<Steps, Spoilt> {
        let mut source = all.clone();
        self.filter.cut(&mut source, before);
        Ok(steps(all, &source, before, &diff::plan(&source, before)?))
    }
}

fn steps(all: &Contents, source: &Contents, before: &Contents, plan: &diff::MailboxPlan) -> Steps {
    let saved = plan.save.iter().filter_map(|&at| source.messages.get(at));
    Steps {
        copy: plan.save.len() as u64,
        octets: saved.map(|message| message.size).sum(),
        there: (before.messages.len() - plan.expunge.len().min(before.messages.len())) as u64,
        left_out: (all.messages.len() - source.messages.len()) as u64,
        flags: plan.flags.len() as u64,
        delete: plan.expunge.len() as u64,
    }
}
