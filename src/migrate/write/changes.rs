//! The changes of a mailbox as dsync wants them.

use crate::mailbox::diff::{FlagChange, MailboxPlan};
use crate::mailbox::{Contents, Guid, ModSeq, Uid};
use crate::target::dsync::Change;

use super::guids::Guids;

/// All changes of a mailbox in the order dsync wants: ascending by UID.
pub(super) fn changes(guids: &Guids, source: &Contents, plan: &MailboxPlan, flags_modseq: ModSeq) -> Vec<Change> {
    let guid = |uid| guids.of(uid);
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
