//! `migration.unreadable = "skip"`: messages that the old side can't give are left out, named, tried again; their UIDs stay empty.

use std::fs;
use std::time::Duration;

use super::Broken;
use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, verify};
use crate::lab::account::Message;
use crate::lab::{Answer, Dovecot, Ferry, FerrySpec, Imap, Liar, Lie, Spec, nasty};
use crate::silent_losses::{file_of, lock};

const LONG: Duration = Duration::from_secs(180);

const SKIP: (&str, &str) = ("migration", "unreadable = \"skip\"");

fn skipping(users: &[&str]) -> Broken {
    let pair = Pair::start(users);
    let liar = Liar::to(pair.old.imap_port(), Vec::new());
    let spec = FerrySpec { old_imap: Some(liar.url()), extra: vec![SKIP], ..FerrySpec::between(&pair.old, &pair.new) };
    let ferry = Ferry::prepare(spec);
    Broken { pair, liar, ferry }
}

fn lost(mailbox: &'static str, uid: u32) -> Lie {
    Lie::always(mailbox, uid, &Answer::Nil)
}

/// The findings of a report: class, rule, mailbox, UID.
fn findings(report: &serde_json::Value) -> Vec<String> {
    let one = |found: &serde_json::Value| {
        let text = |key: &str| found[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("class"), text("rule"), text("mailbox"), found["uid"])
    };
    report["findings"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_can_not_be_read_is_left_out_and_named_until_it_can() {
    let broken = skipping(&["u1"]);
    let mut account = broken.account("u1");
    broken.liar.tell(vec![lost("INBOX", 5), lost("Sent", 2), lost("Sent", 3)]);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("INBOX UID 5 is left out on the new side: BODY[]: NIL"), "{said}");
    assert_eq!(broken.uids(&account, "INBOX"), [1, 2, 6, 9]);
    assert_eq!(broken.uids(&account, "Sent"), [1]);
    let (report, code) = verify(&broken.ferry, &broken.pair, "u1", "all");
    let named = ["INBOX 5", "Sent 2", "Sent 3"].map(|which| format!("altered quarantined {which}"));
    assert_eq!((code, report["identical"].as_bool(), findings(&report)), (0, Some(true), named.to_vec()), "{report:#}");
    let (_, said) = broken.sync("u1");
    assert!(said.contains("0 octets copied in this run"), "{said}");

    // What happens beside them is followed, and no other message gets their UIDs.
    let raw = b"Subject: later\r\n\r\nx\r\n".to_vec();
    let mut imap = account.log_in(&broken.pair.old);
    for mailbox in ["INBOX", "Sent"] {
        imap.append(mailbox, "", "29-Feb-2024 12:00:00 +0000", &raw);
        account.mailbox(mailbox).push(Message::new(raw.clone(), "", 1_709_208_000));
    }
    imap.select("INBOX");
    imap.ok("UID STORE 6 -FLAGS (\\Flagged)");
    account.mailbox("INBOX").messages.get_mut(&6).unwrap().flags.remove("\\Flagged");
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(broken.uids(&account, "INBOX"), [1, 2, 6, 9, 12]);
    assert_eq!(broken.uids(&account, "Sent"), [1, 4]);

    // Gone on the old side, readable again, and INBOX, which is not made anew unasked.
    imap.select("Sent");
    imap.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    account.mailbox("Sent").expunge(3);
    broken.liar.tell(Vec::new());
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(broken.uids(&account, "Sent"), [1, 2, 4], "made anew");
    assert!(said.contains("INBOX UID 5 is left out on the new side: the old side gives it again;"), "{said}");
    let (report, _) = verify(&broken.ferry, &broken.pair, "u1", "all");
    assert_eq!(findings(&report), ["altered quarantined INBOX 5"], "{report:#}");
    let output = on_user(&broken.ferry, &broken.pair, &["sync", "--rebuild", "INBOX"], "u1");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
}

/// A word changed in the configuration: what is left out already stays so, and keeps the user on the old side.
#[test]
fn what_may_not_be_left_out_any_more_is_a_difference() {
    let broken = skipping(&["u1"]);
    let account = broken.account("u1");
    broken.liar.tell(vec![lost("INBOX", 5)]);
    assert_eq!(broken.sync("u1").0, Some(0));
    let path = broken.ferry.config_path();
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("\"skip\"", "\"stop\"")).unwrap();
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("INBOX UID 5: left out on the new side: BODY[]: NIL"), "{said}");
    assert_eq!(broken.uids(&account, "INBOX"), [1, 2, 6, 9]);
    let (report, code) = verify(&broken.ferry, &broken.pair, "u1", "all");
    assert_eq!((code, findings(&report)), (1, vec!["difference quarantined INBOX 5".to_owned()]), "{report:#}");
}

