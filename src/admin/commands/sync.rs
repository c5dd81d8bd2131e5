//! `mailferry sync`: one run of the copy, without the running server.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::one_user::{ended, job};
use super::{Exit, load, platforms};
use crate::mailbox::{Filter, Side};
use crate::migrate::{
    Job, PasswordFor, Platform, ProgressMeter, Readers, Stop, copy, dry_run, lease, merge, quota, rebuild, scripts,
};
use crate::store::{Mark, MarkKind, Phase, Progress, Quarantined, UserRecord, now};
use crate::user::NameRules;

/// What a run does.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// A mailbox that is made anew on the new side.
    pub rebuild: Option<String>,
    /// Mail that the new side has of its own stays.
    pub merge: bool,
    /// Nothing is written.
    pub dry_run: bool,
    /// What is left out.
    pub filter: Filter,
}

/// `mailferry sync USER`: copies until both sides are equal, but for what is left out.
///
/// # Errors
/// If the configuration, the store or the password file can't be used.
pub async fn sync(config: &Path, typed: &str, password_file: Option<&Path>, how: &How) -> anyhow::Result<Exit> {
    let config = load(config)?;
    let user = NameRules::of(&config).canonical(typed);
    let platforms = platforms(&config)?;
    let platform = platforms.of(&user);
    // (A merge reads the old side over IMAP, however else it is copied.)
    let work = if how.merge { PasswordFor::Verify } else { PasswordFor::Copy };
    let job = job(platform, user.clone(), typed, password_file, work).await?;
    // A name that no side knows makes no record: it would be the one that later logins are moved under.
    let opened = if how.merge {
        Readers::open_over_imap(platform, &job.login).await
    } else {
        Readers::open(platform, &job.login).await
    };
    let readers = match opened {
        Ok(readers) => readers,
        Err(stop) => return Ok(ended(&stop)),
    };
    if how.dry_run {
        return Ok(foretold(platform, &job, readers, how).await);
    }
    platform.store.user_or_new(user.as_str(), &job.login.name).await?;
    platform.store.name_login(user.as_str(), &job.login.name).await?;
    let lease = match lease::hold(platform, user.as_str()).await {
        Ok(lease) => lease,
        Err(stop) => {
            eprintln!("mailferry: {stop}");
            return Ok(Exit::Different);
        }
    };
    let record = platform.store.user(user.as_str()).await?;
    if let Some(why) = record.as_ref().and_then(|record| unfit(record, how)) {
        lease.release().await;
        eprintln!("mailferry: {why}");
        return Ok(Exit::Different);
    }
    let bar = bar(&job.progress);
    let done = tokio::select! {
        done = lease.during(Box::pin(copied(platform, &job, readers, how))) => done,
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
            if let Some(mark) = platform.store.mark(user.as_str()).await? {
                println!("{user}: {mark}");
            }
            Ok(if unreadable.is_empty() && in_the_way.is_empty() { Exit::Done } else { Exit::Different })
        }
        Err(stop) => Ok(ended(&stop)),
    }
}

/// Why a run must not be.
fn unfit(record: &UserRecord, how: &How) -> Option<String> {
    let UserRecord { user, phase, .. } = record;
    if record.authority != Side::Old {
        return Some(format!("{user} is served by the new side: the old side is no source any more"));
    }
    // What the server copies it would stop copying.
    let resting = matches!(phase, Phase::Old | Phase::Held);
    let what = if how.merge { "a merged account" } else { "a part" };
    ((how.merge || !how.filter.is_empty()) && !resting).then(|| {
        format!("{user} is being moved ({phase}), and {what} can't be switched: `mailferry hold {user}` first")
    })
}

/// What the old side can't give, and what keeps Sieve scripts from being carried over.
type Troubles = (Vec<String>, Vec<String>);

async fn copied(platform: &Platform, job: &Job, mut readers: Readers, how: &How) -> Result<Troubles, Stop> {
    let user = job.user.as_str();
    if let Some(mailbox) = &how.rebuild {
        rebuild::take_away(platform, job, &mut readers, mailbox).await?;
    }
    let marked = platform.store.mark(user).await?;
    if how.merge {
        let merged = merged(platform, job, &mut readers, &how.filter).await?;
        readers.close().await;
        return Ok((merged, Vec::new()));
    }
    if marked.as_ref().is_some_and(|mark| mark.kind == MarkKind::Merged) {
        merge::undo(platform, job, &mut readers).await?;
    }
    if !how.filter.is_empty() {
        let mark = Mark { kind: MarkKind::Partial, how: how.filter.shown(), at: now() };
        platform.store.put_mark(user, &mark).await?;
    }
    if marked.is_some() {
        rebuild::mend_inbox(platform, job, &mut readers, &how.filter).await?;
    }
    // (Of a part nobody knows what it will take.)
    if how.filter.is_empty() {
        quota::check(&mut readers).await?;
    }
    let copied = copy::converge_part(platform, job, &mut readers, &how.filter).await?;
    // Scripts come with the whole account.
    let in_the_way =
        if how.filter.is_empty() { scripts::carry(platform, job, &mut readers).await? } else { Vec::new() };
    readers.close().await;
    if copied.settled && copied.unreadable.is_empty() && how.filter.is_empty() {
        platform.store.clear_mark(user).await?;
    }
    if !copied.settled {
        return Err(Stop::Later(
            "all is copied but for what changed meanwhile, and the account keeps changing".to_owned(),
        ));
    }
    Ok((copied.unreadable, in_the_way))
}

async fn merged(platform: &Platform, job: &Job, readers: &mut Readers, filter: &Filter) -> Result<Vec<String>, Stop> {
    let how = ["--mode merge".to_owned(), filter.shown()].join(" ").trim_end().to_owned();
    platform.store.put_mark(job.user.as_str(), &Mark { kind: MarkKind::Merged, how, at: now() }).await?;
    let merged = merge::converge(platform, job, readers, filter).await?;
    if !merged.settled {
        return Err(Stop::Later(
            "all is merged but for what changed meanwhile, and the account keeps changing".to_owned(),
        ));
    }
    Ok(merged.unreadable)
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

/// `mailferry sync --dry-run USER`.
async fn foretold(platform: &Platform, job: &Job, mut readers: Readers, how: &How) -> Exit {
    let record = platform.store.user(job.user.as_str()).await;
    let why = match &record {
        Ok(record) => record.as_ref().and_then(|record| unfit(record, how)),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        eprintln!("mailferry: {why}");
        return Exit::Different;
    }
    let foretold = if how.merge {
        Box::pin(merge::foretell(platform, job, &mut readers, &how.filter)).await
    } else {
        Box::pin(dry_run::foretell(platform, job, &mut readers, &how.filter)).await
    };
    match foretold {
        Ok(foretold) => {
            readers.close().await;
            print!("{foretold}");
            if foretold.is_possible() { Exit::Done } else { Exit::Different }
        }
        Err(stop) => ended(&stop),
    }
}
