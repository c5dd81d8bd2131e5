//! The way of one late message from the old side to the new one.

use tracing::info;

use super::plan::Due;
use super::{Failed, Round};
use crate::fault;
use crate::mailbox::body::BodyHasher;
use crate::mailbox::{BodyDigest, Listed, MailboxName, Message, Side, Uid};
use crate::migrate::plan::on_new_side;
use crate::source::{Arrival, BodyEvent};
use crate::store::{Fence, LateBody, LateHome, LateMessage, now};
use crate::target::{Appending, Begun, ImapTarget, NewMessage};
use crate::wire::imap::date::date_time;

/// Octets of a message that is kept in memory between its reading and its APPEND; a longer one is read twice.
const HELD_MAX: u64 = 1 << 20;

/// How the work on a message ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is on the new side.
    Appended,
    /// It is gone from the old side.
    Vanished,
    /// It can't be appended now, and why.
    Pending(String),
}

/// What a reading of a message gave.
enum Read {
    /// Its digest, and its octets if they are few.
    Whole(BodyDigest, Option<Vec<u8>>),
    Vanished,
    Unreadable(String),
}

/// Where a message goes.
struct Home {
    name: MailboxName,
    listed: Listed,
    /// What an operator should know of it.
    remark: Option<String>,
}

/// The journal's line of a message that was only listed.
pub(super) fn unread(fence: &Fence, arrival: &Arrival) -> LateMessage {
    LateMessage {
        mailbox: fence.name.clone(),
        uid_validity: fence.uid_validity,
        uid: arrival.message.uid,
        date: arrival.message.internal_date,
        body: None,
        home: None,
        sent_at: None,
        done: false,
        new_uid: None,
    }
}

