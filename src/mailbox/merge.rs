//! Merges a mailbox of the source into one of the target that has mail of its own: a pure function from both and from what is
//! known to be the same message, to the steps that are to be done on the target.
//!
//! What the source does to a message is followed on its copy; what the target does to the copy stays. Only the target's own mail is
//! never touched.

pub mod headers;

use super::account::Contents;
use super::diff::FlagChange;
use super::message::{Keywords, Message, SystemFlags};
use super::model::Uid;

/// A message of the source and the one of the target that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its UID at the source.
    pub uid: Uid,
    /// Its UID at the target.
    pub target_uid: Uid,
    /// We wrote it. Else it was there before, and is the target's own.
    pub ours: bool,
    /// The source's flags that the target was last given.
    pub flags: SystemFlags,
    /// Its keywords likewise, those that the target can hold.
    pub keywords: Keywords,
}

/// The steps for one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergePlan {
    /// Messages to add: indices into the source's list, and their UIDs at the target, both ascending.
    pub save: Vec<(usize, Uid)>,
    /// Changes of flags, with the UID at the target in them, and the UID at the source.
    pub flags: Vec<(Uid, FlagChange)>,
    /// Messages to expunge: their UIDs at the source and at the target.
    pub expunge: Vec<(Uid, Uid)>,
    /// Pairs that are as they shall be, and are to be remembered so.
    pub put: Vec<Pair>,
    /// Pairs of which nothing is left on either side, by the source's UID.
    pub forget: Vec<Uid>,
    /// Messages of the source that are not to be added.
    pub left_out: u64,
}

impl MergePlan {
    /// Whether nothing is to be written at the target.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.save.is_empty() && self.flags.is_empty() && self.expunge.is_empty()
    }
}

/// A UID that no message may have: UIDNEXT would not fit.
const UIDS_END: u32 = u32::MAX - 1;

/// Plans the steps. `pairs` ascend by the source's UID; what has no pair is added, if `takes` says so. None if the target has no UIDs
/// left for it.
#[must_use]
pub fn plan(
    source: &Contents,
    target: &Contents,
    pairs: &[Pair],
    takes: impl Fn(&Message) -> bool,
) -> Option<MergePlan> {
    let mut plan = MergePlan::default();
    for pair in pairs {
        let (here, there) = (find(source, pair.uid), find(target, pair.target_uid));
        match (here, there) {
            (None, Some(_)) if pair.ours => plan.expunge.push((pair.uid, pair.target_uid)),
            (None, _) => plan.forget.push(pair.uid),
            (Some(here), Some(there)) if pair.ours => follow(pair, here, there, &mut plan),
            // What is the target's own, or was deleted there, is the target's matter.
            (Some(_), _) => {}
        }
    }
    let mut next = target.uid_next.0.max(1);
    for (at, message) in source.messages.iter().enumerate() {
        if pairs.binary_search_by_key(&message.uid, |pair| pair.uid).is_ok() {
            continue;
        }
        if !takes(message) {
            plan.left_out += 1;
            continue;
        }
        let uid = message.uid.0.max(next);
        if uid >= UIDS_END {
            return None;
        }
        next = uid + 1;
        plan.save.push((at, Uid(uid)));
    }
    Some(plan)
}

fn find(contents: &Contents, uid: Uid) -> Option<&Message> {
    let at = contents.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
    contents.messages.get(at)
}

