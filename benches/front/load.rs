//! What is asked of a proxy. Each kind of load panics if anything comes through that is not what was sent.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Client, Target};

/// More than any of it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) logins: usize,
    pub(crate) alone: usize,
    pub(crate) messages: usize,
    pub(crate) noops: usize,
    pub(crate) idle: usize,
}

/// Clients at once, where there are several.
const CLIENTS: usize = 16;

/// Clients at once that fetch messages.
const READERS: usize = 4;

/// So many logins, each with its logout.
pub(crate) async fn logins(target: &Target, count: usize) {
    at_once(target, CLIENTS.min(count), move |target, client| async move {
        for number in (client..count).step_by(CLIENTS) {
            Client::log_in(&target, number).await.log_out().await;
        }
    })
    .await;
}

/// Logins one after the other: the time from connecting to the tagged OK of half of them.
pub(crate) async fn latency(target: &Target, count: usize) -> Duration {
    in_time(one_by_one(target, count)).await
}

async fn one_by_one(target: &Target, count: usize) -> Duration {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let begun = Instant::now();
        let client = Client::log_in(target, number).await;
        times.push(begun.elapsed());
        client.log_out().await;
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// So many messages, by some clients at once.
pub(crate) async fn messages(target: &Target, count: usize) {
    at_once(target, READERS.min(count), move |target, client| async move {
        let mut reader = Client::log_in(&target, client).await;
        let mut buffer = Vec::new();
        for _ in (client..count).step_by(READERS) {
            reader.fetch(&mut buffer).await;
        }
        reader.log_out().await;
    })
    .await;
}

/// So many small commands, each after the answer to the one before.
pub(crate) async fn noops(target: &Target, count: usize) {
    at_once(target, CLIENTS.min(count), move |target, client| async move {
        let mut talker = Client::log_in(&target, client).await;
        for _ in (client..count).step_by(CLIENTS) {
            talker.noop().await;
        }
        talker.log_out().await;
    })
    .await;
}

/// So many clients in IDLE.
pub(crate) async fn idle(target: &Target, count: usize) -> Vec<Client> {
    let groups = at_once(target, CLIENTS.min(count), move |target, group| async move {
        let mut clients = Vec::new();
        for number in (group..count).step_by(CLIENTS) {
            let mut client = Client::log_in(&target, number).await;
            client.idle().await;
            clients.push(client);
        }
        clients
    });
    groups.await.into_iter().flatten().collect()
}

/// All of them are still there.
pub(crate) async fn wake(clients: Vec<Client>) {
    let all = async {
        for mut client in clients {
            client.done().await;
            client.log_out().await;
        }
    };
    in_time(all).await;
}

async fn at_once<T, F, W>(target: &Target, clients: usize, work: W) -> Vec<T>
where
    T: Send + 'static,
    W: Fn(Target, usize) -> F,
    F: Future<Output = T> + Send + 'static,
{
    let mut all = JoinSet::new();
    for client in 0..clients {
        all.spawn(work(target.clone(), client));
    }
    in_time(all.join_all()).await
}

async fn in_time<T>(load: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, load).await.expect("a client waits for ever")
}
