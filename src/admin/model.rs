//! What the API answers, as JSON (DESIGN §7), for both its ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mailbox::Side;
use crate::store::{HistoryEntry, LateCounts, Mark, Phase, Progress, Quarantined, ReportRow, UnixSeconds, UserRecord};

/// Users in one answer: some 300 KB of JSON. `counts` still counts everybody.
pub const MAX_USERS: usize = 1000;

/// Where one user stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// The canonical user.
    pub user: String,
    /// Where the user stands.
    pub phase: Phase,
    /// Which side serves the user.
    pub authority: Side,
    /// Grows with each change of authority.
    pub epoch: u64,
    /// Why the user stands here, for an operator.
    pub reason: Option<String>,
    /// Age of the last round that found both sides equal; none before the first one, and after the switch.
    pub lag_seconds: Option<u64>,
    /// How far the copy has come.
    pub progress: Progress,
    /// What the last verification found.
    pub last_report: Option<ReportSummary>,
    /// Mail that reached the old side after the switch.
    pub late_arrivals: LateArrivals,
    /// Messages that the old side can't give and that are left out on the new side.
    #[serde(default)]
    pub quarantined: LeftOut,
    /// With whom the user shares mailboxes on the old side, and how many with each.
    #[serde(default)]
    pub shared_with: BTreeMap<String, u64>,
    /// How many shared mailboxes this account carries for everybody, if it is the one that does.
    #[serde(default)]
    pub carries: Option<u64>,
    /// In what way the account on the new side is no whole copy: it can't be switched.
    #[serde(default)]
    pub mark: Option<MarkStatus>,
}

/// An account that is no whole copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkStatus {
    /// `partial`.
    pub kind: String,
    /// The options of the last run that made it so.
    pub how: String,
    /// What it means, and what helps.
    pub text: String,
    /// Since when, in seconds since 1970.
    pub since: UnixSeconds,
}

impl From<&Mark> for MarkStatus {
    fn from(mark: &Mark) -> Self {
        let Mark { kind, how, at } = mark;
        Self { kind: kind.as_str().to_owned(), how: how.clone(), text: mark.to_string(), since: *at }
    }
}

/// Messages that are left out on the new side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// Which; empty in an answer about all users.
    #[serde(default)]
    pub messages: Vec<LeftOutMessage>,
}

/// A message that is left out on the new side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutMessage {
    /// Its mailbox.
    pub mailbox: String,
    /// That mailbox's UIDVALIDITY.
    pub uid_validity: u32,
    /// Its UID.
    pub uid: u32,
    /// What the old side said last.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: UnixSeconds,
}

impl LeftOut {
    /// All of them.
    #[must_use]
    pub fn of(quarantined: &[Quarantined]) -> Self {
        let message = |left_out: &Quarantined| LeftOutMessage {
            mailbox: left_out.mailbox.to_string(),
            uid_validity: left_out.uid_validity.0,
            uid: left_out.uid.0,
            reason: left_out.reason.clone(),
            since: left_out.at,
        };
        Self { count: quarantined.len() as u64, messages: quarantined.iter().map(message).collect() }
    }
}

/// Mail that reached the old side after the switch, and is carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateArrivals {
    /// Messages that are on the new side since.
    pub appended: u64,
    /// Messages that wait; the reason says why.
    pub pending: u64,
    /// When the last one was appended, in seconds since 1970.
    pub last_at: Option<UnixSeconds>,
}

impl From<LateCounts> for LateArrivals {
    fn from(counts: LateCounts) -> Self {
        let LateCounts { appended, pending, last_at } = counts;
        Self { appended, pending, last_at }
    }
}

/// The short form of a verification report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// No difference was found.
    pub identical: bool,
    /// Findings that block the switch.
    pub differences: u64,
    /// Findings that a named rule explains.
    pub altered: u64,
    /// Findings worth knowing.
    pub notes: u64,
    /// When it was made, in seconds since 1970.
    pub at: UnixSeconds,
    /// What became of POP3 UIDLs, and how they were paired; none in an answer about all users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop3: Option<String>,
}

impl From<&ReportRow> for ReportSummary {
    fn from(row: &ReportRow) -> Self {
        let ReportRow { at, identical, differences, altered, notes, .. } = *row;
        Self { identical, differences, altered, notes, at, pop3: None }
    }
}

