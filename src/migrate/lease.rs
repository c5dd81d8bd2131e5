//! Who holds a lease: a process, named so that a dead one can be told from a living one on the same machine.

use std::fs;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{Platform, Stop};
use crate::store::StoreError;

/// Seconds a lease lasts without renewal; the worker renews it three times in that time.
pub const SECONDS: i64 = 60;

/// This process: boot and process-id namespace, process id and start time, so that a process id used again, or used in
/// another container, names somebody else.
#[must_use]
pub fn owner() -> String {
    let pid = std::process::id();
    format!("{} {pid} {}", place(), started(pid).unwrap_or_default())
}

/// Whether `owner` ran in this place and is gone. Unknown counts as alive.
#[must_use]
pub fn is_dead(owner: &str) -> bool {
    let mut words = owner.split(' ');
    let (Some(boot_id), Some(pid), Some(start)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    // Another place can be another machine on shared storage, or another container: only time can end that lease.
    boot_id == place() && started(pid).as_deref() != Some(start)
}

/// Where process ids mean the same as here.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}/{}", boot.trim(), namespace.display())
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
    lost: watch::Receiver<bool>,
}

/// Takes the lease on `user` and keeps it.
///
/// # Errors
/// If somebody else holds it.
pub async fn hold(platform: &Platform, user: &str) -> Result<Held, Stop> {
    let (platform, user) = (platform.clone(), user.to_owned());
    platform.store.take_lease(&user, &platform.owner, SECONDS, is_dead).await.map_err(explained)?;
    let (lose, lost) = watch::channel(false);
    let renewal = tokio::spawn(renew(platform.clone(), user.clone(), lose));
    Ok(Held { platform, user, renewal, lost })
}

async fn renew(platform: Platform, user: String, lose: watch::Sender<bool>) {
    let lasts = Duration::from_secs(SECONDS.unsigned_abs());
    let mut renewed = Instant::now();
    loop {
        sleep(lasts / 6).await;
        let begun = Instant::now();
        match platform.store.renew_lease(&user, &platform.owner, SECONDS).await {
            Ok(()) => renewed = begun,
            Err(error) => {
                let taken = matches!(error, StoreError::Leased { .. });
                warn!(user, "the lease can't be renewed: {}", explained(error));
                // Ours ends a little before anybody else can take it.
                if taken || renewed.elapsed() > lasts * 4 / 5 {
                    lose.send_replace(true);
                    return;
                }
            }
        }
    }
}

fn explained(error: StoreError) -> Stop {
    match error {
        StoreError::Leased { user, owner } => {
            Stop::Later(format!("{} works on {user} just now; try again when it has finished", shown(&owner)))
        }
        error => error.into(),
    }
}

/// An owner for people: the process, where it can be looked at.
fn shown(owner: &str) -> String {
    let mut words = owner.split(' ');
    match (words.next(), words.next()) {
        (Some(boot_id), Some(pid)) if boot_id == place() => format!("process {pid}"),
        (_, Some(pid)) => format!("process {pid} on another machine, or from before the last restart of this one,"),
        _ => "another process".to_owned(),
    }
}

impl Held {
    /// Carries `work` out as long as the lease is ours, and drops it in the middle when it no longer is.
    ///
    /// # Errors
    /// What `work` says, or that the lease was lost.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let mut lost = self.lost.clone();
        tokio::select! {
            done = work => done,
            _ = lost.wait_for(|lost| *lost) => {
                Err(Stop::Later("the lease on this user was lost: somebody else may work on them".to_owned()))
            }
        }
    }

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
