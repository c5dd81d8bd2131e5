//! What operators have said of users who have not begun to move, beside `migration.enroll` of the configuration.

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::model::StoreError;
use super::sqlite::Store;

/// What a rule says of its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Their next login starts the move.
    Enroll,
    /// It doesn't.
    Hold,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Hold => "hold",
        }
    }
}

/// Part of all users, in hundredths of a percent: 0 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// Everybody.
    pub const ALL: Self = Self(10_000);

    /// So many percent, at most a hundred.
    #[must_use]
    pub const fn percent(percent: u16) -> Self {
        if percent >= 100 { Self::ALL } else { Self(percent * 100) }
    }

    /// Where a user stands among all users: their share is the smallest that holds them. It depends on the name alone, so
    /// a larger share holds everybody whom a smaller one held, on every day and every machine.
    #[must_use]
    pub fn of(user: &str) -> Self {
        let hash = blake3::hash(user.as_bytes());
        let number = hash.as_bytes().iter().take(8).fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        Self(u16::try_from(number % u64::from(Self::ALL.0)).unwrap_or_default())
    }

    /// Whether `user` is in this share.
    #[must_use]
    pub fn holds(self, user: &str) -> bool {
        Self::of(user) < self
    }
}

/// `5`, `0.5` or `12.25`, in percent.
impl std::str::FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(text.to_owned());
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        if !digits(whole) || !digits(rest) || rest.len() > 2 {
            return Err(wrong());
        }
        let hundredths = if rest.len() == 1 { format!("{rest}0") } else { rest.to_owned() };
        let (whole, hundredths): (u16, u16) =
            (whole.parse().map_err(|_| wrong())?, hundredths.parse().map_err(|_| wrong())?);
        let share = whole.checked_mul(100).and_then(|whole| whole.checked_add(hundredths)).ok_or_else(wrong)?;
        if share > Self::ALL.0 { Err(wrong()) } else { Ok(Self(share)) }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, rest) => write!(f, "{whole}.{rest:02}"),
        }
    }
}

/// No part of all users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not between 0 and 100 percent, with at most two digits behind the point")]
pub struct ShareError(String);

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One canonical user.
    User(String),
    /// All users of a domain, lower case.
    Domain(String),
    /// A part of all users.
    Share(Share),
    /// Everybody.
    All,
}

impl Scope {
    /// Whether a canonical user is one of them.
    #[must_use]
    pub fn holds(&self, user: &str) -> bool {
        match self {
            Self::User(name) => name == user,
            Self::Domain(domain) => domain_of(user) == Some(domain),
            Self::Share(share) => share.holds(user),
            Self::All => true,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Domain(_) => "domain",
            Self::Share(_) => "share",
            Self::All => "all",
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::User(name) | Self::Domain(name) => Some(name),
            Self::Share(_) | Self::All => None,
        }
    }

    const fn share(&self) -> Option<u16> {
        match self {
            Self::Share(share) => Some(share.0),
            _ => None,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => f.write_str(name),
            Self::Domain(domain) => write!(f, "the users of {domain}"),
            Self::Share(share) => write!(f, "{share} percent of all users"),
            Self::All => f.write_str("all users"),
        }
    }
}

fn domain_of(user: &str) -> Option<&str> {
    user.rsplit_once('@').map(|(_, domain)| domain)
}

