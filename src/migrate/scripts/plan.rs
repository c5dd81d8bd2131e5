//! What has to be done to a user's scripts on the new side: a pure function.

use crate::mailbox::Scripts;
use crate::store::OurScript;

/// What has to be done, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Scripts that the new side lacks, or has in an older form of ours.
    pub(super) put: Vec<(String, Vec<u8>)>,
    /// Which script to make the active one, or that none is to be; `None`: nothing to do.
    pub(super) active: Option<Option<String>>,
    /// Scripts of ours that are gone from the old side.
    pub(super) delete: Vec<String>,
    /// What isn't ours to change, in words.
    pub(super) in_the_way: Vec<String>,
}

impl Plan {
    /// Compares both sides, and what is `ours` on the new one.
    pub(super) fn of(old: &Scripts, new: &Scripts, ours: &[OurScript]) -> Self {
        let is_ours = |name: &str, script: &[u8]| {
            let digest = blake3::hash(script);
            ours.iter().any(|(known, what)| known == name && *what == digest)
        };
        let mut plan = Self::default();
        for (name, script) in &old.all {
            match new.all.get(name) {
                Some(there) if there == script => {}
                Some(there) if !is_ours(name, there) => plan.in_the_way.push(format!(
                    "the script {name:?} on the new side is not ours and not that of the old side: delete one of them, or \
                     make them equal"
                )),
                _ => plan.put.push((name.clone(), script.clone())),
            }
        }
        let gone = |name: &str| !old.all.contains_key(name);
        let gone_of_ours = |name: &str| gone(name) && new.all.get(name).is_some_and(|script| is_ours(name, script));
        if old.active != new.active {
            match (&old.active, &new.active) {
                (None, Some(theirs)) if gone(theirs) && !gone_of_ours(theirs) => plan.in_the_way.push(format!(
                    "the script {theirs:?} is active on the new side and not ours, and none is on the old side: deactivate it"
                )),
                _ => plan.active = Some(old.active.clone()),
            }
        }
        plan.delete = new.all.keys().filter(|name| gone_of_ours(name)).cloned().collect();
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(all: &[(&str, &str)], active: Option<&str>) -> Scripts {
        let all = all.iter().map(|(name, script)| ((*name).to_owned(), script.as_bytes().to_vec())).collect();
        Scripts { all, active: active.map(str::to_owned) }
    }

    fn ours(all: &[(&str, &str)]) -> Vec<OurScript> {
        all.iter().map(|(name, script)| ((*name).to_owned(), blake3::hash(script.as_bytes()))).collect()
    }

    #[test]
    fn what_is_missing_is_put_and_the_active_one_marked() {
        let old = side(&[("a", "keep;"), ("b", "stop;")], Some("a"));
        let plan = Plan::of(&old, &Scripts::default(), &[]);
        assert_eq!(plan.put.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((plan.active, plan.delete.len(), plan.in_the_way.len()), (Some(Some("a".to_owned())), 0, 0));
        assert_eq!(Plan::of(&old, &old, &[]), Plan::default());
    }

    #[test]
    fn only_what_is_ours_is_replaced_or_deleted() {
        let old = side(&[("a", "keep;")], None);
        let new = side(&[("a", "old;"), ("gone", "x;"), ("theirs", "y;")], None);
        let plan = Plan::of(&old, &new, &ours(&[("a", "old;"), ("gone", "x;"), ("theirs", "something else")]));
        assert_eq!((plan.put.len(), plan.delete, plan.in_the_way.len()), (1, vec!["gone".to_owned()], 0));
        let plan = Plan::of(&old, &new, &[]);
        assert_eq!((plan.put.len(), plan.delete.len()), (0, 0));
        assert!(plan.in_the_way[0].contains("\"a\" on the new side is not ours"), "{plan:?}");
    }

    #[test]
    fn a_script_of_somebody_elses_is_deactivated_only_for_another_one() {
        let new = side(&[("theirs", "y;")], Some("theirs"));
        let plan = Plan::of(&Scripts::default(), &new, &[]);
        assert!(plan.active.is_none() && plan.in_the_way[0].contains("\"theirs\" is active"), "{plan:?}");
        let plan = Plan::of(&side(&[("a", "keep;")], Some("a")), &new, &[]);
        assert_eq!((plan.active, plan.in_the_way.len()), (Some(Some("a".to_owned())), 0));
        let plan = Plan::of(&Scripts::default(), &new, &ours(&[("theirs", "y;")]));
        assert_eq!((plan.active, plan.delete, plan.in_the_way.len()), (Some(None), vec!["theirs".to_owned()], 0));
        let both = side(&[("a", "keep;")], None);
        let plan = Plan::of(&both, &side(&[("a", "keep;")], Some("a")), &[]);
        assert_eq!((plan.active, plan.in_the_way.len()), (Some(None), 0), "the same script on both sides");
    }
}
