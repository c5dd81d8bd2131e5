//! Finds lines and literals in a stream of IMAP octets without holding them (RFC 3501 §2.2, §4.3; RFC 7888; RFC 3516 `~{n}`).
//!
//! A *logical line* is a whole command or response: its segments of text with the literals between them. The framer keeps the
//! head of that line and a few numbers, whatever a line's or a literal's size. The same octets give the same events at the same
//! offsets, however they are split.
//!
//! What a server says in OK, NO, BAD, BYE and PREAUTH, and after `+`, is text for people and never announces a literal:
//! `a1 NO quota {10}` would otherwise stall the stream for ten octets that never come.

use std::mem;

/// Octets of a logical line's first segment that are kept for [`Framer::head`]: tag, command and its first arguments, with
/// room for the longest tag and mailbox name that any client is known to send.
pub const HEAD_MAX: usize = 1024;

/// Whose octets these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Commands: `{n}` waits for the server's `+`, status words mean nothing.
    Client,
    /// Responses: no literal waits, and status text never announces one.
    Server,
}

/// What the octet just consumed has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The segment that just ended announced a literal.
    LiteralAnnounced {
        /// Octets of the literal.
        len: u64,
        /// The sender waits for `+` before it sends them (`{n}` from a client).
        sync: bool,
    },
    /// The last octet of the announced literal has passed. Also fired, without consuming anything, for an empty literal.
    LiteralEnd,
    /// The logical line is complete.
    LineEnd,
}

/// How much of `{n}` or `{n+}` stands at the end of what has been seen of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Nothing,
    Open,
    Digits(u64),
    Plus(u64),
    Closed {
        len: u64,
        plus: bool,
    },
    /// CR behind the brace.
    ClosedReturn {
        len: u64,
        plus: bool,
    },
}

/// Where in the stream the next octet lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No octet of the logical line has been seen.
    LineStart,
    /// In the text of the first segment.
    First,
    /// In the text behind a literal.
    Later,
    /// In a literal with so many octets to come.
    Literal(u64),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Framer {
    role: Role,
    place: Place,
    head: Vec<u8>,
    marker: Marker,
    /// The last octet was a CR: part of the line end if LF follows, else of the line.
    carriage_return: bool,
    line_octets: u64,
}

impl Framer {
    /// A framer at the start of a line.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            place: Place::LineStart,
            head: Vec::new(),
            marker: Marker::Nothing,
            carriage_return: false,
            line_octets: 0,
        }
    }

    /// Consumes a prefix of `input`, up to and including the octet that completes the next event.
    ///
    /// Returns the octets consumed and the event; `None` means that all of `input` was consumed and completes nothing.
    /// Call it until it gives `None`.
    pub fn advance(&mut self, input: &[u8]) -> (usize, Option<Event>) {
        if let Place::Literal(left) = self.place {
            return self.pass_literal(left, input);
        }
        if input.is_empty() {
            return (0, None);
        }
        if self.place == Place::LineStart {
            self.head.clear();
            self.line_octets = 0;
            self.place = Place::First;
        }
        let end = input.iter().position(|&octet| octet == b'\n');
        let text = end.and_then(|end| input.get(..end)).unwrap_or(input);
        self.note(text);
        let Some(end) = end else {
            return (input.len(), None);
        };
        self.line_octets = self.line_octets.saturating_add(1);
        (end.saturating_add(1), Some(self.end_segment()))
    }

    /// The start of the current or just ended logical line: its first segment without line end, at most [`HEAD_MAX`] octets.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Octets of the current or just ended logical line so far, line ends included, literals not.
    #[must_use]
    pub fn line_octets(&self) -> u64 {
        self.line_octets
    }

    /// A literal has been announced and has not ended.
    #[must_use]
    pub fn in_literal(&self) -> bool {
        matches!(self.place, Place::Literal(_))
    }

    /// Octets of the current literal that complete no event: they may be [passed](Self::pass) unseen.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        match self.place {
            Place::Literal(left) => left.saturating_sub(1),
            _ => 0,
        }
    }

    /// Takes `count` octets for seen, at most [`Self::unseen`].
    pub fn pass(&mut self, count: u64) {
        if let Place::Literal(left) = &mut self.place {
            *left = left.saturating_sub(count).max(1);
        }
    }

    /// No octet of the next logical line has been seen.
    #[must_use]
    pub fn at_line_start(&self) -> bool {
        self.place == Place::LineStart
    }

    /// The server refused the announced literal (tagged NO or BAD instead of `+`): the command is over, and what
    /// comes next is a new line. Does nothing outside a literal.
    pub fn literal_refused(&mut self) {
        if self.in_literal() {
            self.place = Place::LineStart;
        }
    }

    fn pass_literal(&mut self, left: u64, input: &[u8]) -> (usize, Option<Event>) {
        let here = u64::try_from(input.len()).unwrap_or(u64::MAX);
        if here < left {
            self.place = Place::Literal(left - here);
            return (input.len(), None);
        }
        self.place = Place::Later;
        (usize::try_from(left).unwrap_or(input.len()), Some(Event::LiteralEnd))
    }

    /// Takes in text of a segment that holds no LF.
    fn note(&mut self, text: &[u8]) {
        self.line_octets = self.line_octets.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.note_head(text);
        let rest = match text.iter().rposition(|&octet| octet == b'{') {
            Some(open) => {
                self.marker = Marker::Open;
                text.get(open.saturating_add(1)..).unwrap_or_default()
            }
            None => text,
        };
        for &octet in rest {
            if self.marker == Marker::Nothing {
                break;
            }
            self.marker = self.marker.then(octet);
        }
    }

    fn note_head(&mut self, text: &[u8]) {
        if self.place != Place::First || text.is_empty() {
            return;
        }
        if mem::take(&mut self.carriage_return) {
            self.keep(b"\r");
        }
        match text.split_last() {
            Some((b'\r', line)) => {
                self.keep(line);
                self.carriage_return = true;
            }
            _ => self.keep(text),
        }
    }

    fn keep(&mut self, text: &[u8]) {
        let room = HEAD_MAX.saturating_sub(self.head.len()).min(text.len());
        self.head.extend_from_slice(text.get(..room).unwrap_or_default());
    }

    fn end_segment(&mut self) -> Event {
        let marker = mem::replace(&mut self.marker, Marker::Nothing);
        self.carriage_return = false;
        let text_only = self.role == Role::Server && self.place == Place::First && is_text(&self.head);
        match marker {
            Marker::Closed { len, plus } | Marker::ClosedReturn { len, plus } if !text_only => {
                self.place = Place::Literal(len);
                Event::LiteralAnnounced { len, sync: self.role == Role::Client && !plus }
            }
            _ => {
                self.place = Place::LineStart;
                Event::LineEnd
            }
        }
    }
}

