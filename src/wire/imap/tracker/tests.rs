//! Talks of a client and a backend through the relay.

use super::{BackendStep, CAPABILITY_LINE_MAX, ClientStep, IN_FLIGHT_MAX, Relay, START_MAX, visible};
use proptest::prelude::*;

/// A driver with unbounded buffers.
#[derive(Default)]
struct Session {
    relay: Relay,
    from_client: Vec<u8>,
    from_backend: Vec<u8>,
    to_client: Vec<u8>,
    to_backend: Vec<u8>,
    closed: bool,
}

impl Session {
    fn client(&mut self, octets: &[u8]) -> &mut Self {
        self.from_client.extend_from_slice(octets);
        self.turn();
        self
    }

    fn backend(&mut self, octets: &[u8]) -> &mut Self {
        self.from_backend.extend_from_slice(octets);
        self.turn();
        self
    }

    fn turn(&mut self) {
        loop {
            match self.relay.from_backend(&self.from_backend) {
                BackendStep::Forward(count) => {
                    assert!(count > 0);
                    self.to_client.extend(self.from_backend.drain(..count));
                }
                BackendStep::Replace { octets, with } => {
                    self.from_backend.drain(..octets);
                    self.to_client.extend(with);
                }
                BackendStep::NeedInput => break,
            }
        }
        assert!(self.from_backend.len() < CAPABILITY_LINE_MAX);
        while !self.closed {
            match self.relay.from_client(&self.from_client) {
                ClientStep::Forward(count) => {
                    assert!(count > 0);
                    self.to_backend.extend(self.from_client.drain(..count));
                }
                ClientStep::Answer { octets, answer } => {
                    assert!(octets > 0);
                    self.from_client.drain(..octets);
                    self.to_client.extend(answer);
                }
                ClientStep::NeedInput => {
                    assert!(self.from_client.len() < START_MAX);
                    break;
                }
                ClientStep::Wait => break,
                ClientStep::Close(words) => {
                    self.to_client.extend(words);
                    self.closed = true;
                }
            }
        }
    }

    /// What has reached the backend since the last time.
    fn at_backend(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_backend)).unwrap()
    }

    /// What has reached the client since the last time.
    fn at_client(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_client)).unwrap()
    }
}

#[test]
fn commands_pass_and_are_counted() {
    let mut session = Session::default();
    assert!(session.relay.idle() && session.relay.at_boundary());
    session.client(b"a NOOP\r\nb SELECT INBOX\r\nc FE");
    assert_eq!(session.at_backend(), "a NOOP\r\nb SELECT INBOX\r\n");
    assert!(!session.relay.idle() && session.relay.in_flight() == 2);
    session.client(b"TCH 1 (UID)\r\n");
    assert_eq!((session.at_backend().as_str(), session.relay.in_flight()), ("c FETCH 1 (UID)\r\n", 3));
    session.backend(b"a OK done\r\n* 1 EXISTS\r\nb OK done\r\n* 1 FETCH (UID 5)\r\n");
    assert_eq!(session.relay.in_flight(), 1);
    session.backend(b"x OK unknown\r\nc NO no {5}\r\n");
    assert!(session.relay.idle() && session.relay.at_boundary());
    assert_eq!(
        session.at_client(),
        "a OK done\r\n* 1 EXISTS\r\nb OK done\r\n* 1 FETCH (UID 5)\r\nx OK unknown\r\nc NO no {5}\r\n"
    );
}

#[test]
fn a_response_under_way_is_no_boundary() {
    let mut session = Session::default();
    session.backend(b"* 1 FETCH (BODY[] {30}\r\na OK not the end\r\n");
    assert!(session.relay.idle() && !session.relay.at_boundary() && !session.relay.backend_at_line_start());
    session.backend(b"0123456789ab)\r\n");
    assert!(session.relay.at_boundary());
}

