//! PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): who the client of a connection is, told by the proxy in
//! front of it before the first octet of the client's own.

// Addresses only; `core` has no sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of the longest header of version 1, with its line end (§2.1).
pub const LINE_MAX: usize = 107;

/// Octets of the longest header of version 2 that is taken. Addresses take 52 at most; the rest are notes (TLVs) about the
/// client's TLS, of which none is used here.
pub const HEADER_MAX: usize = 4096;

/// What a header of version 2 begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What a header of version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Octets before the addresses in version 2: signature, version and command, family, length.
const FIXED: usize = 16;

/// Both ends of the client's connection to the first proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// Where it has connected to.
    pub server: SocketAddr,
}

impl Ends {
    /// A proxy that listens on `::` calls a client of IPv4 `::ffff:192.0.2.7`. It is 192.0.2.7 to every network and every limit.
    fn new(client: (IpAddr, u16), server: (IpAddr, u16)) -> Self {
        let end = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
        Self { client: end(client), server: end(server) }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many octets at least are missing: as many can be read without taking any of the client's own.
    Need(usize),
    /// The header is complete. `None`: the connection is the sender's own (a health check), or it doesn't know the client.
    Done(Option<Ends>),
}

/// Why something is no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It begins as none does.
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    /// It is longer than any.
    #[error("the PROXY header is longer than {0} octets")]
    TooLong(usize),
    /// What it says makes no sense.
    #[error("the PROXY header makes no sense: {0}")]
    Nonsense(&'static str),
}

/// Reads a header of which `octets` have come so far.
///
/// # Errors
/// [`ProxyError`], as early as it can be seen.
pub fn read(octets: &[u8]) -> Result<Step, ProxyError> {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(have, want)| have == want);
    if begins(&SIGNATURE) {
        return match octets.len().checked_sub(SIGNATURE.len()) {
            Some(_) => version_2(octets),
            None => Ok(Step::Need(SIGNATURE.len() - octets.len())),
        };
    }
    if !begins(WORD) {
        return Err(ProxyError::NoHeader);
    }
    match octets.len().checked_sub(SIGNATURE.len()) {
        Some(_) => version_1(octets),
        // The shortest line is longer than that.
        None => Ok(Step::Need(SIGNATURE.len() - octets.len())),
    }
}

