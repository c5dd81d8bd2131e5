//! Compares what two servers say of the same account: a pure function from two pictures to findings (DESIGN §2).

pub mod pop3;
mod scripts;
mod sharing;
mod special_use;

use super::account::{Account, Contents, Listed};
use super::body::{BodyDigest, Verdict, verdict};
use super::message::Message;
use super::model::{Side, Uid};
use super::name::MailboxName;
use super::report::{Class, Finding, Report};
pub use scripts::scripts;
pub use sharing::sharing;
pub use special_use::{added, misplaced};

/// Mailboxes of others that are named.
const NAMED_MAX: usize = 10;

/// Compares names, separator, prefix, subscriptions and SPECIAL-USE. Mailboxes that are only on one side are findings; those on
/// both are returned for [`contents`].
pub fn accounts(old: &Account, new: &Account, report: &mut Report) -> Vec<MailboxName> {
    if old.separator != new.separator {
        let shown = |separator: Option<char>| separator.map_or_else(|| "none".to_owned(), String::from);
        report.add(finding(Class::Difference, "separator", None, shown(old.separator), shown(new.separator)));
    }
    if let (Some(before), Some(after)) = (&old.prefix, &new.prefix)
        && before != after
    {
        // Names may be equal all the same, but a client would make its next mailbox in another place.
        let shown = |prefix: &str| format!("{prefix:?}");
        report.add(finding(Class::Difference, "prefix", None, shown(before), shown(after)));
    }
    if let Some(shared) = left_behind(old, new) {
        report.add(finding(Class::Note, "shared", None, shared, "not moved"));
    }
    carried(old, new, report);
    for (side, account) in [(Side::Old, old), (Side::New, new)] {
        for (raw, why) in &account.unreadable {
            report.add(at_one_side(side, "name", raw, why));
        }
    }
    let mut both = Vec::new();
    for (name, listed) in &old.mailboxes {
        match new.mailboxes.get(name) {
            Some(other) => {
                attributes(name, listed, other, new, report);
                if listed.selectable && other.selectable {
                    both.push(name.clone());
                }
            }
            None => report.add(finding(Class::Difference, "mailbox", Some(&name.to_string()), kind(listed), "missing")),
        }
    }
    for (name, listed) in new.mailboxes.iter().filter(|(name, _)| !old.mailboxes.contains_key(name)) {
        let empty = listed.status.is_none_or(|status| status.messages == 0);
        let class = if empty { Class::Note } else { Class::Difference };
        report.add(finding(class, "mailbox", Some(&name.to_string()), "missing", kind(listed)));
    }
    subscriptions(old, new, report);
    both
}

/// What the account carries of the *Shared* namespace, and what of it can't be carried.
fn carried(old: &Account, new: &Account, report: &mut Report) {
    if let Some(carried) = &old.carried {
        let (count, there) =
            (carried.mailboxes.len(), new.carried.iter().map(|there| there.mailboxes.len()).sum::<usize>());
        let old = format!("{count} shared mailboxes are carried by this account for everybody");
        report.add(finding(Class::Note, "carried", None, old, format!("{there} shared mailboxes")));
    }
    for (side, account) in [(Side::Old, old), (Side::New, new)] {
        for (raw, why) in account.carried.iter().flat_map(|carried| &carried.closed) {
            report.add(at_one_side(side, "shared", raw, why));
        }
    }
}

/// What is wrong with a mailbox of one side.
fn at_one_side(side: Side, rule: &'static str, raw: &str, why: &str) -> Finding {
    let (in_old, in_new) = match side {
        Side::Old => (why, ""),
        Side::New => ("", why),
    };
    finding(Class::Difference, rule, Some(raw), in_old, in_new)
}