#[test]
fn what_follows_a_synchronising_literal_waits_for_the_backend() {
    let mut session = Session::default();
    session.client(b"a APPEND x {3}\r\nabc {2}\r\nb NOOP");
    assert_eq!(session.at_backend(), "a APPEND x {3}\r\n");
    session.backend(b"+ go\r\n");
    assert_eq!(session.at_backend(), "abc {2}\r\n");
    session.backend(b"+\r\n").client(b"\r\n");
    assert_eq!(session.at_backend(), "b NOOP\r\n");
    // Those were two octets of the second literal and the rest of the command's line.
    assert_eq!(session.relay.in_flight(), 1);
    assert_eq!(session.at_client(), "+ go\r\n+\r\n");
}

#[test]
fn a_refused_literal_makes_the_rest_a_command() {
    for refusal in ["a NO [TOOBIG] no\r\n", "a BAD no\r\n", "a OK strange\r\n"] {
        let mut session = Session::default();
        session.client(b"a APPEND x {99}\r\nb COMPRESS DEFLATE\r\nc NOOP\r\n");
        assert_eq!(session.at_backend(), "a APPEND x {99}\r\n");
        session.backend(refusal.as_bytes());
        assert_eq!(session.at_backend(), "c NOOP\r\n", "{refusal}");
        assert_eq!(session.at_client(), format!("{refusal}b NO [CANNOT] Compression is not available.\r\n"));
    }
    // An untagged BAD is no answer to a command that has a tag.
    let mut session = Session::default();
    session.client(b"a APPEND x {4}\r\nb N\r\n\r\n").backend(b"* BAD mood\r\n");
    assert_eq!(session.at_backend(), "a APPEND x {4}\r\n");
    // The answers to earlier commands refuse nothing, even under the same tag.
    let mut session = Session::default();
    session.client(b"a NOOP\r\na APPEND x {4}\r\nb N\r\n\r\n").backend(b"* 1 EXISTS\r\na OK noop\r\n");
    assert_eq!(session.at_backend(), "a NOOP\r\na APPEND x {4}\r\n");
    session.backend(b"+ go\r\n");
    assert_eq!((session.at_backend().as_str(), session.relay.in_flight()), ("b N\r\n\r\n", 1));
}

#[test]
fn other_literals_pass_at_once() {
    let mut session = Session::default();
    session.client(b"a APPEND x {4+}\r\nb X\n ~{0+}\r\n\r\nc NOOP\r\n");
    assert_eq!(session.at_backend(), "a APPEND x {4+}\r\nb X\n ~{0+}\r\n\r\nc NOOP\r\n");
    assert_eq!(session.relay.in_flight(), 2);
}

#[test]
fn idle_is_a_boundary_once_it_is_accepted() {
    let mut session = Session::default();
    session.client(b"a IDLE\r\nDONE\r\nb NOOP\r\n");
    assert_eq!(session.at_backend(), "a IDLE\r\n");
    assert!(!session.relay.at_boundary() && !session.relay.idle());
    session.from_client.clear();
    session.backend(b"+ idling\r\n* 4 EXISTS\r\n");
    assert!(session.relay.at_boundary() && !session.relay.idle());
    session.client(b"DO");
    assert!(!session.relay.at_boundary());
    session.client(b"NE\r\n");
    assert!(!session.relay.at_boundary());
    // The next command may come before the answer.
    session.client(b"b idle\r\n").backend(b"a OK done\r\n+ idling\r\n");
    assert_eq!(session.at_backend(), "DONE\r\nb idle\r\n");
    assert!(session.relay.at_boundary());
    session.backend(b"b BAD enough\r\n");
    assert!(session.relay.at_boundary() && session.relay.idle());
}

#[test]
fn a_write_is_noticed_when_it_ends_though_an_idle_goes_on_behind_it() {
    let mut session = Session::default();
    session.client(b"a NOOP\r\n").backend(b"a OK\r\n");
    assert!(!session.relay.take_written() && !session.relay.is_writing());
    session.client(b"b STORE 1 +FLAGS (x)\r\nc IDLE\r\n");
    assert!(!session.relay.take_written() && session.relay.is_writing(), "it has not been executed yet");
    session.backend(b"b OK\r\n+ idling\r\n");
    assert!(session.relay.take_written() && !session.relay.is_writing());
    session.client(b"DONE\r\n").backend(b"c OK\r\n");
    assert!(!session.relay.take_written(), "once is enough");
    session.client(b"d NOOP\r\ne EXPUNGE\r\n").backend(b"e OK\r\n");
    assert!(session.relay.take_written(), "in whatever order they end");
}

