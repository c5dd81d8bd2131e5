//! Which UID each message of a POP3 list is where no template tells: found on the messages themselves (old servers
//! reference §10). Some servers' POP3 numbers messages in a database of its own, and a mailbox that was moved before may have
//! any UIDLs.
//!
//! A size that exactly one message has on both sides pairs them, and some of those are looked at all the same; messages that
//! share a size are told apart by their headers, those that share the header, too, by their whole text, and those that are
//! equal in all that are the same to every client: they are paired in order. What was paired once stays paired.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use super::pairing::{Doubt, Named, Paired, Pairing, Snapshot};
use super::text::TextDigest;
use super::{Pop3List, Uidl};
use crate::mailbox::Uid;

/// At least so many of the messages that their size alone pairs are looked at, and one of so many.
const LOOKED_AT_MIN: usize = 10;
const ONE_OF: usize = 100;

/// Which UIDL each message has, as far as that was found out before.
pub type KnownUidls = BTreeMap<Uid, Uidl>;

/// Messages of the list (by number) and of the snapshot that may be the same: all that are alike in what is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    numbers: Vec<u32>,
    uids: Vec<Uid>,
}

impl Group {
    /// Nothing is left to be told apart.
    fn is_settled(&self) -> bool {
        self.numbers.is_empty() || self.uids.is_empty()
    }
}

/// A matching under way.
#[derive(Debug)]
pub struct Matching<'a> {
    list: &'a Pop3List,
    snapshot: &'a Snapshot<'a>,
    found: BTreeMap<u32, Uid>,
    /// Told apart by their headers next; one that holds one of each is only looked at.
    headers: Vec<Group>,
    /// Told apart by their whole text.
    wholes: Vec<Group>,
    numbers_left: Vec<u32>,
    uids_left: Vec<Uid>,
}

impl<'a> Matching<'a> {
    /// Pairs what is `known` and what has a size of its own. `sampled`: some of the latter are looked at.
    #[must_use]
    pub fn begin(list: &'a Pop3List, snapshot: &'a Snapshot<'a>, known: &KnownUidls, sampled: bool) -> Self {
        let mut matching = Self {
            list,
            snapshot,
            found: BTreeMap::new(),
            headers: Vec::new(),
            wholes: Vec::new(),
            numbers_left: Vec::new(),
            uids_left: Vec::new(),
        };
        let uids: HashMap<&Uidl, Uid> = known.iter().map(|(uid, uidl)| (uidl, *uid)).collect();
        for (number, message) in (1..).zip(list.messages()) {
            let uid = uids.get(&message.uidl).filter(|uid| snapshot.has(**uid) == Some(message.size));
            matching.found.extend(uid.map(|uid| (number, *uid)));
        }
        let paired: HashSet<Uid> = matching.found.values().copied().collect();
        let mut by_size: BTreeMap<u64, Group> = BTreeMap::new();
        for (number, message) in (1..).zip(list.messages()) {
            if !matching.found.contains_key(&number) {
                by_size.entry(message.size).or_default().numbers.push(number);
            }
        }
        for message in snapshot.contents.messages.iter().filter(|message| !paired.contains(&message.uid)) {
            by_size.entry(message.size).or_default().uids.push(message.uid);
        }
        let mut alone = Vec::new();
        for group in by_size.into_values() {
            match (group.numbers.as_slice(), group.uids.as_slice()) {
                ([_], [_]) => alone.push(group),
                _ => matching.settle_or(group, |matching| &mut matching.headers),
            }
        }
        matching.sample(alone, sampled);
        matching
    }

    /// Pairs messages by their size alone, except for some that are looked at: the first, the last, and some between.
    fn sample(&mut self, mut alone: Vec<Group>, sampled: bool) {
        alone.sort_by(|one, other| one.uids.cmp(&other.uids));
        let wanted = if sampled { LOOKED_AT_MIN.max(alone.len() / ONE_OF) } else { 0 };
        let (last, all) = (alone.len().saturating_sub(1), alone.len());
        for (at, group) in alone.into_iter().enumerate() {
            let due = |at: usize| (at * wanted).checked_div(all);
            let looked_at = wanted > 0 && (at == 0 || at == last || due(at) != due(at - 1));
            if looked_at {
                self.headers.push(group);
            } else {
                self.found.extend(group.numbers.first().copied().zip(group.uids.first().copied()));
            }
        }
    }

    /// Puts a group where `next` says, or, if nothing in it is left to be told apart, with the rest.
    fn settle_or(&mut self, group: Group, next: impl FnOnce(&mut Self) -> &mut Vec<Group>) {
        if group.is_settled() {
            self.numbers_left.extend(group.numbers);
            self.uids_left.extend(group.uids);
        } else {
            next(self).push(group);
        }
    }

