//! Which UIDL and order each message of INBOX is written with.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::read::{Content, Inbox};
use crate::mailbox::pop3::order::{self, Orders};
use crate::mailbox::pop3::{Pairing, Template};
use crate::mailbox::{Account, Contents, Filter, MailboxName, Status, Uid, UidNext, UidValidity};
use crate::migrate::{Job, Platform, Readers, Stop};
use crate::store::Pop3Proof;

/// The UIDLs that messages of INBOX are written with.
#[derive(Debug, Default)]
pub(in crate::migrate) struct Uidls {
    known: BTreeMap<Uid, (String, Option<u32>)>,
    others: Others,
    /// Where the first import of INBOX ends: see [`super::assert_kept`].
    first_end: Option<UidNext>,
}

/// What happens to messages whose UIDL was not read.
#[derive(Debug, Default)]
enum Others {
    /// They are written without one: the platform has no POP3, or it can't be told which is whose.
    #[default]
    None,
    /// They get what a proved template gives, and come last.
    Computed(UidValidity, Template),
    /// They are not written before the POP3 list was read again: from this UID on.
    Later(UidNext),
}

impl Uidls {
    /// The UIDL and order of a message; none if it must be written without.
    pub(in crate::migrate) fn of(&self, uid: Uid) -> Option<(String, Option<u32>)> {
        match (self.known.get(&uid), &self.others) {
            (Some(known), _) => Some(known.clone()),
            (None, Others::Computed(uid_validity, template)) => Some((template.render(*uid_validity, uid), None)),
            (None, Others::None | Others::Later(_)) => None,
        }
    }

    /// Whether messages are written with any.
    pub(in crate::migrate) fn are_stored(&self) -> bool {
        !self.known.is_empty() || matches!(self.others, Others::Computed(..))
    }

    /// Whether there is more to be written as soon as this is: nothing is settled then.
    pub(in crate::migrate) fn is_first_part(&self) -> bool {
        self.first_end.is_some()
    }

    /// Cuts INBOX off before messages whose UIDL has to be read first: the next pass does that.
    pub(in crate::migrate) fn cut(&self, name: &MailboxName, source: &mut Contents) {
        if let Some(fence) = self.fence(name, source) {
            source.messages.retain(|message| message.uid.0 < fence.0);
            source.uid_next = fence;
        }
    }

    /// Whether there are such messages.
    pub(in crate::migrate) fn cuts(&self, name: &MailboxName, source: &Contents) -> bool {
        self.fence(name, source).is_some()
    }

    fn fence(&self, name: &MailboxName, source: &Contents) -> Option<UidNext> {
        let later = match self.others {
            Others::Later(fence) => Some(fence),
            Others::None | Others::Computed(..) => None,
        };
        let fence = self.first_end.into_iter().chain(later).min()?;
        (name.is_inbox() && fence < source.uid_next).then_some(fence)
    }
}