#[test]
fn an_idle_that_is_refused_is_over() {
    let mut session = Session::default();
    session.client(b"a IDLE\r\n").backend(b"a BAD unknown\r\n").client(b"b NOOP\r\n");
    assert_eq!((session.at_backend().as_str(), session.relay.in_flight()), ("a IDLE\r\nb NOOP\r\n", 1));
}

#[test]
fn commands_the_stream_would_not_survive_are_answered_in_their_turn() {
    let mut session = Session::default();
    session.client(b"a NOOP\r\nb Compress DEFLATE\r\nc UNAUTHENTICATE\r\nd STARTTLS\r\ne COMPRESS {7}\r\nf NOOP\r\n");
    assert_eq!(session.at_backend(), "a NOOP\r\n");
    session.backend(b"* 1 EXISTS\r\na OK");
    assert_eq!(session.at_client(), "* 1 EXISTS\r\n");
    session.backend(b" done\r\n");
    assert_eq!(
        session.at_client(),
        "a OK done\r\nb NO [CANNOT] Compression is not available.\r\nc NO [CANNOT] Log out instead.\r\n\
         d BAD TLS starts before login.\r\ne NO [CANNOT] Compression is not available.\r\n"
    );
    assert_eq!(session.at_backend(), "f NOOP\r\n");
    // Never in the middle of a response, and with a literal that isn't asked about.
    let mut session = Session::default();
    session.backend(b"* 1 FETCH (BODY[] {2}\r\n").client(b"a COMPRESS {7+}\r\nDEFLATE\r\nb NOOP\r\n");
    assert_eq!((session.at_backend().as_str(), session.at_client().as_str()), ("", "* 1 FETCH (BODY[] {2}\r\n"));
    session.backend(b"xy)\r\n");
    assert_eq!(session.at_client(), "xy)\r\na NO [CANNOT] Compression is not available.\r\n");
    assert_eq!(session.at_backend(), "b NOOP\r\n");
}

#[test]
fn capabilities_we_can_not_keep_are_left_out() {
    for (line, seen) in [
        ("* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE\r\n", "* CAPABILITY IMAP4rev1 IDLE\r\n"),
        ("* capability IMAP4rev1  compress=deflate\r\n", "* capability IMAP4rev1 \r\n"),
        (
            "a OK [CAPABILITY COMPRESS=DEFLATE X UNAUTHENTICATE] COMPRESS=DEFLATE\r\n",
            "a OK [CAPABILITY X] COMPRESS=DEFLATE\r\n",
        ),
        ("* OK [CAPABILITY X COMPRESS=DEFLATE] hi\n", "* OK [CAPABILITY X] hi\n"),
    ] {
        assert_eq!(Session::default().backend(line.as_bytes()).at_client(), seen);
        assert_eq!(visible(line.as_bytes()), seen.as_bytes());
    }
    for line in [
        "* CAPABILITY IMAP4rev1 IDLE XCOMPRESS=DEFLATE\r\n",
        "* OK [COMPRESSIONACTIVE] COMPRESS=DEFLATE\r\n",
        "* OK  COMPRESS=DEFLATE\r\n",
        "+ COMPRESS=DEFLATE\r\n",
        "* 1 FETCH (X \" COMPRESS=DEFLATE\")\r\n",
        "* LIST () \"/\" {17}\r\n COMPRESS=DEFLATE\r\n",
        "a OK\r\n",
        "*\r\n",
        "\r\n",
    ] {
        assert_eq!(Session::default().backend(line.as_bytes()).at_client(), line);
        assert_eq!(visible(line.as_bytes()), line.as_bytes());
    }
    // A literal's octets are never looked at, even if they start like a line.
    let line = "* 1 FETCH (BODY[] {32}\r\n* CAPABILITY COMPRESS=DEFLATE X\r\n)\r\n";
    assert_eq!(Session::default().backend(line.as_bytes()).at_client(), line);
    // Too long to hold: unchanged.
    let line = format!("* CAPABILITY {} COMPRESS=DEFLATE\r\n", "X".repeat(CAPABILITY_LINE_MAX));
    assert_eq!(Session::default().backend(line.as_bytes()).at_client(), line);
}

