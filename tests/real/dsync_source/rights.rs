//! What a reader may: nothing on the old side is another one afterwards, and no user's password is needed for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{LONG, by_dsync, fill, old_side, pair};
use crate::copy::{Pair, assert_foreign_judge_agrees, shown};
use crate::lab::{
    Dovecot, Ferry, FerrySpec, Format, Hold, Imap, Release, Spec, World, deliver, nasty, trixie, wait_for,
};
use crate::uidl::maildrop;

/// Everything that an account consists of on disk. Left out are Dovecot's indexes, which each look at a mailbox updates.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, content)| (format!("{name}/{below}"), content)));
        } else if !name.starts_with("dovecot.index") && !name.starts_with("dovecot.list.index") {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

/// What doveadm on the host of the server tells of every message and mailbox.
fn dump(server: &Dovecot) -> String {
    let fields = "mailbox mailbox-guid guid uid flags modseq size.virtual size.physical date.received date.saved pop3.uidl pop3.order";
    server.doveadm_ok(&["fetch", "-u", "u1", fields, "ALL"])
        + &server.doveadm_ok(&["mailbox", "status", "-u", "u1", "all", "*"])
        + &server.doveadm_ok(&["mailbox", "list", "-s", "-u", "u1"])
}

#[test]
fn nothing_on_the_old_side_is_changed_by_reading_it() {
    let mut sides = vec![old_side(Release::V23, Format::Maildir), old_side(Release::V23, Format::Mdbox)];
    if trixie::is_here() {
        sides.push(old_side(Release::V24, Format::Maildir));
    }
    for old in sides {
        let pair = pair(old);
        fill(&pair.old, nasty::small);
        // (All that a first look makes is made before.)
        let (world, drop) = (World::of(&pair.old, "u1"), maildrop::shown(&pair.old, "u1"));
        let dumped = dump(&pair.old);
        let before = files(&pair.old.mail_dir("u1"));
        let home = files(&pair.old.dir().join("home"));
        let ferry = Ferry::prepare(by_dsync(&pair));
        let file = ferry.password_file(pair.old.password("u1"));
        for _ in 0..2 {
            ferry.run_ok(&["sync", "u1", "--password-file", &file]);
        }
        let after = files(&pair.old.mail_dir("u1"));
        for (name, content) in &before {
            assert!(after.get(name) == Some(content), "{name} was {:?}", String::from_utf8_lossy(content));
        }
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        assert_eq!(home, files(&pair.old.dir().join("home")), "a lock or a state is left in the home");
        assert_eq!(dumped, dump(&pair.old));
        assert_eq!((world, drop), (World::of(&pair.old, "u1"), maildrop::shown(&pair.old, "u1")));
        assert_foreign_judge_agrees(&pair, "u1");
    }
}

/// A new side with a master user, so that no side needs a user's password for a copy.
fn without_passwords() -> (Pair, tempfile::TempDir, String) {
    let extra = "auth_master_user_separator = %\npassdb {\n  driver = passwd-file\n  args = {dir}/masters\n  master = yes\n}\n\
                 auth_failure_delay = 0\n";
    let new = Spec { release: Release::V23, extra: extra.to_owned(), ..Spec::new_side(&["u1"]) };
    let pair = Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) };
    fs::write(pair.new.dir().join("masters"), "boss:{PLAIN}secret-of-the-boss\n").unwrap();
    let folder = tempfile::Builder::new().prefix("mfboss").tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "secret-of-the-boss\n").unwrap();
    let master = format!(
        "{{ kind = \"master-user\", user = \"boss\", separator = \"%\", password_file = \"{}\" }}",
        file.display()
    );
    (pair, folder, master)
}

#[test]
fn sync_needs_no_password_of_the_user_and_verify_does() {
    let (pair, _folder, master) = without_passwords();
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::prepare(FerrySpec { credentials: ["{ kind = \"user\" }", &master], ..by_dsync(&pair) });
    ferry.run_ok(&["check"]);
    ferry.run_ok(&["sync", "u1"]);
    assert_foreign_judge_agrees(&pair, "u1");
    let output = ferry.run(&["verify", "u1"]);
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(shown(&output).contains("the old side is asked with the password of u1"), "{}", shown(&output));
    let file = ferry.password_file(pair.old.password("u1"));
    ferry.run_ok(&["verify", "u1", "--password-file", &file]);
    let looked = ferry.run_ok(&["check", "u1", "--password-file", &file]);
    assert!(looked.contains("nothing that can be seen before the copy"), "{looked}");
}

/// The proxy is killed in the middle of a copy. Nobody logs in, and the copy goes on; what takes a login is waited for.
#[test]
fn the_work_goes_on_after_a_kill_without_any_login_and_the_switch_waits_for_one() {
    let (pair, _folder, master) = without_passwords();
    nasty::small(&pair.old, "u1");
    let hold = Hold::at("copy-mailbox#2");
    let fault = hold.fault();
    let mut ferry = Ferry::start(FerrySpec {
        credentials: ["{ kind = \"user\" }", &master],
        env: vec![("MAILFERRY_FAULTS", &fault)],
        ..by_dsync(&pair)
    });
    let log_in = |ferry: &Ferry| {
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", pair.old.password("u1"));
        imap
    };
    drop(log_in(&ferry));
    hold.wait(LONG);
    ferry.kill9();
    deliver(&pair.old, "u1", b"Subject: while nobody was there\n\nmail\n");
    ferry.set_env("MAILFERRY_FAULTS", "");
    ferry.start_again();
    ferry.wait_phase("u1", "following", LONG);
    wait_for("the new side to catch up", LONG, || {
        (World::of(&pair.old, "u1") == World::of(&pair.new, "u1")).then_some(())
    });
    let output = ferry.run(&["switch", "u1"]);
    assert!(!output.status.success() && shown(&output).contains("next login"), "{}", shown(&output));
    assert_eq!(ferry.status("u1")["authority"], "old");
    drop(log_in(&ferry));
    ferry.wait_phase("u1", "new", LONG);
    assert_foreign_judge_agrees(&pair, "u1");
}
