//! The report of a verification: every finding by mailbox and UID, in three classes (DESIGN §2).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::model::Uid;

/// Findings that one report lists; beyond that they are only counted, so that a report stays readable and bounded.
const LISTED_MAX: usize = 10_000;

/// What a finding means for the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Blocks the switch.
    Difference,
    /// A named rule explains it; blocks only with `verify.strict`.
    Altered,
    /// Worth knowing, blocks nothing.
    Note,
}

impl Class {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Difference => "difference",
            Self::Altered => "altered",
            Self::Note => "note",
        }
    }
}

/// One thing that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it means for the switch.
    pub class: Class,
    /// What kind of thing, as one word: `flags`, `uidvalidity`, `crcrlf` …
    pub rule: String,
    /// The mailbox, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mailbox: Option<String>,
    /// The message, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<Uid>,
    /// What the old side has.
    pub old: String,
    /// What the new side has.
    pub new: String,
}

/// The result of comparing the two sides of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The canonical user.
    pub user: String,
    /// When it was finished, seconds since the epoch.
    pub at: i64,
    /// No difference (and nothing altered, if `strict`).
    pub identical: bool,
    /// Altered messages block too.
    pub strict: bool,
    /// Number of differences.
    pub differences: u64,
    /// Number of altered messages.
    pub altered: u64,
    /// Number of notes.
    pub notes: u64,
    /// Mailboxes compared.
    pub mailboxes: u64,
    /// Messages compared.
    pub messages: u64,
    /// Messages whose octets were read on both sides and compared.
    pub bodies: u64,
    /// What became of POP3 UIDLs and their order.
    pub pop3: String,
    /// How many UIDLs were paired by each method.
    #[serde(default)]
    pub pop3_methods: BTreeMap<String, u64>,
    /// What became of Sieve scripts; empty where the configuration has none.
    #[serde(default)]
    pub sieve: String,
    /// The findings, at most ten thousand.
    pub findings: Vec<Finding>,
    /// Findings that are counted above and not listed.
    pub findings_left_out: u64,
}

impl Report {
    /// A report without findings.
    #[must_use]
    pub fn new(user: &str, strict: bool) -> Self {
        Self {
            user: user.to_owned(),
            at: 0,
            identical: true,
            strict,
            differences: 0,
            altered: 0,
            notes: 0,
            mailboxes: 0,
            messages: 0,
            bodies: 0,
            pop3: "not compared".to_owned(),
            pop3_methods: BTreeMap::new(),
            sieve: String::new(),
            findings: Vec::new(),
            findings_left_out: 0,
        }
    }

    /// Adds a finding and counts it.
    pub fn add(&mut self, finding: Finding) {
        match finding.class {
            Class::Difference => self.differences += 1,
            Class::Altered => self.altered += 1,
            Class::Note => self.notes += 1,
        }
        self.judge();
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// Adds everything that another report of the same user found.
    pub fn absorb(&mut self, other: &Self) {
        self.mailboxes += other.mailboxes;
        self.messages += other.messages;
        self.bodies += other.bodies;
        for finding in &other.findings {
            self.add(finding.clone());
        }
        if other.findings_left_out > 0 {
            // What a part could not list is still counted, by class.
            let listed = |class| other.findings.iter().filter(|finding| finding.class == class).count() as u64;
            self.differences += other.differences - listed(Class::Difference);
            self.altered += other.altered - listed(Class::Altered);
            self.notes += other.notes - listed(Class::Note);
            self.findings_left_out += other.findings_left_out;
            self.judge();
        }
    }

    fn judge(&mut self) {
        self.identical = self.differences == 0 && !(self.strict && self.altered > 0);
    }

    /// One line for a reason or a log: the counts and the first difference.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("{} differences, {} altered, {} notes", self.differences, self.altered, self.notes);
        let worst = self.findings.iter().min_by_key(|finding| finding.class);
        if let Some(first) = worst.filter(|_| !self.identical) {
            let _ = write!(text, "; first: {}", line(first));
        }
        text
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        if !self.findings.is_empty() {
            let rows = self.findings.iter().map(row).collect::<Vec<_>>();
            let head = ["CLASS", "RULE", "MAILBOX", "UID", "OLD", "NEW"].map(str::to_owned);
            let mut widths = head.clone().map(|cell| cell.len());
            for row in &rows {
                for (width, cell) in widths.iter_mut().zip(row) {
                    *width = (*width).max(cell.chars().count());
                }
            }
            for row in std::iter::once(&head).chain(&rows) {
                let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
                let _ = writeln!(text, "{}", cells.join("  ").trim_end());
            }
            if self.findings_left_out > 0 {
                let _ = writeln!(text, "… and {} more", self.findings_left_out);
            }
            text.push('\n');
        }
        let sieve = if self.sieve.is_empty() { String::new() } else { format!("; sieve: {}", printable(&self.sieve)) };
        let verdict = if self.identical { "identical" } else { "DIFFERENT" };
        let _ = writeln!(
            text,
            "{}: {verdict}: {} mailboxes, {} messages, {} bodies compared; {} differences, {} altered, {} notes; pop3: {}{sieve}",
            self.user,
            self.mailboxes,
            self.messages,
            self.bodies,
            self.differences,
            self.altered,
            self.notes,
            self.pop3
        );
        text
    }
}

