//! What the command line prints for people.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use super::model::{LateArrivals, LeftOutMessage, Outcome, ReportSummary, StatusAll, Transition, UserStatus, Verb};
use crate::store::{Phase, Progress, UnixSeconds};
use crate::wire::imap::date::civil;

/// Whether standard output is a terminal that wants colours (<https://no-color.org>).
#[must_use]
pub fn colours_wanted() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table of all users, and a line that counts them.
#[must_use]
pub fn status_all(all: &StatusAll, colours: bool) -> String {
    let mut text = if all.users.is_empty() { String::new() } else { table(&all.users, colours) + "\n" };
    let total: u64 = all.counts.values().sum();
    let phases: Vec<String> = Phase::ALL
        .iter()
        .filter_map(|phase| all.counts.get(phase).filter(|count| **count > 0).map(|count| format!("{count} {phase}")))
        .collect();
    text.push_str(&count(total, "user"));
    if !phases.is_empty() {
        text.push_str(&format!(": {}", phases.join(", ")));
    }
    if all.truncated {
        text.push_str(&format!(" (shown: the first {})", all.users.len()));
    }
    text.push('\n');
    text
}

/// One user, a line for each thing to know.
#[must_use]
pub fn user_status(status: &UserStatus, colours: bool) -> String {
    let progress = &status.progress;
    let mut rows = vec![
        ("user", clean(&status.user)),
        ("phase", coloured(status.phase, status.phase.as_str(), colours)),
        ("served by", format!("the {} side, epoch {}", status.authority, status.epoch)),
        (
            "copied",
            format!(
                "{} messages in {}, {}",
                messages(progress),
                count(progress.mailboxes, "mailbox"),
                octets(progress.bytes_done)
            ),
        ),
    ];
    if let Some(lag) = status.lag_seconds {
        rows.push(("lag", age(lag)));
    }
    if let Some(found) = &status.last_report {
        rows.push(("last report", report(found)));
        rows.extend(found.pop3.as_deref().map(|pop3| ("pop3", clean(pop3))));
    }
    if status.late_arrivals.appended + status.late_arrivals.pending > 0 {
        rows.push(("late mail", late(status.late_arrivals)));
    }
    if status.quarantined.count > 0 {
        rows.push(("quarantined", count(status.quarantined.count, "message")));
    }
    for left_out in &status.quarantined.messages {
        let LeftOutMessage { mailbox, uid, reason, since, .. } = left_out;
        rows.push(("", format!("{} UID {uid}, since {}: {}", clean(mailbox), time(*since), clean(reason))));
    }
    if !status.shared_with.is_empty() {
        rows.push(("shared with", shared_with(&status.shared_with)));
    }
    if let Some(mailboxes) = status.carries {
        rows.push(("carries", format!("{}, for everybody", count(mailboxes, "shared mailbox"))));
    }
    if let Some(mark) = &status.mark {
        rows.push(("mark", self::mark(&mark.kind, mark.since, &mark.text)));
    }
    if let Some(reason) = &status.reason {
        rows.push(("reason", clean(reason)));
    }
    rows.into_iter().map(|(name, value)| format!("{name:<11}  {value}\n")).collect()
}

