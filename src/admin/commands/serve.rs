//! `mailferry serve`: binds, starts what runs, and ends it politely.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::{Exit, UsageError, load};
use crate::admin::control::Moves;
use crate::admin::{Token, http};
use crate::config::Config;
use crate::front::{Backends, Drain, Front, Guard, HeldLists, Listeners, Pop3Harvest};
use crate::migrate::uidl::Harvests;
use crate::migrate::{Platform, Supervisor};
use crate::net::{ConnectionSlots, Descriptors, InheritError, Inherited, Notify, ServerTls};
use crate::store::{Store, serve_alone};
use crate::user::{LoginSucceeded, NameRules, Realms, Registry};

/// Logins that wait to be looked at; beyond it a login starts no move, and the user's next one does.
const LOGINS: usize = 1024;

/// POP3 lists that wait to be looked at; beyond it a session's list is not used, and one of the next sessions shows it again.
const HARVESTS: usize = 64;

/// Windows are days.
const BETWEEN_SETTLING: Duration = Duration::from_secs(60 * 60);

/// What the end may take beyond the sessions' own time.
const MARGIN: Duration = Duration::from_secs(10);

/// What a held login waits beyond the longest pause, before it is told to come back.
const HELD_MARGIN: Duration = Duration::from_secs(10);

/// What `systemctl status` shows while all is well.
const SERVING: &str = "Serving clients";

/// Runs the proxy until SIGTERM or SIGINT; a second one cuts sessions off that have not ended yet. SIGHUP reloads what can
/// change without a restart.
///
/// # Errors
/// If it can't start; nothing has happened then.
pub async fn serve(config: &Path) -> anyhow::Result<Exit> {
    let config = load(config)?;
    if config.listen.is_empty() && config.passthrough.is_empty() {
        return Err(UsageError("nothing to do: [listen] names no address for clients".to_owned()).into());
    }
    // Before anything else here opens descriptors.
    let inherited = Inherited::take()?;
    let descriptors = Descriptors::raise(config.migration.parallel);
    match descriptors.warning(config.limits.connections) {
        Some(warning) => warn!("{warning}"),
        None => info!(descriptors = descriptors.limit, clients = descriptors.clients, "descriptors are enough"),
    }
    let tls = config.tls.as_ref().map(ServerTls::load).transpose()?;
    serve_alone(&config.store.path)?;
    let store = Store::open(&config.store.path)?;
    let token = Token::load_or_create(&config.admin.token_file)?;
    let listeners = listeners(&config, inherited)?;
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
        tls: tls.clone(),
        registry,
        names: names.clone(),
        backends,
        harvests,
        held: HeldLists::default(),
        patience: config.switch.max_pause + HELD_MARGIN,
        logins,
        shutdown: shutdown.clone(),
        drain: Drain { limit: config.limits.drain, slots: ConnectionSlots::new(config.limits.connections) },
        guard: Guard::new(&config.limits),
    };
    let (drain, at_most) = (front.drain.clone(), front.at_most());
    tokio::spawn(listen_to(supervisor.clone(), heard));
    tokio::spawn(settle(supervisor.clone()));
    tokio::spawn(keep(lists, harvested));
    tokio::spawn(tick());
    let control = Arc::new(Moves { supervisor, names });
    let api = tokio::spawn(http::serve(admin, token, control, until(shutdown)));
    let mut signals = Signals::listen()?;
    let serving = tokio::spawn(front.serve(listeners));
    let notify = Notify::from_environment();
    notify.ready(SERVING);
    while signals.next().await == Wanted::Reload {
        info!("reloading (SIGHUP)");
        notify.reloading();
        if let Some(tls) = &tls {
            tls.reload().await;
        }
        notify.ready(SERVING);
    }
    let (sessions, span) = (drain.slots.taken(), drain.span());
    info!(sessions, ?span, "ending: sessions are told");
    notify.stopping(&format!("Ending: {sessions} sessions are told"), at_most + MARGIN);
    let _ = ended.send(true);
    let all = async {
        if let Err(error) = serving.await {
            error!("the front ended by itself: {error}");
        }
        if let Err(error) = api.await {
            error!("the admin API ended by itself: {error}");
        }
    };
    tokio::select! {
        () = all => {}
        () = signals.end() => warn!(sessions = drain.slots.taken(), "told to end a second time: sessions are cut off"),
    }
    Ok(Exit::Done)
}

/// Every listener of the configuration, on the sockets that were passed to us where there are some.
fn listeners(config: &Config, mut inherited: Inherited) -> Result<Listeners, InheritError> {
    let listen = &config.listen;
    let mut passthrough = Vec::new();
    for door in &config.passthrough {
        let bound = inherited.listeners(None, &[door.listen])?;
        passthrough.extend(bound.into_iter().map(|listener| (listener, door.clone())));
    }
    let listeners = Listeners {
        passthrough,
        imap: inherited.listeners(Some("imap"), &listen.imap)?,
        imaps: inherited.listeners(Some("imaps"), &listen.imaps)?,
        pop3: inherited.listeners(Some("pop3"), &listen.pop3)?,
        pop3s: inherited.listeners(Some("pop3s"), &listen.pop3s)?,
    };
    inherited.finish()?;
    Ok(listeners)
}

/// For a timer that is due before all others the runtime wakes itself up, by a system call. With one that is always due within
/// a second, the deadlines that a login sets (some seven) need none.
async fn tick() {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
    }
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

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From then on they wait for us, instead of ending the process.
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let (interrupt, hangup) = (signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        Ok(Self { terminate, interrupt, hangup })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }

    async fn end(&mut self) {
        while self.next().await != Wanted::End {}
    }
}
