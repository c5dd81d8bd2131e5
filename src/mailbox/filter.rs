//! Which part of an account is copied, where not all of it is wanted: mailboxes by name or SPECIAL-USE, messages by date,
//! size and flags.
//!
//! A filter decides only what is *added*. What was copied once is followed and goes when it goes at its source, whatever
//! the filter of a later run says.

mod words;

use std::fmt::Write as _;

use super::account::{Account, Contents, Listed};
use super::message::Message;
use super::model::UidNext;
use super::name::MailboxName;

pub use words::{FilterError, FlagRule, Pattern, Since, Size};

/// Everything that a run leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these mailboxes; empty: all.
    pub only: Vec<Pattern>,
    /// Not these, even if they are among `only`.
    pub exclude: Vec<Pattern>,
    /// Only messages received at or after this moment.
    pub since: Option<Since>,
    /// Only messages that are no longer than this.
    pub max_size: Option<Size>,
    /// Only messages to whose flags all of these rules apply.
    pub flags: Vec<FlagRule>,
}

impl Filter {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every message of a mailbox that is taken is taken, too.
    #[must_use]
    pub const fn takes_all_messages(&self) -> bool {
        self.since.is_none() && self.max_size.is_none() && self.flags.is_empty()
    }

    /// Whether a mailbox is taken.
    #[must_use]
    pub fn takes_mailbox(&self, name: &MailboxName, listed: &Listed) -> bool {
        let matches = |pattern: &Pattern| pattern.matches(name, listed);
        (self.only.is_empty() || self.only.iter().any(matches)) && !self.exclude.iter().any(matches)
    }

    /// Whether a mailbox is taken of which a server only tells the name.
    #[must_use]
    pub fn takes_name(&self, name: &MailboxName, account: &Account) -> bool {
        account
            .mailboxes
            .get(name)
            .map_or_else(|| self.takes_mailbox(name, &Listed::default()), |listed| self.takes_mailbox(name, listed))
    }

    /// Whether a message is taken. One whose date can't be read is.
    #[must_use]
    pub fn takes(&self, message: &Message) -> bool {
        self.since.is_none_or(|Since(since)| message.internal_date.is_none_or(|date| date >= since))
            && self.max_size.is_none_or(|Size(max)| message.size <= max)
            && self.flags.iter().all(|rule| rule.applies(message))
    }

    /// Takes messages out of the source's list that are not to be added to `there`. UIDNEXT goes down to what is left, so
    /// that what is left out at the end can still be appended later.
    pub fn cut(&self, source: &mut Contents, there: &Contents) {
        if self.takes_all_messages() {
            return;
        }
        let is_there = |message: &Message| there.messages.binary_search_by_key(&message.uid, |known| known.uid).is_ok();
        source.messages.retain(|message| self.takes(message) || is_there(message));
        let above = source.messages.last().map_or(1, |last| last.uid.0.saturating_add(1));
        source.uid_next = UidNext(above.max(there.uid_next.0).min(source.uid_next.0));
    }

    /// Takes mailboxes out of the source's list that are left out, but for those that were copied before (`known`). Their
    /// subscriptions become those of `there`.
    pub fn narrow(&self, source: &mut Account, there: &Account, known: impl Fn(&MailboxName) -> bool) {
        if self.only.is_empty() && self.exclude.is_empty() {
            return;
        }
        let taken = |name: &MailboxName| self.takes_name(name, source);
        let wanted = source.subscriptions.iter().filter(|name| taken(name));
        let kept = there.subscriptions.iter().filter(|name| !taken(name));
        source.subscriptions = wanted.chain(kept).cloned().collect();
        source.mailboxes.retain(|name, listed| self.takes_mailbox(name, listed) || known(name));
    }

    /// Whether a rule asks which messages of all mail are in another mailbox, too (`$GmailHaveLabels`).
    #[must_use]
    pub fn asks_for_labels(&self) -> bool {
        self.flags.iter().any(FlagRule::is_about_labels)
    }

