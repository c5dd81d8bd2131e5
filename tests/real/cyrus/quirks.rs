//! What only a Cyrus does.

use super::*;
use crate::lab::imap::lossy;

fn start(names: Names, users: &[&str], extra: &str) -> Sides {
    Sides::start(CyrusSpec { extra: extra.to_owned(), ..CyrusSpec::with(names, users) }, Format::Mdbox)
}

/// The findings of a report of one rule: class, and what the old side has.
fn of_rule(report: &Value, rule: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == rule);
    found.map(|finding| (text(&finding["class"]), text(&finding["old"]))).collect()
}

#[test]
fn from_cyrus_folders_of_others_are_told_and_not_moved() {
    if !cyrus::is_here() {
        return;
    }
    for (names, given, news) in [
        (Names::Dots, "user.u2.Given", "news"),
        (Names::Slashes, "user/u2/Given", "news"),
        (Names::AltDots, "Other Users.u2.Given", "Shared Folders.news"),
        (Names::AltSlashes, "Other Users/u2/Given", "Shared Folders/news"),
    ] {
        let sides = start(names, &["u1", "u2"], "");
        fill(&sides.old, "u1");
        let mut admin = sides.old.admin();
        admin.ok("CREATE news");
        admin.ok("SETACL news anyone lrs");
        let mut other = sides.old.log_in("u2");
        let theirs = sides.spell("Given");
        other.ok(&format!("CREATE {theirs}"));
        other.append(&theirs, "", "", &letter("theirs", 5));
        other.ok(&format!("SETACL {theirs} u1 lrs"));
        let mut imap = sides.old.log_in("u1");
        imap.ok(&format!("SUBSCRIBE \"{news}\""));
        assert_eq!(imap.select(given).exists, 1);
        imap.ok("LOGOUT");

        let ferry = Ferry::prepare(sides.spec());
        let check = sides.on_user(&ferry, &["check"], "u1");
        assert!(check.status.success(), "{}", shown(&check));
        let told = {
            let mut both = [given, news];
            both.sort_unstable();
            format!("2 mailboxes of others (1 subscribed): {}", both.join(", "))
        };
        let row = shown(&check).lines().find(|line| line.contains("  shared ")).map(str::to_owned);
        assert!(row.is_some_and(|row| row.contains(&format!("{told}; they are not moved"))), "{}", shown(&check));
        sides.sync(&ferry, "u1");
        let report = sides.verify(&ferry, "u1");
        assert_eq!(of_rule(&report, "shared"), [("note".to_owned(), told)], "{report:#}");
        let [old, new] = sides.worlds("u1");
        assert_eq!(old.count(), new.count() + 1);
        assert!(!new.mailboxes.contains_key(given) && !new.mailboxes.contains_key(news));
    }
}

/// The lines that the server was told. A record has `<TIME<` before what was told and `>TIME>` before what was said.
fn told(recorded: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut client = false;
    for line in recorded.lines() {
        let mut text = line;
        for mark in ['<', '>'] {
            if let Some((time, rest)) = line.strip_prefix(mark).and_then(|rest| rest.split_once(mark))
                && !time.is_empty()
                && time.bytes().all(|digit| digit.is_ascii_digit())
            {
                client = mark == '<';
                text = rest;
            }
        }
        if client && !text.trim().is_empty() {
            lines.push(text);
        }
    }
    lines
}

#[test]
fn from_cyrus_nothing_is_written_and_nothing_loses_recent() {
    if !cyrus::is_here() {
        return;
    }
    let sides = start(Names::Dots, &["u1"], "");
    fill(&sides.old, "u1");
    for number in 0..3 {
        deliver(&sides.old, "u1", format!("Subject: recent {number}\n\nx\n").as_bytes());
    }
    sides.old.record("u1");
    let ferry = Ferry::prepare(sides.spec());
    sides.sync(&ferry, "u1");
    sides.verify(&ferry, "u1");
    sides.sync(&ferry, "u1");
    let recorded = sides.old.recorded("u1");
    let allowed = [
        "CAPABILITY",
        "ID",
        "NAMESPACE",
        "LIST",
        "LSUB",
        "STATUS",
        "MYRIGHTS",
        "GETACL",
        "EXAMINE",
        "UNSELECT",
        "LOGOUT",
        "UIDL",
        "CAPA",
        "TOP",
        "QUIT",
    ];
    let mut seen = std::collections::BTreeSet::new();
    for line in told(&recorded) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // POP3 has no tags.
        let is_pop3 = allowed.contains(&words[0]);
        let (verb, rest) = if is_pop3 { (words[0], &words[1..]) } else { (words[1], &words[2..]) };
        let fine = match verb {
            "UID" => rest[0] == "SEARCH" || rest[0] == "FETCH" && !line.replace("BODY.PEEK[", "").contains("BODY["),
            verb => allowed.contains(&verb),
        };
        assert!(fine, "the old side was told: {line}");
        seen.insert(verb.to_owned());
    }
    for verb in ["EXAMINE", "STATUS", "UID", "UIDL", "LIST"] {
        assert!(seen.contains(verb), "{seen:?}\n{recorded}");
    }
    let recent =
        sides.old.log_in("u1").ok("SELECT INBOX").iter().map(|line| lossy(line)).find(|line| line.contains(" RECENT"));
    assert_eq!(recent.as_deref(), Some("* 3 RECENT"));
}

