//! FETCH responses.

use super::cursor::{Cursor, Token};

/// What a FETCH response said of one message; what it didn't say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// The message's sequence number.
    pub seq: u32,
    /// UID
    pub uid: Option<u32>,
    /// FLAGS, as written.
    pub flags: Option<Vec<Vec<u8>>>,
    /// INTERNALDATE, what stands between the quotes; see [`super::super::date::instant`].
    pub internal_date: Option<Vec<u8>>,
    /// RFC822.SIZE in octets.
    pub size: Option<u64>,
    /// MODSEQ
    pub modseq: Option<u64>,
    /// X-GUID, which is Dovecot's own.
    pub guid: Option<Vec<u8>>,
    /// X-GM-MSGID: the same for one message in all its mailboxes (Gmail).
    pub gm_msgid: Option<u64>,
    /// The first of BODY\[…\], BINARY\[…\], RFC822, RFC822.HEADER, RFC822.TEXT.
    pub body: Option<Body>,
}

/// The value of a body item.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// It was a literal that the caller has streamed away.
    Streamed,
    /// Its octets.
    Inline(Vec<u8>),
    /// The server says that there is nothing.
    Nil,
}

/// Mail content stays out of logs.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Streamed => f.write_str("Streamed"),
            Self::Inline(octets) => write!(f, "Inline({} octets)", octets.len()),
            Self::Nil => f.write_str("Nil"),
        }
    }
}

/// Behind `* n FETCH`. `None` if no list follows. A list that breaks off gives what was read before.
pub(super) fn fetch(seq: u32, cursor: &mut Cursor<'_>) -> Option<Fetch> {
    cursor.skip_blanks();
    if !cursor.skip(b'(') {
        return None;
    }
    let mut fetch = Fetch { seq, ..Fetch::default() };
    loop {
        cursor.skip_blanks();
        if matches!(cursor.peek(), None | Some(b')')) {
            return Some(fetch);
        }
        let name = item_name(cursor);
        if name.is_empty() {
            // A value without a name; pass it.
            cursor.token();
        } else {
            fetch.item(name, cursor);
        }
    }
}

impl Fetch {
    fn item(&mut self, name: &[u8], cursor: &mut Cursor<'_>) {
        match name.to_ascii_uppercase().as_slice() {
            b"FLAGS" => self.flags = cursor.flags(),
            b"UID" => self.uid = value_number(cursor).and_then(|uid| u32::try_from(uid).ok()),
            b"RFC822.SIZE" => self.size = value_number(cursor),
            b"MODSEQ" => self.modseq = value_number(cursor),
            b"X-GUID" => self.guid = cursor.token().and_then(Token::octets).map(Into::into),
            b"X-GM-MSGID" => self.gm_msgid = value_number(cursor),
            b"INTERNALDATE" => self.internal_date = cursor.token().and_then(Token::octets).map(Into::into),
            _ if is_body(name) => {
                let body = match cursor.token() {
                    Some(Token::Streamed) => Some(Body::Streamed),
                    Some(token @ (Token::Quoted(_) | Token::Literal(_))) => {
                        token.octets().map(|octets| Body::Inline(octets.into()))
                    }
                    Some(Token::Atom(atom)) if atom.eq_ignore_ascii_case(b"NIL") => Some(Body::Nil),
                    _ => None,
                };
                self.body = self.body.take().or(body);
            }
            _ => {
                cursor.token();
            }
        }
    }
}

/// A number, alone or in parentheses as MODSEQ has it.
fn value_number(cursor: &mut Cursor<'_>) -> Option<u64> {
    match cursor.token()? {
        Token::List(inside) => Cursor::new(inside).token()?.number(),
        token => token.number(),
    }
}

/// An item's name with its section and origin: `BODY[HEADER.FIELDS ("To")]<0>`.
fn item_name<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    let from = cursor.rest();
    cursor.until(|octet| matches!(octet, b' ' | b'(' | b')' | b'[' | b'"' | b'\r' | b'\n'));
    if cursor.skip(b'[') {
        while let Some(octet) = cursor.peek() {
            match octet {
                b']' => break,
                b' ' | b')' => {
                    cursor.take(1);
                }
                b'(' | b'"' | b'{' => {
                    cursor.token();
                }
                _ => {
                    cursor.until(|octet| matches!(octet, b' ' | b'(' | b')' | b']' | b'"' | b'{'));
                }
            }
        }
        cursor.skip(b']');
        cursor.until(|octet| matches!(octet, b' ' | b'(' | b')' | b'"' | b'{' | b'\r' | b'\n'));
    }
    from.get(..from.len().saturating_sub(cursor.rest().len())).unwrap_or_default()
}

/// Whether an item's value is octets of the message. `BINARY.SIZE[…]` is a number, BODY without a section a structure.
fn is_body(name: &[u8]) -> bool {
    let name = name.to_ascii_uppercase();
    [&b"RFC822"[..], b"RFC822.HEADER", b"RFC822.TEXT"].contains(&name.as_slice())
        || [&b"BODY["[..], b"BINARY["].iter().any(|start| name.starts_with(start))
}

/// Whether the text of a FETCH response that ends right before `{n}` (or `~{n}`) announces octets of the message.
#[must_use]
pub fn announces_body(line_so_far: &[u8]) -> bool {
    let line = line_so_far.trim_ascii_end();
    let line = line.strip_suffix(b"~").unwrap_or(line).trim_ascii_end();
    let mut cursor = Cursor::new(line);
    if !cursor.skip(b'*') || super::number(cursor.word()).is_none() || !cursor.word().eq_ignore_ascii_case(b"FETCH") {
        return false;
    }
    cursor.skip_blanks();
    cursor.skip(b'(');
    // Walks the items that are complete; the one whose value is still to come is the last.
    loop {
        cursor.skip_blanks();
        let name = item_name(&mut cursor);
        cursor.skip_blanks();
        match cursor.peek() {
            // A section that isn't closed: the literal is a header's name in it.
            None => return is_body(name) && (!name.contains(&b'[') || matches!(name.last(), Some(b']' | b'>'))),
            Some(b')') if name.is_empty() => return false,
            Some(_) => {
                cursor.token();
            }
        }
    }
}
