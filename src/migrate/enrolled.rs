//! Who begins to move at their next login.

use super::Platform;
use crate::config::Enroll;
use crate::store::{Share, StoreError, Verdict};
use crate::user::CanonicalUser;

/// Whether a user who has not begun to move does so at their next login, and on whose word.
///
/// # Errors
/// If the store can't be read.
pub(super) async fn is_enrolled(platform: &Platform, user: &CanonicalUser) -> Result<(bool, String), StoreError> {
    let enroll = platform.config.migration.enroll;
    Ok(match platform.store.verdict(user.as_str()).await? {
        Some(Verdict::Enroll) => (true, "`mailferry enroll`".to_owned()),
        Some(Verdict::Hold) => (false, "`mailferry hold`".to_owned()),
        None => match enroll {
            Enroll::All => (true, "migration.enroll = \"all\"".to_owned()),
            Enroll::None => (false, "migration.enroll = \"none\"".to_owned()),
            Enroll::Percent(percent) => {
                (Share::percent(percent).holds(user.as_str()), format!("migration.enroll = {{ percent = {percent} }}"))
            }
        },
    })
}
