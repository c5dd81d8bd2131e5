//! What must be true of every parser in `wire`, whatever the octets: it ends, it takes no more than it was given, the same
//! octets mean the same however they are split, and what it writes it can read.
//!
//! Each check is a fuzz target (`fuzz_targets/`), and `tests/fuzz_corpus.rs` runs them all over `seeds/`: what real clients and
//! servers said, and whatever has once broken something.

use std::collections::VecDeque;

use mailferry::wire::dsync::Role as DsyncRole;
use mailferry::wire::dsync::doveadm::{Channels, Login, Progress};
use mailferry::wire::dsync::escape;
use mailferry::wire::dsync::item::{Mode, StatusReply};
use mailferry::wire::dsync::master::{Master, Opening};
use mailferry::wire::dsync::reader::{Event as Told, Reader};
use mailferry::wire::imap::framer::{Event, Framer, HEAD_MAX, Role};
use mailferry::wire::imap::{date, mutf7, prelogin as imap, scan, tracker as imap_tracker};
use mailferry::wire::pop3::multiline::{Multiline, Piece};
use mailferry::wire::pop3::{Capabilities, prelogin as pop3, reply, tracker as pop3_tracker};
use mailferry::wire::proxy::{self, Step};
use mailferry::wire::sasl::exchange::{self, Exchange};
use mailferry::wire::sasl::{self, Plain};
use mailferry::wire::sieve::scan as sieve_scan;

