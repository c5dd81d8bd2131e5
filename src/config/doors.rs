//! What clients come through: listeners, certificates, limits.

use std::net::SocketAddr;
use std::time::Duration;

use super::build::{each, names_once, tables};
use super::endpoint;
use super::model::{Endpoint, Limits, Listen, Passthrough, Sni, Tls, TlsFiles};
use super::raw::{Entry, Keys, Section};
use super::scalar;

const SNI: Keys = Keys { known: &["names", "cert", "key"], later: &[] };

const PASSTHROUGH: Keys = Keys { known: &["listen", "to", "proxy_protocol"], later: &[] };

/// Each connection costs two sockets and some buffers.
const CONNECTIONS: usize = 10_000;
/// More than one machine has file descriptors for.
const MAX_CONNECTIONS: usize = 1_000_000;
/// An office or a carrier's whole district may be one address.
const PER_ADDRESS: usize = 1_000;
/// A client logs in within a second.
const STRANGERS: usize = 250;
/// A user has some devices, of which each opens some connections.
const PER_USER: usize = 200;
/// What a modest server stands when everybody comes back at once.
const RATE: usize = 200;
/// More than people do.
const RATE_OF_ADDRESS: usize = 50;
/// More than any server.
const MAX_RATE: usize = 1_000_000;
/// Unpleasant for whoever guesses, and less than a client waits.
const LOGIN_DELAY: Duration = Duration::from_secs(15);
/// Clients wait a minute for an answer, and the server behind us needs time as well.
const LONGEST_LOGIN_DELAY: Duration = Duration::from_secs(30);
/// A restart waits for it, and clients that come back find as many others.
const DRAIN: Duration = Duration::from_secs(10);
/// Nobody waits longer for a restart.
const LONGEST_DRAIN: Duration = Duration::from_secs(600);

pub(super) fn tls(section: &Section<'_>) -> Option<Option<Tls>> {
    if !section.is_written() {
        return Some(None);
    }
    let own = pairs(section);
    let mut seen = Vec::new();
    let sni = section.or("sni", Vec::new(), |entry| tables(entry, |table| sni(&table.section()?, &mut seen)));
    Some(Some(Tls { pairs: own?, sni: sni? }))
}

/// `[[tls.sni]]`; its names are added to `seen`.
fn sni(section: &Section<'_>, seen: &mut Vec<String>) -> Option<Sni> {
    section.check(&SNI, &[]);
    let names = section.require("names", "[\"mail.example.net\", \"*.example.org\"]");
    let twice = |name: &str| format!("\"{name}\" is listed twice: give all its certificates in one list");
    let names = names
        .and_then(|entry| names_once(&entry, seen, scalar::server_name, twice, "names nobody: list at least one name"));
    let pairs = pairs(section);
    Some(Sni { names: names?, pairs: pairs? })
}

/// `cert` and `key`: a file each, or as many of the one as of the other.
fn pairs(section: &Section<'_>) -> Option<Vec<TlsFiles>> {
    let files = |entry: Entry<'_>| entry.one_or_more().iter().map(Entry::path).collect::<Option<Vec<_>>>();
    let certs = section.require("cert", "\"/etc/mailferry/cert.pem\"").and_then(files);
    let keys = section.require("key", "\"/etc/mailferry/key.pem\"").and_then(files);
    let (certs, keys) = (certs?, keys?);
    if certs.is_empty() || certs.len() != keys.len() {
        let (certs, keys) = (certs.len(), keys.len());
        return section.get("key")?.fail(format!(
            "{certs} certificates in cert and {keys} keys here: each certificate needs its key, in the same order"
        ));
    }
    Some(certs.into_iter().zip(keys).map(|(cert, key)| TlsFiles { cert, key }).collect())
}

pub(super) fn listen(section: &Section<'_>, without_tls: bool) -> Option<Listen> {
    let mut seen = Vec::new();
    let mut addresses = |key: &str| section.or(key, Vec::new(), |entry| sockets(entry, &mut seen));
    let (imap, imaps) = (addresses("imap"), addresses("imaps"));
    let (pop3, pop3s) = (addresses("pop3"), addresses("pop3s"));
    let networks = |key: &str| section.or(key, Vec::new(), |entry| each(entry, |item| item.parse(str::parse)));
    let (allow_cleartext, proxy_protocol) = (networks("allow_cleartext"), networks("proxy_protocol"));
    let tokens = section.or("tokens", false, Entry::boolean);
    let listen = Listen {
        imap: imap?,
        imaps: imaps?,
        pop3: pop3?,
        pop3s: pop3s?,
        allow_cleartext: allow_cleartext?,
        proxy_protocol: proxy_protocol?,
        tokens: tokens?,
    };
    if without_tls {
        for (key, addresses, start) in [("imap", &listen.imap, "STARTTLS"), ("pop3", &listen.pop3, "STLS")] {
            if !addresses.is_empty() && listen.allow_cleartext.is_empty() {
                return section.get(key)?.fail(format!(
                    "nobody could log in here: {start} needs [tls] with cert and key, logins without TLS need \
                     allow_cleartext"
                ));
            }
        }
        for (key, addresses) in [("imaps", &listen.imaps), ("pop3s", &listen.pop3s)] {
            if !addresses.is_empty() {
                return section.get(key)?.fail("needs [tls] with cert and key");
            }
        }
    }
    Some(listen)
}