impl UserStatus {
    /// The status in a durable record, seen at `now`.
    #[must_use]
    pub fn of(record: &UserRecord, report: Option<&ReportRow>, late: LateCounts, now: UnixSeconds) -> Self {
        let clean_at = record.clean_at.filter(|_| record.authority == Side::Old);
        Self {
            user: record.user.clone(),
            phase: record.phase,
            authority: record.authority,
            epoch: record.epoch,
            reason: record.reason.clone(),
            // A clock that was set back gives no age below zero.
            lag_seconds: clean_at.map(|at| u64::try_from(now.saturating_sub(at)).unwrap_or(0)),
            progress: record.progress,
            last_report: report.map(ReportSummary::from),
            late_arrivals: late.into(),
            quarantined: LeftOut::default(),
            shared_with: BTreeMap::new(),
            carries: None,
            mark: None,
        }
    }

    /// The status of a user of whom nothing is known yet: on the old side, in epoch 0.
    #[must_use]
    pub fn without_record(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            phase: Phase::Old,
            authority: Side::Old,
            epoch: 0,
            reason: None,
            lag_seconds: None,
            progress: Progress::default(),
            last_report: None,
            late_arrivals: LateArrivals::default(),
            quarantined: LeftOut::default(),
            shared_with: BTreeMap::new(),
            carries: None,
            mark: None,
        }
    }
}

/// Where all users stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAll {
    /// Users in each phase; every phase is there.
    pub counts: BTreeMap<Phase, u64>,
    /// The users, at most [`MAX_USERS`].
    pub users: Vec<UserStatus>,
    /// There are more users than `users` shows.
    #[serde(default)]
    pub truncated: bool,
}

impl StatusAll {
    /// Puts an answer together: phases nobody is in count 0, and users above [`MAX_USERS`] are left out.
    #[must_use]
    pub fn new(counts: impl IntoIterator<Item = (Phase, u64)>, mut users: Vec<UserStatus>) -> Self {
        let mut all: BTreeMap<Phase, u64> = Phase::ALL.into_iter().map(|phase| (phase, 0)).collect();
        all.extend(counts);
        users.truncate(MAX_USERS);
        let shown = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let truncated = all.values().sum::<u64>() > shown;
        Self { counts: all, users, truncated }
    }
}

/// How an operator's order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The user is served by the new side, in this epoch.
    Switched {
        /// The epoch.
        epoch: u64,
    },
    /// The user is served by the old side again, in this epoch.
    RolledBack {
        /// The epoch.
        epoch: u64,
    },
    /// It is done.
    Done {
        /// What that means.
        what: String,
    },
    /// It can't be done, and trying again won't help by itself.
    Refused {
        /// Why.
        reason: String,
    },
    /// It can't be done now: `2 sessions open`.
    TryAgain {
        /// Why.
        reason: String,
    },
    /// It was begun; nobody waited for the end.
    Started,
}

impl Outcome {
    /// What the command line exits with (DESIGN §7).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Switched { .. } | Self::RolledBack { .. } | Self::Done { .. } | Self::Started => 0,
            Self::Refused { .. } => 1,
            Self::TryAgain { .. } => 75,
        }
    }
}

/// What an operator can order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The next login starts the move.
    Enroll,
    /// It doesn't; a move that has begun stops.
    Hold,
    /// Held users move on.
    Resume,
    /// To the new side, now.
    Switch,
    /// Back to the old side.
    Rollback,
    /// No way back any more.
    Settle,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Enroll, Self::Hold, Self::Resume, Self::Switch, Self::Rollback, Self::Settle];

    /// The word on the command line and in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Switch => "switch",
            Self::Rollback => "rollback",
            Self::Settle => "settle",
        }
    }

    /// Whether it is about users in this phase, where it is given for many at once.
    #[must_use]
    pub const fn concerns(self, phase: Phase) -> bool {
        match self {
            Self::Enroll => false,
            Self::Hold | Self::Switch => matches!(phase, Phase::Copying | Phase::Following | Phase::Switching),
            Self::Resume => matches!(phase, Phase::Held),
            Self::Rollback | Self::Settle => matches!(phase, Phase::New),
        }
    }
}

impl std::str::FromStr for Verb {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word).ok_or(())
    }
}

/// One page of the users of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Users and where they stand.
    pub users: Vec<(String, Phase)>,
    /// Ask for what comes after this user; none: that was all.
    pub next: Option<String>,
}

/// One line of a user's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When, in seconds since 1970.
    pub at: UnixSeconds,
    /// From which phase.
    pub from: Phase,
    /// To which phase.
    pub to: Phase,
    /// Authority afterwards.
    pub authority: Side,
    /// Epoch afterwards.
    pub epoch: u64,
    /// What brought it about.
    pub cause: String,
    /// More about it.
    pub reason: Option<String>,
    /// What the verification found that it rests on.
    pub report: Option<ReportSummary>,
}

impl From<&HistoryEntry> for Transition {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            at: entry.at,
            from: entry.from,
            to: entry.to,
            authority: entry.authority,
            epoch: entry.epoch,
            cause: entry.cause.clone(),
            reason: entry.reason.clone(),
            report: entry.report.as_ref().map(ReportSummary::from),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mailbox::{MailboxName, Uid, UidValidity};
    use crate::store::MarkKind;