/// A check, and the name of its target.
pub type Check = (&'static str, fn(&[u8]));

/// All of them.
pub const CHECKS: [Check; 13] = [
    ("imap_framer", imap_framer),
    ("imap_prelogin", imap_prelogin),
    ("imap_response", imap_response),
    ("imap_relay", imap_relay),
    ("pop3_prelogin", pop3_prelogin),
    ("pop3_relay", pop3_relay),
    ("pop3_answers", pop3_answers),
    ("sasl", sasl),
    ("proxy", proxy),
    ("sieve", sieve),
    ("doveadm", doveadm),
    ("dsync_reader", dsync_reader),
    ("dsync_fields", dsync_fields),
];

/// How octets are split: all at once as far as the reader takes them, one by one, and by a number that depends on them.
fn sizes(octets: &[u8]) -> [usize; 3] {
    let sum = octets.iter().fold(7_usize, |sum, octet| sum.wrapping_mul(31).wrapping_add(usize::from(*octet)));
    [4096, 1, 2 + sum % 61]
}

/// That `told` is the same for every way to split `octets`.
fn however_split<T: PartialEq + std::fmt::Debug>(octets: &[u8], mut told: impl FnMut(usize) -> T) {
    let [whole, single, some] = sizes(octets).map(&mut told);
    assert_eq!(whole, single, "in one piece, and octet by octet");
    assert_eq!(whole, some, "in one piece, and in some");
}

/// Lines and literals.
pub fn imap_framer(octets: &[u8]) {
    for role in [Role::Client, Role::Server] {
        however_split(octets, |size| {
            let (mut framer, mut seen, mut events) = (Framer::new(role), 0, Vec::new());
            for mut piece in octets.chunks(size) {
                loop {
                    let (used, event) = framer.advance(piece);
                    assert!(used <= piece.len() && framer.head().len() <= HEAD_MAX);
                    seen += used;
                    piece = &piece[used..];
                    let Some(event) = event else { break };
                    if let (Event::LiteralAnnounced { sync, .. }, Role::Server) = (event, role) {
                        assert!(!sync, "no server waits");
                    }
                    events.push((seen, event));
                }
                assert!(piece.is_empty(), "all of it is consumed");
            }
            events
        });
    }
}

/// What a client hears before its login, with each login that it tries.
pub fn imap_prelogin(octets: &[u8]) {
    for (tls_available, tls_active, cleartext_allowed) in [(true, false, false), (false, false, true)] {
        let config = imap::PreLoginConfig { tls_available, tls_active, cleartext_allowed, tokens: true };
        however_split(octets, |size| {
            let (mut machine, mut heard, mut over) = (imap::PreLogin::new(config), Vec::new(), false);
            for piece in octets.chunks(size.min(imap::INPUT_MAX)) {
                machine.input(piece);
                while let Some(action) = machine.next() {
                    assert!(!over, "nothing after the last words");
                    match action {
                        imap::Action::Reply(words) => heard.extend(words),
                        imap::Action::Login(login) => {
                            assert!(tls_active || cleartext_allowed, "no password without TLS");
                            heard.extend(format!("{login:?} {:?}", login.password.as_slice()).into_bytes());
                            machine.login_failed(b"x NO no\r\n");
                        }
                        // (What came with the command is thrown away: that depends on the split.)
                        imap::Action::StartTls => return Vec::new(),
                        imap::Action::Close(words) => {
                            heard.extend(words);
                            over = true;
                        }
                    }
                }
                if over {
                    break;
                }
            }
            heard
        });
        if tls_available {
            // Where TLS begins the rest may say anything: it is enough that it does no harm.
            let mut machine = imap::PreLogin::new(config);
            for piece in octets.chunks(64) {
                machine.input(piece);
                while let Some(action) = machine.next() {
                    match action {
                        imap::Action::StartTls => machine.tls_started(),
                        imap::Action::Login(_) => machine.login_failed(b"x NO no\r\n"),
                        imap::Action::Reply(_) | imap::Action::Close(_) => {}
                    }
                }
            }
        }
    }
}

/// The same for POP3.
pub fn pop3_prelogin(octets: &[u8]) {
    for (tls_available, tls_active, cleartext_allowed) in [(true, false, false), (false, false, true)] {
        let config = pop3::PreLoginConfig { tls_available, tls_active, cleartext_allowed, tokens: true };
        however_split(octets, |size| {
            let (mut machine, mut heard, mut over) = (pop3::PreLogin::new(config), Vec::new(), false);
            for piece in octets.chunks(size.min(pop3::INPUT_MAX)) {
                machine.input(piece);
                while let Some(action) = machine.next() {
                    assert!(!over, "nothing after the last words");
                    match action {
                        pop3::Action::Reply(words) => heard.extend(words),
                        pop3::Action::Login(login) => {
                            assert!(tls_active || cleartext_allowed, "no password without TLS");
                            heard.extend(format!("{login:?} {:?}", login.password.as_slice()).into_bytes());
                            machine.login_failed(b"-ERR no\r\n");
                        }
                        pop3::Action::StartTls => return Vec::new(),
                        pop3::Action::Close(words) => {
                            heard.extend(words);
                            over = true;
                        }
                    }
                }
                if over {
                    break;
                }
            }
            heard
        });
    }
}

/// What servers say: nothing stops the reader, and a name that it can read it can write.
pub fn imap_response(octets: &[u8]) {
    let _ = scan::response(octets);
    let _ = scan::words(octets);
    let _ = scan::announces_body(octets);
    let _ = (date::instant(octets), date::date_time(octets));
    let _ = imap_tracker::visible(octets);
    if let Some(name) = mutf7::decode(octets) {
        assert_eq!(mutf7::decode(&mutf7::encode(&name)), Some(name));
    }
    if let Ok(name) = std::str::from_utf8(octets) {
        assert_eq!(mutf7::decode(&mutf7::encode(name)).as_deref(), Some(name));
    }
}

/// What the client says and what the backend says, by turns, with an octet 0x1e between.
fn turns(octets: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    octets.split(|octet| *octet == 0x1e).enumerate().map(|(at, said)| (at % 2 == 0, said))
}

/// Every octet goes on, is replaced or waits; the relay always knows which.
pub fn imap_relay(octets: &[u8]) {
    use imap_tracker::{BackendStep, ClientStep, Relay};
    let mut relay = Relay::new();
    let (mut client, mut backend) = (VecDeque::new(), VecDeque::new());
    for (from_client, said) in turns(octets) {
        if from_client {
            client.extend(said)
        } else {
            backend.extend(said)
        }
        loop {
            let (before, waiting) = (client.len() + backend.len(), client.make_contiguous());
            match relay.from_client(waiting) {
                ClientStep::Forward(count) | ClientStep::Answer { octets: count, .. } => {
                    assert!(0 < count && count <= client.len(), "it goes on");
                    client.drain(..count);
                }
                ClientStep::NeedInput | ClientStep::Wait => {}
                ClientStep::Close(_) => return,
            }
            match relay.from_backend(backend.make_contiguous()) {
                BackendStep::Forward(count) | BackendStep::Replace { octets: count, .. } => {
                    assert!(0 < count && count <= backend.len(), "it goes on");
                    backend.drain(..count);
                }
                BackendStep::NeedInput => assert!(backend.len() < imap_tracker::CAPABILITY_LINE_MAX),
            }
            assert!(relay.answers_due() <= relay.in_flight(), "no more answers than commands");
            if client.len() + backend.len() == before {
                break;
            }
        }
    }
    let _ = (relay.take_written(), relay.is_writing(), relay.at_boundary(), relay.idle());
}

/// The same for POP3.
pub fn pop3_relay(octets: &[u8]) {
    use pop3_tracker::{BackendStep, ClientStep, Relay};
    let mut relay = Relay::new(true);
    let (mut client, mut backend) = (VecDeque::new(), VecDeque::new());
    for (from_client, said) in turns(octets) {
        if from_client {
            client.extend(said)
        } else {
            backend.extend(said)
        }
        loop {
            let before = client.len() + backend.len();
            match relay.from_client(client.make_contiguous()) {
                ClientStep::Forward(count) => {
                    assert!(0 < count && count <= client.len(), "it goes on");
                    client.drain(..count);
                }
                ClientStep::NeedInput | ClientStep::Wait => {}
                ClientStep::Close => return,
            }
            match relay.from_backend(backend.make_contiguous()) {
                BackendStep::Forward(count) | BackendStep::Drop(count) => {
                    assert!(0 < count && count <= backend.len(), "it goes on");
                    backend.drain(..count);
                }
                BackendStep::NeedInput => {}
            }
            let _ = relay.take_harvest();
            if client.len() + backend.len() == before {
                break;
            }
        }
    }
}

/// Lines and lists of a POP3 server.
pub fn pop3_answers(octets: &[u8]) {
    let mut known = Capabilities::default();
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let _ = reply::reply(line);
        assert!(reply::without_end(line).len() <= line.len());
        known.add(line);
    }
    let _ = (known.has("TOP"), known.has_sasl("PLAIN"), known.want_tls_first());
    however_split(octets, |size| {
        let (mut lines, mut waiting, mut content) = (Multiline::default(), Vec::new(), Vec::new());
        for piece in octets.chunks(size) {
            waiting.extend_from_slice(piece);
            loop {
                match lines.next(&waiting) {
                    None => break,
                    Some(Piece::End(_)) => return content,
                    Some(Piece::Content { skip, len }) => {
                        assert!(0 < skip + len && skip + len <= waiting.len(), "it goes on");
                        content.extend(waiting.drain(..skip + len).skip(skip));
                    }
                }
            }
        }
        // (What may be the end of the list is held back.)
        assert!(waiting.len() < 3);
        content
    });
}

