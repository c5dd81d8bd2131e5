//! Which UID each message of a POP3 list is where no template tells: found on the messages themselves (old servers
//! reference §10). Some servers' POP3 numbers messages in a database of its own, and a mailbox that was moved before may have
//! any UIDLs.
//!
//! What was paired once stays paired. Then a field of the message that IMAP shows may tell its UIDL; a size that exactly one
//! message has on both sides pairs them, and some of those are looked at all the same; messages that share a size are told
//! apart by their headers, those that share the header, too, by their whole text, and those that are equal in all that are the
//! same to every client: they are paired in order. If a message is left over on either side, a size alone proves nothing: all are
//! looked at. What is left then on both sides is compared as a whole, whatever its size, and whatever POP3 adds to headers.

mod groups;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::align::align;
use super::pairing::{Doubt, Method, Named, Paired, Pairing, Snapshot, Stranger};
use super::text::TextDigest;
use super::{Pop3List, Uidl};
use crate::mailbox::Uid;
use groups::{Group, Sizes, by_size, split};

/// At least so many of the messages that their size alone pairs are looked at, and one of so many.
const LOOKED_AT_MIN: usize = 10;
const ONE_OF: usize = 100;

/// Octets of a UIDL that nobody has by chance.
const LONG: usize = 16;

/// Which UIDL each message has and how it was found, as far as that was found out before.
pub type KnownUidls = BTreeMap<Uid, (Uidl, Method)>;

/// UIDLs that messages have according to something that IMAP shows of them.
#[derive(Clone, Debug)]
pub struct Claims {
    /// What that is.
    pub method: Method,
    /// Whose.
    pub uidls: BTreeMap<Uid, Uidl>,
}

/// Whether messages are looked at that their size alone pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// There is no time for it.
    None,
    /// Some of them are.
    Some,
}

/// A matching under way.
#[derive(Debug)]
pub struct Matching<'a> {
    list: &'a Pop3List,
    snapshot: &'a Snapshot<'a>,
    found: BTreeMap<u32, (Uid, Method)>,
    /// Pairs in `found` that nobody has looked at.
    unseen: Vec<Group>,
    /// Told apart by their headers next; one that holds one of each is only looked at.
    headers: Vec<Group>,
    /// Told apart by their whole text.
    wholes: Vec<Group>,
    /// Equal messages, more on one side than on the other.
    uneven: Vec<Group>,
    /// What was left of all groups was put together.
    mixed: bool,
    numbers_left: Vec<u32>,
    uids_left: Vec<Uid>,
    tied: Vec<Uid>,
}

impl<'a> Matching<'a> {
    /// Pairs what is `known`, what has a size of its own, and what `claims` tell, if it has the size for it.
    #[must_use]
    pub fn begin(
        list: &'a Pop3List,
        snapshot: &'a Snapshot<'a>,
        known: &KnownUidls,
        claims: Option<&Claims>,
        looks: Looks,
    ) -> Self {
        let mut matching = Self {
            list,
            snapshot,
            found: BTreeMap::new(),
            unseen: Vec::new(),
            headers: Vec::new(),
            wholes: Vec::new(),
            uneven: Vec::new(),
            mixed: false,
            numbers_left: Vec::new(),
            uids_left: Vec::new(),
            tied: Vec::new(),
        };
        let uids: HashMap<&Uidl, (Uid, Method)> =
            known.iter().map(|(uid, (uidl, method))| (uidl, (*uid, *method))).collect();
        for (number, message) in (1..).zip(list.messages()) {
            let stays = |(uid, method): &&(Uid, Method)| match snapshot.has(*uid) {
                Some(size) => size == message.size || !matches!(method, Method::Size | Method::Header | Method::Twin),
                None => false,
            };
            let pair = uids.get(&message.uidl).filter(stays);
            matching.found.extend(pair.map(|pair| (number, *pair)));
        }
        let mut paired: HashSet<Uid> = matching.found.values().map(|(uid, _)| *uid).collect();
        let mut claimed: HashSet<u32> = HashSet::new();
        let mut alone = Vec::new();
        if let Some(claims) = claims {
            let sizes = Sizes::of(list, snapshot);
            for (number, uid) in matching.claimed(claims) {
                if matching.found.contains_key(&number) || !paired.insert(uid) {
                    continue;
                }
                claimed.insert(number);
                let group = Group::pair(number, uid, claims.method);
                // What stands in the message is the message's own, if nobody can have it by chance; a template hits by chance.
                let sure = list.messages().get(number as usize - 1).is_some_and(|message| {
                    let own = claims.method != Method::Template && message.uidl.as_str().len() >= LONG;
                    snapshot.has(uid) == Some(message.size) && (own || sizes.has_one(message.size))
                });
                if sure { alone.push(group) } else { matching.headers.push(group) }
            }
        }
        let numbers = (1..).zip(list.messages()).map(|(number, message)| (message.size, number));
        let numbers = numbers.filter(|(_, number)| !matching.found.contains_key(number) && !claimed.contains(number));
        let uids = snapshot.contents.messages.iter().map(|message| (message.size, message.uid));
        let groups = by_size(numbers.collect(), uids.filter(|(_, uid)| !paired.contains(uid)).collect());
        for group in groups {
            if snapshot.list_is_older {
                // Who has a size in a list of old and in one of now need not be the same.
                matching.leave(group);
            } else if group.is_pair() {
                alone.push(Group { method: Method::Size, ..group });
            } else {
                matching.settle_or(group, |matching| &mut matching.headers);
            }
        }
        matching.sample(alone, looks);
        matching
    }

