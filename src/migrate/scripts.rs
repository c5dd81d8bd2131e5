//! Sieve scripts: what the old side's ManageSieve has is put on the new side, followed, and compared before a switch.
//!
//! Only scripts that we put on the new side are ours to replace or delete there. Which one is active is not asked of anybody
//! but the old side, as long as the user is there.

mod plan;

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Job, Platform, Readers, Stop};
use crate::config::Config;
use crate::mailbox::{Report, Scripts, Side, compare};
use crate::net::sieve::{SieveConnection, SieveError, SieveServer};
use crate::net::{Access, LoginError, TlsError};
use crate::source::Login;
use plan::Plan;

/// A connection that was not used for this long is made anew: a server may have given it up (RFC 5804 §1.2 lets it after 30
/// minutes).
const STALE: Duration = Duration::from_secs(300);

/// Both sides over ManageSieve, where the platform has it.
#[derive(Clone, Debug)]
pub struct SieveSides {
    /// The old side.
    pub old: SieveServer,
    /// The new side.
    pub new: SieveServer,
}

impl SieveSides {
    /// What `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// If certificates to trust can't be read.
    pub fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let (Some(old), Some(new)) = (&config.old.sieve, &config.new.sieve) else { return Ok(None) };
        Ok(Some(Self { old: SieveServer::new(Side::Old, old)?, new: SieveServer::new(Side::New, new)? }))
    }
}

/// One user's scripts on both sides. Connected when they are first read.
#[derive(Debug)]
pub(super) struct ScriptSides {
    old: End,
    new: End,
}

#[derive(Debug)]
struct End {
    server: SieveServer,
    /// Or why there is nothing to log in with.
    access: Result<Access, String>,
    /// And when it was used last.
    connection: Option<(SieveConnection, Instant)>,
}

impl ScriptSides {
    /// Both sides, if the platform has them.
    ///
    /// # Errors
    /// If there is nothing to log in with.
    pub(super) fn of(platform: &Platform, login: &Login) -> Result<Option<Self>, Stop> {
        let Some(SieveSides { old, new }) = platform.sieve.clone() else { return Ok(None) };
        let end = |server, side| -> Result<End, Stop> {
            let access = match platform.access(side, login) {
                // Mail can be read without a login.
                Err(Stop::LoginRefused(why)) if side == Side::Old && platform.source.is_some() => Err(why),
                access => Ok(access?),
            };
            Ok(End { server, access, connection: None })
        };
        Ok(Some(Self { old: end(old, Side::Old)?, new: end(new, Side::New)? }))
    }

    /// All scripts of both sides.
    ///
    /// # Errors
    /// [`Stop`] if a side can't be read.
    pub(super) async fn read(&mut self) -> Result<(Scripts, Scripts), Stop> {
        // The new side is asked first: its refusal is the more likely one.
        self.new.connected().await?;
        self.old.connected().await?;
        let (old, new) = tokio::join!(self.old.scripts(), self.new.scripts());
        Ok((old?, new?))
    }

    /// Says goodbye to both.
    pub(super) async fn close(self) {
        let leave = async |end: End| {
            if let Some((connection, _)) = end.connection {
                connection.logout().await;
            }
        };
        tokio::join!(leave(self.old), leave(self.new));
    }
}

impl End {
    async fn connected(&mut self) -> Result<&mut SieveConnection, Stop> {
        let open = self.connection.take().filter(|(_, used)| used.elapsed() < STALE);
        let connection = match open {
            Some((connection, _)) => connection,
            None => self.open().await?,
        };
        Ok(&mut self.connection.insert((connection, Instant::now())).0)
    }

    async fn open(&self) -> Result<SieveConnection, Stop> {
        let access = self.access.as_ref().map_err(|why| Stop::Later(format!("ManageSieve: {why}")))?;
        self.server.log_in(access).await.map_err(|error| match error {
            LoginError::Server(error) => error.into(),
            LoginError::Refused(refusal) => refusal.into(),
            busy @ LoginError::Busy(..) => Stop::Later(busy.to_string()),
        })
    }

