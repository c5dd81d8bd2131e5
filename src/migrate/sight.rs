//! Both sides of one user, open for reading, and how the old side is seen.
//!
//! A copy reads the old side as `old.source` says. A verification reads it over IMAP, as clients do: where the copy came by dsync,
//! it is compared by code that had no part in it, with what clients see.

use super::copies::Copies;
use super::scripts::ScriptSides;
use super::tally::Tally;
use super::uidl::Pop3Reader;
use super::{Platform, Stop, credentials};
use crate::mailbox::quota::Quota;
use crate::mailbox::{Account, Sharing, Side};
use crate::source::{DsyncReader, DsyncServer, Login, Reader};

/// Mailboxes named in one reason.
const NAMED_MAX: usize = 5;

/// Rights (RFC 4314) that the account which carries the shared mailboxes needs in each, on the old side and on the new one: there
/// late mail is put in with its flags as well.
const RIGHTS_TO_READ: &str = "lr";
const RIGHTS_TO_WRITE: &str = "lrswitkxte";

/// One user's account on both sides, open for reading.
#[derive(Debug)]
pub struct Readers {
    /// The old side, for copying.
    pub old: Reader,
    /// The new side.
    pub new: Reader,
    /// Both over POP3, where the platform has it; connected only while it is read.
    pub(super) pop3: Option<Pop3Reader>,
    /// The scripts of both, where the platform has them; connected when they are first read.
    pub(super) scripts: Option<ScriptSides>,
    /// What the new side has of messages that are in several mailboxes of the old side.
    pub(super) copies: Copies,
    /// What the old side has given us today over IMAP.
    pub(super) tally: Tally,
    /// The old side as clients see it, where it is copied otherwise.
    eye: Option<Eye>,
}

/// A second reader of the old side.
#[derive(Debug)]
struct Eye {
    with: Box<(Platform, Login)>,
    /// Opened when it is needed.
    reader: Option<Box<Reader>>,
}

