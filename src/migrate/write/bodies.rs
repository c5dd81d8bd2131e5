//! The octets of the messages that a mailbox lacks, in their order: from the old side, or, of a message that the new side has
//! in another mailbox already, from there.

use std::collections::BTreeMap;

use tracing::debug;

use super::{Sending, Writer};
use crate::mailbox::{Listed, Message, Uid};
use crate::migrate::Stop;
use crate::migrate::copies::{NUMBER_COSTS, Place};
use crate::migrate::plan::on_new_side;
use crate::source::{BodyEvent, ReadError, Stored};
use crate::target::dsync::Session;

/// The numbers that messages have in all their mailboxes.
pub(super) type Numbers = BTreeMap<Uid, u64>;

/// What came of a message that was to be read from the new side.
enum Copied {
    Done,
    /// Nothing was written: it has to come from the old side.
    Not,
    /// It broke off in the middle, and the session with it.
    Interrupted,
}

impl Writer<'_> {
    /// Sends the bodies of what is to be written. False if a message vanished or can't be read: the session must be aborted then.
    pub(super) async fn bodies(
        &mut self,
        session: &mut Session,
        listed: &Listed,
        sending: &Sending<'_>,
        numbers: &Numbers,
    ) -> Result<bool, Stop> {
        let mut waiting = Vec::new();
        for uid in sending.saved() {
            let number = numbers.get(&uid).copied();
            let place = number.and_then(|number| self.readers.copies.of(number, &sending.record.name));
            if let Some((number, place)) = number.zip(place) {
                // The target wants them in order.
                let before = std::mem::take(&mut waiting);
                if !self.read_old_side(session, listed, sending, (before, numbers)).await? {
                    return Ok(false);
                }
                match self.read_new_side(session, sending, uid, &place).await? {
                    Copied::Done => {
                        self.readers.copies.wrote(number, uid);
                        continue;
                    }
                    Copied::Not => self.readers.copies.forget(number),
                    Copied::Interrupted => {
                        self.readers.copies.forget(number);
                        return Ok(false);
                    }
                }
            }
            waiting.push(uid);
        }
        let done = self.read_old_side(session, listed, sending, (waiting, numbers)).await?;
        self.readers.new.close().await?;
        Ok(done)
    }

    /// The numbers of messages that are to be written, where the old side tells them.
    pub(super) async fn numbers(&mut self, listed: &Listed, sending: &Sending<'_>) -> Result<Numbers, Stop> {
        self.readers.copies.begin();
        let uids = sending.saved();
        let Some((&first, &last)) = uids.first().zip(uids.last()) else { return Ok(Numbers::new()) };
        if !self.readers.old.has_labels() {
            return Ok(Numbers::new());
        }
        let octets = uids.iter().filter_map(|uid| message(sending, *uid)).map(|message| message.size).sum();
        self.learn_others(sending, octets).await?;
        let uid_validity = sending.sides.source.uid_validity;
        Ok(self.readers.old.gm_msgids(listed, uid_validity, first..=last).await?.into_iter().collect())
    }

    /// Learns what the new side has in other mailboxes from earlier runs, if that costs the old side less than `octets`, which
    /// are to be read.
    async fn learn_others(&mut self, sending: &Sending<'_>, octets: u64) -> Result<(), Stop> {
        let others: Vec<_> = self
            .old
            .mailboxes
            .iter()
            .filter(|(name, listed)| listed.selectable && **name != sending.record.name)
            .filter(|(name, _)| !self.readers.copies.knows_whole(name))
            .filter_map(|(name, listed)| Some((name, listed, self.state(name)?)))
            .collect();
        let messages: u64 = others.iter().map(|(_, _, state)| u64::from(state.messages)).sum();
        if messages.saturating_mul(NUMBER_COSTS) > octets {
            return Ok(());
        }
        for (name, listed, state) in others {
            let range = Uid(1)..=Uid(state.last_common_uid);
            let numbers = match self.readers.old.gm_msgids(listed, state.uid_validity, range).await {
                Ok(numbers) => numbers,
                // It is another one by now, and the next pass sees that.
                Err(ReadError::Mailbox { .. } | ReadError::Gone { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let messages = numbers.into_iter().map(|(uid, number)| (number, uid));
            self.readers.copies.learn(name, state.uid_validity, messages);
            self.readers.copies.know_whole(name);
        }
        Ok(())
    }

    async fn read_old_side(
        &mut self,
        session: &mut Session,
        listed: &Listed,
        sending: &Sending<'_>,
        (uids, numbers): (Vec<Uid>, &Numbers),
    ) -> Result<bool, Stop> {
        if uids.is_empty() {
            return Ok(true);
        }
        let Sending { record, sides, .. } = sending;
        let source = &sides.source;
        let bodies = self.readers.old.bodies(listed, source.uid_validity, uids).await?;
        let mut bodies = bodies.expecting(&source.messages);
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Start(uid, _) => begin_mail(session, sending, uid, bodies.stored()).await?,
                BodyEvent::Chunk(octets) => {
                    session.mail_chunk(&octets).await?;
                    self.job.progress.update(|progress| progress.bytes_done += octets.len() as u64);
                }
                BodyEvent::End(uid) => {
                    session.end_mail().await?;
                    self.job.progress.update(|progress| progress.messages_done += 1);
                    if let Some(number) = numbers.get(&uid) {
                        self.readers.copies.wrote(*number, uid);
                    }
                }
                // What was begun can't be taken back but with the whole session; the next pass begins it anew.
                BodyEvent::Again(_) => return Ok(false),
                BodyEvent::Vanished(uid) => {
                    let message = (&record.name, source.uid_validity, uid);
                    if let Some(why) = self.stops.vanished(message) {
                        self.stops.unreadable((self.platform, self.job), message, why).await?;
                    }
                    return Ok(false);
                }
                BodyEvent::Unreadable(uid, why) => {
                    let message = (&record.name, source.uid_validity, uid);
                    self.stops.unreadable((self.platform, self.job), message, why).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes a message that the new side has in another mailbox, if it is there as the old side has it.
    async fn read_new_side(
        &mut self,
        session: &mut Session,
        sending: &Sending<'_>,
        uid: Uid,
        place: &Place,
    ) -> Result<Copied, Stop> {
        let size = message(sending, uid).map(|message| message.size);
        let there = on_new_side(&place.mailbox, self.new);
        self.readers.new.revive().await?;
        let mut bodies = match self.readers.new.bodies(&there, place.uid_validity, vec![place.uid]).await {
            Ok(bodies) => bodies,
            Err(ReadError::Mailbox { .. } | ReadError::Gone { .. }) => return Ok(Copied::Not),
            Err(error) => return Err(error.into()),
        };
        let mut fits = false;
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Start(_, octets) => {
                    fits = Some(octets) == size;
                    if fits {
                        begin_mail(session, sending, uid, None).await?;
                    }
                }
                BodyEvent::Chunk(octets) if fits => {
                    session.mail_chunk(&octets).await?;
                    self.job.progress.update(|progress| progress.bytes_done += octets.len() as u64);
                }
                BodyEvent::End(_) if fits => {
                    session.end_mail().await?;
                    self.job.progress.update(|progress| progress.messages_done += 1);
                }
                BodyEvent::Chunk(_) | BodyEvent::End(_) => {}
                BodyEvent::Again(_) | BodyEvent::Vanished(_) | BodyEvent::Unreadable(..) if fits => {
                    return Ok(Copied::Interrupted);
                }
                BodyEvent::Again(_) | BodyEvent::Vanished(_) | BodyEvent::Unreadable(..) => return Ok(Copied::Not),
            }
        }
        if fits {
            return Ok(Copied::Done);
        }
        debug!(mailbox = %place.mailbox, uid = %place.uid, "the new side has it in another size: read from the old side again");
        Ok(Copied::Not)
    }
}

/// Begins a message, of which `stored` came with its body.
async fn begin_mail(
    session: &mut Session,
    sending: &Sending<'_>,
    uid: Uid,
    stored: Option<&Stored>,
) -> Result<(), Stop> {
    let Sending { record, uidls, guids, .. } = sending;
    let date = message(sending, uid).and_then(|message| message.internal_date);
    let date = date.or(stored.map(|stored| stored.received)).unwrap_or_default();
    let pop3 = uidls.of(uid).or_else(|| stored?.uidl.clone()).filter(|_| record.name.is_inbox());
    let pop3 = pop3.as_ref().map(|(uidl, order)| (uidl.as_str(), *order));
    Ok(session.begin_mail(guids.of(uid), date, pop3).await?)
}

/// A message that is to be written, as the old side lists it.
fn message<'a>(sending: &Sending<'a>, uid: Uid) -> Option<&'a Message> {
    let messages = &sending.sides.source.messages;
    messages.binary_search_by_key(&uid, |message| message.uid).ok().and_then(|at| messages.get(at))
}