/// Mailboxes that others share with the user on the old side only, in words.
#[must_use]
pub fn left_behind(old: &Account, new: &Account) -> Option<String> {
    let only: Vec<(&String, &bool)> = old.others.iter().filter(|(raw, _)| !new.others.contains_key(*raw)).collect();
    let subscribed = only.iter().filter(|(_, subscribed)| **subscribed).count();
    let names: Vec<&str> = only.iter().take(NAMED_MAX).map(|(raw, _)| raw.as_str()).collect();
    let more = if only.len() > names.len() { " and more" } else { "" };
    let subscribed = if subscribed > 0 { format!(" ({subscribed} subscribed)") } else { String::new() };
    (!only.is_empty()).then(|| format!("{} mailboxes of others{subscribed}: {}{more}", only.len(), names.join(", ")))
}

fn attributes(name: &MailboxName, old: &Listed, new: &Listed, there: &Account, report: &mut Report) {
    let shown = name.to_string();
    if old.selectable != new.selectable {
        report.add(finding(Class::Difference, "noselect", Some(&shown), kind(old), kind(new)));
    }
    special_use::attributes(name, old, new, there, report);
}

fn subscriptions(old: &Account, new: &Account, report: &mut Report) {
    for name in old.subscriptions.symmetric_difference(&new.subscriptions) {
        let word =
            |account: &Account| if account.subscriptions.contains(name) { "subscribed" } else { "not subscribed" };
        report.add(finding(Class::Difference, "subscription", Some(&name.to_string()), word(old), word(new)));
    }
}

fn kind(listed: &Listed) -> String {
    match (listed.selectable, listed.status) {
        (false, _) => "\\NoSelect".to_owned(),
        (true, Some(status)) => format!("{} messages", status.messages),
        (true, None) => "selectable".to_owned(),
    }
}

/// Compares the messages of a mailbox that both sides have. Returns the UIDs whose sizes differ: only their octets
/// can tell whether a named rule explains it.
pub fn contents(name: &MailboxName, old: &Contents, new: &Contents, report: &mut Report) -> Vec<Uid> {
    let shown = name.to_string();
    let mut differ = |rule: &str, old: String, new: String| {
        report.add(finding(Class::Difference, rule, Some(&shown), old, new));
    };
    if old.uid_validity != new.uid_validity {
        differ("uidvalidity", old.uid_validity.to_string(), new.uid_validity.to_string());
    }
    if old.uid_next != new.uid_next {
        differ("uidnext", old.uid_next.to_string(), new.uid_next.to_string());
    }
    if let (Some(source), Some(target)) = (old.highest_modseq, new.highest_modseq)
        && target < source
    {
        differ("highestmodseq", source.to_string(), target.to_string());
    }
    report.mailboxes += 1;
    let mut suspects = Vec::new();
    let mut theirs = new.messages.iter().peekable();
    for message in &old.messages {
        while let Some(extra) = theirs.next_if(|other| other.uid < message.uid) {
            report.add(at(extra.uid, finding(Class::Difference, "message", Some(&shown), "missing", facts(extra))));
        }
        match theirs.next_if(|other| other.uid == message.uid) {
            Some(other) => {
                report.messages += 1;
                if messages(&shown, message, other, report) {
                    suspects.push(message.uid);
                }
            }
            None => report
                .add(at(message.uid, finding(Class::Difference, "message", Some(&shown), facts(message), "missing"))),
        }
    }
    for extra in theirs {
        report.add(at(extra.uid, finding(Class::Difference, "message", Some(&shown), "missing", facts(extra))));
    }
    suspects
}

