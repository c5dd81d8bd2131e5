//! What must be refused before anything is written, and what a postmaster reads then.

use std::process::Output;
use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, sync};
use crate::lab::imap::{lossy, mailbox_name};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, nasty};
use crate::resume::Running;

fn log_in(server: &Dovecot, user: &str) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login(user, server.password(user));
    imap
}

/// All that a client sees of an account but the octets: names, subscriptions, what STATUS says, UIDs. Whether there is mail
/// that came after the last look is not of the account; a Maildir tells it, once it has been looked at.
fn everything(server: &Dovecot, user: &str) -> Vec<String> {
    let mut imap = log_in(server, user);
    // The first look makes INBOX; that is not what this is about.
    imap.select("INBOX");
    let mut seen: Vec<String> = Vec::new();
    for command in ["LIST \"\" *", "LIST (SUBSCRIBED) \"\" *"] {
        seen.extend(imap.ok(command).iter().map(|line| lossy(line)));
    }
    let items = "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)";
    seen.extend(imap.ok(&format!("LIST \"\" * RETURN (STATUS {items})")).iter().map(|line| lossy(line)));
    for line in &mut seen {
        *line = line
            .replace(" \\Marked", "")
            .replace(" \\UnMarked", "")
            .replace("(\\Marked)", "()")
            .replace("(\\UnMarked)", "()");
    }
    seen.sort();
    imap.ok("LOGOUT");
    seen
}

/// A sync that must be refused, with every word of `words` in what it says, and without a trace on the new side.
fn refused(ferry: &Ferry, new: &Dovecot, user: &str, words: &[&str]) {
    let before = everything(new, user);
    let file = ferry.password_file(new.password(user));
    let output = ferry.run(&["sync", user, "--password-file", &file]);
    said(&output, 1, words);
    assert_eq!(everything(new, user), before, "{}", shown(&output));
}

fn said(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", shown(output));
    let text = lossy(&output.stderr);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {}", shown(output));
    }
    assert!(text.starts_with("mailferry: ") && text.lines().count() == 1, "{}", shown(output));
}

