//! What each command does; `main` only reads the command line and turns an [`Exit`] into an exit code.

mod check;
mod one_user;
mod remote;
mod serve;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::SecretSlice;
use zeroize::Zeroizing;

pub use check::check;
pub use one_user::{sync, verify};
pub use remote::{status, switch};
pub use serve::serve;

use crate::config::{self, Config};
use crate::migrate::Platform;
use crate::store::Store;

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

fn platform(config: Arc<Config>) -> anyhow::Result<Platform> {
    let store = Store::open(&config.store.path)?;
    Ok(Platform::new(config, store)?)
}

fn load(path: &Path) -> Result<Arc<Config>, config::ConfigError> {
    config::load(path).map(Arc::new)
}

/// The user's password: the file's content without its last line end.
fn password(file: &Path) -> anyhow::Result<Arc<SecretSlice<u8>>> {
    /// No password is longer, and a wrong file is not read whole.
    const LONGEST: u64 = 4096;
    let size = std::fs::metadata(file).with_context(|| format!("password file {}", file.display()))?.len();
    anyhow::ensure!(size <= LONGEST, "password file {}: {size} octets are no password", file.display());
    let read = Zeroizing::new(std::fs::read(file).with_context(|| format!("password file {}", file.display()))?);
    let line = read.strip_suffix(b"\n").unwrap_or(&read);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    anyhow::ensure!(!line.is_empty(), "password file {}: is empty", file.display());
    Ok(Arc::new(line.to_vec().into()))
}
