//! What a way back would lose: a pure function from the findings of a comparison to a verdict.

use std::collections::BTreeMap;

use crate::mailbox::{Account, Class, Finding, MailboxName, Report, Uid};
use crate::migrate::Stop;
use crate::store::Watched;

/// Losses named in one reason.
const NAMED_MAX: usize = 10;

/// What the way back may lose.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    /// From which UID on messages of the old side came after the switch.
    late: BTreeMap<MailboxName, Uid>,
    accepted: bool,
}

/// What a difference between the sides means for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// The old side has all that the new side has, and more.
    Nothing,
    /// Something that a user did is undone.
    Undone,
    /// Mail would be lost, or a client's cache would show other mail than is there.
    Lost,
}

impl Losses {
    /// What may be lost since the switch that left `fences`.
    pub(super) fn since(fences: &[Watched], accepted: bool) -> Self {
        let late = fences.iter().map(|watched| (watched.fence.name.clone(), Uid(watched.fence.uid_next.0))).collect();
        Self { late, accepted }
    }

    /// From which UID on the messages of each mailbox came after the switch: there the two sides may hold different
    /// messages under one UID, which only their octets tell.
    pub(super) const fn fences(&self) -> &BTreeMap<MailboxName, Uid> {
        &self.late
    }

    /// Judges what a comparison found.
    ///
    /// # Errors
    /// [`Stop::Refused`] with what would be lost.
    pub(super) fn judge(&self, report: &Report, new: &Account) -> Result<(), Stop> {
        let (mut lost, mut undone) = (Vec::new(), Vec::new());
        for finding in &report.findings {
            match self.weight(finding, new) {
                Weight::Nothing => {}
                Weight::Undone => undone.push(finding.to_string()),
                Weight::Lost => lost.push(finding.to_string()),
            }
        }
        if report.findings_left_out > 0 {
            lost.push(format!("{} more differences than can be looked at", report.findings_left_out));
        }
        if !lost.is_empty() {
            return Err(Stop::Refused(format!(
                "mail of the new side would be lost, or clients would take one message for another: {}",
                named(lost)
            )));
        }
        if !undone.is_empty() && !self.accepted {
            return Err(Stop::Refused(format!(
                "what the user has done on the new side would be undone (--accept-loss allows it): {}",
                named(undone)
            )));
        }
        Ok(())
    }

