//! `mailferry check`: is the configuration valid, can both sides be reached, what can each do; and what would happen to a
//! user.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;

use super::{Exit, UsageError, load, one_user, platforms};
use crate::admin::doveconf::Doveconf;
use crate::admin::new_config::{self, Dialect};
use crate::admin::text;
use crate::config::{Config, Endpoint, OldSide, Passthrough};
use crate::mailbox::Side;
use crate::migrate::outlook::{Holdings, Labelled, Labels, Outlook};
use crate::migrate::{PasswordFor, Platform, SieveSides, Stop};
use crate::net::ServerTls;
use crate::net::imap::{ImapError, ImapServer};
use crate::net::pop3::{Pop3Error, Pop3Server};
use crate::source::profile::{Brand, Profile};
use crate::source::profile_of;
use crate::store::{Phase, UserRecord};
use crate::user::{CanonicalUser, NameRules, Realms};
use crate::wire::imap::tracker;

/// ManageSieve's port (RFC 5804 §1.8).
const SIEVE: u16 = 4190;

/// Differences of rights that are shown.
const RIGHTS_MAX: usize = 10;

/// The configuration of a new host is a few hundred lines.
const DOVECONF_MAX: u64 = 4 << 20;

/// What a server lets be seen before a login.
#[derive(Debug)]
struct Seen {
    side: Side,
    words: BTreeSet<String>,
    /// Under which address it sees us.
    us: String,
    /// What is particular to it.
    profile: &'static Profile,
}

/// What is asked beside the configuration and both sides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Also<'a> {
    /// What would happen to this user.
    pub user: Option<&'a str>,
    /// Or only the sides of this domain's users.
    pub domain: Option<&'a str>,
    /// With this password.
    pub password_file: Option<&'a Path>,
    /// What `doveconf -n` prints on the new host.
    pub doveconf: Option<&'a Path>,
}

/// Validates, reaches both sides, prints what each can do and what clients won't see.
///
/// # Errors
/// If the configuration, the store or a file that was given can't be used.
pub async fn check(config: &Path, also: Also<'_>) -> anyhow::Result<Exit> {
    let config = load(config)?;
    let doveconf = also.doveconf.map(read_doveconf).transpose()?;
    println!("configuration  ok");
    let platforms = platforms(&config)?;
    println!("store          ok: {}", config.store.path.display());
    let user = also.user.map(|typed| (typed, NameRules::of(&config).canonical(typed)));
    let domain = user.as_ref().map_or(also.domain, |(_, user)| Some(user.domain().unwrap_or_default()));
    let looked_at = looked_at(&platforms, domain);
    if doveconf.is_some() && new_hosts(looked_at.iter().map(|platform| &*platform.config)).len() > 1 {
        let several =
            "--doveconf tells of one new host, and the realms have several: name one of its domains with --domain";
        return Err(UsageError(several.to_owned()).into());
    }
    let mut good = true;
    if let Some(Err(error)) = config.tls.as_ref().map(ServerTls::load) {
        println!("certificates   of no use: {error}");
        good = false;
    }
    let mut us = None;
    for platform in &looked_at {
        if !config.realms.is_empty() {
            println!("\n{}", title(&config, &platform.config));
        }
        let (fine, seen) = sides(platform).await;
        good &= fine;
        us = us.or_else(|| seen.iter().find(|seen| seen.side == Side::New).map(|seen| seen.us.clone()));
    }
    if let Some(platform) = looked_at.first() {
        old_scripts(&config, platform).await?;
    }
    if let (Some(doveconf), Some(platform)) = (doveconf, looked_at.first()) {
        let warnings = doveconf.warnings(&platform.config, us.as_deref());
        println!("new host       {}", if warnings.is_empty() { "nothing to change" } else { "to change:" });
        warnings.iter().for_each(|warning| println!("  {warning}"));
        good &= warnings.is_empty();
    }
    if let Some((typed, user)) = user {
        good &= self::user(platforms.of(&user), typed, user.clone(), also.password_file).await?;
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}

/// What is asked for: a domain's, or all.
fn looked_at<'a, T>(realms: &'a Realms<T>, domain: Option<&str>) -> Vec<&'a T> {
    match domain {
        Some(domain) => vec![realms.of_domain(&domain.to_lowercase())],
        None => realms.iter().collect(),
    }
}