/// What the source changed since the target was last told.
fn follow(pair: &Pair, here: &Message, there: &Message, plan: &mut MergePlan) {
    let (wanted, _unfit) = here.keywords.fit();
    if here.flags == pair.flags && wanted == pair.keywords {
        return;
    }
    let set = here.flags.without(pair.flags);
    let unset = pair.flags.without(here.flags);
    let flags = SystemFlags(there.flags.0 | set.0).without(unset);
    let gained = wanted.without(&pair.keywords);
    let lost = Keywords::from_names(pair.keywords.without(&wanted));
    let all = there.keywords.iter().map(str::to_owned).chain(gained).collect();
    let keywords = Keywords::from_names(Keywords::from_names(all).without(&lost));
    if flags == there.flags && keywords == there.keywords {
        plan.put.push(Pair { flags: here.flags, keywords: wanted, ..pair.clone() });
        return;
    }
    let change = FlagChange {
        uid: pair.target_uid,
        flags,
        had: there.flags,
        keep: there.keywords.also_in(&keywords),
        add: keywords.without(&there.keywords),
        remove: there.keywords.without(&keywords),
        modseq: here.modseq,
    };
    plan.flags.push((pair.uid, change));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::diff::tests::{contents, message};
    use super::*;

    fn pair(uid: u32, target_uid: u32, ours: bool, flags: u8, keywords: &[&str]) -> Pair {
        let Message { keywords, .. } = message(uid, 0, keywords);
        Pair { uid: Uid(uid), target_uid: Uid(target_uid), ours, flags: SystemFlags(flags), keywords }
    }

    #[test]
    fn uids_are_kept_where_the_target_has_room_and_new_ones_follow_its_own() {
        let source =
            contents(99, vec![message(2, 0, &[]), message(5, 0, &[]), message(40, 0, &[]), message(41, 0, &[])]);
        let uids = |uid_next: u32| {
            let plan = plan(&source, &contents(uid_next, vec![]), &[], |message| message.uid.0 != 41).unwrap();
            (plan.save.iter().map(|(_, uid)| uid.0).collect::<Vec<_>>(), plan.left_out)
        };
        assert_eq!(uids(1), (vec![2, 5, 40], 1));
        assert_eq!(uids(5), (vec![5, 6, 40], 1));
        assert_eq!(uids(100), (vec![100, 101, 102], 1));
        assert!(plan(&source, &contents(u32::MAX - 3, vec![]), &[], |_| true).is_none(), "no UIDs left");
    }

    #[test]
    fn only_what_the_source_changed_is_changed_at_the_target_and_only_in_what_is_ours() {
        // Seen here since then; there it was flagged and labelled by the target's own client.
        let source = contents(9, vec![message(1, 8, &["new"]), message(2, 0, &[]), message(3, 1, &[])]);
        let target = contents(20, vec![message(11, 2, &["old", "Own"]), message(12, 8, &[]), message(13, 0, &[])]);
        let pairs = [pair(1, 11, true, 0, &["OLD"]), pair(2, 12, true, 0, &[]), pair(3, 13, false, 0, &[])];
        let steps = plan(&source, &target, &pairs, |_| true).unwrap();
        let [(uid, change)] = steps.flags.as_slice() else { unreachable!("{steps:?}") };
        assert_eq!((uid.0, change.uid.0, change.flags, change.had), (1, 11, SystemFlags(10), SystemFlags(2)));
        assert_eq!(
            (&*change.keep, &*change.add, &*change.remove),
            (&["Own".to_owned()][..], &["new".to_owned()][..], &["old".to_owned()][..])
        );
        assert!(steps.save.is_empty() && steps.expunge.is_empty() && steps.put.is_empty());
        // Carried out, it is only remembered.
        let target = contents(20, vec![message(11, 10, &["new", "Own"]), message(12, 8, &[]), message(13, 0, &[])]);
        let steps = plan(&source, &target, &pairs, |_| true).unwrap();
        assert!(steps.is_idle());
        assert_eq!(steps.put, [pair(1, 11, true, 8, &["new"])]);
    }

    #[test]
    fn what_went_at_the_source_goes_if_it_is_ours_and_what_went_at_the_target_does_not_come_back() {
        let source = contents(9, vec![message(4, 0, &[])]);
        let target = contents(20, vec![message(11, 0, &[]), message(12, 0, &[])]);
        let pairs = [
            pair(1, 11, true, 0, &[]),
            pair(2, 12, false, 0, &[]),
            pair(3, 13, true, 0, &[]),
            pair(4, 14, true, 0, &[]),
        ];
        let steps = plan(&source, &target, &pairs, |_| true).unwrap();
        assert_eq!(steps.expunge, [(Uid(1), Uid(11))]);
        assert_eq!(steps.forget, [Uid(2), Uid(3)]);
        assert!(steps.save.is_empty() && steps.flags.is_empty());
    }
}