impl Round<'_> {
    /// Carries a message over. `fresh`: its mailbox came after the switch, and nothing of it is on the new side yet.
    pub(super) async fn message(
        &mut self,
        due: &Due,
        arrival: &Arrival,
        late: &mut LateMessage,
        fresh: bool,
    ) -> Result<Outcome, Failed> {
        let (body, held) = match late.body {
            Some(body) => (body, None),
            None => match self.read(due, &arrival.message).await? {
                Read::Whole(digest, octets) => (known(&digest), octets),
                Read::Vanished => return Ok(Outcome::Vanished),
                Read::Unreadable(why) => return Ok(Outcome::Pending(format!("the old side can't give it: {why}"))),
            },
        };
        late.body = Some(body);
        let home = self.home(&due.watched.fence.name, fresh).await?;
        let status = self.readers.new.status(&home.listed).await?;
        let (uid_validity, uid_next) = (status.uid_validity, status.uid_next);
        late.home = Some(LateHome { mailbox: home.name.clone(), uid_validity, uid_next });
        self.platform.store.put_late(self.user(), late).await?;
        fault::point("late-pending").await;

        let target = self.target().await?;
        let (flags, left_out) = flags(&arrival.message);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let date = arrival.internal_date.as_deref().and_then(date_time);
        let message =
            NewMessage { mailbox: &home.listed.raw, flags: &flags, date: date.as_deref(), octets: body.octets };
        let mut appending = match target.begin(&message).await? {
            Begun::Ready(appending) => appending,
            Begun::Refused(target, text) => {
                self.target = Some(target);
                return Ok(Outcome::Pending(refused(&home.name, &text)));
            }
        };
        match held {
            Some(octets) => appending.octets(&octets).await?,
            None => {
                if let Some(broken) = self.stream(due, late, &mut appending).await? {
                    return Ok(broken);
                }
            }
        }
        let remarks = [home.remark, (!left_out.is_empty()).then(|| format!("without {}", left_out.join(" ")))];
        let remarks: Vec<String> = remarks.into_iter().flatten().collect();
        self.finish(late, appending, &remarks.join("; ")).await
    }

    /// Makes the APPEND count. From the journal's word on, and until the answer is in the journal, it is in doubt.
    async fn finish(
        &mut self,
        late: &mut LateMessage,
        mut appending: Appending,
        remark: &str,
    ) -> Result<Outcome, Failed> {
        appending.flush().await?;
        late.sent_at = Some(now());
        self.platform.store.put_late(self.user(), late).await?;
        fault::point("late-sent").await;
        let (target, answer) = appending.finish().await?;
        self.target = Some(target);
        let new_mailbox = late.home.as_ref().map(|home| home.mailbox.clone()).unwrap_or_else(MailboxName::inbox);
        match answer {
            Err(text) => Ok(Outcome::Pending(refused(&new_mailbox, &text))),
            Ok(told) => {
                fault::point("late-appended").await;
                late.new_uid = told.map(|told| Uid(told.uid));
                self.done(late, remark).await?;
                Ok(Outcome::Appended)
            }
        }
    }

    /// Writes down that a message is on the new side, and reports it.
    pub(super) async fn done(&self, late: &mut LateMessage, remark: &str) -> Result<(), Failed> {
        (late.done, late.sent_at) = (true, None);
        self.platform.store.put_late(self.user(), late).await?;
        let new_mailbox = late.home.as_ref().map(|home| home.mailbox.to_string());
        let (mailbox, uid, new_uid) = (&late.mailbox, late.uid, late.new_uid.map(|uid| uid.0));
        info!(user = self.user(), %mailbox, %uid, new_mailbox, new_uid, remark, "a late arrival was carried over");
        Ok(())
    }

    async fn target(&mut self) -> Result<ImapTarget, Failed> {
        if let Some(target) = self.target.take() {
            return Ok(target);
        }
        let access = self.platform.access(Side::New, &self.job.login)?;
        Ok(ImapTarget::open(&self.platform.new, &access).await?)
    }

    /// The mailbox of that name on the new side. One that came after the switch is made there, once; one that the user has
    /// deleted or renamed there is not made again.
    async fn home(&mut self, name: &MailboxName, fresh: bool) -> Result<Home, Failed> {
        if let Some(listed) = self.new.mailboxes.get(name).filter(|listed| listed.selectable) {
            return Ok(Home { name: name.clone(), listed: listed.clone(), remark: None });
        }
        let mut remark = format!("into INBOX: the new side has no `{name}` any more");
        if fresh {
            let listed = Listed { selectable: true, ..on_new_side(name, &self.new) };
            let mut target = self.target().await?;
            let made = target.create(&listed.raw).await?;
            self.target = Some(target);
            match made {
                Ok(()) => {
                    self.new.mailboxes.insert(name.clone(), listed.clone());
                    return Ok(Home { name: name.clone(), listed, remark: None });
                }
                Err(text) => remark = format!("into INBOX: the new side refuses to make `{name}`: {text}"),
            }
        }
        let inbox = MailboxName::inbox();
        let listed = on_new_side(&inbox, &self.new);
        Ok(Home { name: inbox, listed, remark: Some(remark) })
    }

    /// Reads a message for its digest.
    async fn read(&mut self, due: &Due, message: &Message) -> Result<Read, Failed> {
        let bodies = self.readers.old.bodies(&due.listed, due.watched.fence.uid_validity, vec![message.uid]).await?;
        let mut bodies = bodies.expecting(std::slice::from_ref(message));
        let mut hasher = BodyHasher::new();
        let mut held = None;
        let mut read = Read::Vanished;
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Start(_, octets) => {
                    hasher = BodyHasher::new();
                    held = (octets <= HELD_MAX).then(Vec::new);
                }
                BodyEvent::Again(_) => {}
                BodyEvent::Chunk(octets) => {
                    hasher.update(&octets);
                    if let Some(held) = &mut held {
                        held.extend_from_slice(&octets);
                    }
                }
                BodyEvent::End(_) => read = Read::Whole(std::mem::take(&mut hasher).finish(), held.take()),
                BodyEvent::Vanished(_) => read = Read::Vanished,
                BodyEvent::Unreadable(_, why) => read = Read::Unreadable(why),
            }
        }
        Ok(read)
    }

    /// Reads a message again, straight into its APPEND. If it does not come as it did before, the APPEND is given up.
    async fn stream(
        &mut self,
        due: &Due,
        late: &mut LateMessage,
        appending: &mut Appending,
    ) -> Result<Option<Outcome>, Failed> {
        let expected = late.body;
        let mut bodies = self.readers.old.bodies(&due.listed, late.uid_validity, vec![late.uid]).await?;
        let mut hasher = BodyHasher::new();
        let (mut broken, mut written) = (None, 0);
        let otherwise = || Outcome::Pending("the old side gives it otherwise than before".to_owned());
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Start(_, octets) if expected.is_none_or(|body| body.octets != octets) => {
                    broken = Some(otherwise());
                }
                BodyEvent::Start(..) => hasher = BodyHasher::new(),
                // The octets that are on their way can't be taken back.
                BodyEvent::Again(_) if written > 0 => {
                    broken = Some(Outcome::Pending("the connection to the old side broke in its middle".to_owned()));
                }
                BodyEvent::Again(_) => {}
                BodyEvent::Chunk(octets) => {
                    hasher.update(&octets);
                    if broken.is_none() {
                        written += octets.len();
                        appending.octets(&octets).await?;
                    }
                }
                BodyEvent::End(_) => {
                    let digest = std::mem::take(&mut hasher).finish();
                    if expected.is_none_or(|body| body.exact != digest.exact) {
                        broken = Some(otherwise());
                        late.body = None;
                    }
                }
                BodyEvent::Vanished(_) => broken = Some(Outcome::Vanished),
                BodyEvent::Unreadable(_, why) => {
                    broken = Some(Outcome::Pending(format!("the old side can't give it: {why}")));
                }
            }
        }
        Ok(broken)
    }
}

fn known(digest: &BodyDigest) -> LateBody {
    let BodyDigest { octets, exact, altered, .. } = *digest;
    LateBody { octets, exact, altered }
}

fn refused(mailbox: &MailboxName, text: &str) -> String {
    format!("the new side refuses it in `{mailbox}`: {text}")
}

/// Flags for the new side, and keywords that it can't hold.
fn flags(message: &Message) -> (Vec<String>, Vec<String>) {
    let (fit, unfit) = message.keywords.fit();
    let system = message.flags.to_string();
    let flags = system.split_ascii_whitespace().map(str::to_owned).chain(fit.iter().map(str::to_owned));
    (flags.collect(), unfit)
}
