//! What a message in several mailboxes takes on the new side.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{DATE, LONG, log_in, new_side, spec};
use crate::lab::server::Format;
use crate::lab::world::Next;
use crate::lab::{Ferry, Gmail, Tongue, World};

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
