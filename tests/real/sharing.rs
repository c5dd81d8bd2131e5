//! Mailboxes that more than one user can see: they are found, rights are read and compared, and nothing of it is moved.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Release, Spec, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Rights, a namespace of other users, and a public one that LIST shows only to those who ask for it by name.
const SHARING: &str = "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\n\
    protocol doveadm {\n  mail_plugins =\n}\n\
    namespace {\n  type = shared\n  separator = /\n  prefix = shared/%%u/\n  location = maildir:{dir}/mail/%%u\n  \
    subscriptions = no\n  list = children\n}\n\
    namespace {\n  type = public\n  separator = /\n  prefix = Public/\n  location = maildir:{dir}/mail/public\n  \
    subscriptions = no\n  list = no\n}\n\
    plugin {\n  acl = vfile\n  acl_shared_dict = file:{dir}/mail/shared-mailboxes.db\n}\n";

/// INBOX of `u1` on the old side is shared with `u2` there.
pub(crate) fn pair() -> Pair {
    // (A Dovecot 2.4 has other words for it.)
    let users = ["u1", "u2"];
    let old = Dovecot::start(Spec { extra: SHARING.to_owned(), ..Spec::old(&users) });
    let acl = "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\n\
               protocol doveadm {\n  mail_plugins =\n}\nplugin {\n  acl = vfile\n}\n";
    let new = Spec { release: Release::V23, extra: acl.to_owned(), ..Spec::new_side(&users) };
    let pair = Pair { old, new: Dovecot::start(new) };
    nasty::small(&pair.old, "u1");
    let public = pair.old.mail_dir("public");
    for (name, rights) in [("News", "lrws"), ("Drop", "lip")] {
        let folder = public.join(format!(".{name}"));
        for sub in ["cur", "new", "tmp"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        fs::write(folder.join("dovecot-acl"), format!("user=u1 {rights}\n")).unwrap();
    }
    pair.old.give_to_mail_user(&public);
    session(&pair.old, "u1").ok("SETACL INBOX u2 lrs");
    pair
}

fn session(server: &Dovecot, user: &str) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login(user, server.password(user));
    imap
}

/// The findings of a rule: mailbox, old side, new side.
pub(crate) fn of_rule(report: &Value, rule: &str) -> Vec<[String; 3]> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == rule);
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    findings.map(|finding| ["mailbox", "old", "new"].map(|key| word(finding, key))).collect()
}

#[test]
fn what_users_share_is_found_and_told_and_not_moved() {
    let pair = pair();
    let ferry = pair.ferry();
    let said = shown(&on_user(&ferry, &pair, &["check"], "u1"));
    assert!(said.contains("shared     2 mailboxes of others: Public/Drop, Public/News; they are not moved"), "{said}");
    assert!(said.contains("shares     with u2 (1 mailbox); who is not on the same side"), "{said}");
    assert!(said.contains("rights     write-only in Public/Drop: old ilp,"), "{said}");
    let said = shown(&on_user(&ferry, &pair, &["check"], "u2"));
    assert!(said.contains("shared     1 mailboxes of others: shared/u1; they are not moved"), "{said}");

    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "none");
    assert_eq!(code, 0, "{report:#}");
    let inbox = |old: &str, new: &str| [["INBOX", old, new].map(str::to_owned)];
    assert_eq!(of_rule(&report, "acl"), inbox("u2: lrs", "u2: none"), "{report:#}");
    assert_eq!(of_rule(&report, "write-only").len(), 1, "{report:#}");
    assert_eq!(of_rule(&report, "shared")[0][1], "2 mailboxes of others: Public/Drop, Public/News");
    session(&pair.new, "u1").ok("SETACL INBOX u2 lrs");
    let (report, _) = verify(&ferry, &pair, "u1", "none");
    assert_eq!(of_rule(&report, "acl"), Vec::<[String; 3]>::new(), "{report:#}");
}

#[test]
fn status_shows_with_whom_a_user_shares() {
    let pair = pair();
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut client = Imap::connect(ferry.imap());
    client.login("u1", pair.old.password("u1"));
    client.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let status = ferry.wait_status("u1", LONG, |status| status["shared_with"]["u2"] == 1);
    assert_eq!(status["shared_with"].as_object().unwrap().len(), 1);
    assert!(ferry.run_ok(&["status", "u1"]).contains("shared with  u2 (1 mailbox)\n"));
    session(&pair.old, "u1").ok("DELETEACL INBOX u2");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["shared_with"], serde_json::json!({}));
}
