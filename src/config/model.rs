//! The valid configuration: what is here can be used without another look at it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::credentials::Credentials;
use super::login_name::SideNames;
use super::network::Network;

/// A whole configuration file, validated. Paths are absolute or relative to the working directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[listen]`: where clients reach us.
    pub listen: Listen,
    /// `[tls]`: our certificates. Present whenever a listener needs one.
    pub tls: Option<Tls>,
    /// `[old]`: the server that users come from.
    pub old: OldSide,
    /// `[new]`: the server that users go to.
    pub new: NewSide,
    /// `[[realm]]`: domains whose users have other sides.
    pub realms: Vec<Realm>,
    /// Whose sides `old` and `new` are; empty: of all whose domain has no realm.
    pub domains: Vec<String>,
    /// `[users]`: how login names become users.
    pub users: Users,
    /// `[store]`: where durable records lie.
    pub store: StoreConfig,
    /// `[admin]`: the admin HTTP API.
    pub admin: Admin,
    /// `[migration]`: who is copied, and how much at once.
    pub migration: Migration,
    /// `[switch]`: when and how a user's authority moves.
    pub switch: Switch,
    /// `[verify]`: how deep the two sides are compared.
    pub verify: Verify,
    /// `[limits]`: bounds of the whole process.
    pub limits: Limits,
    /// `[[passthrough]]`: what is handed through without being understood.
    pub passthrough: Vec<Passthrough>,
}

/// `[[realm]]`: the sides of the users of some domains. What it leaves out is filled in from `[old]` and `[new]`.
#[derive(Clone, Debug)]
pub struct Realm {
    /// Lower case; no other realm has them.
    pub domains: Vec<String>,
    /// The server that these users come from.
    pub old: OldSide,
    /// The server that they go to.
    pub new: NewSide,
}

impl Config {
    /// The configuration as it is for the users of `realm`: its sides are `old` and `new`.
    #[must_use]
    pub fn within(&self, realm: &Realm) -> Self {
        let Realm { domains, old, new } = realm.clone();
        Self { old, new, domains, realms: Vec::new(), ..self.clone() }
    }
}

/// `[listen]`. Every list may be empty; `serve` needs at least one address (see [`Listen::is_empty`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// IMAP with STARTTLS.
    pub imap: Vec<SocketAddr>,
    /// IMAP inside TLS.
    pub imaps: Vec<SocketAddr>,
    /// POP3 with STLS.
    pub pop3: Vec<SocketAddr>,
    /// POP3 inside TLS.
    pub pop3s: Vec<SocketAddr>,
    /// Client networks that may log in without TLS.
    pub allow_cleartext: Vec<Network>,
    /// Networks whose connections begin with a PROXY header that names the client.
    pub proxy_protocol: Vec<Network>,
    /// Clients may log in with tokens: the servers of both sides take them.
    pub tokens: bool,
}

impl Listen {
    /// No listener at all: fine for `sync` and `verify`, useless for `serve`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Whether clients reach us over POP3.
    #[must_use]
    pub fn has_pop3(&self) -> bool {
        !self.pop3.is_empty() || !self.pop3s.is_empty()
    }

    /// Every address clients reach us at.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        [&self.imap, &self.imaps, &self.pop3, &self.pop3s].into_iter().flatten().copied()
    }
}

/// `[[passthrough]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passthrough {
    /// Where clients reach us.
    pub listen: SocketAddr,
    /// Where their connections go, octet by octet: in clear, as far as we know.
    pub to: Endpoint,
}

/// `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// For clients that ask for no name, or for one that isn't listed; at least one. A client gets the first one that it can
    /// check.
    pub pairs: Vec<TlsFiles>,
    /// For clients that ask for certain names.
    pub sni: Vec<Sni>,
}

/// `[[tls.sni]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sni {
    /// Host names, lower case; `*.` in front stands for any one label. No name is listed twice in a configuration.
    pub names: Vec<String>,
    /// At least one, as in [`Tls::pairs`].
    pub pairs: Vec<TlsFiles>,
}