#[test]
fn from_cyrus_another_uidl_format_after_the_copy_is_found_and_rebuilt() {
    if !cyrus::is_here() {
        return;
    }
    let mut old = CyrusSpec::with(Names::AltSlashes, &["u1"]);
    old.uidl_format = "uidonly";
    let mut sides = Sides::start(old, Format::Mdbox);
    fill(&sides.old, "u1");
    let ferry = Ferry::prepare(sides.spec());
    sides.sync(&ferry, "u1");
    assert_eq!(maildrop::shown(&sides.new, "u1"), maildrop::shown(&sides.old, "u1"));
    sides.old.reconfigure("uidl_format: cyrus\n");
    deliver(&sides.old, "u1", b"Subject: after the change\n\nx\n");
    sides.sync(&ferry, "u1");
    let output = sides.on_user(&ferry, &["verify", "--json"], "u1");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), of_rule(&report, "uidl").len()), (Some(1), 9), "{report:#}");
    let rebuilt = sides.on_user(&ferry, &["sync", "--rebuild", "INBOX"], "u1");
    assert!(rebuilt.status.success(), "{}", shown(&rebuilt));
    sides.verify(&ferry, "u1");
    assert_eq!(maildrop::shown(&sides.new, "u1"), maildrop::shown(&sides.old, "u1"));
}

#[test]
fn from_cyrus_a_limit_of_connections_is_no_wrong_password() {
    if !cyrus::is_here() {
        return;
    }
    let sides = start(Names::AltSlashes, &["u1"], "maxlogins_per_user: 2\n");
    fill(&sides.old, "u1");
    let ferry = Ferry::start(sides.spec());
    // (It takes two to read a user's mail: IMAP and POP3.)
    let mut session = Imap::connect(ferry.imap());
    let mut direct = sides.old.log_in("u1");
    session.login("u1", sides.old.password("u1"));
    let status = ferry.wait_status("u1", LONG, |status| status["reason"].is_string());
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("not now: ") && reason.contains("Too many open connections"), "{reason}");
    // Nobody has to log in again: it goes on when there is room.
    session.ok("LOGOUT");
    direct.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
}

#[test]
fn from_cyrus_a_message_whose_file_is_gone_or_empty_keeps_the_user_where_they_are() {
    if !cyrus::is_here() {
        return;
    }
    for empty in [false, true] {
        let sides = start(Names::AltSlashes, &["u1"], "");
        fill(&sides.old, "u1");
        let file = sides.old.message_file("u1", 7);
        if empty {
            std::fs::write(&file, "").unwrap();
        } else {
            std::fs::remove_file(&file).unwrap();
        }
        let ferry = Ferry::prepare(sides.spec());
        let output = sides.on_user(&ferry, &["sync"], "u1");
        let said = shown(&output);
        assert!(!output.status.success() && said.contains("UID 7"), "{said}");
        let verified = sides.on_user(&ferry, &["verify", "--json"], "u1");
        assert_eq!(verified.status.code(), Some(1), "{}", shown(&verified));
        // Nothing was made up for it.
        let new = World::of(&sides.new, "u1");
        assert!(new.mailboxes["INBOX"].mails.keys().all(|uid| *uid < 7), "{said}");
        assert_eq!(new.mailboxes["Work"].mails.len(), 1);
    }
}

#[test]
fn from_cyrus_a_new_side_without_the_prefix_is_refused_and_told_what_to_set() {
    if !cyrus::is_here() {
        return;
    }
    let sides = Sides {
        old: Cyrus::start(CyrusSpec::with(Names::Dots, &["u1"])),
        new: Dovecot::start(new_side(Names::AltDots, Format::Mdbox, &["u1"])),
    };
    fill(&sides.old, "u1");
    let ferry = Ferry::prepare(sides.spec());
    let output = sides.on_user(&ferry, &["sync"], "u1");
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("set `prefix = INBOX.`"), "{}", shown(&output));
    let check = shown(&sides.on_user(&ferry, &["check"], "u1"));
    assert!(check.contains("set `prefix = INBOX.`"), "{check}");
}