/// The first of each new host's.
fn new_hosts<'a>(configs: impl Iterator<Item = &'a Config>) -> Vec<&'a Config> {
    let mut hosts: Vec<&Config> = Vec::new();
    for config in configs {
        let target = &config.new.target.endpoint;
        if !hosts.iter().any(|known| known.new.target.endpoint.is_same_server(target)) {
            hosts.push(config);
        }
    }
    hosts
}

/// Whose sides those of `within` are.
fn title(config: &Config, within: &Config) -> String {
    match within.domains.as_slice() {
        [] => format!("users of no realm (realms: {})", config.realms.len()),
        domains => format!("realm {}", domains.join(", ")),
    }
}

/// Reaches all servers of a platform: whether all is well, and what was seen.
async fn sides(platform: &Platform) -> (bool, Vec<Seen>) {
    let mut good = true;
    let mut sides = Vec::new();
    for server in [&platform.old, &platform.new] {
        let what = format!("{} imap", server.side());
        match imap(server).await {
            Ok(seen) => {
                reached(&what, server.name(), &seen.us);
                brand(seen.profile);
                sides.push(seen);
            }
            Err(error) => good &= failed(&what, &error),
        }
    }
    if let Some(pop3) = &platform.pop3 {
        for server in [&pop3.old, &pop3.new] {
            let what = format!("{} pop3", server.side());
            match self::pop3(server).await {
                Ok((us, trusted)) => {
                    reached(&what, server.name(), &us);
                    let brand = sides.iter().find(|seen| seen.side == server.side()).map(|seen| seen.profile.brand);
                    if !trusted && brand.is_none_or(can_trust) {
                        println!("{:<14} {}", "", distrust(&us));
                    }
                }
                Err(error) => good &= failed(&what, &error),
            }
        }
    }
    if let Some(sieve) = &platform.sieve {
        good &= self::sieve(sieve).await;
    }
    good &= source(platform).await;
    good &= target(platform).await;
    capabilities(&sides);
    for Seen { side, us, profile, .. } in &sides {
        if can_trust(profile.brand) {
            println!(
                "{side} side sees us as {us}: it must trust this address to believe the clients' own (login_trusted_networks)"
            );
        } else {
            println!("{side} side sees us as {us}, and all clients, too: {profile} can't be told their own addresses");
        }
    }
    (good, sides)
}

/// Prints what the new Dovecot's configuration needs for the move, in the words of its release.
///
/// # Errors
/// If the configuration can't be used.
pub async fn new_config(config: &Path, dialect: Dialect, domain: Option<&str>) -> anyhow::Result<Exit> {
    let config = load(config)?;
    let Ok(realms) = Realms::build(&config, Ok::<_, Infallible>);
    let hosts = new_hosts(looked_at(&realms, domain).into_iter().map(|within| &**within));
    for within in &hosts {
        // The new host needs these lines before it can be reached.
        let us = match ImapServer::new(Side::New, &within.new.imap)?.connect().await {
            Ok(connection) => connection.local_address(),
            Err(_) => "ADDRESS-OF-THE-PROXY".to_owned(),
        };
        if hosts.len() > 1 {
            println!("# ---- {}: {} ----", within.new.imap.host, title(&config, within));
        }
        print!("{}", new_config::lines(within, dialect, &us));
    }
    Ok(Exit::Done)
}

/// Warns of a `[[passthrough]]` to the old side's ManageSieve, once users are on the new side: what they change there has no effect
/// on their mail any more.
async fn old_scripts(config: &Config, platform: &Platform) -> anyhow::Result<()> {
    let leads_there = |old: &OldSide, to: &Endpoint| {
        old.sieve.as_ref().is_some_and(|sieve| sieve.is_same_server(to))
            || (to.port, &to.host) == (SIEVE, &old.imap.host)
    };
    let olds = || config.realms.iter().map(|realm| &realm.old).chain([&config.old]);
    let doors: Vec<_> = config.passthrough.iter().filter(|door| olds().any(|old| leads_there(old, &door.to))).collect();
    if doors.is_empty() {
        return Ok(());
    }
    let (_, phases) = platform.store.users(None).await?;
    let moved: u64 = phases
        .iter()
        .filter(|(phase, _)| matches!(phase, Phase::New | Phase::Returning | Phase::Settled))
        .map(|(_, count)| count)
        .sum();
    if moved > 0 {
        for Passthrough { listen, to } in doors {
            println!(
                "passthrough    {listen} leads to {to}, ManageSieve of the old side, and {moved} users are on the new side: what they \
                 change there has no effect any more; let it lead to the new side when all have moved"
            );
        }
    }
    Ok(())
}

