//! A look at the whole account: its names, and of each mailbox what happened since it was known, or all of it.

use std::collections::{BTreeMap, HashMap};

use super::session::{Session, Told};
use super::{DsyncReader, Found, Kept, state, whole};
use crate::mailbox::{Account, Guid, Listed, MailboxName, Status};
use crate::net::imap::printable;
use crate::source::ReadError;
use crate::wire::dsync::item::MailboxState;
use crate::wire::imap::mutf7;

/// Messages whose lists are kept until the next look, over all mailboxes; what is more is asked for again.
const KEPT_MAX: usize = 100_000;

impl DsyncReader {
    /// The mailboxes and the subscriptions.
    ///
    /// # Errors
    /// If the service can't be used.
    pub async fn account(&mut self) -> Result<Account, ReadError> {
        let known = self.known.iter().filter_map(|(guid, status)| state(*guid, status, status.uid_next));
        let mut session = self.open(known.collect()).await?;
        let (mut account, guids) = names(&session);
        self.found.clear();
        let (mut room, mut lost) = (KEPT_MAX, Vec::new());
        for (name, guid) in guids {
            if !self.look(&mut session, (&name, guid), &mut room, &mut account).await? {
                lost.push((name, guid));
            }
        }
        session.finish().await?;
        if !lost.is_empty() {
            // What happened since can't be told any more (the log there is not kept for ever): all of it, then.
            for (_, guid) in &lost {
                self.known.remove(guid);
            }
            let mut session = self.open(Vec::<MailboxState>::new()).await?;
            for (name, guid) in lost {
                let mailbox =
                    |node: &crate::wire::dsync::item::Node| node.mailbox.is_some_and(|one| one.guid == guid.0);
                let there = session.tree().iter().any(mailbox);
                if !there || !self.look(&mut session, (&name, guid), &mut room, &mut account).await? {
                    account.mailboxes.remove(&name);
                }
            }
            session.finish().await?;
        }
        Ok(account)
    }

    /// Looks at one mailbox; false if it can't be told.
    async fn look(
        &mut self,
        session: &mut Session,
        (name, guid): (&MailboxName, Guid),
        room: &mut usize,
        account: &mut Account,
    ) -> Result<bool, ReadError> {
        let Some(Told { status, list }) = session.ask(guid, *room).await? else { return Ok(false) };
        session.pass().await?;
        let Some(listed) = account.mailboxes.get_mut(name) else { return Ok(true) };
        listed.status = Some(status);
        *room -= list.as_ref().map_or(0, Vec::len);
        let told = match (self.before(guid), list) {
            (_, None) => Kept::Nothing,
            (Some(before), Some(list)) => Kept::Since(before, list),
            (None, Some(list)) => Kept::Whole(whole(&status, &list).map_err(|what| self.in_mailbox(listed, what))?),
        };
        self.found.insert(listed.raw.clone(), Found { guid, status, told });
        Ok(true)
    }

    /// From where on a mailbox was asked for.
    fn before(&self, guid: Guid) -> Option<Status> {
        self.known.get(&guid).copied().filter(|status| state(guid, status, status.uid_next).is_some())
    }
}

/// The names of the tree, without any message, and the mailboxes among them.
fn names(session: &Session) -> (Account, BTreeMap<MailboxName, Guid>) {
    let separator = session.separator();
    let mut account = Account { separator, ..Account::default() };
    let mut guids = BTreeMap::new();
    let mut seen: HashMap<MailboxName, Vec<u8>> = HashMap::new();
    for node in session.tree() {
        let parts: Vec<Vec<u8>> = node.name.iter().map(|part| mutf7::encode(part)).collect();
        let raw = parts.join(separator.unwrap_or('/').to_string().as_bytes());
        let name = match MailboxName::from_parts(node.name.clone()) {
            Ok(name) => name,
            Err(why) => {
                account.unreadable.push((printable(&raw), why.to_string()));
                continue;
            }
        };
        if node.subscribed {
            account.subscriptions.insert(name.clone());
        }
        if let Some(mailbox) = node.mailbox {
            if seen.insert(name.clone(), raw.clone()).is_some() {
                account
                    .unreadable
                    .push((printable(&raw), "differs from another name only in the case of INBOX".to_owned()));
                continue;
            }
            guids.insert(name.clone(), Guid(mailbox.guid));
            account.mailboxes.insert(name, Listed { raw, selectable: true, ..Listed::default() });
        }
    }
    // What is only above mailboxes is seen by clients as well, and can't be opened.
    let above = |name: &MailboxName| std::iter::successors(name.parent(), MailboxName::parent).collect::<Vec<_>>();
    let parents: Vec<MailboxName> = account.mailboxes.keys().flat_map(above).collect();
    for name in parents {
        let parts: Vec<Vec<u8>> = name.parts().iter().map(|part| mutf7::encode(part)).collect();
        let raw = parts.join(separator.unwrap_or('/').to_string().as_bytes());
        account.mailboxes.entry(name).or_insert_with(|| Listed { raw, ..Listed::default() });
    }
    (account, guids)
}
