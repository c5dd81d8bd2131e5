//! What `check --new-config` prints, in a real server of that release which has nothing of it: the server starts with it,
//! `check --doveconf` has nothing more to say, and a user goes the whole way.

use std::fs;
use std::process::Output;

use crate::copy::{Pair, shown};
use crate::formats::whole_way;
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Release, Spec, World, trixie};
use crate::uidl::maildrop;

/// Plugins that work for each message that is saved; one of them says so in the log.
fn plugins(release: Release) -> String {
    match release {
        Release::V23 => "mail_plugins = quota notify mail_log\nplugin {\n  mail_log_events = save\n}\n",
        Release::V24 => "mail_plugins {\n  quota = yes\n  notify = yes\n  mail_log = yes\n}\nmail_log_events = save\n",
    }
    .to_owned()
}

/// What `check` says of what this server's `doveconf -n` prints.
fn looked_over(ferry: &Ferry, server: &Dovecot) -> Output {
    let file = ferry.dir().join("doveconf");
    fs::write(&file, server.doveconf()).unwrap();
    ferry.run(&["check", "--doveconf", file.to_str().unwrap()])
}

fn assert_named(output: &Output, words: &[&str]) {
    let said = shown(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
}

/// A new side as it was installed, and made ready by what is printed for it.
fn made_ready(release: Release, option: &str) -> Pair {
    let old = Dovecot::start(Spec::old(&["u1"]));
    let bare = Spec { release, format: Format::Mdbox, bare: true, extra: plugins(release), ..Spec::old(&["u1"]) };
    let mut new = Dovecot::start(bare);
    let ferry = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&old, &new) });
    let listener = format!("service doveadm has no inet_listener with port = {}", new.doveadm_port());
    let missing = [
        "new doveadm    FAILED",
        "mail_plugins holds quota, notify, mail_log for doveadm",
        "doveadm_allowed_commands is not set",
        "doveadm_password is not set",
        &listener,
        "login_trusted_networks does not hold 127.0.0.1",
        "service imap { process_limit = 1024 }",
        "service pop3 { process_limit = 1024 }",
    ];
    assert_named(&looked_over(&ferry, &new), &missing);

    let printed = ferry.run_ok(&["check", option]);
    assert!(printed.contains("login_trusted_networks = 127.0.0.1\n"), "{printed}");
    new.configure(&printed.replace("PASSWORD", new.doveadm_password()));
    let output = looked_over(&ferry, &new);
    let said = shown(&output);
    assert!(output.status.success() && said.contains("new host       nothing to change"), "{said}");
    Pair { old, new }
}

fn a_user_is_moved(release: Release, option: &str) {
    let pair = made_ready(release, option);
    whole_way(&pair);
    // A message that came last, to the new side: its UIDL is of the form that was printed.
    let inbox = &World::of(&pair.new, "u1").mailboxes["INBOX"];
    let (uid, validity) = (inbox.mails.keys().last().unwrap(), inbox.uid_validity.unwrap());
    let last = maildrop::shown(&pair.new, "u1").pop().unwrap().0;
    assert_eq!(last, format!("{uid:08x}{validity:08x}"));
    // And it is the only one that plugins have seen.
    let log = pair.new.log();
    let saved: Vec<&str> = log.lines().filter(|line| line.contains(": save: ")).collect();
    assert!(matches!(saved[..], [line] if line.contains("lmtp(")), "{saved:#?}");
}

