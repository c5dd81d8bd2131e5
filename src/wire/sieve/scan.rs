//! What a server says, line by line: strings, quoted or as literals, and the words that end an answer.

use std::fmt;

/// Octets of a line without its literals: the longest are lists of extensions.
const LINE_MAX: usize = 64 * 1024;

/// Octets of a script: what Pigeonhole and Cyrus take as they are installed is less.
pub const SCRIPT_MAX: usize = 1 << 20;

/// Strings of one line; no answer has more than three.
const STRINGS_MAX: usize = 16;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A capability, a script's name or a script.
    Data {
        /// The strings of it.
        strings: Vec<Vec<u8>>,
        /// `ACTIVE` stands behind them.
        active: bool,
    },
    /// The end of an answer.
    End(End),
}

/// The end of an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct End {
    /// Which word it was.
    pub status: Status,
    /// The response code, upper case, without what stands behind it (`QUOTA/MAXSIZE`).
    pub code: Option<String>,
    /// The text for people.
    pub text: Vec<u8>,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {}", self.status, self.code, String::from_utf8_lossy(&self.text))
    }
}

/// The word that ends an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Ok,
    /// It is refused.
    No,
    /// The server ends the connection.
    Bye,
}

/// What comes is not ManageSieve, or more than is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A line that is none of the protocol.
    #[error("said something that is not ManageSieve")]
    Syntax,
    /// A line that is too long.
    #[error("a line is longer than {LINE_MAX} octets")]
    LineTooLong,
    /// A literal that is too long.
    #[error("a script is longer than {SCRIPT_MAX} octets")]
    ScriptTooLong,
}

/// Reads the first line of `input`, literals included, and how many octets it takes. None: there must come more.
///
/// # Errors
/// [`Bad`]
pub fn line(input: &[u8]) -> Result<Option<(Line, usize)>, Bad> {
    let mut cursor = Cursor { input, at: 0, literals: 0 };
    match cursor.line() {
        Ok(line) => Ok(Some((line, cursor.at))),
        Err(Stop::Bad(bad)) => Err(bad),
        Err(Stop::More) if !cursor.in_literal() && input.len() - cursor.literals > LINE_MAX => Err(Bad::LineTooLong),
        Err(Stop::More) => Ok(None),
    }
}

enum Stop {
    More,
    Bad(Bad),
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// Octets of literals before `at`.
    literals: usize,
}