/// A proxy whose old side lies, between POP3 sides, too.
fn serving(pair: &Pair, liar: &Liar, policy: &str) -> Ferry {
    let policy = format!("unreadable = \"{policy}\"");
    Ferry::start(FerrySpec {
        old_imap: Some(liar.url()),
        auto: false,
        pop3: true,
        extra: vec![("migration", &policy)],
        ..FerrySpec::between(&pair.old, &pair.new)
    })
}

fn log_in(ferry: &Ferry, pair: &Pair, user: &str) {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(user, pair.old.password(user));
    imap.ok("LOGOUT");
}

fn pair_with_uidls(users: &[&str]) -> Pair {
    let new = Spec { own_uidls: true, ..Spec::new_side(users) };
    Pair { old: Dovecot::start(Spec::old(users)), new: Dovecot::start(new) }
}

#[test]
fn the_policy_decides_whether_such_a_user_is_switched() {
    let pair = pair_with_uidls(&["u1", "u2"]);
    for user in ["u1", "u2"] {
        nasty::small(&pair.old, user);
    }
    let liar = Liar::to(pair.old.imap_port(), vec![lost("INBOX", 5)]);
    let ferry = serving(&pair, &liar, "skip");
    log_in(&ferry, &pair, "u1");
    ferry.wait_phase("u1", "following", LONG);
    let output = ferry.run(&["switch", "u1"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let status = ferry.status("u1");
    let report = &status["last_report"];
    assert_eq!((report["identical"].as_bool(), report["altered"].as_u64()), (Some(true), Some(1)), "{status:#}");
    let left_out = &status["quarantined"];
    assert_eq!(left_out["count"].as_u64(), Some(1), "{status:#}");
    assert_eq!(
        (left_out["messages"][0]["mailbox"].as_str(), left_out["messages"][0]["uid"].as_u64()),
        (Some("INBOX"), Some(5))
    );
    let text = ferry.run_ok(&["status", "u1"]);
    assert!(text.contains("quarantined  1 message") && text.contains("INBOX UID 5, since "), "{text}");
    assert!(ferry.run_ok(&["history", "u1"]).contains("report: identical, 1 altered, 1 note"));
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", pair.old.password("u1"));
    imap.examine("INBOX");
    assert_eq!(imap.uids(), [1, 2, 6, 9]);
    imap.ok("LOGOUT");
    // The old side has all that the new side has.
    let output = ferry.run(&["rollback", "u1"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    drop(ferry);

    let ferry = serving(&pair, &liar, "stop");
    log_in(&ferry, &pair, "u2");
    ferry.wait_status("u2", LONG, |status| {
        status["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("the old side can't give INBOX UID 5: BODY[]: NIL"))
    });
    let output = ferry.run(&["switch", "u2"]);
    assert_eq!(output.status.code(), Some(75), "{}", shown(&output));
    let status = ferry.status("u2");
    assert_eq!((status["authority"].as_str(), status["quarantined"]["count"].as_u64()), (Some("old"), Some(0)));
}

/// A Dovecot hangs up on a file that it can't open, and, for good, on one that is shorter than its name says.
#[test]
fn files_of_a_maildir_that_are_locked_or_cut_off() {
    let broken = skipping(&["u1"]);
    let account = broken.account("u1");
    let [locked, cut] = [2, 3].map(|uid| file_of(&broken.pair.old, "u1", "Sent", uid));
    lock(&locked, true);
    let (whole, written) = (fs::read(&cut).unwrap(), fs::metadata(&cut).unwrap().modified().unwrap());
    // With its time: that is the INTERNALDATE.
    let rewrite = |octets: &[u8]| {
        fs::write(&cut, octets).unwrap();
        fs::File::options().write(true).open(&cut).unwrap().set_modified(written).unwrap();
    };
    rewrite(&whole[..60]);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    for uid in [2, 3] {
        assert!(said.contains(&format!("Sent UID {uid} is left out on the new side: BODY[]: ")), "{said}");
    }
    assert_eq!(broken.uids(&account, "Sent"), [1]);
    let (report, code) = verify(&broken.ferry, &broken.pair, "u1", "all");
    let named = [2, 3].map(|uid| format!("altered quarantined Sent {uid}"));
    assert_eq!((code, findings(&report)), (0, named.to_vec()), "{report:#}");

    rewrite(&whole);
    lock(&locked, false);
    let (code, said) = broken.sync("u1");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(broken.uids(&account, "Sent"), [1, 2, 3], "{said}");
    assert_equal_everywhere(&broken.ferry, &broken.pair, &account);
}
