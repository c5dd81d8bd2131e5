//! A scripted slave against the machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]
use super::*;
use crate::wire::dsync::item::{NodeMailbox, PREAMBLE};
use crate::wire::dsync::peer::MAX_NODES;

const INBOX: &str = "b62da02bfc33b02cca9f9d32c8247b2d";
const MAIL: [Guid; 3] = [[0x11; 16], [0x22; 16], [0x33; 16]];

fn inbox() -> Guid {
    let mut guid = [0; 16];
    for (at, byte) in guid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&INBOX[at * 2..at * 2 + 2], 16).unwrap();
    }
    guid
}

fn opening(mode: Mode) -> Opening {
    Opening {
        hostname: "~mailferry".to_owned(),
        lock_timeout: 30,
        mode,
        states: if mode == Mode::State { vec![common_state()] } else { vec![] },
        namespaces: vec![],
        nodes: vec![Node {
            name: vec!["INBOX".to_owned()],
            mailbox: Some(NodeMailbox { guid: inbox(), uid_validity: 7, uid_next: 20 }),
            changed_at: 0,
            subscribed: false,
            subscription_changed_at: 0,
        }],
        delete: vec![],
        delete_folders: vec![],
        virtual_all: None,
    }
}

fn common_state() -> MailboxState {
    MailboxState {
        guid: inbox(),
        uid_validity: 7,
        last_common_uid: 12,
        last_common_modseq: 1,
        messages: 3,
        conflict: false,
    }
}

fn status(uid_next: u32) -> MailboxStatus {
    MailboxStatus {
        guid: inbox(),
        uid_validity: 7,
        uid_next,
        messages: 3,
        first_recent_uid: uid_next,
        highest_modseq: 9,
    }
}

fn greeting(tree: &str) -> Vec<u8> {
    format!("\n+\n{PREAMBLE}Hvm\t\x02\n{tree}.\nD/\t%\n").into_bytes()
}

fn open(mode: Mode) -> Master {
    let mut master = Master::new(opening(mode));
    master.input(&greeting("")).unwrap();
    assert_eq!(master.poll(), Some(Event::Opened));
    master.take_output();
    master
}

/// With INBOX begun, and a target whose UIDNEXT is 13.
fn begun(mode: Mode) -> Master {
    let mut master = open(mode);
    master.begin_mailbox(&status(20)).unwrap();
    master.input(format!("B{INBOX}\t7\t13\t3\t1\t9\t0\n").as_bytes()).unwrap();
    assert!(matches!(master.poll(), Some(Event::Status(StatusReply::Known(_)))));
    assert!(String::from_utf8(master.take_output()).unwrap().ends_with("\n.\n"), "no attributes");
    master
}

fn save(uid: u32, guid: Guid) -> Change<'static> {
    Change { uid, guid, kind: ChangeKind::Save { modseq: 0, flags: 0, keywords: &[] } }
}

fn flags(uid: u32, add: u8, remove: u8) -> Change<'static> {
    let kind = ChangeKind::Flags { modseq: 9, add, remove, final_flags: add, keep: &[], gain: &[], lose: &[] };
    Change { uid, guid: MAIL[0], kind }
}

fn expunge(uid: u32) -> Change<'static> {
    Change { uid, guid: MAIL[0], kind: ChangeKind::Expunge }
}

fn mail(guid: Guid) -> Mail<'static> {
    Mail { guid, received: 7, uidl: None, order: None }
}