/// With whom a user shares mailboxes: `ben (2 mailboxes), eve (1 mailbox)`.
#[must_use]
pub fn shared_with(with: &BTreeMap<String, u64>) -> String {
    /// More than an operator wants to read.
    const SHOWN: usize = 10;
    let shown =
        with.iter().take(SHOWN).map(|(who, mailboxes)| format!("{} ({})", clean(who), count(*mailboxes, "mailbox")));
    let more = if with.len() > SHOWN { format!(" and {} more", with.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

/// How an order ended.
#[must_use]
pub fn outcome(verb: Verb, user: &str, outcome: &Outcome) -> String {
    let user = clean(user);
    let done = match verb {
        Verb::Enroll => "enrolled",
        Verb::Hold => "held",
        Verb::Resume => "resumed",
        Verb::Switch => "switched",
        Verb::Rollback => "rolled back",
        Verb::Settle => "settled",
    };
    match outcome {
        Outcome::Switched { epoch } => format!("{user}: switched to the new side (epoch {epoch})\n"),
        Outcome::RolledBack { epoch } => {
            format!("{user}: rolled back to the old side (epoch {epoch}), and held there\n")
        }
        Outcome::Done { what } => format!("{user}: {}\n", clean(what)),
        Outcome::Refused { reason } => format!("{user}: not {done}: {}\n", clean(reason)),
        Outcome::TryAgain { reason } => format!("{user}: not {done} now, try again: {}\n", clean(reason)),
        Outcome::Started => format!("{user}: {} begun; see `mailferry status`\n", verb.as_str()),
    }
}

/// What happened to a user, a line for each transition.
#[must_use]
pub fn history(transitions: &[Transition]) -> String {
    let mut text = String::new();
    for step in transitions {
        let Transition { from, to, authority, epoch, cause, .. } = step;
        text.push_str(&format!("{}  {from} > {to}  (authority {authority}, epoch {epoch})  {cause}", time(step.at)));
        if let Some(found) = &step.report {
            text.push_str(&format!("; report: {}", report(found)));
        }
        if let Some(reason) = &step.reason {
            text.push_str(&format!(": {}", clean(reason)));
        }
        text.push('\n');
    }
    text
}

/// What an account is marked with, and since when.
#[must_use]
pub fn mark(kind: &str, since: UnixSeconds, text: &str) -> String {
    format!("{}, since {}: {}", clean(kind), time(since), clean(text))
}

/// `2026-11-26 14:05:09Z` (RFC 3339 with a blank).
fn time(at: UnixSeconds) -> String {
    let (days, seconds) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

const HEADS: [&str; 8] = ["USER", "PHASE", "SIDE", "EPOCH", "MESSAGES", "LAG", "REPORT", "REASON"];

fn table(users: &[UserStatus], colours: bool) -> String {
    let rows: Vec<[String; 8]> = users.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&HEADS.map(str::to_owned), &widths, None);
    for (user, row) in users.iter().zip(&rows) {
        text.push_str(&line(row, &widths, colours.then_some(user.phase)));
    }
    text
}

fn row(status: &UserStatus) -> [String; 8] {
    let dash = || "-".to_owned();
    [
        clean(&status.user),
        status.phase.to_string(),
        status.authority.to_string(),
        status.epoch.to_string(),
        messages(&status.progress),
        status.lag_seconds.map_or_else(dash, age),
        status.last_report.as_ref().map_or_else(dash, report),
        status.reason.as_deref().map_or_else(dash, clean),
    ]
}

fn line(cells: &[String; 8], widths: &[usize; 8], phase: Option<Phase>) -> String {
    let mut text = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padded = format!("{cell:<width$}");
        match phase {
            Some(phase) if index == 1 => text.push_str(&coloured(phase, &padded, true)),
            _ => text.push_str(&padded),
        }
        text.push_str("  ");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn coloured(phase: Phase, text: &str, colours: bool) -> String {
    let code = match phase {
        Phase::Held => "31",
        Phase::New | Phase::Settled => "32",
        Phase::Copying | Phase::Following | Phase::Switching | Phase::Returning => "33",
        Phase::Old => return text.to_owned(),
    };
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Names and reasons come from the network: what would steer a terminal is shown, not sent.
fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn messages(progress: &Progress) -> String {
    format!("{}/{}", progress.messages_done, progress.messages_total)
}

fn report(report: &ReportSummary) -> String {
    let mut parts = Vec::new();
    if report.identical {
        parts.push("identical".to_owned());
    }
    if report.differences > 0 {
        parts.push(count(report.differences, "difference"));
    }
    if report.altered > 0 {
        parts.push(format!("{} altered", report.altered));
    }
    if report.notes > 0 {
        parts.push(count(report.notes, "note"));
    }
    if parts.is_empty() { "not identical".to_owned() } else { parts.join(", ") }
}

fn late(late: LateArrivals) -> String {
    let waiting = if late.pending > 0 { format!(", {} waiting", late.pending) } else { String::new() };
    format!("{} carried over{waiting}", late.appended)
}

fn count(number: u64, what: &str) -> String {
    match (number, what) {
        (1, what) => format!("1 {what}"),
        (number, what) if what.ends_with("mailbox") => format!("{number} {what}es"),
        (number, what) => format!("{number} {what}s"),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A stretch of time, rounded up to whole seconds.
pub(super) fn lasting(time: std::time::Duration) -> String {
    match time.as_millis().div_ceil(1000) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

pub(super) fn octets(number: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match units.into_iter().find(|(_, size)| number >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", number / size, number % size * 10 / size),
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::LeftOut;
    use super::*;
    use crate::mailbox::Side;

    fn anna() -> UserStatus {
        UserStatus {
            phase: Phase::Copying,
            progress: Progress { mailboxes: 1, messages_total: 34_000, messages_done: 1200, bytes_done: 12_345_678 },
            ..UserStatus::without_record("anna@example.net")
        }
    }

    fn ben() -> UserStatus {
        UserStatus {
            phase: Phase::Held,
            authority: Side::New,
            epoch: 12,
            reason: Some("foreign mail \x1b[2J on the new side".to_owned()),
            lag_seconds: Some(7300),
            last_report: Some(ReportSummary {
                identical: false,
                differences: 1,
                altered: 2,
                notes: 1,
                at: 0,
                pop3: None,
            }),
            late_arrivals: LateArrivals { appended: 3, pending: 1, last_at: None },
            quarantined: LeftOut {
                count: 1,
                messages: vec![LeftOutMessage {
                    mailbox: "Sent".to_owned(),
                    uid_validity: 7,
                    uid: 5,
                    reason: "BODY[]: \x1bNIL".to_owned(),
                    since: 951_827_696,
                }],
            },
            ..UserStatus::without_record("ben")
        }
    }

    #[test]
    fn the_table_is_aligned_and_plain() {
        let all = StatusAll::new([(Phase::Copying, 1), (Phase::Held, 1)], vec![anna(), ben()]);
        let expected = "\
USER              PHASE    SIDE  EPOCH  MESSAGES    LAG  REPORT                           REASON
anna@example.net  copying  old   0      1200/34000  -    -                                -
ben               held     new   12     0/0         2h   1 difference, 2 altered, 1 note  foreign mail \\u{1b}[2J on the new side

2 users: 1 copying, 1 held
";
        assert_eq!(status_all(&all, false), expected);
        let coloured = status_all(&all, true);
        assert!(coloured.contains("\x1b[31mheld   \x1b[0m  new"), "{coloured:?}");
        assert!(!coloured.contains("\x1b[2J"), "{coloured:?}");
    }

    #[test]
    fn nobody_and_too_many() {
        assert_eq!(status_all(&StatusAll::new([], Vec::new()), false), "0 users\n");
        let many = StatusAll::new([(Phase::Copying, 5000)], vec![anna()]);
        assert!(status_all(&many, false).ends_with("\n\n5000 users: 5000 copying (shown: the first 1)\n"));
    }

    #[test]
    fn one_user() {
        let expected = "\
user         anna@example.net
phase        copying
served by    the old side, epoch 0
copied       1200/34000 messages in 1 mailbox, 12.3 MB
";
        assert_eq!(user_status(&anna(), false), expected);
        let expected = "\
user         ben
phase        held
served by    the new side, epoch 12
copied       0/0 messages in 0 mailboxes, 0 B
lag          2h
last report  1 difference, 2 altered, 1 note
late mail    3 carried over, 1 waiting
quarantined  1 message
             Sent UID 5, since 2000-02-29 12:34:56Z: BODY[]: \\u{1b}NIL
reason       foreign mail \\u{1b}[2J on the new side
";
        assert_eq!(user_status(&ben(), false), expected);
    }

    #[test]
    fn outcomes() {
        let reason = || "2 sessions open".to_owned();
        for (verb, ended, text) in [
            (Verb::Switch, Outcome::Switched { epoch: 1 }, "u: switched to the new side (epoch 1)\n"),
            (Verb::Switch, Outcome::Refused { reason: reason() }, "u: not switched: 2 sessions open\n"),
            (Verb::Switch, Outcome::TryAgain { reason: reason() }, "u: not switched now, try again: 2 sessions open\n"),
            (Verb::Switch, Outcome::Started, "u: switch begun; see `mailferry status`\n"),
            (
                Verb::Rollback,
                Outcome::RolledBack { epoch: 2 },
                "u: rolled back to the old side (epoch 2), and held there\n",
            ),
            (Verb::Hold, Outcome::Done { what: "held by anna".to_owned() }, "u: held by anna\n"),
            (Verb::Resume, Outcome::Refused { reason: "is not held".to_owned() }, "u: not resumed: is not held\n"),
        ] {
            assert_eq!(outcome(verb, "u", &ended), text);
        }
    }

    #[test]
    fn a_history_is_read_from_the_top() {
        let step = |at, from, to, cause: &str, reason: Option<&str>, found: bool| Transition {
            at,
            from,
            to,
            authority: Side::Old,
            epoch: 0,
            cause: cause.to_owned(),
            reason: reason.map(str::to_owned),
            report: found.then_some(ReportSummary {
                identical: true,
                differences: 0,
                altered: 0,
                notes: 2,
                at: 0,
                pop3: None,
            }),
        };
        let steps = [
            step(951_827_696, Phase::Old, Phase::Copying, "enrolled user logged in", None, false),
            step(1_780_000_000, Phase::Switching, Phase::Following, "switch failed", Some("busy\x07"), false),
            step(-1, Phase::Switching, Phase::New, "verified and switched", None, true),
        ];
        let expected = "\
2000-02-29 12:34:56Z  old > copying  (authority old, epoch 0)  enrolled user logged in
2026-05-28 20:26:40Z  switching > following  (authority old, epoch 0)  switch failed: busy\\u{7}
1969-12-31 23:59:59Z  switching > new  (authority old, epoch 0)  verified and switched; report: identical, 2 notes
";
        assert_eq!(history(&steps), expected);
    }
}