/// A PEM certificate chain and its PEM private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// `[old]`.
#[derive(Clone, Debug)]
pub struct OldSide {
    /// Where the old server speaks IMAP.
    pub imap: Endpoint,
    /// Where it speaks POP3; `None`: this platform has no POP3.
    pub pop3: Option<Endpoint>,
    /// Where it speaks ManageSieve; `None`: scripts are not carried over.
    pub sieve: Option<Endpoint>,
    /// With what our own connections log in there.
    pub credentials: Credentials,
    /// By which names it knows users.
    pub names: SideNames,
    /// How mail is read there.
    pub source: Source,
    /// How much of a user's account our own connections may receive a day; `None`: as is usual with its server.
    pub octets_per_day: Option<DayBudget>,
    /// How long an account rests that has had what it is given.
    pub overquota_pause: Duration,
}

/// `source = { kind = …, … }`: how mail is read on the old side.
#[derive(Clone, Debug)]
pub enum Source {
    /// `imap`: as clients do.
    Imap,
    /// `dsync`: over its doveadm service, if it is a Dovecot.
    Dsync(Doveadm),
}

/// Octets a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayBudget(
    /// `None`: as many as there are.
    pub Option<u64>,
);

/// `[new]`.
#[derive(Clone, Debug)]
pub struct NewSide {
    /// Where the new server speaks IMAP.
    pub imap: Endpoint,
    /// Where it speaks POP3; both sides have it or none.
    pub pop3: Option<Endpoint>,
    /// Where it speaks ManageSieve; both sides have it or none.
    pub sieve: Option<Endpoint>,
    /// With what our own connections log in there.
    pub credentials: Credentials,
    /// By which names it knows users.
    pub names: SideNames,
    /// How the new server is written.
    pub target: Doveadm,
    /// Its `pop3_deleted_flag`: the keyword of messages that POP3 hides; `None`: it hides none.
    pub pop3_deleted_flag: Option<Arc<str>>,
    /// Its virtual mailbox of all mail, from which a message that is in several mailboxes of a Gmail is copied; `None`: each is
    /// written anew.
    pub virtual_all: Option<Arc<str>>,
}

/// Where a side speaks a protocol, and how the connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Protection of the connection.
    pub security: Security,
    /// What TLS asks of the server. Of no use where the connection is in clear.
    pub trust: Trust,
    /// Connections begin with a PROXY header, version 2, that names the client.
    pub proxy_protocol: bool,
}

/// What TLS asks of a server, and what it may ask of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// `ca_file` or `ca_dir`: certificates to trust in place of the system's, a PEM file or a folder of such files.
    pub ca: Option<PathBuf>,
    /// The one key to trust, whatever certificate it comes in. Without `ca`.
    pub pin: Option<Pin>,
    /// The name that is asked for and that the certificate must be for, if it is not the host's.
    pub name: Option<String>,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// Our certificate, where the server wants one.
    pub client: Option<TlsFiles>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V12,
    /// RFC 8446.
    V13,
}

impl Endpoint {
    /// A server in clear, of which nothing else is known.
    #[must_use]
    pub fn clear(host: impl Into<String>, port: u16) -> Self {
        let (host, security) = (host.into(), Security::Clear);
        Self { host, port, security, trust: Trust::default(), proxy_protocol: false }
    }

    /// Whether both name the same host and port.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

/// For messages: `host:port`, an IPv6 address in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Protection of a connection to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `imap://`, `pop3://`, `sieve://`, `doveadm://`: none.
    Clear,
    /// `imap+starttls://`, `pop3+starttls://`, `sieve+starttls://`, `doveadm+starttls://`: TLS after a command; a server that doesn't offer it
    /// is not used.
    StartTls,
    /// `imaps://`, `pop3s://`, `sieves://`, `doveadm+tls://`: TLS from the first byte.
    Tls,
}

/// SHA-256 of a public key, as the `SubjectPublicKeyInfo` of a certificate holds it: it stays the same when a certificate
/// is renewed for the same key. Written `sha256:` and 64 hexadecimal digits, which may stand in pairs with colons between.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let wrong = || PinError(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?.replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(sum))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`Pin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not \"sha256:\" and 64 hexadecimal digits")]
pub struct PinError(String);

/// `{ kind = "dsync", … }`: a Dovecot's doveadm service, which is read or written by dsync.
#[derive(Clone, Debug)]
pub struct Doveadm {
    /// Where the service is.
    pub endpoint: Endpoint,
    /// Dovecot's `doveadm_password`, read from `password_file` with its line end removed.
    pub password: SecretString,
}

