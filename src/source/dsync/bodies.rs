//! Message bodies as a stream, in the order in which they were asked for: all in one session.
//!
//! A slave that can't read a message ends the session in it, and the next one begins with that message alone. One that ends three
//! sessions that are asked for nothing else is unreadable, and the reason has what the server logged; what is behind it comes in
//! another session.

use std::collections::{BTreeMap, VecDeque};

use tracing::{debug, info};

use super::session::Session;
use super::text::LineEnds;
use super::{DsyncError, DsyncReader, RECREATED, Suspect};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::source::{BodyEvent, ReadError, Stored};
use crate::wire::dsync::listed::Kind;
use crate::wire::dsync::reader::Event;

/// Sessions that one message may cost.
const TRIES: u32 = 3;

/// Sessions that one stream may lose.
const BREAKS_MAX: u32 = 24;

/// A stream of bodies. It may be dropped at any time.
#[derive(Debug)]
pub struct Bodies<'a> {
    reader: &'a mut DsyncReader,
    listed: Listed,
    uid_validity: UidValidity,
    /// What is not over; the first ones were asked for in this session.
    waiting: VecDeque<Uid>,
    asked: usize,
    session: Option<Session>,
    /// What the list tells of the sizes of what was asked for.
    sizes: BTreeMap<Uid, u64>,
    /// Inside a text: octets so far, and how its lines end.
    text: Option<(u64, LineEnds)>,
    /// What came with the body that began last.
    stored: Option<Stored>,
    ready: VecDeque<BodyEvent>,
    breaks: u32,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(reader: &'a mut DsyncReader, listed: Listed, uid_validity: UidValidity, uids: Vec<Uid>) -> Self {
        Self {
            reader,
            listed,
            uid_validity,
            waiting: uids.into(),
            asked: 0,
            session: None,
            sizes: BTreeMap::new(),
            text: None,
            stored: None,
            ready: VecDeque::new(),
            breaks: 0,
        }
    }

    /// What came with the body that began last.
    #[must_use]
    pub const fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// The next event; `None` after the last message.
    ///
    /// # Errors
    /// If the service can't be used any more.
    pub async fn next(&mut self) -> Result<Option<BodyEvent>, ReadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(session) = self.session.as_mut() else {
                if self.waiting.is_empty() {
                    return Ok(None);
                }
                self.ask().await?;
                continue;
            };
            match session.event().await {
                Ok(Event::MailboxEnd) => self.ended().await,
                Ok(event) => self.take(event),
                Err(error) => self.broken(error)?,
            }
        }
    }

    /// Asks for what waits, in a new session; for a suspect alone.
    async fn ask(&mut self) -> Result<(), ReadError> {
        let Some(&first) = self.waiting.front() else { return Ok(()) };
        let (mut session, status, list) = self.reader.visit(&self.listed, Some(first)).await?;
        if status.uid_validity != self.uid_validity {
            return Err(self.reader.in_mailbox(&self.listed, RECREATED.to_owned()));
        }
        let alone = self.reader.suspect.as_ref().is_some_and(|suspect| suspect.is(&self.listed.raw, first));
        self.asked = if alone { 1 } else { self.waiting.len() };
        let size = |kind: &Kind| match kind {
            Kind::Present { size, .. } => Some(*size),
            Kind::Flagged(_) | Kind::Gone => None,
        };
        self.sizes = list.iter().filter_map(|one| Some((Uid(one.uid), size(&one.kind)?))).collect();
        let wanted = self.waiting.iter().take(self.asked).filter(|uid| self.sizes.contains_key(uid)).map(|uid| uid.0);
        session.want(wanted.collect())?;
        self.session = Some(session);
        Ok(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Head(head) => {
                // What stands before it and did not come is gone.
                self.vanished(|uid| uid.0 < head.uid);
                let size = self.sizes.get(&Uid(head.uid)).copied().unwrap_or_default();
                self.text = Some((0, LineEnds::default()));
                let uidl = head.uidl.map(|uidl| (uidl, head.order));
                self.stored = Some(Stored { uidl, received: head.received });
                self.ready.push_back(BodyEvent::Start(Uid(head.uid), size));
            }
            Event::Text(octets) => {
                if let Some((count, ends)) = self.text.as_mut() {
                    let octets = ends.through(&octets);
                    *count += octets.len() as u64;
                    self.ready.push_back(BodyEvent::Chunk(octets));
                }
            }
            Event::TextEnd => {
                let count = self.text.take().map(|(count, _)| count).unwrap_or_default();
                let Some(uid) = self.over() else { return };
                if self.sizes.get(&uid).is_some_and(|size| *size != count) {
                    info!(mailbox = %self.reader.shown(&self.listed), %uid, "has {count} octets, and another size there");
                }
                self.ready.push_back(BodyEvent::End(uid));
            }
            other => debug!("not waited for: {other:?}"),
        }
    }

    /// The first that waits is over.
    fn over(&mut self) -> Option<Uid> {
        let uid = self.waiting.pop_front()?;
        self.asked = self.asked.saturating_sub(1);
        self.reader.suspect.take_if(|suspect| suspect.is(&self.listed.raw, uid));
        Some(uid)
    }

    /// Those in front that were asked for and are not there any more.
    fn vanished(&mut self, before: impl Fn(Uid) -> bool) {
        while self.asked > 0
            && let Some(uid) = self.waiting.front().copied().filter(|uid| before(*uid))
        {
            self.over();
            self.ready.push_back(BodyEvent::Vanished(uid));
        }
    }

    /// All has come that will.
    async fn ended(&mut self) {
        self.vanished(|_| true);
        if let Some(session) = self.session.take()
            && let Err(error) = session.finish().await
        {
            debug!("after all texts had come: {error}");
        }
    }

    /// The session broke. The message that was to come is suspect now; one that was too often is unreadable.
    fn broken(&mut self, error: DsyncError) -> Result<(), ReadError> {
        self.session = None;
        let begun = self.text.take().is_some();
        self.breaks += 1;
        let Some(uid) = self.waiting.front().copied().filter(|_| self.breaks <= BREAKS_MAX) else {
            return Err(error.into());
        };
        let known = self.reader.suspect.take().filter(|suspect| suspect.is(&self.listed.raw, uid));
        let breaks = known.map_or(0, |suspect| suspect.breaks) + 1;
        if breaks >= TRIES {
            self.over();
            self.ready.push_back(BodyEvent::Unreadable(uid, error.what()));
            return Ok(());
        }
        self.reader.suspect = Some(Suspect { raw: self.listed.raw.clone(), uid, breaks });
        if begun {
            self.ready.push_back(BodyEvent::Again(uid));
        }
        Ok(())
    }
}
