//! Several platforms behind one proxy: whose user is whose.

use std::collections::HashMap;
use std::sync::Arc;

use super::CanonicalUser;
use crate::config::Config;

/// One thing for each realm of the configuration, and one for the users whose domain has no realm. Cheap to clone.
#[derive(Debug)]
pub struct Realms<T> {
    all: Arc<All<T>>,
}

#[derive(Debug)]
struct All<T> {
    /// For users of no realm.
    rest: T,
    realms: Vec<T>,
    /// Which of `realms` a domain has.
    domains: HashMap<String, usize>,
}

impl<T> Clone for Realms<T> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all) }
    }
}

impl<T> Realms<T> {
    /// Makes each from the configuration as it is for that realm's users.
    ///
    /// # Errors
    /// The first one of `make`.
    pub fn build<E>(config: &Arc<Config>, mut make: impl FnMut(Arc<Config>) -> Result<T, E>) -> Result<Self, E> {
        let mut domains = HashMap::new();
        for (index, realm) in config.realms.iter().enumerate() {
            domains.extend(realm.domains.iter().map(|domain| (domain.clone(), index)));
        }
        let rest = make(Arc::clone(config))?;
        let realms =
            config.realms.iter().map(|realm| make(Arc::new(config.within(realm)))).collect::<Result<_, E>>()?;
        Ok(Self { all: Arc::new(All { rest, realms, domains }) })
    }

    /// The one for everybody.
    #[must_use]
    pub fn single(rest: T) -> Self {
        Self { all: Arc::new(All { rest, realms: Vec::new(), domains: HashMap::new() }) }
    }

    /// The one of a user.
    #[must_use]
    pub fn of(&self, user: &CanonicalUser) -> &T {
        user.domain().map_or(&self.all.rest, |domain| self.of_domain(domain))
    }

    /// The one of a domain's users; `domain` in lower case.
    #[must_use]
    pub fn of_domain(&self, domain: &str) -> &T {
        let index = self.all.domains.get(domain);
        index.and_then(|index| self.all.realms.get(*index)).unwrap_or(&self.all.rest)
    }

    /// The one of users whose domain has no realm.
    #[must_use]
    pub fn rest(&self) -> &T {
        &self.all.rest
    }

    /// All of them, the rest's first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.all.rest).chain(&self.all.realms)
    }
}
