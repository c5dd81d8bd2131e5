//! `mailferry sync` with filters: exactly what they take is copied, the account is marked, it can't be switched by anything,
//! and one run without a filter makes it whole, holes and all.

use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_foreign_judge_agrees, on_user, shown, verify};
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Release, Spec, World, trixie};
use crate::rebuild::run_what_is_told;

const LONG: Duration = Duration::from_secs(120);

/// What is all mail, and what is flagged, whatever the language.
const USES: &str = "namespace inbox {\n mailbox \"Alle Nachrichten\" {\n  special_use = \\All\n }\n \
                    mailbox Markiert {\n  special_use = \\Flagged\n }\n mailbox Wichtig {\n  special_use = \\Important\n }\n}\n";

fn pair(release: Release, format: Format) -> Pair {
    let old = Spec { extra: USES.to_owned(), ..Spec::old(&["u1"]) };
    let new = Spec { release, format, extra: USES.to_owned(), ..Spec::new_side(&["u1"]) };
    Pair { old: Dovecot::start(old), new: Dovecot::start(new) }
}

fn client(server: &Dovecot) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login("u1", server.password("u1"));
    imap
}

fn mail(subject: &str, octets: usize) -> Vec<u8> {
    format!("Subject: {subject}\r\nMessage-ID: <{subject}@lab>\r\n\r\n{}\r\n", "x".repeat(octets)).into_bytes()
}

/// INBOX: 1 old, 2 new, 3 large, 4 deleted, 5 with a keyword, 6 new and read. Some folders, three of which have a use.
fn fill(old: &Dovecot) {
    let mut imap = client(old);
    let (then, now) = ("17-Jul-1996 02:44:25 -0700", "01-Nov-2026 00:00:00 +0000");
    for (subject, flags, date, octets) in [
        ("old", "", then, 10),
        ("new", "", now, 10),
        ("large", "", now, 5000),
        ("deleted", "\\Deleted", now, 10),
        ("labelled", "$GmailHaveLabels", now, 10),
        ("read", "\\Seen", now, 10),
    ] {
        imap.append("INBOX", flags, date, &mail(subject, octets));
    }
    for name in ["Lists", "Lists/a", "Lists/a/b", "Work", "Alle Nachrichten", "Markiert", "Wichtig"] {
        imap.ok(&format!("CREATE \"{name}\""));
        imap.append(name, "", then, &mail(&name.replace([' ', '/'], "-"), 10));
        imap.append(name, "", now, &mail("two", 10));
    }
    imap.ok("SUBSCRIBE Work");
    imap.ok("SUBSCRIBE Lists/a");
    imap.ok("LOGOUT");
}

/// The UIDs in every mailbox.
type Uids = Vec<(String, Vec<u32>)>;

fn uids(new: &Dovecot, user: &str) -> Uids {
    let world = World::of(new, user);
    world.mailboxes.iter().map(|(name, shelf)| (name.clone(), shelf.mails.keys().copied().collect())).collect()
}

