//! Lines as real servers write them, with and against the grammar.

use super::{Body, Code, Fetch, ListItem, Namespace, Response, Status, StatusItems, announces_body, response};
use proptest::prelude::*;

fn fetch(line: &str) -> Fetch {
    match response(line.as_bytes()) {
        Response::Fetch(fetch) => fetch,
        other => panic!("{line}: {other:?}"),
    }
}

fn list(line: &str) -> ListItem {
    match response(line.as_bytes()) {
        Response::List(item) => item,
        other => panic!("{line}: {other:?}"),
    }
}

fn owned(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn statuses_with_and_without_code_and_text() {
    assert_eq!(
        response(b"a1 OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n"),
        Response::Tagged {
            tag: b"a1",
            status: Status::Ok,
            code: Some(Code { name: b"CAPABILITY", arg: b"IMAP4rev1 IDLE" }),
            text: b"Logged in",
            raw: b"[CAPABILITY IMAP4rev1 IDLE] Logged in",
        }
    );
    assert_eq!(
        response(b"a1 no"),
        Response::Tagged { tag: b"a1", status: Status::No, code: None, text: b"", raw: b"" }
    );
    assert_eq!(
        response(b"*  bye  [unavailable]\r\n"),
        Response::Status {
            status: Status::Bye,
            code: Some(Code { name: b"unavailable", arg: b"" }),
            text: b"",
            raw: b"[unavailable]",
        }
    );
    assert_eq!(response(b"+\r\n"), Response::Continuation(b""));
    assert_eq!(response(b"+ OK, \xe4\n"), Response::Continuation(b"OK, \xe4"));
    assert_eq!(response(b"a1"), Response::Other(b"a1"));
    assert_eq!(response(b"hello world\r\n"), Response::Other(b"hello world\r\n"));
    assert_eq!(response(b""), Response::Other(b""));
}

#[test]
fn codes_end_at_their_own_bracket() {
    for (line, name, arg, text) in [
        ("* OK [PERMANENTFLAGS (a[b] \\*)] Limited", "PERMANENTFLAGS", "(a[b] \\*)", "Limited"),
        ("* NO [BADCHARSET (\"x]\\\"(\")]x", "BADCHARSET", "(\"x]\\\"(\")", "x"),
        ("* OK [UIDNEXT 7]", "UIDNEXT", "7", ""),
        ("* OK [ALERT  ] a ] b", "ALERT", "", "a ] b"),
        ("* OK [BROKEN (x] y", "BROKEN", "(x", "y"),
    ] {
        match response(line.as_bytes()) {
            Response::Status { code: Some(code), text: found, .. } => {
                assert!(code.is(&name.to_lowercase()), "{line}");
                assert_eq!((code.arg, found), (arg.as_bytes(), text.as_bytes()), "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(matches!(response(b"* OK [never closed"), Response::Status { code: None, text: b"[never closed", .. }));
    assert_eq!(Code { name: b"UIDNEXT", arg: b" 7 " }.number(), Some(7));
}

#[test]
fn numbers_and_words() {
    assert_eq!(response(b"* 23 EXISTS\r\n"), Response::Exists(23));
    assert_eq!(response(b"* 4294967295 expunge"), Response::Expunge(u32::MAX));
    assert_eq!(response(b"* 0 RECENT "), Response::Recent(0));
    assert_eq!(response(b"* 4294967296 EXISTS"), Response::Other(b"* 4294967296 EXISTS"));
    assert_eq!(response(b"* SORT 1 2\r\n"), Response::Other(b"* SORT 1 2\r\n"));
    assert_eq!(response(b"* CAPABILITY IMAP4rev1  IDLE \r\n"), Response::Capability(vec![b"IMAP4rev1", b"IDLE"]));
    assert_eq!(response(b"* ENABLED\r\n"), Response::Enabled(vec![]));
    assert_eq!(
        response(b"* FLAGS ( \\Seen  $a[b] \xe4 )\r\n"),
        Response::Flags(vec![b"\\Seen".to_vec(), b"$a[b]".to_vec(), b"\xe4".to_vec()])
    );
}

#[test]
fn numbers_that_were_found() {
    for (line, found) in [
        ("* SEARCH 2 1 4294967295", vec![2..=2, 1..=1, u32::MAX..=u32::MAX]),
        ("* SEARCH", vec![]),
        ("* SEARCH 3 (MODSEQ 917)", vec![3..=3]),
        ("* ESEARCH (TAG \"a\") UID ALL 1:3,9,20:12", vec![1..=3, 9..=9, 12..=20]),
        ("* ESEARCH (TAG \"a\") UID MIN 2 ALL 7 MODSEQ 9", vec![7..=7]),
        ("* ESEARCH (TAG \"ALL\") UID", vec![]),
        ("* ESEARCH (TAG \"a\") UID ALL 1:x,4294967296,5", vec![5..=5]),
    ] {
        assert_eq!(response(format!("{line}\r\n").as_bytes()), Response::Search(found), "{line}");
    }
}

#[test]
fn metadata_of_a_message() {
    let line = "* 12 FETCH (UID 77 FLAGS (\\Seen $x) INTERNALDATE \" 7-Jul-1996 02:44:25 -0700\" RFC822.SIZE 4294967296 MODSEQ (9))\r\n";
    assert_eq!(
        fetch(line),
        Fetch {
            seq: 12,
            uid: Some(77),
            flags: Some(owned(&["\\Seen", "$x"])),
            internal_date: Some(b" 7-Jul-1996 02:44:25 -0700".to_vec()),
            size: Some(4_294_967_296),
            modseq: Some(9),
            guid: None,
            gm_msgid: None,
            body: None,
        }
    );
}

#[test]
fn a_message_of_a_dovecot_has_a_guid() {
    let read = |line: &str| fetch(line).guid;
    assert_eq!(read("* 1 FETCH (UID 5 X-GUID 0123456789abcdef0123456789abcdef)\r\n").unwrap().len(), 32);
    assert_eq!(read("* 1 FETCH (X-GUID \"1.M2P3.host\" UID 5)\r\n"), Some(b"1.M2P3.host".to_vec()));
    assert_eq!(read("* 1 FETCH (UID 5)\r\n"), None);
}

#[test]
fn a_message_of_gmail_has_a_number() {
    let read = fetch("* 1 FETCH (X-GM-MSGID 1278455344230334865 UID 5)\r\n");
    assert_eq!((read.gm_msgid, read.uid), (Some(0x11bd_fc5c_ae0c_8191), Some(5)));
    assert_eq!(fetch("* 1 FETCH (UID 5)\r\n").gm_msgid, None);
}

#[test]
fn unknown_items_are_skipped_whole() {
    for middle in [
        "X-GM-LABELS (\"a)\" \\\\Inbox (b {3}\r\n)(\" c))",
        "X-GM-MSGID 1234567890123456789",
        "PREVIEW {6}\r\n) UID ",
        "PREVIEW \"\\\") UID 9\"",
        "EMAILID (M1)",
        "ENVELOPE ()",
        "ENVELOPE (NIL {2}\r\n)) NIL ((NIL NIL \"a\" {1}\r\n\")) NIL)",
        "BODYSTRUCTURE((\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" -1 0) \"MIXED\")",
        "BODY (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"x\") NIL NIL \"8BIT\" 1 1)",
        "SAVEDATE NIL ",
        "BINARY.SIZE[1] 7",
        "",
        "   ",
    ] {
        let line = format!("* 1 FETCH (FLAGS () {middle} UID 5)\r\n");
        let read = fetch(&line);
        assert_eq!((read.uid, read.flags, read.body), (Some(5), Some(vec![]), None), "{middle}");
    }
}

#[test]
fn values_against_the_grammar() {
    let read = fetch("* 1 FETCH (UID 0 RFC822.SIZE -1 INTERNALDATE NIL MODSEQ 7 FLAGS (\\\\Seen a] \u{fc} ))");
    assert_eq!((read.uid, read.size, read.internal_date, read.modseq), (Some(0), None, None, Some(7)));
    assert_eq!(read.flags, Some(owned(&["\\\\Seen", "a]", "\u{fc}"])));
    assert_eq!(fetch("* 1 fetch ()").uid, None);
    // Broken off: what was read stays.
    assert_eq!(fetch("* 1 FETCH (UID 3 FLAGS (\\Seen").uid, Some(3));
    assert_eq!(fetch("* 1 FETCH (UID 3 X \"open").uid, Some(3));
    assert_eq!(fetch("* 1 FETCH (UID 3 BODY[] {99}\r\nshort)").body, None);
    assert_eq!(response(b"* 1 FETCH UID 3"), Response::Other(b"* 1 FETCH UID 3"));
    // A value without a name, and a name without a value.
    assert_eq!(fetch("* 1 FETCH (\"stray\" (list) UID 3 X-LAST)").uid, Some(3));
}

#[test]
fn bodies() {
    let body = |item: &str| fetch(&format!("* 1 FETCH ({item} UID 5)\r\n"));
    for (item, expected) in [
        ("BODY[] {5}\r\na\0\r\n)", Some(Body::Inline(b"a\0\r\n)".to_vec()))),
        ("BODY[]{3}\r\nabc", Some(Body::Inline(b"abc".to_vec()))),
        ("BODY[] ~{3}\r\nabc", Some(Body::Inline(b"abc".to_vec()))),
        ("body[] \"q\\\"\"", Some(Body::Inline(b"q\"".to_vec()))),
        ("BODY[] \"\"", Some(Body::Inline(vec![]))),
        ("BODY[] nil", Some(Body::Nil)),
        ("BODY[] ~STREAMED", Some(Body::Streamed)),
        ("BODY[] ~~STREAMED", Some(Body::Streamed)),
        ("BODY[]<0> ~STREAMED", Some(Body::Streamed)),
        ("RFC822 ~STREAMED", Some(Body::Streamed)),
        ("RFC822.TEXT {0}\r\n", Some(Body::Inline(vec![]))),
        ("BINARY[1.2] {1}\r\nx", Some(Body::Inline(b"x".to_vec()))),
        ("BODY[HEADER.FIELDS (\"a]\" {3}\r\nb)])] {1}\r\nx", Some(Body::Inline(b"x".to_vec()))),
        ("BODY[HEADER.FIELDS (To)] {1}\r\nx BODY[TEXT] {1}\r\ny", Some(Body::Inline(b"x".to_vec()))),
        ("BODY[] 7", None),
    ] {
        let read = body(item);
        assert_eq!((read.body, read.uid), (expected, Some(5)), "{item}");
    }
}

#[test]
fn mail_content_stays_out_of_debug() {
    assert_eq!(format!("{:?}", Body::Inline(b"secret".to_vec())), "Inline(6 octets)");
}

#[test]
fn which_literals_are_message_octets() {
    for line in [
        "* 1 FETCH (BODY[] ",
        "* 1 FETCH (UID 5 BODY[]",
        "* 1 FETCH (UID 5 FLAGS (\\Seen) body[]<0> ",
        "* 1 FETCH (ENVELOPE (\"x\" {2}\r\n)) NIL) RFC822 ",
        "* 1 FETCH (PREVIEW ~STREAMED BODY[HEADER.FIELDS (\"To\" Cc)] ",
        "* 1 FETCH (RFC822.HEADER ",
        "* 1 FETCH (RFC822.TEXT ",
        "* 1 FETCH (BINARY[1] ~",
        "* 1 FETCH (BODY[HEADER] ~STREAMED BODY[TEXT] ",
    ] {
        assert!(announces_body(line.as_bytes()), "{line}");
    }
    for line in [
        "* 1 FETCH (ENVELOPE (",
        "* 1 FETCH (ENVELOPE (\"BODY[]\" ",
        "* 1 FETCH (BODY (\"TEXT\" ",
        "* 1 FETCH (BODY ",
        "* 1 FETCH (BODY[HEADER.FIELDS (",
        "* 1 FETCH (BODY[HEADER.FIELDS (To ",
        "* 1 FETCH (PREVIEW ",
        "* 1 FETCH (UID 5)",
        "* 1 FETCH ",
        "* LIST () \"/\" BODY[] ",
        "a1 OK FETCH (BODY[] ",
        "",
    ] {
        assert!(!announces_body(line.as_bytes()), "{line}");
    }
}

#[test]
fn mailboxes_quoted_and_not() {
    for (line, attributes, delimiter, name) in [
        (
            "* LIST (\\HasNoChildren \\Sent) \"/\" \"Sent Mail\"\r\n",
            vec!["\\HasNoChildren", "\\Sent"],
            Some(b'/'),
            "Sent Mail",
        ),
        ("* LIST () \".\" INBOX", vec![], Some(b'.'), "INBOX"),
        ("* LIST () NIL {9}\r\na\" (\"b\\c\r\r\n", vec![], None, "a\" (\"b\\c\r"),
        ("* LIST () \"\" x", vec![], None, "x"),
        ("* LIST () / x", vec![], Some(b'/'), "x"),
        ("* LIST () \"\\\\\" \"a\\\\b\\\"c\"", vec![], Some(b'\\'), "a\\b\"c"),
        ("* LIST ( ) \"/\"  \u{fc} 100% (new) \r\n", vec![], Some(b'/'), "\u{fc} 100% (new)"),
        ("* LIST () \"/\" foo (\"CHILDINFO\" (\"SUBSCRIBED\"))", vec![], Some(b'/'), "foo"),
        ("* LIST () \"/\" foo ((\"x\") y)", vec![], Some(b'/'), "foo"),
        ("* LIST () \"/\" \"foo\" (OLDNAME (\"bar\"))", vec![], Some(b'/'), "foo"),
        ("* LIST () \"/\" {3}\r\nfoo (OLDNAME (\"bar\"))", vec![], Some(b'/'), "foo"),
        ("* LIST () \"/\" NIL", vec![], Some(b'/'), "NIL"),
        ("* LIST () \"/\" \"\"", vec![], Some(b'/'), ""),
    ] {
        let expected = ListItem { attributes: owned(&attributes), delimiter, name: name.as_bytes().to_vec() };
        assert_eq!(list(line), expected, "{line}");
    }
    assert!(matches!(response(b"* LSUB () \"/\" x"), Response::Lsub(item) if item.name == b"x"));
    for line in ["* LIST", "* LIST ()", "* LIST () \"/\"", "* LIST () \"/\" \r\n", "* LIST x \"/\" y"] {
        assert!(matches!(response(line.as_bytes()), Response::Other(_)), "{line}");
    }
}

#[test]
fn status_items() {
    let expected = StatusItems {
        name: b"a b".to_vec(),
        messages: Some(5),
        uid_next: Some(7),
        uid_validity: Some(0),
        unseen: None,
        highest_modseq: Some(1 << 40),
    };
    for name in ["\"a b\"", "{3}\r\na b", "a b"] {
        let line = format!(
            "* STATUS {name} (MESSAGES 5 MAILBOXID (x 1) uidnext 7 APPENDLIMIT NIL UIDVALIDITY 0 UNSEEN -1 HIGHESTMODSEQ 1099511627776 ) \r\n"
        );
        assert_eq!(response(line.as_bytes()), Response::StatusItems(expected.clone()), "{name}");
    }
    assert!(matches!(response(b"* STATUS x"), Response::Other(_)));
}

#[test]
fn namespaces_and_id() {
    let Response::Namespace(namespaces) =
        response(b"* NAMESPACE ((\"INBOX.\" \".\") (\"\" NIL)) NIL ((\"shared/\" \"/\" \"X\" (\"y\")))\r\n")
    else {
        panic!("not a namespace");
    };
    let namespace = |prefix: &str, delimiter| Namespace { prefix: prefix.as_bytes().to_vec(), delimiter };
    assert_eq!(namespaces.personal, [namespace("INBOX.", Some(b'.')), namespace("", None)]);
    assert_eq!(namespaces.other, []);
    assert_eq!(namespaces.shared, [namespace("shared/", Some(b'/'))]);

    assert_eq!(response(b"* ID NIL"), Response::Id(vec![]));
    assert_eq!(
        response(b"* ID (\"name\" \"x\" \"os\" NIL)"),
        Response::Id(vec![(b"name".to_vec(), Some(b"x".to_vec())), (b"os".to_vec(), None)])
    );
}

proptest! {
    #[test]
    fn any_octets_are_read(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = response(&bytes);
        let _ = announces_body(&bytes);
    }

    #[test]
    fn anything_like_a_response_is_read(line in "(\\* (1 FETCH|LIST|STATUS|NAMESPACE|ID|OK) )?[-(){}\\[\\]\"\\\\~*+ 0-9A-C\r\n]{0,60}") {
        let _ = response(line.as_bytes());
        let _ = announces_body(line.as_bytes());
    }

    #[test]
    fn a_body_comes_back_whatever_its_octets(body in prop::collection::vec(any::<u8>(), 0..60), uid in 1_u32..) {
        let mut line = format!("* 1 FETCH (X (a {{{0}}}\r\n", body.len()).into_bytes();
        line.extend_from_slice(&body);
        line.extend_from_slice(format!(") BODY[] {{{}}}\r\n", body.len()).as_bytes());
        line.extend_from_slice(&body);
        line.extend_from_slice(format!(" UID {uid})\r\n").as_bytes());
        let Response::Fetch(fetch) = response(&line) else { panic!("not a FETCH") };
        prop_assert_eq!((fetch.uid, fetch.body), (Some(uid), Some(Body::Inline(body))));
    }
}

#[test]
fn quotas_and_rights() {
    let quota = |line: &[u8]| match response(line) {
        Response::Quota(item) => item,
        other => panic!("{other:?}"),
    };
    let item = quota(b"* QUOTA \"User quota\" (STORAGE 10 512 MESSAGE 3 1000 X-ODD 1 2)\r\n");
    assert_eq!(
        (item.root.as_slice(), item.storage, item.messages),
        (&b"User quota"[..], Some((10, 512)), Some((3, 1000)))
    );
    let item = quota(b"* QUOTA \"\" ()\r\n");
    assert_eq!((item.storage, item.messages), (None, None));
    assert!(matches!(response(b"* QUOTA \"\"\r\n"), Response::Other(_)));
    let rights = Response::MyRights(b"a b".to_vec(), b"lrs".to_vec());
    assert_eq!(response(b"* MYRIGHTS \"a b\" lrs\r\n"), rights);
    let Response::Acl(item) = response(b"* ACL INBOX ben lrs \"anyone\" \"\"\r\n") else { panic!() };
    assert_eq!(item.name, b"INBOX");
    let entries = [(b"ben".to_vec(), b"lrs".to_vec()), (b"anyone".to_vec(), Vec::new())];
    assert_eq!(item.entries, entries);
}
