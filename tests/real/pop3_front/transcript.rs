//! The same commands with and without the proxy: the same octets come back.

use super::*;
use crate::lab::nasty;

/// Commands after login, and whether a `+OK` is followed by lines.
const SCRIPT: &[(&str, bool)] = &[
    ("CAPA", true),
    ("STAT", false),
    ("LIST", true),
    ("UIDL", true),
    ("list 2", false),
    ("uidl 3", false),
    ("LIST 4096", false),
    ("UIDL x", false),
    ("TOP 1 0", true),
    ("TOP 2 3", true),
    ("TOP 3 999999999", true),
    ("TOP 1", false),
    ("RETR 1", true),
    ("Retr 2", true),
    ("RETR  4", true),
    ("RETR 0", true),
    ("RETR", true),
    ("DELE 2", false),
    ("DELE 2", false),
    ("STAT", false),
    ("LIST ", true),
    ("UIDL", true),
    ("RETR 2", true),
    ("RSET", false),
    ("STAT", false),
    ("LAST", false),
    ("NOOP", false),
    ("NOOP with words", false),
    ("", false),
    (" ", false),
    ("USER u1", false),
    ("PASS x", false),
    ("AUTH PLAIN", false),
    ("STLS", false),
    ("APOP u1 x", false),
    ("XCLIENT ADDR=192.0.2.1", false),
    ("LANG", false),
    ("UTF8", false),
    ("quit", false),
];

/// Plays the script; gives every answer with what provoked it.
fn play(pop3: &mut Pop3) -> Vec<(String, Vec<u8>)> {
    let answer = |pop3: &mut Pop3, lines: bool| {
        let status = pop3.line();
        let body = if lines && status.starts_with("+OK") { pop3.rest() } else { Vec::new() };
        [status.as_bytes(), b"\n", &body].concat()
    };
    let mut heard: Vec<(String, Vec<u8>)> = Vec::new();
    for (command, lines) in SCRIPT {
        pop3.send(format!("{command}\r\n").as_bytes());
        heard.push(((*command).to_owned(), answer(pop3, *lines)));
    }
    heard.push(("the end".to_owned(), pop3.read_to_end()));
    heard
}

fn assert_same(own: &[(String, Vec<u8>)], through: &[(String, Vec<u8>)]) {
    let shown = |(line, said): &(String, Vec<u8>)| format!("{line}: {}", String::from_utf8_lossy(said));
    for (ours, theirs) in through.iter().zip(own) {
        assert!(ours == theirs, "\nthrough: {}\n   own: {}", shown(ours), shown(theirs));
    }
    assert_eq!(through.len(), own.len());
}

#[test]
fn a_session_through_the_proxy_reads_as_one_without() {
    let bench = Bench::start(&["u1"]);
    nasty::without_large(&bench.server, "u1");
    let own = play(&mut bench.direct("u1"));
    let through = play(&mut bench.session("u1"));
    assert_same(&own, &through);
    assert!(own.iter().any(|(command, said)| command == "UIDL" && said.len() > 200));
}

#[test]
fn pipelined_commands_come_back_octet_by_octet() {
    let bench = Bench::start(&["u1"]);
    nasty::without_large(&bench.server, "u1");
    let all: String = SCRIPT.iter().map(|(command, _)| format!("{command}\r\n")).collect();
    let raw = |mut pop3: Pop3| {
        pop3.send(all.as_bytes());
        pop3.read_to_end()
    };
    let (own, through) = (raw(bench.direct("u1")), raw(bench.session("u1")));
    assert!(own.len() > 2000);
    assert_eq!(String::from_utf8_lossy(&through), String::from_utf8_lossy(&own));
    assert!(through == own);
    // One octet at a time as well.
    let mut slow = bench.session("u1");
    for octet in all.as_bytes() {
        slow.send(&[*octet]);
    }
    assert!(slow.read_to_end() == own);
}

#[test]
fn three_thousand_commands_at_once_are_answered_in_order() {
    let bench = Bench::start(&["u1"]);
    deliver(&bench.server, "u1", &numbered(1));
    let mut pop3 = bench.session("u1");
    let (known, unknown) = (pop3.cmd("LIST 1"), bench.direct("u1").cmd("UIDL 7"));
    assert!(known.starts_with("+OK 1 ") && unknown.starts_with("-ERR "), "{known} {unknown}");
    let mut sending = pop3.wire().clone_socket();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        let commands: String = (0..3000).map(|at| if at % 2 == 0 { "LIST 1\r\n" } else { "UIDL 7\r\n" }).collect();
        sending.write_all(commands.as_bytes()).unwrap();
    });
    for at in 0..3000 {
        assert_eq!(&pop3.line(), if at % 2 == 0 { &known } else { &unknown }, "{at}");
    }
    writer.join().unwrap();
    pop3.quit();
}
