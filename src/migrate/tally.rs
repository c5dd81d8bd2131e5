//! What an account's old side has given us today, in the records: a server that gives an account so many octets a day has to
//! be asked for no more of them, whatever becomes of this process.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use super::{Platform, Stop};
use crate::net::meter::{Meter, today};
use crate::source::Reader;
use crate::source::profile::Quirk;
use crate::store::Store;
use crate::user::CanonicalUser;

/// Between two looks at the meter: what came since is not known after a `kill -9`.
const EVERY: Duration = Duration::from_secs(1);

/// What is asked of a server that gives an account a part of 2.5 GB a day: the rest is for the user's own sessions.
const USUAL: u64 = 2_000_000_000;

/// One of so many parts of a day is too little to begin with.
const LITTLE: u64 = 20;

/// A meter whose count goes into the records for as long as this lives.
#[derive(Debug)]
pub(super) struct Tally {
    meter: Meter,
    user: Arc<str>,
    store: Store,
    writer: JoinHandle<()>,
}

impl Tally {
    /// With what the records know of today.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) async fn of(platform: &Platform, user: &CanonicalUser) -> Result<Self, Stop> {
        let (store, user, day) = (platform.store.clone(), Arc::<str>::from(user.as_str()), today());
        let meter = Meter::since(day, store.octets_of_day(&user, day).await?);
        let (theirs, of, to) = (meter.clone(), Arc::clone(&user), store.clone());
        let writer = tokio::spawn(async move {
            loop {
                sleep(EVERY).await;
                save(&theirs, &of, &to).await;
            }
        });
        Ok(Self { meter, user, store, writer })
    }

    /// Counts what a reader receives, and bounds it as the configuration says, or as is usual with its server.
    ///
    /// # Errors
    /// [`Stop::Paused`] if too little is left of today.
    pub(super) fn watch(&self, platform: &Platform, old: &mut Reader) -> Result<(), Stop> {
        let usual = old.profile().has(Quirk::DailyBudget).then_some(USUAL);
        let limit = platform.config.old.octets_per_day.map_or(usual, |budget| budget.0);
        self.meter.limit(limit);
        old.count_with(&self.meter);
        // With a little left there would be lists and no messages, each time anew.
        Ok(old.may_read(limit.unwrap_or_default() / LITTLE)?)
    }

    /// Octets that are left of today, and how many there are a day, if there is a limit.
    pub(super) fn left(&self) -> Option<(u64, u64)> {
        self.meter.left()
    }

    /// Writes down what came since.
    pub(super) async fn save(&self) {
        save(&self.meter, &self.user, &self.store).await;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.writer.abort();
        let (meter, user, store) = (self.meter.clone(), Arc::clone(&self.user), self.store.clone());
        // (There is none when the process ends.)
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { save(&meter, &user, &store).await });
        }
    }
}

async fn save(meter: &Meter, user: &str, store: &Store) {
    if let Some((day, octets)) = meter.take_unsaved()
        && let Err(error) = store.add_octets(user, day, octets).await
    {
        warn!(user, "what the old side has given today can't be written down: {error}");
    }
}
