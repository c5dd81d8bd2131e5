//! What only Gmail understands (X-GM-EXT-1).

use super::{Fragments, Line, UidRange, checked_tag, ends};

/// `UID FETCH a:b (UID X-GM-MSGID)`: the number that a message has in all its mailboxes.
///
/// # Errors
/// [`super::CommandError::Tag`], [`super::CommandError::EmptyRange`].
pub fn uid_fetch_gm_msgid(tag: &str, uids: &UidRange) -> Fragments {
    checked_tag(tag)?;
    // imap-codec has no type for the item.
    let (first, last) = ends(uids)?;
    let mut line = Line::with_room(tag.len() + 64);
    line.text(format!("{tag} UID FETCH {first}:{last} (UID X-GM-MSGID)\r\n").as_bytes());
    Ok(line.finish())
}

/// `UID SEARCH [RETURN (ALL) ]X-GM-RAW "in:^pop"`: messages that a POP3 client has had, and that POP3 shows no more.
///
/// # Errors
/// [`super::CommandError::Tag`].
pub fn uid_search_popped(tag: &str, esearch: bool) -> Fragments {
    checked_tag(tag)?;
    let options = if esearch { "RETURN (ALL) " } else { "" };
    let mut line = Line::with_room(tag.len() + 64);
    line.text(format!("{tag} UID SEARCH {options}X-GM-RAW \"in:^pop\"\r\n").as_bytes());
    Ok(line.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::Fragment;
    use super::*;

    #[test]
    fn what_pop3_hides_is_searched_for() {
        let written = b"t1 UID SEARCH RETURN (ALL) X-GM-RAW \"in:^pop\"\r\n".to_vec();
        assert_eq!(uid_search_popped("t1", true).unwrap(), [Fragment::Bytes(written.into())]);
    }

    #[test]
    fn a_range_of_messages_is_asked_for_its_numbers() {
        let uid = |number| NonZeroU32::new(number).unwrap();
        let fragments = uid_fetch_gm_msgid("t1", &(uid(3)..=uid(9))).unwrap();
        let written = b"t1 UID FETCH 3:9 (UID X-GM-MSGID)\r\n".to_vec();
        assert_eq!(fragments, [Fragment::Bytes(written.into())]);
        assert!(uid_fetch_gm_msgid("t1", &(uid(9)..=uid(3))).is_err());
    }
}
