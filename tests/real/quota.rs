//! Quota: mail that would have no room on the new side is not copied, and its user not switched.

use std::time::Duration;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Release, Room, Spec, World, nasty, trixie};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A quota that sessions see, and copies don't; `rules` are what is limited.
pub(crate) fn limited(rules: &str) -> String {
    format!(
        "mail_plugins = quota\nprotocol imap {{\n  mail_plugins = quota imap_quota\n}}\n\
         protocol doveadm {{\n  mail_plugins =\n}}\n\
         plugin {{\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_rule = {rules}\n}}\n"
    )
}

fn pair(old: &str, new: &str) -> Pair {
    // (A Dovecot 2.4 has other words for it.)
    let spec = |spec: Spec, extra: &str| Spec { release: Release::V23, extra: extra.to_owned(), ..spec };
    let pair = Pair {
        old: Dovecot::start(spec(Spec::old(&["u1"]), old)),
        new: Dovecot::start(spec(Spec::new_side(&["u1"]), new)),
    };
    nasty::small(&pair.old, "u1");
    pair
}

fn fill(pair: &Pair, octets: usize) {
    let mut direct = Imap::connect(pair.old.imap_port());
    direct.login("u1", pair.old.password("u1"));
    direct.append(
        "INBOX",
        "",
        "",
        format!("Subject: big\r\n\r\n{}\r\n", "0123456789abcde\r\n".repeat(octets / 17)).as_bytes(),
    );
}

#[test]
fn nothing_is_copied_that_would_have_no_room() {
    let mut pair = pair("", &limited("*:storage=100K"));
    fill(&pair, 200_000);
    let ferry = pair.ferry();
    let checked = on_user(&ferry, &pair, &["check"], "u1");
    let said = shown(&checked);
    assert!(said.contains("new side: \"User quota\": 0 KiB of 100 KiB"), "{said}");
    assert!(said.contains("quota      old side: none that it tells of"), "{said}");
    assert!(checked.status.code() == Some(1) && said.contains("blocks     no room on the new side: "), "{said}");
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    let said = shown(&refused);
    assert!(
        refused.status.code() == Some(75) && said.contains("the quota \"User quota\" of the new side allows 100 KiB"),
        "{said}"
    );
    let needed: u64 = said.split("new side: ").nth(1).and_then(|text| text.split(' ').next()).unwrap().parse().unwrap();
    assert!((196..300).contains(&needed), "{said}");
    assert_eq!(World::of(&pair.new, "u1").count(), 0);

    pair.new.configure(&limited("*:storage=10M"));
    sync(&ferry, &pair, "u1");
    assert_eq!(verify(&ferry, &pair, "u1", "all").1, 0);
}

#[test]
fn a_user_whose_mail_outgrows_the_new_side_is_not_switched() {
    let pair = pair(&limited("*:storage=1G"), &limited("*:storage=300K:messages=1000"));
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    fill(&pair, 400_000);
    let refused = ferry.run(&["switch", "u1"]);
    let said = shown(&refused);
    assert!(refused.status.code() == Some(75) && said.contains("no room on the new side: "), "{said}");
    let status = ferry.status("u1");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("KiB of mail on the old side") && reason.contains("allows 300 KiB"), "{status:#}");
    assert_eq!(
        (status["phase"].as_str(), status["authority"].as_str()),
        (Some("following"), Some("old")),
        "{status:#}"
    );
    let said = shown(&on_user(&ferry, &pair, &["check"], "u1"));
    assert!(said.contains("old side: \"User quota\": ") && said.contains(" of 1048576 KiB; new side: "), "{said}");
}

/// Dovecot doesn't hold a copy to a quota (it is dsync's rule, whatever plugins are loaded), so nobody would hear of one that can't
/// be asked for.
#[test]
fn a_copy_is_not_held_to_a_quota_even_where_the_plugin_is_loaded_for_it() {
    let plugin = |dialect: Release| match dialect {
        Release::V23 => {
            "mail_plugins = quota\nprotocol imap {\n  mail_plugins = quota\n}\nprotocol doveadm {\n  mail_plugins = quota\n}\n\
             plugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_rule = *:storage=100K\n}\n"
        }
        Release::V24 => "mail_plugins {\n  quota = yes\n}\nquota \"User quota\" {\n  storage_size = 100K\n}\n",
    };
    for release in [Release::V23, Release::V24] {
        if release == Release::V24 && !trixie::is_here() {
            continue;
        }
        let spec = Spec { release, extra: plugin(release).to_owned(), ..Spec::new_side(&["u1"]) };
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(spec) };
        nasty::small(&pair.old, "u1");
        fill(&pair, 200_000);
        let ferry = pair.ferry();
        let checked = shown(&on_user(&ferry, &pair, &["check"], "u1"));
        assert!(checked.contains("new side: none that it tells of"), "{release:?}: {checked}");
        sync(&ferry, &pair, "u1");
        assert_eq!(verify(&ferry, &pair, "u1", "all").1, 0, "{release:?}");
        let used = pair.new.doveadm_ok(&["-f", "tab", "quota", "get", "-u", "u1"]);
        let storage = used.lines().find(|line| line.contains("STORAGE")).unwrap();
        let percent: u32 = storage.split('\t').next_back().unwrap().parse().unwrap();
        assert!(percent > 190, "{release:?}: {used}");
    }
}

#[test]
fn a_copy_that_runs_out_of_room_says_so_loses_nothing_and_goes_on_when_there_is_some() {
    for format in [Format::Mdbox, Format::Maildir] {
        let room = Room::build();
        let new = Spec { release: Release::V23, format, ..Spec::new_side(&["u1"]) };
        let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(room.under(new)) };
        nasty::small(&pair.old, "u1");
        (0..6).for_each(|_| fill(&pair, 40_000));
        room.leave(150_000);
        let ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
        let mut session = Imap::connect(ferry.imap());
        session.login("u1", pair.old.password("u1"));
        let status = ferry.wait_status("u1", LONG, |status| status["reason"].is_string());
        let reason = status["reason"].as_str().unwrap();
        for word in ["can't write u1 to ", "Mailbox INBOX: Saving", "quota", "no room on the new side: free space"] {
            assert!(reason.contains(word), "{format:?} {word}: {reason}");
        }
        assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("copying"), Some("old")));
        session.ok("LOGOUT");
        room.make();
        // (By itself: nobody logs in again.)
        ferry.wait_phase("u1", "new", LONG);
        assert_eq!(verify(&ferry, &pair, "u1", "all").1, 0, "{format:?}");
    }
}