fn read_doveconf(path: &Path) -> anyhow::Result<Doveconf> {
    let unfit = |why: &dyn std::fmt::Display| UsageError(format!("{}: {why}", path.display()));
    if std::fs::metadata(path).map_err(|error| unfit(&error))?.len() > DOVECONF_MAX {
        return Err(unfit(&"too large for what `doveconf -n` prints").into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| unfit(&error))?;
    Ok(Doveconf::parse(&text).map_err(|error| unfit(&error))?)
}

fn reached(what: &str, server: &str, us: &str) {
    println!("{what:<14} ok: {server}, from {us}");
}

/// Which server it is, and what is particular to it.
fn brand(profile: &Profile) {
    println!("{:<14} it is {profile}", "");
    // (What is only done in case it were needed is nothing to tell.)
    if profile.brand != Brand::Unknown {
        profile.quirks.iter().for_each(|quirk| println!("{:<14} - {}", "", quirk.explained()));
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> bool {
    println!("{what:<14} FAILED: {error}");
    false
}

/// Whether a brand has a setting for it to believe a proxy the clients' own addresses, as far as we know.
const fn can_trust(brand: Brand) -> bool {
    matches!(brand, Brand::Dovecot | Brand::Unknown)
}

fn distrust(us: &str) -> String {
    format!(
        "does not trust {us}: it takes all clients for one, and may let all of them wait after one has mistyped a password \
         (Dovecot: up to 15 s); put {us} into login_trusted_networks"
    )
}

async fn imap(server: &ImapServer) -> Result<Seen, ImapError> {
    let mut connection = server.connect().await?;
    let words = connection.capabilities().iter().map(str::to_owned).collect();
    let profile = profile_of(&mut connection).await?;
    Ok(Seen { side: server.side(), words, us: connection.local_address(), profile })
}

/// Our own address as this server sees it, and whether it would believe us the clients' (it offers XCLIENT then).
async fn pop3(server: &Pop3Server) -> Result<(String, bool), Pop3Error> {
    let connection = server.connect().await?;
    let seen = (connection.local_address(), connection.offers_xclient());
    let _ = connection.quit().await;
    Ok(seen)
}

/// Reaches both ManageSieve servers, and says which extensions of Sieve the new one lacks: scripts that use them can't be moved.
async fn sieve(sides: &SieveSides) -> bool {
    let mut known = Vec::new();
    for server in [&sides.old, &sides.new] {
        let what = format!("{} sieve", server.side());
        match server.connect().await {
            Ok(connection) => {
                reached(&what, server.name(), &connection.local_address());
                known.push(connection.words("SIEVE").map(str::to_owned).collect::<BTreeSet<_>>());
                connection.logout().await;
            }
            Err(error) => return failed(&what, &error),
        }
    }
    if let [old, new] = known.as_slice() {
        let lacks: Vec<&str> = old.difference(new).map(String::as_str).collect();
        if !lacks.is_empty() {
            let lacks = lacks.join(" ");
            println!(
                "{:<14} lacks Sieve extensions of the old side: {lacks}; a user whose scripts use them stays there",
                ""
            );
        }
    }
    true
}

/// The old side's doveadm service, where it is read.
async fn source(platform: &Platform) -> bool {
    let Some(source) = &platform.source else { return true };
    match source.probe().await {
        Ok(()) => {
            println!("{:<14} ok: {}; mail is read there, and compared over IMAP", "old doveadm", source.address());
            true
        }
        Err(error) => failed("old doveadm", &error),
    }
}

async fn target(platform: &Platform) -> bool {
    match platform.target.probe().await {
        Ok(()) => {
            println!("{:<14} ok: {}", "new doveadm", platform.target.address());
            true
        }
        Err(error) => failed("new doveadm", &error),
    }
}

/// What each side announces, side by side.
fn capabilities(sides: &[Seen]) {
    for Seen { side, words, .. } in sides {
        if !words.contains("ID") {
            println!(
                "{side} side lacks ID: it will take all clients for one address, and may slow them down after wrong passwords"
            );
        }
    }
    if let [old, new] = sides {
        println!("before login:");
        side_by_side(&old.words, &new.words);
        let hidden = old.words.union(&new.words).any(|word| tracker::is_hidden(word.as_bytes()));
        println!(
            "hidden from clients: COMPRESS=DEFLATE and UNAUTHENTICATE{}",
            if hidden { "" } else { " (neither is announced)" }
        );
    }
}

fn side_by_side(old: &BTreeSet<String>, new: &BTreeSet<String>) {
    // What concerns the connection to the proxy alone is not the sides' to offer.
    let ours =
        |word: &&String| ["STARTTLS", "LOGINDISABLED", "SASL-IR"].contains(&word.as_str()) || word.starts_with("AUTH=");
    let line = |what: &str, words: Vec<&String>| {
        let words: Vec<&str> = words.into_iter().filter(|word| !ours(word)).map(String::as_str).collect();
        println!("  {what:<10} {}", if words.is_empty() { "-".to_owned() } else { words.join(" ") });
    };
    line("both", old.intersection(new).collect());
    line("old only", old.difference(new).collect());
    line("new only", new.difference(old).collect());
}

/// What would happen to a user.
async fn user(
    platform: &Platform,
    typed: &str,
    user: CanonicalUser,
    password_file: Option<&Path>,
) -> anyhow::Result<bool> {
    let job = one_user::job(platform, user, typed, password_file, PasswordFor::Verify).await?;
    println!("\n{}", job.user);
    match Outlook::of(platform, &job).await {
        Ok(outlook) => Ok(show(&outlook, &platform.config)),
        Err(
            stop @ (Stop::Refused(_)
            | Stop::Later(_)
            | Stop::Paused(_)
            | Stop::LoginRefused(_)
            | Stop::MasterRefused(_)
            | Stop::LockedOut(_)
            | Stop::Halted),
        ) => {
            println!("  can't be looked at: {stop}");
            Ok(false)
        }
        Err(Stop::Store(error)) => Err(error.into()),
    }
}

/// What the copy of what is not on the new side yet would take.
fn time(outlook: &Outlook) -> Option<String> {
    let Outlook { old, new, pace, .. } = outlook;
    let (messages, octets) = (old.messages.saturating_sub(new.messages), old.octets.saturating_sub(new.octets));
    // What is in several mailboxes is read once.
    let (messages, octets) = match &outlook.labels {
        Some(once) => (messages.min(once.messages), octets.min(once.octets)),
        None => (messages, octets),
    };
    let whole = pace.reckon(messages, octets)?;
    Some(format!(
        "about {} to read the rest ({messages} messages, {}) from the old side: {} messages, {} took {} ms",
        text::lasting(whole),
        text::octets(octets),
        pace.messages,
        text::octets(pace.octets),
        pace.took.as_millis()
    ))
}

/// What the old side's daily part means for the copy.
fn days(outlook: &Outlook) -> Option<String> {
    let (left, limit) = outlook.budget?;
    let octets = outlook.labels.as_ref().map_or(outlook.old.octets, |labels| labels.octets);
    let octets = octets.saturating_sub(outlook.new.octets);
    // What the commands and lists take comes on top.
    let more = octets.saturating_sub(left).div_ceil(limit.max(1));
    let when = if more == 0 {
        "the copy fits into today".to_owned()
    } else {
        format!("the copy goes on for {more} more days")
    };
    Some(format!("{} of {} are left of today (old.octets_per_day): {when}", text::octets(left), text::octets(limit)))
}

/// What labels cost.
fn spread(labels: &Labels, shown: u64, octets: u64) -> String {
    format!(
        "{} different messages, shown {shown} times: {} are read from the old side, {} take room (and quota) on the new side",
        labels.messages,
        text::octets(labels.octets),
        text::octets(octets)
    )
}

/// What is not seen of a Gmail.
const NO_ALL_MAIL: &str = "no mailbox of all mail (\\All) is shown over IMAP: what has no label (archived mail) can't be read, and is \
                           not moved; the user can let it be shown (Gmail's settings of labels)";

fn copies(Labelled { name, messages, elsewhere, octets }: &Labelled) -> String {
    format!("- {name}: {messages} messages, {elsewhere} of them in other mailboxes, too; {}", text::octets(*octets))
}

fn show(outlook: &Outlook, config: &Config) -> bool {
    let holds = |holds: &Holdings| {
        format!("{} mailboxes, {} messages, {}", holds.mailboxes, holds.messages, text::octets(holds.octets))
    };
    let row = |name: &str, value: &str| println!("  {name:<10} {value}");
    row("now", &standing(outlook));
    if let Some(mark) = &outlook.mark {
        row("mark", &text::mark(mark.kind.as_str(), mark.at, &format!("made with {}", mark.how)));
    }
    row("names", &names(&outlook.names));
    row("old side", &holds(&outlook.old));
    row("new side", &holds(&outlook.new));
    if let Some(shared) = &outlook.shared {
        let with = config.migration.shared_account.as_deref().filter(|_| outlook.carries.is_none());
        let with = with.map_or_else(String::new, |carrier| {
            format!(" with this user; those of the Shared namespace move with {}", carrier)
        });
        row("shared", &format!("{shared}; they are not moved{with}"));
    }
    if let Some([old, new]) = outlook.carries {
        row("carries", &format!("the shared mailboxes, for everybody: {old} on the old side, {new} on the new side"));
    }
    outlook.added.iter().for_each(|folder| row("folders", folder));
    if !outlook.shared_with.is_empty() {
        let with = text::shared_with(&outlook.shared_with);
        row("shares", &format!("with {with}; who is not on the same side loses sight of it, and rights are not moved"));
    }
    for finding in outlook.rights.iter().take(RIGHTS_MAX) {
        row("rights", &finding.to_string());
    }
    if outlook.rights.len() > RIGHTS_MAX {
        row("rights", &format!("and {} more", outlook.rights.len() - RIGHTS_MAX));
    }
    if let Some(labels) = &outlook.labels {
        row("labels", &spread(labels, outlook.old.messages, outlook.old.octets));
        labels.mailboxes.iter().for_each(|one| row("", &copies(one)));
        if !labels.all_mail {
            row("", NO_ALL_MAIL);
        }
        outlook.apart.iter().for_each(|why| row("", why));
    }
    if let Some(time) = time(outlook) {
        row("time", &time);
    }
    let [old, new] = &outlook.quota;
    row("quota", &format!("old side: {old}; new side: {new}"));
    if let Some(days) = days(outlook) {
        row("budget", &days);
    }
    row("POP3", &outlook.pop3);
    if let Some(sieve) = &outlook.sieve {
        row("Sieve", sieve);
    }
    let [old, new] = &outlook.capabilities;
    println!("  after login:");
    side_by_side(old, new);
    let moved = outlook.record.as_ref().is_some_and(|record| record.authority == Side::New);
    let then = match (&outlook.enrolled, outlook.blocks.is_empty(), config.switch.auto) {
        _ if moved => "nothing: the user is on the new side",
        (Some((false, _)), ..) => "nothing, until the user is enrolled",
        _ if outlook.mark.is_some() => "nothing: the user stays where they are",
        (_, false, _) => "the mail is copied as far as it can be, and the user stays where they are",
        (_, true, true) => "the mail is copied, compared, and the user switched at a good moment",
        (_, true, false) => "the mail is copied and followed; the user is switched by `mailferry switch`",
    };
    row("then", then);
    if outlook.blocks.is_empty() && !moved {
        row("blocks", "nothing that can be seen before the copy");
    }
    outlook.blocks.iter().for_each(|why| row("blocks", why));
    outlook.blocks.is_empty()
}

/// How names look on both sides.
fn names([old, new]: &[String; 2]) -> String {
    if old == new { format!("{old} on both sides") } else { format!("old side: {old}; new side: {new}") }
}

fn standing(outlook: &Outlook) -> String {
    match (&outlook.enrolled, &outlook.record) {
        (Some((true, word)), _) => format!("old; the next login starts the move ({word})"),
        (Some((false, word)), _) => format!("old; logging in starts nothing ({word})"),
        (None, Some(UserRecord { phase, reason: Some(reason), .. })) => format!("{phase}: {reason}"),
        (None, Some(UserRecord { phase, .. })) => phase.to_string(),
        (None, None) => Phase::Old.to_string(),
    }
}
