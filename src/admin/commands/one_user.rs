//! Commands that work on one user without the running server: `sync`, `verify`.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, load, own_password, platforms};
use crate::config::Bodies;
use crate::mailbox::Side;
use crate::migrate::quarantine::Quarantine;
use crate::migrate::verify::{Depth, KnownBodies, Verification};
use crate::migrate::{Job, PasswordFor, Platform, ProgressMeter, Readers, Stop, copy, lease, rebuild, scripts};
use crate::source::Login;
use crate::store::{Progress, Quarantined, now};
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

fn ended(stop: &Stop) -> Exit {
    eprintln!("mailferry: {stop}");
    match stop {
        Stop::Refused(_) | Stop::LoginRefused(_) | Stop::MasterRefused(_) | Stop::LockedOut(_) => Exit::Different,
        Stop::Later(_) | Stop::Paused(_) | Stop::Halted | Stop::Store(_) => Exit::TryAgain,
    }
}

/// `mailferry sync USER`: copies until both sides are equal; the mailbox `rebuild` is made anew on the new side.
///
/// # Errors
/// If the configuration, the store or the password file can't be used.
pub async fn sync(
    config: &Path,
    typed: &str,
    password_file: Option<&Path>,
    rebuild: Option<&str>,
) -> anyhow::Result<Exit> {
    let config = load(config)?;
    let user = NameRules::of(&config).canonical(typed);
    let platforms = platforms(&config)?;
    let platform = platforms.of(&user);
    let job = job(platform, user.clone(), typed, password_file, PasswordFor::Copy).await?;
    // A name that no side knows makes no record: it would be the one that later logins are moved under.
    let readers = match Readers::open(platform, &job.login).await {
        Ok(readers) => readers,
        Err(stop) => return Ok(ended(&stop)),
    };
    platform.store.user_or_new(user.as_str(), &job.login.name).await?;
    platform.store.name_login(user.as_str(), &job.login.name).await?;
    let lease = match lease::hold(platform, user.as_str()).await {
        Ok(lease) => lease,
        Err(stop) => {
            eprintln!("mailferry: {stop}");
            return Ok(Exit::Different);
        }
    };
    let authority = platform.store.user(user.as_str()).await?.map(|record| record.authority);
    if authority != Some(Side::Old) {
        lease.release().await;
        eprintln!("mailferry: {user} is served by the new side: the old side is no source any more");
        return Ok(Exit::Different);
    }
    let bar = bar(&job.progress);
    let done = tokio::select! {
        done = lease.during(copied(platform, &job, readers, rebuild)) => done,
        _ = tokio::signal::ctrl_c() => Err(Stop::Later("interrupted; the next run goes on from here".to_owned())),
    };
    bar.abort();
    lease.release().await;
    platform.store.set_progress(job.user.as_str(), job.progress.read()).await?;
    match done {
        Ok((unreadable, in_the_way)) => {
            let Progress { mailboxes, messages_total, bytes_done, .. } = job.progress.read();
            println!(
                "{}: {mailboxes} mailboxes, {messages_total} messages; {bytes_done} octets copied in this run",
                job.user
            );
            for what in &unreadable {
                eprintln!("mailferry: the old side can't give {what}");
            }
            for what in &in_the_way {
                eprintln!("mailferry: {what}");
            }
            for Quarantined { mailbox, uid, reason, .. } in platform.store.quarantined(user.as_str()).await? {
                eprintln!("mailferry: {mailbox} UID {uid} is left out on the new side: {reason}");
            }
            Ok(if unreadable.is_empty() && in_the_way.is_empty() { Exit::Done } else { Exit::Different })
        }
        Err(stop) => Ok(ended(&stop)),
    }
}

async fn copied(
    platform: &Platform,
    job: &Job,
    mut readers: Readers,
    rebuild: Option<&str>,
) -> Result<(Vec<String>, Vec<String>), Stop> {
    if let Some(mailbox) = rebuild {
        rebuild::take_away(platform, job, &mut readers, mailbox).await?;
    }
    let copied = copy::converge(platform, job, &mut readers).await?;
    let in_the_way = scripts::carry(platform, job, &mut readers).await?;
    readers.close().await;
    if !copied.settled {
        return Err(Stop::Later(
            "all is copied but for what changed meanwhile, and the account keeps changing".to_owned(),
        ));
    }
    Ok((copied.unreadable, in_the_way))
}

/// A progress bar on a terminal; nothing elsewhere.
fn bar(meter: &ProgressMeter) -> tokio::task::JoinHandle<()> {
    let meter = meter.clone();
    tokio::spawn(async move {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let template = "{bar:40} {pos}/{len} messages, {msg}, {elapsed}, ready in {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style);
        loop {
            let now = meter.read();
            bar.set_length(now.messages_total);
            bar.set_position(now.messages_done);
            bar.set_message(indicatif::HumanBytes(now.bytes_done).to_string());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
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
    let verification =
        Verification { user, depth, readers: &mut readers, known, all_from: None, left_out }.full().await?;
    readers.close().await;
    copy::doubt(platform, job, &verification).await?;
    Ok(verification.report(now()))
}