impl Cursor<'_> {
    /// It waits for the rest of a literal, which has a bound of its own.
    const fn in_literal(&self) -> bool {
        self.at > self.input.len()
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.input.get(self.at).copied().ok_or(Stop::More)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let octet = self.peek()?;
        self.at += 1;
        Ok(octet)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.next()? == wanted { Ok(()) } else { Err(Stop::Bad(Bad::Syntax)) }
    }

    /// CRLF, or LF alone.
    fn end(&mut self) -> Result<(), Stop> {
        if self.peek()? == b'\r' {
            self.at += 1;
        }
        self.expect(b'\n')
    }

    fn line(&mut self) -> Result<Line, Stop> {
        if matches!(self.peek()?, b'"' | b'{') {
            return self.data();
        }
        let status = match self.word()?.as_str() {
            "OK" => Status::Ok,
            "NO" => Status::No,
            "BYE" => Status::Bye,
            _ => return Err(Stop::Bad(Bad::Syntax)),
        };
        let (mut code, mut text) = (None, Vec::new());
        while self.peek()? == b' ' {
            self.at += 1;
            match self.peek()? {
                b'(' => code = Some(self.code()?),
                b'"' | b'{' => text = self.string()?,
                _ => return Err(Stop::Bad(Bad::Syntax)),
            }
        }
        self.end()?;
        Ok(Line::End(End { status, code, text }))
    }

    fn data(&mut self) -> Result<Line, Stop> {
        let (mut strings, mut active) = (vec![self.string()?], false);
        while self.peek()? == b' ' {
            self.at += 1;
            match self.peek()? {
                b'"' | b'{' if strings.len() < STRINGS_MAX => strings.push(self.string()?),
                // (Cyrus leaves a blank before the line's end.)
                b'\r' | b'\n' => {}
                _ if self.word()? == "ACTIVE" => active = true,
                _ => return Err(Stop::Bad(Bad::Syntax)),
            }
        }
        self.end()?;
        Ok(Line::Data { strings, active })
    }

    fn word(&mut self) -> Result<String, Stop> {
        let mut word = String::new();
        while self.peek()?.is_ascii_alphabetic() {
            word.push(char::from(self.next()?.to_ascii_uppercase()));
        }
        Ok(word)
    }

    /// `(CODE …)`: what stands behind the code may hold strings.
    fn code(&mut self) -> Result<String, Stop> {
        self.expect(b'(')?;
        let mut code = String::new();
        while !matches!(self.peek()?, b' ' | b')') {
            code.push(char::from(self.next()?.to_ascii_uppercase()));
        }
        loop {
            match self.peek()? {
                b')' => break,
                b'"' | b'{' => drop(self.string()?),
                b'\r' | b'\n' => return Err(Stop::Bad(Bad::Syntax)),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(code)
    }

    fn string(&mut self) -> Result<Vec<u8>, Stop> {
        if self.next()? == b'"' {
            return self.quoted();
        }
        let mut length: usize = 0;
        loop {
            match self.next()? {
                digit @ b'0'..=b'9' => length = length.saturating_mul(10).saturating_add(usize::from(digit - b'0')),
                b'+' if self.peek()? == b'}' => {}
                b'}' => break,
                _ => return Err(Stop::Bad(Bad::Syntax)),
            }
        }
        if length > SCRIPT_MAX {
            return Err(Stop::Bad(Bad::ScriptTooLong));
        }
        self.end()?;
        let (start, end) = (self.at, self.at + length);
        self.at = end;
        self.literals += length;
        self.input.get(start..end).map(<[u8]>::to_vec).ok_or(Stop::More)
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Stop> {
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(text),
                b'\\' => text.push(self.next()?),
                // (Old servers have lines in the texts of their errors.)
                octet => text.push(octet),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::{Bad, End, Line, SCRIPT_MAX, Status, line};
    use proptest::prelude::*;

    fn data(strings: &[&[u8]], active: bool) -> Line {
        Line::Data { strings: strings.iter().map(|string| string.to_vec()).collect(), active }
    }

    fn end(status: Status, code: Option<&str>, text: &[u8]) -> Line {
        Line::End(End { status, code: code.map(str::to_owned), text: text.to_vec() })
    }

    #[test]
    fn the_lines_of_the_standard_and_of_servers() {
        for (input, read) in [
            (&b"\"SIEVE\" \"fileinto vacation\"\r\n"[..], data(&[b"SIEVE", b"fileinto vacation"], false)),
            (b"\"STARTTLS\"\r\n", data(&[b"STARTTLS"], false)),
            (b"\"a \\\"b\\\\\" ACTIVE\r\n", data(&[b"a \"b\\"], true)),
            (b"\"main\" active\r\n", data(&[b"main"], true)),
            (b"{6}\r\nkeep;\n\r\n", data(&[b"keep;\n"], false)),
            (b"{6+}\r\nke\r\n;\n\r\n", data(&[b"ke\r\n;\n"], false)),
            (b"OK\r\n", end(Status::Ok, None, b"")),
            (b"OK \"Logged in.\"\r\n", end(Status::Ok, None, b"Logged in.")),
            (b"ok (SASL \"abc)\") \"x\"\r\n", end(Status::Ok, Some("SASL"), b"x")),
            (b"NO (quota/maxsize) \"too large\"\r\n", end(Status::No, Some("QUOTA/MAXSIZE"), b"too large")),
            (b"NO {9}\r\nerror: \r\n\r\n", end(Status::No, None, b"error: \r\n")),
            (b"BYE (TRYLATER) \"x\"\n", end(Status::Bye, Some("TRYLATER"), b"x")),
        ] {
            assert_eq!(line(input), Ok(Some((read, input.len()))), "{input:?}");
            for short in 0..input.len() {
                assert_eq!(line(&input[..short]), Ok(None), "{:?}", &input[..short]);
            }
        }
    }

    #[test]
    fn only_the_first_line_is_taken() {
        assert_eq!(line(b"\"a\"\r\nOK\r\n"), Ok(Some((data(&[b"a"], false), 5))));
    }

    #[test]
    fn what_is_no_line_or_has_no_end_is_refused() {
        for input in
            [&b"* OK [CAPABILITY IMAP4rev1] ready\r\n"[..], b"+OK\r\n", b"\"a\" PASSIVE\r\n", b"{x}\r\n", b"\r\n"]
        {
            assert_eq!(line(input), Err(Bad::Syntax), "{input:?}");
        }
        assert_eq!(line(format!("{{{}}}\r\n", SCRIPT_MAX + 1).as_bytes()), Err(Bad::ScriptTooLong));
        assert_eq!(line(b"{99999999999999999999999999}\r\n"), Err(Bad::ScriptTooLong));
        assert_eq!(line(&[b"\"", vec![b'a'; 70_000].as_slice()].concat()), Err(Bad::LineTooLong));
        let script = [format!("{{{SCRIPT_MAX}}}\r\n").into_bytes(), vec![b'a'; 70_000]].concat();
        assert_eq!(line(&script), Ok(None), "a script may be long");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(input in prop::collection::vec(prop::sample::select(b"\"\\{}0+9 \r\nOKNO()aACTIVE".to_vec()), 0..40)) {
            if let Ok(Some((_, taken))) = line(&input) {
                prop_assert!(taken <= input.len());
            }
        }
    }
}
