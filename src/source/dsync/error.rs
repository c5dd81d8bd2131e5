//! What can go wrong while a side is read by dsync.

use std::fmt;

use crate::net::doveadm::Reason;
use crate::wire::dsync::doveadm::{LogLine, said};

/// A session that failed.
#[derive(Debug)]
pub struct DsyncError(Box<Details>);

#[derive(Debug)]
struct Details {
    user: String,
    url: String,
    reason: Reason,
    log: String,
}

impl DsyncError {
    pub(super) fn new(user: &str, url: &str, reason: Reason, log: &[LogLine]) -> Self {
        // A login name comes from a client: no control characters into a log.
        let user = user.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self(Box::new(Details { user, url: url.to_owned(), reason, log: said(log) }))
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Without whom and where: why, and what the server logged.
    #[must_use]
    pub fn what(&self) -> String {
        format!("{}{}", self.0.reason, self.0.log)
    }
}

impl fmt::Display for DsyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { user, url, .. } = &*self.0;
        match user.as_str() {
            "" => write!(f, "can't use {url}: {}", self.what()),
            user => write!(f, "can't read {user} from {url}: {}", self.what()),
        }
    }
}

impl std::error::Error for DsyncError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.reason.source()
    }
}
