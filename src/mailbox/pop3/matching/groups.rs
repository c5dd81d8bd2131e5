//! Messages of both lists that may be the same.

use std::collections::{BTreeMap, HashMap};

use crate::mailbox::Uid;
use crate::mailbox::pop3::Pop3List;
use crate::mailbox::pop3::pairing::{Method, Snapshot};

/// Messages of the list (by number) and of the snapshot that may be the same: all that are alike in what is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) numbers: Vec<u32>,
    pub(super) uids: Vec<Uid>,
    /// How they are paired, if there is one of each.
    pub(super) method: Method,
}

impl Group {
    const fn empty() -> Self {
        Self { numbers: Vec::new(), uids: Vec::new(), method: Method::Text }
    }

    /// One of each.
    pub(super) fn pair(number: u32, uid: Uid, method: Method) -> Self {
        Self { numbers: vec![number], uids: vec![uid], method }
    }

    /// Whether there is one of each.
    pub(super) const fn is_pair(&self) -> bool {
        self.numbers.len() == 1 && self.uids.len() == 1
    }

    /// Nothing is left to be told apart.
    pub(super) const fn is_settled(&self) -> bool {
        self.numbers.is_empty() || self.uids.is_empty()
    }

    /// Takes in another group's messages.
    pub(super) fn take(&mut self, other: Self) {
        self.numbers.extend(other.numbers);
        self.uids.extend(other.uids);
    }
}

/// How many messages have a size, on both sides.
pub(super) struct Sizes(HashMap<u64, (u32, u32)>);

impl Sizes {
    pub(super) fn of(list: &Pop3List, snapshot: &Snapshot<'_>) -> Self {
        let mut sizes: HashMap<u64, (u32, u32)> = HashMap::with_capacity(list.messages().len());
        list.messages().iter().for_each(|message| sizes.entry(message.size).or_default().0 += 1);
        snapshot.contents.messages.iter().for_each(|message| sizes.entry(message.size).or_default().1 += 1);
        Self(sizes)
    }

    /// Whether one message has it on each side.
    pub(super) fn has_one(&self, size: u64) -> bool {
        self.0.get(&size) == Some(&(1, 1))
    }
}

/// Messages of the same size, in the order of the sizes. Both lists are sorted once and walked once.
pub(super) fn by_size(mut numbers: Vec<(u64, u32)>, mut uids: Vec<(u64, Uid)>) -> Vec<Group> {
    numbers.sort_unstable();
    uids.sort_unstable();
    let (mut numbers, mut uids) = (numbers.into_iter().peekable(), uids.into_iter().peekable());
    let mut groups = Vec::new();
    while let Some(size) =
        [numbers.peek().map(|(size, _)| *size), uids.peek().map(|(size, _)| *size)].into_iter().flatten().min()
    {
        let mut group = Group::empty();
        while let Some((_, number)) = numbers.next_if(|(other, _)| *other == size) {
            group.numbers.push(number);
        }
        while let Some((_, uid)) = uids.next_if(|(other, _)| *other == size) {
            group.uids.push(uid);
        }
        groups.push(group);
    }
    groups
}

/// The messages of a group that are alike on both sides, and the rest.
pub(super) fn split<K: Ord>(
    group: &Group,
    of_number: impl Fn(u32) -> Option<K>,
    of_uid: impl Fn(Uid) -> Option<K>,
) -> (Vec<Group>, Group) {
    let (mut alike, mut rest): (BTreeMap<K, Group>, Group) = (BTreeMap::new(), Group::empty());
    for &number in &group.numbers {
        match of_number(number) {
            Some(key) => alike.entry(key).or_insert_with(Group::empty).numbers.push(number),
            None => rest.numbers.push(number),
        }
    }
    for &uid in &group.uids {
        match of_uid(uid) {
            Some(key) => alike.entry(key).or_insert_with(Group::empty).uids.push(uid),
            None => rest.uids.push(uid),
        }
    }
    let (settled, alike): (Vec<Group>, Vec<Group>) = alike.into_values().partition(Group::is_settled);
    for group in settled {
        rest.take(group);
    }
    rest.method = group.method;
    (alike, rest)
}