    /// Numbers and UIDs that have the same UIDL; none that two have.
    fn claimed(&self, claims: &Claims) -> Vec<(u32, Uid)> {
        let mut uids: HashMap<&Uidl, Option<Uid>> = HashMap::with_capacity(claims.uidls.len());
        for (uid, uidl) in &claims.uidls {
            uids.entry(uidl).and_modify(|one| *one = None).or_insert(Some(*uid));
        }
        let pair = |(number, uidl): (u32, &Uidl)| {
            let uid = (*uids.get(uidl)?)?;
            self.snapshot.has(uid).map(|_| (number, uid))
        };
        (1..).zip(self.list.messages().iter().map(|message| &message.uidl)).filter_map(pair).collect()
    }

    /// Pairs messages without looking at them, except for some: the first, the last, and some between.
    fn sample(&mut self, mut alone: Vec<Group>, looks: Looks) {
        alone.sort_by(|one, other| one.uids.cmp(&other.uids));
        let all = alone.len();
        for (at, group) in alone.into_iter().enumerate() {
            if sampled(at, all, looks) {
                self.headers.push(group);
            } else {
                self.find(&group, group.method);
                self.unseen.push(group);
            }
        }
    }

    fn find(&mut self, group: &Group, method: Method) {
        self.found.extend(group.numbers.iter().zip(&group.uids).map(|(number, uid)| (*number, (*uid, method))));
    }

    fn leave(&mut self, group: Group) {
        self.numbers_left.extend(group.numbers);
        self.uids_left.extend(group.uids);
    }

    /// Puts a group where `next` says, or, if nothing in it is left to be told apart, with the rest.
    fn settle_or(&mut self, group: Group, next: impl FnOnce(&mut Self) -> &mut Vec<Group>) {
        if group.is_settled() {
            self.leave(group);
        } else {
            next(self).push(group);
        }
    }

    /// Numbers of the messages whose header POP3 must give.
    #[must_use]
    pub fn numbers_for_headers(&self) -> Vec<u32> {
        self.headers.iter().flat_map(|group| group.numbers.iter().copied()).collect()
    }

    /// The messages whose header IMAP must give.
    #[must_use]
    pub fn uids_for_headers(&self) -> Vec<Uid> {
        self.headers.iter().flat_map(|group| group.uids.iter().copied()).collect()
    }

    /// Numbers of the messages that POP3 must give whole, once [`Self::by_headers`] has found them.
    #[must_use]
    pub fn numbers_for_wholes(&self) -> Vec<u32> {
        self.wholes.iter().flat_map(|group| group.numbers.iter().copied()).collect()
    }

    /// The messages that IMAP must give whole.
    #[must_use]
    pub fn uids_for_wholes(&self) -> Vec<Uid> {
        self.wholes.iter().flat_map(|group| group.uids.iter().copied()).collect()
    }

