//! From the file as written to the valid configuration, section by section.
//!
//! Each section reads all its keys before it gives up, so that one run shows every problem.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Credentials, credentials};
use super::doors;
use super::endpoint;
use super::login_name::{SideNames, side_names};
use super::model::{
    Admin, Bodies, Config, Doveadm, Endpoint, Enroll, Listen, Migration, NewSide, OldSide, Source, StoreConfig, Switch,
    Unmatched, Unreadable, Users, Verify,
};
use super::raw::{Entry, Keys, Section};
use super::realm::realms;
use super::scalar;
use super::trust::{self, with_tls_keys};
use crate::mailbox::message::keyword_fits;

const ROOT: Keys = Keys {
    known: &[
        "listen",
        "tls",
        "old",
        "new",
        "users",
        "store",
        "admin",
        "migration",
        "switch",
        "verify",
        "limits",
        "passthrough",
        "realm",
    ],
    later: &[],
};

/// What both sides have, and `$own`.
macro_rules! side_keys {
    ($($own:literal),+) => {
        with_tls_keys!(
            ["imap", "pop3", "sieve", "lmtp"],
            ["proxy_protocol", "credentials", "login_name", "login_names", $($own),+]
        )
    };
}

/// Every section's keys, in the order of the example file.
static SECTIONS: [(&str, &Keys); 11] = [
    (
        "listen",
        &Keys {
            known: &["imap", "imaps", "pop3", "pop3s", "allow_cleartext", "proxy_protocol", "tokens"],
            later: &["lmtp", "socketmap"],
        },
    ),
    ("tls", &Keys { known: &["cert", "key", "sni"], later: &[] }),
    ("old", &Keys { known: side_keys!("source", "octets_per_day", "overquota_pause"), later: &["target"] }),
    ("new", &Keys { known: side_keys!("target", "pop3_deleted_flag", "virtual_all"), later: &["source"] }),
    ("users", &Keys { known: &["default_domain"], later: &[] }),
    ("store", &Keys { known: &["url"], later: &[] }),
    ("admin", &Keys { known: &["listen", "token_file"], later: &[] }),
    (
        "migration",
        &Keys {
            known: &[
                "enroll",
                "parallel",
                "unreadable",
                "pop3_missing",
                "pop3_extra",
                "hashed_headers",
                "include",
                "shared_account",
            ],
            later: &[],
        },
    ),
    ("switch", &Keys { known: &["auto", "max_pause", "wait_for_idle", "rollback_window"], later: &[] }),
    ("verify", &Keys { known: &["bodies", "strict"], later: &[] }),
    (
        "limits",
        &Keys {
            known: &[
                "connections",
                "drain",
                "connections_per_address",
                "strangers_per_address",
                "sessions_per_user",
                "logins_per_second",
                "logins_per_second_per_address",
                "login_delay",
                "exempt",
            ],
            later: &[],
        },
    ),
];

const PERCENT_ONLY: Keys = Keys { known: &["percent"], later: &[] };
const KIND_ONLY: Keys = Keys { known: &["kind"], later: &[] };
const DOVEADM: Keys = Keys { known: with_tls_keys!(["kind", "url", "password_file"], []), later: &[] };

/// Where the database lies unless the file says so.
const STORE: &str = "/var/lib/mailferry/state.db";
/// Where the admin API listens unless the file says so: this machine only.
const ADMIN_LISTEN: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));
/// Where the admin token lies unless the file says so.
const ADMIN_TOKEN: &str = "/var/lib/mailferry/admin.token";
/// Header fields that tell messages apart where nothing better does, as Dovecot's `dsync_hashed_headers` has them.
const HASHED_HEADERS: [&str; 2] = ["Date", "Message-ID"];
/// An account that has had its part of a day is asked again soon enough after midnight, and rarely enough before.
const OVERQUOTA_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Users copied at once: enough to fill a link, few enough for an old server's disks (DESIGN I6).
const PARALLEL: usize = 4;
/// More copies at once than this would be the proxy's own denial of service against the old server.
const MAX_PARALLEL: usize = 256;
/// The pause that people take for network weather (DESIGN §3).
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Mail clients give up on a command after 30 to 60 s; a longer pause would be seen.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Most clients that are not phones have closed their connections for a moment by then.
const WAIT_FOR_IDLE: Duration = Duration::from_secs(60 * 60);
/// Long enough for a queue that holds mail back for its usual five days, twice over.
const ROLLBACK_WINDOW: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A full verification reads this many bodies of each mailbox.
const BODIES: Bodies = Bodies::Sample(100);