/// Compares one message's metadata; true if the sizes differ.
fn messages(mailbox: &str, old: &Message, new: &Message, report: &mut Report) -> bool {
    let mut differ = |rule: &str, in_old: String, in_new: String| {
        report.add(at(old.uid, finding(Class::Difference, rule, Some(mailbox), in_old, in_new)));
    };
    if old.flags != new.flags {
        differ("flags", old.flags.to_string(), new.flags.to_string());
    }
    if old.keywords != new.keywords {
        let (lost, gained) = (old.keywords.without(&new.keywords), new.keywords.without(&old.keywords));
        let unfit = !lost.is_empty() && gained.is_empty() && old.keywords.fit().0 == new.keywords;
        differ(if unfit { "keyword-unfit" } else { "keywords" }, lost.join(" "), gained.join(" "));
    }
    if old.internal_date != new.internal_date {
        let shown = |date: Option<i64>| date.map_or_else(|| "unreadable".to_owned(), |date| date.to_string());
        differ("internaldate", shown(old.internal_date), shown(new.internal_date));
    }
    if new.modseq < old.modseq && new.modseq.0 > 0 {
        differ("modseq", old.modseq.to_string(), new.modseq.to_string());
    }
    old.size != new.size
}

/// Judges the octets of a message that were read on both sides.
pub fn body(
    mailbox: &MailboxName,
    uid: Uid,
    (old, old_size): (&BodyDigest, u64),
    (new, new_size): (&BodyDigest, u64),
    report: &mut Report,
) {
    report.bodies += 1;
    let shown = mailbox.to_string();
    let octets = |digest: &BodyDigest| format!("{} octets", digest.octets);
    match verdict(old, new) {
        // The size the user saw was a lie of the old server; a size is the octets of BODY[] (DESIGN §2).
        Verdict::Equal if old_size != new_size => {
            report.add(at(uid, finding(Class::Note, "size", Some(&shown), old_size.to_string(), new_size.to_string())));
        }
        Verdict::Equal => {}
        Verdict::Altered(rules) => {
            let names = rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join("+");
            report.add(at(uid, finding(Class::Altered, &names, Some(&shown), octets(old), octets(new))));
        }
        Verdict::Different => {
            report.add(at(uid, finding(Class::Difference, "body", Some(&shown), octets(old), octets(new))));
        }
    }
}

/// A message whose octets could not be compared: its size differs, or one side could not give it.
pub fn size(mailbox: &MailboxName, uid: Uid, old: u64, new: u64, report: &mut Report) {
    let rule = if old == new { "unreadable" } else { "size" };
    let found = finding(Class::Difference, rule, Some(&mailbox.to_string()), old.to_string(), new.to_string());
    report.add(at(uid, found));
}

fn facts(message: &Message) -> String {
    format!("{} octets", message.size)
}

fn finding(class: Class, rule: &str, mailbox: Option<&str>, old: impl Into<String>, new: impl Into<String>) -> Finding {
    Finding {
        class,
        rule: rule.to_owned(),
        mailbox: mailbox.map(str::to_owned),
        uid: None,
        old: old.into(),
        new: new.into(),
    }
}

