//! Whole sessions, cut at every octet.

use super::{BackendStep, COMMAND_MAX, ClientStep, IN_FLIGHT_MAX, RESPONSE_MAX, Relay};
use crate::wire::pop3::harvest::Harvest;

/// A relay and what has passed through it.
struct Wire {
    relay: Relay,
    client: Vec<u8>,
    backend: Vec<u8>,
    heard: Vec<u8>,
    sent: Vec<u8>,
    harvest: Option<Harvest>,
}

impl Wire {
    fn new() -> Self {
        let (client, backend, heard, sent) = Default::default();
        Self { relay: Relay::new(true), client, backend, heard, sent, harvest: None }
    }

    fn say(&mut self, octets: &[u8]) -> ClientStep {
        self.client.extend_from_slice(octets);
        loop {
            match self.relay.from_client(&self.client) {
                ClientStep::Forward(count) => self.sent.extend(self.client.drain(..count)),
                other => return other,
            }
        }
    }

    fn answer(&mut self, octets: &[u8]) {
        self.backend.extend_from_slice(octets);
        loop {
            match self.relay.from_backend(&self.backend) {
                BackendStep::Forward(count) => self.heard.extend(self.backend.drain(..count)),
                BackendStep::Drop(count) => drop(self.backend.drain(..count)),
                BackendStep::NeedInput => break,
            }
        }
        self.harvest = self.relay.take_harvest().or(self.harvest.take());
    }
}

const COMMANDS: &[u8] =
    b"CAPA\r\nSTAT\r\nuidl\r\nLIST \r\nlist 1\r\nUIDL 2\r\nRETR 1\nTOP 1 0\r\nRETR 9\r\nLIST\r\nQUIT\r\n";
const ANSWERS: &[u8] = b"+OK\r\nTOP\r\nSTLS\r\nUIDL\r\nIMPLEMENTATION x\r\n.\r\n+OK 2 30\r\n+OK\r\n1 a\r\n2 +OK\r\n.\r\n\
    +OK 2\r\n1 10\r\n2 20\r\n.\r\n+OK 1 10\r\n+OK 2 +OK\r\n+OK\r\nx\r\n-ERR\r\n..\r\n.x\r\n.\r\n+OK\r\n\r\n.\r\n-ERR gone\r\n\
    +OK\r\n1 10\r\n.\r\n+OK bye\r\n";

#[test]
fn a_session_passes_unchanged_but_for_what_is_hidden_however_it_is_cut() {
    let wanted =
        String::from_utf8(ANSWERS.to_vec()).unwrap().replace("STLS\r\n", "").replace("IMPLEMENTATION x\r\n", "");
    for size in 1..ANSWERS.len() {
        let mut wire = Wire::new();
        for piece in COMMANDS.chunks(size) {
            assert_eq!(wire.say(piece), ClientStep::NeedInput);
        }
        assert_eq!((wire.sent.as_slice(), wire.relay.answers_due()), (COMMANDS, 11));
        for piece in ANSWERS.chunks(size) {
            assert!(!wire.relay.backend_said_farewell());
            wire.answer(piece);
        }
        assert_eq!(String::from_utf8_lossy(&wire.heard), wanted, "by {size}");
        assert!(wire.relay.backend_said_farewell() && wire.relay.at_boundary());
        let harvest = wire.harvest.unwrap();
        assert_eq!(harvest.uidls, [(1, b"a".to_vec()), (2, b"+OK".to_vec())]);
        assert_eq!(harvest.sizes, [(1, 10), (2, 20)]);
    }
}

#[test]
fn words_of_ours_have_their_place_between_responses_only() {
    let mut wire = Wire::new();
    wire.say(b"STAT\r\nRETR 1\r\nDE");
    let mut places = Vec::new();
    for octet in b"+OK 1 2\r\n+OK\r\n+OK\r\n.x\r\n.\r\n" {
        wire.answer(&[*octet]);
        // What waits for the end of its line has not been forwarded.
        places.push((wire.relay.between_responses(), wire.relay.answers_due()));
    }
    places.dedup();
    assert_eq!(places, [(true, 2), (true, 1), (false, 1), (true, 0)]);
    assert!(wire.relay.at_boundary() && wire.client == b"DE");
}

