//! Compares what POP3 shows on the two sides, entry by entry: identifier, order, size.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;

use super::super::model::Uid;
use super::super::name::MailboxName;
use super::super::pop3::{Paired, Pairing, Pop3List, Pop3Message};
use super::super::report::{Class, Finding, Report};
use super::{at, finding};

/// Messages whose octets were found altered by a named rule: what differs in their sizes is explained by it.
#[must_use]
pub fn altered(report: &Report) -> BTreeSet<Uid> {
    let altered = report.findings.iter().filter(|finding| finding.class == Class::Altered);
    altered.filter_map(|finding| finding.uid).collect()
}

/// Messages that are left out on the new side: nothing else is to be said of them.
fn quarantined(report: &Report) -> BTreeSet<Uid> {
    let left_out = report.findings.iter().filter(|finding| finding.rule == "quarantined");
    left_out.filter_map(|finding| finding.uid).collect()
}

/// Compares the old side's list, whose UIDs are known, with the new side's. The sizes of messages in `altered` can't be
/// equal. What is newer than the snapshot is left out, as it is in the comparison over IMAP.
pub fn lists(old: &Pairing, new: &Pop3List, altered: &BTreeSet<Uid>, report: &mut Report) {
    let left_out = quarantined(report);
    let messages = old.messages.iter().filter(|paired| paired.imap_size.is_some());
    let (left_out, messages): (Vec<&Paired>, Vec<&Paired>) =
        messages.partition(|paired| left_out.contains(&paired.uid));
    for paired in left_out {
        report.add(at(paired.uid, inbox(Class::Note, "pop3-quarantined", &paired.uidl, "left out")));
    }
    let before = report.findings.len() + usize::try_from(report.findings_left_out).unwrap_or(usize::MAX);
    let in_old: HashSet<&str> = messages.iter().map(|paired| paired.uidl.as_str()).collect();
    let in_new: HashMap<&str, &Pop3Message> =
        new.messages().iter().map(|message| (message.uidl.as_str(), message)).collect();
    let mut lost: Vec<(usize, &Paired)> = Vec::new();
    let mut kept: Vec<&Paired> = Vec::new();
    for (place, &paired) in messages.iter().enumerate() {
        match in_new.get(paired.uidl.as_str()) {
            Some(other) => {
                sizes(paired, other.size, altered, report);
                kept.push(paired);
            }
            None => lost.push((place, paired)),
        }
    }
    let extra: Vec<(usize, &Pop3Message)> =
        new.messages().iter().enumerate().filter(|(_, message)| !in_old.contains(message.uidl.as_str())).collect();
    changed(&lost, &extra, report);
    order(&kept, new.messages().iter().filter(|message| in_old.contains(message.uidl.as_str())), report);
    let after = report.findings.len() + usize::try_from(report.findings_left_out).unwrap_or(usize::MAX);
    report.pop3 = match (after - before, messages.len()) {
        (0, 0) => "no messages on both sides".to_owned(),
        (0, count) => format!("{count} UIDLs identical, same order, {}", old.method()),
        (found, count) => format!("{found} findings in {count} UIDLs, {}", old.method()),
    };
}

/// The old side's list can't be paired with its UIDs for certain: nothing can be told of the new side's.
pub fn doubtful(why: &impl Display, report: &mut Report) {
    report.add(inbox(Class::Difference, "pop3-pairing", why, ""));
    report.pop3 = format!("not certain: {why}");
}

/// The new side's list can't be used, or shows other messages under the UIDLs than IMAP does.
pub fn spoilt(why: &impl Display, report: &mut Report) {
    report.add(inbox(Class::Difference, "pop3-pairing", "", why));
    report.pop3 = format!("not certain on the new side: {why}");
}

fn sizes(paired: &Paired, size: u64, altered: &BTreeSet<Uid>, report: &mut Report) {
    if paired.size != size {
        let class = if altered.contains(&paired.uid) { Class::Altered } else { Class::Difference };
        report.add(at(paired.uid, inbox(class, "pop3-size", paired.size, size)));
    }
}

