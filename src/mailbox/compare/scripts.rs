//! Compares the Sieve scripts of two sides.

use super::finding;
use crate::mailbox::report::{Class, Report};
use crate::mailbox::scripts::Scripts;

/// Every script must be on the new side as it is on the old one, and the same one active. What is only on the new side, and
/// not active, does nothing.
pub fn scripts(old: &Scripts, new: &Scripts, report: &mut Report) {
    report.sieve = old.to_string();
    let shown = |name: &str, script: Option<&Vec<u8>>| match script {
        Some(script) => format!("{name:?}, {} octets", script.len()),
        None => "missing".to_owned(),
    };
    for (name, script) in &old.all {
        let there = new.all.get(name);
        if there != Some(script) {
            let (old, new) = (shown(name, Some(script)), shown(name, there));
            report.add(finding(Class::Difference, "sieve", None, old, new));
        }
    }
    for (name, script) in new.all.iter().filter(|(name, _)| !old.all.contains_key(*name)) {
        report.add(finding(Class::Note, "sieve", None, "missing", shown(name, Some(script))));
    }
    if old.active != new.active {
        let active =
            |side: &Scripts| side.active.as_ref().map_or_else(|| "none".to_owned(), |name| format!("{name:?}"));
        report.add(finding(Class::Difference, "sieve-active", None, active(old), active(new)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(all: &[(&str, &str)], active: Option<&str>) -> Scripts {
        let all = all.iter().map(|(name, script)| ((*name).to_owned(), script.as_bytes().to_vec())).collect();
        Scripts { all, active: active.map(str::to_owned) }
    }

    #[test]
    fn scripts_must_be_equal_and_the_same_one_active() {
        let old = side(&[("a", "keep;"), ("b", "stop;")], Some("a"));
        for (new, found) in [
            (old.clone(), vec![]),
            (side(&[("a", "keep;")], Some("a")), vec!["Difference sieve \"b\", 5 octets missing"]),
            (
                side(&[("a", "stop;"), ("b", "stop;")], Some("a")),
                vec!["Difference sieve \"a\", 5 octets \"a\", 5 octets"],
            ),
            (side(&[("a", "keep;"), ("b", "stop;")], None), vec!["Difference sieve-active \"a\" none"]),
            (
                side(&[("a", "keep;"), ("b", "stop;"), ("c", "")], Some("c")),
                vec!["Note sieve missing \"c\", 0 octets", "Difference sieve-active \"a\" \"c\""],
            ),
        ] {
            let mut report = Report::new("u1", false);
            scripts(&old, &new, &mut report);
            let shown = report.findings.iter().map(|f| format!("{:?} {} {} {}", f.class, f.rule, f.old, f.new));
            assert_eq!(shown.collect::<Vec<_>>(), found);
            assert_eq!(report.sieve, "2 scripts, \"a\" is active");
        }
    }
}
