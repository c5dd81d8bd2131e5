//! After login: octets go through in both directions as they are, and commands are kept apart.

use super::*;

#[test]
fn idle_tells_of_new_mail_and_ends_with_done() {
    let bench = Bench::start(&["u1"]);
    let mut sessions = [bench.session("u1"), {
        let mut imap = Imap::connect_tls(bench.ferry.imaps(), &bench.ferry.tls().ca);
        imap.login("u1", "pw-of-u1");
        imap
    }];
    for imap in &mut sessions {
        imap.select("INBOX");
    }
    for exists in 1..=2 {
        let tags: Vec<String> = sessions
            .iter_mut()
            .map(|imap| {
                let tag = imap.start("IDLE");
                assert!(say(imap).starts_with("+ "));
                tag
            })
            .collect();
        bench.direct("u1").append("INBOX", "", "", b"Subject: new\r\n\r\n");
        for (imap, tag) in sessions.iter_mut().zip(tags) {
            assert_eq!(say(imap), format!("* {exists} EXISTS"));
            // With a command in the same segment: it is no part of the IDLE.
            imap.send(b"DONE\r\nx NOOP\r\n");
            assert!(imap.finish(&tag).0.starts_with("OK "));
            assert!(imap.finish("x").0.starts_with("OK "));
        }
    }
}

#[test]
fn what_follows_idle_too_early_is_answered_as_the_backend_does_it() {
    let bench = Bench::start(&["u1"]);
    let answers = |mut imap: Imap| {
        imap.select("INBOX");
        imap.send(b"a IDLE\r\nDONE\r\nb IDLE\r\n");
        let mut said = vec![say(&mut imap), say(&mut imap), say(&mut imap)];
        imap.send(b"c NOOP\r\n");
        said.push(say(&mut imap));
        imap.send(b"d NOOP\r\n");
        said.push(say(&mut imap));
        said
    };
    let direct = answers(bench.direct("u1"));
    assert!(direct[0].starts_with("+ ") && direct[1].starts_with("a OK") && direct[2].starts_with("+ "), "{direct:?}");
    assert!(direct[3].starts_with("b BAD") && direct[4].starts_with("d OK"), "{direct:?}");
    let kinds = |said: Vec<String>| -> Vec<String> {
        said.iter().map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(kinds(answers(bench.session("u1"))), kinds(direct));
}

#[test]
fn fifty_pipelined_commands_are_answered_in_order_and_so_are_three_thousand() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.session("u1");
    imap.append("INBOX", "", "", &message(20_000));
    imap.select("INBOX");
    // (Of other commands Dovecot itself answers some before earlier ones.)
    let parts = [
        "RFC822.SIZE",
        "BODY.PEEK[]",
        "BODY.PEEK[HEADER]",
        "BODY.PEEK[TEXT]<10.20>",
        "BODY.PEEK[HEADER.FIELDS ({7+}\r\nSubject)]",
    ];
    let commands: String =
        (0..50).map(|number| format!("k{number} FETCH 1 {}\r\n", parts[number % parts.len()])).collect();
    imap.send(commands.as_bytes());
    let (data, tags): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
        (0..100).map(|_| imap.response()).partition(|response| response.starts_with(b"* 1 FETCH "));
    let sizes = [30, 20_000, 60, 50, 80];
    for number in 0..50 {
        assert!(tags[number].starts_with(format!("k{number} OK ").as_bytes()), "{number}: {tags:?}");
        let size = sizes[number % sizes.len()];
        assert!(
            (size / 2..size * 2).contains(&data[number].len()),
            "{number}: {}",
            String::from_utf8_lossy(&data[number])
        );
    }
    // More than are let in flight at once.
    let many: String = (0..3000).map(|number| format!("n{number} NOOP\r\n")).collect();
    imap.send(many.as_bytes());
    for number in 0..3000 {
        let line = say(&mut imap);
        assert!(line.starts_with(&format!("n{number} OK ")), "{number}: {line}");
    }
}

#[test]
fn a_client_that_sends_one_octet_at_a_time_works() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.client();
    let literal = b"Subject: slow\r\n\r\nslow\r\n";
    let drip = |imap: &mut Imap, octets: &[u8]| {
        for octet in octets {
            imap.send(&[*octet]);
            std::thread::sleep(Duration::from_micros(300));
        }
    };
    drip(&mut imap, b"a CAPABILITY\r\nb LOGIN {2}\r\n");
    assert!(imap.finish("a").0.starts_with("OK "));
    assert!(say(&mut imap).starts_with("+ "));
    drip(&mut imap, b"u1 {8+}\r\npw-of-u1\r\n");
    assert!(imap.finish("b").0.starts_with("OK "));
    drip(&mut imap, format!("c APPEND INBOX {{{}}}\r\n", literal.len()).as_bytes());
    assert!(say(&mut imap).starts_with("+ "));
    drip(&mut imap, literal);
    drip(&mut imap, b"\r\nd SELECT INBOX\r\ne COMPRESS DEFLATE\r\nf IDLE\r");
    // Time enough for a server to answer at the CR, as Dovecot does it.
    std::thread::sleep(Duration::from_millis(100));
    drip(&mut imap, b"\n");
    assert!(imap.finish("c").0.starts_with("OK "));
    assert!(imap.finish("d").0.starts_with("OK "));
    assert!(imap.finish("e").0.starts_with("NO "));
    assert!(say(&mut imap).starts_with("+ "));
    drip(&mut imap, b"DONE\r\ng FETCH 1 BODY[]\r\n");
    assert!(imap.finish("f").0.starts_with("OK "));
    let (_, untagged) = imap.finish("g");
    assert_eq!(crate::lab::imap::literal(&untagged[0]).unwrap(), literal);
}

