//! Proves on the messages themselves that POP3 shows under each UIDL the message that its UID is.
//!
//! Templates can hit by coincidence. So each pair's sizes must be equal; a size that only one message has pins it down, and some
//! of those messages are looked at all the same. Messages that share a size are told apart by their headers, and where those are
//! equal too by their whole text; messages that are equal in all that are the same to every client.

use std::collections::{BTreeSet, HashMap};

use super::matching::{Looks, sampled};
use super::pairing::{Doubt, Named, Paired, Pairing};
use super::text::TextDigest;
use crate::mailbox::Uid;

/// What is known of the messages' texts on one side of the comparison.
pub type Texts = HashMap<Uid, TextDigest>;

/// A proof under way.
#[derive(Debug)]
pub struct Proof<'a> {
    pairing: &'a Pairing,
    /// Those that share their size with another, and some others.
    headers: Vec<&'a Paired>,
    /// Those that share their header, too.
    wholes: Vec<&'a Paired>,
}

impl<'a> Proof<'a> {
    /// Compares sizes. Messages for which `proved` is true were proved before: a UIDL never changes hands. `looks`: whether some
    /// are looked at that have a size of their own.
    ///
    /// # Errors
    /// [`Doubt::Sizes`]
    pub fn begin(pairing: &'a Pairing, proved: impl Fn(Uid) -> bool, looks: Looks) -> Result<Self, Doubt> {
        let other = |paired: &&Paired| paired.imap_size.is_some_and(|size| size != paired.size);
        let mut others = pairing.messages.iter().filter(other).map(|paired| paired.uid);
        if let Some(one) = others.next() {
            return Err(Doubt::Sizes(Named::uids(std::iter::once(one).chain(others))));
        }
        let mut sharing: HashMap<u64, (usize, bool)> = HashMap::new();
        let unproved = pairing.messages.iter().filter(|paired| !proved(paired.uid));
        for paired in unproved.clone() {
            let (count, newer) = sharing.entry(paired.size).or_default();
            *count += 1;
            *newer |= paired.imap_size.is_none();
        }
        let (mut headers, mut wholes, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for paired in unproved.filter(|paired| paired.imap_size.is_some()) {
            match sharing.get(&paired.size) {
                Some((2.., false)) => headers.push(paired),
                // The header of the one that is not in the snapshot is not known: only the whole text will do.
                Some((2.., true)) => wholes.push(paired),
                _ => alone.push(paired),
            }
        }
        let all = alone.len();
        headers
            .extend(alone.into_iter().enumerate().filter(|(at, _)| sampled(*at, all, looks)).map(|(_, paired)| paired));
        Ok(Self { pairing, headers, wholes })
    }

    /// Gives up the proof of messages whose text can't be read: they are not copied as long as that is so.
    pub fn leave_out(&mut self, unreadable: &BTreeSet<Uid>) {
        self.headers.retain(|paired| !unreadable.contains(&paired.uid));
        self.wholes.retain(|paired| !unreadable.contains(&paired.uid));
    }

    /// Messages whose headers must be compared.
    #[must_use]
    pub fn headers(&self) -> &[&'a Paired] {
        &self.headers
    }

    /// Messages whose whole text must be compared, once [`Self::compare_headers`] has found them.
    #[must_use]
    pub fn wholes(&self) -> &[&'a Paired] {
        &self.wholes
    }

    /// Compares the headers that POP3 and IMAP gave.
    ///
    /// # Errors
    /// [`Doubt::Contents`], [`Doubt::Unread`]
    pub fn compare_headers(&mut self, by_pop3: &Texts, by_imap: &Texts) -> Result<(), Doubt> {
        self.compare(&self.headers, by_pop3, by_imap, |text| text.header)?;
        let mut sharing: HashMap<(u64, [u8; 32]), usize> = HashMap::new();
        let key = |paired: &Paired| by_imap.get(&paired.uid).map(|text| (paired.size, text.header));
        for key in self.headers.iter().filter_map(|paired| key(paired)) {
            *sharing.entry(key).or_default() += 1;
        }
        let tied = |paired: &&&Paired| key(paired).and_then(|key| sharing.get(&key)).is_some_and(|count| *count > 1);
        self.wholes.extend(self.headers.iter().filter(tied));
        Ok(())
    }

    /// Compares the whole texts that POP3 and IMAP gave. Without an error everything is proved.
    ///
    /// # Errors
    /// [`Doubt::Contents`], [`Doubt::Unread`]
    pub fn compare_wholes(&self, by_pop3: &Texts, by_imap: &Texts) -> Result<(), Doubt> {
        self.compare(&self.wholes, by_pop3, by_imap, |text| text.whole)
    }

    fn compare(
        &self,
        messages: &[&Paired],
        by_pop3: &Texts,
        by_imap: &Texts,
        part: impl Fn(&TextDigest) -> [u8; 32],
    ) -> Result<(), Doubt> {
        let (mut unread, mut other) = (Vec::new(), Vec::new());
        for paired in messages {
            match (by_pop3.get(&paired.uid), by_imap.get(&paired.uid)) {
                (Some(one), Some(two)) if part(one) == part(two) => {}
                (Some(_), Some(_)) => other.push(format!("UID {} is not {}", paired.uid, paired.uidl)),
                _ => unread.push(paired.uid),
            }
        }
        let method = self.pairing.method();
        if !other.is_empty() {
            return Err(Doubt::Contents { method, named: Named::of(other) });
        }
        if !unread.is_empty() {
            let why = "one of the servers does not give their text".to_owned();
            return Err(Doubt::Unread { method, named: Named::uids(unread), why });
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::pairing::tests::{inbox, snapshot};
    use super::super::tests::list;
    use super::super::{Snapshot, TextHasher, pair};
    use super::*;
    use crate::mailbox::{Contents, UidNext};

    /// Pairs by `%u`.
    fn pairing(inbox: &Contents, messages: &[(&str, u64)]) -> Pairing {
        pair(&list(messages), &snapshot(inbox)).unwrap()
    }

    fn texts(texts: &[(u32, &str)]) -> Texts {
        let digest = |text: &str| {
            let mut hasher = TextHasher::new();
            hasher.update(text.as_bytes());
            hasher.finish()
        };
        texts.iter().map(|(uid, text)| (Uid(*uid), digest(text))).collect()
    }

    fn uids(messages: &[&Paired]) -> Vec<u32> {
        messages.iter().map(|paired| paired.uid.0).collect()
    }

    #[test]
    fn a_size_of_its_own_pins_a_message_and_a_wrong_size_refutes_it() {
        let inbox = inbox(9, &[(1, 10), (2, 20), (3, 30)]);
        let good = pairing(&inbox, &[("1", 10), ("2", 20), ("3", 30)]);
        let proof = Proof::begin(&good, |_| false, Looks::None).unwrap();
        assert!(proof.headers().is_empty() && proof.wholes().is_empty());
        assert_eq!(Proof::begin(&good, |_| false, Looks::Some).unwrap().headers().len(), 3, "few are all looked at");
        let swapped = pairing(&inbox, &[("1", 10), ("2", 30), ("3", 20)]);
        let doubt = Proof::begin(&swapped, |_| false, Looks::None).unwrap_err();
        assert_eq!(doubt.to_string(), "POP3 and IMAP tell different sizes for UID 2, 3");
        assert!(
            Proof::begin(&swapped, |_| true, Looks::None).is_err(),
            "sizes must be equal even where they were before"
        );
    }

    #[test]
    fn headers_tell_messages_of_one_size_apart_and_texts_those_of_one_header() {
        let inbox = inbox(9, &[(1, 10), (2, 10), (3, 10), (4, 40)]);
        let pairing = pairing(&inbox, &[("1", 10), ("2", 10), ("3", 10), ("4", 40)]);
        let mut proof = Proof::begin(&pairing, |_| false, Looks::None).unwrap();
        assert_eq!(uids(proof.headers()), [1, 2, 3]);
        let imap = texts(&[(1, "A: 1\n\nx"), (2, "A: 2\n\nx"), (3, "A: 2\n\ny")]);
        proof.compare_headers(&texts(&[(1, "A: 1\n\n"), (2, "A: 2\n\n"), (3, "A: 2\n\n")]), &imap).unwrap();
        assert_eq!(uids(proof.wholes()), [2, 3]);
        proof.compare_wholes(&imap, &imap).unwrap();
        let swapped = texts(&[(2, "A: 2\n\ny"), (3, "A: 2\n\nx")]);
        let doubt = proof.compare_wholes(&swapped, &imap).unwrap_err().to_string();
        assert!(doubt.ends_with("UID 2 is not 2, UID 3 is not 3"), "{doubt}");
        let missing = proof.compare_wholes(&texts(&[(2, "A: 2\n\nx")]), &imap).unwrap_err();
        assert!(missing.to_string().contains("UID 3 can't be compared"), "{missing}");
    }

    #[test]
    fn swapped_headers_refute_the_pairing() {
        let inbox = inbox(9, &[(1, 10), (2, 10)]);
        let pairing = pairing(&inbox, &[("1", 10), ("2", 10)]);
        let mut proof = Proof::begin(&pairing, |_| false, Looks::None).unwrap();
        let (imap, pop3) = (texts(&[(1, "A: 1"), (2, "A: 2")]), texts(&[(1, "A: 2"), (2, "A: 1")]));
        let doubt = proof.compare_headers(&pop3, &imap).unwrap_err();
        assert!(matches!(doubt, Doubt::Contents { .. }), "{doubt}");
        assert!(proof.compare_headers(&Texts::new(), &imap).is_err(), "nothing read proves nothing");
    }

    #[test]
    fn only_what_is_new_is_proved_again() {
        let inbox = inbox(9, &[(1, 10), (2, 10), (3, 10), (4, 10)]);
        let pairing = pairing(&inbox, &[("1", 10), ("2", 10), ("3", 10), ("4", 10)]);
        assert!(Proof::begin(&pairing, |_| true, Looks::None).unwrap().headers().is_empty());
        assert!(Proof::begin(&pairing, |uid| uid.0 < 4, Looks::None).unwrap().headers().is_empty(), "the only new one");
        assert_eq!(uids(Proof::begin(&pairing, |uid| uid.0 < 3, Looks::None).unwrap().headers()), [3, 4]);
    }

    #[test]
    fn one_that_shares_its_size_with_a_newer_message_is_compared_as_a_whole() {
        let inbox = inbox(9, &[(1, 10)]);
        let later = Snapshot { uid_next_after: UidNext(10), ..snapshot(&inbox) };
        let pairing = pair(&list(&[("1", 10), ("9", 10)]), &later).unwrap();
        let proof = Proof::begin(&pairing, |_| false, Looks::None).unwrap();
        assert_eq!((uids(proof.headers()), uids(proof.wholes())), (vec![], vec![1]));
    }
}