#[test]
fn a_whole_session() {
    let mut master = Master::new(opening(Mode::Full));
    assert!(master.unanswered());
    master.input(b"\n+\n").unwrap();
    let sent = String::from_utf8(master.take_output()).unwrap();
    let rest = sent.strip_prefix(PREAMBLE).expect("the preamble comes first");
    assert!(rest.starts_with("H~mailferry\t") && rest.lines().count() == 1, "{rest}");
    master.input(&greeting("NOld\ty\tb62da02bfc33b02cca9f9d32c8247b2d\t5\t6\n")[3..]).unwrap();
    let sent = String::from_utf8(master.take_output()).unwrap();
    assert_eq!(sent, format!("NINBOX\ty\t{INBOX}\t7\t20\n.\nD/\t%\n"), "no states in a full run");
    assert_eq!(master.poll(), Some(Event::Opened));
    assert_eq!(master.tree()[0].name, ["Old"]);

    master.begin_mailbox(&status(20)).unwrap();
    master.take_output();
    master.input(format!("B{INBOX}\t7\t1\t0\t1\t1\t0\n").as_bytes()).unwrap();
    master.poll().unwrap();
    master.change(&save(5, MAIL[0])).unwrap();
    master.change(&save(9, MAIL[1])).unwrap();
    master.end_changes().unwrap();
    for guid in &MAIL[..2] {
        master.begin_mail(&mail(*guid)).unwrap();
        master.mail_chunk(b".a\r\n").unwrap();
        master.mail_chunk(b".b").unwrap();
        master.end_mail().unwrap();
    }
    let state = MailboxState { last_common_uid: 19, messages: 2, ..common_state() };
    master.end_mailbox(&state).unwrap();
    let sent = String::from_utf8(master.take_output()).unwrap();
    let body = "..a\r\n..b\r\n.\r\n";
    let one = MAIL[0].map(|byte| format!("{byte:02x}")).concat();
    let two = MAIL[1].map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(
        sent,
        format!(
            ".\nCs\t5\t{one}\t\x02\t0\nCs\t9\t{two}\t\x02\t0\n.\n\
             M{one}\t\x02\t\x02\t\x02\t7\t\x02\t\n{body}M{two}\t\x02\t\x02\t\x02\t7\t\x02\t\n{body}.\nS{INBOX}\t7\t19\t1\t0\t2\n"
        )
    );
    master.input(format!("S{INBOX}\t7\t19\t1\t0\t2\n").as_bytes()).unwrap();
    assert_eq!(master.poll(), Some(Event::State(state)));
    master.finish().unwrap();
    assert_eq!(master.take_output(), b".\n");
    master.input(b"F\nX\n").unwrap();
    assert_eq!(master.poll(), Some(Event::Finished(Finish::default())));
    assert_eq!(master.poll(), Some(Event::Done));
}

#[test]
fn any_split_of_what_the_slave_says_gives_the_same() {
    let stream = greeting("NINBOX\ty\tb62da02bfc33b02cca9f9d32c8247b2d\t7\t20\nNA\x01tB\tn\n");
    for cut in 0..=stream.len() {
        let mut master = Master::new(opening(Mode::State));
        let (head, tail) = stream.split_at(cut);
        master.input(head).unwrap();
        master.input(tail).unwrap();
        assert_eq!((master.poll(), master.poll()), (Some(Event::Opened), None), "cut at {cut}");
        assert_eq!(master.tree().len(), 2);
    }
}

#[test]
fn states_go_before_the_tree() {
    let mut master = Master::new(opening(Mode::State));
    master.input(&greeting("")).unwrap();
    let sent = String::from_utf8(master.take_output()).unwrap();
    assert!(sent.contains(&format!("\t_\nS{INBOX}\t7\t12\t1\t0\t3\n.\nNINBOX\t")), "{sent}");
}