/// Builds the whole configuration; what is wrong is in the section's report.
pub(super) fn config(root: &Section<'_>) -> Option<Config> {
    root.check(&ROOT, &[]);
    let section = |name: &str| {
        let section = root.section(name)?;
        section.check(keys_of(name), &SECTIONS);
        Some(section)
    };
    let tls = section("tls").and_then(|section| doors::tls(&section));
    let listen = section("listen").and_then(|section| doors::listen(&section, matches!(tls, Some(None))));
    let users = section("users").and_then(|section| users(&section));
    let domain = users.as_ref().and_then(|users| users.default_domain.as_deref());
    let old = section("old").and_then(|section| old_side(&section, domain));
    let new = section("new").and_then(|section| new_side(&section, old.as_ref(), domain));
    let mut realms = None;
    if let (Some(listen), Some(old), Some(new)) = (&listen, &old, &new) {
        pop3_everywhere(root, listen, old, new)?;
        sieve_on_both(root, old, new)?;
        realms = self::realms(root, listen, (old, new), domain);
    }
    let store = section("store").and_then(|section| store(&section));
    let passthrough = root.or("passthrough", Vec::new(), |entry| doors::passthrough(entry, listen.as_ref()));
    let clients = || listen.iter().flat_map(Listen::all).chain(passthrough.iter().flatten().map(|door| door.listen));
    let admin = section("admin").and_then(|section| admin(&section, &clients().collect::<Vec<_>>()));
    let migration = section("migration").and_then(|section| migration(&section));
    let switch = section("switch").and_then(|section| switch(&section));
    let verify = section("verify").and_then(|section| verify(&section));
    let limits = section("limits").and_then(|section| doors::limits(&section));
    Some(Config {
        listen: listen?,
        tls: tls?,
        old: old?,
        new: new?,
        realms: realms?,
        domains: Vec::new(),
        users: users?,
        store: store?,
        admin: admin?,
        migration: migration?,
        switch: switch?,
        verify: verify?,
        limits: limits?,
        passthrough: passthrough?,
    })
}

/// What can be set in a section.
pub(super) fn keys_of(section: &str) -> &'static Keys {
    const NONE: Keys = Keys { known: &[], later: &[] };
    SECTIONS.iter().find(|(known, _)| *known == section).map_or(&NONE, |(_, keys)| keys)
}

/// Every item of a list, or nothing if one of them is wrong; all are looked at.
pub(super) fn each<'a, T>(entry: &Entry<'a>, mut read: impl FnMut(&Entry<'a>) -> Option<T>) -> Option<Vec<T>> {
    let items: Vec<Option<T>> = entry.list()?.iter().map(&mut read).collect();
    items.into_iter().collect()
}

/// Every table of a `[[list]]`, or nothing if one of them is wrong; all are looked at.
pub(super) fn tables<'a, T>(entry: &Entry<'a>, read: impl FnMut(&Entry<'a>) -> Option<T>) -> Option<Vec<T>> {
    let tables: Vec<Option<T>> = entry.tables()?.iter().map(read).collect();
    tables.into_iter().collect()
}

/// A list of names, of which none is `seen` already; `twice` is said of one that is, `none` of an empty list.
pub(super) fn names_once(
    entry: &Entry<'_>,
    seen: &mut Vec<String>,
    read: impl Fn(&str) -> Result<String, String>,
    twice: impl Fn(&str) -> String,
    none: &str,
) -> Option<Vec<String>> {
    let names = each(entry, |item| {
        let name = item.parse(&read)?;
        if seen.contains(&name) {
            return item.fail(twice(&name));
        }
        seen.push(name.clone());
        Some(name)
    })?;
    if names.is_empty() { entry.fail(none) } else { Some(names) }
}

