//! What a client's own session shows of its maildrop: the answers to UIDL and LIST as they pass by, collected.
//!
//! Only whole answers count, and only those of a maildrop that the session has not changed yet: deleted messages are left
//! out of later lists (RFC 1939 §5).

/// Octets of one answer that are kept: more than a hundred thousand messages. Beyond it, the session is not harvested.
const ANSWER_MAX: usize = 4 << 20;

/// Both answers of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Number and unique identifier (as the server told it, not checked) of each message, in the server's order.
    pub uidls: Vec<(u32, Vec<u8>)>,
    /// Number and size of each message, in the server's order.
    pub sizes: Vec<(u32, u64)>,
}

/// One of the two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To UIDL without argument.
    Uidl,
    /// To LIST without argument.
    List,
}

/// Collects the two answers.
#[derive(Debug)]
pub struct Collector {
    uidl: Collected,
    list: Collected,
    /// Nothing more is wanted.
    over: bool,
}

#[derive(Debug, Default)]
struct Collected {
    octets: Vec<u8>,
    complete: bool,
}

impl Collector {
    /// For one session; collects nothing unless `wanted`.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self { uidl: Collected::default(), list: Collected::default(), over: !wanted }
    }

    /// Takes in a part of an answer, without stuffing.
    pub fn add(&mut self, answer: Answer, octets: &[u8]) {
        if self.over {
            return;
        }
        let collected = self.of(answer);
        if collected.complete {
            // The same again.
        } else if collected.octets.len().saturating_add(octets.len()) > ANSWER_MAX {
            self.stop();
        } else {
            collected.octets.extend_from_slice(octets);
        }
    }

    /// The answer is complete. Gives the harvest with the second one.
    pub fn end(&mut self, answer: Answer) -> Option<Harvest> {
        self.of(answer).complete = !self.over;
        if !(self.uidl.complete && self.list.complete) {
            return None;
        }
        let harvest = read(&self.uidl.octets, &self.list.octets);
        self.stop();
        harvest
    }

    /// Octets that are held.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.uidl.octets.len() + self.list.octets.len()
    }

    /// From now on the lists are no longer those of the whole maildrop, or can't be told apart.
    pub fn stop(&mut self) {
        *self = Self::new(false);
    }

    fn of(&mut self, answer: Answer) -> &mut Collected {
        match answer {
            Answer::Uidl => &mut self.uidl,
            Answer::List => &mut self.list,
        }
    }
}

/// None if a line is none of such an answer.
fn read(uidl: &[u8], list: &[u8]) -> Option<Harvest> {
    let uidls = lines(uidl).map(|line| {
        let (number, rest) = number(line)?;
        Some((u32::try_from(number).ok()?, rest.to_vec()))
    });
    let sizes = lines(list).map(|line| {
        let (number_of, rest) = number(line)?;
        // Some servers say more behind the size.
        Some((u32::try_from(number_of).ok()?, number(rest)?.0))
    });
    Some(Harvest { uidls: uidls.collect::<Option<_>>()?, sizes: sizes.collect::<Option<_>>()? })
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split_inclusive(|&octet| octet == b'\n').map(<[u8]>::trim_ascii)
}

/// A number and what stands behind the blanks that follow it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (rest.is_empty() || rest.starts_with(b" ")).then_some((number, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::{ANSWER_MAX, Answer, Collector, Harvest};

    fn collected(parts: &[(Answer, &[u8])]) -> Option<Harvest> {
        let mut collector = Collector::new(true);
        let mut harvest = None;
        for (answer, octets) in parts {
            for piece in octets.chunks(3) {
                collector.add(*answer, piece);
            }
            harvest = harvest.or(collector.end(*answer));
        }
        harvest
    }

    #[test]
    fn both_answers_make_a_harvest_whichever_is_first() {
        let (uidl, list) = (b"1 a\r\n2 <b>\n".as_slice(), b"1 10\r\n2 20 more\r\n".as_slice());
        let wanted = Harvest { uidls: vec![(1, b"a".to_vec()), (2, b"<b>".to_vec())], sizes: vec![(1, 10), (2, 20)] };
        assert_eq!(collected(&[(Answer::Uidl, uidl), (Answer::List, list)]), Some(wanted.clone()));
        assert_eq!(collected(&[(Answer::List, list), (Answer::List, b"1 5\r\n"), (Answer::Uidl, uidl)]), Some(wanted));
        assert_eq!(collected(&[(Answer::List, list), (Answer::List, list)]), None);
        assert_eq!(collected(&[(Answer::List, b""), (Answer::Uidl, b"")]), Some(Harvest::default()));
    }

    #[test]
    fn what_is_no_list_or_too_long_is_no_harvest() {
        for (uidl, list) in [
            (&b"x a\r\n"[..], &b"1 10\r\n"[..]),
            (b"1 a\r\n", b"1 ten\r\n"),
            (b"1 a\r\n", b"1\r\n"),
            (b"4294967296 a\r\n", b"1 1\r\n"),
            (b"1 a\r\n", b"1 99999999999999999999\r\n"),
            (b"1a\r\n", b"1 1\r\n"),
        ] {
            assert_eq!(collected(&[(Answer::Uidl, uidl), (Answer::List, list)]), None, "{uidl:?} {list:?}");
        }
        let mut collector = Collector::new(true);
        collector.add(Answer::Uidl, &vec![b'1'; ANSWER_MAX]);
        assert_eq!(collector.octets(), ANSWER_MAX);
        collector.add(Answer::Uidl, b"1");
        assert_eq!(collector.end(Answer::Uidl), None);
        assert_eq!((collector.octets(), collector.uidl.octets.capacity()), (0, 0), "and costs nothing any more");
        assert_eq!(collector.end(Answer::List), None);
    }
}