#[test]
fn from_cyrus_special_use_is_compared_where_a_user_has_set_it() {
    if !cyrus::is_here() {
        return;
    }
    for names in [Names::Dots, Names::AltSlashes] {
        let sides = start(names, &["u1", "u2"], "");
        for (user, mailbox, code) in [("u1", "Sent", 0), ("u2", "Archiv", 1)] {
            let attribute = if mailbox == "Sent" { "\\Sent" } else { "\\Archive" };
            let mut imap = sides.old.log_in(user);
            imap.ok(&format!("CREATE {} (USE ({attribute}))", sides.spell(mailbox)));
            imap.append(&sides.spell(mailbox), "", "", &letter("kept", 4));
            let ferry = Ferry::prepare(sides.spec());
            sides.sync(&ferry, user);
            let output = sides.on_user(&ferry, &["verify", "--json"], user);
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(code), "{report:#}");
            let found = of_rule(&report, "special-use");
            let wanted = [("difference".to_owned(), attribute.to_ascii_lowercase())];
            assert_eq!(found, if code == 0 { &[][..] } else { &wanted[..] }, "{report:#}");
        }
    }
}

#[test]
fn from_cyrus_over_tls_and_with_a_dot_in_the_users_name() {
    if !cyrus::is_here() {
        return;
    }
    let sides = start(Names::Dots, &["anna.b"], "");
    fill(&sides.old, "anna.b");
    let ferry = Ferry::prepare(FerrySpec {
        old_imap: Some(format!("imaps://localhost:{}", sides.old.imaps_port())),
        old_pop3: Some(format!("pop3s://localhost:{}", sides.old.pop3s_port())),
        ..sides.spec()
    });
    sides.sync(&ferry, "anna.b");
    let report = sides.verify(&ferry, "anna.b");
    assert!(report["pop3"].as_str().unwrap().starts_with("8 UIDLs identical"), "{report:#}");
}

/// Debian's own configuration has this: our login may use up the one that the user has in a minute, and the other way round.
#[test]
fn from_cyrus_a_pop3_login_that_comes_too_soon_is_no_wrong_password() {
    if !cyrus::is_here() {
        return;
    }
    let sides = start(Names::AltSlashes, &["u1"], "popminpoll: 1\n");
    fill(&sides.old, "u1");
    let ferry = Ferry::prepare(sides.spec());
    sides.sync(&ferry, "u1");
    let output = sides.on_user(&ferry, &["verify"], "u1");
    assert_eq!(output.status.code(), Some(75), "{}", shown(&output));
    assert!(shown(&output).contains("[LOGIN-DELAY]"), "{}", shown(&output));
}

#[test]
fn from_cyrus_check_tells_the_brand_its_quirks_and_how_names_look() {
    if !cyrus::is_here() {
        return;
    }
    for (names, looks) in [
        (Names::Dots, "separator '.', prefix \"INBOX.\" on both sides"),
        (Names::Slashes, "separator '/', prefix \"INBOX/\" on both sides"),
        (Names::AltDots, "separator '.', no prefix on both sides"),
        (Names::AltSlashes, "separator '/', no prefix on both sides"),
    ] {
        let sides = start(names, &["u1"], "");
        fill(&sides.old, "u1");
        let ferry = Ferry::prepare(sides.spec());
        let said = shown(&sides.on_user(&ferry, &["check"], "u1"));
        for word in ["it is Cyrus", "unixhierarchysep", "popminpoll", "uidl_format", "Cyrus can't be told", looks] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said.contains("8 UIDLs, template %v.%u, in the order of the UIDs"), "{said}");
    }
}

/// With `popuseimapflags` POP3 hides what is \Deleted.
#[test]
fn from_cyrus_mail_that_pop3_hides_keeps_the_user_until_it_is_expunged() {
    if !cyrus::is_here() {
        return;
    }
    let sides = start(Names::AltSlashes, &["u1"], "popuseimapflags: yes\n");
    fill(&sides.old, "u1");
    let mut imap = sides.old.log_in("u1");
    imap.select("INBOX");
    imap.ok("UID STORE 7,9 +FLAGS (\\Deleted)");
    imap.ok("UNSELECT");
    assert_eq!(maildrop::shown(&sides.old, "u1").len(), 6);
    let ferry = Ferry::prepare(sides.spec());
    sides.sync(&ferry, "u1");
    let output = sides.on_user(&ferry, &["verify"], "u1");
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("POP3 does not show UID 7, 9 of INBOX"), "{}", shown(&output));
    imap.select("INBOX");
    imap.ok("EXPUNGE");
    // The others were copied with their UIDLs.
    sides.sync(&ferry, "u1");
    sides.verify(&ferry, "u1");
    assert_eq!(maildrop::shown(&sides.old, "u1"), maildrop::shown(&sides.new, "u1"));
}