    #[test]
    fn the_json_is_the_one_that_was_promised() {
        let record = UserRecord {
            user: "anna@example.net".to_owned(),
            login_name: "Anna".to_owned(),
            phase: Phase::Following,
            authority: Side::Old,
            epoch: 0,
            reason: None,
            progress: Progress { mailboxes: 3, messages_total: 10, messages_done: 7, bytes_done: 4096 },
            clean_at: Some(1000),
            switched_at: None,
        };
        let report =
            ReportRow { at: 990, identical: true, differences: 0, altered: 2, notes: 1, json: "{}".to_owned() };
        let late = LateCounts { appended: 2, pending: 1, last_at: Some(1050) };
        let left_out = Quarantined {
            mailbox: MailboxName::inbox(),
            uid_validity: UidValidity(7),
            uid: Uid(5),
            reason: "BODY[]: NIL".to_owned(),
            at: 980,
        };
        let mark = Mark { kind: MarkKind::Partial, how: "--max-size 1M".to_owned(), at: 970 };
        let (quarantined, mark) = (LeftOut::of(&[left_out]), Some(MarkStatus::from(&mark)));
        let status = UserStatus { quarantined, mark, ..UserStatus::of(&record, Some(&report), late, 1060) };
        let json = serde_json::json!({
            "user": "anna@example.net", "phase": "following", "authority": "old", "epoch": 0, "reason": null,
            "lag_seconds": 60,
            "progress": { "mailboxes": 3, "messages_total": 10, "messages_done": 7, "bytes_done": 4096 },
            "last_report": { "identical": true, "differences": 0, "altered": 2, "notes": 1, "at": 990 },
            "late_arrivals": { "appended": 2, "pending": 1, "last_at": 1050 },
            "quarantined": { "count": 1, "messages": [
                { "mailbox": "INBOX", "uid_validity": 7, "uid": 5, "reason": "BODY[]: NIL", "since": 980 },
            ] },
            "shared_with": { "ben": 2 },
            "carries": 3,
            "mark": {
                "kind": "partial", "how": "--max-size 1M", "since": 970,
                "text": "the copy is partial (made with --max-size 1M): run `mailferry sync` without a filter to make it whole",
            },
        });
        let status = UserStatus { shared_with: [("ben".to_owned(), 2)].into(), carries: Some(3), ..status };
        assert_eq!(serde_json::to_value(&status).unwrap(), json);
        assert_eq!(serde_json::from_value::<UserStatus>(json).unwrap(), status);

        assert_eq!(UserStatus::of(&record, None, LateCounts::default(), 900).lag_seconds, Some(0));
        let moved = UserRecord { authority: Side::New, phase: Phase::New, ..record };
        assert_eq!(UserStatus::of(&moved, None, LateCounts::default(), 1060).lag_seconds, None);
    }

    #[test]
    fn all_users_are_counted_and_a_bounded_number_is_shown() {
        let one = UserStatus::without_record("anna");
        let all = StatusAll::new([(Phase::Old, 1)], vec![one.clone()]);
        assert!(!all.truncated);
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(
            json["counts"],
            serde_json::json!({"old": 1, "copying": 0, "following": 0, "switching": 0, "new": 0, "returning": 0,
                               "settled": 0, "held": 0})
        );
        assert_eq!(serde_json::from_value::<StatusAll>(json).unwrap(), all);

        let all = StatusAll::new([(Phase::Old, 5000)], vec![one; 1001]);
        assert_eq!((all.users.len(), all.truncated, all.counts[&Phase::Old]), (1000, true, 5000));
    }

    #[test]
    fn outcomes_have_their_exit_codes() {
        let reason = || "2 sessions open".to_owned();
        for (outcome, code, json) in [
            (Outcome::Switched { epoch: 1 }, 0, r#"{"outcome":"switched","epoch":1}"#),
            (Outcome::Refused { reason: reason() }, 1, r#"{"outcome":"refused","reason":"2 sessions open"}"#),
            (Outcome::TryAgain { reason: reason() }, 75, r#"{"outcome":"try-again","reason":"2 sessions open"}"#),
            (Outcome::RolledBack { epoch: 2 }, 0, r#"{"outcome":"rolled-back","epoch":2}"#),
            (Outcome::Done { what: "held".to_owned() }, 0, r#"{"outcome":"done","what":"held"}"#),
            (Outcome::Started, 0, r#"{"outcome":"started"}"#),
        ] {
            assert_eq!(outcome.exit_code(), code);
            assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
            assert_eq!(serde_json::from_str::<Outcome>(json).unwrap(), outcome);
        }
    }
}
