//! Quota: mail that would have no room on the new side is not copied, and its user not switched.

use std::time::Duration;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Release, Spec, World, nasty};

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