/// UIDLs that are on one side only. Where one has taken the place of another, it is that message's UIDL that changed.
fn changed(lost: &[(usize, &Paired)], extra: &[(usize, &Pop3Message)], report: &mut Report) {
    let replaced = lost.len() == extra.len() && lost.iter().zip(extra).all(|((place, _), (other, _))| place == other);
    if replaced {
        for ((_, paired), (_, message)) in lost.iter().zip(extra) {
            report.add(at(paired.uid, inbox(Class::Difference, "uidl", &paired.uidl, &message.uidl)));
        }
        return;
    }
    for (_, paired) in lost {
        report.add(at(paired.uid, inbox(Class::Difference, "pop3-missing", &paired.uidl, "missing")));
    }
    for (_, message) in extra {
        report.add(inbox(Class::Difference, "pop3-extra", "missing", &message.uidl));
    }
}

/// The order of what is on both sides: one finding tells where it begins to differ.
fn order<'a>(old: &[&Paired], new: impl Iterator<Item = &'a Pop3Message>, report: &mut Report) {
    let mut others = (1..).zip(old).zip(new).filter(|((_, paired), message)| paired.uidl != message.uidl);
    let Some(((number, paired), message)) = others.next() else { return };
    let more = others.count();
    let shown = |uidl: &dyn Display| format!("number {number} of those on both is {uidl}, {more} more differ");
    let found = inbox(Class::Difference, "pop3-order", shown(&paired.uidl), shown(&message.uidl));
    report.add(at(paired.uid, found));
}

fn inbox(class: Class, rule: &str, old: impl ToString, new: impl ToString) -> Finding {
    finding(class, rule, Some(&MailboxName::inbox().to_string()), old.to_string(), new.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::pop3::pairing::tests::{inbox as contents, snapshot};
    use super::super::super::pop3::{pair, tests::list};
    use super::*;

    const GOOD: [(&str, u64); 4] = [("7.2", 20), ("7.1", 10), ("7.3", 30), ("7.4", 40)];

    /// Findings as `class rule UID`, and what the report says in one line.
    fn compared(new: &[(&str, u64)], altered: &[u32]) -> (Vec<String>, String) {
        let contents = contents(9, &[(1, 10), (2, 20), (3, 30), (4, 40)]);
        let old = pair(&list(&GOOD), &snapshot(&contents)).unwrap();
        let mut report = Report::new("u1", false);
        lists(&old, &list(new), &altered.iter().copied().map(Uid).collect(), &mut report);
        let line = |found: &Finding| {
            format!(
                "{:?} {} {}",
                found.class,
                found.rule,
                found.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string())
            )
        };
        (report.findings.iter().map(line).collect(), report.pop3)
    }

    #[test]
    fn equal_lists_are_equal_and_the_report_says_what_was_compared() {
        let (found, said) = compared(&GOOD, &[]);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(said, "4 UIDLs identical, same order, template %v.%u");
    }

    #[test]
    fn every_kind_of_damage_has_its_own_finding() {
        let found = |new: &[(&str, u64)]| compared(new, &[]).0;
        assert_eq!(found(&[("7.2", 20), ("x", 10), ("7.3", 30), ("7.4", 40)]), ["Difference uidl 1"]);
        assert_eq!(found(&[("7.2", 20), ("7.3", 30), ("7.4", 40)]), ["Difference pop3-missing 1"]);
        assert_eq!(found(&[("7.2", 20), ("x", 9), ("7.1", 10), ("7.3", 30), ("7.4", 40)]), ["Difference pop3-extra -"]);
        assert_eq!(
            found(&[("7.2", 20), ("7.3", 30), ("7.4", 40), ("x", 10)]),
            ["Difference pop3-missing 1", "Difference pop3-extra -"],
            "in another place it is another message"
        );
        assert_eq!(found(&[("7.1", 10), ("7.2", 20), ("7.3", 30), ("7.4", 40)]), ["Difference pop3-order 2"]);
        assert_eq!(found(&[("7.2", 20), ("7.1", 11), ("7.3", 30), ("7.4", 40)]), ["Difference pop3-size 1"]);
        assert_eq!(compared(&[("7.2", 20), ("7.1", 11), ("7.3", 30), ("7.4", 40)], &[1]).0, ["Altered pop3-size 1"]);
        assert_eq!(found(&[]).len(), 4);
    }
}
