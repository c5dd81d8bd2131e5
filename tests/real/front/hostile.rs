//! Clients that mean no good, and those who sit beside them.

use std::time::Duration;

use super::{LONG, Stage};
use crate::lab::Imap;
use crate::lab::imap::lossy;

/// What the proxy may need more than before for all of them together, in KiB.
const GROWTH: u64 = 20 * 1024;

/// Everything that is said until the connection is closed.
fn last_words(imap: &mut Imap) -> String {
    let (bytes, ended) = imap.read_to_end(LONG);
    assert!(ended, "not closed: {}", lossy(&bytes));
    lossy(&bytes)
}

#[test]
fn over_long_lines_and_literals_end_in_a_clear_answer_and_harm_nobody() {
    let at = Stage::start(&["u1"]);
    let mut other = at.session("u1");
    other.select("INBOX");
    let before = at.ferry.rss_kib();

    let long = "x".repeat(100_000);
    for (line, answer) in [
        (format!("a {long}"), "a BAD [TOOBIG] "),
        (format!("a LOGIN u1 \"{long}"), "a BAD [TOOBIG] "),
        (long.clone(), "* BAD [TOOBIG] "),
        (format!("a NOOP\r\nb AUTHENTICATE PLAIN {long}"), "a OK NOOP completed.\r\nb BAD [TOOBIG] "),
        ("a LOGIN {10000+}\r\nxyz".to_owned(), "a BAD [TOOBIG] "),
        ("a LOGIN u1 {99999999999+}\r\nxyz".to_owned(), "a BAD [TOOBIG] "),
        (
            format!(
                "a ID (\"x\" {{4000+}}\r\n{} {{4000+}}\r\n{} {{4000+}}\r\n{} {{4000+}}\r\n{} {{4000+}}\r\n",
                &long[..4000],
                &long[..4000],
                &long[..4000],
                &long[..4000]
            ),
            "a BAD [TOOBIG] ",
        ),
    ] {
        let mut imap = Imap::connect(at.ferry.imap());
        // It may be cut off in the middle.
        let _ = imap.try_send(line.as_bytes());
        let said = last_words(&mut imap);
        let start: String = line.chars().take(40).collect();
        assert!(said.starts_with(answer) && said.contains("\r\n* BYE "), "{start}…: {said}");
        other.ok("NOOP");
    }

    let mut imap = Imap::connect(at.ferry.imap());
    for command in ["LOGIN {5000}", "LOGIN u1 {18446744073709551615}", "APPEND INBOX {3}", "SELECT {5}"] {
        let (answer, untagged) = imap.cmd(command);
        assert!(answer.starts_with("NO [TOOBIG]") || answer.starts_with("BAD "), "{command}: {answer}");
        assert!(untagged.is_empty(), "no literal is asked for: {untagged:?}");
    }
    imap.login("u1", at.server.password("u1"));

    let grown = at.ferry.peak_rss_kib().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB more");
}

#[test]
fn garbage_and_half_a_word_cost_nothing_and_names_cannot_forge_the_log() {
    let mut at = Stage::start(&["u1"]);
    let mut other = at.session("u1");
    let mut silent: Vec<Imap> = (0..50).map(|_| Imap::connect(at.ferry.imap())).collect();
    for (number, imap) in silent.iter_mut().enumerate() {
        imap.send(&b"a LOGIN {9}\r\nhalf a "[..number % 20]);
    }
    let mut noise = Imap::connect(at.ferry.imap());
    let octets: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let _ = noise.try_send(&octets);
    last_words(&mut noise);
    // In clear to a listener that speaks TLS only.
    let mut wrong_door = Imap::connect_silently("127.0.0.1", at.ferry.imaps());
    wrong_door.send(b"a NOOP\r\n");
    assert!(!last_words(&mut wrong_door).contains("OK"));

    let mut forger = Imap::connect(at.ferry.imap());
    for name in ["a\r\nb", "a\nb", "a\0b", "u1\u{1b}[31m", "u1\u{7f}", "u1\u{85}"] {
        let answer = forger.cmd(&format!("LOGIN {{{}+}}\r\n{name} x", name.len())).0;
        assert!(answer.starts_with("BAD "), "{name:?}: {answer}");
    }
    forger.try_login("a} peer=1 \"user=u1 logged in\u{2028}x", "x");
    other.ok("NOOP");
    let log = at.ferry.log();
    assert!(log.contains("login refused"), "{log}");
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
    assert!(log.contains(r#"user="a} peer=1 \"user=u1 logged in\u{2028}x""#), "{log}");
    assert!(at.ferry.is_running());
}

#[test]
fn a_client_is_cut_off_after_too_many_faults_and_another_is_not() {
    let at = Stage::start(&["u1"]);
    let mut other = at.session("u1");
    let mut imap = Imap::connect(at.ferry.imap());
    imap.send("a XYZZY\r\n".repeat(100).as_bytes());
    let said = last_words(&mut imap);
    assert_eq!(said.matches("a BAD").count(), 20, "{said}");
    assert!(said.contains("* BYE "), "{said}");
    other.ok("NOOP");
    // After login the backend judges; we forward.
    other.set_patience(Duration::from_secs(30));
    other.send("b XYZZY\r\n".repeat(5).as_bytes());
    for _ in 0..5 {
        assert!(lossy(&other.response()).starts_with("b BAD "));
    }
}
