//! `mailferry serve`: binds, starts what runs, and ends it politely.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use super::{Exit, UsageError, load};
use crate::admin::control::Moves;
use crate::admin::{Token, http};
use crate::config::Config;
use crate::front::{Backends, Front, HeldLists, Listeners, Pop3Harvest};
use crate::migrate::uidl::Harvests;
use crate::migrate::{Platform, Supervisor};
use crate::net::{ConnectionSlots, ServerTls, bind_all};
use crate::store::{Store, serve_alone};
use crate::user::{LoginSucceeded, NameRules, Realms, Registry};

/// Logins that wait to be looked at; beyond it a login starts no move, and the user's next one does.
const LOGINS: usize = 1024;

/// POP3 lists that wait to be looked at; beyond it a session's list is not used, and one of the next sessions shows it again.
const HARVESTS: usize = 64;

/// Windows are days.
const BETWEEN_SETTLING: Duration = Duration::from_secs(60 * 60);

/// What a held login waits beyond the longest pause, before it is told to come back.
const HELD_MARGIN: Duration = Duration::from_secs(10);

/// Runs the proxy until SIGTERM or SIGINT.
///
/// # Errors
/// If it can't start; nothing has happened then.
pub async fn serve(config: &Path) -> anyhow::Result<Exit> {
    let config = load(config)?;
    if config.listen.is_empty() {
        return Err(UsageError("nothing to do: [listen] names no address for clients".to_owned()).into());
    }
    let tls = config.tls.as_ref().map(ServerTls::load).transpose()?;
    serve_alone(&config.store.path)?;
    let store = Store::open(&config.store.path)?;
    let token = Token::load_or_create(&config.admin.token_file)?;
    let listeners = Listeners {
        imap: bind_all(&config.listen.imap)?,
        imaps: bind_all(&config.listen.imaps)?,
        pop3: bind_all(&config.listen.pop3)?,
        pop3s: bind_all(&config.listen.pop3s)?,
    };
    let admin =
        crate::net::bind(config.admin.listen).with_context(|| format!("admin API on {}", config.admin.listen))?;

    let registry = Registry::new(store.clone(), config.switch.auto.then_some(config.switch.max_pause));
    let platforms = Platform::all(&config, &store, Some(&registry))?;
    let backends = Realms::build(&config, |within| Backends::of(&within))?;
    let lists = platforms.rest().harvests.clone();
    let supervisor = Supervisor::new(platforms, registry.clone());
    supervisor.recover().await?;
    let names = NameRules::of(&config);
    let (ended, shutdown) = watch::channel(false);
    let (logins, heard) = mpsc::channel(LOGINS);
    let (harvests, harvested) = mpsc::channel(HARVESTS);
    let front = Front {
        listen: Arc::new(config.listen.clone()),
        tls,
        registry,
        names: names.clone(),
        backends,
        harvests,
        held: HeldLists::default(),
        patience: config.switch.max_pause + HELD_MARGIN,
        logins,
        shutdown: shutdown.clone(),
    };
    tokio::spawn(listen_to(supervisor.clone(), heard));
    tokio::spawn(settle(supervisor.clone()));
    tokio::spawn(keep(lists, harvested));
    let control = Arc::new(Moves { supervisor, names });
    let api = tokio::spawn(http::serve(admin, token, control, until(shutdown)));
    let serving = tokio::spawn(front.serve(listeners, slots(&config)));
    wait_for_signal().await?;
    info!("ending: sessions are told");
    let _ = ended.send(true);
    if let Err(error) = serving.await {
        error!("the front ended by itself: {error}");
    }
    if let Err(error) = api.await {
        error!("the admin API ended by itself: {error}");
    }
    Ok(Exit::Done)
}

fn slots(config: &Config) -> ConnectionSlots {
    ConnectionSlots::new(config.limits.connections)
}

async fn until(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = shutdown.wait_for(|ended| *ended).await;
}

/// Starts or feeds the moves of those who log in, one after the other: each is a look into the store.
async fn listen_to(supervisor: Supervisor, mut heard: mpsc::Receiver<LoginSucceeded>) {
    while let Some(login) = heard.recv().await {
        supervisor.logged_in(login).await;
    }
}

/// Settles users whose rollback window is over.
async fn settle(supervisor: Supervisor) {
    loop {
        tokio::time::sleep(BETWEEN_SETTLING).await;
        if let Err(stop) = supervisor.settle_overdue().await {
            error!("users whose rollback window is over can't be settled: {stop}");
        }
    }
}

/// Keeps the POP3 lists that users' own sessions show, so that the old side need not be asked for them.
async fn keep(harvests: Harvests, mut harvested: mpsc::Receiver<Pop3Harvest>) {
    while let Some(Pop3Harvest { user, list }) = harvested.recv().await {
        harvests.put(user, list);
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