    fn weight(&self, finding: &Finding, new: &Account) -> Weight {
        let named = |name: &&MailboxName| finding.mailbox.as_deref() == Some(name.to_string().as_str());
        if finding.class != Class::Difference {
            // A mailbox that is empty is only on the new side: no loss, unless clients know messages of it.
            let used = new.mailboxes.iter().find(|(name, _)| named(name)).and_then(|(_, listed)| listed.status);
            let used = finding.rule == "mailbox" && used.is_some_and(|status| status.uid_next.0 > 1);
            // A script that is only there is the user's own, for all we know.
            let script = finding.rule == "sieve";
            return if used {
                Weight::Lost
            } else if script {
                Weight::Undone
            } else {
                Weight::Nothing
            };
        }
        match finding.rule.as_str() {
            // The old side has it, whatever may be done about it before the next switch.
            "quarantined" => Weight::Nothing,
            "flags" | "keywords" | "keyword-unfit" | "subscription" | "sieve" | "sieve-active" => Weight::Undone,
            "message" if finding.new == "missing" => {
                let late = self.late.iter().find(|(name, _)| named(name)).map(|(_, late)| *late);
                let came_late = late.zip(finding.uid).is_some_and(|(late, uid)| uid >= late);
                if came_late { Weight::Nothing } else { Weight::Undone }
            }
            // The user has deleted it there: its messages come back.
            "mailbox" if finding.new == "missing" => Weight::Undone,
            // The old side is ahead: mail came late.
            "uidnext" if number(&finding.new) < number(&finding.old) => Weight::Nothing,
            "highestmodseq" | "modseq" => Weight::Nothing,
            _ => Weight::Lost,
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

fn named(mut found: Vec<String>) -> String {
    let more = found.len().saturating_sub(NAMED_MAX);
    found.truncate(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", found.join("; "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mailbox::{Listed, Status, UidNext, UidValidity};
    use crate::store::Fence;

    fn finding(class: Class, rule: &str, uid: Option<u32>, old: &str, new: &str) -> Finding {
        let mailbox = Some("INBOX".to_owned());
        Finding { class, rule: rule.to_owned(), mailbox, uid: uid.map(Uid), old: old.to_owned(), new: new.to_owned() }
    }

    fn judged(accepted: bool, uid_next: u32, finding: Finding) -> Result<(), String> {
        let fence = Fence { name: MailboxName::inbox(), uid_validity: UidValidity(7), uid_next: UidNext(10) };
        let losses = Losses::since(&[Watched { fence, swept: UidNext(10), appeared: false }], accepted);
        let status = Status {
            uid_validity: UidValidity(7),
            uid_next: UidNext(uid_next),
            messages: 0,
            unseen: 0,
            highest_modseq: None,
            guid: None,
        };
        let listed = Listed { selectable: true, status: Some(status), ..Listed::default() };
        let new = Account { mailboxes: [(MailboxName::inbox(), listed)].into(), ..Account::default() };
        let mut report = Report::new("u1", false);
        report.add(finding);
        losses.judge(&report, &new).map_err(|stop| stop.to_string())
    }

    #[test]
    fn what_the_old_side_has_as_well_is_no_loss() {
        use Class::{Difference, Note};
        for (uid_next, found) in [
            (10, finding(Difference, "uidnext", None, "12", "11")),
            (10, finding(Difference, "highestmodseq", None, "12", "11")),
            (10, finding(Difference, "message", Some(10), "5 octets", "missing")),
            (1, finding(Note, "mailbox", None, "missing", "0 messages")),
            (10, finding(Class::Altered, "crcrlf", Some(3), "5 octets", "4 octets")),
        ] {
            assert_eq!(judged(false, uid_next, found.clone()), Ok(()), "{found:?}");
        }
    }

    #[test]
    fn what_a_user_did_there_is_undone_only_if_that_is_accepted() {
        for found in [
            finding(Class::Difference, "flags", Some(3), "", "\\Seen"),
            finding(Class::Difference, "keywords", Some(3), "", "work"),
            finding(Class::Difference, "subscription", None, "subscribed", "not subscribed"),
            finding(Class::Difference, "sieve", None, "\"main\", 5 octets", "missing"),
            finding(Class::Difference, "sieve-active", None, "none", "\"main\""),
            finding(Class::Note, "sieve", None, "missing", "\"main\", 5 octets"),
            finding(Class::Difference, "message", Some(9), "5 octets", "missing"),
            finding(Class::Difference, "mailbox", None, "5 messages", "missing"),
        ] {
            let refused = judged(false, 10, found.clone()).unwrap_err();
            assert!(refused.contains("--accept-loss") && refused.contains(&found.rule), "{refused}");
            assert_eq!(judged(true, 10, found), Ok(()));
        }
    }

    #[test]
    fn mail_is_never_lost_nor_taken_for_another_message() {
        for (uid_next, found) in [
            (10, finding(Class::Difference, "uidnext", None, "11", "12")),
            (10, finding(Class::Difference, "message", Some(11), "missing", "5 octets")),
            (10, finding(Class::Difference, "mailbox", None, "missing", "5 messages")),
            (10, finding(Class::Difference, "uidvalidity", None, "7", "8")),
            (10, finding(Class::Difference, "body", Some(3), "5 octets", "5 octets")),
            (10, finding(Class::Difference, "internaldate", Some(3), "5", "6")),
            (10, finding(Class::Difference, "uidl", Some(3), "a", "b")),
            (10, finding(Class::Difference, "something unheard of", None, "", "")),
            (4, finding(Class::Note, "mailbox", None, "missing", "0 messages")),
        ] {
            for accepted in [false, true] {
                let refused = judged(accepted, uid_next, found.clone()).unwrap_err();
                assert!(refused.contains("would be lost") && refused.contains(&found.rule), "{refused}");
            }
        }
    }
}