#[test]
fn below_a_state_only_flags_and_expunges_above_it_only_saves() {
    let mut master = begun(Mode::State);
    assert_eq!(
        master.change(&save(12, MAIL[0])),
        Err(Misuse::Kind { kind: "save", uid: 12, common: Some(12) }),
        "this one makes the slave die"
    );
    assert!(matches!(master.change(&flags(13, 1, 0)), Err(Misuse::Kind { kind: "flag change", .. })));
    assert!(matches!(master.change(&expunge(13)), Err(Misuse::Kind { kind: "expunge", .. })));
    assert_eq!(master.change(&flags(5, 1, 1)), Err(Misuse::Overlap(5)));
    assert_eq!(master.pending(), 0, "nothing of it was sent");
    master.change(&expunge(4)).unwrap();
    master.change(&flags(12, 1, 8)).unwrap();
    assert_eq!(master.change(&flags(12, 1, 8)), Err(Misuse::Order { uid: 12, last: 12 }));
    master.change(&save(13, MAIL[1])).unwrap();
    assert_eq!(master.change(&save(20, MAIL[2])), Err(Misuse::AboveUidNext { uid: 20, uid_next: 20 }));
}

#[test]
fn a_save_below_the_targets_uidnext_is_refused() {
    let mut master = open(Mode::State);
    master.begin_mailbox(&status(20)).unwrap();
    // The target got mail of its own: its UIDNEXT is 15, our state ends at 12.
    master.input(format!("B{INBOX}\t7\t15\t5\t1\t9\t0\n").as_bytes()).unwrap();
    master.poll().unwrap();
    assert_eq!(master.change(&save(13, MAIL[0])), Err(Misuse::BelowUidNext { uid: 13, uid_next: 15 }));
    master.change(&save(15, MAIL[0])).unwrap();
}

#[test]
fn a_full_list_knows_no_flag_changes() {
    let mut master = begun(Mode::Full);
    assert!(matches!(master.change(&flags(5, 1, 0)), Err(Misuse::Kind { common: None, .. })));
    master.change(&save(5, MAIL[0])).unwrap();
    master.change(&expunge(6)).unwrap();
}

#[test]
fn each_save_needs_its_body() {
    let mut master = begun(Mode::State);
    master.change(&save(13, MAIL[0])).unwrap();
    master.change(&save(14, MAIL[1])).unwrap();
    assert!(matches!(master.begin_mail(&mail(MAIL[0])), Err(Misuse::State { .. })));
    master.end_changes().unwrap();
    assert_eq!(master.begin_mail(&mail(MAIL[1])), Err(Misuse::Body), "out of order");
    assert_eq!(master.end_mailbox(&common_state()), Err(Misuse::Body), "missing");
    for guid in &MAIL[..2] {
        master.begin_mail(&mail(*guid)).unwrap();
        master.end_mail().unwrap();
    }
    assert_eq!(master.begin_mail(&mail(MAIL[0])), Err(Misuse::Body), "twice");
    assert_eq!(master.end_mailbox(&MailboxState { guid: MAIL[0], ..common_state() }), Err(Misuse::OtherMailbox));
    master.end_mailbox(&common_state()).unwrap();
}

#[test]
fn after_a_lost_mailbox_comes_the_next_one() {
    for (flags, reply) in [("\t", StatusReply::Lost), ("\t\x02\t", StatusReply::Ignored)] {
        let mut master = open(Mode::State);
        master.begin_mailbox(&status(20)).unwrap();
        master.take_output();
        master.input(format!("B{INBOX}\t0\t0\t0\t0\t0\t0{flags}\n").as_bytes()).unwrap();
        assert_eq!(master.poll(), Some(Event::Status(reply)));
        assert_eq!(master.pending(), 0, "a stray dot would end the session");
        assert!(matches!(master.change(&save(13, MAIL[0])), Err(Misuse::State { .. })));
        master.begin_mailbox(&status(20)).unwrap();
    }
}

