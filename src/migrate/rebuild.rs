//! A mailbox of the new side that shall be made anew: our copy is taken away in a dsync session of its own, and the copy that
//! follows writes it again (in one session the two would be merged, dsync reference §16b).

use tracing::info;

use super::copy::records;
use super::preflight;
use super::write::{Stops, Writer};
use super::{Job, Platform, Readers, Stop};
use crate::mailbox::diff::{self, Spoilt};
use crate::mailbox::{Account, Filter, MailboxName};
use crate::store::{MailboxRecord, now};

/// Takes our copy of the mailbox that people call `text` away from the new side. Only while the old side is the user's
/// authority, and the caller holds the lease.
///
/// # Errors
/// [`Stop::Refused`] if the old side has no such mailbox, if the new side holds anything that isn't ours, or if it can't let
/// INBOX go (a Maildir): then the reason has the command to run there.
pub async fn take_away(platform: &Platform, job: &Job, readers: &mut Readers, text: &str) -> Result<(), Stop> {
    let old = readers.old.account().await?;
    let new = readers.new.account().await?;
    let name = find(&old, text)?;
    let mut known = records(platform, job).await?;
    preflight::check(&old, &new, &known)?;
    let there = |account: &Account| account.mailboxes.get(&name).and_then(|listed| listed.status);
    let (Some(record), Some(before)) = (known.get(&name).cloned(), there(&new)) else { return Ok(()) };
    if before.uid_validity != record.uid_validity {
        // One of the target's own that is empty and always was, or the check above would have refused it.
        return Ok(());
    }
    info!(user = %job.user, mailbox = %name, "the copy on the new side is taken away");
    let mut stops = Stops::of(platform, job).await?;
    let mut writer =
        Writer { platform, job, readers, old: &old, new: &new, records: &mut known, stops: &mut stops, now: now() };
    let deleted = writer.delete(std::slice::from_ref(&name)).await;
    if !name.is_inbox() {
        return deleted;
    }
    // A Maildir empties its INBOX and then fails, and keeps UIDVALIDITY and UIDNEXT.
    let after = there(&readers.new.account().await?);
    if after.is_none_or(|after| after.uid_next.0 <= 1) {
        platform.store.delete_mailbox(job.user.as_str(), &name).await?;
        return Ok(());
    }
    if after.is_some_and(|after| after.messages > 0)
        && let Err(stop) = deleted
    {
        return Err(stop);
    }
    let kept = MailboxRecord { old_seen: None, new_seen: None, ..record };
    platform.store.put_mailboxes(job.user.as_str(), vec![kept]).await?;
    Err(Stop::Refused(format!(
        "mailbox `INBOX`: the new side keeps its UIDs although it is empty now (a Maildir does); on the new host run `{}`, \
         then run this again",
        inbox_command(&platform.name_on_new(&job.login))
    )))
}

/// Takes our copy of INBOX away if an earlier filter has left something out in the middle of it that `filter` takes, where
/// nothing can be added any more.
/// (Other mailboxes in which that is so are made anew without being asked.)
///
/// # Errors
/// As [`take_away`].
pub async fn mend_inbox(platform: &Platform, job: &Job, readers: &mut Readers, filter: &Filter) -> Result<(), Stop> {
    let old = readers.old.account().await?;
    let new = readers.new.account().await?;
    let inbox = MailboxName::inbox();
    let known = records(platform, job).await?;
    let (Some(record), Some(listed), Some(target)) =
        (known.get(&inbox), old.mailboxes.get(&inbox), new.mailboxes.get(&inbox))
    else {
        return Ok(());
    };
    if target.status.is_none_or(|there| there.uid_validity != record.uid_validity) {
        return Ok(());
    }
    let (mut source, copy) = (readers.old.contents(listed).await?, readers.new.contents(target).await?);
    filter.cut(&mut source, &copy);
    readers.old.close().await?;
    readers.new.close().await?;
    if !matches!(diff::plan(&source, &copy), Err(Spoilt::Gap { .. })) {
        return Ok(());
    }
    take_away(platform, job, readers, "INBOX").await
}

fn find(old: &Account, text: &str) -> Result<MailboxName, Stop> {
    let inbox = text.eq_ignore_ascii_case("INBOX");
    let mut selectable = old.mailboxes.iter().filter(|(_, listed)| listed.selectable).map(|(name, _)| name);
    selectable
        .find(|name| if inbox { name.is_inbox() } else { name.to_string() == text })
        .cloned()
        .ok_or_else(|| Stop::Refused(format!("the old side has no mailbox `{text}` (levels are joined by `/` here)")))
}

/// What an operator runs on the new host to have INBOX made anew, whatever the format: a Maildir's can be emptied, but not
/// deleted, and its UIDs are forgotten with the files that hold them.
pub(super) fn inbox_command(login: &str) -> String {
    let user = quoted(login);
    format!(
        "doveadm mailbox delete -u {user} -s INBOX || for kind in control index; do dir=$(doveadm mailbox path -u {user} -t \
         $kind INBOX) && rm -f \"${{dir:?}}\"/dovecot-uidlist \"${{dir:?}}\"/dovecot.index*; done"
    )
}

/// What an operator runs on the new host to take all mail of an account away, whatever the format.
pub(super) fn emptying_command(login: &str) -> String {
    let user = quoted(login);
    format!(
        "doveadm mailbox list -u {user} | while IFS= read -r box; do [ \"$box\" = INBOX ] || doveadm mailbox delete -u {user} -s \
         \"$box\"; done; {}",
        inbox_command(login)
    )
}

/// A word for a shell. A login name comes from a client.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-' | '+');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::inbox_command;

    #[test]
    fn the_command_is_one_for_any_login_name() {
        assert!(
            inbox_command("anna@example.net").starts_with("doveadm mailbox delete -u anna@example.net -s INBOX ||")
        );
        assert!(inbox_command("a'; rm -rf /").contains("-u 'a'\\''; rm -rf /' -s INBOX"));
        assert!(inbox_command("a\nb").contains("-u 'a?b' -s"));
    }
}
