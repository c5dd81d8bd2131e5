//! What is wrong with a configuration file: where, which key, what to do.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no [`super::Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself can't be read.
    #[error("{}: can't read the configuration: {source}", path.display())]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something wrong. One line for each problem: `FILE:LINE: KEY: message`.
    #[error("{}", Lines(path, problems))]
    Invalid {
        /// The configuration file.
        path: PathBuf,
        /// In the order of their lines; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line of the file, from 1; none for what is missing from the whole file.
    pub line: Option<usize>,
    /// Dotted key (`old.imap`), if it is about one and the message doesn't name it.
    pub key: Option<String>,
    /// What is wrong and what to write.
    pub message: String,
}

struct Lines<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.1.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.0.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if let Some(key) = &problem.key {
                write!(f, " {key}:")?;
            }
            write!(f, " {}", problem.message)?;
        }
        Ok(())
    }
}

/// Collects the problems of one file while it is read.
pub(super) struct Report<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: RefCell::default() }
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// A path of the file, relative to the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Notes a problem at byte `at` of the text.
    pub(super) fn add(&self, at: Option<usize>, key: Option<&str>, message: impl Into<String>) {
        let line = at.map(|at| self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
        let problem = Problem { line, key: key.map(str::to_owned), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// `value`, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        let mut problems = self.problems.into_inner();
        if let (Some(value), true) = (value, problems.is_empty()) {
            return Ok(value);
        }
        problems.sort();
        problems.dedup();
        Err(ConfigError::Invalid { path: self.path.to_owned(), problems })
    }
}

/// A key further than this share of its length from a known one is no slip of the pen.
const SLIP_SHARE: usize = 3;

/// The one of `known` that somebody who wrote `key` most likely meant.
pub(super) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let key = key.to_lowercase().replace('-', "_");
    let slips = key.chars().count().div_ceil(SLIP_SHARE);
    known.into_iter().map(|name| (distance(&key, name), name)).filter(|(far, _)| *far <= slips).min().map(|(_, n)| n)
}

/// Edit distance with transpositions (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, &from) in a.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, &to) in b.iter().enumerate() {
            let cell = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best = (cell(&last, column) + usize::from(from != to))
                .min(cell(&last, column + 1) + 1)
                .min(cell(&this, column) + 1);
            let swapped = row > 0 && column > 0 && a.get(row - 1) == Some(&to) && b.get(column - 1) == Some(&from);
            if swapped {
                best = best.min(cell(&before, column - 1) + 1);
            }
            this.push(best);
        }
        before = std::mem::replace(&mut last, this);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        for (a, b, far) in [
            ("", "", 0),
            ("", "ab", 2),
            ("imap", "imap", 0),
            ("imap", "imaps", 1),
            ("mial", "mail", 1),
            ("cert", "key", 3),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_key_is_a_slip_away() {
        let known = ["imap", "imaps", "allow_cleartext"];
        assert_eq!(nearest("imapss", known), Some("imaps"));
        assert_eq!(nearest("Allow-Cleartext", known), Some("allow_cleartext"));
        assert_eq!(nearest("smtp", known), Some("imap"));
        assert_eq!(nearest("colour", known), None);
    }
}
