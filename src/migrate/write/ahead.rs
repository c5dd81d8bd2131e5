//! What there is to do in a mailbox, found out cheaply before the target is opened.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ahead, Writer, Written};
use crate::mailbox::{Listed, MailboxName};
use crate::migrate::Stop;
use crate::migrate::look::{self, Known, Sides};
use crate::migrate::plan::on_new_side;
use crate::source::ReadError;
use crate::store::MailboxRecord;

/// Messages of mailboxes that were looked at ahead, and whose plans wait to be carried out: what is more is looked at again.
const AHEAD_MAX: usize = 50_000;

/// Mailboxes whose flags are asked for at once.
const QUIET_WINDOW: usize = 64;

impl Writer<'_> {
    /// Looks at the mailboxes of which enough is known to look cheaply. Those with nothing to do are done.
    pub(super) async fn look_ahead(
        &mut self,
        look: &[&MailboxName],
        written: &mut Written,
    ) -> Result<BTreeMap<MailboxName, Ahead>, Stop> {
        let (mut ahead, mut settled, mut held) = (BTreeMap::new(), Vec::new(), 0);
        let unchanged = self.unchanged(look).await?;
        for &name in look {
            let Some((listed, record)) = self.old.mailboxes.get(name).zip(self.records.get(name)) else { continue };
            let there = self.new.mailboxes.get(name).and_then(|listed| listed.status);
            let seen = there.map(|there| there.to_string());
            let untouched = seen.is_some() && record.new_seen == seen;
            let mut planned = None;
            let same = unchanged.contains(name);
            if let Some(known) = self.known(name)
                && !same
                && held < AHEAD_MAX
            {
                self.readers.old.revive().await?;
                self.readers.new.revive().await?;
                match Sides::since(self.readers, (listed, &on_new_side(name, self.new)), &known).await {
                    Ok(sides) => planned = sides,
                    // What is wrong shows when it is read in full.
                    Err(ReadError::Gone { .. } | ReadError::Mailbox { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if same || planned.as_ref().is_some_and(|(_, plan)| plan.is_empty()) {
                let old_seen = listed.status.map(|status| status.to_string());
                if old_seen != record.old_seen {
                    settled.push(MailboxRecord { old_seen, ..record.clone() });
                }
                written.done.push(name.clone());
                continue;
            }
            held += planned.as_ref().map_or(0, |(sides, _)| sides.source.messages.len() + sides.before.messages.len());
            ahead.insert(name.clone(), Ahead { untouched, planned });
        }
        if !settled.is_empty() {
            self.platform.store.put_mailboxes(self.job.user.as_str(), settled.clone()).await?;
            self.records.extend(settled.into_iter().map(|record| (record.name.clone(), record)));
        }
        Ok(ahead)
    }

    /// What was proved equal of a mailbox, if that is enough to look cheaply.
    fn known(&self, name: &MailboxName) -> Option<Known> {
        let (listed, record) = self.old.mailboxes.get(name).zip(self.records.get(name))?;
        let there = self.new.mailboxes.get(name).and_then(|listed| listed.status);
        Known::of(record, listed.status, there).filter(|_| !self.stops.concern(name))
    }

    /// Mailboxes in which only flags can have changed, and have not.
    async fn unchanged(&mut self, look: &[&MailboxName]) -> Result<BTreeSet<MailboxName>, Stop> {
        let mut quiet: Vec<(&MailboxName, (&Listed, Listed, Known))> = Vec::new();
        for &name in look {
            if let Some((listed, known)) = self.old.mailboxes.get(name).zip(self.known(name))
                && known.is_quiet()
            {
                quiet.push((name, (listed, on_new_side(name, self.new), known)));
            }
        }
        let mut unchanged = BTreeSet::new();
        while !quiet.is_empty() {
            let mut messages = 0;
            let fits = quiet.iter().take(QUIET_WINDOW).take_while(|(_, (_, _, known))| {
                messages += known.messages();
                messages <= AHEAD_MAX as u64
            });
            let (names, asked): (Vec<_>, Vec<_>) = quiet.drain(..fits.count().max(1)).unzip();
            self.readers.old.revive().await?;
            self.readers.new.revive().await?;
            let same = look::unchanged(self.readers, &asked).await?;
            unchanged.extend(names.into_iter().zip(same).filter(|(_, same)| *same).map(|(name, _)| name.clone()));
        }
        Ok(unchanged)
    }
}
