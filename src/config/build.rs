//! From the file as written to the valid configuration, section by section.
//!
//! Each section reads all its keys before it gives up, so that one run shows every problem.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::{self, Doveadm};
use super::model::{
    Admin, Bodies, Config, DsyncTarget, Endpoint, Enroll, Limits, Listen, Migration, NewSide, OldSide, Security,
    StoreConfig, Switch, TlsFiles, Users, Verify,
};
use super::raw::{Entry, Keys, Section};
use super::scalar;

const ROOT: Keys = Keys {
    known: &["listen", "tls", "old", "new", "users", "store", "admin", "migration", "switch", "verify", "limits"],
    later: &["realm"],
};

/// Every section's keys, in the order of the example file.
static SECTIONS: [(&str, &Keys); 11] = [
    ("listen", &Keys { known: &["imap", "imaps", "allow_cleartext"], later: &["pop3", "pop3s", "lmtp", "socketmap"] }),
    ("tls", &Keys { known: &["cert", "key"], later: &["sni"] }),
    (
        "old",
        &Keys { known: &["imap", "lmtp", "ca_file", "credentials", "source"], later: &["pop3", "sieve", "target"] },
    ),
    (
        "new",
        &Keys { known: &["imap", "lmtp", "ca_file", "credentials", "target"], later: &["pop3", "sieve", "source"] },
    ),
    ("users", &Keys { known: &["default_domain"], later: &[] }),
    ("store", &Keys { known: &["url"], later: &[] }),
    ("admin", &Keys { known: &["listen", "token_file"], later: &[] }),
    ("migration", &Keys { known: &["enroll", "parallel"], later: &[] }),
    ("switch", &Keys { known: &["auto", "max_pause", "rollback_window"], later: &[] }),
    ("verify", &Keys { known: &["bodies", "strict"], later: &[] }),
    ("limits", &Keys { known: &["connections"], later: &[] }),
];

const KIND_ONLY: Keys = Keys { known: &["kind"], later: &[] };
const TARGET: Keys = Keys { known: &["kind", "url", "password_file"], later: &[] };

/// Where the database lies unless the file says so.
const STORE: &str = "/var/lib/mailferry/state.db";
/// Where the admin API listens unless the file says so: this machine only.
const ADMIN_LISTEN: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));
/// Where the admin token lies unless the file says so.
const ADMIN_TOKEN: &str = "/var/lib/mailferry/admin.token";
/// Users copied at once: enough to fill a link, few enough for an old server's disks (DESIGN I6).
const PARALLEL: usize = 4;
/// More copies at once than this would be the proxy's own denial of service against the old server.
const MAX_PARALLEL: usize = 256;
/// The pause that people take for network weather (DESIGN §3).
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Mail clients give up on a command after 30 to 60 s; a longer pause would be seen.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A full verification reads this many bodies of each mailbox.
const BODIES: Bodies = Bodies::Sample(100);
/// Each connection costs two sockets and some buffers.
const CONNECTIONS: usize = 10_000;
/// More than one machine has file descriptors for.
const MAX_CONNECTIONS: usize = 1_000_000;

/// Builds the whole configuration; what is wrong is in the section's report.
pub(super) fn config(root: &Section<'_>) -> Option<Config> {
    root.check(&ROOT, &[]);
    let section = |name: &str| {
        let section = root.section(name)?;
        if let Some((_, keys)) = SECTIONS.iter().find(|(known, _)| *known == name) {
            section.check(keys, &SECTIONS);
        }
        Some(section)
    };
    let tls = section("tls").and_then(|section| tls(&section));
    let listen = section("listen").and_then(|section| listen(&section, matches!(tls, Some(None))));
    let old = section("old").and_then(|section| old(&section));
    let new = section("new").and_then(|section| new(&section, old.as_ref()));
    let users = section("users").and_then(|section| users(&section));
    let store = section("store").and_then(|section| store(&section));
    let admin = section("admin").and_then(|section| admin(&section, listen.as_ref()));
    let migration = section("migration").and_then(|section| migration(&section));
    let switch = section("switch").and_then(|section| switch(&section));
    let verify = section("verify").and_then(|section| verify(&section));
    let limits = section("limits").and_then(|section| limits(&section));
    Some(Config {
        listen: listen?,
        tls: tls?,
        old: old?,
        new: new?,
        users: users?,
        store: store?,
        admin: admin?,
        migration: migration?,
        switch: switch?,
        verify: verify?,
        limits: limits?,
    })
}

