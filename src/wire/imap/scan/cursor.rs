//! A place in a response, and the tokens that stand there.

use std::borrow::Cow;

use super::STREAMED;

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire::imap) enum Token<'a> {
    /// NIL, a number, a flag, anything without quotes.
    Atom(&'a [u8]),
    /// What stands between the quotes, escapes and all; see [`unescaped`].
    Quoted(&'a [u8]),
    /// The octets of a literal.
    Literal(&'a [u8]),
    /// The literal was streamed away.
    Streamed,
    /// What stands between the parentheses.
    List(&'a [u8]),
}

impl<'a> Token<'a> {
    /// The octets of a string or an atom; `None` for NIL and for what has no octets of its own.
    pub(in crate::wire::imap) fn octets(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Atom(atom) if atom.eq_ignore_ascii_case(b"NIL") => None,
            Self::Atom(octets) | Self::Literal(octets) => Some(Cow::Borrowed(octets)),
            Self::Quoted(inside) => Some(unescaped(inside)),
            Self::Streamed | Self::List(_) => None,
        }
    }

    /// The number that an atom (or a quoted one, as some servers write) stands for.
    pub(in crate::wire::imap) fn number(self) -> Option<u64> {
        match self {
            Self::Atom(digits) | Self::Quoted(digits) => number(digits),
            _ => None,
        }
    }
}

/// A number of digits and nothing else; `None` if it doesn't fit.
pub(in crate::wire::imap) fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Takes the escapes out of what stood between quotes.
pub(in crate::wire::imap) fn unescaped(inside: &[u8]) -> Cow<'_, [u8]> {
    if !inside.contains(&b'\\') {
        return Cow::Borrowed(inside);
    }
    let mut octets = Vec::with_capacity(inside.len());
    let mut rest = inside.iter();
    while let Some(&octet) = rest.next() {
        octets.push(if octet == b'\\' { rest.next().copied().unwrap_or(octet) } else { octet });
    }
    Cow::Owned(octets)
}

/// A place in a response.
#[derive(Clone, Debug)]
pub(in crate::wire::imap) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(in crate::wire::imap) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Everything from here, line end included.
    pub(in crate::wire::imap) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next octet; `None` at the end of the response.
    pub(in crate::wire::imap) fn peek(&self) -> Option<u8> {
        if matches!(self.rest, [] | b"\r\n" | b"\n") { None } else { self.rest.first().copied() }
    }

    /// Passes `count` octets and gives them.
    pub(in crate::wire::imap) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub(in crate::wire::imap) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.take(1);
        }
    }

    /// Passes one octet if it is `octet`.
    pub(in crate::wire::imap) fn skip(&mut self, octet: u8) -> bool {
        let there = self.peek() == Some(octet);
        if there {
            self.take(1);
        }
        there
    }

    /// Skips blanks, then reads up to a blank or the line end. Leaves the blank behind the word.
    pub(in crate::wire::imap) fn word(&mut self) -> &'a [u8] {
        self.skip_blanks();
        self.until(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n'))
    }

    /// Reads up to the first octet that `ends`.
    pub(in crate::wire::imap) fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&octet| ends(octet)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// Skips blanks, then reads one value; `None` at the end and before a closing parenthesis.
    pub(in crate::wire::imap) fn token(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        match self.peek()? {
            b')' => None,
            b'(' => Some(Token::List(self.list())),
            b'"' => Some(Token::Quoted(self.quoted())),
            b'{' | b'~' => match self.literal() {
                Some(octets) => Some(Token::Literal(octets)),
                None => Some(self.atom()),
            },
            _ => Some(self.atom()),
        }
    }

    fn atom(&mut self) -> Token<'a> {
        let atom = self.until(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')'));
        // A streamed literal8 leaves its own tilde before ours.
        match atom == STREAMED || atom.strip_prefix(b"~") == Some(STREAMED) {
            true => Token::Streamed,
            // Never stand still: a CR in the middle of a line is an atom of its own.
            false if atom.is_empty() => Token::Atom(self.take(1)),
            false => Token::Atom(atom),
        }
    }

    /// At a `"`: what stands up to the closing one, or up to the end of the response if there is none.
    fn quoted(&mut self) -> &'a [u8] {
        self.take(1);
        let mut escaped = false;
        let end = self.rest.iter().position(|&octet| {
            let closes = octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            closes
        });
        let inside = self.take(end.unwrap_or(self.rest.len()));
        self.take(1);
        inside
    }

    /// At `{n}` or `~{n}` with its line end: the octets. Stays where it is if no whole literal stands here.
    fn literal(&mut self) -> Option<&'a [u8]> {
        let after = self.rest.strip_prefix(b"~").unwrap_or(self.rest).strip_prefix(b"{")?;
        let close = after.iter().position(|octet| !octet.is_ascii_digit())?;
        let (digits, after) = after.split_at_checked(close)?;
        let after = after.strip_prefix(b"+").unwrap_or(after).strip_prefix(b"}")?;
        let after = after.strip_prefix(b"\r").unwrap_or(after).strip_prefix(b"\n")?;
        let (octets, rest) = after.split_at_checked(usize::try_from(number(digits)?).ok()?)?;
        self.rest = rest;
        Some(octets)
    }

    /// At a `(`: what stands up to its closing parenthesis, or up to the end if there is none. Counts depth and never
    /// calls itself, so nesting costs nothing.
    fn list(&mut self) -> &'a [u8] {
        self.take(1);
        let inside = self.rest;
        let mut depth = 1_usize;
        while let Some(octet) = self.peek() {
            match octet {
                b'(' => depth = depth.saturating_add(1),
                b')' => depth = depth.saturating_sub(1),
                b'"' => {
                    self.quoted();
                    continue;
                }
                b'{' | b'~' if self.literal().is_some() => continue,
                _ => {}
            }
            let before = inside.len().saturating_sub(self.rest.len());
            self.take(1);
            if depth == 0 {
                return inside.get(..before).unwrap_or(inside);
            }
        }
        inside
    }

    /// Skips blanks, then reads `(\Seen $Junk)`. Flags hold no parentheses, and may hold whatever else.
    pub(in crate::wire::imap) fn flags(&mut self) -> Option<Vec<Vec<u8>>> {
        self.skip_blanks();
        if !self.skip(b'(') {
            return None;
        }
        let inside = self.until(|octet| octet == b')');
        self.skip(b')');
        Some(super::words(inside).into_iter().map(<[u8]>::to_vec).collect())
    }
}
