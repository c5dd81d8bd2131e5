//! What is refused before anything is written: an account on the new side that holds what is not ours (SYN-17), a
//! separator or prefix that clients would see change, names that the target would alter.

mod shared;

use super::Stop;
use super::plan::Records;
use crate::mailbox::{Account, Filter, MailboxName, Status};
use crate::store::MailboxRecord;
use crate::wire::dsync::name::problem;

/// Refusals named in one reason; an operator mends them one after the other anyway.
const NAMED_MAX: usize = 10;

/// Looks at the lists of both sides.
///
/// # Errors
/// [`Stop::Refused`] with every mailbox and why.
pub(super) fn check(old: &Account, new: &Account, records: &Records) -> Result<(), Stop> {
    let mut found = Vec::new();
    if old.separator != new.separator && !new.mailboxes.is_empty() {
        found.push(format!(
            "the hierarchy separator is {:?} on the old side and {:?} on the new side, and clients would see it change: \
             set `separator` in the new side's namespace",
            old.separator.unwrap_or(' '),
            new.separator.unwrap_or(' ')
        ));
    }
    if let (Some(before), Some(after)) = (&old.prefix, &new.prefix)
        && before != after
    {
        found.push(format!(
            "the names of a user's mailboxes begin with {before:?} on the old side and with {after:?} on the new side, and \
             clients would make new ones in another place: set `prefix = {}` in the new side's namespace",
            if before.is_empty() { "\"\"" } else { before }
        ));
    }
    found.extend(shared::in_the_way(old, new, records));
    found.extend(unfit_names(old, old.mailboxes.keys().chain(&old.subscriptions)));
    for (name, listed) in &new.mailboxes {
        let Some(there) = listed.status else { continue };
        let source = old.mailboxes.get(name).and_then(|listed| listed.status);
        if let Some(why) = foreign(name, there, source, records.get(name)) {
            found.push(why);
        }
    }
    refused(found)
}

/// Looks only at the names of what `filter` takes: for a merge, which changes nothing that clients of the new side know.
///
/// # Errors
/// [`Stop::Refused`] with every mailbox and why.
pub(super) fn names_fit(old: &Account, filter: &Filter) -> Result<(), Stop> {
    let names = old.mailboxes.keys().chain(&old.subscriptions).filter(|name| filter.takes_name(name, old));
    refused(unfit_names(old, names))
}

/// Names that can't be the same on both sides, and why.
fn unfit_names<'a>(old: &Account, names: impl Iterator<Item = &'a MailboxName>) -> Vec<String> {
    let unreadable = old.unreadable.iter().map(|(raw, why)| format!("mailbox `{raw}` on the old side {why}"));
    let unfit = names.filter_map(|name| {
        let why = problem(name.parts())?;
        Some(format!("mailbox `{name}` can't be kept under its name: {why}; rename it on the old side"))
    });
    unreadable.chain(unfit).collect()
}

fn refused(mut found: Vec<String>) -> Result<(), Stop> {
    if found.is_empty() {
        return Ok(());
    }
    found.dedup();
    let more = found.len().saturating_sub(NAMED_MAX);
    found.truncate(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Stop::Refused(format!("{}{more}", found.join("; "))))
}