/// POP3 is there on both sides or nowhere: a user who has it before the switch must have it afterwards.
fn pop3_everywhere(root: &Section<'_>, listen: &Listen, old: &OldSide, new: &NewSide) -> Option<()> {
    let (listener, key) = if listen.pop3.is_empty() { (&listen.pop3s, "pop3s") } else { (&listen.pop3, "pop3") };
    for (name, side, other) in [("old", &old.pop3, &new.pop3), ("new", &new.pop3, &old.pop3)] {
        if side.is_none() && !listener.is_empty() {
            return root.section("listen")?.get(key)?.fail(format!("needs `pop3` under [{name}] as well"));
        }
        if side.is_none() && other.is_some() {
            let has = if name == "old" { "new" } else { "old" };
            return root.section(has)?.get("pop3")?.fail(format!("needs `pop3` under [{name}] as well"));
        }
    }
    Some(())
}

/// Scripts are read on one side and put on the other.
fn sieve_on_both(root: &Section<'_>, old: &OldSide, new: &NewSide) -> Option<()> {
    let (has, needs) = match (&old.sieve, &new.sieve) {
        (Some(_), None) => ("old", "new"),
        (None, Some(_)) => ("new", "old"),
        _ => return Some(()),
    };
    root.section(has)?.get("sieve")?.fail(format!("needs `sieve` under [{needs}] as well"))
}

/// `[old]`, and a realm's own.
pub(super) fn old_side(section: &Section<'_>, default_domain: Option<&str>) -> Option<OldSide> {
    let sides = side(section, "imaps://old.example:993", default_domain);
    let source = section.or("source", Source::Imap, |entry| entry.section().and_then(|section| source(&section)));
    let octets_per_day = section.or("octets_per_day", None, |entry| entry.parse(scalar::day_budget).map(Some));
    let overquota_pause = section.or("overquota_pause", OVERQUOTA_PAUSE, |entry| {
        let pause = entry.parse(scalar::duration)?;
        if pause.is_zero() { entry.fail("must be above 0s") } else { Some(pause) }
    });
    let Side { imap, pop3, sieve, credentials, names } = sides?;
    let (octets_per_day, overquota_pause) = (octets_per_day?, overquota_pause?);
    let source = source?;
    Some(OldSide { imap, pop3, sieve, credentials, names, octets_per_day, overquota_pause, source })
}

/// `[new]`, and a realm's own; `old` is the side it must not be.
pub(super) fn new_side(section: &Section<'_>, old: Option<&OldSide>, default_domain: Option<&str>) -> Option<NewSide> {
    let sides = side(section, "imap://10.0.0.5:143", default_domain);
    if let (Some(Side { imap, pop3, sieve, .. }), Some(old)) = (&sides, old) {
        if imap.is_same_server(&old.imap) {
            section.get("imap")?.fail::<()>(format!("{imap} is old.imap: the two sides must be two servers"));
        }
        if let (Some(pop3), Some(theirs)) = (pop3, &old.pop3)
            && pop3.is_same_server(theirs)
        {
            section.get("pop3")?.fail::<()>(format!("{pop3} is old.pop3: the two sides must be two servers"));
        }
        if let (Some(sieve), Some(theirs)) = (sieve, &old.sieve)
            && sieve.is_same_server(theirs)
        {
            section.get("sieve")?.fail::<()>(format!("{sieve} is old.sieve: the two sides must be two servers"));
        }
    }
    let example = "{ kind = \"dsync\", url = \"doveadm://10.0.0.5:24245\", password_file = \"doveadm.secret\" }";
    let target = section.require("target", example).and_then(|entry| entry.section()).and_then(|s| target(&s));
    if let (Some(target), Some(OldSide { source: Source::Dsync(source), .. })) = (&target, old)
        && target.endpoint.is_same_server(&source.endpoint)
    {
        let twice = format!("{} is old.source: the two sides must be two servers", target.endpoint);
        section.get("target")?.fail::<()>(twice);
    }
    let pop3_deleted_flag = section.or("pop3_deleted_flag", None, |entry| match entry.text()? {
        name if keyword_fits(name) => Some(Some(Arc::from(name))),
        name => entry.fail(format!("\"{name}\" is no keyword such as \"$POP3Deleted\"")),
    });
    let virtual_all = section.or("virtual_all", None, |entry| match entry.text()? {
        // (In these characters it is the same in both encodings of names.)
        name if !name.is_empty()
            && name
                .bytes()
                .all(|octet| octet == b' ' || octet.is_ascii_graphic() && !b"&\"\\\\*%".contains(&octet)) =>
        {
            Some(Some(Arc::from(name)))
        }
        name => {
            entry.fail(format!("\"{name}\" is no mailbox's name such as \"Virtual/All\", in ASCII without & \" \\ * %"))
        }
    });
    let Side { imap, pop3, sieve, credentials, names } = sides?;
    let (target, pop3_deleted_flag, virtual_all) = (target?, pop3_deleted_flag?, virtual_all?);
    Some(NewSide { imap, pop3, sieve, credentials, names, target, pop3_deleted_flag, virtual_all })
}

