//! A private GNU Mailutils, imap4d and pop3d on mbox files: the Debian packages, see [`brands`].

use super::brands::{self, Served, greets, hashed};
use super::ports::{self, Port};
use super::process::{Process, wait_for};
use super::server::keep_if_asked;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

const START_PATIENCE: Duration = Duration::from_secs(30);
/// Debian's user and group `mail`.
const MAIL: u32 = 8;

/// A running private Mailutils; `Drop` ends it and removes its folder. Its users are `NAME@example.com`.
#[derive(Debug)]
pub struct Mailutils {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    ports: [Port; 2],
    process: Option<Process>,
}

impl Mailutils {
    pub fn is_here() -> bool {
        brands::is_here("mailutils")
    }

    /// Starts a server for users (without their domain) and waits until it greets on both ports.
    pub fn start(users: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("mfmailutils").tempdir().unwrap();
        let dir = folder.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.join("domains")).unwrap();
        let mut lines = String::new();
        for user in users {
            let home = dir.join("home").join(user);
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("INBOX"), "").unwrap();
            for path in [home.join("INBOX"), home.clone()] {
                chown(path, Some(MAIL), Some(MAIL)).unwrap();
            }
            let hash = hashed(&format!("pw-of-{user}"));
            lines += &format!("{user}:{hash}:{MAIL}:{MAIL}::{}:/bin/false\n", home.display());
        }
        fs::write(dir.join("domains/example.com"), lines).unwrap();
        let mut server = Self { folder: Some(folder), dir, ports: [ports::claim(), ports::claim()], process: None };
        server.launch();
        server
    }

    /// The mbox of a user's INBOX.
    pub fn inbox(&self, user: &str) -> PathBuf {
        self.dir.join("home").join(user).join("INBOX")
    }

    /// Delivers a message as a delivery program does: at the end of the mbox.
    pub fn deliver(&self, user: &str, raw: &str) {
        let mut mbox = fs::read_to_string(self.inbox(user)).unwrap();
        mbox += &format!("From sender@example.org Wed Jul 17 02:44:25 1996\n{raw}\n");
        fs::write(self.inbox(user), mbox).unwrap();
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("output.log")).unwrap_or_default()).into_owned()
    }

    fn launch(&mut self) {
        let root = brands::unpacked("mailutils").expect("a Mailutils: see Mailutils::is_here");
        let dir = self.dir.display();
        for (program, port) in ["imap4d", "pop3d"].iter().zip(&self.ports) {
            let config = format!(
                "mode daemon;\nforeground yes;\npidfile \"{dir}/{program}.pid\";\nlogging {{ syslog no; }};\n\
                 tcp-wrappers {{ enable no; }};\nvirtdomain {{ passwd-dir \"{dir}/domains\"; }};\n\
                 auth {{ authorization virtdomain; authentication clear; authentication generic; }};\n\
                 mailbox {{ mailbox-type mbox; }};\nserver 127.0.0.1:{} {{ }};\n",
                port.number
            );
            fs::write(self.dir.join(format!("{program}.conf")), config).unwrap();
        }
        let script =
            format!("imap4d --config-file={dir}/imap4d.conf &\npop3d --config-file={dir}/pop3d.conf &\nwait\n");
        let mut command = brands::command(&self.dir, &[(&root.join("usr"), "/usr")], &script);
        let mut process = Process::spawn(&mut command, &self.dir.join("output.log")).unwrap();
        let ports = self.ports.each_ref().map(|port| port.number);
        let up = wait_for("Mailutils to start", START_PATIENCE, || {
            if process.has_ended() {
                return Some(false);
            }
            ports.into_iter().all(greets).then_some(true)
        });
        assert!(up, "Mailutils does not start:\n{}", self.log());
        self.process = Some(process);
    }
}

impl Served for Mailutils {
    fn imap_port(&self) -> u16 {
        self.ports[0].number
    }

    fn pop3_port(&self) -> u16 {
        self.ports[1].number
    }

    fn password(&self, user: &str) -> String {
        format!("pw-of-{}", user.split('@').next().unwrap_or_default())
    }

    fn ca(&self) -> Option<&Path> {
        None
    }
}

impl Drop for Mailutils {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
        if std::thread::panicking() {
            eprintln!("--- the log of Mailutils in {}:\n{}", self.dir.display(), self.log());
        }
        keep_if_asked(&mut self.folder);
    }
}
