//! The same commands with and without the proxy: the same octets come back.

use super::*;
use crate::lab::nasty;

/// Commands that are sent one by one; `{n}` at the end of one waits for `+` before the next, as does IDLE.
const SCRIPT: &[&str] = &[
    "NAMESPACE",
    "ID NIL",
    "LIST \"\" *",
    "LIST (SUBSCRIBED) \"\" * RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))",
    "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)",
    "ENABLE CONDSTORE QRESYNC",
    "SELECT INBOX (CONDSTORE)",
    "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)",
    "FETCH 1:* (UID BODY.PEEK[])",
    "FETCH 1:2 (BODY.PEEK[HEADER.FIELDS (SUBJECT MESSAGE-ID)] BINARY.SIZE[1] BODY.PEEK[TEXT]<5.20>)",
    "SEARCH CHARSET UTF-8 SUBJECT {5}",
    "INBOX RETURN (MIN MAX COUNT)",
    "UID SEARCH RETURN (ALL) FLAGGED",
    "SORT (REVERSE DATE) UTF-8 ALL",
    "THREAD REFERENCES UTF-8 ALL",
    "UID STORE 1 +FLAGS (\\Flagged $Work)",
    "STORE 1:3 (UNCHANGEDSINCE 1) -FLAGS.SILENT (\\Seen)",
    "UID STORE 2 FLAGS ()",
    "CREATE \"a {3}\"",
    "APPEND \"a {3}\" (\\Draft kw) \"17-Jul-1996 02:44:25 -0700\" {47}",
    "Subject: * 1 FETCH (X {99}\r\n\r\na1 NO over {12}\r\n.",
    "APPEND {5}",
    "a {3} \"17-Jul-1996 02:44:25 -0700\" {22}",
    "Subject: b\r\n\r\nbodies\r\n",
    "UID COPY 1:5 \"a {3}\"",
    "UID MOVE 5 \"a {3}\"",
    "LIST \"\" %",
    "SUBSCRIBE \"a {3}\"",
    "RENAME \"a {3}\" \"b {4+}\"",
    "SELECT \"b {4+}\"",
    "UID FETCH 1:* (FLAGS BODY[])",
    "IDLE",
    "DONE",
    "UID STORE 1 +FLAGS (\\Deleted)",
    "UID EXPUNGE 1",
    "GETQUOTAROOT INBOX",
    "CLOSE",
    "DELETE \"b {4+}\"",
    "SELECT nowhere",
    "FETCH",
    "NOSUCH command {2}",
    "xx",
    "UNSELECT",
    "CAPABILITY",
    "LOGOUT",
];

/// Numbers that are another in every run: clocks, and UIDVALIDITY of what is made now.
fn masked(line: &[u8]) -> Vec<u8> {
    let mut text: String = line.iter().map(|octet| char::from(*octet)).collect();
    // What the server's index has noticed by now.
    text = text.replace(" \\UnMarked", "").replace(" \\Marked", "");
    if let Some(at) = text.rfind(" (").filter(|_| text.trim_end().ends_with(" secs).")) {
        text.truncate(at);
    }
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        if matches!(words[at - 1].as_str(), "[UIDVALIDITY" | "[APPENDUID" | "[COPYUID") {
            words[at] = words[at].replace(|digit: char| digit.is_ascii_digit(), "N");
        }
    }
    words.join(" ").into_bytes()
}

/// Plays the script; gives every response with what provoked it.
fn play(imap: &mut Imap) -> Vec<(String, Vec<u8>)> {
    let mut heard = Vec::new();
    let mut tag = String::new();
    let mut continued = false;
    for line in SCRIPT {
        if continued {
            imap.send(format!("{line}\r\n").as_bytes());
        } else {
            tag = imap.start(line);
        }
        continued = false;
        while let Some(response) = imap.try_response() {
            let ended = response.starts_with(format!("{tag} ").as_bytes());
            continued = response.starts_with(b"+");
            heard.push(((*line).to_owned(), masked(&response)));
            if ended || continued {
                break;
            }
        }
    }
    heard.push(("the end".to_owned(), imap.try_line().unwrap_or_default()));
    heard
}

#[test]
fn a_session_through_the_proxy_reads_as_one_without() {
    let bench = Bench::start(&["u1", "u2"]);
    nasty::without_large(&bench.server, "u1");
    nasty::without_large(&bench.server, "u2");
    let own = play(&mut bench.direct("u1"));
    let through = play(&mut bench.session("u2"));
    let shown = |(line, response): &(String, Vec<u8>)| format!("{line}: {}", String::from_utf8_lossy(response));
    for (ours, theirs) in through.iter().zip(&own) {
        assert!(ours == theirs, "\nthrough: {}\n   own: {}", shown(ours), shown(theirs));
    }
    assert_eq!(through.len(), own.len());
    let answers = own.iter().filter(|(line, response)| !line.is_empty() && !response.starts_with(b"*")).count();
    assert!(answers >= SCRIPT.len(), "{answers} answers");
}

#[test]
fn pipelined_commands_come_back_octet_by_octet() {
    let bench = Bench::start(&["u1", "u2"]);
    nasty::small(&bench.server, "u1");
    nasty::small(&bench.server, "u2");
    let raw = |user: &str, port: u16| {
        let mut imap = Imap::connect(port);
        imap.login(user, bench.server.password(user));
        let mut all = Vec::new();
        for (number, line) in SCRIPT.iter().enumerate().filter(|(_, line)| line.starts_with("FETCH 1")) {
            all.extend_from_slice(format!("p{number} {line}\r\n").as_bytes());
        }
        imap.send(&[b"s SELECT INBOX\r\n", all.as_slice(), b"x LIST \"\" {1+}\r\n*\r\nz LOGOUT\r\n"].concat());
        let (said, closed) = imap.read_to_end(LONG);
        assert!(closed);
        said
    };
    let (own, through) = (raw("u1", bench.server.imap_port()), raw("u2", bench.ferry.imap()));
    // Line by line, with their ends, for the clocks in some of them.
    let lines = |said: &[u8]| -> Vec<Vec<u8>> { said.split_inclusive(|octet| *octet == b'\n').map(masked).collect() };
    assert!(own.len() > 1500);
    assert_eq!(
        lines(&through).iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>(),
        lines(&own).iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>()
    );
}