fn version_1(octets: &[u8]) -> Result<Step, ProxyError> {
    let Some(end) = octets.windows(2).position(|pair| pair == b"\r\n") else {
        let missing = if octets.last() == Some(&b'\r') { 1 } else { 2 };
        if octets.len() + missing > LINE_MAX {
            return Err(ProxyError::TooLong(LINE_MAX));
        }
        return Ok(Step::Need(missing));
    };
    let line = octets.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(ProxyError::Nonsense("it is no text"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows (§2.1).
        return Ok(Step::Done(None));
    }
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (client, server) = (address(), address());
    let mut port = || {
        let word = words.next()?;
        word.bytes().all(|digit| digit.is_ascii_digit()).then(|| word.parse::<u16>().ok())?
    };
    let (from, to) = (port(), port());
    let (Some(client), Some(server), Some(from), Some(to), None) = (client, server, from, to, words.next()) else {
        return Err(ProxyError::Nonsense("expected PROXY, TCP4 or TCP6, two addresses and two ports"));
    };
    let ends = Ends::new((client, from), (server, to));
    match (family, client.is_ipv4(), server.is_ipv4()) {
        (Some("TCP4"), true, true) | (Some("TCP6"), false, false) => Ok(Step::Done(Some(ends))),
        _ => Err(ProxyError::Nonsense("its addresses are not of the family that it names")),
    }
}

fn version_2(octets: &[u8]) -> Result<Step, ProxyError> {
    let Some((fixed, body)) = octets.split_at_checked(FIXED) else {
        return Ok(Step::Need(FIXED - octets.len()));
    };
    let [.., command, family, high, low] = fixed else { return Err(ProxyError::NoHeader) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => {
            return Err(ProxyError::Nonsense("it has another version than 2, or another command than LOCAL and PROXY"));
        }
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if FIXED + length > HEADER_MAX {
        return Err(ProxyError::TooLong(HEADER_MAX));
    }
    if body.len() < length {
        return Ok(Step::Need(length - body.len()));
    }
    let short = ProxyError::Nonsense("it is too short for its addresses");
    match family {
        _ if local => Ok(Step::Done(None)),
        0x11 => ends::<4>(body.get(..length).unwrap_or_default()).map(|ends| Step::Done(Some(ends))).ok_or(short),
        0x21 => ends::<16>(body.get(..length).unwrap_or_default()).map(|ends| Step::Done(Some(ends))).ok_or(short),
        // Unix sockets, datagrams, unspecified: no address of use.
        _ => Ok(Step::Done(None)),
    }
}

/// Two addresses of `N` octets each, and two ports.
fn ends<const N: usize>(body: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = body.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, _) = rest.split_first_chunk::<2>()?;
    let end = |address: [u8; N], port: [u8; 2]| (address.into(), u16::from_be_bytes(port));
    Some(Ends::new(end(*client, *from), end(*server, *to)))
}

/// A header of version 2 for a client's connection; none for one of our own (LOCAL).
#[must_use]
pub fn write(ends: Option<Ends>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(Ends { client, server }) = ends else {
        header.extend([0x20, 0, 0, 0]);
        return header;
    };
    match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(v6(from).octets());
            header.extend(v6(to).octets());
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(server.port().to_be_bytes());
    header
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn both(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    /// Reads as a socket would be read: what is asked for and no more; gives what is left.
    fn read_from(stream: &[u8]) -> Result<(Option<Ends>, &[u8]), ProxyError> {
        let mut taken = 0;
        loop {
            match read(&stream[..taken])? {
                Step::Done(ends) => return Ok((ends, &stream[taken..])),
                Step::Need(more) => {
                    assert!(more > 0);
                    taken += more;
                    assert!(taken <= stream.len(), "asks for more than there is: {taken} of {stream:?}");
                }
            }
        }
    }

    #[test]
    fn lines_of_version_1() {
        for (line, ends) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 143", Some(both("192.0.2.7:56324", "198.51.100.1:143"))),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535", Some(both("[2001:db8::7]:1", "[2001:db8::1]:65535"))),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 2 143", Some(both("192.0.2.7:2", "198.51.100.1:143"))),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", None),
        ] {
            let stream = format!("{line}\r\na1 NOOP\r\n");
            assert_eq!(read_from(stream.as_bytes()), Ok((ends, &b"a1 NOOP\r\n"[..])), "{line}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        let header = |command: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [&SIGNATURE[..], &[command, family], &length, body, b"a1"].concat()
        };
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 0, 143];
        let noted = [&v4[..], &[0x02, 0, 4], b"mail"].concat();
        let mapped = |end: &[u8]| [&[0; 10][..], &[0xff; 2], end].concat();
        let v6 = [mapped(&v4[..4]), mapped(&v4[4..8]), v4[8..].to_vec()].concat();
        let ends = Some(both("192.0.2.7:56324", "198.51.100.1:143"));
        for (stream, expected) in [
            (header(0x21, 0x11, &v4), ends),
            (header(0x21, 0x21, &v6), ends),
            (header(0x21, 0x11, &noted), ends),
            (header(0x20, 0x11, &v4), None),
            (header(0x20, 0, &[]), None),
            (header(0x21, 0, &[1; 40]), None),
            (header(0x21, 0x31, &[1; 216]), None),
            (header(0x21, 0x12, &v4), None),
        ] {
            assert_eq!(read_from(&stream), Ok((expected, &b"a1"[..])), "{stream:?}");
        }
        for (stream, word) in [
            (header(0x11, 0x11, &v4), "version"),
            (header(0x22, 0x11, &v4), "command"),
            (header(0x21, 0x11, &v4[..11]), "too short"),
            (header(0x21, 0x21, &v4), "too short"),
            (header(0x21, 0x11, &[0; HEADER_MAX]), "longer than 4096"),
        ] {
            assert!(read_from(&stream).unwrap_err().to_string().contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_octet() {
        for stream in ["a1 NOOP\r\n", "PROXZ", "\r\n\r\n\0\r\nQUIX", "\x16\x03\x01"] {
            let wrong = (1..=stream.len()).find(|count| read(&stream.as_bytes()[..*count]).is_err());
            assert!(wrong.is_some(), "{stream:?}");
        }
        assert_eq!(read(b"a"), Err(ProxyError::NoHeader));
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 70000",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +5 143",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 143 1",
            "PROXY TCP4  192.0.2.7 198.51.100.1 56324 143",
            "PROXY TCP4 2001:db8::7 2001:db8::1 56324 143",
            "PROXY TCP6 192.0.2.7 198.51.100.1 56324 143",
            "PROXY TCP5 192.0.2.7 198.51.100.1 56324 143",
            "PROXY TCP4 192.0.2.256 198.51.100.1 56324 143",
            "PROXY TCP4 a b 56324 143 \r",
        ] {
            assert!(matches!(read_from(format!("{line}\r\n").as_bytes()), Err(ProxyError::Nonsense(_))), "{line}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert_eq!(read_from(&endless), Err(ProxyError::TooLong(LINE_MAX)));
    }

    #[test]
    fn mixed_families_are_written_as_the_wider_one() {
        let ends = both("192.0.2.7:1", "[2001:db8::1]:143");
        let read = read_from(&write(Some(ends))).unwrap().0.unwrap();
        assert_eq!(read, ends);
        let dual_stack = both("[::ffff:192.0.2.7]:1", "[::ffff:198.51.100.1]:143");
        assert_eq!(read_from(&write(Some(dual_stack))).unwrap().0, Some(both("192.0.2.7:1", "198.51.100.1:143")));
        assert_eq!(read_from(&write(None)), Ok((None, &b""[..])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(client: (u128, u16), server: (u128, u16), v4: bool) {
            let end = |(bits, port): (u128, u16)| {
                let v6 = IpAddr::V6(Ipv6Addr::from_bits(bits));
                let low = u32::try_from(bits & u128::from(u32::MAX)).unwrap();
                SocketAddr::new(if v4 { IpAddr::V4(Ipv4Addr::from_bits(low)) } else { v6 }, port)
            };
            let ends = Ends { client: end(client), server: end(server) };
            let stream = [write(Some(ends)), b"rest".to_vec()].concat();
            let (read, rest) = read_from(&stream).unwrap();
            prop_assert_eq!(rest, b"rest");
            let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
            prop_assert_eq!(read, Some(Ends { client: plain(ends.client), server: plain(ends.server) }));
        }

        #[test]
        fn whatever_comes_has_a_bound(start in 0_usize..4, octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let start: &[u8] = match start { 0 => b"", 1 => b"PROXY ", 2 => b"PROXY TCP4 1.2.3.4 ", _ => &SIGNATURE };
            let octets = [start, &octets].concat();
            for count in 0..=octets.len() {
                match read(&octets[..count]) {
                    Ok(Step::Need(more)) => prop_assert!(more > 0 && count + more <= HEADER_MAX),
                    Ok(Step::Done(_)) | Err(_) => break,
                }
            }
        }
    }
}