#[test]
fn a_refused_literal_leaves_both_in_step() {
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.session("u1");
    let tagged = imap.try_append("No such mailbox", "", "", &message(10_000));
    assert!(tagged.starts_with("NO [TRYCREATE]"), "{tagged}");
    // This would be taken for the literal by a proxy that had not noticed.
    assert!(imap.cmd("COMPRESS DEFLATE").0.starts_with("NO [CANNOT] "));
    imap.ok("NOOP");
    // The same with the octets on the way already.
    let pipelined =
        b"a APPEND nowhere {6+}\r\na NOOP\r\nb NOOP\r\nc APPEND INBOX {12+}\r\nb LOGOUT\r\n\r\n\r\nd NOOP\r\n";
    imap.send(pipelined);
    let said: Vec<String> = (0..4).map(|_| say(&mut imap)).collect();
    for (line, wanted) in said.iter().zip(["a NO ", "b OK ", "c OK ", "d OK "]) {
        assert!(line.starts_with(wanted), "{said:?}");
    }
}

/// What a server says to these octets until it closes, or to a NOOP behind them.
fn reaction(mut imap: Imap, octets: &[u8]) -> Vec<String> {
    imap.select("INBOX");
    let _ = imap.try_send(octets);
    let _ = imap.try_send(b"\r\nend NOOP\r\n");
    let mut said = Vec::new();
    while let Some(line) = imap.try_line() {
        let line = crate::lab::imap::lossy(&line);
        let done = line.starts_with("end ");
        // Neither clocks nor the UIDVALIDITY of today.
        let end = line.rfind(" (").filter(|_| line.ends_with(" secs).")).unwrap_or(line.len());
        said.push(line[..end].replace(|digit: char| digit.is_ascii_digit() && line.contains("[APPENDUID"), "N"));
        if done {
            break;
        }
    }
    said
}

#[test]
fn garbage_after_login_is_the_backends_business() {
    let mut noise = 7_u32;
    let random: Vec<u8> = (0..400)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(noise >> 24).unwrap()
        })
        .filter(|octet| !b"{\r\n".contains(octet))
        .collect();
    let cases: [Vec<u8>; 9] = [
        b"a NO\0OP\r\n".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"a SEARCH SUBJECT \"\0\xff\xfe\"\r\n".to_vec(),
        b"a APPEND INBOX {5+}\r\n\0\0\0\0\0\r\n".to_vec(),
        [b"a ", random.as_slice(), b"\r\n"].concat(),
        b"* BYE\r\n+ OK\r\n\r\n \r\n".to_vec(),
        b"a FETCH 1:* (BODY[{99999999999999999999}\r\n])".to_vec(),
        b"a\tNOOP\r\na  NOOP\r\na NOOP \r\n".to_vec(),
        b"a {3+}\r\nabc NOOP\r\n".to_vec(),
    ];
    let users: Vec<String> = (0..2 * cases.len()).map(|number| format!("u{number}")).collect();
    let bench = Bench::start(&users.iter().map(String::as_str).collect::<Vec<_>>());
    // At once: the server makes those wait who talk nonsense.
    std::thread::scope(|scope| {
        for (octets, pair) in cases.iter().zip(users.chunks(2)) {
            let bench = &bench;
            scope.spawn(move || {
                let mut own = reaction(bench.direct(&pair[0]), octets);
                let mut through = reaction(bench.session(&pair[1]), octets);
                // What the server says first depends on what it has read when: an APPEND takes its time.
                own.sort();
                through.sort();
                assert_eq!(through, own, "{:?}", String::from_utf8_lossy(octets));
            });
        }
    });
}

#[test]
fn an_over_long_line_after_login_is_the_backends_business() {
    let bench = Bench::start(&["u1"]);
    let quoted = [b"a SEARCH SUBJECT \"".as_slice(), &vec![b'x'; 1 << 20], b"\"\r\n"].concat();
    let arguments = [b"a FETCH 1:* (".as_slice(), &b"FLAGS ".repeat(170_000), b"UID)\r\n"].concat();
    for line in [quoted, arguments] {
        let own = reaction(bench.direct("u1"), &line);
        let through = reaction(bench.session("u1"), &line);
        assert!(!own.is_empty(), "the server says something");
        assert_eq!(through.first(), own.first());
    }
    let mut other = bench.session("u1");
    other.ok("NOOP");
    let endless = vec![b'x'; 1 << 20];
    let through = reaction(bench.session("u1"), &endless);
    assert!(through.last().is_some_and(|line| line.starts_with("* BYE")), "{through:?}");
    other.ok("NOOP");
}