    /// The mailboxes in which a message of all mail counts as labelled: those that are taken. One that is only in a mailbox that
    /// is left out would be nowhere, were it left out of all mail, too.
    #[must_use]
    pub fn labels(&self, account: &Account) -> Vec<Listed> {
        let is_label = |name: &MailboxName, listed: &Listed| {
            listed.selectable && !listed.is_all_mail() && self.takes_mailbox(name, listed)
        };
        let labels = account.mailboxes.iter().filter(|(name, listed)| is_label(name, listed));
        labels.map(|(_, listed)| listed.clone()).collect()
    }

    /// Patterns by SPECIAL-USE, which need a server that tells it.
    pub fn special_uses(&self) -> impl Iterator<Item = &Pattern> {
        self.only.iter().chain(&self.exclude).filter(|pattern| pattern.is_special_use())
    }

    /// The filter as it is written on the command line.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = String::new();
        let mut add = |option: &str, value: &dyn std::fmt::Display| {
            let blank = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{blank}--{option} {}", word(&value.to_string()));
        };
        self.only.iter().for_each(|pattern| add("mailbox", pattern));
        self.exclude.iter().for_each(|pattern| add("exclude", pattern));
        if let Some(since) = &self.since {
            add("since", since);
        }
        if let Some(size) = &self.max_size {
            add("max-size", size);
        }
        self.flags.iter().for_each(|rule| add("flags", rule));
        text
    }
}