#[test]
fn refusals_are_told_apart() {
    let refuse = |answer: &[u8]| Master::new(opening(Mode::Full)).input(answer).unwrap_err();
    assert_eq!(refuse(b"\n-NOUSER\n"), MasterError::Refused(Refusal::UnknownUser));
    assert_eq!(refuse(b"\n-TEMPFAIL\n"), MasterError::Refused(Refusal::Temporary));
    assert_eq!(refuse(b"\n-\n"), MasterError::Refused(Refusal::Other(String::new())));
    assert!(matches!(refuse(b"\n+\nVERSION\tdsync-server\t2\n"), MasterError::Version(_)));
    assert!(matches!(refuse(b"\n+\nVERSION\tdsync\t4\t0\n"), MasterError::Version(_)));
    assert!(matches!(refuse(b"what?\n"), MasterError::Unexpected { .. }));
}

#[test]
fn a_slave_that_fails_or_gives_up_ends_the_session_wherever_it_is() {
    let mut busy = begun(Mode::State);
    busy.change(&save(13, MAIL[0])).unwrap();
    busy.end_changes().unwrap();
    busy.begin_mail(&mail(MAIL[0])).unwrap();
    assert_eq!(busy.input(b"X\n").unwrap_err(), MasterError::GaveUp("sending a message"));
    let mut failing = begun(Mode::State);
    let error = failing.input(b"FNo space left\t6\t\n").unwrap_err();
    assert!(error.to_string().contains("No space left") && error.to_string().contains("mail error 6"), "{error}");
    let mut waiting = open(Mode::Full);
    waiting.finish().unwrap();
    assert_eq!(waiting.input(b"X\n").unwrap_err(), MasterError::GaveUp("waiting for the slave's result"));
    assert!(waiting.input(b"anything\n").is_ok(), "what comes later doesn't matter");
}

#[test]
fn an_old_slave_ends_without_a_result() {
    let mut master = Master::new(opening(Mode::Full));
    let greeting = String::from_utf8(greeting("")).unwrap().replace("VERSION\tdsync\t3\t5", "VERSION\tdsync\t3\t2");
    master.input(greeting.as_bytes()).unwrap();
    master.poll().unwrap();
    master.finish().unwrap();
    master.input(b"X\n").unwrap();
    assert_eq!(master.poll(), Some(Event::Finished(Finish::default())));
}

#[test]
fn the_wrong_mailbox_and_nonsense_are_refused() {
    let mut other = open(Mode::Full);
    other.begin_mailbox(&status(20)).unwrap();
    let zeros = "0".repeat(32);
    assert!(matches!(
        other.input(format!("B{zeros}\t7\t13\t3\t1\t9\t0\n").as_bytes()).unwrap_err(),
        MasterError::Unexpected { .. }
    ));
    let mut binary = open(Mode::Full);
    let error = binary.input(b"\xff\x07\x1b[2J\n").unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error}");
}

#[test]
fn what_a_peer_makes_us_keep_is_bounded() {
    let mut line = open(Mode::Full);
    let chunk = vec![b'x'; 1 << 20];
    let error = (0..8).find_map(|_| line.input(&chunk).err());
    assert_eq!(error, Some(MasterError::TooMuch("line")));

    let mut header = Master::new(opening(Mode::Full));
    header.input(b"\n+\nVERSION\tdsync\t3\t5\n").unwrap();
    assert_eq!(header.input(&b"Zname\n".repeat(100)).unwrap_err(), MasterError::TooMuch("header"));

    let mut tree = Master::new(opening(Mode::Full));
    let nodes = "Nx\tn\n".repeat(MAX_NODES + 1);
    assert_eq!(tree.input(&greeting(&nodes)).unwrap_err(), MasterError::TooMuch("mailbox tree"));
}

#[test]
fn giving_up_says_so_except_inside_a_message() {
    let mut between = begun(Mode::State);
    between.abort();
    assert_eq!(between.take_output(), b"X\n");
    let mut inside = begun(Mode::State);
    inside.change(&save(13, MAIL[0])).unwrap();
    inside.end_changes().unwrap();
    inside.begin_mail(&mail(MAIL[0])).unwrap();
    inside.take_output();
    inside.abort();
    assert_eq!(inside.take_output(), b"", "an X would become part of the message");
}