/// A list of addresses to listen on, none of which is `seen` already.
fn sockets(entry: &Entry<'_>, seen: &mut Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    each(entry, |item| {
        let address = socket(item)?;
        if address.port() != 0 && seen.contains(&address) {
            return item.fail(format!("{address} is listed twice"));
        }
        seen.push(address);
        Some(address)
    })
}

/// An address to listen on.
pub(super) fn socket(entry: &Entry<'_>) -> Option<SocketAddr> {
    entry.parse(|text| {
        text.parse().map_err(|_| format!("\"{text}\" is not an address such as \"127.0.0.1:143\" or \"[::]:143\""))
    })
}

/// `[[passthrough]]`, beside what `listen` takes already.
pub(super) fn passthrough(entry: &Entry<'_>, listen: Option<&Listen>) -> Option<Vec<Passthrough>> {
    let mut seen: Vec<SocketAddr> = listen.iter().flat_map(|listen| listen.all()).collect();
    let doors = tables(entry, |table| {
        let section = table.section()?;
        section.check(&PASSTHROUGH, &[]);
        let listen = section.require("listen", "\"0.0.0.0:587\"").and_then(|entry| {
            let address = socket(&entry)?;
            if address.port() != 0 && seen.contains(&address) {
                return entry.fail(format!("{address} is listed twice"));
            }
            seen.push(address);
            Some(address)
        });
        let to = section.require("to", "\"old.example:587\"");
        let to = to.and_then(|entry| entry.parse(endpoint::host_and_port).map(|to| (entry, to)));
        let proxy_protocol = section.or("proxy_protocol", false, Entry::boolean);
        let (entry, to) = to?;
        Some((Passthrough { listen: listen?, to: Endpoint { proxy_protocol: proxy_protocol?, ..to } }, entry))
    })?;
    for (Passthrough { to, .. }, entry) in &doors {
        if to.host.parse().is_ok_and(|host| seen.contains(&SocketAddr::new(host, to.port))) {
            return entry.fail(format!("{to} is a listener of ours: it would go round in a circle"));
        }
    }
    Some(doors.into_iter().map(|(door, _)| door).collect())
}

pub(super) fn limits(section: &Section<'_>) -> Option<Limits> {
    let connections = section.or("connections", CONNECTIONS, |entry| entry.count(1..=MAX_CONNECTIONS));
    let drain = section.or("drain", DRAIN, |entry| match entry.parse(scalar::duration)? {
        drain if drain > LONGEST_DRAIN => entry.fail("must be at most 10m"),
        drain => Some(drain),
    });
    let places = |key: &str, default| section.or(key, default, |entry| entry.count(1..=MAX_CONNECTIONS));
    let per_address = places("connections_per_address", PER_ADDRESS);
    let strangers = places("strangers_per_address", STRANGERS);
    let per_user = places("sessions_per_user", PER_USER);
    let rate = |key: &str, default| section.or(key, default, |entry| entry.count(0..=MAX_RATE));
    let (rate, rate_of_address) =
        (rate("logins_per_second", RATE), rate("logins_per_second_per_address", RATE_OF_ADDRESS));
    let login_delay = section.or("login_delay", LOGIN_DELAY, |entry| match entry.parse(scalar::duration)? {
        delay if delay > LONGEST_LOGIN_DELAY => {
            entry.fail("must be at most 30s: clients would give up before their answer")
        }
        delay => Some(delay),
    });
    let exempt = section.or("exempt", Vec::new(), |entry| each(entry, |item| item.parse(str::parse)));
    Some(Limits {
        connections: connections?,
        drain: drain?,
        connections_per_address: per_address?,
        strangers_per_address: strangers?,
        sessions_per_user: per_user?,
        logins_per_second: rate?,
        logins_per_second_per_address: rate_of_address?,
        login_delay: login_delay?,
        exempt: exempt?,
    })
}
