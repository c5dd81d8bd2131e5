//! Commands that ask the running server: `status`, `history`, and operators' orders.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use super::{Exit, Server, UsageError};
use crate::admin::{AdminClient, Outcome, Verb, text};
use crate::store::{Scope, Share};

/// Between two looks of `status --watch`.
const LOOK: Duration = Duration::from_secs(1);

impl Server {
    fn client(&self) -> anyhow::Result<AdminClient> {
        match (&self.admin, &self.token_file, &self.config) {
            (Some(url), Some(token), _) => Ok(AdminClient::from_url(url, token)?),
            (None, None, Some(config)) => Ok(AdminClient::from_config(&crate::config::load(config)?.admin)?),
            _ => Err(UsageError("give --config F, or --admin URL and --token-file T".to_owned()).into()),
        }
    }
}

/// `mailferry status [USER]`; with `watch` again and again, until it is interrupted.
///
/// # Errors
/// If the server can't be asked.
pub async fn status(server: &Server, user: Option<&str>, json: bool, watch: bool) -> anyhow::Result<Exit> {
    let client = server.client()?;
    let mut shown = String::new();
    loop {
        let text = described(&client, user, json, watch).await?;
        if text != shown {
            // A terminal shows the newest state alone, a file gets one after the other.
            let clear = if watch && std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{clear}{}", text.trim_end())?;
            out.flush()?;
            shown = text;
        }
        if !watch {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

async fn described(client: &AdminClient, user: Option<&str>, json: bool, line: bool) -> anyhow::Result<String> {
    let colours = text::colours_wanted();
    Ok(match user {
        Some(user) => {
            let status = client.status(user).await?;
            if json { as_json(&status, line)? } else { text::user_status(&status, colours) }
        }
        None => {
            let all = client.status_all().await?;
            if json { as_json(&all, line)? } else { text::status_all(&all, colours) }
        }
    })
}

/// JSON for people, or in one line, for programs that read one after the other.
fn as_json(value: &impl serde::Serialize, line: bool) -> serde_json::Result<String> {
    if line { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) }
}

/// `mailferry history USER`
///
/// # Errors
/// If the server can't be asked, or doesn't know the user.
pub async fn history(server: &Server, user: &str, json: bool) -> anyhow::Result<Exit> {
    let transitions = server.client()?.history(user).await?;
    let printed = if json { as_json(&transitions, false)? } else { text::history(&transitions) };
    println!("{}", printed.trim_end());
    Ok(Exit::Done)
}

/// Whom an order is for.
#[derive(Clone, Debug, Default)]
pub struct Whom {
    /// These users.
    pub users: Vec<String>,
    /// And those in this file, one a line.
    pub list: Option<PathBuf>,
    /// All users of a domain.
    pub domain: Option<String>,
    /// A part of all users.
    pub percent: Option<Share>,
    /// Everybody.
    pub all: bool,
}

impl Whom {
    fn scope(&self) -> Option<Scope> {
        match (&self.domain, self.percent, self.all) {
            (Some(domain), _, _) => Some(Scope::Domain(domain.to_lowercase())),
            (None, Some(percent), _) => Some(Scope::Share(percent)),
            (None, None, true) => Some(Scope::All),
            (None, None, false) => None,
        }
    }

    /// Those who are named.
    fn named(&self) -> Result<Vec<String>, UsageError> {
        let mut users = self.users.clone();
        if let Some(list) = &self.list {
            let lines = std::fs::read_to_string(list);
            let lines = lines.map_err(|error| UsageError(format!("list {}: {error}", list.display())))?;
            let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            users.extend(lines.map(str::to_owned));
        }
        if users.is_empty() { Err(UsageError("no user given".to_owned())) } else { Ok(users) }
    }
}

/// `mailferry enroll | hold | resume | switch | rollback | settle`
///
/// # Errors
/// If the server can't be asked.
pub async fn order(
    server: &Server,
    verb: Verb,
    whom: &Whom,
    (accept_loss, wait): (bool, bool),
) -> anyhow::Result<Exit> {
    let client = server.client()?;
    let by = operator();
    let mut worst = Exit::Done;
    let mut say = |user: &str, outcome: &Outcome| {
        print!("{}", text::outcome(verb, user, outcome));
        worst = match (outcome.exit_code(), worst) {
            (0, worst) => worst,
            (75, Exit::Done) => Exit::TryAgain,
            (75, worst) => worst,
            _ => Exit::Different,
        };
    };
    let Some(scope) = whom.scope() else {
        for user in whom.named()? {
            say(&user, &client.order(verb, &user, &by, (accept_loss, wait)).await?);
        }
        return Ok(worst);
    };
    // First what is said of those who have not begun: nobody begins between the two.
    match client.rule(verb, &scope, &by).await? {
        Outcome::Done { what } if what.is_empty() => {}
        Outcome::Done { what } => println!("{what}"),
        other => say("", &other),
    }
    let mut after = None;
    loop {
        let page = client.users(&scope, after.as_deref()).await?;
        for (user, _) in page.users.iter().filter(|(_, phase)| verb.concerns(*phase)) {
            say(user, &client.order(verb, user, &by, (accept_loss, wait)).await?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(worst);
        }
    }
}

/// Who gives the order, for the record: as they logged in to this machine.
fn operator() -> String {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    name("SUDO_USER").or_else(|| name("USER")).or_else(|| name("LOGNAME")).unwrap_or_default()
}
