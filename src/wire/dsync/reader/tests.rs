//! A scripted slave against the machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]
use proptest::prelude::*;

use super::*;
use crate::wire::dsync::item::PREAMBLE;
use crate::wire::dsync::listed::{Kind, Marks};

const INBOX: &str = "b62da02bfc33b02cca9f9d32c8247b2d";

fn inbox() -> Guid {
    let mut guid = [0; 16];
    for (at, byte) in guid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&INBOX[at * 2..at * 2 + 2], 16).unwrap();
    }
    guid
}

fn known() -> MailboxState {
    MailboxState {
        guid: inbox(),
        uid_validity: 7,
        last_common_uid: 12,
        last_common_modseq: 5,
        messages: 3,
        conflict: false,
    }
}

/// A slave's beginning, with the fields that a reader needs.
fn greeting() -> String {
    let preamble = PREAMBLE.replace("Hhostname", "Hsync_max_size\tsync_until_timestamp\thostname");
    format!("\n+\n{preamble}Hvm\n")
}

fn tree() -> String {
    format!(
        "{}NINBOX\ty\t{INBOX}\t7\t20\nNGone\td\t{INBOX}\nNa\\x01tb\tn\t\x02\t\x02\t\x02\t\x02\t\n.\nD.\t%\n",
        greeting()
    )
}

fn events(reader: &mut Reader) -> Vec<Event> {
    std::iter::from_fn(|| reader.poll()).collect()
}

fn opened() -> Reader {
    let mut reader = Reader::new(vec![known()]);
    reader.input(tree().as_bytes()).unwrap();
    assert_eq!(events(&mut reader), [Event::Opened]);
    reader
}

/// All but the header lines.
fn said(reader: &mut Reader) -> String {
    let output = String::from_utf8(reader.take_output()).unwrap();
    output.rsplit_once("last_used\n.\n").map_or(output.clone(), |(_, said)| said.to_owned())
}

#[test]
fn a_session_as_recorded() {
    let mut reader = opened();
    assert_eq!(reader.separator(), Some('.'));
    assert_eq!(reader.tree()[1].mailbox, None, "one that is deleted is no mailbox");
    let begun = said(&mut reader);
    let begun: Vec<&str> = begun.lines().collect();
    let handshake = "Hmailferry\ts\t\t\t1099511627776\t4611686018427387904\tDate\x01tMessage-ID\x01t";
    assert_eq!(begun, [handshake, &format!("S{INBOX}\t7\t12\t5\t0\t3"), ".", ".", "D/\t%"]);

    reader.ask(inbox()).unwrap();
    assert_eq!(said(&mut reader), format!("B{INBOX}\t7\t1\t0\t1\t0\t0\t\x02\t\x02\t\x02\t\t\n"));
    let answer = format!(
        "B{INBOX}\t7\t20\t4\t20\t99\t0\n\
        As\tkey\t\x02\t\na long value\n..with a dot\n\r\n.\r\n.\n\
        Ce\t3\tx\nCf\t9\tguid\t\x02\t41\t\x02\t1\t\x02\t29\t\x02\t=kept\x01t-lost\x01t&new\n\
        Cs\t14\tguid\t\x02\t42\t\x02\t\x02\t\x02\t\x02\t\x02\t\x02\t5f000000\t10\n.\n"
    );
    reader.input(answer.as_bytes()).unwrap();
    let mut told = events(&mut reader);
    assert!(matches!(told.remove(0), Event::Status(StatusReply::Known(status)) if status.messages == 4));
    let marks = |modseq, flags, keywords: &[&str]| Marks {
        modseq,
        flags,
        keywords: keywords.iter().map(|name| (*name).to_owned()).collect(),
    };
    let listed = |uid, kind| Event::Listed(Listed { uid, kind });
    let received = Some(0x5f00_0000);
    assert_eq!(
        told,
        [
            listed(3, Kind::Gone),
            // (\Recent is no flag that can be stored.)
            listed(9, Kind::Flagged(marks(41, 9, &["kept", "new"]))),
            listed(14, Kind::Present { marks: marks(42, 0, &[]), received, size: 16 }),
            Event::ListEnd,
        ]
    );

    reader.want(vec![14, 15, 16]).unwrap();
    assert_eq!(said(&mut reader), "R\x02\t14\nR\x02\t15\nR\x02\t16\n.\n", "nothing behind it yet");
    reader.input(b"M\x02\t14\tuidl-14\t3\t7\t8\t\n.Subject: x\n\n..y\r\n.\r\n").unwrap();
    reader.input(b"M\x02\t16\t\t\x02\t7\t8\t\n\r\n.\r\n.\n").unwrap();
    let head = |uid, uidl: Option<&str>, order| {
        Event::Head(Head { uid, uidl: uidl.map(str::to_owned), order, received: 7, present: true })
    };
    let text = |text: &[u8]| Event::Text(text.to_vec());
    assert_eq!(
        events(&mut reader),
        [
            head(14, Some("uidl-14"), Some(3)),
            text(b".Subject: x\n\n.y"),
            Event::TextEnd,
            head(16, None, None),
            Event::TextEnd,
        ]
    );
    assert_eq!(said(&mut reader), format!("S{INBOX}\t7\t19\t99\t0\t4\n"));
    reader.input(format!("S{INBOX}\t7\t19\t99\t0\t4\n").as_bytes()).unwrap();
    assert_eq!(events(&mut reader), [Event::MailboxEnd]);
    reader.finish().unwrap();
    assert_eq!(said(&mut reader), ".\n");
    reader.input(b"F\nX\n").unwrap();
    assert_eq!(events(&mut reader), [Event::Finished(Finish::default()), Event::Done]);
}

