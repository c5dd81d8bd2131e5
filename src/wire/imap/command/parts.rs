//! Asking for a part of many messages at once.

use std::num::NonZeroU32;

use super::{CommandError, Fragments, LAST_UID, Line, checked_tag};

/// What is asked for of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `BODY.PEEK[HEADER]`
    Header,
    /// `BODY.PEEK[HEADER.FIELDS (X-UIDL)]`
    XUidl,
    /// `X-GUID`, which is Dovecot's own.
    XGuid,
}

/// `UID FETCH n,n… (UID item)`.
///
/// # Errors
/// [`CommandError::Tag`], [`CommandError::EmptyRange`].
pub fn uid_fetch_parts(tag: &str, uids: &[NonZeroU32], part: Part) -> Fragments {
    checked_tag(tag)?;
    let set: Vec<String> = uids.iter().filter(|uid| **uid <= LAST_UID).map(ToString::to_string).collect();
    if set.is_empty() {
        return Err(CommandError::EmptyRange(0, 0));
    }
    let item = match part {
        Part::Header => "BODY.PEEK[HEADER]",
        Part::XUidl => "BODY.PEEK[HEADER.FIELDS (X-UIDL)]",
        Part::XGuid => "X-GUID",
    };
    let text = format!("{tag} UID FETCH {} (UID {item})\r\n", set.join(","));
    let mut line = Line::with_room(text.len());
    line.text(text.as_bytes());
    Ok(line.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Fragment;
    use super::*;

    #[test]
    fn parts_are_asked_for_as_servers_know_them() {
        let uids = [1, 7, u32::MAX].map(|uid| NonZeroU32::new(uid).unwrap());
        for (part, item) in [
            (Part::Header, "BODY.PEEK[HEADER]"),
            (Part::XUidl, "BODY.PEEK[HEADER.FIELDS (X-UIDL)]"),
            (Part::XGuid, "X-GUID"),
        ] {
            let fragments = uid_fetch_parts("a1", &uids, part).unwrap();
            let [Fragment::Bytes(octets)] = fragments.as_slice() else { unreachable!() };
            assert_eq!(octets.as_slice(), format!("a1 UID FETCH 1,7 (UID {item})\r\n").as_bytes());
        }
        assert!(uid_fetch_parts("a1", &uids[2..], Part::Header).is_err());
        assert!(uid_fetch_parts("a 1", &uids, Part::Header).is_err());
    }
}
