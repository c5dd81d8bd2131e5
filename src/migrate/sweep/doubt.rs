//! Messages whose APPEND was sent and not answered: the new side is asked whether they are there.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::{Failed, Round, Stop};
use crate::mailbox::{Listed, Message, Uid};
use crate::migrate::verify::digests;
use crate::store::{LateHome, LateMessage, now};

/// How long a server may take to carry out an APPEND whose sender is gone. Before that, a message that is not there may
/// still come.
const SETTLE: Duration = Duration::from_secs(10);

impl Round<'_> {
    /// Finds out whether a message is on the new side, and writes it down. At most one message is in doubt at a time, and
    /// it is resolved before anything else is appended: so an equal one that came late too can't be taken for it.
    pub(super) async fn resolve(&mut self, mut late: LateMessage) -> Result<(), Stop> {
        let found = self.found(&late).await;
        // STATUS of an open mailbox may be out of date.
        self.readers.new.close().await?;
        let found = match found {
            Ok(found) => found,
            Err(Failed::All(stop)) => return Err(stop),
            Err(Failed::Here(why)) => {
                let (mailbox, uid) = (&late.mailbox, late.uid);
                return Err(Stop::Later(format!("late arrival UID {uid} of `{mailbox}` is in doubt: {why}")));
            }
        };
        let (mailbox, uid) = (late.mailbox.clone(), late.uid);
        if let Some(new_uid) = found {
            late.new_uid = Some(new_uid);
            self.swept.appended += 1;
            return match self.done(&mut late, "found after its APPEND was cut off").await {
                Err(Failed::All(stop)) => Err(stop),
                _ => Ok(()),
            };
        }
        info!(user = self.user(), %mailbox, %uid, "an APPEND that was cut off has not arrived: once more");
        late.sent_at = None;
        self.platform.store.put_late(self.user(), &late).await?;
        Ok(())
    }

    async fn found(&mut self, late: &LateMessage) -> Result<Option<Uid>, Failed> {
        let Some(home) = &late.home else { return Ok(None) };
        if let Some(uid) = self.look(late, home).await? {
            return Ok(Some(uid));
        }
        let sent = late.sent_at.unwrap_or_default();
        let age = Duration::from_secs(u64::try_from(now().saturating_sub(sent)).unwrap_or_default());
        let rest = SETTLE.saturating_sub(age);
        if rest.is_zero() {
            return Ok(None);
        }
        sleep(rest).await;
        self.look(late, home).await
    }

    /// The UID of the message, if it is in the mailbox it was sent to.
    async fn look(&mut self, late: &LateMessage, home: &LateHome) -> Result<Option<Uid>, Failed> {
        let Some(listed) = self.sent_to(home) else {
            warn!(user = self.user(), mailbox = %home.mailbox, "an APPEND was cut off, and its mailbox is gone since");
            return Ok(None);
        };
        let same = listed.status.is_some_and(|status| status.uid_validity == home.uid_validity);
        let first = if same { Uid(home.uid_next.0.max(1)) } else { Uid(1) };
        let arrivals = self.readers.new.arrivals(&listed, first).await?;
        let dated = |date: Option<i64>| late.date.is_none() || late.date == date;
        let candidates: Vec<Uid> = arrivals
            .list
            .iter()
            .filter(|arrival| dated(arrival.message.internal_date))
            .map(|arrival| arrival.message.uid)
            .collect();
        let Some(body) = late.body.filter(|_| !candidates.is_empty()) else { return Ok(None) };
        let messages: Vec<Message> = arrivals.list.iter().map(|arrival| arrival.message.clone()).collect();
        let of = (arrivals.uid_validity, messages.as_slice());
        let digests = digests(&mut self.readers.new, &listed, of, candidates.clone()).await?;
        let is_it = |uid: &Uid| {
            digests.get(uid).is_some_and(|digest| digest.exact == body.exact || digest.exact == body.altered)
        };
        if let Some(unread) = candidates.iter().find(|uid| !digests.contains_key(uid)) {
            let found = candidates.iter().copied().find(is_it);
            let unsure = || Failed::Here(format!("UID {unread} on the new side may be it, and can't be read"));
            return found.map(Some).ok_or_else(unsure);
        }
        Ok(candidates.into_iter().find(is_it))
    }

    /// The mailbox that a message was sent to, under the name it has now.
    fn sent_to(&self, home: &LateHome) -> Option<Listed> {
        let is_it = |listed: &&Listed| listed.status.is_some_and(|status| status.uid_validity == home.uid_validity);
        let named = self.new.mailboxes.get(&home.mailbox).filter(|listed| listed.selectable);
        named.filter(is_it).or_else(|| self.new.mailboxes.values().find(is_it)).or(named).cloned()
    }
}
