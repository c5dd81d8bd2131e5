//! The file as written: a typed reader on spanned TOML that ties every problem to a line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::{Report, nearest};

/// Reads a text file of at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(text)
}

/// The keys of a section.
pub(super) struct Keys {
    /// What can be set.
    pub(super) known: &'static [&'static str],
    /// What will be there one day; an error until then.
    pub(super) later: &'static [&'static str],
}

/// Parses the whole file; its syntax errors go to `report`.
pub(super) fn table<'a>(report: &Report<'a>) -> Option<Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(report.text());
    for error in &errors {
        let at = error.span().map(|span| span.start);
        let key = at.and_then(|at| key_at(report.text(), at));
        // What the parser takes an unquoted text for.
        let hint = if error.message().starts_with("invalid") { " (a text needs quotes)" } else { "" };
        report.add(at, key, format!("not valid TOML: {}{hint}", error.message().replace('\n', ", ")));
    }
    errors.is_empty().then_some(table)
}

/// The key on the line of byte `at`, where its text has the form of one. The rest of a broken line isn't shown: it may
/// hold a secret.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let (key, _) = text.get(start..)?.lines().next()?.split_once('=')?;
    let key = key.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(plain)).then_some(key)
}

/// A table of the file, or one that is left out: then every key is.
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    /// Dotted name; empty for the root.
    name: String,
    at: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The root table.
    pub(super) fn root(report: &'a Report<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { report, name: String::new(), at: None, table: Some(table.get_ref()) }
    }

    /// Complains about every key that isn't in `keys`; `elsewhere` are the keys of all other sections, dotted.
    pub(super) fn check(&self, keys: &Keys, elsewhere: &[(&'static str, &'static Keys)]) {
        for (key, _) in self.table.into_iter().flatten() {
            let (at, name) = (Some(key.span().start), key.get_ref().as_ref());
            if keys.known.contains(&name) {
                continue;
            }
            let dotted = self.dotted(name);
            if keys.later.contains(&name) {
                self.report.add(at, None, format!("not supported yet: {dotted}"));
                continue;
            }
            let home = elsewhere.iter().find(|(section, keys)| *section != self.name && keys.known.contains(&name));
            let advice = if let Some(near) = nearest(name, keys.known.iter().copied()) {
                format!("did you mean \"{near}\"?")
            } else if let Some((section, _)) = home {
                format!("\"{name}\" belongs under [{section}]")
            } else {
                format!("known keys here: {}", keys.known.join(", "))
            };
            self.report.add(at, Some(&dotted), format!("unknown key; {advice}"));
        }
    }

    /// The table `key`, also if it is left out.
    pub(super) fn section(&self, key: &str) -> Option<Section<'a>> {
        match self.get(key) {
            Some(entry) => entry.section(),
            None => Some(Self { report: self.report, name: self.dotted(key), at: None, table: None }),
        }
    }

    /// Whether the table is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<Entry<'a>> {
        let (key, value) = self.table?.get_key_value(key)?;
        // For a table the value's span is its header, else the value itself.
        let at = value.span().start;
        Some(Entry { report: self.report, key: self.dotted(key.get_ref()), at, value: value.get_ref() })
    }

    /// The value of `key`, which must be there; `example` shows how it looks.
    pub(super) fn require(&self, key: &str, example: &str) -> Option<Entry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.report.add(self.at, Some(&self.dotted(key)), format!("missing; for example: {key} = {example}"));
        }
        entry
    }

    /// What `read` makes of the value of `key`, or `default` if it is left out.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Entry<'a>) -> Option<T>) -> Option<T> {
        self.get(key).map_or(Some(default), |entry| read(&entry))
    }

    /// A path as it is used: relative to the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.report.resolve(path)
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// A value of the file.
pub(super) struct Entry<'a> {
    report: &'a Report<'a>,
    key: String,
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    /// Notes that this value is wrong.
    pub(super) fn fail<T>(&self, message: impl fmt::Display) -> Option<T> {
        self.report.add(Some(self.at), Some(&self.key), message.to_string());
        None
    }

    /// Notes that this value names a feature that isn't there yet; `what` is shown behind the key.
    pub(super) fn later<T>(&self, what: impl fmt::Display) -> Option<T> {
        self.report.add(Some(self.at), None, format!("not supported yet: {} = {what}", self.key));
        None
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        let article = if self.value.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
        self.fail(format!("expected {what}, found {article} {}", self.value.type_str()))
    }

    /// A string that isn't empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value.as_str() {
            Some("") => self.fail("must not be empty"),
            Some(text) => Some(text),
            None => self.expected("a string"),
        }
    }

    /// What `read` makes of a string.
    pub(super) fn parse<T, E: fmt::Display>(&self, read: impl FnOnce(&'a str) -> Result<T, E>) -> Option<T> {
        match read(self.text()?) {
            Ok(value) => Some(value),
            Err(error) => self.fail(error),
        }
    }

    /// A path, relative to the file's folder.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.report.resolve(text))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.expected("true or false"))
    }

    /// A whole number within `range`.
    pub(super) fn count(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let Some(number) = self.value.as_integer() else {
            return self.expected("a whole number");
        };
        match usize::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if range.contains(&count) => Some(count),
            _ => self.fail(format!("{number} is not between {} and {}", range.start(), range.end())),
        }
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Option<Vec<Entry<'a>>> {
        let Some(items) = self.value.as_array() else {
            return self.expected("a list of strings, such as [\"…\"]");
        };
        let entry = |item: &'a Spanned<DeValue<'a>>| Entry {
            report: self.report,
            key: self.key.clone(),
            at: item.span().start,
            value: item.get_ref(),
        };
        Some(items.iter().map(entry).collect())
    }

    /// The values of a list, or the one value that stands for a list of it.
    pub(super) fn one_or_more(self) -> Vec<Entry<'a>> {
        if self.value.is_array() { self.list().unwrap_or_default() } else { vec![self] }
    }

    /// The tables of a `[[list]]`.
    pub(super) fn tables(&self) -> Option<Vec<Entry<'a>>> {
        let all_tables = |items: &'a [Spanned<DeValue<'a>>]| items.iter().all(|item| item.get_ref().is_table());
        match self.value.as_array() {
            Some(items) if all_tables(items) => self.list(),
            _ => self.fail(format!("is written as [[{}]], once for each", self.key)),
        }
    }

    /// Whether this is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// A table, inline or with a header of its own.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            return self.expected("a table");
        };
        Some(Section { report: self.report, name: self.key.clone(), at: Some(self.at), table: Some(table) })
    }
}
