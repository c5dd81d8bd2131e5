//! What each command does; `main` only reads the command line and turns an [`Exit`] into an exit code.

mod check;
mod one_user;
mod remote;
mod serve;
mod sync;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretSlice;
use zeroize::Zeroizing;

pub use check::{Also, check, new_config};
pub use one_user::verify;
pub use remote::{Whom, history, order, status};
pub use serve::serve;
pub use sync::{How, sync};

use crate::admin::{ClientError, TokenError};
use crate::config::{self, Config};
use crate::migrate::{PasswordFor, Platform, side_without_password};
use crate::net::InheritError;
use crate::store::{Store, StoreError};
use crate::user::Realms;

/// How a command ended (DESIGN §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: different, or refused.
    Different,
    /// 2: usage or configuration.
    Usage,
    /// 75: try again.
    TryAgain,
}

impl Exit {
    /// How a command ended that failed with `error`.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<ClientError>() {
            Some(ClientError::Token(_) | ClientError::Url { .. }) => return Self::Usage,
            Some(ClientError::NotRunning { .. } | ClientError::Broken { .. } | ClientError::Timeout { .. }) => {
                return Self::TryAgain;
            }
            _ => {}
        }
        if let Some(StoreError::Served { .. }) = error.downcast_ref() {
            return Self::TryAgain;
        }
        let usage = error.is::<config::ConfigError>()
            || matches!(error.downcast_ref(), Some(InheritError::Unwanted { .. } | InheritError::Environment { .. }))
            || error.is::<UsageError>()
            || error.is::<TokenError>();
        if usage { Self::Usage } else { Self::Different }
    }

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Different => 1,
            Self::Usage => 2,
            Self::TryAgain => 75,
        }
    }
}

/// Something in the files or arguments that the operator must change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Which running server to ask: its address and token come from the configuration, or are given.
#[derive(Clone, Debug)]
pub struct Server {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
}

fn platforms(config: &Arc<Config>) -> anyhow::Result<Realms<Platform>> {
    Ok(Platform::all(config, &Store::open(&config.store.path)?, None)?)
}

fn load(path: &Path) -> Result<Arc<Config>, config::ConfigError> {
    config::load(path).map(Arc::new)
}

/// The user's password, if it is given; it must be, where a side is asked with it.
fn own_password(
    config: &Config,
    work: PasswordFor,
    user: &str,
    file: Option<&Path>,
) -> anyhow::Result<Option<Arc<SecretSlice<u8>>>> {
    match (file, side_without_password(config, work)) {
        (Some(file), _) => password(file).map(Some),
        (None, None) => Ok(None),
        (None, Some(side)) => Err(UsageError(format!(
            "the {side} side is asked with the password of {user}: give it with --password-file, or let a master user, a \
             master password or tokens open every account ({side}.credentials)"
        ))
        .into()),
    }
}

/// The user's password: the file's content without its last line end.
fn password(file: &Path) -> anyhow::Result<Arc<SecretSlice<u8>>> {
    /// No password is longer, and a wrong file is not read whole.
    const LONGEST: u64 = 4096;
    let unfit = |why: &dyn std::fmt::Display| UsageError(format!("password file {}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| unfit(&error))?.len();
    if size > LONGEST {
        return Err(unfit(&format!("{size} octets are no password")).into());
    }
    let read = Zeroizing::new(std::fs::read(file).map_err(|error| unfit(&error))?);
    let line = read.strip_suffix(b"\n").unwrap_or(&read);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(unfit(&"is empty").into());
    }
    Ok(Arc::new(line.to_vec().into()))
}
