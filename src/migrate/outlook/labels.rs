//! What it costs that a message is in a mailbox for each of its labels: it is read once, and on the new side each mailbox has
//! its own, which counts for the quota there.

use std::collections::HashMap;

/// Messages that are in several mailboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Different messages in all mailboxes.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// Each mailbox, in the order of names.
    pub mailboxes: Vec<Labelled>,
    /// One of them is that of all mail: what has no label is seen.
    pub all_mail: bool,
}

/// A mailbox whose messages may be in others, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its name, as the server gave it.
    pub name: String,
    /// Messages in it.
    pub messages: u64,
    /// Those of them that are in other mailboxes, too.
    pub elsewhere: u64,
    /// Octets of all of them.
    pub octets: u64,
}

/// The count under way.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// How many mailboxes have a message, by its number, and its size.
    seen: HashMap<u64, (u32, u64)>,
    mailboxes: Vec<(Labelled, Vec<u64>)>,
    all_mail: bool,
}

impl Count {
    /// Nothing yet. `all_mail`: one of the mailboxes is that of all mail.
    pub(super) fn new(all_mail: bool) -> Self {
        Self { all_mail, ..Self::default() }
    }

    /// A mailbox and its messages: number and size. `rest`: messages without a number, and their octets.
    pub(super) fn mailbox(&mut self, name: String, messages: &[(u64, u64)], rest: (u64, u64)) {
        let octets = messages.iter().map(|(_, size)| size).sum::<u64>() + rest.1;
        for (number, size) in messages {
            self.seen.entry(*number).or_insert((0, *size)).0 += 1;
        }
        let labelled = Labelled { name, messages: messages.len() as u64 + rest.0, elsewhere: 0, octets };
        self.mailboxes.push((labelled, messages.iter().map(|(number, _)| *number).collect()));
    }

    pub(super) fn finish(self) -> Labels {
        let Self { seen, mailboxes, all_mail } = self;
        let several = |number: &&u64| seen.get(*number).is_some_and(|(count, _)| *count > 1);
        let numbered: u64 = mailboxes.iter().map(|(_, numbers)| numbers.len() as u64).sum();
        let all: (u64, u64) = mailboxes.iter().fold((0, 0), |sum, (one, _)| (sum.0 + one.messages, sum.1 + one.octets));
        let shown: u64 = seen.values().map(|(count, size)| u64::from(*count) * size).sum();
        let once: u64 = seen.values().map(|(_, size)| size).sum();
        Labels {
            all_mail,
            messages: all.0 - numbered + seen.len() as u64,
            octets: all.1.saturating_sub(shown) + once,
            mailboxes: mailboxes
                .into_iter()
                .map(|(one, numbers)| Labelled { elsewhere: numbers.iter().filter(several).count() as u64, ..one })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_several_mailboxes_is_read_once_and_counted_in_each() {
        let mut count = Count::default();
        count.mailbox("INBOX".to_owned(), &[(1, 100), (2, 10)], (0, 0));
        count.mailbox("All".to_owned(), &[(1, 100), (2, 10), (3, 5)], (1, 7));
        count.mailbox("Empty".to_owned(), &[], (0, 0));
        let labels = count.finish();
        assert_eq!((labels.messages, labels.octets), (4, 122));
        let shown: Vec<(&str, u64, u64, u64)> =
            labels.mailboxes.iter().map(|one| (one.name.as_str(), one.messages, one.elsewhere, one.octets)).collect();
        assert_eq!(shown, [("INBOX", 2, 2, 110), ("All", 4, 2, 122), ("Empty", 0, 0, 0)]);
    }
}
