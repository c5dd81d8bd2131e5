//! What a message in several mailboxes takes on the new side.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{DATE, LONG, letter, log_in, new_side, on_user, spec, switch, verify};
use crate::copy::shown;
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, FerrySpec, Gmail, Tongue, World};
use crate::uidl::maildrop;

/// A message with an attachment of so many lines.
fn with_attachment(lines: u64) -> String {
    let mut text = "From: a@example.org\nSubject: with an attachment\nMIME-Version: 1.0\n\
                    Content-Type: multipart/mixed; boundary=cut\n\n--cut\nContent-Type: text/plain\n\nsee below\n--cut\n\
                    Content-Type: application/octet-stream; name=data.bin\nContent-Transfer-Encoding: base64\n\n"
        .to_owned();
    let mut number = 7_u64;
    for _ in 0..lines {
        for _ in 0..76 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            text.push(char::from(letters[usize::try_from(number >> 58).unwrap()]));
        }
        text.push('\n');
    }
    text + "--cut--\n"
}

/// Octets of the files below a folder, each once however many names it has, and how many names there are.
fn stored(folder: &Path, files: &mut BTreeMap<u64, u64>) -> usize {
    let mut names = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let facts = entry.metadata().unwrap();
        if facts.is_dir() {
            names += stored(&entry.path(), files);
        } else {
            names += 1;
            files.insert(facts.ino(), facts.len());
        }
    }
    names
}

