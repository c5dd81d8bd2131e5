//! `login_name` and `login_names` under `[old]` and `[new]`: by which name a side knows a user.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::raw::{Section, read_text};
use crate::wire::credentials::is_name;

/// Ten million users with names of some twenty octets.
const MAX_TABLE: u64 = 512 << 20;

/// By which name a side knows a user. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideNames {
    template: Template,
    table: Option<Table>,
}

impl SideNames {
    /// The name that `typed` (without a master user's suffix) stands for at this side; `canonical` is the user's key, and has
    /// a domain wherever the template wants one.
    #[must_use]
    pub fn of(&self, typed: &str, canonical: &str) -> String {
        let listed = self.table.as_ref().and_then(|table| table.0.get(canonical));
        listed.map_or_else(|| self.template.fill(typed, canonical), |name| String::from(&**name))
    }

    /// Whether names go to this side as they were typed.
    #[must_use]
    pub fn as_typed(&self) -> bool {
        *self == Self::default()
    }
}

/// The users of a file and their names. Only their number is in its `Debug`.
#[derive(Clone, PartialEq, Eq)]
struct Table(Arc<HashMap<Box<str>, Box<str>>>);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} users)", self.0.len())
    }
}

/// `%u`, `%n`, `%d` with text around them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name { which: Which, lower: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// All of it.
    User,
    /// What stands before the `@`.
    Local,
    /// What stands behind it, or the default domain.
    Domain,
}

impl Default for Template {
    fn default() -> Self {
        Self(vec![Piece::Name { which: Which::User, lower: false }])
    }
}

impl Template {
    /// Reads a template.
    fn parse(text: &str, domains: bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (lower, letter) = after.strip_prefix('L').map_or((false, after), |letter| (true, letter));
            let which = match letter.chars().next() {
                Some('u') => Which::User,
                Some('n') => Which::Local,
                Some('d') if domains => Which::Domain,
                Some('d') => {
                    return Err("%d needs [users] default_domain: not every login name has a domain".to_owned());
                }
                _ => return Err(format!("\"{text}\" has a % that is none of %u, %n, %d, %Lu, %Ln, %Ld")),
            };
            pieces.push(Piece::Name { which, lower });
            rest = letter.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let own = |piece: &Piece| matches!(piece, Piece::Name { which: Which::User | Which::Local, .. });
        if !pieces.iter().any(own) {
            return Err(format!("\"{text}\" would be one name for all users: it needs %u or %n"));
        }
        Ok(Self(pieces))
    }

    fn fill(&self, typed: &str, canonical: &str) -> String {
        let local = typed.rsplit_once('@').map_or(typed, |(local, _)| local);
        let domain = typed.rsplit_once('@').or_else(|| canonical.rsplit_once('@')).map_or("", |(_, domain)| domain);
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Name { which, lower } => {
                    let part = match which {
                        Which::User => typed,
                        Which::Local => local,
                        Which::Domain => domain,
                    };
                    if *lower { name.push_str(&part.to_lowercase()) } else { name.push_str(part) }
                }
            }
        }
        name
    }
}

/// Reads both keys of a side; `default_domain` completes names in the file.
pub(super) fn side_names(section: &Section<'_>, default_domain: Option<&str>) -> Option<SideNames> {
    let template = section.or("login_name", Template::default(), |entry| {
        entry.parse(|text| Template::parse(text, default_domain.is_some()))
    });
    let table = section.or("login_names", None, |entry| {
        let path = entry.path()?;
        entry.parse(|_| table(&path, default_domain)).map(Some)
    });
    Some(SideNames { template: template?, table: table? })
}

/// Lines of `USER NAME`; empty ones and those that begin with `#` are passed over.
fn table(path: &Path, default_domain: Option<&str>) -> Result<Table, String> {
    let text = read_text(path, MAX_TABLE).map_err(|error| format!("can't read {}: {error}", path.display()))?;
    let mut names = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: String| format!("{} line {}: {what}", path.display(), index + 1);
        let mut words = line.split_whitespace();
        let (user, name) = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(user), ..) if user.starts_with('#') => continue,
            (Some(user), Some(name), None) if is_name(user) && is_name(name) => (user, name),
            _ => return Err(wrong("is not a user and a name, with a blank between them".to_owned())),
        };
        let mut user = user.to_lowercase();
        if let (false, Some(domain)) = (user.contains('@'), default_domain) {
            user = format!("{user}@{domain}");
        }
        if names.insert(Box::from(user.as_str()), Box::from(name)).is_some() {
            return Err(wrong(format!("{user} has a name already")));
        }
    }
    Ok(Table(Arc::new(names)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn filled(template: &str, typed: &str, canonical: &str) -> String {
        SideNames { template: Template::parse(template, true).unwrap(), table: None }.of(typed, canonical)
    }

    #[test]
    fn a_template_makes_a_name_of_what_was_typed() {
        for (template, typed, name) in [
            ("%u", "Anna", "Anna"),
            ("%u", "Anna@Other.example", "Anna@Other.example"),
            ("%n", "Anna@Other.example", "Anna"),
            ("%Ln", "Anna@Other.example", "anna"),
            ("%n@%d", "Anna", "Anna@example.net"),
            ("%n@%Ld", "Anna@Other.example", "Anna@other.example"),
            ("%Ld/%Ln", "Anna", "example.net/anna"),
            ("user-%Lu!", "ÄNNE", "user-änne!"),
            ("%n", "a@b@c", "a@b"),
        ] {
            let canonical = typed.to_lowercase();
            let canonical = if canonical.contains('@') { canonical } else { format!("{canonical}@example.net") };
            assert_eq!(filled(template, typed, &canonical), name, "{template}");
        }
    }

    #[test]
    fn a_template_that_is_none_is_refused() {
        for (template, said) in [
            ("%x", "none of"),
            ("%", "none of"),
            ("%L", "none of"),
            ("mail", "one name for all"),
            ("%d", "one name for all"),
        ] {
            assert!(Template::parse(template, true).unwrap_err().contains(said), "{template}");
        }
        assert!(Template::parse("%n@%d", false).unwrap_err().contains("default_domain"));
    }
}
