//! Which mailboxes of the old side have late arrivals, by their fences (pure).

use crate::mailbox::{Account, Listed, MailboxName, Status, UidNext};
use crate::store::{Fence, Watched};

/// A mailbox of the old side that has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Its fence; the name in it says where its mail goes.
    pub(super) watched: Watched,
    /// How the old side is asked for it.
    pub(super) listed: Listed,
}

/// What a look at the old side says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Mailboxes with late arrivals, INBOX first.
    pub(super) due: Vec<Due>,
    /// Mailboxes that came after the switch: they get a fence.
    pub(super) appeared: Vec<Fence>,
    /// Fences whose mailbox is gone.
    pub(super) gone: Vec<Fence>,
    /// Mailboxes of which it can't be told what came late, and why.
    pub(super) unclear: Vec<String>,
}

/// Which fence holds for a mailbox.
enum Holds<'a> {
    Fence(&'a Watched),
    /// It came after the switch.
    None,
    Unclear(String),
}

/// Compares a look at the old side with the fences.
pub(super) fn plan(old: &Account, fences: &[Watched]) -> Plan {
    let mut plan = Plan::default();
    let mut held: Vec<&Fence> = Vec::new();
    for (name, listed) in &old.mailboxes {
        let Some(status) = listed.status else { continue };
        let watched = match holds(name, status, old, fences) {
            Holds::Fence(watched) => {
                held.push(&watched.fence);
                watched.clone()
            }
            Holds::None => {
                let fence = Fence { name: name.clone(), uid_validity: status.uid_validity, uid_next: UidNext(1) };
                plan.appeared.push(fence.clone());
                Watched { fence, swept: UidNext(1), appeared: true }
            }
            Holds::Unclear(why) => {
                plan.unclear.push(format!("late mail in `{name}` on the old side is not carried over: {why}"));
                continue;
            }
        };
        if status.uid_next > watched.swept {
            plan.due.push(Due { watched, listed: listed.clone() });
        }
    }
    plan.due.sort_by_key(|due| !due.watched.fence.name.is_inbox());
    let gone = fences.iter().map(|watched| &watched.fence).filter(|fence| !held.contains(fence));
    plan.gone = gone.cloned().collect();
    plan
}

fn holds<'a>(name: &MailboxName, status: Status, old: &Account, fences: &'a [Watched]) -> Holds<'a> {
    let same = |watched: &&Watched| watched.fence.uid_validity == status.uid_validity;
    if let Some(watched) = fences.iter().filter(same).find(|watched| watched.fence.name == *name) {
        return Holds::Fence(watched);
    }
    // A renamed mailbox keeps its UIDVALIDITY: without its fence, all its mail would be taken for late.
    let lost: Vec<&Watched> = fences.iter().filter(same).filter(|watched| is_elsewhere(watched, old)).collect();
    match lost.as_slice() {
        [] => {}
        [watched] if fences.iter().filter(same).count() == 1 => return Holds::Fence(watched),
        _ => return Holds::Unclear("it may be a renamed mailbox, and several had its UIDVALIDITY".to_owned()),
    }
    let own = fences.iter().find(|watched| watched.fence.name == *name && !is_renamed(watched, old));
    own.map_or(Holds::None, |watched| {
        // All its messages may be the ones that were moved, under other UIDs.
        Holds::Unclear(format!(
            "its UIDVALIDITY has changed since the switch, from {} to {}; look there for mail that came since",
            watched.fence.uid_validity, status.uid_validity
        ))
    })
}

/// Whether no mailbox of the fence's name and UIDVALIDITY is there.
fn is_elsewhere(watched: &Watched, old: &Account) -> bool {
    let Fence { name, uid_validity, .. } = &watched.fence;
    let status = old.mailboxes.get(name).and_then(|listed| listed.status);
    status.is_none_or(|status| status.uid_validity != *uid_validity)
}

