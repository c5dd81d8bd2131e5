//! Places where tests stop or kill this process: the only way to be inside the gate at a chosen step.
//!
//! `MAILFERRY_FAULTS="PLACE=ACTION,…"` names them. `kill` ends the process as `kill -9` does; `hold:FILE` makes FILE and
//! goes on when somebody has taken it away. `PLACE#N` is the N-th time (from 1) that a place is passed; without it, every
//! time. All of this is in debug builds only: in a release build [`point`] is nothing.

/// Passes a place.
#[cfg(not(debug_assertions))]
#[allow(clippy::unused_async)]
pub async fn point(_place: &str) {}

/// Passes a place.
#[cfg(debug_assertions)]
pub async fn point(place: &str) {
    for action in debug::actions(place) {
        debug::act(place, action).await;
    }
}

#[cfg(debug_assertions)]
mod debug {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    static FAULTS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let text = std::env::var("MAILFERRY_FAULTS").unwrap_or_default();
        let each = text.split(',').filter_map(|fault| fault.split_once('='));
        each.map(|(place, action)| (place.to_owned(), action.to_owned())).collect()
    });

    static PASSED: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

    pub(super) fn actions(place: &str) -> impl Iterator<Item = &'static str> {
        let times = if FAULTS.is_empty() { 0 } else { pass(place) };
        let numbered = format!("{place}#{times}");
        let place = place.to_owned();
        FAULTS.iter().filter(move |(known, _)| *known == place || *known == numbered).map(|(_, action)| action.as_str())
    }

    fn pass(place: &str) -> u32 {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.entry(place.to_owned()).or_default();
        *times += 1;
        *times
    }

    pub(super) async fn act(place: &str, action: &str) {
        tracing::warn!(place, action, "a fault that was asked for");
        if let Some(file) = action.strip_prefix("hold:") {
            if let Err(error) = std::fs::write(file, place) {
                tracing::error!(file, "can't be made: {error}");
            }
            while std::path::Path::new(file).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else if action == "kill" {
            let pid = std::process::id().to_string();
            let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
            // The signal is on its way: not one instruction more of the real work.
            std::future::pending::<()>().await;
        }
    }
}