/// SASL messages.
pub fn sasl(octets: &[u8]) {
    for name in exchange::offered(true) {
        let mut next = Exchange::begin(name.as_bytes(), true);
        for line in octets.split(|octet| *octet == b'\n') {
            let Some(exchange) = next.take() else { break };
            assert!(sasl::from_base64(exchange.challenge().as_bytes()).is_ok());
            if let Ok(exchange::Step::Ask(asked)) = exchange.answer(line) {
                next = Some(asked);
            }
        }
    }
    if let Ok(message) = sasl::from_base64(octets) {
        assert_eq!(sasl::from_base64(&sasl::to_base64(&message)), Ok(message));
    }
    if let Ok(plain) = Plain::decode(octets) {
        let again = plain.encode().map(|message| message.to_vec());
        assert_eq!(again.as_deref(), Ok(octets), "what was read is written the same");
    }
}

/// PROXY headers: none of the client's octets is taken, and what is understood can be written.
pub fn proxy(octets: &[u8]) {
    let mut have = 0;
    loop {
        match proxy::read(octets.get(..have).unwrap_or(octets)) {
            Ok(Step::Need(more)) => {
                assert!(more > 0);
                if have == octets.len() {
                    return;
                }
                have = octets.len().min(have + more);
            }
            Ok(Step::Done(ends)) => {
                if ends.is_some() {
                    assert_eq!(proxy::read(&proxy::write(ends)), Ok(Step::Done(ends)));
                }
                return;
            }
            Err(_) => return,
        }
    }
}

/// Lines of a ManageSieve server: each is known as soon as it is there, and not before.
pub fn sieve(octets: &[u8]) {
    let mut rest = octets;
    while let Ok(Some((line, taken))) = sieve_scan::line(rest) {
        assert!(0 < taken && taken <= rest.len(), "it goes on");
        assert_eq!(sieve_scan::line(&rest[..taken]), Ok(Some((line, taken))), "what follows means nothing to it");
        assert!(!matches!(sieve_scan::line(&rest[..taken - 1]), Ok(Some((_, other))) if other == taken));
        rest = &rest[taken..];
    }
}