/// Why a mailbox of the new side holds something that did not come from us.
fn foreign(
    name: &MailboxName,
    there: Status,
    source: Option<Status>,
    record: Option<&MailboxRecord>,
) -> Option<String> {
    // A mailbox that Dovecot made by itself has a UIDVALIDITY of its own.
    let ours = record.is_some_and(|record| record.uid_validity == there.uid_validity);
    let left = record.and_then(|record| record.new_seen.as_deref()).and_then(Status::stored_uid_next);
    match (ours, source) {
        (false, _) if there.messages > 0 => Some(format!(
            "mailbox `{name}` on the new side holds {} messages that are not ours: empty the account there, or keep this \
             user where they are",
            there.messages
        )),
        (false, Some(_)) if there.uid_next.0 > 1 => Some(format!(
            "mailbox `{name}` on the new side is empty but has had mail of its own (UIDNEXT {}): delete the account's \
             mail there",
            there.uid_next
        )),
        (true, Some(source)) if source.uid_validity == there.uid_validity && there.uid_next > source.uid_next => {
            Some(format!(
                "mailbox `{name}` has UIDNEXT {} on the new side and only {} on the old side: the new side got mail of its \
                 own, or its server died while it wrote a Maildir; deliveries must go to the old side until the switch",
                there.uid_next, source.uid_next
            ))
        }
        (true, _) if left.is_some_and(|left| there.uid_next > left) => Some(format!(
            "mailbox `{name}` has UIDNEXT {} on the new side and had {} after our last copy: the new side got mail of its \
             own, or its server died while it wrote a Maildir; deliveries must go to the old side until the switch",
            there.uid_next,
            left.unwrap_or_default()
        )),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::{Guid, Listed, UidNext, UidValidity};

    fn account(mailboxes: &[(&str, u32, u32, u64)]) -> Account {
        let listed = |&(name, uid_validity, uid_next, messages): &(&str, u32, u32, u64)| {
            let status = Status {
                uid_validity: UidValidity(uid_validity),
                uid_next: UidNext(uid_next),
                messages,
                unseen: 0,
                highest_modseq: None,
                guid: None,
            };
            let name = MailboxName::from_parts(vec![name.to_owned()]).unwrap();
            (name, Listed { selectable: true, status: Some(status), ..Listed::default() })
        };
        Account { separator: Some('/'), mailboxes: mailboxes.iter().map(listed).collect(), ..Account::default() }
    }

    fn ours(uid_validity: u32) -> Records {
        let name = MailboxName::inbox();
        let record = MailboxRecord {
            name: name.clone(),
            guid: Guid([1; 16]),
            uid_validity: UidValidity(uid_validity),
            created_at: 1,
            old_seen: None,
            new_seen: None,
        };
        [(name, record)].into()
    }

    fn refusal(new: &[(&str, u32, u32, u64)], records: &Records) -> Option<String> {
        let old = account(&[("INBOX", 7, 20, 9)]);
        check(&old, &account(new), records).err().map(|stop| stop.to_string())
    }

    #[test]
    fn what_dovecot_makes_by_itself_is_not_foreign_and_everything_else_is() {
        let none = Records::new();
        assert_eq!(refusal(&[("INBOX", 99, 1, 0), ("Spam", 98, 1, 0)], &none), None);
        assert!(refusal(&[("INBOX", 99, 2, 1)], &none).unwrap().contains("`INBOX` on the new side holds 1 messages"));
        assert!(refusal(&[("INBOX", 99, 5, 0)], &none).unwrap().contains("has had mail of its own"));
        assert!(refusal(&[("Spam", 99, 2, 1)], &none).unwrap().contains("`Spam`"));
    }

    #[test]
    fn our_own_copy_is_ours_until_the_new_side_runs_ahead() {
        assert_eq!(refusal(&[("INBOX", 7, 20, 9)], &ours(7)), None);
        assert!(refusal(&[("INBOX", 7, 21, 9)], &ours(7)).unwrap().contains("UIDNEXT 21"));
        let mut remembered = ours(7);
        remembered
            .values_mut()
            .for_each(|record| record.new_seen = Some("uidvalidity 7 uidnext 18 messages 7".to_owned()));
        assert_eq!(refusal(&[("INBOX", 7, 18, 7)], &remembered), None);
        assert!(
            refusal(&[("INBOX", 7, 19, 7)], &remembered).unwrap().contains("had 18 after our last copy"),
            "the old side has used that UID too by now"
        );
        assert!(
            refusal(&[("INBOX", 99, 2, 1)], &ours(7)).unwrap().contains("not ours"),
            "mail came before our first write"
        );
    }

    #[test]
    fn a_separator_that_clients_would_see_change_is_refused() {
        let old = account(&[("INBOX", 7, 20, 9)]);
        let mut new = account(&[("INBOX", 99, 1, 0)]);
        new.separator = Some('.');
        assert!(check(&old, &new, &Records::new()).unwrap_err().to_string().contains("separator"));
    }

    #[test]
    fn another_prefix_is_refused_with_what_to_set_and_an_unknown_one_is_not() {
        let mut old = account(&[("INBOX", 7, 20, 9)]);
        let mut new = account(&[("INBOX", 99, 1, 0)]);
        old.prefix = Some("INBOX.".to_owned());
        assert!(check(&old, &new, &Records::new()).is_ok());
        new.prefix = Some(String::new());
        let said = check(&old, &new, &Records::new()).unwrap_err().to_string();
        assert!(said.contains("set `prefix = INBOX.` in the new side's namespace"), "{said}");
        old.prefix = Some(String::new());
        assert!(check(&old, &new, &Records::new()).is_ok());
    }
}