#[test]
fn the_client_waits_while_too_much_is_in_flight() {
    let mut session = Session::default();
    let commands = "a NOOP\r\n".repeat(IN_FLIGHT_MAX + 2);
    session.client(commands.as_bytes());
    assert_eq!(session.relay.in_flight(), IN_FLIGHT_MAX);
    assert_eq!(session.at_backend().len(), IN_FLIGHT_MAX * 8);
    session.backend(b"a OK\r\n");
    assert_eq!(session.at_backend(), "a NOOP\r\n");
}

#[test]
fn a_server_that_answers_at_the_cr_is_not_too_early() {
    let mut session = Session::default();
    session.client(b"a IDLE\r");
    assert_eq!(session.at_backend(), "");
    session.client(b"\n");
    assert_eq!(session.at_backend(), "a IDLE\r\n");
    session.backend(b"+ idling\r\n").client(b"DONE\r");
    assert_eq!(session.at_backend(), "DONE");
    session.client(b"\nb APPEND x {3}\r");
    assert_eq!(session.at_backend(), "\r\nb APPEND x {3}");
    session.client(b"\n").backend(b"a OK\r\n+ go on\r\n").client(b"a\r\r\r");
    session.client(b"\n").backend(b"b OK\r\n");
    assert_eq!(session.at_backend(), "\r\na\r\r\r\n");
    assert!(session.relay.at_boundary());
}

#[test]
fn an_endless_command_word_is_the_backends_business() {
    let mut session = Session::default();
    let line = format!("a {}\r\n", "x".repeat(5000));
    session.client(line.as_bytes());
    assert_eq!(session.at_backend(), line);
    session.backend(b"a BAD\r\n");
    assert!(session.relay.at_boundary());
}

#[test]
fn an_endless_tag_ends_the_session() {
    for line in [vec![b'x'; START_MAX], [b"a", vec![b' '; START_MAX].as_slice()].concat()] {
        let mut session = Session::default();
        session.client(&line);
        assert!(session.closed);
        assert_eq!(
            (session.at_backend(), session.at_client()),
            (String::new(), "* BYE The tag is too long.\r\n".to_owned())
        );
    }
}

#[test]
fn lines_that_are_no_commands_pass_untracked() {
    let mut session = Session::default();
    session.client(b"\r\nDONE\r\n* NOOP\r\na+b NOOP\r\n");
    assert_eq!(session.at_backend(), "\r\nDONE\r\n* NOOP\r\na+b NOOP\r\n");
    assert_eq!(session.relay.in_flight(), 0);
    // One that waits for a literal is released by the answer that it gets.
    for answer in ["* BAD what\r\n", "a+b BAD what\r\n"] {
        let mut session = Session::default();
        session.client(b"a+b APPEND {5}\r\nc NOOP\r\n");
        assert_eq!(session.at_backend(), "a+b APPEND {5}\r\n");
        session.backend(answer.as_bytes());
        assert_eq!(session.at_backend(), "c NOOP\r\n");
    }
}

#[test]
fn a_bye_is_noticed() {
    let mut session = Session::default();
    session.backend(b"* bye for now\r\n");
    assert!(session.relay.backend_said_bye());
    assert!(!Session::default().backend(b"* OK BYE\r\n").relay.backend_said_bye());
}

