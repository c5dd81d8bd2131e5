//! Who holds a lease: a process, named so that a dead one can be told from a living one on the same machine.

use std::fs;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::warn;

use super::{Platform, Stop};
use crate::store::StoreError;

/// Seconds a lease lasts without renewal; the worker renews it three times in that time.
pub const SECONDS: i64 = 60;

/// This process: boot, process id and start time, so that a process id used again names somebody else.
#[must_use]
pub fn owner() -> String {
    let pid = std::process::id();
    format!("{} {pid} {}", boot(), started(pid).unwrap_or_default())
}

/// Whether `owner` ran on this machine, in this boot or an earlier one, and is gone. Unknown counts as alive.
#[must_use]
pub fn is_dead(owner: &str) -> bool {
    let mut words = owner.split(' ');
    let (Some(boot_id), Some(pid), Some(start)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    // Another boot id can be another machine on shared storage: only time can end that lease.
    boot_id == boot() && started(pid).as_deref() != Some(start)
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The start time of a process in clock ticks, field 22 of `/proc/PID/stat`; none if it is gone.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold blanks itself.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

/// A lease that is renewed in the background until it is released or dropped.
#[derive(Debug)]
pub struct Held {
    platform: Platform,
    user: String,
    renewal: JoinHandle<()>,
}

/// Takes the lease on `user` and keeps it.
///
/// # Errors
/// If somebody else holds it.
pub async fn hold(platform: &Platform, user: &str) -> Result<Held, Stop> {
    let (platform, user) = (platform.clone(), user.to_owned());
    take(&platform, &user).await?;
    let renewal = tokio::spawn({
        let (platform, user) = (platform.clone(), user.clone());
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(SECONDS.unsigned_abs() / 3)).await;
                if let Err(stop) = take(&platform, &user).await {
                    warn!(user, "the lease can't be renewed: {stop}");
                }
            }
        }
    });
    Ok(Held { platform, user, renewal })
}

async fn take(platform: &Platform, user: &str) -> Result<(), Stop> {
    match platform.store.take_lease(user, &platform.owner, SECONDS, is_dead).await {
        Ok(_) => Ok(()),
        Err(StoreError::Leased { user, owner }) => {
            Err(Stop::Later(format!("{} works on {user} just now; try again when it has finished", shown(&owner))))
        }
        Err(error) => Err(error.into()),
    }
}

/// An owner for people: the process, where it can be looked at.
fn shown(owner: &str) -> String {
    let mut words = owner.split(' ');
    match (words.next(), words.next()) {
        (Some(boot_id), Some(pid)) if boot_id == boot() => format!("process {pid}"),
        (_, Some(pid)) => format!("process {pid} on another machine, or from before the last restart of this one,"),
        _ => "another process".to_owned(),
    }
}

impl Held {
    /// Gives the lease back.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.platform.store.drop_lease(&self.user, &self.platform.owner).await {
            warn!(user = self.user, "the lease can't be given back and ends by itself: {error}");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::{is_dead, owner};

    #[test]
    fn a_living_process_is_not_dead_and_a_reused_process_id_is_another_one() {
        let me = owner();
        assert!(!is_dead(&me), "{me}");
        let (rest, _) = me.rsplit_once(' ').unwrap_or_default();
        assert!(is_dead(&format!("{rest} 1")), "same process id, other start");
        assert!(!is_dead("other-boot 1 1"), "another machine can't be judged");
        assert!(!is_dead("nonsense"));
    }
}
