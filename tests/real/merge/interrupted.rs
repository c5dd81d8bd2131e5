//! `kill -9` in a merge, at every step and after every write of the store: the next run ends where one run would have, with nothing
//! twice and nothing lost.

use super::{DATE, client, mail, merge, pair, prepare, subjects};
use crate::copy::{Pair, on_user};
use crate::lab::{Ferry, FerrySpec, Format, Release, World};

/// Changes of every kind.
fn change(pair: &Pair) {
    let mut old = client(&pair.old, "u1");
    old.select("INBOX");
    old.ok("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
    old.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    old.ok("UID EXPUNGE 3");
    old.append("INBOX", "", DATE, &mail("later"));
    old.ok("UNSELECT");
    old.ok("RENAME Only Renamed");
    old.ok("LOGOUT");
}

#[test]
fn a_merge_that_is_killed_anywhere_is_ended_by_the_next_run_without_doubles() {
    let judge = pair(Release::V23, Format::Mdbox);
    prepare(&judge);
    let ferry = Ferry::prepare(FerrySpec::between(&judge.old, &judge.new));
    merge(&ferry, &judge);
    let first = subjects(&World::of(&judge.new, "u1"));
    change(&judge);
    merge(&ferry, &judge);
    let second = subjects(&World::of(&judge.new, "u1"));

    let pair = pair(Release::V23, Format::Mdbox);
    prepare(&pair);
    let mut ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    let killed = |ferry: &mut Ferry| {
        let mut deaths = 0;
        for place in ["merge-write", "merge-written", "store-written"] {
            for time in [1, 2, 3, 5, 8, 13] {
                ferry.set_env("MAILFERRY_FAULTS", &format!("{place}#{time}=kill"));
                deaths += u32::from(on_user(ferry, &pair, &["sync", "--mode", "merge"], "u1").status.code().is_none());
            }
        }
        ferry.set_env("MAILFERRY_FAULTS", "");
        merge(ferry, &pair);
        deaths
    };
    assert!(killed(&mut ferry) > 3);
    assert_eq!(subjects(&World::of(&pair.new, "u1")), first);
    change(&pair);
    assert!(killed(&mut ferry) > 3);
    assert_eq!(subjects(&World::of(&pair.new, "u1")), second);
}