fn at(uid: Uid, finding: Finding) -> Finding {
    Finding { uid: Some(uid), ..finding }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::diff::tests::{contents as side, message};
    use super::super::model::{ModSeq, UidNext, UidValidity};
    use super::*;

    fn rules(old: &Contents, new: &Contents) -> Vec<(String, Option<u32>)> {
        let mut report = Report::new("u1", false);
        contents(&MailboxName::inbox(), old, new, &mut report);
        report.findings.into_iter().map(|found| (found.rule, found.uid.map(|uid| uid.0))).collect()
    }

    #[test]
    fn every_kind_of_damage_to_a_mailbox_has_its_own_finding() {
        let good = side(20, vec![message(3, 8, &["a"]), message(5, 0, &[]), message(9, 1, &["Junk"])]);
        assert!(rules(&good, &good).is_empty());
        let broken = |damage: &dyn Fn(&mut Contents)| {
            let mut copy = good.clone();
            damage(&mut copy);
            rules(&good, &copy)
        };
        let one = |rule: &str, uid: Option<u32>| vec![(rule.to_owned(), uid)];
        assert_eq!(broken(&|copy| copy.uid_validity = UidValidity(8)), one("uidvalidity", None));
        assert_eq!(broken(&|copy| copy.uid_next = UidNext(21)), one("uidnext", None));
        assert_eq!(broken(&|copy| copy.highest_modseq = Some(ModSeq(8))), one("highestmodseq", None));
        assert_eq!(broken(&|copy| drop(copy.messages.remove(1))), one("message", Some(5)));
        assert_eq!(broken(&|copy| copy.messages.push(message(15, 0, &[]))), one("message", Some(15)));
        assert_eq!(broken(&|copy| copy.messages[1].flags.0 = 8), one("flags", Some(5)));
        assert_eq!(broken(&|copy| copy.messages[0] = message(3, 8, &[])), one("keywords", Some(3)));
        assert_eq!(broken(&|copy| copy.messages[2].internal_date = Some(1)), one("internaldate", Some(9)));
        assert_eq!(broken(&|copy| copy.messages[2].internal_date = None), one("internaldate", Some(9)));
        assert_eq!(broken(&|copy| copy.messages[0] = message(3, 8, &["A"])), vec![], "keywords compare without case");
    }

    #[test]
    fn a_lower_modseq_is_a_difference_and_a_higher_one_is_not() {
        let mut old = side(9, vec![message(3, 0, &[])]);
        old.messages[0].modseq = ModSeq(5);
        let mut new = old.clone();
        new.messages[0].modseq = ModSeq(6);
        assert!(rules(&old, &new).is_empty());
        new.messages[0].modseq = ModSeq(4);
        assert_eq!(rules(&old, &new), vec![("modseq".to_owned(), Some(3))]);
    }

    #[test]
    fn names_attributes_and_subscriptions_are_compared() {
        let name = |text: &str| MailboxName::from_parts(vec![text.to_owned()]).unwrap();
        let open = Listed { selectable: true, ..Listed::default() };
        let sent = Listed { special_use: ["\\sent".to_owned()].into(), ..open.clone() };
        let full = Listed {
            status: Some(super::super::account::Status {
                uid_validity: UidValidity(1),
                uid_next: UidNext(2),
                messages: 1,
                unseen: 0,
                highest_modseq: None,
                guid: None,
            }),
            ..open.clone()
        };
        let old = Account {
            separator: Some('/'),
            mailboxes: [
                (name("A"), open.clone()),
                (name("B"), sent),
                (name("C"), open.clone()),
                (name("P"), Listed::default()),
            ]
            .into(),
            subscriptions: [name("A")].into(),
            unreadable: vec![("x&".to_owned(), "no UTF-7".to_owned())],
            prefix: Some("INBOX.".to_owned()),
            others: [("user.ben".to_owned(), true), ("news".to_owned(), false)].into(),
            carried: None,
        };
        let new = Account {
            separator: Some('.'),
            mailboxes: [
                (name("B"), open.clone()),
                (name("C"), open.clone()),
                (name("E"), open.clone()),
                (name("F"), full),
                (name("P"), open),
            ]
            .into(),
            subscriptions: [name("B")].into(),
            unreadable: vec![],
            prefix: Some(String::new()),
            others: [("news".to_owned(), false)].into(),
            carried: None,
        };
        let mut report = Report::new("u1", false);
        assert_eq!(accounts(&old, &new, &mut report), vec![name("B"), name("C")]);
        assert_eq!(report.findings[2].old, "1 mailboxes of others (1 subscribed): user.ben");
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|found| (found.class, found.rule.as_str(), found.mailbox.as_deref().unwrap_or("")))
            .collect();
        let difference = |rule, mailbox| (Class::Difference, rule, mailbox);
        assert_eq!(
            found,
            vec![
                difference("separator", ""),
                difference("prefix", ""),
                (Class::Note, "shared", ""),
                difference("name", "x&"),
                difference("mailbox", "A"),
                difference("special-use", "B"),
                difference("noselect", "P"),
                (Class::Note, "mailbox", "E"),
                difference("mailbox", "F"),
                difference("subscription", "A"),
                difference("subscription", "B"),
            ]
        );
    }
}
