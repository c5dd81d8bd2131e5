//! How fast the front is, beside other proxies: `benches/run.sh` builds and starts this.
//!
//! One process is both the clients and the server behind the proxy ([`client`], [`backend`]); each proxy runs on another
//! core than this ([`proxies`]), by turns, several times, and the medians are shown. What is measured is what its
//! processes have used ([`usage`]): CPU seconds and memory, which mean the same on a busy machine, and for one figure time.
//! All proxies get the same clients, the same server, the same certificate, TLS version and cipher; every octet that
//! comes through is compared with what was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod client;
mod load;
#[allow(dead_code, unreachable_pub, clippy::disallowed_methods)]
#[path = "../../tests/lab/ports.rs"]
mod ports;
#[allow(dead_code, unreachable_pub, clippy::disallowed_methods)]
#[path = "../../tests/lab/process.rs"]
mod process;
mod proxies;
mod usage;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use client::Target;
use load::Counts;
use proxies::{Proxy, Running, Stage};

/// What is shown, in this order, with the digits behind the point.
const ROWS: [(&str, usize); 9] = [
    ("IMAP login, CPU s per 1,000", 3),
    ("IMAPS login, full handshake, CPU s per 1,000", 3),
    ("IMAPS login, one client, p50 in ms", 2),
    ("relay of 4 MiB messages, CPU s per GB", 2),
    ("the same inside TLS, CPU s per GB", 2),
    ("NOOP and answer, CPU µs", 1),
    ("the same inside TLS, CPU µs", 1),
    ("connection in IDLE, KiB", 1),
    ("the same inside TLS, KiB", 1),
];

const FULL: Counts = Counts { logins: 1500, alone: 60, messages: 96, noops: 20_000, idle: 1000 };

/// Enough to see that all of it works.
const SMOKE: Counts = Counts { logins: 4, alone: 1, messages: 1, noops: 8, idle: 2 };

/// What has been told to end, or has just begun, does so within this time.
const SETTLE: Duration = Duration::from_millis(300);

const USAGE: &str = "usage: front [--smoke] [--rounds N] [--core N] [--only NAME] [--mailferry FILE]";

struct Wanted {
    counts: Counts,
    rounds: usize,
    core: Option<String>,
    proxies: Vec<Proxy>,
}

fn wanted() -> Wanted {
    let mut smoke = false;
    let (mut rounds, mut core, mut only) = (5, None, None);
    let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_mailferry"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect(USAGE);
        match argument.as_str() {
            "--smoke" => smoke = true,
            "--rounds" => rounds = value().parse().expect(USAGE),
            "--core" => core = Some(value()),
            "--only" => only = Some(value()),
            "--mailferry" => binary = value().into(),
            // Said by `cargo bench`.
            "--bench" => {}
            _ => panic!("{USAGE}"),
        }
    }
    let mut proxies = vec![Proxy::Mailferry(binary)];
    if smoke {
        return Wanted { counts: SMOKE, rounds: 1, core, proxies };
    }
    proxies.extend([Proxy::Nginx, Proxy::Dovecot]);
    if let Some(only) = only {
        proxies.retain(|proxy| format!("{proxy:?}").to_lowercase().contains(&only));
    }
    Wanted { counts: FULL, rounds, core, proxies }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Wanted { counts, rounds, core, proxies } = wanted();
    let (proxies, names): (Vec<_>, Vec<_>) =
        proxies.into_iter().filter_map(|proxy| proxy.name().map(|name| (proxy, name))).unzip();
    let folder = tempfile::Builder::new().prefix("mailferry-bench").tempdir().unwrap();
    // Dovecot's and nginx's workers are other users.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [backend, auth] = [listen().await, listen().await];
    let [backend_port, auth_port] = [&backend, &auth].map(|listener| listener.local_addr().unwrap().port());
    let stage = Stage { folder: folder.path().to_owned(), backend: backend_port, auth: auth_port, core };
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(stage.certificate(), cert.pem()).unwrap();
    fs::write(stage.key(), signing_key.serialize_pem()).unwrap();
    let tls = client::tls(cert.der().clone());
    tokio::spawn(backend::serve(backend));
    tokio::spawn(backend::tell_where(auth, backend_port));

    let mut measured = vec![vec![Vec::new(); ROWS.len()]; proxies.len()];
    for round in 0..rounds {
        for turn in 0..proxies.len() {
            // None of them is always the first.
            let at = (round + turn) % proxies.len();
            eprintln!("round {} of {rounds}: {}", round + 1, names[at]);
            let figures = measure(&proxies[at], &stage, &tls, counts).await;
            for (all, figure) in measured[at].iter_mut().zip(figures) {
                all.push(figure);
            }
        }
    }
    show(&names, &measured);
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The figures of one proxy, in the order of [`ROWS`].
async fn measure(proxy: &Proxy, stage: &Stage, tls: &tokio_rustls::TlsConnector, counts: Counts) -> Vec<f64> {
    let running = proxy.start(stage);
    let clear = Target { port: running.imap(), tls: None };
    let secret = Target { port: running.imaps(), tls: Some(tls.clone()) };
    // What is done once only is done now.
    load::logins(&clear, counts.logins / 10 + 1).await;
    load::logins(&secret, counts.logins / 10 + 1).await;

    let mut figures = Vec::new();
    for target in [&clear, &secret] {
        let cpu = cpu_of(&running, load::logins(target, counts.logins)).await;
        figures.push(cpu / counts.logins as f64 * 1000.0);
    }
    figures.push(load::latency(&secret, counts.alone).await.as_secs_f64() * 1000.0);
    for target in [&clear, &secret] {
        let cpu = cpu_of(&running, load::messages(target, counts.messages)).await;
        figures.push(cpu / (counts.messages * backend::MESSAGE) as f64 * 1e9);
    }
    for target in [&clear, &secret] {
        let cpu = cpu_of(&running, load::noops(target, counts.noops)).await;
        figures.push(cpu / counts.noops as f64 * 1e6);
    }
    drop(running);
    for tls in [None, Some(tls)] {
        // Memory that others have used before would be used again.
        let running = proxy.start(stage);
        let target = match tls {
            None => Target { port: running.imap(), tls: None },
            Some(tls) => Target { port: running.imaps(), tls: Some(tls.clone()) },
        };
        load::logins(&target, counts.idle / 20 + 1).await;
        tokio::time::sleep(SETTLE).await;
        let before = usage::memory(running.id());
        let clients = load::idle(&target, counts.idle).await;
        tokio::time::sleep(SETTLE).await;
        figures.push((usage::memory(running.id()) - before) / counts.idle as f64);
        load::wake(clients).await;
    }
    figures
}

async fn cpu_of(running: &Running, load: impl Future<Output = ()>) -> f64 {
    let before = usage::cpu(running.id());
    load.await;
    tokio::time::sleep(SETTLE).await;
    usage::cpu(running.id()) - before
}

fn show(names: &[String], measured: &[Vec<Vec<f64>>]) {
    println!("| | {} | against the best other |", names.join(" | "));
    println!("|---|{}---|", "---|".repeat(names.len()));
    for (row, (what, digits)) in ROWS.iter().enumerate() {
        let figures: Vec<f64> = measured.iter().map(|proxy| median(&proxy[row])).collect();
        let cells: Vec<String> = figures.iter().map(|figure| format!("{figure:.digits$}")).collect();
        let best = figures.iter().skip(1).copied().reduce(f64::min);
        let ratio = best.map_or_else(|| "-".to_owned(), |best| format!("{:.2}", figures[0] / best));
        println!("| {what} | {} | {ratio} |", cells.join(" | "));
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}
