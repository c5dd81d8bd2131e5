//! Compares what POP3 shows on the two sides, entry by entry: identifier, order, size.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;

use super::super::model::Uid;
use super::super::name::MailboxName;
use super::super::pop3::pairing::Named;
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
/// equal. What is newer than the snapshot is left out, as it is in the comparison over IMAP. `hidden`: the sizes on the new side
/// of messages that the old side's POP3 doesn't show; the new side's may show them.
pub fn lists(old: &Pairing, new: &Pop3List, altered: &BTreeSet<Uid>, hidden: &[u64], report: &mut Report) {
    let left_out = quarantined(report);
    let messages = old.messages.iter().filter(|paired| paired.imap_size.is_some());
    let (left_out, messages): (Vec<&Paired>, Vec<&Paired>) =
        messages.partition(|paired| left_out.contains(&paired.uid));
    for paired in left_out {
        report.add(at(paired.uid, inbox(Class::Note, "pop3-quarantined", &paired.uidl, "left out")));
    }
    beside(old, report);
    counted_otherwise(&messages, report);
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
    let extra = new.messages().iter().enumerate().filter(|(_, message)| !in_old.contains(message.uidl.as_str()));
    let extra = without_hidden(extra.collect(), hidden);
    changed(&lost, &extra, report);
    order(&kept, new.messages().iter().filter(|message| in_old.contains(message.uidl.as_str())), report);
    let after = report.findings.len() + usize::try_from(report.findings_left_out).unwrap_or(usize::MAX);
    report.pop3 = match (after - before, messages.len()) {
        (0, 0) => "no messages on both sides".to_owned(),
        (0, count) => format!("{count} UIDLs identical, same order, {}", old.method()),
        (found, count) => format!("{found} findings in {count} UIDLs, {}", old.method()),
    };
    let methods = old.methods().into_iter();
    report.pop3_methods = methods.map(|(method, count)| (method.as_str().to_owned(), count as u64)).collect();
    report.pop3.push_str(&old.beside());
}

/// Messages that only one of the old side's two lists has, where the configuration says that they don't matter.
fn beside(old: &Pairing, report: &mut Report) {
    if !old.hidden.is_empty() {
        let named = Named::uids(old.hidden.iter().copied());
        report.add(inbox(Class::Note, "pop3-hidden", format!("POP3 does not show {named}"), "ignored"));
    }
    if !old.unshown.is_empty() {
        let named = Named::uids(old.unshown.iter().copied());
        report.add(inbox(Class::Note, "pop3-unshown", format!("POP3 has never shown {named}"), "a UIDL of its own"));
    }
    if !old.strangers.is_empty() {
        let named = Named::of(old.strangers.iter().map(|stranger| &stranger.uidl));
        report.add(inbox(Class::Note, "pop3-left-out", format!("POP3 shows what INBOX lacks: {named}"), "ignored"));
    }
}

/// Messages of which the old side's POP3 tells another size than its IMAP.
fn counted_otherwise(messages: &[&Paired], report: &mut Report) {
    let others = messages.iter().filter(|paired| paired.imap_size != Some(paired.size)).map(|paired| paired.uid);
    let others: Vec<Uid> = others.collect();
    if !others.is_empty() {
        let counted = format!("POP3 counts {} otherwise than IMAP", Named::uids(others));
        report.add(inbox(Class::Note, "pop3-size", counted, "as IMAP"));
    }
}

/// What is extra on the new side, but for messages of these sizes.
fn without_hidden<'a>(extra: Vec<(usize, &'a Pop3Message)>, hidden: &[u64]) -> Vec<(usize, &'a Pop3Message)> {
    let mut sizes: HashMap<u64, usize> = HashMap::new();
    hidden.iter().for_each(|size| *sizes.entry(*size).or_default() += 1);
    let mut is_hidden = |size: u64| sizes.get_mut(&size).and_then(|left| left.checked_sub(1).map(|less| *left = less));
    extra.into_iter().filter(|(_, message)| is_hidden(message.size).is_none()).collect()
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
    // The new side counts octets, as IMAP should.
    if paired.size != size && paired.imap_size != Some(size) {
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
    use super::super::super::pop3::{Stranger, pair, tests::list};
    use super::*;

    const GOOD: [(&str, u64); 4] = [("7.2", 20), ("7.1", 10), ("7.3", 30), ("7.4", 40)];

    /// Findings as `class rule UID`, and what the report says in one line.
    fn compared(new: &[(&str, u64)], altered: &[u32]) -> (Vec<String>, String) {
        let contents = contents(9, &[(1, 10), (2, 20), (3, 30), (4, 40)]);
        let old = pair(&list(&GOOD), &snapshot(&contents)).unwrap();
        let mut report = Report::new("u1", false);
        lists(&old, &list(new), &altered.iter().copied().map(Uid).collect(), &[], &mut report);
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

    #[test]
    fn messages_that_one_list_lacks_are_notes_where_they_are_ignored_and_nothing_else_is() {
        let contents = contents(9, &[(1, 10), (2, 20), (3, 30), (4, 40), (5, 30), (6, 60)]);
        let mut old = pair(&list(&GOOD), &snapshot(&contents)).unwrap();
        assert_eq!(old.hidden, [Uid(5), Uid(6)]);
        old.strangers =
            vec![Stranger { number: 5, uidl: list(&[("elsewhere", 7)]).messages()[0].uidl.clone(), size: 7 }];
        let compared = |new: &[(&str, u64)]| {
            let mut report = Report::new("u1", false);
            lists(&old, &list(&[&GOOD, new].concat()), &BTreeSet::new(), &[30, 60], &mut report);
            let rules: Vec<String> =
                report.findings.iter().map(|found| format!("{:?} {}", found.class, found.rule)).collect();
            (rules, report.pop3)
        };
        let notes = ["Note pop3-hidden", "Note pop3-left-out"];
        for new in [&[][..], &[("x", 30)], &[("x", 60), ("y", 30)]] {
            let (rules, said) = compared(new);
            assert_eq!(rules, notes, "{new:?}");
            assert!(said.ends_with("; 2 not shown by POP3, ignored; 1 not in INBOX, ignored"), "{said}");
        }
        assert_eq!(compared(&[("x", 31)]).0, [&notes[..], &["Difference pop3-extra"]].concat());
        assert_eq!(compared(&[("x", 30), ("y", 30)]).0, [&notes[..], &["Difference pop3-extra"]].concat());
    }

    #[test]
    fn a_size_that_pop3_counts_otherwise_is_a_note_if_the_new_side_counts_octets() {
        let contents = contents(9, &[(1, 10), (2, 20)]);
        let old = pair(&list(&[("7.1", 11), ("7.2", 22)]), &snapshot(&contents)).unwrap();
        let compared = |new: &[(&str, u64)]| {
            let mut report = Report::new("u1", false);
            lists(&old, &list(new), &BTreeSet::new(), &[], &mut report);
            report.findings.iter().map(|found| format!("{:?} {}", found.class, found.rule)).collect::<Vec<_>>()
        };
        assert_eq!(compared(&[("7.1", 10), ("7.2", 20)]), ["Note pop3-size"]);
        assert_eq!(compared(&[("7.1", 11), ("7.2", 20)]), ["Note pop3-size"], "or as POP3 did");
        assert_eq!(compared(&[("7.1", 12), ("7.2", 20)]), ["Note pop3-size", "Difference pop3-size"]);
    }
}
