//! Who may do what in whose mailboxes: MYRIGHTS of what others share, GETACL of the user's own.

use std::collections::BTreeMap;

use super::{ImapReader, ReadError};
use crate::mailbox::sharing::{Rights, Sharing};
use crate::mailbox::{Account, Listed, MailboxName};
use crate::net::imap::{ImapError, printable};
use crate::wire::imap::command::{self, About};
use crate::wire::imap::scan::{self, Response};

/// Commands on the way at once.
const WINDOW: usize = 64;

/// Mailboxes of others that are asked for.
const OTHERS_MAX: usize = 10_000;

/// Users on one mailbox.
const ENTRIES_MAX: usize = 1000;

impl ImapReader {
    /// Who may do what in the mailboxes of `account`; nothing where the server has no rights (RFC 4314).
    ///
    /// # Errors
    /// If the connection breaks. What the server refuses to tell is left out.
    pub async fn sharing(&mut self, account: &Account) -> Result<Sharing, ReadError> {
        let mut sharing = Sharing::default();
        if !self.connection.capabilities().has("ACL") {
            return Ok(sharing);
        }
        let others: Vec<&String> = account.others.keys().take(OTHERS_MAX).collect();
        for raw in others.chunks(WINDOW) {
            let names = raw.iter().map(|raw| raw.as_bytes());
            for (raw, answer) in raw.iter().zip(self.each_rights(About::MyRights, names).await?) {
                if let Some(rights) = answer.into_iter().find_map(|(who, rights)| who.is_empty().then_some(rights)) {
                    sharing.others.insert((*raw).clone(), rights);
                }
            }
        }
        let own: Vec<(&MailboxName, &Listed)> =
            account.mailboxes.iter().filter(|(name, listed)| listed.selectable && !account.carries(name)).collect();
        let owner = self.access.user().to_ascii_lowercase();
        for window in own.chunks(WINDOW) {
            let names = window.iter().map(|(_, listed)| listed.raw.as_slice());
            for ((name, _), answer) in window.iter().zip(self.each_rights(About::Acl, names).await?) {
                let mut entries = answer;
                entries.retain(|who, rights| !is_owner(who, &owner) && !rights.is_empty());
                if !entries.is_empty() {
                    sharing.own.insert((*name).clone(), entries);
                }
            }
        }
        Ok(sharing)
    }

    /// The answers to one question about several mailboxes, in their order; the user's own rights have no name.
    pub(super) async fn each_rights<'a>(
        &mut self,
        what: About,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<BTreeMap<String, Rights>>, ReadError> {
        let mut tags = Vec::new();
        for raw in names {
            let tag = self.connection.tag();
            let command = self.connection.encoded(command::about(&tag, what, raw))?;
            self.connection.send(command).await?;
            tags.push(tag);
        }
        self.connection.flush().await?;
        let mut answers = Vec::with_capacity(tags.len());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        for tag in tags {
            let mut answer = BTreeMap::new();
            loop {
                let response = self.connection.response().await?;
                match self.connection.ended(what.word(), &tag, &response) {
                    Ok(Some(_)) => break,
                    Ok(None) => {}
                    Err(ImapError::Refused { text, .. }) => {
                        tracing::debug!("{} refused: {text}", what.word());
                        answer.clear();
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
                match scan::response(&response) {
                    Response::MyRights(_, rights) => drop(answer.insert(String::new(), Rights::read(&text(&rights)))),
                    Response::Acl(item) => {
                        let entries = item.entries.iter().take(ENTRIES_MAX);
                        answer.extend(entries.map(|(who, rights)| (printable(who), Rights::read(&text(rights)))));
                    }
                    _ => {}
                }
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// Who has rights everywhere: the owner, by a word of the server's, and Courier's administrators.
const EVERYWHERE: [&str; 4] = ["owner", "#owner", "administrators", "group=administrators"];

/// Whether an identifier is the user's own, or stands for nobody in particular; servers write names with or without domain.
fn is_owner(who: &str, owner: &str) -> bool {
    let who = who.to_ascii_lowercase();
    let who = who.strip_prefix("user=").unwrap_or(&who);
    let local = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let both_full = who.contains('@') && owner.contains('@');
    EVERYWHERE.contains(&who) || who == owner || (!both_full && local(who) == local(owner))
}

#[cfg(test)]
mod tests {
    use super::is_owner;

    #[test]
    fn an_owner_is_known_with_and_without_a_domain() {
        for (who, owner, is) in [
            ("Anna", "anna", true),
            ("anna@example.net", "anna", true),
            ("anna", "anna@example.net", true),
            ("anna@other.example", "anna@example.net", false),
            ("owner", "anna", true),
            ("user=anna", "anna", true),
            ("administrators", "anna", true),
            ("ben", "anna", false),
            ("anyone", "anna", false),
        ] {
            assert_eq!(is_owner(who, owner), is, "{who} {owner}");
        }
    }
}