#[test]
fn an_attachment_is_stored_once_where_the_new_side_keeps_single_instances() {
    let old = Gmail::start(&["u1"], Tongue::English);
    old.deliver("u1", &["\\Inbox", "\\Starred", "Work"], DATE, &with_attachment(2000));
    let sis =
        "mail_attachment_dir = {dir}/mail/attachments\nmail_attachment_fs = sis posix\nmail_attachment_min_size = 1k\n";
    let new = new_side(&old, "u1", Format::Mdbox, sis);
    let ferry = Ferry::start(spec(&old, &new));
    log_in(&ferry, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let (was, is) = (World::of(&old, "u1"), World::of(&new, "u1"));
    assert_eq!(was.count(), 4);
    let found = was.differences(&is, Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    let mut files = BTreeMap::new();
    let names = stored(&new.dir().join("mail/attachments"), &mut files);
    let octets: u64 = files.values().sum();
    assert!(names >= 4 && octets < 2000 * 78, "{names} names, {octets} octets: {files:?}");
}

/// A virtual mailbox of all mail, which clients don't see.
const VIRTUAL: &str = "mail_plugins = $mail_plugins virtual\nnamespace virtual {\n  prefix = Virtual/\n  separator = /\n  \
                       location = virtual:{dir}/virtual:INDEX={dir}/mail/%u-virtual\n  hidden = yes\n  list = no\n  \
                       subscriptions = no\n}\n";

fn with_virtual(gmail: &Gmail, format: Format) -> Dovecot {
    let new = new_side(gmail, "u1", format, VIRTUAL);
    let folder = new.dir().join("virtual/All");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("dovecot-virtual"), "*\n-Virtual/*\n  all\n").unwrap();
    new.give_to_mail_user(&new.dir().join("virtual"));
    new
}

fn sharing<'a>(old: &'a Gmail, new: &'a Dovecot) -> FerrySpec<'a> {
    let mut with = FerrySpec { pop3: true, old_pop3: Some(old.pop3_url()), ..spec(old, new) };
    with.extra.push(("new", "virtual_all = \"Virtual/All\""));
    with
}

/// Octets of mail that the new side has in its files, each once however many names it has.
fn octets(new: &Dovecot) -> u64 {
    let mut files = BTreeMap::new();
    stored(&new.mail_dir("u1"), &mut files);
    files.values().filter(|octets| **octets > 50_000).sum()
}

fn by_reference(format: Format) {
    let old = Gmail::start(&["u1"], Tongue::English);
    let inbox = ["\\Inbox", "\\Starred", "Work", "Fork"];
    let ids = [0, 1].map(|number| old.deliver("u1", &inbox, DATE, &letter(number, 100_000)));
    let archived = old.deliver("u1", &["Work"], DATE, &letter(2, 100_000));
    let new = with_virtual(&old, format);
    let ferry = Ferry::start(sharing(&old, &new));
    let said = shown(&on_user(&ferry, &["check"], "u1"));
    assert!(!said.contains("virtual_all"), "{said}");
    log_in(&ferry, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let (was, is) = (World::of(&old, "u1"), World::of(&new, "u1"));
    assert_eq!(was.count(), 12);
    let found = was.differences(&is, Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    let total = octets(&new);
    assert!((300_000..330_000).contains(&total), "three bodies, shown 12 times: {total}");
    // It is followed: flags, a label less, one more, a message that goes, one that comes.
    old.change("u1", |account| {
        account.flag(ids[0], "\\Seen", true);
        account.flag(archived, "\\Answered", true);
        account.label(ids[0], "Fork", false);
        account.label(archived, "Fresh", true);
        account.label(ids[1], "\\Trash", true);
    });
    old.deliver("u1", &inbox, DATE, &letter(3, 100_000));
    switch(&ferry, "u1");
    let (was, is) = (World::of(&old, "u1"), World::of(&new, "u1"));
    let found = was.differences(&is, Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(maildrop::shown(&old, "u1"), maildrop::shown(&new, "u1"));
    let (report, code) = verify(&ferry, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    // What came since is in INBOX with its UIDL, and once for all others.
    if format == Format::Mdbox {
        new.doveadm_ok(&["purge", "-u", "u1"]);
    }
    let total = octets(&new);
    assert!((400_000..550_000).contains(&total), "{total}");
}

#[test]
fn what_is_in_several_mailboxes_is_stored_once_in_mdbox_where_there_is_a_virtual_mailbox_of_all() {
    by_reference(Format::Mdbox);
}

#[test]
fn what_is_in_several_mailboxes_is_linked_in_maildir_where_there_is_a_virtual_mailbox_of_all() {
    by_reference(Format::Maildir);
}

#[test]
fn a_virtual_mailbox_that_is_not_there_is_named_and_messages_of_one_guid_are_not_merged() {
    let old = Gmail::start(&["u1"], Tongue::English);
    old.deliver("u1", &["\\Inbox", "Work"], DATE, &letter(1, 10));
    let bare = new_side(&old, "u1", Format::Mdbox, "");
    let ferry = Ferry::prepare(sharing(&old, &bare));
    let said = shown(&on_user(&ferry, &["check"], "u1"));
    assert!(
        said.contains("no virtual mailbox of all mail as new.virtual_all says, so each is stored anew")
            && said.contains("Virtual/All"),
        "{said}"
    );
    let output = on_user(&ferry, &["sync"], "u1");
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(World::of(&bare, "u1").count(), 3);
    let new = with_virtual(&old, Format::Mdbox);
    let ferry = Ferry::prepare(sharing(&old, &new));
    let output = on_user(&ferry, &["sync"], "u1");
    assert!(output.status.success(), "{}", shown(&output));
    let guids = new.doveadm_ok(&["fetch", "-u", "u1", "guid", "ALL"]);
    let guids: BTreeSet<&str> = guids.lines().filter(|line| line.starts_with("guid:")).collect();
    assert_eq!(guids.len(), 1, "{guids:?}");
    for dry in [&["--dry-run"][..], &[]] {
        let output = on_user(&ferry, &[&["sync", "--mode", "merge"], dry].concat(), "u1");
        assert!(!output.status.success(), "{}", shown(&output));
        assert!(shown(&output).contains("was copied with `new.virtual_all`"), "{}", shown(&output));
    }
}
