//! A new side that runs out of room: `room.c`, put before a Dovecot's doveadm service.

use super::server::Spec;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, built for this test, and how much room there is.
#[derive(Debug)]
pub struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    pub fn build() -> Self {
        let folder = tempfile::Builder::new().prefix("mfroom").tempdir().unwrap();
        // (The service writes as the user whose mail it is.)
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let room = Self { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/room.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&room.library(), &source])
            .arg("-ldl")
            .status();
        assert!(built.expect("cc (Debian package gcc)").success());
        room
    }

    /// A Dovecot 2.3 that writes copies into it.
    pub fn under(&self, spec: Spec) -> Spec {
        let (library, left) = (self.library(), self.left());
        let extra = format!(
            "{}import_environment = TZ LD_PRELOAD={} LAB_ROOM={}\n",
            spec.extra,
            library.display(),
            left.display()
        );
        Spec { extra, ..spec }
    }

    /// From now on there is room for so many octets more.
    pub fn leave(&self, octets: u64) {
        fs::write(self.left(), octets.to_string()).unwrap();
        fs::set_permissions(self.left(), fs::Permissions::from_mode(0o666)).unwrap();
    }

    /// All the room there can be.
    pub fn make(&self) {
        fs::remove_file(self.left()).unwrap();
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("room.so")
    }

    fn left(&self) -> PathBuf {
        self.folder.path().join("left")
    }
}