    /// Whether nothing has to be read.
    #[must_use]
    pub const fn is_told_apart(&self) -> bool {
        self.headers.is_empty() && self.wholes.is_empty()
    }

    /// Tells messages apart by their headers. Where those don't do, the whole text must: servers differ in where a broken
    /// header ends.
    pub fn by_headers(&mut self, by_pop3: &HashMap<u32, TextDigest>, by_imap: &HashMap<Uid, TextDigest>) {
        let header = |digest: &TextDigest| digest.header;
        let mut alike: HashMap<[u8; 32], usize> = HashMap::new();
        by_imap.values().for_each(|digest| *alike.entry(digest.header).or_default() += 1);
        for group in std::mem::take(&mut self.headers) {
            let shared = |uid: &Uid| by_imap.get(uid).and_then(|digest| alike.get(&digest.header)) > Some(&1);
            // A size that only one has pins a message; where something else claims one, the header must not be others' as well.
            let claimed = group.is_pair() && group.method != Method::Size && group.uids.iter().any(shared);
            let (alike, rest) =
                split(&group, |number| by_pop3.get(&number).map(header), |uid| by_imap.get(&uid).map(header));
            for part in alike {
                if part.is_pair() && !claimed {
                    self.find(&part, if group.is_pair() { group.method } else { Method::Header });
                } else {
                    self.settle_or(part, |matching| &mut matching.wholes);
                }
            }
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
            let (alike, mut rest) =
                split(&group, |number| by_pop3.get(&number).map(whole), |uid| by_imap.get(&uid).map(whole));
            for part in alike {
                self.same(part, Method::Text);
            }
            if self.mixed {
                rest = self.by_bodies(&rest, by_pop3, by_imap);
            }
            unread.extend(rest.uids.iter().filter(|uid| !by_imap.contains_key(uid)));
            if rest.numbers.iter().any(|number| !by_pop3.contains_key(number)) {
                unread.extend(&rest.uids);
            }
            self.leave(rest);
        }
        if unread.is_empty() {
            return Ok(());
        }
        unread.sort_unstable();
        unread.dedup();
        let why = "one of the servers does not give their text".to_owned();
        Err(Doubt::Unread { method: BY_CONTENT.to_owned(), named: Named::uids(unread), why })
    }

    /// Messages whose texts are equal.
    fn same(&mut self, mut group: Group, method: Method) {
        group.numbers.sort_unstable();
        group.uids.sort_unstable();
        if group.is_pair() {
            self.find(&group, method);
        } else if group.numbers.len() == group.uids.len() {
            self.find(&group, Method::Twin);
        } else {
            self.uneven.push(group);
        }
    }

    /// Pairs messages of which POP3 shows another header: by their body and all fields but those that servers write, else by
    /// their body and those fields that tell who they are. Gives the rest.
    fn by_bodies(
        &mut self,
        group: &Group,
        by_pop3: &HashMap<u32, TextDigest>,
        by_imap: &HashMap<Uid, TextDigest>,
    ) -> Group {
        let header = |digest: &TextDigest| (digest.header, digest.body);
        let (alike, rest) =
            split(group, |number| by_pop3.get(&number).map(header), |uid| by_imap.get(&uid).map(header));
        for part in alike {
            self.same(part, Method::Body);
        }
        let identity = |digest: &TextDigest| Some((digest.identity?, digest.body));
        let (alike, mut rest) =
            split(&rest, |number| by_pop3.get(&number).and_then(identity), |uid| by_imap.get(&uid).and_then(identity));
        for part in alike {
            let wholes = part.uids.iter().filter_map(|uid| by_imap.get(uid)).map(|digest| digest.whole);
            if wholes.collect::<HashSet<_>>().len() == 1 {
                self.same(part, Method::Body);
            } else {
                // A header that POP3 doesn't show would tell them apart: nobody knows.
                self.tied.extend(&part.uids);
                rest.take(part);
            }
        }
        rest
    }

