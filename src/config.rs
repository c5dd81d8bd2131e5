//! The configuration: TOML → validated [`Config`]. Errors name file, line and key.
//!
//! Owns the reading of the file and of the secrets it points at. A [`Config`] can only hold settings that make sense
//! together; a key that isn't known, or whose feature doesn't exist yet, is an error and never ignored.

mod build;
mod credentials;
mod diagnose;
mod doors;
mod endpoint;
mod login_name;
mod model;
mod network;
mod raw;
mod realm;
mod scalar;
mod token_command;
mod trust;

use std::path::Path;

pub use credentials::{Credentials, Form, Master, MasterUser};
pub use diagnose::{ConfigError, Problem};
pub use login_name::SideNames;
pub use model::{
    Admin, Bodies, BodiesError, Config, DayBudget, Doveadm, Endpoint, Enroll, Limits, Listen, Migration, NewSide,
    OldSide, Passthrough, Pin, PinError, Realm, Security, Sni, Source, StoreConfig, Switch, Tls, TlsFiles, TlsVersion,
    Trust, Unmatched, Unreadable, Users, Verify,
};
pub use network::{Network, NetworkError};
pub use token_command::TokenCommand;

/// A configuration file longer than this is something else given by mistake (ours have some 60 lines).
const MAX_FILE: u64 = 1 << 20;

/// Reads and validates the file at `path`, and reads the password files it names.
///
/// Relative paths in the file are taken from the folder of the file.
///
/// # Errors
/// [`ConfigError`] with every problem found, each with its line and key where it has one.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        raw::read_text(path, MAX_FILE).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Validates `text` as the content of the file at `path`.
fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let report = diagnose::Report::new(path, text);
    let table = raw::table(&report);
    let config = table.as_ref().and_then(|table| build::config(&raw::Section::root(&report, table)));
    report.finish(config)
}
