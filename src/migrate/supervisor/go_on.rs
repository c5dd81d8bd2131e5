//! After a restart, where both sides have something that opens every account: the work on users goes on by itself.

use std::time::Duration;

use tracing::{error, info};

use super::Supervisor;
use crate::migrate::Stop;
use crate::migrate::credentials::need_no_password;
use crate::store::now;
use crate::user::CanonicalUser;

/// Between two users: an old server with many moved users is not to see them all looked at in the same second.
const PACE: Duration = Duration::from_millis(50);

impl Supervisor {
    /// Starts the workers, one after the other, never faster than there is room for their work: users who log in meanwhile
    /// find a place in between.
    pub(super) async fn go_on(self) {
        let window = i64::try_from(self.config.switch.rollback_window.as_secs()).unwrap_or(i64::MAX);
        let users = match self.store.users_to_go_on(now().saturating_sub(window)).await {
            Ok(users) => users,
            Err(error) => return error!("the moves don't go on before their users log in: {error}"),
        };
        for user in users {
            let platform = self.platforms.of(&CanonicalUser::from_stored(user.clone()));
            if !need_no_password(&platform.config) {
                continue;
            }
            if let Err(stop) = self.go_on_with(&user).await {
                error!(user, "the move does not go on before the user logs in: {stop}");
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn go_on_with(&self, user: &str) -> Result<(), Stop> {
        let Ok(_room) = self.permits.acquire().await else { return Ok(()) };
        let record = self.store.user(user).await?;
        if let Some(record) = record.filter(|record| self.at_work(record)) {
            info!(user, phase = %record.phase, "goes on");
            self.worker(&record).await?;
        }
        Ok(())
    }
}