#[test]
fn a_session_that_deletes_is_not_harvested() {
    for commands in [&b"UIDL\r\nDELE 1\r\nLIST\r\n"[..], b"dele 1\r\nuidl\r\nlist\r\n", b" DELE 1\r\nUIDL\r\nLIST\r\n"]
    {
        let mut wire = Wire::new();
        wire.say(commands);
        for command in commands.split(|octet| *octet == b'\n').filter(|command| !command.is_empty()) {
            let delete = command.trim_ascii().to_ascii_uppercase().starts_with(b"DELE");
            wire.answer(if delete { b"+OK\r\n" } else { b"+OK\r\n2 2\r\n.\r\n" });
        }
        assert!(wire.relay.at_boundary() && wire.harvest.is_none(), "{commands:?}");
    }
    let mut wire = Wire { relay: Relay::new(false), ..Wire::new() };
    wire.say(b"UIDL\r\nLIST\r\n");
    wire.answer(b"+OK\r\n1 1\r\n.\r\n+OK\r\n1 1\r\n.\r\n");
    assert!(wire.relay.at_boundary() && wire.harvest.is_none(), "not wanted");
}

#[test]
fn a_refused_list_is_no_list() {
    let mut wire = Wire::new();
    wire.say(b"UIDL\r\nLIST\r\nUIDL\r\n");
    wire.answer(b"-ERR not now\r\n+OK\r\n1 1\r\n.\r\n");
    assert!(wire.harvest.is_none());
    wire.answer(b"+OK\r\n1 x\r\n.\r\n");
    assert!(wire.harvest.is_some());
}

#[test]
fn a_server_that_is_not_understood_passes_and_nothing_is_said_to_its_client() {
    // It ignores empty lines, so that its answers are one command late.
    let mut wire = Wire::new();
    wire.say(b"\r\nUIDL\r\nLIST\r\n");
    let said = b"+OK\r\n1 a\r\n.\r\n+OK\r\n1 1\r\n.\r\n";
    wire.answer(said);
    wire.say(b"RETR 1\r\n");
    wire.answer(b"+OK\r\nbody\r\n.\r\n");
    assert_eq!(wire.heard, [&said[..], b"+OK\r\nbody\r\n.\r\n"].concat());
    assert!(wire.harvest.is_none() && !wire.relay.between_responses() && wire.relay.answers_due() == 0);
    for strange in [vec![b'x'; RESPONSE_MAX + 1], b"+OK\r\n".to_vec(), b"hello\r\n".to_vec()] {
        let mut wire = Wire::new();
        wire.answer(&strange);
        assert!(wire.heard == strange && !wire.relay.between_responses());
    }
    let mut wire = Wire::new();
    wire.say(b"CAPA\r\n");
    wire.answer(&[b"+OK\r\n", vec![b'x'; RESPONSE_MAX + 1].as_slice()].concat());
    assert!(wire.backend.is_empty() && !wire.relay.between_responses());
}

#[test]
fn a_farewell_that_nobody_asked_for_is_one() {
    let mut wire = Wire::new();
    wire.answer(b"-ERR Disconnected for inactivity.\r\n");
    assert!(wire.relay.backend_said_farewell() && wire.relay.between_responses());
    let mut wire = Wire::new();
    wire.say(b"QUIT\r\n");
    wire.answer(b"-ERR some deleted messages not removed\r\n");
    assert!(wire.relay.backend_said_farewell());
    let mut wire = Wire::new();
    wire.say(b"x\r\ny\r\n");
    wire.answer(b"-ERR Too many bad commands.\r\n");
    assert!(!wire.relay.backend_refused_last(), "one more waits for its answer");
    wire.answer(b"-ERR\r\n");
    assert!(wire.relay.backend_refused_last() && !wire.relay.backend_said_farewell());
    wire.say(b"STAT\r\n");
    wire.answer(b"+OK 0 0\r\n");
    assert!(!wire.relay.backend_refused_last());
}

#[test]
fn what_a_client_may_have_under_way_is_bounded() {
    let mut wire = Wire::new();
    assert_eq!(wire.say(&b"NOOP\r\n".repeat(IN_FLIGHT_MAX + 1)), ClientStep::Wait);
    assert_eq!(wire.client.len(), 6);
    wire.answer(b"+OK\r\n");
    assert_eq!(wire.say(b""), ClientStep::Wait);
    assert!(wire.client.is_empty());
    let mut wire = Wire::new();
    assert_eq!(wire.say(&vec![b'x'; COMMAND_MAX]), ClientStep::NeedInput);
    assert_eq!(wire.say(b"\n"), ClientStep::Close);
    assert!(wire.sent.is_empty());
    // An end that would be taken for an answer comes when there is none to come.
    let mut wire = Wire::new();
    assert_eq!(wire.say(&[b"RETR 1\r\n", vec![b'x'; COMMAND_MAX + 1].as_slice()].concat()), ClientStep::Wait);
    wire.answer(b"+OK\r\nbody\r\n");
    assert_eq!(wire.say(b""), ClientStep::Wait);
    wire.answer(b".\r\n");
    assert_eq!(wire.say(b""), ClientStep::Close);
}