/// A session inside TLS keeps its login process: a host that has few of them is named, and takes all once it has the lines.
fn sessions_over_tls(release: Release, option: &str) {
    const FEW: usize = 4;
    let old = Dovecot::start(Spec::old(&["u1"]));
    let extra = format!("default_process_limit = {FEW}\n");
    let mut new = Dovecot::start(Spec { release, format: Format::Mdbox, bare: true, extra, ..Spec::old(&["u1"]) });
    let ferry = Ferry::prepare(FerrySpec {
        new_imap: Some(format!("imaps://127.0.0.1:{}", new.imaps_port())),
        extra: vec![("limits", "connections = 500")],
        ..FerrySpec::between(&old, &new)
    });
    let few = format!("service imap-login: {FEW} processes with 1 sessions each");
    assert_named(&looked_over(&ferry, &new), &[&few]);
    new.configure(&ferry.run_ok(&["check", option]).replace("PASSWORD", new.doveadm_password()));
    let sessions: Vec<Imap> = (0..3 * FEW)
        .map(|_| {
            let mut imap = Imap::connect_tls(new.imaps_port(), &new.tls().ca);
            imap.login("u1", new.password("u1"));
            imap
        })
        .collect();
    for mut imap in sessions {
        imap.ok("NOOP");
    }
    let said = shown(&looked_over(&ferry, &new));
    assert!(said.contains("new host       nothing to change"), "{said}");
}

/// Without fsync for clients and senders, and then for the mover alone.
fn fsync_is_asked_for(release: Release) {
    let new = Spec { release, format: Format::Mdbox, ..Spec::old(&["u1"]) };
    let mut pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) };
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    assert_named(&looked_over(&ferry, &pair.new), &["mail_fsync = never at the top"]);
    pair.new.configure("mail_fsync = optimized\nprotocol lmtp {\n  mail_fsync = never\n}\n");
    let output = looked_over(&ferry, &pair.new);
    assert_named(&output, &["mail_fsync = never in `protocol lmtp`"]);
    assert!(!shown(&output).contains("at the top"), "{}", shown(&output));
    pair.new.configure("protocol lmtp {\n  mail_fsync = always\n}\n");
    let said = shown(&looked_over(&ferry, &pair.new));
    assert!(said.contains("to change:") && !said.contains("mail_fsync"), "{said}");
}

#[test]
fn a_user_is_moved_to_a_dovecot_23_that_has_what_is_printed() {
    a_user_is_moved(Release::V23, "--new-config");
}

#[test]
fn a_user_is_moved_to_a_dovecot_24_that_has_what_is_printed() {
    if trixie::is_here() {
        a_user_is_moved(Release::V24, "--new-config=2.4");
    }
}

#[test]
fn a_dovecot_23_that_has_what_is_printed_takes_many_sessions_over_tls() {
    sessions_over_tls(Release::V23, "--new-config=2.3");
}

#[test]
fn a_dovecot_24_that_has_what_is_printed_takes_many_sessions_over_tls() {
    if trixie::is_here() {
        sessions_over_tls(Release::V24, "--new-config=2.4");
    }
}

#[test]
fn mail_of_clients_without_fsync_is_named_on_a_dovecot_23() {
    fsync_is_asked_for(Release::V23);
}

#[test]
fn mail_of_clients_without_fsync_is_named_on_a_dovecot_24() {
    if trixie::is_here() {
        fsync_is_asked_for(Release::V24);
    }
}

#[test]
fn a_release_that_is_not_known_is_a_wrong_command() {
    let pair = Pair::start(&["u1"]);
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    for wrong in [&["--new-config=2.2"][..], &["--new-config="], &["--new-config", "2.4"]] {
        let output = ferry.run(&[&["check"][..], wrong].concat());
        let said = shown(&output);
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{wrong:?}: {said}");
    }
    let said = shown(&ferry.run(&["check", "--new-config=2.2"]));
    assert!(said.contains("2.3 and 2.4 are known"), "{said}");
    assert_eq!(ferry.run_ok(&["check", "--new-config"]), ferry.run_ok(&["check", "--new-config=2.3"]));
}

#[test]
fn what_is_no_configuration_of_a_dovecot_is_refused() {
    let pair = Pair::start(&["u1"]);
    let nonsense =
        Ferry::prepare(FerrySpec::between(&pair.old, &pair.new)).run(&["check", "--doveconf", "/etc/passwd"]);
    assert!(nonsense.status.code() == Some(2) && shown(&nonsense).contains("doveconf -n"), "{}", shown(&nonsense));
}