#[test]
fn a_huge_literal_passes_in_any_pieces() {
    let mut relay = Relay::new();
    assert_eq!(relay.from_client(b"a APPEND x {60000000+}\r\n"), ClientStep::Forward(24));
    let piece = vec![b'\n'; 16 * 1024];
    let mut left = 60_000_000_usize;
    while left > 0 {
        let size = piece.len().min(left);
        assert_eq!(relay.from_client(&piece[..size]), ClientStep::Forward(size));
        left -= size;
    }
    assert!(!relay.idle());
    assert_eq!(relay.from_client(b"\r\n"), ClientStep::Forward(2));
    assert_eq!(relay.in_flight(), 1);
    relay.from_backend(b"a OK\r\n");
    assert!(relay.idle());
}

fn client_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("a NOOP\r\n".to_owned()),
        Just("b APPEND x {3}\r\nab\n\r\n".to_owned()),
        Just("c APPEND x {3+}\r\nab\n {2}\r\n\r\n\r\n".to_owned()),
        Just("d IDLE\r\n".to_owned()),
        Just("DONE\r\n".to_owned()),
        Just("e COMPRESS DEFLATE\r\n".to_owned()),
        "[a-c*+ {}0-9\r\n]{0,8}",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat().into_bytes())
}

fn backend_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("+ go\r\n".to_owned()),
        "[a-e] (OK|NO|BAD) x\\{3\\}\r\n",
        Just("* 1 FETCH (BODY[] {5}\r\n* BYE)\r\n".to_owned()),
        Just("* CAPABILITY X\r\n".to_owned()),
        Just("b OK [CAPABILITY X] y\r\n".to_owned()),
        "[*+a-c ]{0,4}\r\n",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    /// However the backend's octets are cut, the client gets the same, and the same is known.
    #[test]
    fn any_split_of_the_backend_gives_the_same(
        commands in "([a-e] NOOP\r\n){0,5}",
        backend in backend_pieces(),
        sizes in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let mut whole = Session::default();
        whole.client(commands.as_bytes()).backend(&backend);
        let mut pieces = Session::default();
        pieces.client(commands.as_bytes());
        let (mut rest, mut sizes) = (backend.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            pieces.backend(piece);
            rest = after;
        }
        prop_assert_eq!(&whole.to_client, &pieces.to_client);
        prop_assert_eq!(&whole.from_backend, &pieces.from_backend);
        prop_assert_eq!(whole.relay.in_flight(), pieces.relay.in_flight());
        prop_assert_eq!(whole.relay.at_boundary(), pieces.relay.at_boundary());
        prop_assert_eq!(whole.relay.backend_said_bye(), pieces.relay.backend_said_bye());
        let mut all = whole.to_client;
        all.extend_from_slice(&whole.from_backend);
        prop_assert_eq!(all, backend);
    }

    /// However the client's octets are cut, the backend gets the same, and nothing is lost or added.
    #[test]
    fn any_split_of_the_client_gives_the_same(
        client in client_pieces(),
        backend in backend_pieces(),
        sizes in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let mut whole = Session::default();
        whole.client(&client);
        let mut pieces = Session::default();
        let (mut rest, mut sizes) = (client.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            pieces.client(piece);
            rest = after;
        }
        prop_assert_eq!(&whole.to_backend, &pieces.to_backend);
        prop_assert_eq!(&whole.from_client, &pieces.from_client);
        whole.backend(&backend);
        pieces.backend(&backend);
        prop_assert_eq!(&whole.to_backend, &pieces.to_backend);
        prop_assert_eq!(&whole.to_client, &pieces.to_client);
        prop_assert_eq!(whole.relay.in_flight(), pieces.relay.in_flight());
        if !client.windows(8).any(|window| window.eq_ignore_ascii_case(b"COMPRESS")) {
            let mut all = whole.to_backend.clone();
            all.extend_from_slice(&whole.from_client);
            prop_assert_eq!(all, client);
            let mut all = whole.to_client.clone();
            all.extend_from_slice(&whole.from_backend);
            prop_assert_eq!(all, backend);
        }
    }
}
