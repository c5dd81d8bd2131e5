//! Damage to the files of a copy, in each format that a new side may keep mail in.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Case, Scene, by_mailferry, run_on};
use crate::lab::{Format, Spec};

/// Where `text` lies below a folder: the file that contains it, which must be only one.
fn file_with(folder: &Path, text: &str) -> PathBuf {
    let mut found = Vec::new();
    look(folder, &mut |path| {
        if find(&fs::read(path).unwrap(), text).is_some() {
            found.push(path.to_owned());
        }
    });
    assert_eq!(found.len(), 1, "{text:?} is in {found:?}");
    found.remove(0)
}

fn look(folder: &Path, at: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { look(&path, at) } else { at(&path) }
    }
}

/// Dovecot forgets what it remembers of the contents of messages.
fn forget(folder: &Path) {
    look(folder, &mut |path| {
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("index.cache")) {
            fs::remove_file(path).unwrap();
        }
    });
}

/// Changes a file in place: owner, rights, and the time that a Maildir takes for INTERNALDATE stay.
fn change(path: &Path, change: impl FnOnce(&mut [u8])) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut octets = fs::read(path).unwrap();
    change(&mut octets);
    fs::write(path, octets).unwrap();
    set_time(path, time);
}

fn set_time(path: &Path, time: std::time::SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn find(octets: &[u8], text: &str) -> Option<usize> {
    octets.windows(text.len()).position(|window| window == text.as_bytes())
}

/// Changes octets of one message.
pub(crate) fn replace(folder: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    forget(folder);
    change(&file_with(folder, from), |octets| {
        let at = find(octets, from).unwrap();
        octets[at..at + from.len()].copy_from_slice(to.as_bytes());
    });
}

/// Where the octets of the message that contains `text` are in its file.
fn place(format: Format, octets: &[u8], text: &str) -> Range<usize> {
    if format == Format::Maildir {
        return 0..octets.len();
    }
    let at = find(octets, text).unwrap();
    let head = octets[..at].windows(3).rposition(|three| three == b"\x01\x02N").unwrap();
    // The head of a message: magic, type, blanks, its size in 16 hex digits, LF; 30 octets (`M1e` in the file's own head).
    let size = std::str::from_utf8(&octets[head + 13..head + 29]).unwrap();
    let start = head + 30;
    start..start + usize::from_str_radix(size, 16).unwrap()
}

/// Each of two messages of the same size gets the other's octets.
fn swap(scene: &Scene<'_>, texts: [&str; 2]) {
    let folder = scene.pair.new.mail_dir(scene.user());
    forget(&folder);
    let format = scene.pair.new.spec().format;
    let files = texts.map(|text| file_with(&folder, text));
    let read = |number: usize| {
        let octets = fs::read(&files[number]).unwrap();
        let place = place(format, &octets, texts[number]);
        (octets[place.clone()].to_vec(), place)
    };
    let [(one, here), (two, there)] = [read(0), read(1)];
    assert!(one.len() == two.len() && (files[0] != files[1] || here.end < there.start));
    change(&files[0], |octets| octets[here].copy_from_slice(&two));
    change(&files[1], |octets| octets[there].copy_from_slice(&one));
}

/// INTERNALDATE of the one message that came at 12:00:05, now 12:00:06.
fn one_second_later(scene: &Scene<'_>) {
    let folder = scene.pair.new.mail_dir(scene.user());
    if scene.pair.new.spec().format == Format::Maildir {
        forget(&folder);
        let file = file_with(&folder, "This is message 5:");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        set_time(&file, time + Duration::from_secs(1));
    } else {
        replace(&folder, "R65e071c5", "R65e071c6");
    }
}

#[test]
fn what_happens_to_the_files_of_a_copy_is_found() {
    to_files(Spec::new_side);
}

/// The same on a new side that `new` says.
pub(crate) fn to_files(new: impl Fn(&[&str]) -> Spec) {
    fn octets(scene: &Scene<'_>, from: &str, to: &str) {
        replace(&scene.pair.new.mail_dir(scene.user()), from, to);
    }
    let cases = [
        Case {
            what: "one octet of a body",
            damage: |scene| octets(scene, "This is message 5:", "This is massage 5:"),
            findings: &["difference body INBOX 5"],
        },
        Case {
            what: "one octet of a header",
            damage: |scene| octets(scene, "Subject: Sent 2", "Subject: Sant 2"),
            findings: &["difference body Sent 2"],
        },
        Case {
            what: "two messages swapped",
            damage: |scene| swap(scene, ["Subject: INBOX 1\n", "Subject: INBOX 2\n"]),
            findings: &["difference body INBOX 1", "difference body INBOX 2"],
        },
        Case { what: "INTERNALDATE", damage: one_second_later, findings: &["difference internaldate INBOX 5"] },
    ];
    run_on(new, &cases, by_mailferry);
}