/// A doveadm server and the dsync in it.
pub fn doveadm(octets: &[u8]) {
    however_split(octets, |size| {
        let (mut login, mut rest) = (Login::new("secret".into()), None);
        let mut pieces = octets.chunks(size);
        'login: for piece in pieces.by_ref() {
            let mut said = piece;
            loop {
                match login.input(said) {
                    Ok(Progress::Done { multiplexed, rest: behind }) => {
                        rest = Some((multiplexed, behind));
                        break 'login;
                    }
                    // What came behind it is still there.
                    Ok(Progress::Send(_) | Progress::StartTls) => said = b"",
                    Ok(Progress::NeedMore) => break,
                    Err(_) => return None,
                }
            }
        }
        let (multiplexed, behind) = rest?;
        let (mut channels, mut out) = (Channels::new(multiplexed), Vec::new());
        channels.input(&behind, &mut out);
        for piece in pieces {
            channels.input(piece, &mut out);
        }
        Some((out, channels.take_log()))
    });
    // (dsync's own octets also come without a login and channels around them.)
    for bare in [false, true] {
        however_split(octets, |size| events_of(Master::new(opening()), bare, octets.chunks(size)));
    }
}

/// What happens in a session whose slave says this.
fn events_of<'a, R: DsyncRole>(mut role: R, bare: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<R::Event> {
    let (mut channels, mut events) = (Channels::new(!bare), Vec::new());
    for piece in pieces {
        let mut out = Vec::new();
        channels.input(piece, &mut out);
        let ended = role.input(&out).is_err();
        while let Some(event) = role.poll() {
            events.push(event);
        }
        if ended {
            break;
        }
    }
    events
}

fn opening() -> Opening {
    Opening {
        hostname: "~".to_owned(),
        lock_timeout: 1,
        mode: Mode::Full,
        states: Vec::new(),
        namespaces: vec![],
        nodes: Vec::new(),
        delete: Vec::new(),
        delete_folders: Vec::new(),
        virtual_all: None,
    }
}

/// A slave that is read: every mailbox of its tree, and every message of each.
///
/// (It answers what it is asked, so it is split within its lines only: what stands in the next one comes after our question.)
pub fn dsync_reader(octets: &[u8]) {
    however_split(octets, |size| {
        let (mut reader, mut told) = (Reader::new(Vec::new()), Heard::default());
        let lines = octets.split_inclusive(|octet| *octet == b'\n');
        for piece in lines.flat_map(|line| line.chunks(size)) {
            let ended = reader.input(piece).is_err();
            while let Some(event) = reader.poll() {
                told.hear(&mut reader, event);
            }
            if ended {
                break;
            }
        }
        assert!(told.text.len() <= octets.len(), "no text comes from nowhere");
        (told.events, told.text, reader.take_output())
    });
}

/// What has been told of all mailboxes so far.
#[derive(Default)]
struct Heard {
    asked: usize,
    listed: Vec<u32>,
    wanted: Vec<u32>,
    events: Vec<Told>,
    text: Vec<u8>,
}

impl Heard {
    fn hear(&mut self, reader: &mut Reader, event: Told) {
        match &event {
            Told::Listed(one) => {
                assert!(self.listed.last().is_none_or(|last| *last < one.uid), "UIDs ascend");
                self.listed.push(one.uid);
            }
            Told::ListEnd => {
                self.wanted = std::mem::take(&mut self.listed);
                assert_eq!(reader.want(self.wanted.clone()), Ok(()), "what was listed may be wanted");
            }
            Told::Head(head) => assert!(self.wanted.contains(&head.uid), "nothing comes that nobody wanted"),
            // (It comes in pieces that depend on the split.)
            Told::Text(text) => return self.text.extend_from_slice(text),
            Told::Opened | Told::MailboxEnd => self.next(reader),
            Told::Status(reply) if !matches!(reply, StatusReply::Known(_)) => self.next(reader),
            _ => {}
        }
        self.events.push(event);
    }

    fn next(&mut self, reader: &mut Reader) {
        let mailbox = reader.tree().iter().filter_map(|node| node.mailbox).nth(self.asked);
        self.asked += 1;
        let asked = match mailbox {
            Some(mailbox) => reader.ask(mailbox.guid),
            None => reader.finish(),
        };
        assert_eq!(asked, Ok(()), "between two mailboxes the next one may be asked for");
    }
}

/// Fields and lists of fields.
pub fn dsync_fields(octets: &[u8]) {
    let mut escaped = Vec::new();
    escape::escape(octets, &mut escaped);
    assert!(!escaped.iter().any(|octet| b"\n\t\r\0".contains(octet)), "it stays a field of a line");
    assert_eq!(escape::unescape(&escaped), octets);
    let mut field = Vec::new();
    escape::field(Some(octets), &mut field);
    assert_eq!(escape::parse_field(&field).as_deref(), Some(octets));
    let _ = (escape::unescape(octets), escape::parse_field(octets));
    let parts = escape::split(octets);
    assert_eq!(escape::split(&escape::join(parts.iter().map(Vec::as_slice))), parts);
}
