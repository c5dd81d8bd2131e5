//! Servers of other brands: where their programs lie, and what the lab needs of a server whatever its brand.
//!
//! Debian's packages of them conflict with Dovecot's, so they are not installed: `tests/run.sh` unpacks them into a folder
//! of their own in the user's cache. Each runs as root in namespaces of its own, where that folder lies over `/usr`, and
//! ends with them: nothing of the machine's own services is touched.

use super::server::{Dovecot, is_root};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server with users, whatever its brand.
pub trait Served: Debug {
    /// Port of IMAP in clear text.
    fn imap_port(&self) -> u16;
    /// Port of POP3 in clear text.
    fn pop3_port(&self) -> u16;
    fn password(&self, user: &str) -> String;
    /// The certificate authority of its certificate, if it has one.
    fn ca(&self) -> Option<&Path>;
}

impl Served for Dovecot {
    fn imap_port(&self) -> u16 {
        Self::imap_port(self)
    }

    fn pop3_port(&self) -> u16 {
        Self::pop3_port(self)
    }

    fn password(&self, user: &str) -> String {
        Self::password(self, user).to_owned()
    }

    fn ca(&self) -> Option<&Path> {
        Some(&self.tls().ca)
    }
}

/// The folder with the unpacked packages of a brand, if there is one: below `$MAILFERRY_BRANDS`, or in the user's cache.
pub fn unpacked(brand: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let root = variable("MAILFERRY_BRANDS").or_else(|| Some(cache()?.join("mailferry/brands")))?.join(brand);
    (is_root() && root.join("usr").exists()).then_some(root)
}

/// Whether a brand is there; says so for all to hear if it isn't.
pub fn is_here(brand: &str) -> bool {
    let here = unpacked(brand).is_some();
    if !here {
        eprintln!(
            "\n#### NOT RUN: this test needs {brand}, and there is none here. Its packages lie unpacked in\n\
             #### $MAILFERRY_BRANDS/{brand} or ~/.cache/mailferry/brands/{brand}, it is started as root, and\n\
             #### tests/run.sh gets them.\n"
        );
    }
    here
}

/// A shell script in namespaces of its own: for mounts, which it begins with those given (lower folders, on what), and for
/// processes, which all end with it.
pub fn command(dir: &Path, mounts: &[(&Path, &str)], script: &str) -> Command {
    let mut text = "set -e\n".to_owned();
    for (over, on) in mounts {
        text += &format!("mount -t overlay overlay -o 'lowerdir={}:{on}' {on}\n", over.display());
    }
    text += "mount -t tmpfs tmpfs /run\n";
    let path = dir.join("start.sh");
    fs::write(&path, text + script).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh"]).arg(path).current_dir(dir);
    command
}
