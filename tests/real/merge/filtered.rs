//! A merge of a part: the filter decides what is added, and what was added is followed whatever a later filter says.

use super::*;

const NOW: &str = "01-Nov-2026 00:00:00 +0000";

/// Mailboxes and messages of every kind that a filter tells apart. INBOX: 1 old, 2 and 3 taken, 4 deleted, 5 large.
fn fill_old(pair: &Pair) {
    let mut imap = client(&pair.old, "u1");
    imap.append("INBOX", "", DATE, &mail("before"));
    imap.append("INBOX", "", NOW, &mail("a"));
    imap.append("INBOX", "", NOW, &mail("b"));
    imap.append("INBOX", "\\Deleted", NOW, &mail("deleted"));
    imap.append("INBOX", "", NOW, &large("large"));
    for name in ["Work", "Work/old", "Other"] {
        imap.ok(&format!("CREATE {name}"));
        imap.append(name, "", NOW, &mail(&format!("in {name}")));
    }
    imap.ok("SUBSCRIBE Other");
    imap.ok("SUBSCRIBE Work");
    imap.ok("LOGOUT");
}

fn large(subject: &str) -> Vec<u8> {
    [mail(subject), "x".repeat(3000).into_bytes(), b"\r\n".to_vec()].concat()
}

fn merge_by(ferry: &Ferry, pair: &Pair, filter: &[&str]) -> String {
    let output = on_user(ferry, pair, &[&["sync", "--mode", "merge"], filter].concat(), "u1");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_merge_with_filters_adds_what_they_take_and_follows_that_and_nothing_else() {
    for format in [Format::Maildir, Format::Mdbox] {
        let pair = pair(Release::V23, format);
        fill(&pair.new, "u1", &[("INBOX", &["own 1"]), ("Work", &["own 2"])]);
        fill_old(&pair);
        let mut ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
        let filter = [
            "--mailbox",
            "INBOX",
            "--mailbox",
            "Work*",
            "--exclude",
            "Work/old",
            "--since",
            "2026-11-01",
            "--max-size",
            "2K",
            "--flags",
            "-\\Deleted",
        ];
        let how = "--mode merge --mailbox INBOX --mailbox 'Work*' --exclude Work/old --since 2026-11-01 --max-size 2K \
                   --flags '-\\Deleted'";
        let foretold = on_user(&ferry, &pair, &[&["sync", "--mode", "merge", "--dry-run"], &filter[..]].concat(), "u1");
        assert!(shown(&foretold).contains("u1: 3 messages to copy ("), "{}", shown(&foretold));
        let said = merge_by(&ferry, &pair, &filter);
        assert!(said.contains(&format!("(made with {how})")), "{said}");
        let world = assert_subjects(
            &pair.new,
            &[("INBOX", &[(1, "own 1"), (2, "a"), (3, "b")]), ("Work", &[(1, "own 2"), (2, "in Work")])],
        );
        assert_eq!(world.subscriptions.iter().map(String::as_str).collect::<Vec<_>>(), ["Work"]);
        assert!(merge_by(&ferry, &pair, &filter).contains("0 octets copied in this run"));

        // Marked, for all who ask, and nothing switches it.
        let status = ferry.status("u1");
        assert_eq!(
            (status["mark"]["kind"].as_str(), status["mark"]["how"].as_str()),
            (Some("merged"), Some(how)),
            "{status:#}"
        );
        let checked = shown(&on_user(&ferry, &pair, &["check"], "u1"));
        assert!(checked.contains("  mark       merged, since ") && checked.contains(how), "{checked}");
        let refused = ferry.run(&["switch", "u1"]);
        assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
        assert_eq!(ferry.status("u1")["authority"], "old");
        ferry.stop();

        // What was added is followed, also where it would not be taken any more; what was left out stays out.
        let mut old = client(&pair.old, "u1");
        old.select("INBOX");
        old.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted \\Flagged)");
        old.ok("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
        old.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
        old.ok("UID EXPUNGE 3");
        old.append("INBOX", "", NOW, &mail("c"));
        old.append("INBOX", "", NOW, &large("later large"));
        old.append("INBOX", "", DATE, &mail("later before"));
        old.append("Other", "", NOW, &mail("more"));
        old.append("Work/old", "", NOW, &mail("more"));
        old.ok("LOGOUT");
        merge_by(&ferry, &pair, &filter);
        let expected: [(&str, &[(u32, &str)]); 2] =
            [("INBOX", &[(1, "own 1"), (2, "a"), (6, "c")]), ("Work", &[(1, "own 2"), (2, "in Work")])];
        let world = assert_subjects(&pair.new, &expected);
        assert_eq!(flags(&world, "INBOX", 2), ["\\Deleted", "\\Flagged"]);

        // Another filter: what came by the first one goes on being followed.
        let mut old = client(&pair.old, "u1");
        old.select("INBOX");
        old.ok("UID STORE 2 -FLAGS.SILENT (\\Flagged)");
        old.append("INBOX", "", NOW, &mail("not taken"));
        old.ok("LOGOUT");
        merge_by(&ferry, &pair, &["--mailbox", "Other", "--since", "2026-11-01"]);
        let expected = [&expected[..], &[("Other", &[(1, "in Other"), (2, "more")])]].concat();
        let world = assert_subjects(&pair.new, &expected);
        assert_eq!(flags(&world, "INBOX", 2), ["\\Deleted"]);
    }
}
