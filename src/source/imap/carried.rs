//! The mailboxes of the *Shared* namespace (RFC 2342), read as the account's own: they belong to nobody, so one account carries
//! them for everybody.
//!
//! One that the account sees and has not the rights for is named; it is never left out as if it were not there.

use super::account::{has, is_selectable, name_of};
use super::{ImapReader, ReadError};
use crate::mailbox::sharing::Rights;
use crate::mailbox::{Account, Carried, MailboxName};
use crate::net::imap::printable;
use crate::wire::imap::command::About;
use crate::wire::imap::scan::{ListItem, Namespace, Namespaces};

/// Rights that are needed to read a mailbox.
const TO_READ: &str = "lr";

/// Where a name belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    /// In the user's personal namespace.
    Own,
    /// In this *Shared* namespace.
    Shared(&'a Namespace),
    /// In another user's.
    Others,
}

/// Where a name belongs: under no prefix of somebody else's it is the user's own, or, where such a prefix is empty (Cyrus), under
/// the personal one.
pub(super) fn whose<'a>(raw: &[u8], namespaces: &'a Namespaces) -> Whose<'a> {
    let Namespaces { personal, other, shared } = namespaces;
    // A prefix may be listed as a mailbox itself, without its delimiter.
    let within =
        |space: &&Namespace| !space.prefix.is_empty() && (raw.starts_with(&space.prefix) || is_root(raw, space));
    if let Some(space) = shared.iter().find(within) {
        return Whose::Shared(space);
    }
    if other.iter().any(|space| within(&space)) {
        return Whose::Others;
    }
    if raw.eq_ignore_ascii_case(b"INBOX") || personal.iter().any(|space| within(&space) && !is_root(raw, space)) {
        return Whose::Own;
    }
    if let Some(space) = shared.iter().find(|space| space.prefix.is_empty()) {
        return Whose::Shared(space);
    }
    if other.iter().any(|space| space.prefix.is_empty()) { Whose::Others } else { Whose::Own }
}

/// Whether a name is a namespace's prefix without its delimiter.
fn is_root(raw: &[u8], space: &Namespace) -> bool {
    space.prefix.split_last().is_some_and(|(_, name)| name == raw)
}

impl ImapReader {
    /// Takes the mailboxes of the *Shared* namespace for the account's own; `needed` are the rights that it must have in each.
    pub fn carry_shared(&mut self, needed: &'static str) {
        self.carries = Some(needed);
    }

    /// Nothing of what it carries, where it carries anything.
    pub(super) fn carried(&self, namespaces: &Namespaces) -> Option<Carried> {
        self.carries?;
        let spaces = namespaces.shared.iter();
        Some(Carried {
            personal: namespaces.personal.iter().map(|space| printable(&space.prefix)).collect(),
            spaces: spaces.map(|space| (printable(&space.prefix), space.delimiter.map(char::from))).collect(),
            ..Carried::default()
        })
    }

    /// Looks at the rights in what is carried. What can't be read is taken out of the list.
    pub(super) async fn open_carried(&mut self, account: &mut Account) -> Result<(), ReadError> {
        let (Some(carried), Some(needed)) = (&mut account.carried, self.carries) else { return Ok(()) };
        if !self.connection.capabilities().has("ACL") {
            return Ok(());
        }
        let raw = |name: &MailboxName| Some((name.clone(), account.mailboxes.get(name)?.raw.clone()));
        let asked: Vec<(MailboxName, Vec<u8>)> = carried.mailboxes.iter().filter_map(raw).collect();
        let rights = self.each_rights(About::MyRights, asked.iter().map(|(_, raw)| raw.as_slice())).await?;
        for ((name, raw), mut answer) in asked.into_iter().zip(rights) {
            // What the server doesn't tell is seen when the mailbox is read.
            let Some(rights) = answer.remove("") else { continue };
            let missing: String = needed.chars().filter(|letter| !rights.has(&letter.to_string())).collect();
            if !missing.is_empty() {
                carried.closed.insert(printable(&raw), lacking(&rights, &missing));
            }
            if !rights.has(TO_READ) {
                carried.mailboxes.remove(&name);
                account.mailboxes.remove(&name);
            }
        }
        Ok(())
    }
}

/// What is wrong with too few rights.
fn lacking(rights: &Rights, missing: &str) -> String {
    format!("gives this account the rights {rights} only: it needs {missing} as well")
}

/// Why a mailbox of a namespace can't be one of the account's, if it can't.
pub(super) fn out_of_line(space: &Namespace, delimiter: Option<u8>) -> Option<String> {
    let shown =
        |delimiter: Option<u8>| delimiter.map_or_else(|| "none".to_owned(), |known| format!("{:?}", char::from(known)));
    (space.delimiter != delimiter).then(|| {
        let [here, own] = [space.delimiter, delimiter].map(shown);
        format!("has the hierarchy separator {here}, and the account's own mailboxes have {own}: that can't be carried")
    })
}

/// Puts a mailbox of a *Shared* namespace among those that are carried. False if it is not to be listed.
pub(super) fn carry(carried: &mut Carried, item: &ListItem, space: &Namespace, delimiter: Option<u8>) -> bool {
    if !is_selectable(item) {
        // (A folder that only holds others. The namespace itself is there or not.)
        return !is_root(&item.name, space) && !has(item, "\\NonExistent");
    }
    if let Some(why) = out_of_line(space, delimiter) {
        carried.closed.insert(printable(&item.name), why);
        return false;
    }
    if let Ok(name) = name_of(&item.name, delimiter) {
        carried.mailboxes.insert(name);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(prefix: &str) -> Namespace {
        Namespace { prefix: prefix.as_bytes().to_vec(), delimiter: Some(b'.') }
    }

    #[test]
    fn each_name_belongs_somewhere() {
        let usual =
            Namespaces { personal: vec![space("")], other: vec![space("user.")], shared: vec![space("Public.")] };
        let shared = Whose::Shared(&usual.shared[0]);
        for (raw, expected) in [
            ("INBOX", Whose::Own),
            ("a.b", Whose::Own),
            ("Publi", Whose::Own),
            ("Publics", Whose::Own),
            ("Public", shared),
            ("Public.x", shared),
            ("user", Whose::Others),
            ("user.x", Whose::Others),
        ] {
            assert_eq!(whose(raw.as_bytes(), &usual), expected, "{raw}");
        }
        let cyrus =
            Namespaces { personal: vec![space("INBOX.")], other: vec![space("user.")], shared: vec![space("")] };
        let shared = Whose::Shared(&cyrus.shared[0]);
        for (raw, expected) in
            [("INBOX", Whose::Own), ("INBOX.a", Whose::Own), ("team.x", shared), ("user.x", Whose::Others)]
        {
            assert_eq!(whose(raw.as_bytes(), &cyrus), expected, "{raw}");
        }
    }

    #[test]
    fn a_separator_of_its_own_is_no_way_to_carry_it() {
        assert_eq!(out_of_line(&space("Public."), Some(b'.')), None);
        assert!(
            out_of_line(&space("Public."), Some(b'/')).is_some_and(|why| why.contains("'.'") && why.contains("'/'"))
        );
    }
}