/// `[users]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Appended to a login name without `@`; lower case.
    pub default_domain: Option<String>,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The SQLite database file.
    pub path: PathBuf,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where the admin HTTP API listens.
    pub listen: SocketAddr,
    /// The bearer token of that API; made with mode 0600 if it is missing.
    pub token_file: PathBuf,
}

/// `[migration]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Whose first login starts a copy.
    pub enroll: Enroll,
    /// Users copied at once, at least 1.
    pub parallel: usize,
    /// What becomes of messages that the old side can't give.
    pub unreadable: Unreadable,
    /// What messages of INBOX mean that the old side's POP3 doesn't show.
    pub pop3_missing: Unmatched,
    /// What messages mean that the old side's POP3 shows and that are not in INBOX.
    pub pop3_extra: Unmatched,
    /// Header fields that tell messages apart where nothing better does; none: nothing does then.
    pub hashed_headers: Vec<String>,
    /// Who carries the mailboxes of the *Shared* namespace for everybody; none: they are not moved.
    pub shared_account: Option<String>,
}

/// `migration.pop3_missing`, `migration.pop3_extra`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// The user is not switched.
    Stop,
    /// They are named in the report.
    Ignore,
}

/// `migration.unreadable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Their mailbox is copied up to there, and the user is not switched.
    Stop,
    /// They are left out on the new side, and named.
    Skip,
}

/// `migration.enroll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enroll {
    /// Everybody.
    All,
    /// Nobody.
    None,
    /// This part of all users, 1 to 100, by a hash of their names.
    Percent(u16),
}

/// `[switch]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Switch by itself once a user is copied and has no session open.
    pub auto: bool,
    /// The longest time a user's commands may wait.
    pub max_pause: Duration,
    /// How long an automatic switch waits for a moment without open sessions before it pauses and ends those that are
    /// open.
    pub wait_for_idle: Duration,
    /// How long the old side is watched for late arrivals after a switch.
    pub rollback_window: Duration,
}

/// `[verify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How many message bodies are compared byte by byte.
    pub bodies: Bodies,
    /// `altered` findings block the switch as well.
    pub strict: bool,
}

/// How many bodies a verification reads. Written `none`, `sample:N` or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// No body.
    None,
    /// This many of each mailbox, at least 1.
    Sample(u32),
    /// Every body.
    All,
}

impl FromStr for Bodies {
    type Err = BodiesError;

    fn from_str(text: &str) -> Result<Self, BodiesError> {
        match text {
            "none" => return Ok(Self::None),
            "all" => return Ok(Self::All),
            _ => {}
        }
        text.strip_prefix("sample:")
            .and_then(|count| count.parse().ok())
            .filter(|count| *count > 0)
            .map(Self::Sample)
            .ok_or_else(|| BodiesError(text.to_owned()))
    }
}

impl fmt::Display for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sample(count) => write!(f, "sample:{count}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// A text that is none of the forms of [`Bodies`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is none of \"none\", \"sample:N\" (N at least 1), \"all\"")]
pub struct BodiesError(String);

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once; one more is told BYE.
    pub connections: usize,
    /// When the server ends, the last session is told by then.
    pub drain: Duration,
    /// Connections at once of one address, passthrough included.
    pub connections_per_address: usize,
    /// Of those, connections that have not logged in yet.
    pub strangers_per_address: usize,
    /// Sessions at once of one user.
    pub sessions_per_user: usize,
    /// Logins tried a second; 0: as many as come.
    pub logins_per_second: usize,
    /// The same of one address.
    pub logins_per_second_per_address: usize,
    /// The longest that a login waits after failures.
    pub login_delay: Duration,
    /// Client networks for which nothing is counted by address.
    pub exempt: Vec<Network>,
}

impl Limits {
    /// No limit at all.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            connections: usize::MAX,
            drain: Duration::ZERO,
            connections_per_address: usize::MAX,
            strangers_per_address: usize::MAX,
            sessions_per_user: usize::MAX,
            logins_per_second: 0,
            logins_per_second_per_address: 0,
            login_delay: Duration::ZERO,
            exempt: Vec::new(),
        }
    }
}
