//! The changes of a mailbox as dsync wants them.

use sha1::{Digest as _, Sha1};

use crate::mailbox::diff::{FlagChange, MailboxPlan};
use crate::mailbox::{Contents, Guid, ModSeq, Uid, UidValidity};
use crate::target::dsync::Change;

/// All changes of a mailbox in the order dsync wants: ascending by UID.
pub(super) fn changes(mailbox: Guid, source: &Contents, plan: &MailboxPlan, flags_modseq: ModSeq) -> Vec<Change> {
    let guid = |uid| guid_of(mailbox, source.uid_validity, uid);
    let mut changes: Vec<(Uid, Change)> = Vec::new();
    changes.extend(plan.expunge.iter().map(|&uid| (uid, Change::Expunge { uid, guid: guid(uid) })));
    changes.extend(plan.flags.iter().map(|change| (change.uid, flag_change(change, guid(change.uid), flags_modseq))));
    changes.extend(plan.save.iter().filter_map(|&at| source.messages.get(at)).map(|message| {
        let keywords = message.keywords.fit().0.iter().map(str::to_owned).collect();
        let change = Change::Save {
            uid: message.uid,
            guid: guid(message.uid),
            modseq: message.modseq,
            flags: message.flags,
            keywords,
        };
        (message.uid, change)
    }));
    changes.sort_by_key(|(uid, _)| *uid);
    changes.into_iter().map(|(_, change)| change).collect()
}

fn flag_change(change: &FlagChange, guid: Guid, modseq: ModSeq) -> Change {
    Change::Flags {
        uid: change.uid,
        guid,
        modseq: modseq.max(ModSeq(change.modseq.0 + 1)),
        flags: change.flags,
        had: change.had,
        keep: change.keep.clone(),
        add: change.add.clone(),
        remove: change.remove.clone(),
    }
}

/// A message's GUID: the same in every run, and no other message's (dsync reference §8: two messages with one GUID
/// would get one UIDL). The mailbox GUID is random, so the account needs no mention.
pub(in crate::migrate) fn guid_of(mailbox: Guid, uid_validity: UidValidity, uid: Uid) -> Guid {
    let mut hash = Sha1::new();
    hash.update(mailbox.0);
    hash.update(uid_validity.0.to_be_bytes());
    hash.update(uid.0.to_be_bytes());
    let mut guid = [0_u8; 16];
    for (octet, hashed) in guid.iter_mut().zip(hash.finalize()) {
        *octet = hashed;
    }
    Guid(guid)
}
