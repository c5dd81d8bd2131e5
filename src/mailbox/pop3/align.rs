//! Which of several equal messages POP3 shows, where it shows fewer of them than IMAP has, or more: those that stand in the same
//! place of both lists. To a client they are all the same; but the order is kept.

use std::collections::BTreeMap;

use crate::mailbox::Uid;

/// Pairs numbers with UIDs, both ascending and of equal messages: as many as there are of the fewer ones. `found` are the
/// pairs that are certain.
pub(super) fn align(numbers: &[u32], uids: &[Uid], found: &BTreeMap<u32, Uid>) -> Vec<(u32, Uid)> {
    let (mut numbers, mut uids) = (numbers.to_vec(), uids.to_vec());
    let mut pairs = Vec::with_capacity(numbers.len().min(uids.len()));
    let mut next = 0;
    // Both are walked once: what fits between the neighbours of a number comes first.
    if numbers.len() != uids.len() {
        numbers.retain(|&number| {
            let before = found.range(..number).next_back().map_or(0, |(_, uid)| uid.0);
            let behind = found.range(number..).next().map_or(u32::MAX, |(_, uid)| uid.0);
            let at = uids.partition_point(|uid| uid.0 < before).max(next);
            match uids.get(at).filter(|uid| uid.0 < behind) {
                Some(uid) => {
                    pairs.push((number, *uid));
                    next = at + 1;
                    false
                }
                None => true,
            }
        });
        uids.retain(|uid| pairs.binary_search_by_key(uid, |(_, uid)| *uid).is_err());
    }
    pairs.extend(numbers.into_iter().zip(uids));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(numbers: &[u32], uids: &[u32], found: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let uids: Vec<Uid> = uids.iter().copied().map(Uid).collect();
        let found = found.iter().map(|(number, uid)| (*number, Uid(*uid))).collect();
        align(numbers, &uids, &found).into_iter().map(|(number, uid)| (number, uid.0)).collect()
    }

    #[test]
    fn the_one_that_stands_in_the_same_place_is_the_one() {
        assert_eq!(aligned(&[2], &[3, 9], &[(1, 5), (3, 12)]), [(2, 9)]);
        assert_eq!(aligned(&[2], &[3, 9], &[(1, 2), (3, 4)]), [(2, 3)]);
        assert_eq!(aligned(&[1, 4], &[3, 9, 20], &[(2, 5), (3, 12)]), [(1, 3), (4, 20)]);
        assert_eq!(aligned(&[2, 5], &[9], &[(1, 5), (3, 12)]), [(2, 9)], "POP3 shows more than there are");
        assert_eq!(aligned(&[2, 5], &[20], &[(1, 5), (3, 12)]), [(5, 20)]);
    }

    #[test]
    fn where_no_place_is_the_same_they_are_paired_in_order() {
        assert_eq!(aligned(&[2, 3], &[4, 8], &[(1, 90), (4, 1)]), [(2, 4), (3, 8)]);
        assert_eq!(aligned(&[2, 3], &[4, 8, 9], &[(1, 90), (4, 1)]), [(2, 4), (3, 8)]);
        assert_eq!(aligned(&[], &[4], &[]), []);
    }
}