/// Finds out what is needed to write INBOX as STATUS of both sides says it must be written.
///
/// # Errors
/// [`Stop::Later`] if the old side's POP3 can't be read now: INBOX must not be written then.
pub(in crate::migrate) async fn prepare(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
    (old, new): (&Account, &Account),
    filter: &Filter,
) -> Result<Uidls, Stop> {
    let Some(pop3) = readers.pop3.clone() else { return Ok(Uidls::default()) };
    let inbox = MailboxName::inbox();
    let Some(listed) = old.mailboxes.get(&inbox) else { return Ok(Uidls::default()) };
    let Some(status) = listed.status else { return Ok(Uidls::default()) };
    let written = written_below(status, new.mailboxes.get(&inbox).and_then(|listed| listed.status));
    let user = job.user.as_str();
    let known = platform.store.pop3_proof(user).await?.filter(|known| known.uid_validity == status.uid_validity);
    let orders = platform.store.pop3_orders(user, status.uid_validity).await?;
    if let Some(template) = known.as_ref().and_then(computable)
        && orders.is_empty()
    {
        return Ok(Uidls { others: Others::Computed(status.uid_validity, template), ..Uidls::default() });
    }
    if status.uid_next <= written {
        // Nothing is there to be saved; what comes from now on waits for the next pass.
        return Ok(Uidls { others: Others::Later(status.uid_next), ..Uidls::default() });
    }
    pop3.may_read_old()?;
    // What is compared with POP3 is what clients see over IMAP.
    let seeing = readers.is_seeing();
    let (reader, ..) = readers.seen().await?;
    let contents = reader.contents(listed).await?;
    let mut inbox = Inbox { reader, listed, contents };
    let pairing = Box::pin(pop3.old_pairing(&job.user, &mut inbox, Content::Proved)).await?;
    let contents = inbox.contents;
    inbox.reader.close().await?;
    if !seeing {
        readers.unsee().await;
    }
    crate::fault::point("pop3-read").await;
    let pairing = match pairing {
        Ok(pairing) => pairing,
        Err(doubt) => {
            warn!(user, "the old side's POP3 UIDLs are not certain, and INBOX is copied all the same: {doubt}");
            // Where they were once, new messages go on getting what the template gives. The verification decides.
            let template = known.and_then(|known| <[Template; 1]>::try_from(known.templates).ok());
            let others = template.map_or(Others::None, |[template]| Others::Computed(status.uid_validity, template));
            return Ok(Uidls { others, ..Uidls::default() });
        }
    };
    if let Some(doubt) = pop3.doubt(&pairing) {
        warn!(
            user,
            "the old side's POP3 and INBOX are not the same messages, and those that are in both keep their UIDLs: {doubt}"
        );
    }
    // A target that lost its INBOX begins anew: orders that were given there are gone with it.
    let orders: Orders = contents
        .messages
        .iter()
        .map(|message| message.uid)
        .filter(|uid| uid.0 < written.0)
        .map(|uid| (uid, orders.get(&uid).copied()))
        .collect();
    let given = place(job, &pairing, &orders);
    platform.store.put_pop3_orders(user, status.uid_validity, Uid(written.0), &given).await?;
    let computed = known_shape(&pairing, &orders, &given, contents.uid_next).and_then(|proof| computable(&proof));
    let second = contents.messages.iter().filter(|message| filter.takes(message)).nth(1);
    let second = second.map(|message| UidNext(message.uid.0));
    Ok(Uidls {
        first_end: second.filter(|_| written.0 <= 1),
        known: pairing
            .messages
            .iter()
            .map(|paired| (paired.uid, (paired.uidl.to_string(), given.get(&paired.uid).copied().flatten())))
            .collect(),
        others: computed
            .map_or(Others::Later(contents.uid_next), |template| Others::Computed(pairing.uid_validity, template)),
    })
}

/// The target has every message below this UID that it will ever have.
fn written_below(old: Status, new: Option<Status>) -> UidNext {
    new.filter(|new| new.uid_validity == old.uid_validity).map_or(UidNext(1), |new| new.uid_next)
}

/// The only template that is left, where new messages come last.
fn computable(proof: &Pop3Proof) -> Option<Template> {
    match proof.templates.as_slice() {
        [template] if proof.follows_uid => Some(*template),
        _ => None,
    }
}

/// What the pairing proves of messages to come: nothing, once orders had to be given.
fn known_shape(pairing: &Pairing, orders: &Orders, given: &Orders, below: UidNext) -> Option<Pop3Proof> {
    let unordered = orders.values().chain(given.values()).all(Option::is_none);
    unordered.then(|| Pop3Proof {
        uid_validity: pairing.uid_validity,
        templates: pairing.templates.clone(),
        proved_below: below,
        follows_uid: pairing.is_ascending(),
    })
}

/// The orders of the messages that are not on the target yet.
fn place(job: &Job, pairing: &Pairing, orders: &Orders) -> Orders {
    let list: Vec<Uid> = pairing.messages.iter().map(|paired| paired.uid).collect();
    // A server whose UIDLs have nothing to do with UIDs has no reason to show mail in their order.
    match order::assign(&list, orders, pairing.templates.is_empty()) {
        Ok(given) => {
            if given.values().any(Option::is_some) {
                info!(user = %job.user, messages = given.len(), "INBOX is written with an order for POP3");
            }
            given
        }
        Err(why) => {
            // The UIDLs are right all the same; the verification finds the order.
            warn!(user = %job.user, "the new side can't be given the old side's POP3 order: {why}");
            Orders::new()
        }
    }
}