fn tls(section: &Section<'_>) -> Option<Option<TlsFiles>> {
    if !section.is_written() {
        return Some(None);
    }
    let cert = section.require("cert", "\"/etc/mailferry/cert.pem\"").and_then(|entry| entry.path());
    let key = section.require("key", "\"/etc/mailferry/key.pem\"").and_then(|entry| entry.path());
    Some(Some(TlsFiles { cert: cert?, key: key? }))
}

fn listen(section: &Section<'_>, without_tls: bool) -> Option<Listen> {
    let mut seen = Vec::new();
    let mut addresses = |key: &str| section.or(key, Vec::new(), |entry| sockets(entry, &mut seen));
    let (imap, imaps) = (addresses("imap"), addresses("imaps"));
    let networks = section.or("allow_cleartext", Vec::new(), |entry| each(entry, |item| item.parse(str::parse)));
    let listen = Listen { imap: imap?, imaps: imaps?, allow_cleartext: networks? };
    if without_tls && !listen.imap.is_empty() && listen.allow_cleartext.is_empty() {
        return section.get("imap")?.fail(
            "nobody could log in here: STARTTLS needs [tls] with cert and key, logins without TLS need allow_cleartext",
        );
    }
    if without_tls && !listen.imaps.is_empty() {
        return section.get("imaps")?.fail("needs [tls] with cert and key");
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

fn socket(entry: &Entry<'_>) -> Option<SocketAddr> {
    entry.parse(|text| {
        text.parse().map_err(|_| format!("\"{text}\" is not an address such as \"127.0.0.1:143\" or \"[::]:143\""))
    })
}

/// Every item of a list, or nothing if one of them is wrong; all are looked at.
fn each<'a, T>(entry: &Entry<'a>, mut read: impl FnMut(&Entry<'a>) -> Option<T>) -> Option<Vec<T>> {
    let items: Vec<Option<T>> = entry.list()?.iter().map(&mut read).collect();
    items.into_iter().collect()
}

fn old(section: &Section<'_>) -> Option<OldSide> {
    let imap = side(section, "imaps://old.example:993");
    if let Some(source) = section.get("source").and_then(|entry| entry.section()) {
        kind(&source, "imap", &["dsync"], &KIND_ONLY);
    }
    Some(OldSide { imap: imap? })
}

fn new(section: &Section<'_>, old: Option<&OldSide>) -> Option<NewSide> {
    let imap = side(section, "imap://10.0.0.5:143");
    if let (Some(imap), Some(old)) = (&imap, old)
        && (&imap.host, imap.port) == (&old.imap.host, old.imap.port)
    {
        section.get("imap")?.fail::<()>(format!("{imap} is old.imap: the two sides must be two servers"));
    }
    let example = "{ kind = \"dsync\", url = \"doveadm://10.0.0.5:24245\", password_file = \"doveadm.secret\" }";
    let target = section.require("target", example).and_then(|entry| entry.section()).and_then(|s| target(&s));
    Some(NewSide { imap: imap?, target: target? })
}

/// What both sides have: IMAP, its certificates, credentials, and LMTP for later.
fn side(section: &Section<'_>, example: &str) -> Option<Endpoint> {
    let imap = section.require("imap", &format!("\"{example}\"")).and_then(|entry| entry.parse(endpoint::imap));
    if let Some(lmtp) = section.get("lmtp") {
        lmtp.parse(endpoint::lmtp);
    }
    if let Some(credentials) = section.get("credentials").and_then(|entry| entry.section()) {
        kind(&credentials, "user", &["master-user", "master-password"], &KIND_ONLY);
    }
    let ca_file = ca_file(section, imap.as_ref())?;
    Some(Endpoint { ca_file, ..imap? })
}

fn ca_file(section: &Section<'_>, imap: Option<&Endpoint>) -> Option<Option<PathBuf>> {
    let Some(entry) = section.get("ca_file") else {
        return Some(None);
    };
    let path = entry.path()?;
    if imap.is_some_and(|imap| imap.security == Security::Clear) {
        return entry.fail("has no use: no endpoint of this side is imaps:// or imap+starttls://");
    }
    Some(Some(path))
}

/// Checks that a table has `kind = wanted` and nothing beside `keys`; the kinds in `later` will come.
fn kind(section: &Section<'_>, wanted: &str, later: &[&str], keys: &Keys) -> Option<()> {
    let entry = section.require("kind", &format!("\"{wanted}\""))?;
    match entry.text()? {
        kind if kind == wanted => {
            section.check(keys, &[]);
            Some(())
        }
        // The other keys belong to that kind: nothing to say about them.
        kind if later.contains(&kind) => entry.later(format!("\"{kind}\"")),
        kind => entry.fail(format!("\"{kind}\" is not \"{wanted}\"")),
    }
}

fn target(section: &Section<'_>) -> Option<DsyncTarget> {
    kind(section, "dsync", &["imap"], &TARGET)?;
    let url = section.require("url", "\"doveadm://10.0.0.5:24245\"").and_then(|entry| {
        match entry.parse(endpoint::doveadm)? {
            Doveadm::Clear(host, port) => Some((host, port)),
            Doveadm::Later(scheme) => entry.later(format!("\"{scheme}://…\"")),
        }
    });
    let password = section.require("password_file", "\"/etc/mailferry/doveadm.secret\"").and_then(|entry| {
        let path = entry.path()?;
        entry.parse(|_| scalar::secret(&path))
    });
    let (host, port) = url?;
    Some(DsyncTarget { host, port, password: password? })
}

fn users(section: &Section<'_>) -> Option<Users> {
    let default_domain = section.or("default_domain", None, |entry| entry.parse(scalar::domain).map(Some))?;
    Some(Users { default_domain })
}

fn store(section: &Section<'_>) -> Option<StoreConfig> {
    let path = section.or("url", section.resolve(STORE), |entry| {
        let url = entry.text()?;
        for scheme in ["postgres://", "postgresql://"] {
            if url.starts_with(scheme) {
                return entry.later(format!("\"{scheme}…\"; use sqlite:/path/to/state.db"));
            }
        }
        entry.parse(scalar::sqlite_path).map(|path| section.resolve(path))
    })?;
    Some(StoreConfig { path })
}

fn admin(section: &Section<'_>, clients: Option<&Listen>) -> Option<Admin> {
    let taken = |address: &SocketAddr| {
        address.port() != 0
            && clients.is_some_and(|clients| clients.imap.contains(address) || clients.imaps.contains(address))
    };
    let listen = section.or("listen", ADMIN_LISTEN, |entry| match socket(entry)? {
        address if taken(&address) => entry.fail(format!("{address} is a listener for clients already")),
        address => Some(address),
    });
    let token_file = section.or("token_file", PathBuf::from(ADMIN_TOKEN), Entry::path);
    Some(Admin { listen: listen?, token_file: token_file? })
}

fn migration(section: &Section<'_>) -> Option<Migration> {
    let enroll = section.or("enroll", Enroll::None, |entry| {
        if entry.is_table() {
            return entry.later("{ … }");
        }
        match entry.text()? {
            "all" => Some(Enroll::All),
            "none" => Some(Enroll::None),
            text => entry.fail(format!("\"{text}\" is neither \"all\" nor \"none\"")),
        }
    });
    let parallel = section.or("parallel", PARALLEL, |entry| entry.count(1..=MAX_PARALLEL));
    Some(Migration { enroll: enroll?, parallel: parallel? })
}

fn switch(section: &Section<'_>) -> Option<Switch> {
    let auto = section.or("auto", true, Entry::boolean);
    let max_pause = section.or("max_pause", MAX_PAUSE, |entry| match entry.parse(scalar::duration)? {
        pause if pause.is_zero() || pause > LONGEST_PAUSE => entry.fail("must be above 0s and at most 30s"),
        pause => Some(pause),
    });
    // Accepted from the start (DESIGN §8); nothing reads it until the way back is built.
    let rollback_window = section.or("rollback_window", Duration::ZERO, |entry| entry.parse(scalar::duration));
    let (auto, max_pause, _) = (auto?, max_pause?, rollback_window?);
    Some(Switch { auto, max_pause })
}

fn verify(section: &Section<'_>) -> Option<Verify> {
    let bodies = section.or("bodies", BODIES, |entry| entry.parse(str::parse));
    let strict = section.or("strict", false, Entry::boolean);
    Some(Verify { bodies: bodies?, strict: strict? })
}

fn limits(section: &Section<'_>) -> Option<Limits> {
    let connections = section.or("connections", CONNECTIONS, |entry| entry.count(1..=MAX_CONNECTIONS))?;
    Some(Limits { connections })
}
