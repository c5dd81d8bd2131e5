//! Commands that ask the running server: `status`, `switch`.

use std::path::Path;

use super::{Exit, Server, UsageError};
use crate::admin::{AdminClient, text};

impl Server {
    fn client(&self) -> anyhow::Result<AdminClient> {
        match (&self.admin, &self.token_file, &self.config) {
            (Some(url), Some(token), _) => Ok(AdminClient::from_url(url, token)?),
            (None, None, Some(config)) => Ok(AdminClient::from_config(&crate::config::load(config)?.admin)?),
            _ => Err(UsageError("give --config F, or --admin URL and --token-file T".to_owned()).into()),
        }
    }
}

/// `mailferry status [USER]`
///
/// # Errors
/// If the server can't be asked.
pub async fn status(server: &Server, user: Option<&str>, json: bool) -> anyhow::Result<Exit> {
    let client = server.client()?;
    let colours = text::colours_wanted();
    let printed = match user {
        Some(user) => {
            let status = client.status(user).await?;
            if json { serde_json::to_string_pretty(&status)? } else { text::user_status(&status, colours) }
        }
        None => {
            let all = client.status_all().await?;
            if json { serde_json::to_string_pretty(&all)? } else { text::status_all(&all, colours) }
        }
    };
    println!("{}", printed.trim_end());
    Ok(Exit::Done)
}

/// `mailferry switch USER... | --list FILE`
///
/// # Errors
/// If the server can't be asked.
pub async fn switch(server: &Server, users: &[String], list: Option<&Path>, wait: bool) -> anyhow::Result<Exit> {
    let client = server.client()?;
    let mut users = users.to_vec();
    if let Some(list) = list {
        let lines = std::fs::read_to_string(list);
        let lines = lines.map_err(|error| UsageError(format!("list {}: {error}", list.display())))?;
        users.extend(lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if users.is_empty() {
        return Err(UsageError("no user given".to_owned()).into());
    }
    let mut worst = Exit::Done;
    for user in &users {
        let outcome = client.switch(user, wait).await?;
        println!("{}", text::switch_outcome(user, &outcome).trim_end());
        worst = match (outcome.exit_code(), worst) {
            (0, worst) => worst,
            (75, Exit::Done) => Exit::TryAgain,
            (75, worst) => worst,
            _ => Exit::Different,
        };
    }
    Ok(worst)
}
