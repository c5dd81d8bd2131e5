//! Rounds without a proxy: `mailferry sync` once after each change, which must have carried it over when it returns.

use super::*;
use crate::copy::{on_user, shown, sync, verify};
use crate::lab::world::Next;

fn changes_behind_our_back(knows: Knows) {
    let old = Spec { extra: knows.capability(), ..Spec::old(&["u1"]) };
    let pair = Pair { old: Dovecot::start(old), new: Dovecot::start(Spec::new_side(&["u1"])) };
    nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    let check = |what: &str| {
        sync(&ferry, &pair, "u1");
        let (old, new) = (World::of(&pair.old, "u1"), World::of(&pair.new, "u1"));
        assert!(old == new, "{knows:?}, after {what}: {:#?}", old.differences(&new, Next::Equal));
        let again = on_user(&ferry, &pair, &["sync"], "u1");
        assert!(String::from_utf8_lossy(&again.stdout).contains("0 octets copied in this run"), "{}", shown(&again));
    };
    for (what, change) in &CHANGES {
        let mut imap = Imap::connect(pair.old.imap_port());
        imap.login("u1", pair.old.password("u1"));
        change(&mut imap);
        check(what);
    }
    deliver(&pair.old, "u1", b"Subject: delivered\n\nmail\n");
    check("a delivery");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
}

#[test]
fn one_sync_carries_each_change_over_from_a_server_with_mod_sequences() {
    changes_behind_our_back(Knows::Everything);
}

#[test]
fn one_sync_carries_each_change_over_from_a_server_that_knows_nothing_but_imap() {
    changes_behind_our_back(Knows::Nothing);
}