#[test]
fn what_does_not_belong_there_is_refused() {
    let status = format!("B{INBOX}\t7\t20\t4\t20\t99\t0\n.\n");
    for wrong in [
        "Cs\t14\nCs\t14\n".to_owned(),
        "Cx\t14\n".to_owned(),
        "Cs\t0\n".to_owned(),
        "Cs\n".to_owned(),
        "Cs\t9\t\x02\t\x02\t\x02\t\x02\t\x02\t\x02\txyz\n".to_owned(),
        "M\x02\t14\n".to_owned(),
        "X\n".to_owned(),
        "\n".to_owned(),
        "N\n".to_owned(),
        "Fdsync failed\n".to_owned(),
    ] {
        let mut reader = opened();
        reader.ask(inbox()).unwrap();
        assert!(reader.input(format!("{status}{wrong}").as_bytes()).is_err(), "{wrong:?}");
    }
    let mut reader = opened();
    reader.ask(inbox()).unwrap();
    reader.input(format!("{status}Cs\t14\n.\n").as_bytes()).unwrap();
    assert_eq!(reader.want(vec![14, 14]), Err(Misuse::Order { uid: 14, last: 14 }));
    reader.want(vec![14]).unwrap();
    assert!(reader.input(b"M\x02\t15\t\t\x02\t7\t8\t\nx\r\n.\r\n").is_err(), "a message that was not asked for");
    assert_eq!(opened().ask([1; 16]), Err(Misuse::OtherMailbox));
}

#[test]
fn lengths_are_bounded() {
    let mut endless = opened();
    endless.ask(inbox()).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let refused = (0..8).find_map(|_| endless.input(&chunk).err());
    assert_eq!(refused, Some(MasterError::TooMuch("line")));
    let mut names = Reader::new(Vec::new());
    let many = format!("NINBOX\ty\t{INBOX}\t7\t20\n").repeat(1000);
    names.input(greeting().as_bytes()).unwrap();
    assert!((0..200).any(|_| names.input(many.as_bytes()).is_err()), "names without end");
}

#[test]
fn a_server_that_does_not_tell_sizes_is_refused() {
    let mut reader = Reader::new(Vec::new());
    let error = reader.input(format!("\n+\n{PREAMBLE}Hvm\n").as_bytes()).unwrap_err();
    assert_eq!(error, MasterError::Untold("the sizes of messages"));
    assert!(error.to_string().contains("2.2.28"));
}

/// Words that tell a slave of something that it could take over.
fn is_harmless(line: &str) -> bool {
    let counts = |line: &str| {
        // B: no message, UIDNEXT 1, no mod-sequence.
        line.split('\t').skip(2).take(5).collect::<Vec<_>>() == ["1", "0", "1", "0", "0"]
    };
    match line.as_bytes() {
        b"." | b"D/\t%" => true,
        [b'B', ..] => counts(line),
        [b'R' | b'S', ..] => true,
        [b'H', ..] => line.starts_with("Hmailferry\ts\t\t\t"),
        _ => false,
    }
}

proptest! {
    /// Whatever a slave says, and whatever is done with it, nothing that is said back could change anything there.
    #[test]
    fn nothing_that_is_said_can_change_anything(steps in prop::collection::vec((0..14_usize, 1..40_u32), 0..60), split in 1..50_usize) {
        let mut reader = Reader::new(vec![known()]);
        let mut output = Vec::new();
        let mut say = |reader: &mut Reader, text: &str| {
            for part in text.as_bytes().chunks(split) {
                let _ = reader.input(part);
                output.extend(reader.take_output());
            }
        };
        say(&mut reader, &tree());
        for (step, uid) in steps {
            match step {
                0..=2 => drop(reader.ask(inbox())),
                3 => drop(reader.want(vec![uid, uid + 1])),
                4 => drop(reader.finish()),
                5 => say(&mut reader, &format!("B{INBOX}\t{uid}\t20\t4\t20\t99\t0\n")),
                6 => say(&mut reader, &format!("Cs\t{uid}\tguid\n")),
                7 | 8 => say(&mut reader, ".\n"),
                9 => say(&mut reader, &format!("M\x02\t{uid}\t\t\x02\t7\t8\t\nNx\ty\n\r\n.\r\n")),
                10 => say(&mut reader, &format!("S{INBOX}\t7\t19\t99\t0\t4\n")),
                11 => say(&mut reader, "As\tkey\tvalue\n"),
                12 => say(&mut reader, "F\n"),
                _ => say(&mut reader, "X\n"),
            }
        }
        output.extend(reader.take_output());
        let output = String::from_utf8(output).unwrap();
        let (header, said) = output.split_once("last_used\n.\n").unwrap();
        prop_assert!(header.contains("backup_send") && !header.contains("backup_recv"), "the slave must be the one that sends");
        for line in said.lines() {
            prop_assert!(is_harmless(line), "{line:?}");
        }
    }
}
