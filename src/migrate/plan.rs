//! What a pass over an account has to do: which mailboxes moved since both sides were last proved equal, which are gone,
//! and the mailbox tree to announce.

use std::collections::{BTreeMap, BTreeSet};

use crate::mailbox::{Account, Listed, MailboxName};
use crate::store::{MailboxRecord, UnixSeconds};
use crate::target::dsync::{Node, NodeMailbox};
use crate::wire::imap::mutf7;

/// A user's records by name.
pub(super) type Records = BTreeMap<MailboxName, MailboxRecord>;

/// Added to now for subscriptions: the newer change wins, and the target's clock may be ahead of ours.
pub(super) const SUBSCRIPTION_LEAD: u64 = 24 * 60 * 60;

/// The work of one pass.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Mailboxes whose messages must be looked at, INBOX first.
    pub(super) look: Vec<MailboxName>,
    /// Mailboxes that we made on the target and that are gone from the source.
    pub(super) gone: Vec<MailboxName>,
    /// Names or subscriptions differ.
    pub(super) tree: bool,
}

impl Work {
    /// Compares the lists of both sides with what was last proved equal. For mailboxes in `looked`
    /// that was in this very run: there STATUS is believed even without mod-sequences, or it would be looked at for ever.
    #[must_use]
    pub(super) fn of(old: &Account, new: &Account, records: &Records, looked: &BTreeSet<MailboxName>) -> Self {
        let mut look: Vec<MailboxName> = old
            .mailboxes
            .iter()
            .filter(|(name, listed)| listed.selectable && !settled(name, listed, new, records, looked.contains(name)))
            .map(|(name, _)| name.clone())
            .collect();
        look.sort_by_key(|name| !name.is_inbox());
        let selectable = |account: &Account, name| account.mailboxes.get(name).is_some_and(|listed| listed.selectable);
        let gone = records
            .keys()
            .filter(|name| selectable(new, name) && !selectable(old, name) && !name.is_inbox())
            .cloned()
            .collect();
        Self { look, gone, tree: old.subscriptions != new.subscriptions }
    }

    /// Whether both sides are as they were proved equal.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.look.is_empty() && self.gone.is_empty() && !self.tree
    }
}

/// Whether nothing happened to a mailbox on either side since they were proved equal. Without mod-sequences a changed
/// flag leaves no trace in STATUS, so such a mailbox is settled only just now, or if there is no message to have flags.
fn settled(name: &MailboxName, listed: &Listed, new: &Account, records: &Records, just_now: bool) -> bool {
    let Some(record) = records.get(name) else { return false };
    let Some(status) = listed.status else { return false };
    let there = new.mailboxes.get(name).and_then(|listed| listed.status);
    (just_now || status.sees_flags())
        && record.old_seen.as_deref() == Some(status.to_string().as_str())
        && there.is_some_and(|there| record.new_seen.as_deref() == Some(there.to_string().as_str()))
}

