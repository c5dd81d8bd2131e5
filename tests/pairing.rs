//! A hundred thousand messages are paired by their content: what that costs is counted, not timed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;

use mailferry::mailbox::pop3::{KnownUidls, Looks, Matching, Method, Pop3List, Snapshot, TextDigest, TextHasher};
use mailferry::mailbox::{Contents, Keywords, Message, ModSeq, SystemFlags, Uid, UidNext, UidValidity};

/// What was read while messages were paired.
#[derive(Debug, Default, PartialEq)]
struct Work {
    headers: usize,
    wholes: usize,
    octets: usize,
    rounds: usize,
}

/// Mail as one finds it: sizes that repeat, some twins, some siblings under one header. Its header and its body.
fn parts(number: u32) -> (String, String) {
    let (about, date, body) = match number % 100 {
        // A program's: the same header, another body of the same length.
        0 | 1 => ("nightly run".to_owned(), 0, format!("{number:08}")),
        // Twins.
        2 | 3 => (format!("sent twice {:08}", number / 100), number / 100, "x".repeat(50)),
        _ => (format!("letter {number:08}"), number, "x".repeat(length(number))),
    };
    (format!("From: somebody@example.org\r\nSubject: {about}\r\nDate: {date:08}\r\n\r\n"), body)
}

/// Half of them share their size with three others.
const fn length(number: u32) -> usize {
    (if number % 8 < 4 { number / 4 } else { 500_000 + number }) as usize
}

fn text(number: u32) -> String {
    let (header, body) = parts(number);
    header + &body
}

fn header(number: u32) -> String {
    match number % 100 {
        0..=3 => parts(number).0,
        _ => format!("From: somebody@example.org\r\nSubject: letter {number:08}\r\nDate: {number:08}\r\n\r\n"),
    }
}

fn size(number: u32) -> u64 {
    let body = if number % 100 < 4 { parts(number).1.len() } else { length(number) };
    (header(number).len() + body) as u64
}

/// Pairs so many messages, which POP3 shows in another order; what was read for it.
fn paired(count: u32) -> (Work, HashMap<Method, usize>) {
    // Every thousand messages are shown the other way round.
    let order: Vec<u32> = (0..count).map(|at| at / 1000 * 1000 + (999 - at % 1000)).filter(|at| *at < count).collect();
    let sizes: Vec<u64> = (0..count).map(size).collect();
    let messages = (0..count).map(|number| Message {
        uid: Uid(number + 1),
        flags: SystemFlags::default(),
        keywords: Keywords::default(),
        internal_date: None,
        size: sizes[number as usize],
        modseq: ModSeq(0),
        labelled: false,
    });
    let contents = Contents {
        uid_validity: UidValidity(7),
        uid_next: UidNext(count + 1),
        highest_modseq: None,
        messages: messages.collect(),
    };
    let entry = |number: &u32| (format!("UID{}-77", number ^ 0x5555).into_bytes(), sizes[*number as usize]);
    let list = Pop3List::new(order.iter().map(entry)).unwrap();
    let snapshot = Snapshot { contents: &contents, uid_next_after: contents.uid_next, list_is_older: false };
    let mut work = Work::default();
    let before = resident();
    let mut matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), None, Looks::Some);
    loop {
        work.rounds += 1;
        let mut digest = |text: &str| -> TextDigest {
            work.octets += text.len();
            let mut hasher = TextHasher::new();
            hasher.update(text.as_bytes());
            hasher.finish()
        };
        let numbers = matching.numbers_for_headers();
        work.headers += numbers.len();
        let shown = |number: u32| order[number as usize - 1];
        let by_pop3 = numbers.into_iter().map(|number| (number, digest(&header(shown(number))))).collect();
        let by_imap = matching.uids_for_headers().into_iter();
        let by_imap = by_imap.map(|uid| (uid, digest(&header(uid.0 - 1)))).collect();
        matching.by_headers(&by_pop3, &by_imap);
        let numbers = matching.numbers_for_wholes();
        work.wholes += numbers.len();
        let by_pop3 = numbers.into_iter().map(|number| (number, digest(&text(shown(number))))).collect();
        let by_imap = matching.uids_for_wholes().into_iter().map(|uid| (uid, digest(&text(uid.0 - 1)))).collect();
        matching.by_wholes(&by_pop3, &by_imap).unwrap();
        if !matching.look_again() {
            break;
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 1000 * count as usize + (8 << 20), "{} octets a message", grown / count as usize);
    let pairing = matching.finish().unwrap();
    assert!(pairing.is_whole() && pairing.messages.len() == count as usize);
    for paired in &pairing.messages {
        let (theirs, ours) = (order[paired.number as usize - 1], paired.uid.0 - 1);
        assert!(theirs == ours || text(theirs) == text(ours), "{paired:?}");
    }
    (work, pairing.methods().into_iter().collect())
}

/// The most that this process has ever held, in octets. (Each test has a process of its own.)
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_hundred_thousand_messages_cost_ten_times_what_ten_thousand_do() {
    let (small, _) = paired(10_000);
    let (large, methods) = paired(100_000);
    assert_eq!((small.rounds, large.rounds), (1, 1), "{small:?} {large:?}");
    // Only what ties is read whole: the siblings and the twins.
    assert_eq!(large.wholes, 4_000, "{large:?}");
    assert!(large.headers <= 60_000, "of half of them the size does: {large:?}");
    assert!(large.octets < 100_000 * 2 * 120, "headers, and few whole messages: {large:?}");
    assert!(large.octets < 12 * small.octets + (1 << 20), "{small:?} {large:?}");
    assert_eq!(methods[&Method::Twin], 2_000, "{methods:?}");
    assert_eq!(methods[&Method::Text], 2_000, "{methods:?}");
}
