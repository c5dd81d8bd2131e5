//! A session after login.

use super::{LONG, Stage, text};
use crate::lab::imap::lossy;
use crate::lab::{Imap, Spec, nasty};

/// More than fits any buffer of ours or of a socket.
const LARGE: usize = 60 * 1000 * 1000;
/// What the proxy may need more than before for octets that pass through, in KiB.
const GROWTH: u64 = 20 * 1024;

fn message(octets: usize) -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    let mut line = 0;
    while message.len() < octets {
        line += 1;
        message.extend_from_slice(format!("{line:070}\r\n").as_bytes());
    }
    message
}

/// What the server says to each step until it answers under the step's tag, without how long that took.
fn transcript(imap: &mut Imap, steps: &[(&str, String)], chunk: usize) -> Vec<String> {
    let mut said = Vec::new();
    for (tag, words) in steps {
        format!("{words}\r\n").as_bytes().chunks(chunk).for_each(|part| imap.send(part));
        loop {
            let response = lossy(&imap.response());
            let untimed = response.rfind(" (").filter(|_| response.ends_with(" secs)."));
            said.push(untimed.map_or(response.as_str(), |at| &response[..at]).to_owned());
            if response.starts_with(&format!("{tag} ")) {
                break;
            }
        }
    }
    said
}

#[test]
fn what_is_sent_behind_the_login_is_done_after_it_in_order() {
    let at = Stage::start(&["u1"]);
    let login = format!("a LOGIN u1 {}\r\n", at.server.password("u1"));
    let rest = "b APPEND INBOX {14+}\r\nSubject: b\r\n\r\n\r\nc SELECT INBOX\r\nd UID FETCH 1 BODY[]\r\ne LOGOUT\r\n";
    let mut imap = Imap::connect(at.ferry.imap());
    imap.send(format!("{login}{rest}").as_bytes());
    let (bytes, ended) = imap.read_to_end(LONG);
    let said = lossy(&bytes);
    let tagged: Vec<&str> =
        said.lines().filter(|line| line.as_bytes().get(1) == Some(&b' ') && !line.starts_with(['*', '+'])).collect();
    let starts: Vec<&str> = tagged.iter().filter_map(|line| line.get(..4)).collect();
    assert!(ended && starts == ["a OK", "b OK", "c OK", "d OK", "e OK"], "{said}");
    assert!(said.contains("BODY[] {14}\r\nSubject: b\r\n\r\n)"), "{said}");
}

#[test]
fn idle_hears_of_new_mail_and_ends_with_done() {
    let at = Stage::start(&["u1"]);
    let mut idle = at.session("u1");
    assert_eq!(idle.select("INBOX").exists, 0);
    let tag = idle.start("IDLE");
    assert!(idle.response().starts_with(b"+"));
    at.direct("u1").append("INBOX", "", "", b"Subject: new\r\n\r\n");
    assert_eq!(lossy(&idle.response()), "* 1 EXISTS");
    idle.send(b"DONE\r\n");
    assert!(idle.finish(&tag).0.starts_with("OK "));
    assert_eq!(idle.uids(), [1]);
}

#[test]
fn compression_is_not_offered_and_refused_and_the_session_goes_on() {
    let extra = "protocol imap {\n  mail_plugins = imap_zlib\n}\n".to_owned();
    let at = Stage::with(Spec { extra, ..Spec::old(&["u1"]) }, &[]);
    let offered = |imap: &mut Imap| text(&imap.ok("CAPABILITY"))[0].clone();
    let direct = offered(&mut at.direct("u1"));
    assert!(direct.contains(" COMPRESS=DEFLATE"), "the server itself must offer it: {direct}");
    let mut imap = Imap::connect(at.ferry.imap());
    let login = imap.try_login("u1", at.server.password("u1"));
    assert!(login.contains("CAPABILITY") && !login.contains("COMPRESS"), "{login}");
    assert_eq!(offered(&mut imap), direct.replace(" COMPRESS=DEFLATE", ""));

    let tags = ["NOOP", "COMPRESS DEFLATE", "NOOP"].map(|command| imap.start(command));
    let answers = tags.map(|tag| imap.finish(&tag).0);
    assert!(answers[0].starts_with("OK ") && answers[1].starts_with("NO [CANNOT] ") && answers[2].starts_with("OK "));
    imap.select("INBOX");
}

#[test]
fn fifty_pipelined_commands_are_answered_in_order_under_their_own_tags() {
    let at = Stage::start(&["u1"]);
    nasty::small(&at.server, "u1");
    let mut imap = at.session("u1");
    let tags: Vec<String> = (0..50)
        .map(|number| match number % 5 {
            0 => imap.start("EXAMINE INBOX"),
            // (No FETCH or SEARCH: a Dovecot may answer what follows one before it.)
            1 => imap.start("LIST \"\" *"),
            2 => imap.start("STATUS {4+}\r\nSent (MESSAGES)"),
            3 => imap.start("XYZZY"),
            _ => imap.start("NOOP"),
        })
        .collect();
    for (number, tag) in tags.iter().enumerate() {
        let (answer, untagged) = imap.finish(tag);
        let expected = if number % 5 == 3 { "BAD " } else { "OK " };
        assert!(answer.starts_with(expected), "{number}: {answer}");
        let foreign = text(&untagged).into_iter().find(|line| !line.starts_with("* "));
        assert_eq!(foreign, None, "before the answer to {tag}");
    }
}