fn sync(ferry: &Ferry, pair: &Pair, options: &[&str]) -> String {
    let output = on_user(ferry, pair, &[&["sync"], options].concat(), "u1");
    assert!(output.status.success(), "{options:?}: {}", shown(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rules(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|found| found["rule"].as_str().unwrap()).collect()
}

#[test]
fn filters_take_mailboxes_by_name_and_use_and_messages_by_date_size_and_flags() {
    let every = [1, 2];
    let inbox = |uids: &[u32]| vec![("INBOX".to_owned(), uids.to_vec())];
    let with = |first: &[u32], more: &[&str]| {
        let more = more.iter().map(|name| ((*name).to_owned(), every.to_vec()));
        let mut all: Vec<_> = more.chain(inbox(first)).collect();
        all.sort();
        all
    };
    let only_inbox = ["--mailbox", "inbox"];
    let cases: Vec<(Vec<&str>, Uids)> = vec![
        ([&only_inbox[..], &["--since", "2026-11-01"]].concat(), inbox(&[2, 3, 4, 5, 6])),
        ([&only_inbox[..], &["--since", "2026-11-02"]].concat(), inbox(&[])),
        ([&only_inbox[..], &["--max-size", "1K"]].concat(), inbox(&[1, 2, 4, 5, 6])),
        ([&only_inbox[..], &["--flags", "-\\Deleted", "--flags", "-$gmailhavelabels"]].concat(), inbox(&[1, 2, 3, 6])),
        ([&only_inbox[..], &["--flags", "\\Seen"]].concat(), inbox(&[6])),
        (vec!["--mailbox", "Lists/%"], with(&[], &["Lists/a"])),
        (vec!["--mailbox", "Lists*"], with(&[], &["Lists", "Lists/a", "Lists/a/b"])),
        (
            vec!["--mailbox", "*", "--exclude", "Lists/*", "--exclude", "INBOX"],
            with(&[], &["Alle Nachrichten", "Lists", "Markiert", "Wichtig", "Work"]),
        ),
        (
            vec!["--exclude", "\\All", "--exclude", "\\flagged", "--exclude", "\\Important"],
            with(&[1, 2, 3, 4, 5, 6], &["Lists", "Lists/a", "Lists/a/b", "Work"]),
        ),
        (vec!["--mailbox", "\\All"], with(&[], &["Alle Nachrichten"])),
    ];
    // Each case on an account of the new side that nobody has ever used.
    let old = Dovecot::start(Spec { extra: USES.to_owned(), ..Spec::old(&["u1"]) });
    let users = (0..cases.len()).map(|case| (format!("u1-{case}"), old.password("u1").to_owned())).collect();
    let pair = Pair { old, new: Dovecot::start(Spec { users, ..Spec::new_side(&[]) }) };
    fill(&pair.old);
    for (case, (options, expected)) in cases.into_iter().enumerate() {
        let there = format!("u1-{case}");
        let login_name = format!("login_name = \"%n-{case}\"");
        let extra = vec![("new", login_name.as_str())];
        let ferry = Ferry::prepare(FerrySpec { extra, ..FerrySpec::between(&pair.old, &pair.new) });
        let foretold = on_user(&ferry, &pair, &[&["sync", "--dry-run"], &options[..]].concat(), "u1");
        assert!(foretold.status.success(), "{options:?}: {}", shown(&foretold));
        assert!(uids(&pair.new, &there).iter().all(|(_, uids)| uids.is_empty()), "nothing was written");
        let copied: usize = expected.iter().map(|(_, uids)| uids.len()).sum();
        let said = String::from_utf8_lossy(&foretold.stdout).into_owned();
        let sum = format!("u1: {copied} messages to copy (");
        assert!(said.contains(&sum) && said.contains(&format!("{} left out;", 20 - copied)), "{options:?}: {said}");
        sync(&ferry, &pair, &options);
        assert_eq!(uids(&pair.new, &there), expected, "{options:?}");
        let subscribed: Vec<_> = World::of(&pair.new, &there).subscriptions.into_iter().collect();
        let taken = |name: &&str| expected.iter().any(|(known, _)| known == name);
        assert_eq!(subscribed, ["Lists/a", "Work"].into_iter().filter(taken).collect::<Vec<_>>(), "{options:?}");
        // The same again has nothing to do.
        let again = sync(&ferry, &pair, &options);
        assert!(again.contains("0 octets copied in this run"), "{options:?}: {again}");
        assert_eq!(uids(&pair.new, &there), expected, "{options:?}");
    }
}

/// partial → refused switch, by reason → made whole → switched, identical.
fn there_and_whole(release: Release, format: Format) {
    let pair = pair(release, format);
    fill(&pair.old);
    let mut ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let filter = ["--exclude", "\\All", "--since", "2026-11-01", "--max-size", "1K"];
    let said = sync(&ferry, &pair, &filter);
    let shown_filter = "--exclude '\\All' --since 2026-11-01 --max-size 1K";
    assert!(said.contains("partial") && said.contains(shown_filter), "{said}");
    assert_eq!(uids(&pair.new, "u1").iter().find(|(name, _)| name == "INBOX").unwrap().1, [2, 4, 5, 6]);

    // Everybody says so.
    let status = ferry.status("u1");
    assert_eq!(
        (status["mark"]["kind"].as_str(), status["mark"]["how"].as_str()),
        (Some("partial"), Some(shown_filter))
    );
    assert!(ferry.run_ok(&["status", "u1"]).contains("mark         partial, since "));
    let (report, code) = verify(&ferry, &pair, "u1", "none");
    assert!(code == 1 && rules(&report).contains(&"partial"), "{report:#}");
    let checked = on_user(&ferry, &pair, &["check"], "u1");
    let said = shown(&checked);
    assert!(checked.status.code() == Some(1) && said.contains("  mark       partial, since "), "{said}");
    assert!(said.contains(&format!(": made with {shown_filter}\n")), "{said}");
    assert!(
        said.contains(&format!("  blocks     the copy is partial (made with {shown_filter}): run `mailferry sync`")),
        "{said}"
    );

    // A login would move the user, and an operator wants it, too.
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    let status = ferry.wait_phase("u1", "held", LONG);
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("partial") && reason.contains("mailferry sync"), "{reason}");
    let refused = ferry.run(&["switch", "u1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    session.ok("LOGOUT");
    assert_eq!(ferry.status("u1")["authority"], "old");

    // What was copied goes on being followed, by the filter or not, and what it leaves out stays out.
    let mut imap = client(&pair.old);
    imap.select("INBOX");
    imap.ok("UID STORE 2 +FLAGS.SILENT (\\Answered)");
    imap.ok("UID STORE 4 +FLAGS.SILENT (\\Deleted)");
    imap.ok("UID EXPUNGE 4");
    imap.append("INBOX", "", "02-Nov-2026 00:00:00 +0000", &mail("later", 10));
    imap.append("INBOX", "", "02-Nov-2026 00:00:00 +0000", &mail("later-large", 3000));
    imap.ok("LOGOUT");
    sync(&ferry, &pair, &filter);
    let world = World::of(&pair.new, "u1");
    let inbox = &world.mailboxes["INBOX"];
    assert_eq!(inbox.mails.keys().copied().collect::<Vec<_>>(), [2, 5, 6, 7]);
    assert!(inbox.mails[&2].flags.contains("\\Answered"));

    // Whole again. INBOX has holes, which only a new one mends; a Maildir's can't be reset from outside.
    let whole = on_user(&ferry, &pair, &["sync"], "u1");
    if format == Format::Maildir {
        assert_eq!(whole.status.code(), Some(1), "{}", shown(&whole));
        run_what_is_told(&pair.new, &String::from_utf8_lossy(&whole.stderr));
        assert!(ferry.status("u1")["mark"].is_object(), "not yet");
        sync(&ferry, &pair, &[]);
    } else {
        assert!(whole.status.success(), "{}", shown(&whole));
    }
    assert!(ferry.status("u1")["mark"].is_null());
    assert!(!shown(&on_user(&ferry, &pair, &["check"], "u1")).contains("  mark "));
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_foreign_judge_agrees(&pair, "u1");
    ferry.run_ok(&["resume", "u1"]);
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["authority"], "new");
    ferry.stop();
}

#[test]
fn a_partial_maildir_is_refused_the_switch_until_it_is_made_whole() {
    there_and_whole(Release::V23, Format::Maildir);
}

#[test]
fn a_partial_mdbox_is_refused_the_switch_until_it_is_made_whole() {
    there_and_whole(Release::V23, Format::Mdbox);
}

#[test]
fn what_can_not_be_filtered_by_is_refused_and_a_moving_user_is_left_alone() {
    let pair = Pair::start(&["u1"]);
    fill_one(&pair.old);
    let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    for (options, word) in [
        (["--since", "yesterday"], "no date such as"),
        (["--max-size", "big"], "no size such as"),
        (["--exclude", "\\Everything"], "\\Important"),
        (["--flags", "\\Read"], "no flag"),
    ] {
        let output = on_user(&ferry, &pair, &["sync", options[0], options[1]], "u1");
        assert!(output.status.code() == Some(2) && shown(&output).contains(word), "{}", shown(&output));
    }
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    ferry.wait_phase("u1", "following", LONG);
    let output = on_user(&ferry, &pair, &["sync", "--since", "2026-11-01"], "u1");
    assert!(output.status.code() == Some(1) && shown(&output).contains("mailferry hold u1"), "{}", shown(&output));
    assert!(ferry.status("u1")["mark"].is_null());
    session.ok("LOGOUT");
}

fn fill_one(old: &Dovecot) {
    client(old).append("INBOX", "", "17-Jul-1996 02:44:25 -0700", &mail("one", 10));
}

#[test]
fn on_dovecot_24_a_partial_copy_is_made_whole() {
    if trixie::is_here() {
        there_and_whole(Release::V24, Format::Mdbox);
    }
}
