//! POP3 orders: the numbers by which a Dovecot sorts its POP3 list. Messages that have one come first, by it; those that have
//! none follow by UID (measured on Maildir and mdbox). A message gets its number when it is written and keeps it.

use std::collections::BTreeMap;

use crate::mailbox::Uid;

/// Between two neighbours: room for ten messages to be put one before the other between them.
const STEP: u32 = 1024;

/// Where the first of a list goes: servers that show the newest message first need room below.
const MIDDLE: u32 = 1 << 31;

/// The orders of messages, by UID: none is "behind all numbers, by UID".
pub type Orders = BTreeMap<Uid, Option<u32>>;

/// A list whose order the target can't be given any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOrder {
    /// It was another order when the messages were written.
    #[error("the old side shows UID {first} before UID {second} now, and the other way round when they were copied")]
    Changed {
        /// The first of two messages.
        first: Uid,
        /// The one behind it.
        second: Uid,
    },
    /// No number is left there.
    #[error("the old side shows UID {uid} between messages between which the new side has no place left")]
    NoRoom {
        /// The message.
        uid: Uid,
    },
}

/// The orders of the messages in `list` (in the server's order) that are not among `written`, so that all of them are
/// shown in this order. `numbered`: they get numbers in any case, because what comes later may come between them.
///
/// # Errors
/// [`NoOrder`]
pub fn assign(list: &[Uid], written: &Orders, numbered: bool) -> Result<Orders, NoOrder> {
    let numbered = numbered || written.values().any(Option::is_some) || !list.is_sorted();
    let mut assigned = Orders::new();
    let mut before: Option<(Uid, Option<u32>)> = None;
    let mut run: Vec<Uid> = Vec::new();
    for &uid in list {
        let Some(&order) = written.get(&uid) else {
            run.push(uid);
            continue;
        };
        if let Some((first, number)) = before
            && key(first, number) > key(uid, order)
        {
            return Err(NoOrder::Changed { first, second: uid });
        }
        place(&run, before, Some((uid, order)), numbered, &mut assigned)?;
        run.clear();
        before = Some((uid, order));
    }
    place(&run, before, None, numbered, &mut assigned)?;
    Ok(assigned)
}

/// What Dovecot sorts by.
fn key(uid: Uid, order: Option<u32>) -> (bool, u32) {
    order.map_or((true, uid.0), |order| (false, order))
}

/// Gives the messages of `run` places between two that are written.
fn place(
    run: &[Uid],
    before: Option<(Uid, Option<u32>)>,
    after: Option<(Uid, Option<u32>)>,
    numbered: bool,
    assigned: &mut Orders,
) -> Result<(), NoOrder> {
    let Some((&first, &last)) = run.first().zip(run.last()) else { return Ok(()) };
    let behind_numbers = matches!(before, Some((_, None)));
    if behind_numbers || !numbered {
        // Only by UID: there is no number behind a message that has none.
        let lower = before.is_none_or(|(uid, order)| key(uid, order) < key(first, None));
        let upper = after.is_none_or(|(uid, order)| key(last, None) < key(uid, order));
        if !(run.is_sorted() && lower && upper) {
            return Err(NoOrder::NoRoom { uid: first });
        }
        assigned.extend(run.iter().map(|&uid| (uid, None)));
        return Ok(());
    }
    let low = before.and_then(|(_, order)| order);
    let high = after.and_then(|(_, order)| order);
    let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
    let numbers = numbers(low, high, count).ok_or(NoOrder::NoRoom { uid: first })?;
    assigned.extend(run.iter().copied().zip(numbers.map(Some)));
    Ok(())
}