impl Store {
    /// Makes a rule, the newest one. An older one about the same users is forgotten, and so is one about another share of
    /// all users: there is one share at a time.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn set_rule(&self, verdict: Verdict, scope: Scope) -> Result<(), StoreError> {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "DELETE FROM enrolment WHERE kind = ?1 AND name IS ?2 AND (kind <> 'share' OR verdict = ?3)",
                params![scope.kind(), scope.name(), verdict.as_str()],
            )?;
            transaction.execute(
                "INSERT INTO enrolment (verdict, kind, name, share) VALUES (?1, ?2, ?3, ?4)",
                params![verdict.as_str(), scope.kind(), scope.name(), scope.share()],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Takes a rule back. False if there was none.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn drop_rule(&self, verdict: Verdict, scope: Scope) -> Result<bool, StoreError> {
        self.run(move |connection| {
            let dropped = connection.execute(
                "DELETE FROM enrolment WHERE verdict = ?1 AND kind = ?2 AND name IS ?3",
                params![verdict.as_str(), scope.kind(), scope.name()],
            )?;
            Ok(dropped > 0)
        })
        .await
    }

    /// What the newest rule about a user says; none if there is no rule about them.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn verdict(&self, user: &str) -> Result<Option<Verdict>, StoreError> {
        let user = user.to_owned();
        self.look(move |connection| {
            let word: Option<String> = connection
                .prepare_cached(
                    "SELECT verdict FROM enrolment WHERE kind = 'all' OR (kind = 'user' AND name = ?1)
                     OR (kind = 'domain' AND name = ?2) OR (kind = 'share' AND share > ?3) ORDER BY id DESC LIMIT 1",
                )?
                .query_row(params![user, domain_of(&user), Share::of(&user).0], |row| row.get(0))
                .optional()?;
            Ok(word.map(|word| if word == "hold" { Verdict::Hold } else { Verdict::Enroll }))
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_stable_nested_and_about_as_large_as_they_say() {
        let users: Vec<String> = (0..10_000).map(|number| format!("user{number}@example.net")).collect();
        let inside = |share: &str| -> Vec<&String> {
            let share: Share = share.parse().unwrap();
            users.iter().filter(|user| share.holds(user)).collect()
        };
        assert_eq!((inside("0").len(), inside("100").len()), (0, 10_000));
        let (some, more) = (inside("5"), inside("20.5"));
        assert!(
            (400..600).contains(&some.len()) && (1900..2200).contains(&more.len()),
            "{} {}",
            some.len(),
            more.len()
        );
        assert!(some.iter().all(|user| more.contains(user)));
        // What it was when the first users were moved by it.
        assert_eq!(Share::of("anna@example.net").to_string(), ANNA);
        for wrong in ["", "-1", "100.01", "101", "1.234", "5%", "1e1", ".5", "5.", "999999999999"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert_eq!("12.5".parse::<Share>().unwrap().to_string(), "12.50");
        assert_eq!(Share::percent(7), "7".parse().unwrap());
    }

    const ANNA: &str = "65";

    #[tokio::test]
    async fn the_newest_rule_about_a_user_decides() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.db")).unwrap();
        let (anna, bert) = ("anna@example.net", "bert@example.org");
        let of = async |user| store.verdict(user).await.unwrap();
        assert_eq!(of(anna).await, None);
        store.set_rule(Verdict::Enroll, Scope::Domain("example.net".to_owned())).await.unwrap();
        assert_eq!((of(anna).await, of(bert).await, of("anna").await), (Some(Verdict::Enroll), None, None));
        store.set_rule(Verdict::Hold, Scope::All).await.unwrap();
        assert_eq!((of(anna).await, of(bert).await), (Some(Verdict::Hold), Some(Verdict::Hold)));
        store.set_rule(Verdict::Enroll, Scope::User(bert.to_owned())).await.unwrap();
        assert_eq!((of(anna).await, of(bert).await), (Some(Verdict::Hold), Some(Verdict::Enroll)));
        assert!(store.drop_rule(Verdict::Hold, Scope::All).await.unwrap());
        assert!(!store.drop_rule(Verdict::Hold, Scope::All).await.unwrap());
        assert_eq!((of(anna).await, of("carl").await), (Some(Verdict::Enroll), None));
        store.set_rule(Verdict::Enroll, Scope::Share(Share::ALL)).await.unwrap();
        assert_eq!(of("carl").await, Some(Verdict::Enroll));
        store.set_rule(Verdict::Enroll, Scope::Share("0".parse().unwrap())).await.unwrap();
        assert_eq!(of("carl").await, None, "a smaller share takes the place of a larger one");
    }
}
