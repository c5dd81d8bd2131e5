//! Whether the new side keeps the UIDLs that are written to an INBOX which has mail already. Nothing that can be asked from
//! outside tells in which format a Dovecot keeps its mail, and an sdbox shows UIDLs of its own making for all that comes after
//! the first import (dsync reference §13): so a first import is one message, and what the second did is read back.

use std::collections::HashSet;

use super::Uidls;
use crate::mailbox::Uid;
use crate::migrate::{Readers, Stop};
use crate::source::Maildrop;

/// Reads back, over POP3, the UIDLs of messages that were written to an INBOX with mail in it. No harm is done where the new
/// side's own `pop3_uidl_format` gives the same.
///
/// # Errors
/// [`Stop::Refused`] with `sdbox-uidl` if they are not shown.
pub(in crate::migrate) async fn assert_kept(
    readers: &Readers,
    uidls: &Uidls,
    written: impl Iterator<Item = Uid>,
) -> Result<(), Stop> {
    let Some(pop3) = &readers.pop3 else { return Ok(()) };
    let written: Vec<String> = written.filter_map(|uid| uidls.of(uid)).map(|(uidl, _)| uidl).collect();
    if written.is_empty() {
        return Ok(());
    }
    let mut maildrop = Maildrop::open(&pop3.sides.new, &pop3.new).await?;
    let list = maildrop.list().await?;
    maildrop.quit().await;
    let shown: HashSet<&str> = list.messages().iter().map(|message| message.uidl.as_str()).collect();
    // Where one is kept, all are: what POP3 doesn't show then is hidden there, which is for the verification to judge.
    let kept = written.iter().any(|uidl| shown.contains(uidl.as_str()));
    let Some(first) = written.first().filter(|_| !kept) else { return Ok(()) };
    Err(Stop::Refused(format!(
        "sdbox-uidl: the new side's POP3 does not show the UIDLs of mail that was written after the first message, all {} are \
         missing (first: {first}); Dovecot's sdbox does that: keep mail in mdbox or Maildir there, or set pop3_uidl_format \
         there to what gives the old side's UIDLs",
        written.len()
    )))
}
