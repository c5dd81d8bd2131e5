//! One process serves from a store (DESIGN §1: one node). Two of them would not know of each other's sessions: one could
//! switch a user whom the other goes on serving from the old side (I1).

use std::fs::{File, OpenOptions, TryLockError, canonicalize};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The right to serve from a store. It is ours until the process ends, however it ends: what still runs when the server
/// has said goodbye may be a switch.
///
/// # Errors
/// [`StoreError::Served`] while another process has it.
pub fn serve_alone(store: &Path) -> Result<(), StoreError> {
    let path = lock_of(store);
    let fail = |error: &dyn std::fmt::Display| StoreError::Open {
        path: path.display().to_string(),
        message: format!("{error}: check that the folder exists and is writable"),
    };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let mut file = options.open(&path).map_err(|error| fail(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Served { path: store.display().to_string(), by: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(fail(&error)),
    }
    // Only for people: on a full disk it is missing.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    // The descriptor is closed by the end of the process, and the lock goes with it.
    std::mem::forget(file);
    Ok(())
}

/// Beside the store, under its real name: not the store itself, where SQLite has its own locks.
fn lock_of(store: &Path) -> PathBuf {
    let real = canonicalize(store).ok().or_else(|| {
        let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Some(canonicalize(folder).ok()?.join(store.file_name()?))
    });
    let mut path = real.unwrap_or_else(|| store.to_owned()).into_os_string();
    path.push(".lock");
    path.into()
}

/// `process N`, as far as it is known.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    let id = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    id.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}