    /// Numbers of the messages whose header POP3 must give.
    #[must_use]
    pub fn numbers_for_headers(&self) -> Vec<u32> {
        self.headers.iter().flat_map(|group| group.numbers.iter().copied()).collect()
    }

    /// The messages that IMAP must give, whole.
    #[must_use]
    pub fn uids(&self) -> Vec<Uid> {
        let mut uids: Vec<Uid> = self.headers.iter().flat_map(|group| group.uids.iter().copied()).collect();
        uids.sort_unstable();
        uids
    }

    /// Numbers of the messages that POP3 must give whole, once [`Self::by_headers`] has found them.
    #[must_use]
    pub fn numbers_for_wholes(&self) -> Vec<u32> {
        self.wholes.iter().flat_map(|group| group.numbers.iter().copied()).collect()
    }

    /// Whether nothing has to be read.
    #[must_use]
    pub const fn is_told_apart(&self) -> bool {
        self.headers.is_empty() && self.wholes.is_empty()
    }

    /// Tells messages apart by their headers. Where those don't do, the whole text must: servers differ in where a broken
    /// header ends.
    pub fn by_headers(&mut self, by_pop3: &HashMap<u32, TextDigest>, by_imap: &HashMap<Uid, TextDigest>) {
        for group in std::mem::take(&mut self.headers) {
            let header = |digest: &TextDigest| digest.header;
            let (alike, mut rest) =
                split(&group, |number| by_pop3.get(&number).map(header), |uid| by_imap.get(&uid).map(header));
            for group in alike {
                match (group.numbers.as_slice(), group.uids.as_slice()) {
                    ([number], [uid]) => drop(self.found.insert(*number, *uid)),
                    _ => self.settle_or(group, |matching| &mut matching.wholes),
                }
            }
            rest.numbers.sort_unstable();
            rest.uids.sort_unstable();
            self.settle_or(rest, |matching| &mut matching.wholes);
        }
    }

    /// Tells messages apart by their whole text; equal ones are paired in order.
    ///
    /// # Errors
    /// [`Doubt::Unread`] if a server didn't give a text that was needed.
    pub fn by_wholes(
        &mut self,
        by_pop3: &HashMap<u32, TextDigest>,
        by_imap: &HashMap<Uid, TextDigest>,
    ) -> Result<(), Doubt> {
        let mut unread = Vec::new();
        for group in std::mem::take(&mut self.wholes) {
            let whole = |digest: &TextDigest| digest.whole;
            let (alike, rest) =
                split(&group, |number| by_pop3.get(&number).map(whole), |uid| by_imap.get(&uid).map(whole));
            for mut group in alike {
                group.numbers.sort_unstable();
                group.uids.sort_unstable();
                let pairs = group.numbers.len().min(group.uids.len());
                self.numbers_left.extend(group.numbers.split_off(pairs));
                self.uids_left.extend(group.uids.split_off(pairs));
                self.found.extend(group.numbers.into_iter().zip(group.uids));
            }
            unread.extend(rest.uids.iter().filter(|uid| !by_imap.contains_key(uid)));
            if rest.numbers.iter().any(|number| !by_pop3.contains_key(number)) {
                unread.extend(&rest.uids);
            }
            self.numbers_left.extend(rest.numbers);
            self.uids_left.extend(rest.uids);
        }
        if unread.is_empty() {
            return Ok(());
        }
        unread.sort_unstable();
        unread.dedup();
        let why = "one of the servers does not give their text".to_owned();
        Err(Doubt::Unread { method: Pairing::BY_CONTENT.to_owned(), named: Named::uids(unread), why })
    }

    /// The pairing that was found.
    ///
    /// # Errors
    /// [`Doubt`], if it is not certain for every message.
    pub fn finish(self) -> Result<Pairing, Doubt> {
        if !self.is_told_apart() {
            let unread = self.headers.iter().chain(&self.wholes).flat_map(|group| group.uids.iter().copied());
            let why = "they must be read for that, and there is no time for it now".to_owned();
            return Err(Doubt::Unread { method: Pairing::BY_CONTENT.to_owned(), named: Named::uids(unread), why });
        }
        if !self.uids_left.is_empty() {
            let mut left = self.uids_left;
            left.sort_unstable();
            return Err(Doubt::Hidden(Named::uids(left)));
        }
        // What arrived after the snapshot has no UID that we know; what has gone since an older list has none any more.
        let newer = self.snapshot.uid_next_after.0.saturating_sub(self.snapshot.contents.uid_next.0) as usize;
        if !self.snapshot.list_is_older && self.numbers_left.len() > newer {
            let message = |number: &u32| self.list.messages().get(*number as usize - 1);
            let named = Named::of(self.numbers_left.iter().filter_map(message).map(|message| &message.uidl));
            return Err(Doubt::Strangers(named));
        }
        let paired = |(number, uid): (u32, Uid)| {
            let message = self.list.messages().get(number as usize - 1)?;
            let (uidl, size) = (message.uidl.clone(), message.size);
            Some(Paired { number, uidl, size, uid, imap_size: self.snapshot.has(uid) })
        };
        Ok(Pairing {
            uid_validity: self.snapshot.contents.uid_validity,
            templates: Vec::new(),
            numbered: false,
            messages: self.found.into_iter().filter_map(paired).collect(),
        })
    }
}

