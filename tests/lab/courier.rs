//! A private Courier, IMAP and POP3: the Debian packages, see [`brands`].

use super::brands::{self, Served};
use super::ports::{self, Port};
use super::process::{Process, wait_for};
use super::server::keep_if_asked;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const START_PATIENCE: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug, Clone)]
pub struct CourierSpec<'a> {
    pub users: &'a [&'a str],
    /// `MAXPERIP`: connections from one address; Debian's are 20 and 4.
    pub imap_per_address: u32,
    pub pop3_per_address: u32,
}

impl<'a> CourierSpec<'a> {
    /// As Debian configures it.
    pub fn debian(users: &'a [&'a str]) -> Self {
        Self { users, imap_per_address: 20, pop3_per_address: 4 }
    }
}

/// A running private Courier; `Drop` ends it and removes its folder.
#[derive(Debug)]
pub struct Courier {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    ports: [Port; 2],
    limits: [u32; 2],
    process: Option<Process>,
}

impl Courier {
    pub fn is_here() -> bool {
        brands::is_here("courier")
    }

    /// As Debian configures it.
    pub fn start(users: &[&str]) -> Self {
        Self::start_with(&CourierSpec::debian(users))
    }

    /// Starts a server and waits until it greets on both ports; panics with its log if it does not.
    pub fn start_with(spec: &CourierSpec<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("mfcourier").tempdir().unwrap();
        let dir = folder.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        for sub in ["etc/courier", "mail", "home"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let mut server = Self {
            folder: Some(folder),
            dir,
            ports: [ports::claim(), ports::claim()],
            limits: [spec.imap_per_address, spec.pop3_per_address],
            process: None,
        };
        server.write_users(spec.users);
        server.start_again();
        server
    }

    /// The user that its mail belongs to. It has a name, and another than any other server's: gamin, which tells of new
    /// mail, is one process per name.
    pub fn owner(&self) -> u32 {
        self.ports[0].number.into()
    }

    /// The root of a user's Maildir.
    pub fn mail_dir(&self, user: &str) -> PathBuf {
        self.dir.join("mail").join(user)
    }

    /// A folder (`.Sent`) that no client has ever seen, as a delivery program makes it.
    pub fn make_folder(&self, user: &str, folder: &str) {
        let root = self.mail_dir(user).join(folder);
        make_maildir(&root);
        fs::write(root.join("maildirfolder"), "").unwrap();
        self.own(&root);
    }

    /// Makes a user's mail that of a Maildir which another server has written; what is that server's own is left behind.
    pub fn take_over(&self, user: &str, maildir: &Path) {
        let root = self.mail_dir(user);
        fs::remove_dir_all(&root).unwrap();
        let copied =
            Command::new("cp").arg("-r").arg("--preserve=timestamps").arg(maildir).arg(&root).status().unwrap();
        assert!(copied.success(), "cp {}", maildir.display());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with("dovecot") || name == "subscriptions" {
                    fs::remove_file(path).unwrap();
                } else if name.starts_with('.') {
                    fs::write(path.join("maildirfolder"), "").unwrap();
                    folders.push(path);
                }
            }
        }
        self.own(&root);
    }

    /// Puts a message as a file into a folder (`.Sent`, or empty for INBOX), as a delivery program does, under a name
    /// that begins with `second`.
    pub fn put(&self, user: &str, folder: &str, second: u32, rest: &str, raw: &[u8]) {
        let root = self.mail_dir(user).join(folder);
        let temporary = root.join("tmp").join(rest);
        fs::write(&temporary, raw).unwrap();
        self.own(&temporary);
        fs::rename(temporary, root.join("new").join(format!("{second}.{rest}"))).unwrap();
    }

    /// The message files of a folder.
    pub fn files(&self, user: &str, folder: &str) -> Vec<PathBuf> {
        let root = self.mail_dir(user).join(folder);
        let list = |sub: &str| fs::read_dir(root.join(sub)).unwrap().map(|entry| entry.unwrap().path());
        list("cur").chain(list("new")).collect()
    }

    /// Makes a file or folder belong to the mail's owner.
    pub fn own(&self, path: &Path) {
        chown(path, Some(self.owner()), Some(MAIL_GROUP)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.own(&entry.unwrap().path());
            }
        }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("output.log")).unwrap_or_default()).into_owned()
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Starts (again) with the same ports and mail.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "already running");
        let root = brands::unpacked("courier").expect("a Courier: see Courier::is_here");
        let (usr, etc) = (root.join("usr"), self.dir.join("etc"));
        let mut command = brands::command(&self.dir, &[(&usr, "/usr"), (&etc, "/etc")], &self.script());
        let mut process = Process::spawn(&mut command, &self.dir.join("output.log")).unwrap();
        let ports = self.ports.each_ref().map(|port| port.number);
        let up = wait_for("Courier to start", START_PATIENCE, || {
            if process.has_ended() {
                return Some(false);
            }
            ports.into_iter().all(greets).then_some(true)
        });
        assert!(up, "Courier does not start:\n{}", self.log());
        self.process = Some(process);
    }

    fn script(&self) -> String {
        let dir = self.dir.display();
        let [imap, pop3] = self.ports.each_ref().map(|port| port.number);
        let [imap_limit, pop3_limit] = self.limits;
        let owner = self.owner();
        let tcpd = |limit: u32, port: u16, login: &str, program: &str| {
            format!(
                "couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip={limit} -nodnslookup -noidentlookup {port} \
                 /usr/lib/courier/courier/{login} {program} Maildir &\n"
            )
        };
        format!(
            "mkdir -p /run/courier/authdaemon\n\
             export AUTHMODULES=authdaemon IMAP_KEYWORDS=1 IMAP_ACL=1 IMAP_USELOCKS=1 IMAP_UMASK=022 IMAP_IDLE_TIMEOUT=60\n\
             export IMAP_CAPABILITY='IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE'\n\
             export IMAP_CHECK_ALL_FOLDERS=0 IMAP_OBSOLETE_CLIENT=0 MIME_UNICODE_MESSAGE_TYPE=message/global\n\
             makeuserdb -f {dir}/etc/courier/userdb\n\
             chown -R {owner}:{MAIL_GROUP} {dir}/mail {dir}/home\n\
             /usr/lib/courier/courier-authlib/authdaemond &\n{}{}wait\n",
            tcpd(imap_limit, imap, "imaplogin", "/usr/bin/imapd"),
            tcpd(pop3_limit, pop3, "courierpop3login", "/usr/lib/courier/courier/courierpop3d"),
        )
    }

    fn write_users(&self, users: &[&str]) {
        let dir = self.dir.display();
        let etc = self.dir.join("etc");
        let owner = self.owner();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = format!("mf{owner}:x:{owner}:{MAIL_GROUP}::{dir}/home:/bin/false\n");
        fs::write(etc.join("passwd"), passwd + &line).unwrap();
        let daemon = "authmodulelist=\"authuserdb\"\nauthmodulelistorig=\"authuserdb\"\ndaemons=3\n\
                      authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=\"\"\nLOGGEROPTS=\"\"\n";
        fs::write(etc.join("courier/authdaemonrc"), daemon).unwrap();
        let mut lines = String::new();
        for user in users {
            let hash = hashed(&Served::password(self, user));
            lines += &format!(
                "{user}\tuid={owner}|gid={MAIL_GROUP}|home={dir}/home|mail={dir}/mail/{user}|systempw={hash}\n"
            );
            make_maildir(&self.mail_dir(user));
        }
        let path = etc.join("courier/userdb");
        fs::write(&path, lines).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Debian's group `mail`.
const MAIL_GROUP: u32 = 8;

impl Served for Courier {
    fn imap_port(&self) -> u16 {
        self.ports[0].number
    }

    fn pop3_port(&self) -> u16 {
        self.ports[1].number
    }

    fn password(&self, user: &str) -> String {
        format!("pw-of-{user}")
    }

    fn ca(&self) -> Option<&Path> {
        None
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the log of Courier in {}:\n{}", self.dir.display(), self.log());
        }
        keep_if_asked(&mut self.folder);
    }
}

fn make_maildir(root: &Path) {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
}

fn hashed(password: &str) -> String {
    let output = Command::new("openssl").args(["passwd", "-1", password]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && (line.starts_with("* OK") || line.starts_with("+OK"))
}
