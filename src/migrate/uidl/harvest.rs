//! POP3 lists that passed by in users' own sessions: they cost the old side nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use crate::mailbox::pop3::Pop3List;
use crate::user::CanonicalUser;

/// Messages in all lists that are kept; about 100 octets each. Beyond it the oldest lists go.
const MESSAGES_MAX: usize = 1_000_000;

/// Users whose lists are kept.
const USERS_MAX: usize = 1024;

/// A list that is older has hardly a chance to hold every message that is there now.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// The newest list of each user. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Harvests {
    lists: Arc<Mutex<HashMap<CanonicalUser, (Instant, Pop3List)>>>,
}

impl Harvests {
    /// Keeps a list that the old side told `user`, in place of an older one.
    pub fn put(&self, user: CanonicalUser, list: Pop3List) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert(user, (Instant::now(), list));
        let messages = |lists: &HashMap<CanonicalUser, (Instant, Pop3List)>| -> usize {
            lists.values().map(|(_, list)| list.messages().len()).sum()
        };
        while lists.len() > USERS_MAX || messages(&lists) > MESSAGES_MAX {
            let oldest = lists.iter().min_by_key(|(_, (at, _))| *at).map(|(user, _)| user.clone());
            let Some(oldest) = oldest else { return };
            lists.remove(&oldest);
        }
    }

    /// Takes a user's list out, if there is one that is not too old to be of use.
    #[must_use]
    pub fn take_fresh(&self, user: &CanonicalUser) -> Option<Pop3List> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.remove(user).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, list)| list)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(number: usize) -> CanonicalUser {
        CanonicalUser::from_stored(format!("u{number}"))
    }

    fn list(uidl: &str) -> Pop3List {
        Pop3List::new([(uidl.as_bytes().to_vec(), 1)]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_list_of_each_user_is_kept_for_a_while() {
        let harvests = Harvests::default();
        harvests.put(user(1), list("a"));
        harvests.put(user(1), list("b"));
        assert_eq!(harvests.take_fresh(&user(1)), Some(list("b")));
        assert_eq!(harvests.take_fresh(&user(1)), None, "a list is used once");
        harvests.put(user(1), list("c"));
        tokio::time::advance(FRESH).await;
        assert_eq!(harvests.take_fresh(&user(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_the_oldest_go() {
        let harvests = Harvests::default();
        for number in 0..=USERS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            harvests.put(user(number), list("a"));
        }
        assert_eq!(harvests.take_fresh(&user(0)), None);
        assert!(harvests.take_fresh(&user(1)).is_some());
    }
}