    /// Whether there are messages left that must be looked at more closely now: what their size alone paired, and then all that
    /// are left, whatever their size.
    pub fn look_again(&mut self) -> bool {
        if self.uids_left.is_empty() && self.numbers_left.len() <= self.newer() && self.uneven.is_empty() {
            return false;
        }
        if !self.unseen.is_empty() {
            let unseen = std::mem::take(&mut self.unseen);
            for number in unseen.iter().flat_map(|group| &group.numbers) {
                self.found.remove(number);
            }
            self.headers.extend(unseen);
            return true;
        }
        if self.mixed || self.uids_left.is_empty() || self.numbers_left.is_empty() {
            return false;
        }
        self.mixed = true;
        let (mut numbers, mut uids) = (std::mem::take(&mut self.numbers_left), std::mem::take(&mut self.uids_left));
        numbers.sort_unstable();
        uids.sort_unstable();
        self.wholes.push(Group { numbers, uids, method: Method::Text });
        true
    }

    /// Messages that came after the snapshot: they have no UID that we know.
    fn newer(&self) -> usize {
        self.snapshot.uid_next_after.0.saturating_sub(self.snapshot.contents.uid_next.0) as usize
    }

    /// The pairing that was found.
    ///
    /// # Errors
    /// [`Doubt`], if messages must be read for it, or can't be told apart.
    pub fn finish(mut self) -> Result<Pairing, Doubt> {
        if !self.is_told_apart() {
            let unread = self.headers.iter().chain(&self.wholes).flat_map(|group| group.uids.iter().copied());
            let why = "they must be read for that, and there is no time for it now".to_owned();
            return Err(Doubt::Unread { method: BY_CONTENT.to_owned(), named: Named::uids(unread), why });
        }
        if !self.tied.is_empty() {
            self.tied.sort_unstable();
            return Err(Doubt::Tied(Named::uids(self.tied)));
        }
        let certain: BTreeMap<u32, Uid> = self.found.iter().map(|(number, (uid, _))| (*number, *uid)).collect();
        for group in std::mem::take(&mut self.uneven) {
            let pairs = align(&group.numbers, &group.uids, &certain);
            let (numbers, uids): (HashSet<u32>, HashSet<Uid>) = pairs.iter().copied().unzip();
            self.numbers_left.extend(group.numbers.iter().filter(|number| !numbers.contains(number)));
            self.uids_left.extend(group.uids.iter().filter(|uid| !uids.contains(uid)));
            self.found.extend(pairs.into_iter().map(|(number, uid)| (number, (uid, Method::Twin))));
        }
        self.uids_left.sort_unstable();
        self.numbers_left.sort_unstable();
        // What arrived after the snapshot has no UID that we know; what has gone since an older list has none any more.
        if self.snapshot.list_is_older || self.numbers_left.len() <= self.newer() {
            self.numbers_left.clear();
        }
        let message = |number: u32| self.list.messages().get(number as usize - 1);
        let paired = |(number, (uid, method)): (&u32, &(Uid, Method))| {
            let (number, uid, method, message) = (*number, *uid, *method, message(*number)?);
            let (uidl, size) = (message.uidl.clone(), message.size);
            Some(Paired { number, uidl, size, uid, imap_size: self.snapshot.has(uid), method })
        };
        let stranger = |number: &u32| {
            let (uidl, size) = message(*number).map(|message| (message.uidl.clone(), message.size))?;
            Some(Stranger { number: *number, uidl, size })
        };
        Ok(Pairing {
            uid_validity: self.snapshot.contents.uid_validity,
            templates: Vec::new(),
            messages: self.found.iter().filter_map(paired).collect(),
            strangers: self.numbers_left.iter().filter_map(stranger).collect(),
            hidden: self.uids_left,
            elsewhere: Vec::new(),
            unshown: Vec::new(),
        })
    }
}

/// Whether the message at this place of so many is looked at although its size pairs it.
pub(super) fn sampled(at: usize, all: usize, looks: Looks) -> bool {
    let wanted = LOOKED_AT_MIN.max(all / ONE_OF);
    let due = |at: usize| (at * wanted).checked_div(all);
    looks == Looks::Some && (at == 0 || at + 1 == all || due(at) != due(at - 1))
}

