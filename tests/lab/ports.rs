//! Ports that no other test, in this process or another, will get as long as we hold them.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below 32768, where Linux starts handing out ports for outgoing connections, and above what services usually take.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// One TCP port on 127.0.0.1; the lock file is held until this is dropped.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: Option<File>,
}

/// Claims a free port.
pub fn claim() -> Port {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = lock_folder();
    // Spread the processes so that they do not fight over the same numbers.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = u16::try_from(FIRST + start.wrapping_add(step) % COUNT).unwrap();
        let path = folder.join(number.to_string());
        // A file of another user can not be opened: that port is simply not ours.
        let Ok(lock) = OpenOptions::new().create(true).truncate(false).write(true).open(&path) else { continue };
        if lock.try_lock().is_err() || TcpListener::bind(("127.0.0.1", number)).is_err() {
            continue;
        }
        return Port { number, _lock: Some(lock) };
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

fn lock_folder() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join("mailferry-lab-ports");
    fs::create_dir_all(&folder).unwrap();
    // Like /tmp itself; fails harmlessly if another user made it.
    let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777));
    folder
}
