//! Compares who may do what in whose mailboxes.

use std::collections::BTreeSet;

use super::finding;
use crate::mailbox::report::{Class, Report};
use crate::mailbox::sharing::{Rights, Sharing};

/// What is only worth knowing: neither mailboxes of others nor rights are moved.
pub fn sharing(old: &Sharing, new: &Sharing, report: &mut Report) {
    let nothing = Rights::default();
    let names: BTreeSet<_> = old.own.keys().chain(new.own.keys()).collect();
    for name in names {
        let (before, after) = (old.own.get(name), new.own.get(name));
        let who: BTreeSet<_> = before.into_iter().chain(after).flat_map(|entries| entries.keys()).collect();
        for who in who {
            let rights = [before, after].map(|entries| entries.and_then(|known| known.get(who)).unwrap_or(&nothing));
            if rights[0] != rights[1] {
                let [old, new] = rights.map(|rights| format!("{who}: {rights}"));
                report.add(finding(Class::Note, "acl", Some(&name.to_string()), old, new));
            }
        }
    }
    for (raw, rights) in &old.others {
        if rights.is_write_only() {
            let why = "can't be read by this user, nor copied";
            report.add(finding(Class::Note, "write-only", Some(raw), rights.to_string(), why));
        }
        if let Some(other) = new.others.get(raw).filter(|other| *other != rights) {
            report.add(finding(Class::Note, "acl", Some(raw), rights.to_string(), other.to_string()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::MailboxName;

    #[test]
    fn rights_that_differ_and_folders_that_take_mail_and_give_none_are_notes() {
        let rights = Rights::read;
        let own = |who: &str, text: &str| [(MailboxName::inbox(), [(who.to_owned(), rights(text))].into())].into();
        let old = Sharing {
            others: [("Public/a".to_owned(), rights("lr")), ("Public/drop".to_owned(), rights("lip"))].into(),
            own: own("ben", "lrs"),
        };
        let new = Sharing { others: [("Public/a".to_owned(), rights("lrs"))].into(), own: own("eve", "lr") };
        let mut report = Report::new("u1", false);
        sharing(&old, &new, &mut report);
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|f| format!("{:?} {} {}: {} / {}", f.class, f.rule, f.mailbox.as_deref().unwrap(), f.old, f.new))
            .collect();
        assert_eq!(
            found,
            [
                "Note acl INBOX: ben: lrs / ben: none",
                "Note acl INBOX: eve: none / eve: lr",
                "Note acl Public/a: lr / lrs",
                "Note write-only Public/drop: ilp / can't be read by this user, nor copied",
            ]
        );
        let mut report = Report::new("u1", false);
        sharing(&old, &old, &mut report);
        assert_eq!(report.notes, 1);
    }
}