/// `count` numbers between `low` and `high`, both of which are taken.
fn numbers(low: Option<u32>, high: Option<u32>, count: u32) -> Option<impl Iterator<Item = u32>> {
    let (low, high, count) = (low.map(u64::from), high.map(u64::from), u64::from(count));
    let (step, first) = match (low, high) {
        (Some(low), Some(high)) => {
            let step = (high.checked_sub(low)? / (count + 1)).min(u64::from(STEP));
            (step, low + step)
        }
        (Some(low), None) => {
            let step = ((u64::from(u32::MAX) - low) / (count + 1)).min(u64::from(STEP));
            (step, low + step)
        }
        (None, Some(high)) => {
            let step = (high / (count + 1)).min(u64::from(STEP));
            (step, high - step * count)
        }
        (None, None) => {
            let step = (u64::from(MIDDLE) / (count + 1)).min(u64::from(STEP));
            (step, u64::from(MIDDLE) - step * count / 2)
        }
    };
    // 0 means that there is none.
    (step > 0 && first > 0).then(|| (0..count).filter_map(move |at| u32::try_from(first + at * step).ok()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uids(numbers: &[u32]) -> Vec<Uid> {
        numbers.iter().copied().map(Uid).collect()
    }

    /// As Dovecot shows them.
    fn shown(orders: &Orders) -> Vec<u32> {
        let mut keys: Vec<_> = orders.iter().map(|(uid, order)| (key(*uid, *order), uid.0)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, uid)| uid).collect()
    }

    /// Writes each list in turn; what has gone from the list is gone from the target.
    fn follow(lists: &[&[u32]]) -> Result<Orders, NoOrder> {
        let mut written = Orders::new();
        for list in lists {
            written.retain(|uid, _| list.contains(&uid.0));
            let assigned = assign(&uids(list), &written, false)?;
            written.extend(assigned);
            assert_eq!(shown(&written), *list);
        }
        Ok(written)
    }

    #[test]
    fn an_order_by_uid_needs_no_numbers() {
        let written = follow(&[&[1, 2, 5], &[2, 5, 9, 10]]).unwrap();
        assert!(written.values().all(Option::is_none));
        assert!(follow(&[&[]]).unwrap().is_empty());
    }

    #[test]
    fn an_order_by_uid_gets_numbers_where_something_may_come_between() {
        let written = assign(&uids(&[1, 2, 5]), &Orders::new(), true).unwrap();
        assert_eq!((shown(&written), written.values().all(Option::is_some)), (vec![1, 2, 5], true));
        let between = assign(&uids(&[1, 9, 2, 5]), &written, true).unwrap();
        let all: Orders = written.into_iter().chain(between).collect();
        assert_eq!(shown(&all), [1, 9, 2, 5]);
    }

    #[test]
    fn a_shuffled_list_and_what_comes_later_anywhere_in_it() {
        follow(&[&[5, 1, 3], &[5, 1, 3, 9], &[5, 12, 1, 11, 3, 9, 10], &[20, 5, 12, 1, 11, 3, 9, 10]]).unwrap();
        follow(&[&[3], &[4, 3], &[6, 5, 4, 3]]).unwrap();
    }

    #[test]
    fn where_no_place_is_left_the_message_is_named() {
        assert_eq!(follow(&[&[1, 2, 3], &[1, 4, 2, 3]]), Err(NoOrder::NoRoom { uid: Uid(4) }));
        assert_eq!(
            follow(&[&[1, 2, 3], &[2, 1, 3]]),
            Err(NoOrder::Changed { first: Uid(2), second: Uid(1) }),
            "written messages keep their places"
        );
        // Each new one between the same two halves the room.
        let halves: Vec<Vec<u32>> =
            (0..20).map(|round| [vec![2], (10..10 + round).rev().collect(), vec![1]].concat()).collect();
        let lists: Vec<&[u32]> = halves.iter().map(Vec::as_slice).collect();
        assert!(matches!(follow(&lists), Err(NoOrder::NoRoom { .. })));
        follow(&lists[..10]).unwrap();
    }

    #[test]
    fn half_a_million_messages_find_room() {
        let list: Vec<Uid> = (1..=500_000).rev().map(Uid).collect();
        let orders = assign(&list, &Orders::new(), false).unwrap();
        assert_eq!(orders.len(), list.len());
        assert!(list.windows(2).all(|two| orders[&two[0]] < orders[&two[1]]));
    }

    proptest! {
        #[test]
        fn what_is_assigned_is_shown_in_the_order_asked_for(
            first in Just((1..15_u32).collect::<Vec<_>>()).prop_shuffle(),
            second in Just((1..25_u32).collect::<Vec<_>>()).prop_shuffle(),
            gone in prop::collection::vec(1..15_u32, 0..5),
        ) {
            // The old messages in their first order without those that are gone, new ones anywhere between them.
            let mut old = first.iter().filter(|uid| !gone.contains(uid));
            let list: Vec<u32> = second
                .iter()
                .filter(|uid| **uid >= 15 || !gone.contains(uid))
                .filter_map(|uid| if *uid < 15 { old.next().copied() } else { Some(*uid) })
                .collect();
            if first.is_sorted() {
                return Ok(());
            }
            follow(&[&first, &list]).unwrap();
        }
    }
}