#[test]
fn a_name_that_the_new_side_would_alter_is_named_and_nothing_is_written() {
    let users: Vec<String> = (0..nasty::REFUSED.len()).map(|number| format!("n{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let new = Dovecot::start(Spec::new_side(&users));
    for (case, user) in nasty::REFUSED.iter().zip(users) {
        let old = Dovecot::start(Spec { extra: case.extra.to_owned(), ..Spec::old(&[user]) });
        nasty::refused(&old, user, case);
        let ferry = Ferry::prepare(FerrySpec::between(&old, &new));
        refused(&ferry, &new, user, &[&format!("`{}`", case.name), "rename it on the old side"]);
    }
}

#[test]
fn an_account_that_holds_anything_not_ours_is_refused_and_stays_as_it_is() {
    type Fill = fn(&mut Imap);
    let cases: [(&str, Fill, &[&str]); 5] = [
        (
            "a message in INBOX",
            |imap| {
                imap.append("INBOX", "", "", b"Subject: already here\r\n\r\n");
            },
            &["`INBOX` on the new side holds 1 message"],
        ),
        (
            "a message in a mailbox that both sides have",
            |imap| {
                imap.ok("CREATE Sent");
                imap.append("Sent", "", "", b"Subject: already here\r\n\r\n");
            },
            &["`Sent` on the new side holds 1 message"],
        ),
        (
            "a message in a mailbox that only the new side has",
            |imap| {
                let name = "Nur drüben";
                imap.ok(&format!("CREATE {}", mailbox_name(name)));
                imap.append(name, "", "", b"Subject: already here\r\n\r\n");
            },
            &["`Nur drüben` on the new side holds 1 message"],
        ),
        (
            "mail that was deleted again",
            |imap| {
                imap.append("INBOX", "\\Deleted", "", b"Subject: already gone\r\n\r\n");
                imap.select("INBOX");
                imap.ok("EXPUNGE");
            },
            &["`INBOX` on the new side is empty but has had mail of its own", "UIDNEXT 2"],
        ),
        ("an empty INBOX and an empty mailbox that nobody has used", |imap| drop(imap.ok("CREATE Sent")), &[]),
    ];
    let users: Vec<String> = (0..cases.len()).map(|number| format!("f{number}")).collect();
    let pair = Pair::start(&users.iter().map(String::as_str).collect::<Vec<_>>());
    let ferry = pair.ferry();
    for ((what, fill, words), user) in cases.iter().zip(&users) {
        let account = nasty::small(&pair.old, user);
        fill(&mut log_in(&pair.new, user));
        if words.is_empty() {
            everything(&pair.new, user);
            sync(&ferry, &pair, user);
            assert_equal_everywhere(&ferry, &pair, &account);
        } else {
            eprintln!("{what}");
            refused(&ferry, &pair.new, user, words);
        }
    }
}

#[test]
fn a_delivery_to_the_new_side_stops_the_copy_and_is_kept() {
    let pair = Pair::start(&["u1", "u2"]);
    let ferry = pair.ferry();
    for (user, mailbox) in [("u1", "INBOX"), ("u2", "Projekte/Größe")] {
        nasty::small(&pair.old, user);
        sync(&ferry, &pair, user);
        let uid = log_in(&pair.new, user).append(mailbox, "", "", b"Subject: too early\r\n\r\nhere\r\n").unwrap();
        for _ in 0..2 {
            refused(&ferry, &pair.new, user, &[&format!("`{mailbox}`"), &format!("UIDNEXT {}", uid + 1), "deliveries"]);
            let mut imap = log_in(&pair.new, user);
            imap.select(mailbox);
            assert_eq!(imap.body(uid).unwrap(), b"Subject: too early\r\n\r\nhere\r\n");
        }
        // Even when the old side has used the UID for another message meanwhile, and when that one is gone again.
        let mut old = log_in(&pair.old, user);
        assert_eq!(old.append(mailbox, "", "", b"Subject: the real one\r\n\r\n"), Some(uid));
        for gone in [false, true] {
            if gone {
                old.select(mailbox);
                old.ok(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
                old.ok("EXPUNGE");
            }
            refused(&ferry, &pair.new, user, &[&format!("`{mailbox}`"), "mail of its own"]);
            let mut imap = log_in(&pair.new, user);
            imap.select(mailbox);
            assert_eq!(imap.body(uid).unwrap(), b"Subject: too early\r\n\r\nhere\r\n");
        }
    }
}

/// How often a server has refused a password.
fn failed_logins(server: &Dovecot) -> usize {
    server.log().lines().filter(|line| line.contains("imap-login") && line.contains("(auth failed, 1 attempts")).count()
}

#[test]
fn a_wrong_password_is_tried_once() {
    let hasty = || "auth_failure_delay = 0\n".to_owned();
    let old = Dovecot::start(Spec { extra: hasty(), ..Spec::old(&["u1", "u2"]) });
    let mut new = Dovecot::start(Spec { extra: hasty(), ..Spec::new_side(&["u1", "u2"]) });
    new.add_user("u2", "another");
    let ferry = Ferry::prepare(FerrySpec::between(&old, &new));
    let mut tried = (0, 0);
    // Right nowhere; right only on the new side.
    for (user, password, side, once) in [("u1", "wrong", "new", (0, 1)), ("u2", "another", "old", (1, 0))] {
        let output = ferry.run(&["sync", user, "--password-file", &ferry.password_file(password)]);
        let server = if side == "old" { &old } else { &new };
        said(&output, 1, &[&format!("{side} side 127.0.0.1:{}", server.imap_port()), "refuses the login", user]);
        tried = (tried.0 + once.0, tried.1 + once.1);
        assert_eq!((failed_logins(&old), failed_logins(&new)), tried, "{}", shown(&output));
    }
}

#[test]
fn a_new_side_that_can_not_be_written_is_named_with_what_to_do() {
    unwritable(Spec::new_side);
}

/// A new side that can't be written, of the kind that `new` says.
pub(crate) fn unwritable(new: impl Fn(&[&str]) -> Spec) {
    let old = Dovecot::start(Spec::old(&["u1"]));
    let account = nasty::small(&old, "u1");
    let forbidding = "doveadm_allowed_commands = who\n".to_owned();
    let mut new = Dovecot::start(Spec { extra: forbidding, ..new(&["u1"]) });
    let run = |ferry: &Ferry| ferry.run(&["sync", "u1", "--password-file", &ferry.password_file(old.password("u1"))]);
    let doveadm = format!("doveadm://127.0.0.1:{}", new.doveadm_port());

    let ferry = Ferry::prepare(FerrySpec::between(&old, &new));
    said(&run(&ferry), 75, &[&doveadm, "doveadm_allowed_commands", "dsync-server"]);

    std::fs::write(ferry.dir().join("doveadm.secret"), "wrong").unwrap();
    said(&run(&ferry), 75, &[&doveadm, "password was refused", "doveadm_password"]);

    let nowhere = format!("doveadm://127.0.0.1:{}", ferry.admin());
    let other = Ferry::prepare(FerrySpec { doveadm: Some(nowhere.clone()), ..FerrySpec::between(&old, &new) });
    said(&run(&other), 75, &[&nowhere, "can't connect"]);

    let imap_instead = format!("doveadm://127.0.0.1:{}", new.imap_port());
    let other = Ferry::prepare(FerrySpec { doveadm: Some(imap_instead.clone()), ..FerrySpec::between(&old, &new) });
    said(&run(&other), 75, &[&imap_instead, "not a doveadm service", "check that the port"]);

    new.kill9();
    let imap = format!("127.0.0.1:{}", new.imap_port());
    said(&run(&ferry), 75, &["new side", &imap, "can't connect"]);
    // Nothing of all that has left anything behind that would be in the way.
    let config = std::fs::read_to_string(new.config_path()).unwrap();
    std::fs::write(new.config_path(), config.replace("= who\n", "= dsync-server\n")).unwrap();
    new.start_again();
    std::fs::write(ferry.dir().join("doveadm.secret"), new.doveadm_password()).unwrap();
    let pair = Pair { old, new };
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}

#[test]
fn another_separator_is_refused() {
    let old = Dovecot::start(Spec::old(&["u1"]));
    let new = Dovecot::start(Spec { separator: '.', ..Spec::new_side(&["u1"]) });
    nasty::small(&old, "u1");
    let ferry = Ferry::prepare(FerrySpec::between(&old, &new));
    refused(&ferry, &new, "u1", &["separator", "'/' on the old side", "'.' on the new side", "set `separator`"]);
}

#[test]
fn two_runs_never_work_on_one_user_and_a_dead_one_is_no_obstacle() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::bulk(&pair.old, "u1", 1500, 2000);
    let ferry = pair.ferry();
    let mut first = Running::start(&ferry, &pair, "u1");
    first.until(&pair, &account, 10);
    first.signal("STOP");

    let second = on_user(&ferry, &pair, &["sync"], "u1");
    said(&second, 1, &["works on u1", &format!("process {}", first.id())]);

    first.signal("KILL");
    sync(&ferry, &pair, "u1");
    drop(first);
    assert_equal_everywhere(&ferry, &pair, &account);
}

/// A machine that slept is no obstacle either, and when it wakes up it finds that it has lost its place.
#[test]
fn a_run_that_has_lost_its_lease_stops() {
    let pair = Pair::start(&["u1"]);
    let account = nasty::bulk(&pair.old, "u1", 3000, 2000);
    let ferry = pair.ferry();
    let mut first = Running::start(&ferry, &pair, "u1");
    first.until(&pair, &account, 10);
    first.signal("STOP");
    let store = mailferry::store::Store::open(&ferry.store_path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.take_lease("u1", "elsewhere 1 1", 600, |_| true)).unwrap();
    // Until it is due for renewal.
    std::thread::sleep(Duration::from_secs(11));
    first.signal("CONT");
    said(&first.output(), 75, &["the lease on this user was lost"]);
    said(&on_user(&ferry, &pair, &["sync"], "u1"), 1, &["works on u1"]);
}
