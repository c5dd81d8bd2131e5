//! `mailferry check`: is the configuration valid, can both sides be reached, what can each do.

use std::path::Path;

use super::{Exit, load};
use crate::migrate::Platform;
use crate::net::imap::ImapServer;
use crate::wire::imap::tracker;

/// Validates, reaches both sides, prints what each can do and what clients won't see.
///
/// # Errors
/// If the configuration or the store can't be used.
pub async fn check(config: &Path) -> anyhow::Result<Exit> {
    let config = load(config)?;
    println!("configuration  ok");
    let platform = super::platform(config)?;
    println!("store          ok: {}", platform.config.store.path.display());
    let mut good = true;
    let mut sides = Vec::new();
    for server in [&platform.old, &platform.new] {
        match capabilities(server).await {
            Ok(words) => {
                println!("{:<14} ok: {}", format!("{} imap", server.side()), server.name());
                sides.push((server.side(), words));
            }
            Err(error) => {
                println!("{:<14} FAILED: {error}", format!("{} imap", server.side()));
                good = false;
            }
        }
    }
    good &= target(&platform).await;
    for (side, words) in &sides {
        println!("{side} side announces before login: {}", words.join(" "));
        if !words.iter().any(|word| word == "ID") {
            println!(
                "{side} side lacks ID: it will take all clients for one address, and may slow them down after wrong passwords"
            );
        }
    }
    if let [(_, old), (_, new)] = sides.as_slice() {
        // What concerns the connection to the proxy alone is not the sides' to offer.
        let ours = |word: &str| ["STARTTLS", "LOGINDISABLED", "SASL-IR"].contains(&word) || word.starts_with("AUTH=");
        let lost: Vec<&str> =
            old.iter().filter(|word| !new.contains(word) && !ours(word)).map(String::as_str).collect();
        if !lost.is_empty() {
            println!("clients will miss after the switch: {}", lost.join(" "));
        }
        let hidden: Vec<&str> =
            old.iter().chain(new).filter(|word| tracker::is_hidden(word.as_bytes())).map(String::as_str).collect();
        println!(
            "hidden from clients: COMPRESS=DEFLATE and UNAUTHENTICATE{}",
            if hidden.is_empty() { " (neither is announced)" } else { "" }
        );
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}

async fn capabilities(server: &ImapServer) -> Result<Vec<String>, crate::net::imap::ImapError> {
    let connection = server.connect().await?;
    Ok(connection.capabilities().iter().map(str::to_owned).collect())
}

async fn target(platform: &Platform) -> bool {
    match platform.target.probe().await {
        Ok(()) => {
            println!("{:<14} ok: {}", "new doveadm", platform.target.address());
            true
        }
        Err(error) => {
            println!("{:<14} FAILED: {error}", "new doveadm");
            false
        }
    }
}