/// What both sides have: IMAP, POP3, ManageSieve, their certificates, credentials, and LMTP for later.
struct Side {
    imap: Endpoint,
    pop3: Option<Endpoint>,
    sieve: Option<Endpoint>,
    credentials: Credentials,
    names: SideNames,
}

fn side(section: &Section<'_>, example: &str, default_domain: Option<&str>) -> Option<Side> {
    let imap = section.require("imap", &format!("\"{example}\"")).and_then(|entry| entry.parse(endpoint::imap));
    let pop3 = section.or("pop3", None, |entry| entry.parse(endpoint::pop3).map(Some));
    let sieve = section.or("sieve", None, |entry| entry.parse(endpoint::sieve).map(Some));
    if let Some(lmtp) = section.get("lmtp") {
        lmtp.parse(endpoint::lmtp);
    }
    let credentials =
        section.or("credentials", Credentials::User, |entry| entry.section().and_then(|section| credentials(&section)));
    let names = side_names(section, default_domain);
    let trust = trust::written(section);
    let (mut imap, mut pop3, mut sieve) = (imap?, pop3?, sieve?);
    let none = "no endpoint of this side is inside TLS (imaps://, imap+starttls://, pop3s:// …)";
    trust?.give(std::iter::once(&mut imap).chain(&mut pop3).chain(&mut sieve), none)?;
    let proxy_protocol = section.or("proxy_protocol", false, Entry::boolean)?;
    let endpoints = std::iter::once(&mut imap).chain(&mut pop3).chain(&mut sieve);
    endpoints.for_each(|endpoint| endpoint.proxy_protocol = proxy_protocol);
    let credentials = credentials?;
    if let Some(why) = credentials.master().and_then(|master| master.cant_log_in(pop3.is_some(), sieve.is_some())) {
        return section.get("credentials")?.fail(why);
    }
    Some(Side { imap, pop3, sieve, credentials, names: names? })
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

fn source(section: &Section<'_>) -> Option<Source> {
    match section.get("kind").map(|entry| entry.parse(kind_of_source)) {
        None | Some(Some(false)) => kind(section, "imap", &[], &KIND_ONLY).map(|()| Source::Imap),
        Some(Some(true)) => {
            section.check(&DOVEADM, &[]);
            doveadm(section, "doveadm://old.example:24245").map(Source::Dsync)
        }
        Some(None) => None,
    }
}

/// Whether it is dsync.
fn kind_of_source(text: &str) -> Result<bool, String> {
    match text {
        "imap" => Ok(false),
        "dsync" => Ok(true),
        other => Err(format!("\"{other}\" is none of \"imap\", \"dsync\"")),
    }
}

fn target(section: &Section<'_>) -> Option<Doveadm> {
    kind(section, "dsync", &["imap"], &DOVEADM)?;
    doveadm(section, "doveadm://10.0.0.5:24245")
}

/// Where a doveadm service is, and its password.
fn doveadm(section: &Section<'_>, example: &str) -> Option<Doveadm> {
    let url = section.require("url", &format!("\"{example}\"")).and_then(|entry| entry.parse(endpoint::doveadm));
    let password = section.require("password_file", "\"/etc/mailferry/doveadm.secret\"").and_then(|entry| {
        let path = entry.path()?;
        entry.parse(|_| scalar::secret(&path))
    });
    let trust = trust::written(section);
    let mut endpoint = url?;
    trust?.give([&mut endpoint], "url is not inside TLS (doveadm+tls://, doveadm+starttls://)")?;
    Some(Doveadm { endpoint, password: password? })
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

fn admin(section: &Section<'_>, clients: &[SocketAddr]) -> Option<Admin> {
    let taken = |address: &SocketAddr| address.port() != 0 && clients.contains(address);
    let listen = section.or("listen", ADMIN_LISTEN, |entry| match doors::socket(entry)? {
        address if taken(&address) => entry.fail(format!("{address} is a listener for clients already")),
        address => Some(address),
    });
    let token_file = section.or("token_file", PathBuf::from(ADMIN_TOKEN), Entry::path);
    Some(Admin { listen: listen?, token_file: token_file? })
}

fn migration(section: &Section<'_>) -> Option<Migration> {
    let enroll = section.or("enroll", Enroll::None, |entry| {
        if entry.is_table() {
            let part = entry.section()?;
            part.check(&PERCENT_ONLY, &[]);
            let percent = part.require("percent", "5")?.count(1..=100)?;
            return Some(Enroll::Percent(u16::try_from(percent).unwrap_or(100)));
        }
        match entry.text()? {
            "all" => Some(Enroll::All),
            "none" => Some(Enroll::None),
            text => entry.fail(format!("\"{text}\" is none of \"all\", \"none\", {{ percent = N }}")),
        }
    });
    let parallel = section.or("parallel", PARALLEL, |entry| entry.count(1..=MAX_PARALLEL));
    let unreadable = section.or("unreadable", Unreadable::Stop, |entry| match entry.text()? {
        "stop" => Some(Unreadable::Stop),
        "skip" => Some(Unreadable::Skip),
        text => entry.fail(format!("\"{text}\" is none of \"stop\", \"skip\"")),
    });
    let unmatched = |key: &'static str| {
        section.or(key, Unmatched::Stop, |entry| match entry.text()? {
            "stop" => Some(Unmatched::Stop),
            "ignore" => Some(Unmatched::Ignore),
            text => entry.fail(format!("\"{text}\" is none of \"stop\", \"ignore\"")),
        })
    };
    let (pop3_missing, pop3_extra) = (unmatched("pop3_missing"), unmatched("pop3_extra"));
    let default = HASHED_HEADERS.map(str::to_owned).to_vec();
    let hashed_headers = section.or("hashed_headers", default, |entry| {
        entry.list()?.iter().map(|field| field.parse(scalar::header_field)).collect()
    });
    let shared_account = shared_account(section);
    Some(Migration {
        enroll: enroll?,
        parallel: parallel?,
        unreadable: unreadable?,
        pop3_missing: pop3_missing?,
        pop3_extra: pop3_extra?,
        hashed_headers: hashed_headers?,
        shared_account: shared_account?,
    })
}

/// What is moved beside users' own mailboxes, and with whom: mailboxes that belong to nobody are written by one account, or two
/// would write the same.
fn shared_account(section: &Section<'_>) -> Option<Option<String>> {
    let include = section.or("include", false, |entry| {
        let items = each(entry, |item| match item.text()? {
            "shared" => Some(()),
            text => item.fail(format!("\"{text}\" is not \"shared\"")),
        })?;
        Some(!items.is_empty())
    });
    let account = section.or("shared_account", None, |entry| match entry.text()?.trim() {
        "" => entry.fail("is empty: name the user who carries the shared mailboxes"),
        name => Some(Some(name.to_owned())),
    });
    match (include?, account?) {
        (true, None) => section.get("include")?.fail(
            "needs `shared_account = \"USER\"` beside it: the one account that reads the shared mailboxes on the old side \
             and writes them on the new one",
        ),
        (false, Some(_)) => {
            section.get("shared_account")?.fail("needs `include = [\"shared\"]` beside it: without it nothing is carried")
        }
        (_, account) => Some(account),
    }
}

fn switch(section: &Section<'_>) -> Option<Switch> {
    let auto = section.or("auto", true, Entry::boolean);
    let max_pause = section.or("max_pause", MAX_PAUSE, |entry| match entry.parse(scalar::duration)? {
        pause if pause.is_zero() || pause > LONGEST_PAUSE => entry.fail("must be above 0s and at most 30s"),
        pause => Some(pause),
    });
    let wait_for_idle = section.or("wait_for_idle", WAIT_FOR_IDLE, |entry| entry.parse(scalar::duration));
    let rollback_window = section.or("rollback_window", ROLLBACK_WINDOW, |entry| entry.parse(scalar::duration));
    Some(Switch {
        auto: auto?,
        max_pause: max_pause?,
        wait_for_idle: wait_for_idle?,
        rollback_window: rollback_window?,
    })
}

fn verify(section: &Section<'_>) -> Option<Verify> {
    let bodies = section.or("bodies", BODIES, |entry| entry.parse(str::parse));
    let strict = section.or("strict", false, Entry::boolean);
    Some(Verify { bodies: bodies?, strict: strict? })
}
