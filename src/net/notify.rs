//! Tells the service manager how we are (systemd's `Type=notify` and `Type=notify-reload`, sd_notify(3)).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if it wants to hear of us (`NOTIFY_SOCKET`).
#[derive(Debug, Default)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// What the environment says. Whoever can't be told is not told: we serve all the same.
    #[must_use]
    pub fn from_environment() -> Self {
        let Ok(path) = env::var("NOTIFY_SOCKET") else { return Self::default() };
        match open(&path) {
            Ok(manager) => Self(Some(manager)),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET={path}: the service manager can't be told how we are: {error}");
                Self::default()
            }
        }
    }

    /// We serve: at the start, and after a reload. `status` is shown by `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// We reload what can be changed without a restart; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=Reloading"));
    }

    /// We end, which takes `at_most`.
    pub fn stopping(&self, status: &str, at_most: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={status}", at_most.as_micros()));
    }

    fn tell(&self, what: &str) {
        if let Some((socket, manager)) = &self.0
            && let Err(error) = socket.send_to_addr(what.as_bytes(), manager)
        {
            tracing::warn!("the service manager can't be told how we are: {error}");
        }
    }
}

fn open(path: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that doesn't read must not stop us.
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    use super::{Notify, open};

    fn said(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer.get(..count).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("mailferry-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (manager, address) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
            let notify = Notify(Some(open(&address).unwrap()));
            notify.ready("Serving");
            assert_eq!(said(&manager), "READY=1\nSTATUS=Serving");
            notify.reloading();
            let reloading = said(&manager);
            let since: u64 =
                reloading.split('\n').nth(1).unwrap().strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!(reloading.starts_with("RELOADING=1\n") && since > 0, "{reloading}");
            notify.stopping("Ending", Duration::from_secs(2));
            assert_eq!(said(&manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=Ending");
        }
    }

    #[test]
    fn a_manager_that_has_gone_or_does_not_read_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify(Some(open(path.to_str().unwrap()).unwrap()));
        for _ in 0..10_000 {
            notify.ready("Serving");
        }
        drop(manager);
        notify.ready("Serving");
        Notify::default().ready("Serving");
    }
}
