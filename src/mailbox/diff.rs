//! What must be done to one mailbox on the target so that it becomes what the source is: a pure plan.
//!
//! The target only appends (DESIGN §5): a message can be added above everything the target has ever had, flags can be
//! changed, a message can be expunged; anything else means that the mailbox is spoilt and must be rebuilt.

use super::account::Contents;
use super::message::{Keywords, Message, SystemFlags};
use super::model::{ModSeq, Uid, UidNext, UidValidity};

/// The steps for one mailbox, each list ascending by UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxPlan {
    /// Messages the target has and the source no longer has.
    pub expunge: Vec<Uid>,
    /// Messages whose flags or keywords differ, or whose mod-sequence is below the source's.
    pub flags: Vec<FlagChange>,
    /// Messages to add: indices into the source's list.
    pub save: Vec<usize>,
    /// The target's UIDNEXT or HIGHESTMODSEQ must be raised though no message changes.
    pub raise: bool,
}

impl MailboxPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expunge.is_empty() && self.flags.is_empty() && self.save.is_empty() && !self.raise
    }
}

/// How the flags of one message must change on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// Which message.
    pub uid: Uid,
    /// All system flags it shall have.
    pub flags: SystemFlags,
    /// Those it has now.
    pub had: SystemFlags,
    /// Keywords it keeps.
    pub keep: Vec<String>,
    /// Keywords it gains.
    pub add: Vec<String>,
    /// Keywords it loses.
    pub remove: Vec<String>,
    /// The source's mod-sequence.
    pub modseq: ModSeq,
}

/// Why a target mailbox can't be brought up to date by appending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spoilt {
    /// The mailbox was re-created on one side.
    #[error("UIDVALIDITY is {old} on the old side and {new} on the new side")]
    UidValidity {
        /// The source's.
        old: UidValidity,
        /// The target's.
        new: UidValidity,
    },
    /// The target promised away UIDs that the source still can give out.
    #[error(
        "UIDNEXT is {new} on the new side and only {old} on the old side: the new side got mail of its own, or its server \
         died while it wrote a Maildir"
    )]
    UidNext {
        /// The source's.
        old: UidNext,
        /// The target's.
        new: UidNext,
    },
    /// The two sides have different messages under one UID. INTERNALDATE tells: dsync keeps it exactly, whereas a size
    /// may differ by a rule.
    #[error(
        "UID {uid} was received at {old} on the old side and at {new} on the new side (seconds since 1970), so it is \
         another message: the new side got mail of its own, or its server died while it wrote a Maildir; deliveries must \
         go to the old side until the switch"
    )]
    Other {
        /// The first such message.
        uid: Uid,
        /// The source's INTERNALDATE.
        old: i64,
        /// The target's.
        new: i64,
    },
    /// A message of the source lies below the target's UIDNEXT and is missing there.
    #[error("UID {uid} is missing on the new side below its UIDNEXT {new}, where nothing can be added any more")]
    Gap {
        /// The first such message.
        uid: Uid,
        /// The target's UIDNEXT.
        new: UidNext,
    },
}

/// Plans the steps that make `new` (the target) like `old` (the source).
///
/// # Errors
/// [`Spoilt`] if no steps can.
pub fn plan(old: &Contents, new: &Contents) -> Result<MailboxPlan, Spoilt> {
    if old.uid_validity != new.uid_validity {
        return Err(Spoilt::UidValidity { old: old.uid_validity, new: new.uid_validity });
    }
    if new.uid_next > old.uid_next {
        return Err(Spoilt::UidNext { old: old.uid_next, new: new.uid_next });
    }
    let mut plan = MailboxPlan {
        raise: old.uid_next != new.uid_next || old.highest_modseq > new.highest_modseq,
        ..MailboxPlan::default()
    };
    let mut gap = None;
    let mut there = new.messages.iter().peekable();
    for (at, message) in old.messages.iter().enumerate() {
        while let Some(gone) = there.next_if(|candidate| candidate.uid < message.uid) {
            plan.expunge.push(gone.uid);
        }
        if let Some(same) = there.next_if(|candidate| candidate.uid == message.uid) {
            if let (Some(old), Some(new)) = (message.internal_date, same.internal_date)
                && old != new
            {
                return Err(Spoilt::Other { uid: message.uid, old, new });
            }
            let (wanted, _unfit) = message.keywords.fit();
            // Flags that changed and changed back leave only a higher mod-sequence, and clients ask for what changed
            // since the highest one they have seen.
            let behind = same.modseq < message.modseq && same.modseq.0 > 0;
            if behind || same.flags != message.flags || same.keywords != wanted {
                plan.flags.push(flag_change(message, &wanted, same));
            }
        } else if message.uid.0 < new.uid_next.0 {
            // Told last: a gap may be mended by making the mailbox anew, which must not cost mail that isn't ours.
            gap.get_or_insert(Spoilt::Gap { uid: message.uid, new: new.uid_next });
        } else {
            plan.save.push(at);
        }
    }
    plan.expunge.extend(there.map(|gone| gone.uid));
    gap.map_or(Ok(plan), Err)
}

