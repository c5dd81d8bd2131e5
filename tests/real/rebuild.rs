//! A spoilt copy is made anew: by `mailferry sync --rebuild`, in every storage format, and only where all of it is ours. What
//! can't be done from outside (INBOX of a Maildir) is told as the command that does it, and the command does it.

use std::time::Duration;

use crate::copy::{Pair, on_user, shown, sync, verify};
use crate::damage::files::replace;
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Release, Spec, nasty, trixie};

const LONG: Duration = Duration::from_secs(120);

fn pair(release: Release, format: Format) -> Pair {
    let new = Spec { release, format, own_uidls: format != Format::Sdbox, ..Spec::new_side(&["u1"]) };
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) }
}

/// The rules that a verification finds broken.
fn broken(ferry: &Ferry, pair: &Pair) -> Vec<String> {
    let (report, _) = verify(ferry, pair, "u1", "all");
    let line = |found: &serde_json::Value| format!("{} {}", found["rule"], found["mailbox"]).replace('"', "");
    report["findings"].as_array().unwrap().iter().map(line).collect()
}

fn rebuild(ferry: &Ferry, pair: &Pair, mailbox: &str) -> std::process::Output {
    on_user(ferry, pair, &["sync", "--rebuild", mailbox], "u1")
}

fn rebuilt(release: Release, format: Format) {
    let pair = pair(release, format);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    sync(&ferry, &pair, "u1");
    assert!(broken(&ferry, &pair).is_empty());
    let mail = pair.new.mail_dir("u1");
    for (mailbox, from, to) in [
        ("Sent", "Subject: Sent 2", "Subject: Sant 2"),
        ("Projekte/Größe", "This is message 8:", "This is massage 8:"),
        ("INBOX", "This is message 5:", "This is massage 5:"),
    ] {
        replace(&mail, from, to);
        sync(&ferry, &pair, "u1");
        assert_eq!(broken(&ferry, &pair), [format!("body {mailbox}")], "nothing else mends it");
        let output = rebuild(&ferry, &pair, mailbox);
        if mailbox == "INBOX" && format == Format::Maildir {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
            run_what_is_told(&pair.new, &said);
            let again = rebuild(&ferry, &pair, mailbox);
            assert!(again.status.success(), "{}", shown(&again));
        } else {
            assert!(output.status.success(), "{mailbox}: {}", shown(&output));
        }
        let left = broken(&ferry, &pair);
        assert!(left.is_empty(), "{mailbox}: {left:?}");
    }
    let missing = rebuild(&ferry, &pair, "Nowhere");
    assert!(missing.status.code() == Some(1) && shown(&missing).contains("`Nowhere`"), "{}", shown(&missing));

    // What isn't ours stays, and with it everything else.
    let mut imap = Imap::connect(pair.new.imap_port());
    imap.login("u1", pair.new.password("u1"));
    imap.append("Sent", "", "17-Jul-1996 02:44:25 -0700", b"Subject: not ours\r\n\r\nmail\r\n");
    for mailbox in ["Sent", "INBOX"] {
        let refused = rebuild(&ferry, &pair, mailbox);
        assert!(refused.status.code() == Some(1) && shown(&refused).contains("mail of its own"), "{}", shown(&refused));
    }
    assert_eq!((imap.select("Sent").exists, imap.select("INBOX").exists), (4, 5));
}

/// Runs the command between backquotes on the host of the new side, as its administrator would.
pub(crate) fn run_what_is_told(new: &Dovecot, said: &str) {
    let command = said.split('`').find(|part| part.starts_with("doveadm ")).unwrap_or_else(|| panic!("{said}"));
    let output = new.on_its_host(command);
    assert!(output.status.success(), "{command}: {}", shown(&output));
}

#[test]
fn a_spoilt_copy_in_a_maildir_is_made_anew() {
    rebuilt(Release::V23, Format::Maildir);
}

#[test]
fn a_spoilt_copy_in_an_mdbox_is_made_anew() {
    rebuilt(Release::V23, Format::Mdbox);
}

#[test]
fn a_spoilt_copy_in_an_sdbox_is_made_anew() {
    rebuilt(Release::V23, Format::Sdbox);
}

#[test]
fn on_dovecot_24_a_spoilt_copy_is_made_anew() {
    if trixie::is_here() {
        rebuilt(Release::V24, Format::Maildir);
        rebuilt(Release::V24, Format::Mdbox);
    }
}

#[test]
fn a_user_whose_inbox_can_not_be_made_anew_is_held_with_the_command_that_helps() {
    for format in [Format::Maildir, Format::Mdbox] {
        let pair = pair(Release::V23, format);
        nasty::small(&pair.old, "u1");
        let ferry = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
        let log_in = || {
            let mut imap = Imap::connect(ferry.imap());
            imap.login("u1", pair.old.password("u1"));
            imap
        };
        let mut session = log_in();
        ferry.wait_phase("u1", "following", LONG);
        session.ok("LOGOUT");
        // INBOX is another one on the old side now, with the same mail.
        pair.old.doveadm_ok(&["mailbox", "update", "-u", "u1", "--uid-validity", "1700000000", "INBOX"]);
        let mut session = log_in();
        session.append("INBOX", "", "17-Jul-1996 02:44:25 -0700", b"Subject: after\r\n\r\nmail\r\n");
        let status = ferry.wait_phase("u1", "held", LONG);
        assert_eq!(status["authority"], "old");
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("`INBOX`") && reason.contains("UIDVALIDITY"), "{reason}");
        session.ok("LOGOUT");
        run_what_is_told(&pair.new, reason);
        ferry.run_ok(&["resume", "u1"]);
        log_in().ok("LOGOUT");
        ferry.wait_phase("u1", "following", LONG);
        ferry.run_ok(&["switch", "u1"]);
        let (report, code) = verify(&ferry, &pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    }
}