impl Marker {
    fn then(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::Open, b'0'..=b'9') => Self::Digits(u64::from(octet - b'0')),
            (Self::Digits(value), b'0'..=b'9') => value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(octet - b'0')))
                .map_or(Self::Nothing, Self::Digits),
            (Self::Digits(value), b'+') => Self::Plus(value),
            (Self::Digits(len), b'}') => Self::Closed { len, plus: false },
            (Self::Plus(len), b'}') => Self::Closed { len, plus: true },
            // Two CRs are no line end of ours; the second one is text.
            (Self::Closed { len, plus }, b'\r') => Self::ClosedReturn { len, plus },
            _ => Self::Nothing,
        }
    }
}

/// Whether a response that starts so is text to its end: a continuation, anything tagged, or an untagged status.
fn is_text(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"*") else {
        return true;
    };
    let word = rest.split(|&octet| octet == b' ').find(|word| !word.is_empty()).unwrap_or_default();
    [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|status| word.eq_ignore_ascii_case(status))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{Event, Framer, HEAD_MAX, Role};
    use proptest::prelude::*;

    type Seen = (u64, Event, Vec<u8>, u64);

    /// All events of `chunks` with the offset, the head and the line's octets at each.
    fn events(role: Role, chunks: &[&[u8]]) -> Vec<Seen> {
        let mut framer = Framer::new(role);
        let mut seen = Vec::new();
        let mut offset = 0;
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let (used, event) = framer.advance(rest);
                rest = &rest[used..];
                offset += used as u64;
                match event {
                    Some(event) => seen.push((offset, event, framer.head().to_vec(), framer.line_octets())),
                    None => break,
                }
            }
            assert!(rest.is_empty());
        }
        seen
    }

    fn kinds(role: Role, input: &[u8]) -> Vec<(u64, Event)> {
        events(role, &[input]).into_iter().map(|(offset, event, ..)| (offset, event)).collect()
    }

    fn announced(len: u64, sync: bool) -> Event {
        Event::LiteralAnnounced { len, sync }
    }

    #[test]
    fn a_command_with_literals_is_one_logical_line() {
        let input = b"a1 LOGIN {2}\r\nme {3+}\r\nabc\r\na2 NOOP\n";
        assert_eq!(
            kinds(Role::Client, input),
            [
                (14, announced(2, true)),
                (16, Event::LiteralEnd),
                (23, announced(3, false)),
                (26, Event::LiteralEnd),
                (28, Event::LineEnd),
                (36, Event::LineEnd),
            ]
        );
        let seen = events(Role::Client, &[input]);
        assert_eq!((seen[4].2.as_slice(), seen[4].3), (&b"a1 LOGIN {2}"[..], 23));
        assert_eq!((seen[5].2.as_slice(), seen[5].3), (&b"a2 NOOP"[..], 8));
    }

    #[test]
    fn an_empty_literal_ends_where_it_was_announced() {
        assert_eq!(
            kinds(Role::Client, b"a {0}\r\n\r\n"),
            [(7, announced(0, true)), (7, Event::LiteralEnd), (9, Event::LineEnd)]
        );
    }

    #[test]
    fn events_come_with_the_octet_that_completes_them() {
        let mut framer = Framer::new(Role::Server);
        assert_eq!(framer.advance(b"* 1 FETCH (X {3}\r\n"), (18, Some(announced(3, false))));
        assert_eq!(framer.advance(b"ab"), (2, None));
        assert_eq!(framer.advance(b"c"), (1, Some(Event::LiteralEnd)));
        assert_eq!(framer.advance(b")\r"), (2, None));
        assert_eq!(framer.advance(b"\n"), (1, Some(Event::LineEnd)));
    }

    #[test]
    fn status_text_and_continuations_never_announce_a_literal() {
        for line in [
            "a1 NO failure {10}\r\n",
            "a1 ok {10}\r\n",
            "* NO {1}\r\n",
            "* bye {1}\r\n",
            "*  PREAUTH {1}\n",
            "* OK [ALERT] {1}\r\n",
            "+ {5}\r\n",
            "+{5}\r\n",
            "tag FETCH {3}\r\n",
        ] {
            assert_eq!(kinds(Role::Server, line.as_bytes()), [(line.len() as u64, Event::LineEnd)], "{line}");
        }
        // The same words announce one elsewhere: in what clients say, and in data.
        assert_eq!(kinds(Role::Client, b"a1 NO failure {10}\r\n"), [(20, announced(10, true))]);
        assert_eq!(kinds(Role::Server, b"* 1 FETCH (BODY[] {9}\r\n"), [(23, announced(9, false))]);
        assert_eq!(kinds(Role::Server, b"* BADGER {9}\r\n"), [(14, announced(9, false))]);
        // Text behind a literal is still data, though it may look like a status.
        let input = b"* LIST () \"/\" {2}\r\nOK ({1}\r\nx)\r\n";
        assert_eq!(kinds(Role::Server, input).len(), 5);
    }

    #[test]
    fn only_the_four_forms_at_the_end_of_a_segment_announce() {
        for (text, len) in
            [("{5}", Some(5)), ("{5+}", Some(5)), ("~{5}", Some(5)), ("~{5+}", Some(5)), ("{{007}", Some(7))]
        {
            let line = format!("a {text}\r\n");
            let seen = kinds(Role::Client, line.as_bytes());
            assert!(matches!(seen[0].1, Event::LiteralAnnounced { len: n, .. } if Some(n) == len), "{text}");
        }
        for text in [
            "{}",
            "{+}",
            "{5-}",
            "{5++}",
            "{-5}",
            "{5} ",
            "{5}x",
            "{5",
            "5}",
            "{ 5}",
            "{5}\r",
            "{18446744073709551616}",
            "{5}+",
        ] {
            let line = format!("a {text}\r\n");
            assert_eq!(kinds(Role::Client, line.as_bytes()), [(line.len() as u64, Event::LineEnd)], "{text:?}");
        }
        assert_eq!(kinds(Role::Client, b"{18446744073709551615}\n"), [(23, announced(u64::MAX, true))]);
    }

    #[test]
    fn the_head_is_bounded_and_without_line_end() {
        let mut line = vec![b'x'; HEAD_MAX * 3];
        line.extend_from_slice(b"\r\n");
        let seen = events(Role::Server, &[&line]);
        assert_eq!((seen[0].2.len(), seen[0].3), (HEAD_MAX, line.len() as u64));
        let seen = events(Role::Client, &[b"a\r", b"b\r", b"\n"]);
        assert_eq!(seen[0].2, b"a\rb");
    }

    #[test]
    fn a_refused_literal_ends_the_command() {
        let mut framer = Framer::new(Role::Client);
        assert_eq!(framer.advance(b"a APPEND x {9}\r\n").1, Some(announced(9, true)));
        assert!(framer.in_literal() && !framer.at_line_start());
        framer.literal_refused();
        assert!(framer.at_line_start());
        assert_eq!(framer.advance(b"b NOOP\r\n"), (8, Some(Event::LineEnd)));
        assert_eq!(framer.head(), b"b NOOP");
    }

    /// Octets that hit the framer's own alphabet often.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"* 1 FETCH (".to_vec()),
            Just(b"* NO ".to_vec()),
            Just(b"a1 ".to_vec()),
            (0_u64..12).prop_map(|n| format!("{{{n}}}\r\n").into_bytes()),
            (0_u64..12).prop_map(|n| format!("~{{{n}+}}\n").into_bytes()),
            "[ {}+0-9x\\r]{0,6}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            input in stream(),
            cuts in prop::collection::vec(0_usize..200, 0..12),
            server in any::<bool>(),
        ) {
            let role = if server { Role::Server } else { Role::Client };
            let whole = events(role, &[&input]);
            let octets: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(&events(role, &octets), &whole);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.push(input.len());
            cuts.sort_unstable();
            let mut from = 0;
            let chunks: Vec<&[u8]> = cuts.iter().map(|&cut| { let part = &input[from..cut]; from = cut; part }).collect();
            prop_assert_eq!(&events(role, &chunks), &whole);
        }
    }
}