impl Readers {
    /// Logs in to both sides. The new side is asked first: its refusal is the more likely one, and the old server is
    /// spared then.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn open(platform: &Platform, login: &Login) -> Result<Self, Stop> {
        Self::of(platform, login, platform.source.as_ref(), platform.carries_shared(&login.name)).await
    }

    /// The same, the old side over IMAP whatever the configuration says: a merge asks what dsync does not tell. What belongs to nobody
    /// is not merged.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn open_over_imap(platform: &Platform, login: &Login) -> Result<Self, Stop> {
        Self::of(platform, login, None, false).await
    }

    async fn of(platform: &Platform, login: &Login, source: Option<&DsyncServer>, carries: bool) -> Result<Self, Stop> {
        let tally = Tally::of(platform, &platform.names.canonical(&login.name)).await?;
        let mut new = credentials::open(platform, Side::New, login).await?;
        if carries {
            new.carry_shared(RIGHTS_TO_WRITE);
        }
        let (old, eye) = match source {
            None => (by_imap(platform, login, &tally, carries).await?, None),
            Some(server) => {
                let reader = DsyncReader::new(server, &platform.name_at(Side::Old, login));
                let with = Box::new((platform.clone(), login.clone()));
                (Reader::Dsync(Box::new(reader)), Some(Eye { with, reader: None }))
            }
        };
        let (pop3, scripts) = (Pop3Reader::of(platform, login)?, ScriptSides::of(platform, login)?);
        Ok(Self { old, new, pop3, scripts, copies: Copies::default(), tally, eye })
    }

    /// The old side as clients see it, the new side, and both over POP3.
    ///
    /// # Errors
    /// [`Stop`] if the old side can't be logged in to over IMAP.
    pub(super) async fn seen(&mut self) -> Result<(&mut Reader, &mut Reader, Option<&Pop3Reader>), Stop> {
        let old = match &mut self.eye {
            None => &mut self.old,
            Some(Eye { with, reader }) => {
                let open = match reader.take() {
                    Some(mut open) => {
                        open.revive().await?;
                        open
                    }
                    None => {
                        Box::new(by_imap(&with.0, &with.1, &self.tally, with.0.carries_shared(&with.1.name)).await?)
                    }
                };
                reader.insert(open)
            }
        };
        Ok((old, &mut self.new, self.pop3.as_ref()))
    }

    /// Whether [`Readers::seen`] has with what to log in, and is another reader than the copy's.
    fn may_see(&self) -> bool {
        self.eye.as_ref().is_some_and(|eye| credentials::may_verify(&eye.with.0, &eye.with.1))
    }

    /// Says goodbye to all.
    pub async fn close(self) {
        let Self { old, new, scripts, tally, eye, .. } = self;
        let eye = async {
            if let Some(reader) = eye.and_then(|eye| eye.reader) {
                reader.logout().await;
            }
        };
        let scripts = async {
            if let Some(scripts) = scripts {
                scripts.close().await;
            }
        };
        tokio::join!(old.logout(), new.logout(), eye, scripts);
        tally.save().await;
    }

    /// What clients see of the old side that the copy's reader does not tell, and the other way round, if it can be asked: other
    /// namespaces, another separator. `None` if it is all the same. What only clients' view has is written into `old`.
    ///
    /// # Errors
    /// [`Stop`] if a side can't be read.
    pub(super) async fn unlike(&mut self, old: &mut Account) -> Result<Option<String>, Stop> {
        if !self.may_see() {
            return Ok(None);
        }
        let mut unlike = None;
        // Mailboxes come and go: what is gone at the second look was not missing.
        for _ in 0..2 {
            let (eye, ..) = self.seen().await?;
            let seen = eye.account().await?;
            eye.close().await?;
            unlike = differs(&seen, old);
            (old.prefix, old.others, old.carried) = (seen.prefix, seen.others, seen.carried);
            if unlike.is_none() {
                break;
            }
            let (prefix, others, carried) = (old.prefix.take(), std::mem::take(&mut old.others), old.carried.take());
            *old = Account { prefix, others, carried, ..self.old.account().await? };
        }
        self.unsee().await;
        Ok(unlike)
    }

    /// Whether [`Readers::seen`] has logged in with another reader than the copy's.
    pub(super) fn is_seeing(&self) -> bool {
        self.eye.as_ref().is_some_and(|eye| eye.reader.is_some())
    }

    /// Logs out where only [`Readers::seen`] has logged in: a copy takes long, and needs it no more.
    pub(super) async fn unsee(&mut self) {
        if let Some(reader) = self.eye.as_mut().and_then(|eye| eye.reader.take()) {
            reader.logout().await;
        }
    }

    /// The quota of the old side; none where the copy's reader is not told of it and no other one can be asked.
    ///
    /// # Errors
    /// [`Stop`] if the old side can't be read.
    pub(super) async fn old_quota(&mut self) -> Result<Quota, Stop> {
        if !self.may_see() {
            return Ok(self.old.quota().await?);
        }
        let seeing = self.is_seeing();
        let quota = self.seen().await?.0.quota().await?;
        if !seeing {
            self.unsee().await;
        }
        Ok(quota)
    }

    /// Who may do what in mailboxes of the old side, if it can be asked.
    ///
    /// # Errors
    /// [`Stop`] if the old side can't be read.
    pub(super) async fn old_sharing(&mut self) -> Result<Option<Sharing>, Stop> {
        if !(self.old.is_imap() || self.may_see()) {
            return Ok(None);
        }
        let (old, ..) = self.seen().await?;
        let account = old.account().await?;
        let sharing = old.sharing(&account).await?;
        self.unsee().await;
        Ok(Some(sharing))
    }
}

/// The old side over IMAP, of which no more is taken than it gives.
async fn by_imap(platform: &Platform, login: &Login, tally: &Tally, carries: bool) -> Result<Reader, Stop> {
    let mut old = credentials::open(platform, Side::Old, login).await?;
    if carries {
        old.carry_shared(RIGHTS_TO_READ);
    }
    tally.watch(platform, &mut old)?;
    if let Some(keyword) = &platform.config.new.pop3_deleted_flag {
        old.mark_popped_as(keyword);
    }
    Ok(old)
}

/// What `seen` has by IMAP and `told` by dsync has not.
fn differs(seen: &Account, told: &Account) -> Option<String> {
    if seen.separator != told.separator {
        let [seen, told] = [seen, told].map(|side| side.separator.map_or_else(|| "none".to_owned(), String::from));
        return Some(format!("clients of the old side see the separator {seen:?}, and dsync tells {told:?}"));
    }
    let opens = |account: &Account, name| account.mailboxes.get(name).is_some_and(|listed| listed.selectable);
    let missing: Vec<String> = seen
        .mailboxes
        .keys()
        .filter(|name| opens(seen, name) && !opens(told, name))
        .chain(seen.subscriptions.difference(&told.subscriptions))
        .map(|name| format!("`{name}`"))
        .take(NAMED_MAX)
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "clients of the old side see {}, and dsync does not tell of it: it is in another namespace there; read the old \
             side over IMAP (old.source = {{ kind = \"imap\" }})",
            missing.join(", ")
        )
    })
}
