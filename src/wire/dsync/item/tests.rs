//! Against the lines of a real session with Dovecot 2.3.19.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::dsync::layout::{Layout, parse_guid};

const INBOX: &str = "b62da02bfc33b02cca9f9d32c8247b2d";

fn guid(hex: &str) -> Guid {
    parse_guid(hex.as_bytes()).unwrap()
}

fn sent(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    encode(&mut out);
    String::from_utf8(out).unwrap()
}

fn layout() -> Layout {
    let mut layout = Layout::default();
    for line in PREAMBLE.lines().skip(1).filter(|line| *line != ".") {
        layout.announce(line.as_bytes()[0], &line.as_bytes()[1..]).unwrap();
    }
    layout
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_handshake_can_only_merge() {
    let line = sent(|out| handshake("~importer", Mode::Full, 30, (&[], None), out));
    assert_eq!(
        line,
        "H~importer\t\x02\t\x02\t\x02\tf\t\x02\t\x02\t\x02\t\x02\t\t30\t\x02\t\t\t\x02\tDate\x01tMessage-ID\x01t\t_\n"
    );
    let namespaces = ["".to_owned(), "Public/".to_owned()];
    let state = sent(|out| handshake("~importer", Mode::State, 30, (&namespaces, Some("Virtual/All")), out));
    assert!(
        state.starts_with("H~importer\t\x01nPublic/\t"),
        "namespaces by their prefixes, of which one is empty: {state}"
    );
    let fields: Vec<&str> = state.trim_start_matches('H').trim_end().split('\t').collect();
    assert_eq!(
        (fields[4], fields[8], fields[9], fields[12]),
        ("s", "\x02", "", ""),
        "backup_recv, no_backup_overwrite"
    );
    assert_eq!(fields[17], "Virtual/All", "virtual_all_box");
}

#[test]
fn nodes_as_recorded() {
    let inbox = Node {
        name: names(&["INBOX"]),
        mailbox: Some(NodeMailbox { guid: guid(INBOX), uid_validity: 1_234_567, uid_next: 20 }),
        changed_at: 1_795_472_387,
        subscribed: false,
        subscription_changed_at: 0,
    };
    assert_eq!(
        sent(|out| inbox.encode(true, out)),
        "NINBOX\ty\tb62da02bfc33b02cca9f9d32c8247b2d\t1234567\t20\t1795472387\n"
    );
    let nested = Node {
        name: names(&["Archive", "2024"]),
        subscribed: true,
        subscription_changed_at: 1_795_472_387,
        ..inbox.clone()
    };
    assert_eq!(
        sent(|out| nested.encode(true, out)),
        "NArchive\x01t2024\ty\tb62da02bfc33b02cca9f9d32c8247b2d\t1234567\t20\t1795472387\t\t1795472387\n"
    );
    let parent = Node { name: names(&["Archive"]), mailbox: None, changed_at: 0, ..inbox };
    assert_eq!(sent(|out| parent.encode(true, out)), "NArchive\tn\n");
    let ghost = Node { subscribed: true, subscription_changed_at: 7, ..parent };
    assert_eq!(sent(|out| ghost.encode(true, out)), "NArchive\tn\t\x02\t\x02\t\x02\t\x02\t\t7\n");
}

#[test]
fn what_a_slave_would_unescape_in_a_name_is_escaped() {
    let name = |part: &str, escapes| {
        let node =
            Node { name: names(&[part]), mailbox: None, changed_at: 0, subscribed: false, subscription_changed_at: 0 };
        sent(|out| node.encode(escapes, out))
    };
    assert_eq!(name("%41", true), "N%2541\tn\n", "else it would become A");
    assert_eq!(name("100% %zz %%41 %2%41", true), "N100% %zz %%2541 %2%2541\tn\n");
    assert_eq!(name("a\tb\x01ü", true), "Na%09b%01ü\tn\n", "else it would become a_b_ü");
    assert_eq!(name("%41\x02", false), "N%41\x02\tn\n", "a Dovecot 2.2 doesn't unescape");
}

#[test]
fn a_conflict_is_seen() {
    let line = format!("{INBOX}\t0\t29\t1\t0\t5\t");
    let layout = layout();
    let state = MailboxState::parse(&layout.record(b'S', line.as_bytes()).unwrap()).unwrap();
    assert!(state.conflict && state.uid_validity == 0);
}

#[test]
fn the_peers_nodes_are_read() {
    let layout = layout();
    let line = b"Archive\x01t2024\ty\td9b4483c2676b523cfc181e69d73f92d\t777\t4\t\x02\t\t1795472387";
    let node = Node::parse(&layout.record(b'N', line).unwrap()).unwrap();
    assert_eq!(node.name, ["Archive", "2024"]);
    assert_eq!(node.mailbox.unwrap().uid_next, 4);
    assert!(node.subscribed && node.changed_at == 0 && node.subscription_changed_at == 1_795_472_387);
    let parent = Node::parse(&layout.record(b'N', b"Archive\tn").unwrap()).unwrap();
    assert_eq!((parent.mailbox, parent.subscribed), (None, false));
}

#[test]
fn a_peer_may_order_its_fields_as_it_likes() {
    let mut layout = Layout::default();
    layout.announce(b'S', b"new_field\tlast_common_uid\tmailbox_guid\tlast_common_modseq\tlast_uidvalidity").unwrap();
    let line = format!("x\t19\t{INBOX}\t5000\t1234567");
    let state = MailboxState::parse(&layout.record(b'S', line.as_bytes()).unwrap()).unwrap();
    let wanted = MailboxState {
        guid: guid(INBOX),
        uid_validity: 1_234_567,
        last_common_uid: 19,
        last_common_modseq: 5000,
        messages: 0,
        conflict: false,
    };
    assert_eq!(state, wanted);
    assert_eq!(layout.record(b'B', b"x").unwrap_err(), ItemError::Unannounced('B'));
}

#[test]
fn states_and_statuses_as_recorded() {
    let state = MailboxState {
        guid: guid(INBOX),
        uid_validity: 1_234_567,
        last_common_uid: 19,
        last_common_modseq: 5000,
        messages: 3,
        conflict: false,
    };
    let line = sent(|out| state.encode(out));
    assert_eq!(line, "Sb62da02bfc33b02cca9f9d32c8247b2d\t1234567\t19\t5000\t0\t3\n");
    let layout = layout();
    let fields = &line.trim_end().as_bytes()[1..];
    assert_eq!(MailboxState::parse(&layout.record(b'S', fields).unwrap()).unwrap(), state);

    let status = MailboxStatus {
        guid: guid(INBOX),
        uid_validity: 1_234_567,
        uid_next: 20,
        messages: 1_000_003,
        first_recent_uid: 20,
        highest_modseq: 5000,
    };
    assert_eq!(
        sent(|out| status.encode(out)),
        "Bb62da02bfc33b02cca9f9d32c8247b2d\t1234567\t20\t1000003\t20\t5000\t0\t\x02\t\x02\t\x02\t\t\n"
    );
}

#[test]
fn replies_to_a_status() {
    let layout = layout();
    let parse = |line: String| MailboxStatus::parse(&layout.record(b'B', line.as_bytes()).unwrap());
    let known = parse(format!("{INBOX}\t7\t1\t0\t1\t1\t0\t\x02\t\x02\tflags\x01tt\t\t")).unwrap().1;
    assert!(matches!(known, StatusReply::Known(MailboxStatus { uid_validity: 7, uid_next: 1, .. })));
    assert_eq!(parse(format!("{INBOX}\t0\t0\t0\t0\t0\t0\t")).unwrap(), (guid(INBOX), StatusReply::Lost));
    assert_eq!(parse(format!("{INBOX}\t0\t0\t0\t0\t0\t0\t\x02\t")).unwrap().1, StatusReply::Ignored);
    assert_eq!(parse(INBOX.to_owned()).unwrap_err(), ItemError::Missing("uid_validity"));
    assert!(matches!(parse(format!("{INBOX}\t-7")).unwrap_err(), ItemError::Value { field: "uid_validity", .. }));
    assert!(matches!(parse("short".to_owned()).unwrap_err(), ItemError::Value { field: "mailbox_guid", .. }));
}

#[test]
fn changes_as_recorded() {
    let encode = |uid, hex, kind| sent(|out| Change { uid, guid: guid(hex), kind }.encode(out));
    let keywords = names(&["$Forwarded", "NonJunk"]);
    assert_eq!(
        encode(
            12,
            "70285d6f0bc925460d35f0e39f39e8a3",
            ChangeKind::Save { modseq: 1003, flags: 0, keywords: &keywords }
        ),
        "Cs\t12\t70285d6f0bc925460d35f0e39f39e8a3\t\x02\t1003\t\x02\t\x02\t\x02\t\x02\t\x02\t&$Forwarded\x01t&NonJunk\n"
    );
    assert_eq!(
        encode(9, "1ae082c01786b4255a3d1cd8929e3272", ChangeKind::Save { modseq: 0, flags: 0x1a, keywords: &[] }),
        "Cs\t9\t1ae082c01786b4255a3d1cd8929e3272\t\x02\t0\t\x02\t\x02\t\x02\t1a\n"
    );
    let flags = ChangeKind::Flags {
        modseq: 6001,
        add: 1,
        remove: 8,
        final_flags: 1,
        keep: &names(&["k"]),
        gain: &names(&["g"]),
        lose: &names(&["l"]),
    };
    assert_eq!(
        encode(5, "8325238c08188e74fa5624e2bfb631ba", flags),
        "Cf\t5\t8325238c08188e74fa5624e2bfb631ba\t\x02\t6001\t\x02\t1\t8\t1\t\x02\t=k\x01t&g\x01t-l\n"
    );
    assert_eq!(
        encode(9, "1ae082c01786b4255a3d1cd8929e3272", ChangeKind::Expunge),
        "Ce\t9\t1ae082c01786b4255a3d1cd8929e3272\n"
    );
}

#[test]
fn mails_as_recorded() {
    let mut mail = Mail {
        guid: guid("8325238c08188e74fa5624e2bfb631ba"),
        received: 1_577_836_800,
        uidl: Some("old-uidl-c"),
        order: Some(3),
    };
    assert_eq!(
        sent(|out| mail.encode(out)),
        "M8325238c08188e74fa5624e2bfb631ba\t\x02\told-uidl-c\t3\t1577836800\t\x02\t\n"
    );
    (mail.uidl, mail.order) = (None, None);
    assert_eq!(
        sent(|out| mail.encode(out)),
        "M8325238c08188e74fa5624e2bfb631ba\t\x02\t\x02\t\x02\t1577836800\t\x02\t\n"
    );
}

#[test]
fn the_end_of_the_tree_with_and_without_deletions() {
    assert_eq!(sent(|out| deletions(&[], &[], out)), "D/\t%\n");
    let gone = [Deletion { guid: guid(INBOX), at: 7 }, Deletion { guid: [0; 16], at: 9 }];
    let zeros = "0".repeat(32);
    assert_eq!(sent(|out| deletions(&gone, &[], out)), format!("D/\t%\t{INBOX} 7 {zeros} 9\n"));
    assert_eq!(sent(|out| deletions(&gone[..1], &gone[1..], out)), format!("D/\t%\t{INBOX} 7\t{zeros} 9\n"));
    assert_eq!(sent(|out| deletions(&[], &gone[1..], out)), format!("D/\t%\t\x02\t{zeros} 9\n"));
}

#[test]
fn finishing_with_and_without_an_error() {
    let layout = layout();
    let parse = |line: &[u8]| Finish::parse(&layout.record(b'F', line).unwrap()).unwrap();
    assert_eq!(parse(b""), Finish::default(), "just the letter");
    assert_eq!(
        parse(b"Out of space\t6\t"),
        Finish { error: Some("Out of space".into()), mail_error: Some(6), full_resync: true }
    );
    assert_eq!(parse(b"\x02\t\x02\t"), Finish { error: None, mail_error: None, full_resync: true });
}

#[test]
fn a_header_line_is_bounded() {
    let many = "x\t".repeat(65);
    assert_eq!(Layout::default().announce(b'H', many.as_bytes()), Err(ItemError::TooManyFields));
}
