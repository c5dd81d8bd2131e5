//! Reads user names and passwords as the octets that were typed.

use zeroize::Zeroizing;

use super::super::scan::{Cursor, number};
use crate::wire::credentials::{Credentials, Unfit};

/// Why what a client sent is no credentials. Goes into a tagged BAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("LOGIN takes a user name and a password")]
    Arguments,
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// The arguments of LOGIN.
pub(super) fn login(mut cursor: Cursor<'_>) -> Result<Credentials, Refusal> {
    let user = astring(&mut cursor).ok_or(Refusal::Arguments)?;
    if !cursor.skip(b' ') {
        return Err(Refusal::Arguments);
    }
    let password = astring(&mut cursor).ok_or(Refusal::Arguments)?;
    cursor.skip_blanks();
    if cursor.peek().is_some() {
        return Err(Refusal::Arguments);
    }
    Ok(Credentials::new(&user, password)?)
}

/// An atom, a quoted string or a literal. Atoms and quoted strings may hold any octet that doesn't end them, as with Dovecot.
fn astring(cursor: &mut Cursor<'_>) -> Option<Zeroizing<Vec<u8>>> {
    cursor.skip_blanks();
    match cursor.peek()? {
        b'"' => quoted(cursor),
        b'{' => literal(cursor),
        _ => Some(Zeroizing::new(cursor.word().to_vec())),
    }
}

fn quoted(cursor: &mut Cursor<'_>) -> Option<Zeroizing<Vec<u8>>> {
    cursor.take(1);
    let mut octets = Zeroizing::new(Vec::with_capacity(cursor.rest().len()));
    loop {
        match cursor.peek()? {
            b'"' => {
                cursor.take(1);
                // What follows must be the end or another argument.
                return matches!(cursor.peek(), None | Some(b' ')).then_some(octets);
            }
            b'\\' => {
                cursor.take(1);
                octets.push(cursor.peek()?);
            }
            octet => octets.push(octet),
        }
        cursor.take(1);
    }
}

fn literal(cursor: &mut Cursor<'_>) -> Option<Zeroizing<Vec<u8>>> {
    cursor.take(1);
    let size = usize::try_from(number(cursor.until(|octet| !octet.is_ascii_digit()))?).ok()?;
    cursor.skip(b'+');
    if !cursor.skip(b'}') {
        return None;
    }
    cursor.skip(b'\r');
    // `skip` takes a line end for the end of everything; here one stands before the octets.
    if cursor.rest().first() != Some(&b'\n') || cursor.rest().len() <= size {
        return None;
    }
    cursor.take(1);
    Some(Zeroizing::new(cursor.take(size).to_vec()))
}
