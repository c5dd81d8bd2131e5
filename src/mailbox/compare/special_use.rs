//! SPECIAL-USE (RFC 6154): a client that finds another Sent or Trash than before has two of them from then on.

use super::finding;
use crate::mailbox::account::{Account, Listed};
use crate::mailbox::name::MailboxName;
use crate::mailbox::report::{Class, Report};

/// Compares what a mailbox that both sides have is used for.
pub(super) fn attributes(name: &MailboxName, old: &Listed, new: &Listed, there: &Account, report: &mut Report) {
    if old.special_use == new.special_use {
        return;
    }
    let words = |listed: &Listed| listed.special_use.iter().cloned().collect::<Vec<_>>().join(" ");
    let class = if old.special_use.is_empty() { Class::Note } else { Class::Difference };
    let advice: Vec<String> =
        old.special_use.difference(&new.special_use).map(|word| advice(word, name, there)).collect();
    let mut new = words(new);
    if !advice.is_empty() {
        new = format!("{}: {}", if new.is_empty() { "none" } else { &new }, advice.join("; "));
    }
    report.add(finding(class, "special-use", Some(&name.to_string()), words(old), new));
}

/// What to change on the new side, where another mailbox is used there for what a mailbox of the old side is, or none is.
#[must_use]
pub fn misplaced(old: &Account, new: &Account) -> Vec<String> {
    let mut found = Vec::new();
    for (name, listed) in &old.mailboxes {
        let there = new.mailboxes.get(name);
        for word in &listed.special_use {
            let right = there.is_some_and(|there| there.special_use.contains(word));
            // A mailbox that is not there yet may get it from the configuration, unless another one has it.
            if !right && (there.is_some() || elsewhere(word, name, new).is_some()) {
                found.push(format!("{word} is `{name}` on the old side: {}", advice(word, name, new)));
            }
        }
    }
    found
}

/// Mailboxes that are only on the new side, and that clients would use from the switch on.
#[must_use]
pub fn added(old: &Account, new: &Account) -> Vec<String> {
    let only = new.mailboxes.iter().filter(|(name, _)| !old.mailboxes.contains_key(*name));
    let used = only.filter(|(_, listed)| !listed.special_use.is_empty());
    used.map(|(name, listed)| {
        let words = listed.special_use.iter().cloned().collect::<Vec<_>>().join(" ");
        format!("`{name}` ({words}) is only on the new side: without `auto` in its `mailbox` block there clients won't see it")
    })
    .collect()
}

fn elsewhere<'a>(word: &str, name: &MailboxName, account: &'a Account) -> Option<&'a MailboxName> {
    account
        .mailboxes
        .iter()
        .find(|(other, listed)| *other != name && listed.special_use.contains(word))
        .map(|(other, _)| other)
}

fn advice(word: &str, name: &MailboxName, new: &Account) -> String {
    let value: String =
        word.chars().enumerate().map(|(at, c)| if at == 1 { c.to_ascii_uppercase() } else { c }).collect();
    let set = format!("set `special_use = {value}` in a `mailbox` block for `{name}` on the new side");
    match elsewhere(word, name, new) {
        Some(other) => format!("{set}, and take it from `{other}`"),
        None => set,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn account(mailboxes: &[(&str, &str)]) -> Account {
        let listed = |&(name, word): &(&str, &str)| {
            let special_use = if word.is_empty() { [].into() } else { [word.to_owned()].into() };
            (MailboxName::from_parts(vec![name.to_owned()]).unwrap(), Listed { special_use, ..Listed::default() })
        };
        Account { mailboxes: mailboxes.iter().map(listed).collect(), ..Account::default() }
    }

    #[test]
    fn a_second_sent_is_found_before_and_after_the_copy() {
        let old = account(&[("Sent Items", "\\sent"), ("Trash", "\\trash")]);
        let before = account(&[("Sent", "\\sent")]);
        let said = "\\sent is `Sent Items` on the old side: set `special_use = \\Sent` in a `mailbox` block for `Sent Items` on \
                    the new side, and take it from `Sent`";
        assert_eq!(misplaced(&old, &before), [said]);
        assert!(added(&old, &before)[0].starts_with("`Sent` (\\sent) is only on the new side"));
        let after = account(&[("Sent", "\\sent"), ("Sent Items", ""), ("Trash", "\\trash")]);
        assert_eq!(misplaced(&old, &after), [said]);
        assert!(misplaced(&old, &account(&[])).is_empty() && misplaced(&old, &old).is_empty());
        assert!(misplaced(&account(&[("Sent Items", "")]), &after).is_empty(), "the old side doesn't announce any");
        assert_eq!(added(&old, &old), Vec::<String>::new());
    }
}
