//! What commands about one user have in common that need no running server, and `verify`.

use std::path::Path;

use super::{Exit, load, own_password, platforms};
use crate::config::Bodies;
use crate::mailbox::{Class, Finding};
use crate::migrate::quarantine::Quarantine;
use crate::migrate::verify::{Depth, KnownBodies, Verification};
use crate::migrate::{Job, PasswordFor, Platform, ProgressMeter, Readers, Stop, copy};
use crate::source::Login;
use crate::store::{Mark, now};
use crate::user::{CanonicalUser, NameRules};

/// What a command about one user, `typed` as the operator did, works on.
pub(super) async fn job(
    platform: &Platform,
    user: CanonicalUser,
    typed: &str,
    password_file: Option<&Path>,
    work: PasswordFor,
) -> anyhow::Result<Job> {
    // The name under which the user's move began, if it did.
    let known = platform.store.user(user.as_str()).await?.map(|record| record.login_name);
    let name = known.filter(|name| !name.is_empty()).unwrap_or_else(|| typed.to_owned());
    let login = Login { name, password: own_password(&platform.config, work, typed, password_file)? };
    Ok(Job { user, login, progress: ProgressMeter::default() })
}

pub(super) fn ended(stop: &Stop) -> Exit {
    eprintln!("mailferry: {stop}");
    match stop {
        Stop::Refused(_) | Stop::LoginRefused(_) | Stop::MasterRefused(_) | Stop::LockedOut(_) => Exit::Different,
        Stop::Later(_) | Stop::Paused(_) | Stop::Halted | Stop::Store(_) => Exit::TryAgain,
    }
}

/// `mailferry verify USER`: compares the two sides and prints the report.
///
/// # Errors
/// If the configuration, the store or the password file can't be used.
pub async fn verify(
    config: &Path,
    typed: &str,
    password_file: Option<&Path>,
    bodies: Option<Bodies>,
    json: bool,
) -> anyhow::Result<Exit> {
    let config = load(config)?;
    let user = NameRules::of(&config).canonical(typed);
    let platforms = platforms(&config)?;
    let platform = platforms.of(&user);
    let job = job(platform, user.clone(), typed, password_file, PasswordFor::Verify).await?;
    let depth =
        Depth { bodies: bodies.unwrap_or(platform.config.verify.bodies), strict: platform.config.verify.strict };
    let report = match verified(platform, &job, depth).await {
        Ok(report) => report,
        Err(stop) => return Ok(ended(&stop)),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(if report.identical { Exit::Done } else { Exit::Different })
}

async fn verified(platform: &Platform, job: &Job, depth: Depth) -> Result<crate::mailbox::Report, Stop> {
    let mut readers = Readers::open(platform, &job.login).await?;
    let mut known = KnownBodies::new();
    let left_out = &Quarantine::of(platform, job).await?;
    let (user, known) = (job.user.as_str(), &mut known);
    let mut verification =
        Verification { user, depth, readers: &mut readers, known, all_from: None, left_out }.full().await?;
    readers.close().await;
    copy::doubt(platform, job, &verification).await?;
    if let Some(mark) = platform.store.mark(user).await? {
        verification.account.add(no_whole_copy(&mark));
    }
    Ok(verification.report(now()))
}

/// Whatever is equal: an account that is no whole copy by our own records can't be switched.
fn no_whole_copy(mark: &Mark) -> Finding {
    Finding {
        class: Class::Difference,
        rule: mark.kind.as_str().to_owned(),
        mailbox: None,
        uid: None,
        old: String::new(),
        new: mark.to_string(),
    }
}