/// The tree as dsync wants it: every mailbox of the old side, every subscription, and every subscription that must go.
#[must_use]
pub(super) fn tree(old: &Account, new: &Account, records: &Records, now: UnixSeconds) -> Vec<Node> {
    let now = u64::try_from(now).unwrap_or_default();
    let subscription_changed_at = now + SUBSCRIPTION_LEAD;
    let names: BTreeSet<&MailboxName> = old
        .mailboxes
        .keys()
        .chain(&old.subscriptions)
        .chain(new.subscriptions.difference(&old.subscriptions))
        .collect();
    let mut nodes: Vec<Node> = names
        .into_iter()
        .map(|name| {
            let listed = old.mailboxes.get(name).filter(|listed| listed.selectable);
            let record = records.get(name);
            let mailbox = listed.zip(record).map(|(listed, record)| NodeMailbox {
                guid: record.guid,
                uid_validity: record.uid_validity,
                uid_next: listed.status.map(|status| status.uid_next).unwrap_or_default(),
            });
            Node {
                name: name.clone(),
                mailbox,
                changed_at: record.map_or(now, |record| u64::try_from(record.created_at).unwrap_or_default()),
                subscribed: old.subscriptions.contains(name),
                subscription_changed_at,
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// The namespaces of the new side that are written, by their prefixes: its own where that is all, whichever they are.
#[must_use]
pub(super) fn namespaces(new: &Account) -> Vec<String> {
    let Some(carried) = &new.carried else { return Vec::new() };
    let names = carried.personal.iter().chain(carried.spaces.keys());
    names.map(|prefix| mutf7::decode(prefix.as_bytes()).unwrap_or_else(|| prefix.clone())).collect()
}

/// Folders that clients would see on the new side, and not on the old one, when `gone` are gone there.
#[must_use]
pub(super) fn emptied(gone: &[MailboxName], old: &Account, new: &Account) -> Vec<MailboxName> {
    let used = |folder: &MailboxName| old.mailboxes.keys().any(|name| name == folder || name.is_below(folder));
    let left = |folder: &MailboxName| {
        let below = new.mailboxes.iter().filter(|(name, _)| name.is_below(folder));
        below.filter(|(_, listed)| listed.selectable).any(|(name, _)| !gone.contains(name))
    };
    let mut folders = BTreeSet::new();
    for name in gone {
        let above = std::iter::successors(name.parent(), MailboxName::parent);
        folders.extend(above.take_while(|folder| !used(folder) && !left(folder)).filter(|folder| {
            // What can be selected is a mailbox; it goes only if it is ours and gone.
            new.mailboxes.get(folder).is_some_and(|listed| !listed.selectable)
        }));
    }
    folders.into_iter().collect()
}

/// How the new side is asked for a mailbox: as it lists it, or as it will once it has it.
#[must_use]
pub(super) fn on_new_side(name: &MailboxName, new: &Account) -> Listed {
    if let Some(listed) = new.mailboxes.get(name) {
        return listed.clone();
    }
    let separator = new.separator.unwrap_or('/').to_string();
    let raw = name.parts().iter().map(|part| mutf7::encode(part)).collect::<Vec<_>>().join(separator.as_bytes());
    Listed { raw, selectable: true, ..Listed::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::{Guid, ModSeq, Status, UidNext, UidValidity};

    fn name(text: &str) -> MailboxName {
        MailboxName::from_parts(vec![text.to_owned()]).unwrap()
    }

    fn status(uid_next: u32, modseq: Option<u64>) -> Status {
        Status {
            uid_validity: UidValidity(1),
            uid_next: UidNext(uid_next),
            messages: 1,
            unseen: 0,
            highest_modseq: modseq.map(ModSeq),
            guid: None,
        }
    }

    fn account(mailboxes: &[(&str, Status)]) -> Account {
        let listed = |&(text, status): &(&str, Status)| {
            (name(text), Listed { selectable: true, status: Some(status), ..Listed::default() })
        };
        Account { mailboxes: mailboxes.iter().map(listed).collect(), ..Account::default() }
    }

    fn record(text: &str, seen: Status) -> (MailboxName, MailboxRecord) {
        let record = MailboxRecord {
            name: name(text),
            guid: Guid([1; 16]),
            uid_validity: UidValidity(1),
            created_at: 1,
            old_seen: Some(seen.to_string()),
            new_seen: Some(seen.to_string()),
        };
        (name(text), record)
    }

    #[test]
    fn only_what_moved_on_either_side_is_looked_at_inbox_first() {
        let (still, moved) = (status(5, Some(9)), status(5, Some(10)));
        let old = account(&[("A", still), ("B", moved), ("C", still), ("INBOX", moved), ("New", still)]);
        let new = account(&[("A", still), ("B", still), ("C", moved), ("Gone", still), ("INBOX", still)]);
        let records: Records = ["A", "B", "C", "Gone", "INBOX"].map(|text| record(text, still)).into();
        let work = Work::of(&old, &new, &records, &BTreeSet::new());
        assert_eq!(work.look, [name("INBOX"), name("B"), name("C"), name("New")]);
        assert_eq!(work.gone, [name("Gone")]);
        assert!(!work.tree);
    }

    #[test]
    fn without_modseqs_a_mailbox_is_looked_at_in_every_run_and_once_in_each() {
        let still = status(5, None);
        let (old, new) = (account(&[("A", still)]), account(&[("A", still)]));
        let records: Records = [record("A", still)].into();
        assert_eq!(Work::of(&old, &new, &records, &BTreeSet::new()).look, [name("A")]);
        assert!(Work::of(&old, &new, &records, &[name("A")].into()).is_empty());
        let empty = Status { messages: 0, ..still };
        let (old, new) = (account(&[("A", empty)]), account(&[("A", empty)]));
        let records: Records = [record("A", empty)].into();
        assert!(
            Work::of(&old, &new, &records, &BTreeSet::new()).is_empty(),
            "where there is no message, no flag changes"
        );
    }

    #[test]
    fn a_subscription_that_must_go_is_in_the_tree() {
        let (mut old, mut new) = (Account::default(), Account::default());
        old.subscriptions = [name("stays")].into();
        new.subscriptions = [name("stays"), name("goes")].into();
        let tree: Vec<_> = tree(&old, &new, &Records::new(), 7)
            .into_iter()
            .map(|node| (node.name, node.subscribed, node.subscription_changed_at))
            .collect();
        assert_eq!(tree, [(name("goes"), false, 7 + SUBSCRIPTION_LEAD), (name("stays"), true, 7 + SUBSCRIPTION_LEAD)]);
    }
}
