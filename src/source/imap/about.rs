//! What is asked of one mailbox beside its messages: the quota that it counts towards.

use super::{ImapReader, ReadError};
use crate::mailbox::quota::{Bound, Quota, QuotaRoot};
use crate::net::imap::{ImapError, printable};
use crate::wire::imap::command::{self, About};
use crate::wire::imap::scan::{self, QuotaItem, Response};

/// Quota roots of one mailbox.
const ROOTS_MAX: usize = 64;

impl ImapReader {
    /// The quota roots of INBOX; none where the server has no quotas, or doesn't tell of them.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn quota(&mut self) -> Result<Quota, ReadError> {
        let mut roots = Vec::new();
        if self.connection.capabilities().has("QUOTA") {
            self.ask(About::QuotaRoot, b"INBOX", &mut |response| {
                if let Response::Quota(item) = response
                    && roots.len() < ROOTS_MAX
                {
                    roots.push(root(&item));
                }
            })
            .await?;
        }
        Ok(Quota(roots))
    }

    /// Asks a question about a mailbox; `each` sees the untagged responses. False if the server refuses it.
    pub(super) async fn ask(
        &mut self,
        what: About,
        raw: &[u8],
        each: &mut (dyn FnMut(Response<'_>) + Send),
    ) -> Result<bool, ReadError> {
        let tag = self.connection.tag();
        let command = self.connection.encoded(command::about(&tag, what, raw))?;
        self.connection.send(command).await?;
        self.connection.flush().await?;
        loop {
            let response = self.connection.response().await?;
            match self.connection.ended(what.word(), &tag, &response) {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => each(scan::response(&response)),
                Err(ImapError::Refused { text, .. }) => {
                    tracing::debug!(mailbox = printable(raw), "{} refused: {text}", what.word());
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn root(item: &QuotaItem) -> QuotaRoot {
    let bound = |unit: u64| {
        move |(used, limit): (u64, u64)| Bound { used: used.saturating_mul(unit), limit: limit.saturating_mul(unit) }
    };
    QuotaRoot {
        name: printable(&item.root),
        octets: item.storage.map(bound(1024)),
        messages: item.messages.map(bound(1)),
    }
}
