//! Durable records: users, their history, reports and mailboxes, in SQLite (DESIGN §1, §5).
//!
//! Every write is one transaction with `synchronous=FULL`: what was told to anybody survives a power loss.

mod alone;
mod enrolment;
mod history;
mod late;
mod lease;
mod locked_out;
mod mark;
mod merge;
pub mod model;
mod octets;
mod pop3;
mod quarantine;
mod scripts;
mod sharing;
mod sqlite;

pub use alone::serve_alone;
pub use enrolment::{Scope, Share, ShareError, Verdict};
pub use late::{Fence, LateBody, LateCounts, LateHome, LateMessage, Watched};
pub use mark::{Mark, MarkKind};
pub use merge::MergedMailbox;
pub use model::{
    HistoryEntry, Lease, MailboxRecord, Phase, Progress, ReportRow, StoreError, Transition, UnixSeconds, UserRecord,
};
pub use pop3::Pop3Proof;
pub use quarantine::Quarantined;
pub use scripts::OurScript;
pub use sqlite::{Store, now};