fn flag_change(message: &Message, keywords: &Keywords, there: &Message) -> FlagChange {
    FlagChange {
        uid: message.uid,
        flags: message.flags,
        had: there.flags,
        // In the target's spelling: one kept in another case would be lost (measured on Dovecot 2.3).
        keep: there.keywords.also_in(keywords),
        add: keywords.without(&there.keywords),
        remove: there.keywords.without(keywords),
        modseq: message.modseq,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::mailbox::message::Message;

    pub(crate) fn message(uid: u32, flags: u8, keywords: &[&str]) -> Message {
        Message {
            uid: Uid(uid),
            flags: SystemFlags(flags),
            keywords: Keywords::from_names(keywords.iter().map(|name| (*name).to_owned()).collect()),
            internal_date: Some(i64::from(uid)),
            size: 100,
            modseq: ModSeq(1),
            labelled: false,
        }
    }

    pub(crate) fn contents(uid_next: u32, messages: Vec<Message>) -> Contents {
        Contents {
            uid_validity: UidValidity(7),
            uid_next: UidNext(uid_next),
            highest_modseq: Some(ModSeq(9)),
            messages,
        }
    }

    #[test]
    fn equal_sides_need_nothing() {
        let side = contents(9, vec![message(1, 8, &["a"]), message(5, 0, &[])]);
        assert!(plan(&side, &side.clone()).unwrap().is_empty());
        let other_case = contents(9, vec![message(1, 8, &["A"]), message(5, 0, &[])]);
        assert!(plan(&side, &other_case).unwrap().is_empty());
    }

    #[test]
    fn additions_expunges_and_flags_are_found() {
        let old = contents(12, vec![message(2, 8, &["a", "b"]), message(9, 0, &[]), message(11, 0, &[])]);
        let new = contents(9, vec![message(1, 0, &[]), message(2, 1, &["B", "c"]), message(8, 0, &[])]);
        let plan = plan(&old, &new).unwrap();
        assert_eq!(plan.expunge, [Uid(1), Uid(8)], "an expunge at the tail is sent too");
        assert_eq!(plan.save, [1, 2]);
        let change = &plan.flags[0];
        assert_eq!((change.flags, change.had), (SystemFlags(8), SystemFlags(1)));
        assert_eq!(
            (&*change.keep, &*change.add, &*change.remove),
            (&["B".to_owned()][..], &["a".to_owned()][..], &["c".to_owned()][..])
        );
    }

    #[test]
    fn a_lower_mod_sequence_is_raised_and_a_missing_or_higher_one_is_not() {
        let with = |modseq| {
            let mut side = contents(9, vec![message(1, 8, &["a"])]);
            side.messages[0].modseq = ModSeq(modseq);
            side
        };
        let change = &plan(&with(7), &with(6)).unwrap().flags[0];
        assert_eq!((change.modseq, change.flags, change.had), (ModSeq(7), SystemFlags(8), SystemFlags(8)));
        assert_eq!((&*change.keep, change.add.len(), change.remove.len()), (&["a".to_owned()][..], 0, 0));
        for there in [0, 7, 8] {
            assert!(plan(&with(7), &with(there)).unwrap().is_empty());
        }
    }

    #[test]
    fn a_keyword_the_target_cannot_hold_is_not_sent_for_ever() {
        let long = "x".repeat(60);
        let old = contents(9, vec![message(1, 0, &["a", &long])]);
        let new = contents(9, vec![message(1, 0, &["a"])]);
        assert!(plan(&old, &new).unwrap().is_empty());
    }

    #[test]
    fn what_appending_cannot_mend_is_spoilt() {
        let old = contents(9, vec![message(3, 0, &[]), message(5, 0, &[])]);
        let gap = contents(6, vec![message(5, 0, &[])]);
        assert_eq!(
            plan(&old, &gap),
            Err(Spoilt::Gap { uid: Uid(3), new: UidNext(6) }),
            "a skipped UID is never sent later"
        );
        let mut other = contents(6, vec![message(5, 0, &[])]);
        other.messages[0].internal_date = Some(7);
        assert_eq!(
            plan(&old, &other),
            Err(Spoilt::Other { uid: Uid(5), old: 5, new: 7 }),
            "a gap must not hide that there is mail which isn't ours"
        );
        let ahead = contents(10, vec![]);
        assert!(matches!(plan(&old, &ahead), Err(Spoilt::UidNext { .. })));
        let mut other = old.clone();
        other.uid_validity = UidValidity(8);
        assert!(matches!(plan(&old, &other), Err(Spoilt::UidValidity { .. })));
    }

    #[test]
    fn an_empty_mailbox_with_a_high_uidnext_is_raised() {
        let plan = plan(&contents(1000, vec![]), &contents(1, vec![])).unwrap();
        assert!(plan.raise && !plan.is_empty());
    }
}