/// How messages are paired, for a reason why they are not.
const BY_CONTENT: &str = "by size and content";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::TextHasher;
    use super::super::pairing::Policy;
    use super::super::pairing::tests::{inbox, snapshot};
    use super::super::tests::list;
    use super::*;
    use crate::mailbox::{Contents, UidNext};

    fn digest(text: &str) -> TextDigest {
        let mut hasher = TextHasher::new();
        hasher.update(text.as_bytes());
        hasher.finish()
    }

    /// What TOP n 0 gives, or all of it.
    fn part(text: &str, whole: bool) -> &str {
        let end = text.find("\n\n").map_or(text.len(), |at| at + 2);
        if whole { text } else { &text[..end] }
    }

    fn known(pairs: &[(u32, &str)]) -> KnownUidls {
        let known = |uidl: &str| (Uidl::from_octets(uidl.as_bytes()).unwrap(), Method::Text);
        pairs.iter().map(|(uid, uidl)| (Uid(*uid), known(uidl))).collect()
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

        /// `uidl=UID` in the list's order; headers and texts are given only where they are asked for.
        fn matched(&self, snapshot: &Snapshot<'_>, known: &KnownUidls) -> Result<String, Doubt> {
            let pairing = self.pairing(&self.list(), snapshot, known, None)?;
            if let Some(doubt) = pairing.doubt(Policy::default()) {
                return Err(doubt);
            }
            let shown = pairing.messages.iter().map(|paired| format!("{}={}", paired.uidl, paired.uid));
            Ok(shown.collect::<Vec<_>>().join(" "))
        }

        fn pairing(
            &self,
            list: &Pop3List,
            snapshot: &Snapshot<'_>,
            known: &KnownUidls,
            claims: Option<&Claims>,
        ) -> Result<Pairing, Doubt> {
            let mut matching = Matching::begin(list, snapshot, known, claims, Looks::Some);
            let texts = |uids: Vec<Uid>, whole: bool| -> HashMap<Uid, TextDigest> {
                let text = |uid: Uid| self.imap.iter().find(|(number, _)| *number == uid.0).unwrap().1;
                uids.into_iter().map(|uid| (uid, digest(part(text(uid), whole)))).collect()
            };
            let of_list = |numbers: Vec<u32>, whole: bool| -> HashMap<u32, TextDigest> {
                let text = |number: u32| self.pop3[number as usize - 1];
                numbers.into_iter().map(|number| (number, digest(part(text(number), whole)))).collect()
            };
            loop {
                let imap = texts(matching.uids_for_headers(), false);
                matching.by_headers(&of_list(matching.numbers_for_headers(), false), &imap);
                let imap = texts(matching.uids_for_wholes(), true);
                matching.by_wholes(&of_list(matching.numbers_for_wholes(), true), &imap)?;
                if !matching.look_again() {
                    return matching.finish();
                }
            }
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
        assert!(matches!(mail.found(), Err(Doubt::Strangers(_))));
        let many: Vec<(u32, String)> =
            (1..=50).map(|uid| (uid, format!("A: 1\n\n{}", "x".repeat(uid as usize)))).collect();
        let imap: Vec<(u32, &str)> = many.iter().map(|(uid, text)| (*uid, text.as_str())).collect();
        let pop3: Vec<&str> = many.iter().map(|(_, text)| text.as_str()).collect();
        let contents = Mail { imap: &imap, pop3: &pop3 }.contents();
        let list = Mail { imap: &imap, pop3: &pop3 }.list_of_numbers();
        let snapshot = snapshot(&contents);
        let matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), None, Looks::Some);
        let looked_at: Vec<u32> = matching.uids_for_headers().iter().map(|uid| uid.0).collect();
        assert!(looked_at.len() >= LOOKED_AT_MIN && looked_at.len() < 20, "{looked_at:?}");
        assert_eq!((looked_at.first(), looked_at.last()), (Some(&1), Some(&50)));
        assert!(Matching::begin(&list, &snapshot, &KnownUidls::new(), None, Looks::None).is_told_apart());
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
        assert!(Matching::begin(&list, &snapshot, &before, None, Looks::Some).is_told_apart());
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
        assert_eq!(mail.matched(&older, &known(&[(1, "b")])).unwrap(), "b=1", "the other is gone meanwhile");
        let (list, hidden) = (mail.list(), vec![Uid(1)]);
        for (before, why) in [
            (KnownUidls::new(), "a size in an old list proves nothing"),
            (known(&[(7, "b")]), "nor does that of a message that is gone"),
        ] {
            let pairing = Matching::begin(&list, &older, &before, None, Looks::None).finish().unwrap();
            assert_eq!(pairing.hidden, hidden, "{why}");
        }
    }

    #[test]
    fn nothing_is_certain_that_could_not_be_read() {
        let contents = inbox(9, &[(1, 10), (2, 10)]);
        let (list, snapshot) = (list(&[("a", 10), ("b", 10)]), snapshot(&contents));
        let matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), None, Looks::None);
        assert!(matching.finish().unwrap_err().to_string().contains("no time"));
        let mut matching = Matching::begin(&list, &snapshot, &KnownUidls::new(), None, Looks::None);
        matching.by_headers(&HashMap::new(), &HashMap::new());
        let doubt = matching.by_wholes(&HashMap::new(), &HashMap::new()).unwrap_err();
        assert!(doubt.to_string().contains("UID 1, 2 can't be compared"), "{doubt}");
    }

    /// `uidl=UID method` of all that were found, `-uid` of those that POP3 doesn't show, `+uidl` of those that INBOX lacks.
    fn told(pairing: &Pairing) -> String {
        let pairs =
            pairing.messages.iter().map(|paired| format!("{}={} {}", paired.uidl, paired.uid, paired.method.as_str()));
        let hidden = pairing.hidden.iter().map(|uid| format!("-{uid}"));
        let strangers = pairing.strangers.iter().map(|stranger| format!("+{}", stranger.uidl));
        pairs.chain(hidden).chain(strangers).collect::<Vec<_>>().join(", ")
    }

    impl Mail<'_> {
        fn told(&self) -> String {
            let contents = self.contents();
            self.pairing(&self.list(), &snapshot(&contents), &KnownUidls::new(), None)
                .map_or_else(|doubt| doubt.to_string(), |pairing| told(&pairing))
        }
    }

    #[test]
    fn headers_that_pop3_adds_or_folds_anew_hide_no_message_whatever_sizes_they_make() {
        let mail = Mail {
            imap: &[
                (1, "Subject: a b\n\nx"),
                (2, "From: f\nSubject: c\n\nlonger"),
                (3, "From: f\nSubject: c\n\nlonges"),
            ],
            pop3: &[
                "X-UIDL: 7\nFrom: f\nSubject: c\n\nlonges",
                "Received: by pop\nX-UIDL: 8\nFrom: f\nSubject: c\n\nlonger",
                "Subject: a\n b\n\nx",
            ],
        };
        assert_eq!(mail.told(), "a=3 body, b=2 body, c=1 body");
        // Of the same size, but folded.
        let mail = Mail { imap: &[(1, "Subject: a b c\n\nx")], pop3: &["Subject: a\tb c\n\nx"] };
        assert_eq!(mail.told(), "a=1 size");
    }

    #[test]
    fn sizes_that_pop3_counts_otherwise_don_t_matter() {
        let mail = Mail { imap: &[(1, "A: 1\n\nx"), (2, "A: 2\n\nyy"), (3, "A: 2\n\nzz")], pop3: &["", "", ""] };
        let contents = mail.contents();
        let texts = ["A: 2\n\nyy", "A: 1\n\nx", "A: 2\n\nzz"];
        let list = list(&[("a", 12), ("b", 10), ("c", 12)]);
        let told = told(
            &Mail { pop3: &texts, ..mail }.pairing(&list, &snapshot(&contents), &KnownUidls::new(), None).unwrap(),
        );
        assert_eq!(told, "a=2 text, b=1 text, c=3 text");
    }

    #[test]
    fn what_only_a_header_tells_apart_that_pop3_does_not_show_is_no_guess() {
        let mail = Mail {
            imap: &[(1, "To: a\nFrom: f\nSubject: s\n\nx"), (2, "To: b\nFrom: f\nSubject: s\n\nx")],
            pop3: &["From: f\nSubject: s\n\nx", "From: f\nSubject: s\n\nx"],
        };
        assert_eq!(mail.told(), "POP3 shows other headers than IMAP, and without them UID 1, 2 can't be told apart");
        let twins = Mail {
            imap: &[(1, "To: a\nFrom: f\nSubject: s\n\nx"), (2, "To: a\nFrom: f\nSubject: s\n\nx")],
            pop3: &["From: f\nSubject: s\n\nx", "From: f\nSubject: s\n\nx"],
        };
        assert_eq!(twins.told(), "a=1 twin, b=2 twin");
    }

    #[test]
    fn where_one_is_left_over_no_size_is_trusted() {
        // The sizes pair a with UID 2, of which only the header tells that it is another message.
        let texts: Vec<String> = (1..=40).map(|size| format!("A: 1\n\n{}", "x".repeat(size))).collect();
        let mut imap: Vec<(u32, &str)> = (1..).zip(texts.iter().map(String::as_str)).collect();
        let pop3: Vec<&str> = imap.iter().map(|(_, text)| *text).collect();
        let other = texts[1].replace('A', "B");
        imap[1].1 = &other;
        let unseen = Mail { imap: &imap, pop3: &pop3 };
        let contents = unseen.contents();
        let list = unseen.list_of_numbers();
        let left = |list: &Pop3List, mail: &Mail<'_>, contents: &Contents| {
            let pairing = mail.pairing(list, &snapshot(contents), &KnownUidls::new(), None).unwrap();
            (
                pairing.hidden.clone(),
                pairing.strangers.iter().map(|stranger| stranger.uidl.to_string()).collect::<Vec<_>>(),
            )
        };
        let more = [&imap[..], &[(77, "A: 9\n\nmore")]].concat();
        let mail = Mail { imap: &more, pop3: &pop3 };
        assert_eq!(left(&list, &mail, &mail.contents()), (vec![Uid(2), Uid(77)], vec!["n2".to_owned()]));
        drop(contents);
    }

    #[test]
    fn of_twins_of_which_one_is_hidden_the_one_in_the_same_place_is_shown() {
        let mail = Mail {
            imap: &[(1, "A: 1\n\ntwin"), (2, "A: 2\n\nlonger"), (3, "A: 1\n\ntwin")],
            pop3: &["A: 2\n\nlonger", "A: 1\n\ntwin"],
        };
        assert_eq!(mail.told(), "a=2 size, b=3 twin, -1");
    }

    #[test]
    fn a_field_of_the_message_tells_its_uidl_if_the_message_is_the_one() {
        let imap = [(1, "A: 1\n\nx"), (2, "A: 2\n\nx"), (3, "A: 3\n\nx"), (4, "A: 4\n\ny2")];
        let mail = Mail { imap: &imap, pop3: &["A: 2\n\nx", "A: 1\n\nx", "A: 3\n\nx", "A: 4\n\ny2"] };
        let contents = mail.contents();
        let claimed = |uidls: &[&str], claims: &[(u32, &str)]| {
            let messages: Vec<(&str, u64)> =
                uidls.iter().zip(mail.pop3).map(|(uidl, text)| (*uidl, text.len() as u64)).collect();
            let uidl = |text: &str| Uidl::from_octets(text.as_bytes()).unwrap();
            let uidls = claims.iter().map(|(uid, text)| (Uid(*uid), uidl(text))).collect();
            let claims = Claims { method: Method::Field, uidls };
            told(&mail.pairing(&list(&messages), &snapshot(&contents), &KnownUidls::new(), Some(&claims)).unwrap())
        };
        assert_eq!(
            claimed(&["2", "1", "c", "d"], &[(1, "1"), (2, "2"), (4, "z")]),
            "2=2 x-uidl, 1=1 x-uidl, c=3 size, d=4 size"
        );
        // A field that stands in another message, or in two.
        assert_eq!(claimed(&["1", "2", "c", "d"], &[(1, "1"), (2, "2")]), "1=2 text, 2=1 text, c=3 size, d=4 size");
        assert_eq!(
            claimed(&["a", "b", "c", "d"], &[(1, "a"), (2, "a")]),
            "a=2 header, b=1 header, c=3 header, d=4 size"
        );
    }
}