#[test]
fn a_session_is_the_same_octet_by_octet_with_and_without_the_proxy() {
    let at = Stage::start(&["u1", "u2", "u3"]);
    for user in ["u1", "u2", "u3"] {
        nasty::small(&at.server, user);
    }
    let append = "Subject: {5} a NO {3}\r\n\r\n* BYE {9}\r\nx\r\n";
    let steps = [
        ("1", "1 CAPABILITY".to_owned()),
        ("2", "2 NAMESPACE".to_owned()),
        ("3", "3 LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN SPECIAL-USE)".to_owned()),
        ("4", "4 SELECT INBOX (CONDSTORE)".to_owned()),
        ("5", "5 FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)".to_owned()),
        ("6", "6 UID FETCH 1:* (BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[]<3.5>)".to_owned()),
        ("7", "7 STORE 1 +FLAGS.SILENT (\\Deleted one)".to_owned()),
        ("8", "8 UID STORE 2 FLAGS (two)".to_owned()),
        ("9", "9 EXPUNGE".to_owned()),
        ("10", format!("10 APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {{{}+}}\r\n{append}", append.len())),
        ("11", "11 NOOP".to_owned()),
        ("12", "12 UID FETCH 1:* (FLAGS BODY.PEEK[])".to_owned()),
        ("13", "13 CREATE {7+}\r\n{5} {6}\"".to_owned()),
        ("14", "14 LIST \"\" \"{5}*\"".to_owned()),
        ("15", "15 STATUS Empty (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)".to_owned()),
        ("16", "16 SELECT nowhere".to_owned()),
        ("17", "17 UID SEARCH CHARSET UTF-8 SUBJECT {5+}\r\nINBOX NOT SEEN".to_owned()),
        ("18", "18 nonsense {3+}\r\nabc".to_owned()),
        ("20", "\r\n*\r\n19\r\n20 IDLE\r\nDONE".to_owned()),
        ("21", "21 ENABLE QRESYNC".to_owned()),
        ("22", "22 SELECT \"Sent\" (QRESYNC (1 1))".to_owned()),
        ("23", "23 COPY 1:2 INBOX".to_owned()),
        ("24", "24 MOVE 1 INBOX".to_owned()),
        ("25", "25 GETMETADATA \"\" /shared/x".to_owned()),
        ("26", "26 ID (\"name\" \"x\")".to_owned()),
        ("27", "27 CLOSE".to_owned()),
        ("28", "28 LOGOUT".to_owned()),
    ];
    let direct = transcript(&mut at.direct("u1"), &steps, usize::MAX);
    let has = |start: &str| direct.iter().any(|line| line.starts_with(start));
    for start in ["5 OK", "9 OK", "10 OK [APPENDUID", "12 OK", "13 OK", "14 OK", "16 NO", "18 BAD", "+ idling", "24 OK"]
    {
        assert!(has(start), "{start}: {direct:#?}");
    }
    assert_eq!(transcript(&mut at.session("u2"), &steps, usize::MAX), direct);
    assert_eq!(transcript(&mut at.session("u3"), &steps, 1), direct);
}

#[test]
fn large_literals_pass_both_ways_in_little_memory() {
    let at = Stage::start(&["u1"]);
    let message = message(LARGE);
    let mut imap = Imap::connect_tls(at.ferry.imaps(), &at.ferry.tls().ca);
    imap.login("u1", at.server.password("u1"));
    imap.ok("NOOP");
    let before = at.ferry.rss_kib();
    assert_eq!(imap.append("INBOX", "", "", &message), Some(1));
    imap.select("INBOX");
    assert!(imap.body(1).unwrap() == message);
    let grown = at.ferry.peak_rss_kib().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB more");
}

#[test]
fn a_client_that_does_not_read_costs_little_harms_nobody_and_misses_nothing() {
    let at = Stage::start(&["u1", "u2"]);
    let message = message(LARGE);
    at.direct("u1").append("INBOX", "", "", &message);
    let (mut deaf, mut other) = (at.session("u1"), at.session("u2"));
    deaf.select("INBOX");
    let before = at.ferry.rss_kib();
    let tag = deaf.start("UID FETCH 1 BODY.PEEK[]");
    let many: Vec<String> = (0..2000).map(|_| deaf.start("NOOP")).collect();
    for _ in 0..100 {
        other.ok("NOOP");
        other.select("INBOX");
    }
    let mut third = at.session("u2");
    third.ok("NOOP");
    let grown = at.ferry.peak_rss_kib().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB more");
    let (answer, untagged) = deaf.finish(&tag);
    assert!(answer.starts_with("OK "), "{answer}");
    assert!(crate::lab::imap::literal(&untagged[0]).unwrap() == message);
    for tag in many {
        assert!(deaf.finish(&tag).0.starts_with("OK "));
    }
}

#[test]
fn a_session_counts_until_its_client_has_gone_in_whatever_way() {
    let at = Stage::start(&["u1"]);
    let mut polite = at.session("u1");
    polite.ok("LOGOUT");
    let mut idle = at.session("u1");
    idle.select("INBOX");
    idle.start("IDLE");
    assert!(idle.response().starts_with(b"+"));
    let mut torn = at.session("u1");
    torn.start("APPEND INBOX {1000+}");
    drop((polite, idle, torn));
    let ended = |log: &str| log.lines().filter(|line| line.contains("session ended: ")).count();
    let log = crate::lab::process::wait_for("three ended sessions", std::time::Duration::from_secs(20), || {
        let log = at.ferry.log();
        (ended(&log) == 3).then_some(log)
    });
    assert!(
        log.lines().any(|line| line.contains("the mail server said goodbye") && line.contains("user=\"u1\"")),
        "{log}"
    );
    assert_eq!(log.matches("the client went away").count(), 2, "{log}");
}