/// As in a reason: `flags in INBOX UID 3: old \\Seen, new `.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&line(self))
    }
}

fn row(finding: &Finding) -> [String; 6] {
    let dash = || "-".to_owned();
    [
        finding.class.as_str().to_owned(),
        finding.rule.clone(),
        finding.mailbox.as_deref().map_or_else(dash, printable),
        finding.uid.map_or_else(dash, |uid| uid.to_string()),
        printable(&finding.old),
        printable(&finding.new),
    ]
}

fn line(finding: &Finding) -> String {
    let [_, rule, mailbox, uid, old, new] = row(finding);
    let uid = if finding.uid.is_some() { format!(" UID {uid}") } else { String::new() };
    format!("{rule} in {mailbox}{uid}: old {old}, new {new}")
}

/// Names and keywords come from outside: no control characters on an operator's terminal, nothing empty in a table.
fn printable(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn finding(class: Class) -> Finding {
        Finding {
            class,
            rule: "flags".to_owned(),
            mailbox: Some("A\u{1b}[31m".to_owned()),
            uid: Some(Uid(7)),
            old: "\\Seen".to_owned(),
            new: String::new(),
        }
    }

    #[test]
    fn only_differences_block_unless_strict() {
        for (strict, class, identical) in [
            (false, Class::Note, true),
            (false, Class::Altered, true),
            (false, Class::Difference, false),
            (true, Class::Note, true),
            (true, Class::Altered, false),
        ] {
            let mut report = Report::new("u1", strict);
            report.add(finding(class));
            assert_eq!(report.identical, identical, "{class:?} strict {strict}");
        }
    }

    #[test]
    fn the_table_names_every_finding_and_prints_no_control_characters() {
        let mut report = Report::new("u1", false);
        report.add(finding(Class::Note));
        report.add(finding(Class::Difference));
        let table = report.table();
        assert!(table.contains("difference  flags  A\u{fffd}[31m   7    \\Seen  -"), "{table}");
        assert!(table.contains("u1: DIFFERENT") && !table.contains('\u{1b}'), "{table}");
        assert!(report.summary().contains("flags in A\u{fffd}[31m UID 7: old \\Seen, new -"), "{}", report.summary());
    }

    #[test]
    fn a_report_is_bounded_and_still_counts() {
        let mut report = Report::new("u1", false);
        for _ in 0..LISTED_MAX + 5 {
            report.add(finding(Class::Difference));
        }
        assert_eq!((report.findings.len(), report.findings_left_out), (LISTED_MAX, 5));
        assert_eq!(report.differences, LISTED_MAX as u64 + 5);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
