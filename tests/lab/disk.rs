//! A disk under a store that fills up and loses power: `disk.c`, put before the proxy.

use super::ferry::Ferry;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, built for this test.
#[derive(Debug)]
pub struct Disk {
    folder: tempfile::TempDir,
}

/// What a proxy that has died left on its disk.
const FILES: [&str; 3] = ["state.db", "state.db-wal", "state.db-journal"];

impl Disk {
    pub fn build() -> Self {
        let folder = tempfile::Builder::new().prefix("mfdisk").tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/disk.c");
        let library = folder.path().join("disk.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(built.expect("cc (Debian package gcc)").success());
        Self { folder }
    }

    /// Puts it under the store of a proxy that is not running yet.
    pub fn put_under(&self, ferry: &mut Ferry) {
        ferry.set_env("LD_PRELOAD", &self.folder.path().join("disk.so").display().to_string());
        ferry.set_env("LAB_DISK_FILE", &ferry.store_path().display().to_string());
        ferry.set_env("LAB_DISK_FULL", &self.flag().display().to_string());
    }

    /// No space from now on.
    pub fn fill(&self) {
        std::fs::write(self.flag(), "").unwrap();
    }

    /// Space again.
    pub fn free(&self) {
        std::fs::remove_file(self.flag()).unwrap();
    }

    /// The proxy dies, and with it everything that it wrote and did not sync.
    pub fn cut_power(&self, ferry: &mut Ferry) {
        ferry.kill9();
        let dir = ferry.dir().to_owned();
        let _ = std::fs::remove_file(dir.join("state.db-shm"));
        for name in FILES {
            let (file, synced) = (dir.join(name), dir.join(format!("{name}.synced")));
            let _ = std::fs::remove_file(&file);
            if synced.exists() {
                std::fs::copy(synced, file).unwrap();
            }
        }
    }

    fn flag(&self) -> PathBuf {
        self.folder.path().join("full")
    }
}