/// A word for a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '+' | '@');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::diff::tests::{contents, message};
    use super::*;

    fn filter(change: impl FnOnce(&mut Filter)) -> Filter {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    }

    fn name(text: &str) -> MailboxName {
        MailboxName::from_parts(text.split('/').map(str::to_owned).collect()).unwrap()
    }

    #[test]
    fn mailboxes_are_taken_by_name_wildcard_and_use_and_an_exclusion_wins() {
        let filter = filter(|filter| {
            filter.only = ["inbox", "Lists/*", "A/%"].map(|text| text.parse().unwrap()).into();
            filter.exclude = ["Lists/old", "\\all"].map(|text| text.parse().unwrap()).into();
        });
        let plain = Listed::default();
        let taken = |text: &str| filter.takes_mailbox(&name(text), &plain);
        for text in ["INBOX", "Lists/new", "Lists/new/er", "A/b"] {
            assert!(taken(text), "{text}");
        }
        for text in ["Lists", "Lists/old", "A/b/c", "A", "INBOX/x", "lists/new"] {
            assert!(!taken(text), "{text}");
        }
        let all = Listed { special_use: ["\\all".to_owned()].into(), ..plain };
        assert!(!filter.takes_mailbox(&name("Lists/Alle Nachrichten"), &all));
    }

    #[test]
    fn messages_are_taken_by_date_size_and_flags_and_an_unreadable_date_is_no_reason() {
        let mut one = message(9, 8, &["$Work"]);
        let takes = |text: &str, one: &Message| filter(|filter| filter.flags = vec![text.parse().unwrap()]).takes(one);
        assert!(takes("\\Seen", &one) && !takes("-\\Seen", &one) && takes("-\\Deleted", &one));
        assert!(takes("$work", &one) && !takes("-$WORK", &one) && !takes("$Other", &one));
        one.labelled = true;
        assert!(takes("$GmailHaveLabels", &one) && !takes("-$gmailhavelabels", &one) && !takes("$Other", &one));
        one.labelled = false;
        assert!(!takes("$GmailHaveLabels", &one) && takes("-$GmailHaveLabels", &one));
        let since = |at| filter(|filter| filter.since = Some(Since(at)));
        assert!(since(9).takes(&one) && !since(10).takes(&one));
        one.internal_date = None;
        assert!(since(10).takes(&one));
        let size = |max| filter(|filter| filter.max_size = Some(Size(max)));
        assert!(size(100).takes(&one) && !size(99).takes(&one));
    }

    #[test]
    fn labels_are_the_mailboxes_that_are_taken_but_for_all_mail() {
        let mut filter = filter(|filter| filter.flags = vec!["-$GmailHaveLabels".parse().unwrap()]);
        assert!(filter.asks_for_labels() && !Filter::default().asks_for_labels());
        let listed = |raw: &str, used: &str| Listed {
            raw: raw.into(),
            selectable: !raw.starts_with('['),
            special_use: [used.to_owned()].into(),
            ..Listed::default()
        };
        let all = [("INBOX", ""), ("Work", ""), ("Starred", "\\flagged"), ("All", "\\all"), ("[Gmail]", "")];
        let mailboxes = all.map(|(raw, used)| (name(raw), listed(raw, used))).into();
        let account = Account { mailboxes, ..Account::default() };
        let labels = |filter: &Filter| filter.labels(&account).into_iter().map(|listed| listed.raw).collect::<Vec<_>>();
        assert_eq!(labels(&filter), [b"INBOX".to_vec(), b"Starred".to_vec(), b"Work".to_vec()]);
        filter.exclude = vec!["\\Flagged".parse().unwrap(), "Work".parse().unwrap()];
        assert_eq!(labels(&filter), [b"INBOX".to_vec()]);
    }

    #[test]
    fn what_is_there_stays_and_what_is_left_out_at_the_end_can_be_appended_later() {
        let filter = filter(|filter| filter.flags = vec!["\\Seen".parse().unwrap()]);
        let list = vec![message(2, 0, &[]), message(4, 0, &[]), message(6, 8, &[]), message(8, 0, &[])];
        let cut = |there: Contents| {
            let mut source = contents(9, list.clone());
            filter.cut(&mut source, &there);
            (source.messages.iter().map(|message| message.uid.0).collect::<Vec<_>>(), source.uid_next.0)
        };
        assert_eq!(cut(contents(1, vec![])), (vec![6], 7));
        assert_eq!(cut(contents(5, vec![message(4, 0, &[])])), (vec![4, 6], 7));
        assert_eq!(cut(contents(8, vec![])), (vec![6], 8), "UIDNEXT never goes down");
    }

    #[test]
    fn the_filter_is_shown_as_it_is_written() {
        let filter = filter(|filter| {
            filter.only = vec!["Lists/*".parse().unwrap()];
            filter.exclude = vec!["\\All".parse().unwrap()];
            filter.since = Some("2026-11-01".parse().unwrap());
            filter.max_size = Some("20M".parse().unwrap());
            filter.flags = vec!["-\\Deleted".parse().unwrap()];
        });
        let shown = "--mailbox 'Lists/*' --exclude '\\All' --since 2026-11-01 --max-size 20M --flags '-\\Deleted'";
        assert_eq!(filter.shown(), shown);
        assert!(Filter::default().is_empty() && Filter::default().shown().is_empty());
    }

    #[test]
    fn subscriptions_of_mailboxes_that_are_left_out_are_left_alone() {
        let filter = filter(|filter| filter.exclude = vec!["X*".parse().unwrap()]);
        let subscribed = |names: &[&str]| Account {
            subscriptions: names.iter().map(|text| name(text)).collect(),
            ..Account::default()
        };
        let mut source = subscribed(&["A", "X1"]);
        source.mailboxes = ["A", "X1", "X3"].map(|text| (name(text), Listed::default())).into();
        filter.narrow(&mut source, &subscribed(&["B", "X2"]), |known| *known == name("X3"));
        assert_eq!(source.subscriptions, subscribed(&["A", "X2"]).subscriptions);
        assert_eq!(source.mailboxes.into_keys().collect::<Vec<_>>(), [name("A"), name("X3")]);
    }
}