    async fn scripts(&mut self) -> Result<Scripts, Stop> {
        Ok(self.connected().await?.scripts().await?)
    }
}

impl From<SieveError> for Stop {
    fn from(error: SieveError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Makes the scripts of the new side those of the old one, as far as they are ours to change and the new side takes them.
/// Gives what is in the way, in words.
///
/// # Errors
/// [`Stop`] if a side or the store can't be used; the next run goes on from there.
pub async fn carry(platform: &Platform, job: &Job, readers: &mut Readers) -> Result<Vec<String>, Stop> {
    let Some(sides) = &mut readers.scripts else { return Ok(Vec::new()) };
    let user = job.user.as_str();
    if let Err(why) = &sides.old.access {
        return Ok(vec![format!("the scripts wait for the user's next login: {why}")]);
    }
    let (old, new) = sides.read().await?;
    if old == new {
        return Ok(Vec::new());
    }
    let plan = Plan::of(&old, &new, &platform.store.our_scripts(user).await?);
    let mut in_the_way = plan.in_the_way.clone();
    let target = sides.new.connected().await?;
    let refused = |name: &str, said: &str| {
        format!(
            "the new side's ManageSieve refuses the script {name:?}: {said}; enable there what it lacks, or change the script"
        )
    };
    let mut kept_out = Vec::new();
    for (name, script) in &plan.put {
        if let Err(said) = target.check(script).await? {
            in_the_way.push(refused(name, &said));
            kept_out.push(name.as_str());
            continue;
        }
        // Written down first: after a crash it must be known whose it is.
        let digest = blake3::hash(script);
        platform.store.put_our_script(user, (name.clone(), digest)).await?;
        crate::fault::point("script-put").await;
        if let Err(said) = target.put(name, script).await? {
            in_the_way.push(refused(name, &said));
            kept_out.push(name.as_str());
            continue;
        }
        platform.store.keep_our_script(user, name, Some(digest)).await?;
        info!(user, name, octets = script.len(), "script put on the new side");
    }
    if let Some(active) = &plan.active
        && active.as_deref().is_none_or(|name| !kept_out.contains(&name))
    {
        target.set_active(active.as_deref()).await?;
    }
    for name in &plan.delete {
        target.delete(name).await?;
        platform.store.keep_our_script(user, name, None).await?;
        info!(user, name, "script deleted on the new side: it is gone from the old one");
    }
    if let Some(first) = in_the_way.first() {
        warn!(user, "{first}");
    }
    Ok(in_the_way)
}

/// Compares the scripts of both sides, where the platform has ManageSieve.
///
/// # Errors
/// [`Stop`] if a side can't be read.
pub(super) async fn compared(readers: &mut Readers, report: &mut Report) -> Result<Option<(Scripts, Scripts)>, Stop> {
    let Some(sides) = &mut readers.scripts else { return Ok(None) };
    let (old, new) = sides.read().await?;
    compare::scripts(&old, &new, report);
    Ok(Some((old, new)))
}

/// What would become of the scripts: in words, and what is in the way.
///
/// # Errors
/// [`Stop`] if a side or the store can't be read.
pub(super) async fn outlook(
    platform: &Platform,
    job: &Job,
    readers: &mut Readers,
) -> Result<Option<(String, Vec<String>)>, Stop> {
    let Some(sides) = &mut readers.scripts else { return Ok(None) };
    let (old, new) = sides.read().await?;
    let plan = Plan::of(&old, &new, &platform.store.our_scripts(job.user.as_str()).await?);
    let mut in_the_way = plan.in_the_way.clone();
    let target = sides.new.connected().await?;
    for (name, script) in &plan.put {
        if let Err(said) = target.check(script).await? {
            in_the_way.push(format!("the new side's ManageSieve refuses the script {name:?}: {said}"));
        }
    }
    Ok(Some((format!("old side: {old}; new side: {new}"), in_the_way)))
}
