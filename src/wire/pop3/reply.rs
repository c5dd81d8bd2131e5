//! Status lines: `+OK …` and `-ERR …` (RFC 1939 §3).

/// What a status line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`, and the text behind it without the blank between.
    Ok(&'a [u8]),
    /// `-ERR`, likewise.
    Err(&'a [u8]),
}

/// Reads a status line, with or without its line end; none if it is no such line.
#[must_use]
pub fn reply(line: &[u8]) -> Option<Reply<'_>> {
    let line = without_end(line);
    if let Some(text) = behind(line, b"+OK") {
        return Some(Reply::Ok(text));
    }
    behind(line, b"-ERR").map(Reply::Err)
}

/// A line without its CRLF or LF.
#[must_use]
pub fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The text behind `word`, which must stand alone.
fn behind<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(word.len())?;
    match rest {
        _ if !start.eq_ignore_ascii_case(word) => None,
        [] => Some(rest),
        [b' ', text @ ..] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, reply};

    #[test]
    fn status_lines_and_what_is_none() {
        for (line, read) in [
            (&b"+OK\r\n"[..], Some(Reply::Ok(b""))),
            (b"+OK 2 320\r\n", Some(Reply::Ok(b"2 320"))),
            (b"+ok  two\n", Some(Reply::Ok(b" two"))),
            (b"-ERR [AUTH] no", Some(Reply::Err(b"[AUTH] no"))),
            (b"-ERR\r\n", Some(Reply::Err(b""))),
            (b"+OKAY\r\n", None),
            (b"+ \r\n", None),
            (b"-ERROR\r\n", None),
            (b" +OK\r\n", None),
            (b"+O", None),
            (b"", None),
        ] {
            assert_eq!(reply(line), read, "{line:?}");
        }
    }
}