/// The messages of a group that are alike on both sides, and the rest.
fn split<K: Eq + Hash + Ord + Copy>(
    group: &Group,
    of_number: impl Fn(u32) -> Option<K>,
    of_uid: impl Fn(Uid) -> Option<K>,
) -> (Vec<Group>, Group) {
    let (mut alike, mut rest): (BTreeMap<K, Group>, Group) = (BTreeMap::new(), Group::default());
    for &number in &group.numbers {
        match of_number(number) {
            Some(key) => alike.entry(key).or_default().numbers.push(number),
            None => rest.numbers.push(number),
        }
    }
    for &uid in &group.uids {
        match of_uid(uid) {
            Some(key) => alike.entry(key).or_default().uids.push(uid),
            None => rest.uids.push(uid),
        }
    }
    let (settled, alike): (Vec<Group>, Vec<Group>) = alike.into_values().partition(Group::is_settled);
    for group in settled {
        rest.numbers.extend(group.numbers);
        rest.uids.extend(group.uids);
    }
    (alike, rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::TextHasher;
    use super::super::pairing::tests::{inbox, snapshot};
    use super::super::tests::list;
    use super::*;
    use crate::mailbox::{Contents, UidNext};

    fn digest(text: &str) -> TextDigest {
        let mut hasher = TextHasher::new();
        hasher.update(text.as_bytes());
        hasher.finish()
    }

    fn known(pairs: &[(u32, &str)]) -> KnownUidls {
        pairs.iter().map(|(uid, uidl)| (Uid(*uid), Uidl::from_octets(uidl.as_bytes()).unwrap())).collect()
    }

    /// Mail as IMAP shows it (UID, text), and the texts in POP3's order, with UIDLs `a`, `b`, ….
    struct Mail<'a> {
        imap: &'a [(u32, &'a str)],
        pop3: &'a [&'a str],
    }

    impl Mail<'_> {
        fn contents(&self) -> Contents {
            inbox(99, &self.imap.iter().map(|(uid, text)| (*uid, text.len() as u64)).collect::<Vec<_>>())
        }

        fn list(&self) -> Pop3List {
            let uidls: Vec<String> = ('a'..).take(self.pop3.len()).map(String::from).collect();
            list(
                &uidls.iter().zip(self.pop3).map(|(uidl, text)| (uidl.as_str(), text.len() as u64)).collect::<Vec<_>>(),
            )
        }

        /// `uidl=UID` in the list's order; whole texts are given only where they are asked for.
        fn matched(&self, snapshot: &Snapshot<'_>, known: &KnownUidls) -> Result<String, Doubt> {
            let list = self.list();
            let mut matching = Matching::begin(&list, snapshot, known, true);
            let texts = |uids: Vec<Uid>| -> HashMap<Uid, TextDigest> {
                let text = |uid: Uid| self.imap.iter().find(|(number, _)| *number == uid.0).unwrap().1;
                uids.into_iter().map(|uid| (uid, digest(text(uid)))).collect()
            };
            let of_list = |numbers: Vec<u32>| -> HashMap<u32, TextDigest> {
                numbers.into_iter().map(|number| (number, digest(self.pop3[number as usize - 1]))).collect()
            };
            let imap = texts(matching.uids());
            matching.by_headers(&of_list(matching.numbers_for_headers()), &imap);
            matching.by_wholes(&of_list(matching.numbers_for_wholes()), &imap)?;
            let pairing = matching.finish()?;
            let shown = pairing.messages.iter().map(|paired| format!("{}={}", paired.uidl, paired.uid));
            Ok(shown.collect::<Vec<_>>().join(" "))
        }

        fn found(&self) -> Result<String, Doubt> {
            let contents = self.contents();
            self.matched(&snapshot(&contents), &KnownUidls::new())
        }
    }

    #[test]
    fn every_message_is_found_in_whatever_order_by_size_header_or_text() {
        let mail = Mail {
            imap: &[
                (1, "A: 1\n\nlonger"),
                (4, "A: 2\n\nx"),
                (5, "A: 3\n\nx"),
                (7, "A: 4\n\ny1"),
                (8, "A: 4\n\ny2"),
                (9, "A: 5\n\ntwin"),
                (12, "A: 5\n\ntwin"),
            ],
            pop3: &[
                "A: 3\n\nx",
                "A: 5\n\ntwin",
                "A: 4\n\ny2",
                "A: 1\n\nlonger",
                "A: 4\n\ny1",
                "A: 5\n\ntwin",
                "A: 2\n\nx",
            ],
        };
        assert_eq!(mail.found().unwrap(), "a=5 b=9 c=8 d=1 e=7 f=12 g=4");
    }

    #[test]
    fn a_size_that_two_other_messages_happen_to_have_is_found_out() {
        let mail = Mail { imap: &[(1, "A: 1\n\nx")], pop3: &["A: 2\n\nx"] };
        assert!(matches!(mail.found(), Err(Doubt::Hidden(_))));
        let many: Vec<(u32, String)> =
            (1..=50).map(|uid| (uid, format!("A: 1\n\n{}", "x".repeat(uid as usize)))).collect();
        let imap: Vec<(u32, &str)> = many.iter().map(|(uid, text)| (*uid, text.as_str())).collect();
        let pop3: Vec<&str> = many.iter().map(|(_, text)| text.as_str()).collect();
        let contents = Mail { imap: &imap, pop3: &pop3 }.contents();
        let list = Mail { imap: &imap, pop3: &pop3 }.list_of_numbers();
        let snapshot = snapshot(&contents);
        let matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), true);
        let looked_at: Vec<u32> = matching.uids().iter().map(|uid| uid.0).collect();
        assert!(looked_at.len() >= LOOKED_AT_MIN && looked_at.len() < 20, "{looked_at:?}");
        assert_eq!((looked_at.first(), looked_at.last()), (Some(&1), Some(&50)));
        assert!(Matching::begin(&list, &snapshot, &KnownUidls::new(), false).is_told_apart());
    }

    impl Mail<'_> {
        fn list_of_numbers(&self) -> Pop3List {
            let uidls: Vec<String> = (1..=self.pop3.len()).map(|number| format!("n{number}")).collect();
            list(
                &uidls.iter().zip(self.pop3).map(|(uidl, text)| (uidl.as_str(), text.len() as u64)).collect::<Vec<_>>(),
            )
        }
    }

    #[test]
    fn what_was_found_before_is_not_read_again_and_stays() {
        let mail = Mail { imap: &[(1, "A: 1\n\ntwin"), (2, "A: 1\n\ntwin")], pop3: &["A: 1\n\ntwin", "A: 1\n\ntwin"] };
        let (contents, list) = (mail.contents(), mail.list());
        let before = known(&[(1, "b"), (2, "a")]);
        let snapshot = snapshot(&contents);
        assert!(Matching::begin(&list, &snapshot, &before, true).is_told_apart());
        assert_eq!(mail.matched(&snapshot, &before).unwrap(), "a=2 b=1");
        assert_eq!(mail.matched(&snapshot, &known(&[(1, "x"), (2, "y")])).unwrap(), "a=1 b=2", "UIDLs that are gone");
    }

    #[test]
    fn who_is_only_on_one_side_is_named() {
        let mail = Mail { imap: &[(1, "A: 1\n\nx"), (3, "A: 1\n\nxx")], pop3: &["A: 1\n\nx"] };
        assert_eq!(mail.found().unwrap_err().to_string(), "POP3 does not show UID 3 of INBOX");
        let mail = Mail { imap: &[(1, "A: 1\n\nx")], pop3: &["A: 1\n\nxx", "A: 1\n\nx"] };
        let contents = mail.contents();
        assert_eq!(mail.found().unwrap_err().to_string(), "POP3 shows messages that are not in INBOX: a");
        let later = Snapshot { uid_next_after: UidNext(100), ..snapshot(&contents) };
        assert_eq!(mail.matched(&later, &KnownUidls::new()).unwrap(), "b=1", "it has just come");
        let older = Snapshot { list_is_older: true, ..snapshot(&contents) };
        assert_eq!(mail.matched(&older, &KnownUidls::new()).unwrap(), "b=1", "it is gone meanwhile");
    }

    #[test]
    fn nothing_is_certain_that_could_not_be_read() {
        let contents = inbox(9, &[(1, 10), (2, 10)]);
        let (list, snapshot) = (list(&[("a", 10), ("b", 10)]), snapshot(&contents));
        let matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), false);
        assert!(matching.finish().unwrap_err().to_string().contains("no time"));
        let mut matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), false);
        matching.by_headers(&HashMap::new(), &HashMap::new());
        let doubt = matching.by_wholes(&HashMap::new(), &HashMap::new()).unwrap_err();
        assert!(doubt.to_string().contains("UID 1, 2 can't be compared"), "{doubt}");
    }
}
