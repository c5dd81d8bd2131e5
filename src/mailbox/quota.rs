//! How much mail a side lets a user have.

use std::fmt;

/// A quota root that INBOX counts towards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaRoot {
    /// As the server calls it.
    pub name: String,
    /// Octets.
    pub octets: Option<Bound>,
    /// Messages.
    pub messages: Option<Bound>,
}

/// How much there is, and how much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is there.
    pub used: u64,
    /// What may be there.
    pub limit: u64,
}

/// The quota roots of INBOX; none where a server tells of none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota(pub Vec<QuotaRoot>);

/// How much mail there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Octets, rounded up to what a quota counts.
    pub octets: u64,
    /// Messages.
    pub messages: u64,
}

impl Quota {
    /// Whether anything is limited.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.0.iter().any(|root| root.octets.is_some() || root.messages.is_some())
    }

    /// Octets that are counted, by the root that counts most.
    #[must_use]
    pub fn octets(&self) -> Option<u64> {
        self.0.iter().filter_map(|root| root.octets).map(|bound| bound.used).max()
    }

    /// Why so much mail has no room, in words.
    #[must_use]
    pub fn too_small_for(&self, usage: Usage) -> Option<String> {
        self.0.iter().find_map(|QuotaRoot { name, octets, messages }| {
            let over = |bound: &Option<Bound>, used| bound.is_some_and(|bound| used > bound.limit);
            let limit = |bound: &Option<Bound>| bound.map(|bound| bound.limit).unwrap_or_default();
            if over(octets, usage.octets) {
                let (used, limit) = (kib(usage.octets), kib(limit(octets)));
                return Some(format!(
                    "{used} of mail on the old side, and the quota {name:?} of the new side allows {limit}"
                ));
            }
            over(messages, usage.messages).then(|| {
                let (used, limit) = (usage.messages, limit(messages));
                format!("{used} messages on the old side, and the quota {name:?} of the new side allows {limit}")
            })
        })
    }
}

/// In words: `"User quota": 512 of 1024 KiB, 3 of 10 messages`.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_limited() {
            return f.write_str("none that it tells of");
        }
        let mut between = "";
        for QuotaRoot { name, octets, messages } in &self.0 {
            let octets = octets.map(|Bound { used, limit }| format!(" {} of {}", kib(used), kib(limit)));
            let messages = messages.map(|Bound { used, limit }| format!(" {used} of {limit} messages"));
            let parts: Vec<String> = octets.into_iter().chain(messages).collect();
            if !parts.is_empty() {
                write!(f, "{between}{name:?}:{}", parts.join(","))?;
                between = "; ";
            }
        }
        Ok(())
    }
}

fn kib(octets: u64) -> String {
    format!("{} KiB", octets.div_ceil(1024))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_said_with_both_numbers() {
        let bound = |used, limit| Some(Bound { used, limit });
        let root = |octets, messages| QuotaRoot { name: "User quota".to_owned(), octets, messages };
        let quota = Quota(vec![QuotaRoot::default(), root(bound(0, 2048), bound(1, 3))]);
        let why = |octets, messages| quota.too_small_for(Usage { octets, messages });
        assert_eq!(why(2048, 3), None);
        assert!(why(2049, 3).unwrap().starts_with("3 KiB of mail on the old side, and the quota \"User quota\""));
        assert!(why(1, 4).unwrap().ends_with("of the new side allows 3"));
        assert_eq!(Quota::default().too_small_for(Usage { octets: u64::MAX, messages: u64::MAX }), None);
        assert_eq!(quota.to_string(), "\"User quota\": 0 KiB of 2 KiB, 1 of 3 messages");
        assert_eq!(Quota(vec![QuotaRoot::default()]).to_string(), "none that it tells of");
    }
}