/// Whether the fence's mailbox is there under another name.
fn is_renamed(watched: &Watched, old: &Account) -> bool {
    let statuses = old.mailboxes.values().filter_map(|listed| listed.status);
    is_elsewhere(watched, old) && statuses.into_iter().any(|status| status.uid_validity == watched.fence.uid_validity)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::UidValidity;

    fn name(text: &str) -> MailboxName {
        MailboxName::from_parts(vec![text.to_owned()]).unwrap()
    }

    fn account(mailboxes: &[(&str, u32, u32)]) -> Account {
        let listed = |&(text, uid_validity, uid_next): &(&str, u32, u32)| {
            let status = Status {
                uid_validity: UidValidity(uid_validity),
                uid_next: UidNext(uid_next),
                messages: 1,
                unseen: 0,
                highest_modseq: None,
                guid: None,
            };
            (name(text), Listed { selectable: true, status: Some(status), ..Listed::default() })
        };
        Account { mailboxes: mailboxes.iter().map(listed).collect(), ..Account::default() }
    }

    fn fences(mailboxes: &[(&str, u32, u32)]) -> Vec<Watched> {
        let watched = |fence: Fence| Watched { swept: fence.uid_next, fence, appeared: false };
        Fence::all(&account(mailboxes)).into_iter().map(watched).collect()
    }

    /// Mailbox it goes to, raw UIDVALIDITY, first late UID.
    fn due(plan: &Plan) -> Vec<(String, u32, u32)> {
        let facts = |due: &Due| {
            let fence = &due.watched.fence;
            (fence.name.to_string(), fence.uid_validity.0, due.watched.swept.0)
        };
        plan.due.iter().map(facts).collect()
    }

    fn triple(name: &str, uid_validity: u32, swept: u32) -> (String, u32, u32) {
        (name.to_owned(), uid_validity, swept)
    }

    #[test]
    fn a_mailbox_is_due_when_its_uidnext_has_grown() {
        let fences = fences(&[("A", 1, 5), ("B", 2, 5), ("INBOX", 3, 5)]);
        let plan = plan(&account(&[("A", 1, 6), ("B", 2, 5), ("INBOX", 3, 9)]), &fences);
        assert_eq!(due(&plan), [triple("INBOX", 3, 5), triple("A", 1, 5)]);
        assert_eq!((plan.appeared.len(), plan.gone.len(), plan.unclear.len()), (0, 0, 0));
    }

    #[test]
    fn everything_in_a_mailbox_without_a_fence_is_late_and_it_gets_one() {
        let plan = plan(&account(&[("A", 1, 5), ("B", 7, 3)]), &fences(&[("A", 1, 5)]));
        assert_eq!(due(&plan), [triple("B", 7, 1)]);
        assert!(plan.due[0].watched.appeared);
        assert_eq!(plan.appeared, [Fence { uid_next: UidNext(1), ..plan.due[0].watched.fence.clone() }]);
    }

    #[test]
    fn a_changed_uidvalidity_is_told_and_nothing_is_carried_over_twice() {
        let plan = plan(&account(&[("A", 2, 900)]), &fences(&[("A", 1, 5)]));
        assert_eq!((due(&plan), plan.appeared.len(), plan.gone.len()), (vec![], 0, 1));
        assert!(plan.unclear[0].contains("`A`") && plan.unclear[0].contains("from 1 to 2"), "{:?}", plan.unclear);
    }

    #[test]
    fn a_renamed_mailbox_keeps_its_fence_and_its_old_name_is_free() {
        let fences = fences(&[("A", 1, 5), ("B", 2, 5)]);
        let renamed = plan(&account(&[("B", 2, 5), ("C", 1, 6)]), &fences);
        assert_eq!(due(&renamed), [triple("A", 1, 5)], "it goes where its mail went");
        assert!(renamed.gone.is_empty() && renamed.appeared.is_empty(), "{renamed:?}");
        let again = plan(&account(&[("A", 9, 3), ("B", 2, 5), ("C", 1, 5)]), &fences);
        assert_eq!(due(&again), [triple("A", 9, 1)], "a new mailbox in the place of the renamed one");
    }

    #[test]
    fn a_server_that_gives_all_mailboxes_one_uidvalidity_proves_no_rename() {
        let fences = fences(&[("A", 1, 5), ("B", 1, 5)]);
        let unclear = plan(&account(&[("B", 1, 5), ("C", 1, 6)]), &fences);
        assert_eq!((due(&unclear), unclear.unclear.len()), (vec![], 1), "{unclear:?}");
        let new = plan(&account(&[("A", 1, 5), ("B", 1, 5), ("C", 1, 6)]), &fences);
        assert_eq!(due(&new), [triple("C", 1, 1)], "nothing is lost there, so it is new");
    }
}
