//! A private Dovecot: 2.3, the machine's own, or 2.4 (see [`trixie`]).

use super::ports::{self, Port};
use super::process::{Process, wait_for};
use super::tls::{self, TlsFiles};
use super::trixie;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

/// How long a start may take on a machine where everything else runs at once.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Dovecot answers the doveadm port only to this.
const DOVEADM_PASSWORD: &str = "doveadm-lab-secret";

/// How the server keeps its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Maildir,
    Mdbox,
    Sdbox,
}

/// Which Dovecot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    V23,
    V24,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    pub release: Release,
    pub format: Format,
    /// The hierarchy separator clients see.
    pub separator: char,
    /// `login_trusted_networks` = loopback: the server believes the address that a proxy sends by ID.
    pub trusted: bool,
    /// Its POP3 computes UIDLs by a format that no old side has: what is equal there was written.
    pub own_uidls: bool,
    /// As it was installed: nothing in its configuration is there for a move, and it can't be written from outside.
    pub bare: bool,
    /// Name (lower case, no domain) and password of each user.
    pub users: Vec<(String, String)>,
    /// More configuration, at the end of the file, where it overrides; `{dir}` stands for the folder of the server.
    pub extra: String,
}

impl Spec {
    /// The usual old side: Maildir, `/`, users with a different password each.
    pub fn old(users: &[&str]) -> Self {
        Self {
            release: Release::V23,
            format: Format::Maildir,
            separator: '/',
            trusted: true,
            own_uidls: false,
            bare: false,
            users: with_passwords(users),
            extra: String::new(),
        }
    }

    /// The usual new side: mdbox, otherwise the same users with the same passwords. `MAILFERRY_LAB_NEW_SIDE` makes it
    /// another one, so that all tests can be run with it: `2.4`, or `2.3 maildir`, `2.4 maildir`.
    pub fn new_side(users: &[&str]) -> Self {
        let wanted = std::env::var("MAILFERRY_LAB_NEW_SIDE").unwrap_or_default();
        let (mut release, mut format) = (Release::V23, Format::Mdbox);
        for word in wanted.split_whitespace() {
            match word {
                "2.3" => release = Release::V23,
                "2.4" => release = Release::V24,
                "maildir" => format = Format::Maildir,
                "mdbox" => format = Format::Mdbox,
                "sdbox" => format = Format::Sdbox,
                other => panic!("MAILFERRY_LAB_NEW_SIDE: {other:?} is neither a release nor a format"),
            }
        }
        Self { release, format, ..Self::old(users) }
    }
}

fn with_passwords(users: &[&str]) -> Vec<(String, String)> {
    users.iter().map(|user| ((*user).to_owned(), format!("pw-of-{user}"))).collect()
}

/// A running (or stopped) private Dovecot; `Drop` stops it and removes its folder.
#[derive(Debug)]
pub struct Dovecot {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    /// The folder that is `/` for it, where that isn't the machine's own.
    root: Option<PathBuf>,
    spec: Spec,
    passwords: BTreeMap<String, String>,
    ports: [Port; 6],
    tls: TlsFiles,
    process: Option<Process>,
}

impl Dovecot {
    /// Starts a server and waits until it greets; panics with its log if it does not.
    pub fn start(spec: Spec) -> Self {
        assert!(
            Path::new("/usr/sbin/dovecot").exists(),
            "no /usr/sbin/dovecot: install dovecot-imapd dovecot-pop3d dovecot-lmtpd"
        );
        let root = (spec.release == Release::V24).then(|| trixie::root().expect("a Dovecot 2.4: see trixie::is_here"));
        let temp = root.as_ref().map_or_else(std::env::temp_dir, |root| root.join("tmp"));
        // Short: the paths of Unix sockets below it must stay under 108 octets.
        let folder = tempfile::Builder::new().prefix("mflab").tempdir_in(temp).unwrap();
        let dir = folder.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        for sub in ["run", "state", "log", "mail", "home"] {
            fs::create_dir(dir.join(sub)).unwrap();
        }
        let tls = tls::write(&dir);
        let mut server = Self {
            folder: Some(folder),
            dir,
            root,
            passwords: spec.users.iter().cloned().collect(),
            spec,
            ports: std::array::from_fn(|_| ports::claim()),
            tls,
            process: None,
        };
        if is_root() {
            server.give_to_mail_user(&server.dir.join("mail"));
            server.give_to_mail_user(&server.dir.join("home"));
        }
        server.write_users();
        for _ in 0..3 {
            fs::write(server.config_path(), server.config()).unwrap();
            if server.launch() {
                return server;
            }
            server.ports = std::array::from_fn(|_| ports::claim());
        }
        panic!("dovecot does not start:\n{}", server.log());
    }

    /// Port of IMAP with STARTTLS; plain text logins are allowed.
    pub fn imap_port(&self) -> u16 {
        self.ports[0].number
    }

    pub fn imaps_port(&self) -> u16 {
        self.ports[1].number
    }

    pub fn doveadm_port(&self) -> u16 {
        self.ports[2].number
    }

    pub fn pop3_port(&self) -> u16 {
        self.ports[3].number
    }

    pub fn pop3s_port(&self) -> u16 {
        self.ports[4].number
    }

    pub fn lmtp_port(&self) -> u16 {
        self.ports[5].number
    }

    pub fn doveadm_password(&self) -> &'static str {
        DOVEADM_PASSWORD
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where `user`'s mail lies: the root of the Maildir, or of the dbox.
    pub fn mail_dir(&self, user: &str) -> PathBuf {
        self.dir.join("mail").join(user)
    }

    pub fn password(&self, user: &str) -> &str {
        &self.passwords[user]
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.join("dovecot.conf")
    }

    /// Runs `doveadm` with this server's configuration.
    pub fn doveadm(&self, args: &[&str]) -> Output {
        let config = self.inside(&self.config_path());
        self.program("doveadm").arg("-c").arg(config).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Makes `user`'s account here that of `other` on `from`, a Maildir; Dovecot's own dsync reads and writes it.
    pub fn import(&self, user: &str, from: &Self, other: &str) -> Output {
        let mail = from.mail_dir(other);
        let folder = tempfile::Builder::new().prefix("import").tempdir_in(&self.dir).unwrap();
        let near = folder.path().join("mail");
        // A server in a folder of its own sees nothing outside it.
        let copied = Command::new("cp").arg("-a").arg(&mail).arg(&near).status().unwrap();
        assert!(copied.success(), "cp {}", mail.display());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = format!("maildir:{}", self.inside(&near).display());
        self.doveadm(&["backup", "-R", "-u", user, &place])
    }

    /// Runs a line of shell on the host of this server, where `doveadm` is the one of this server.
    pub fn on_its_host(&self, line: &str) -> Output {
        let wrapper = self.dir.join("doveadm");
        let config = self.inside(&self.config_path());
        fs::write(&wrapper, format!("#!/bin/sh\nexec /usr/bin/doveadm -c {} \"$@\"\n", config.display())).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", self.inside(&self.dir).display());
        self.program("env").arg(path).args(["sh", "-c", line]).stdin(Stdio::null()).output().unwrap()
    }

    fn program(&self, name: &str) -> Command {
        self.root.as_ref().map_or_else(|| Command::new(name), |root| trixie::command(root, name))
    }

    /// A path as the server sees it.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let root = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        root.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside))
    }

    /// The same, and panics unless it succeeds; gives its standard output.
    pub fn doveadm_ok(&self, args: &[&str]) -> String {
        let output = self.doveadm(args);
        assert!(output.status.success(), "doveadm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What its `doveconf -n` prints.
    pub fn doveconf(&self) -> String {
        let config = self.inside(&self.config_path());
        let output = self.program("doveconf").arg("-n").arg("-c").arg(config).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "doveconf: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Adds to its configuration, at the end, and starts it again.
    pub fn configure(&mut self, more: &str) {
        self.stop();
        self.spec.extra.push_str(more);
        fs::write(self.config_path(), self.config()).unwrap();
        self.start_again();
    }

    /// Everything logged so far. Dovecot's processes log through another one, so a line may come a moment after what it
    /// tells of: this waits until nothing new has come for a while.
    pub fn log(&self) -> String {
        let mut log = self.logged();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(400));
            let more = self.logged();
            if more.len() == log.len() {
                break;
            }
            log = more;
        }
        log
    }

    fn logged(&self) -> String {
        let read = |name: &str| fs::read(self.dir.join("log").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("dovecot.log"), read("output.log")].concat()).into_owned()
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(5));
        }
    }

    /// Kills the master and all its workers with SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Starts again with the same ports and data.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "already running");
        let _ = fs::remove_file(self.dir.join("run/master.pid"));
        assert!(self.launch(), "dovecot does not start again:\n{}", self.log());
    }

    /// Adds a user, or changes a password; works while the server runs.
    pub fn add_user(&mut self, user: &str, password: &str) {
        self.passwords.insert(user.to_owned(), password.to_owned());
        self.write_users();
        // Dovecot looks at the file once in a second of the clock: whoever asked in this one keeps others from the change.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        std::thread::sleep(Duration::from_millis(1050 - u64::from(since.subsec_millis())));
        // Forget what auth has cached of the file.
        let _ = self.doveadm(&["auth", "cache", "flush"]);
    }

    /// Makes a file or folder under the mail folder belong to the mail user, as Dovecot expects it.
    pub fn give_to_mail_user(&self, path: &Path) {
        if !is_root() {
            return;
        }
        let (uid, gid) = mail_ids();
        chown(path, Some(uid), Some(gid)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give_to_mail_user(&entry.unwrap().path());
            }
        }
    }

    fn write_users(&self) {
        let lines: String =
            self.passwords.iter().map(|(user, password)| format!("{user}:{{PLAIN}}{password}::::::\n")).collect();
        let (users, new) = (self.dir.join("users"), self.dir.join("users.new"));
        fs::write(&new, lines).unwrap();
        // Dovecot reads the file again only when its second is another one.
        if let Ok(before) = fs::metadata(&users).and_then(|file| file.modified()) {
            let later = (before + Duration::from_secs(2)).max(SystemTime::now());
            fs::File::options().append(true).open(&new).and_then(|file| file.set_modified(later)).unwrap();
        }
        fs::rename(&new, &users).unwrap();
    }

    fn launch(&mut self) -> bool {
        let mut command = self.program("/usr/sbin/dovecot");
        command.arg("-F").arg("-c").arg(self.inside(&self.config_path())).current_dir(&self.dir);
        let mut process = Process::spawn(&mut command, &self.dir.join("log/output.log")).unwrap();
        let port = self.imap_port();
        let up = wait_for("dovecot to start", START_PATIENCE, || {
            if process.has_ended() {
                return Some(false);
            }
            greets(port).then_some(true)
        });
        self.process = up.then_some(process);
        up
    }

    fn config(&self) -> String {
        let dir = self.inside(&self.dir);
        let text = match self.spec.release {
            Release::V23 => self.config_23(),
            Release::V24 => trixie::config(self, &dir, DOVEADM_PASSWORD),
        };
        format!("{text}{}\n", self.spec.extra.replace("{dir}", &dir.display().to_string()))
    }

    fn config_23(&self) -> String {
        let dir = self.dir.display();
        let (owner, rights) = owner_settings();
        let Spec { format, separator, trusted, own_uidls, bare, .. } = &self.spec;
        let driver = match format {
            Format::Maildir => "maildir",
            Format::Mdbox => "mdbox",
            Format::Sdbox => "sdbox",
        };
        let for_a_move = if *bare { String::new() } else { for_a_move(DOVEADM_PASSWORD) };
        let mut text = format!(
            "base_dir = {dir}/run\nstate_dir = {dir}/state\nlog_path = {dir}/log/dovecot.log\n\
             protocols = imap pop3 lmtp\nlisten = 127.0.0.1\n\
             ssl = yes\nssl_cert = <{dir}/tls.pem\nssl_key = <{dir}/tls.key\n\
             disable_plaintext_auth = no\nauth_mechanisms = plain login\nauth_username_format = %Ln\n\
             mail_location = {driver}:{dir}/mail/%u\n{owner}{rights}\
             mail_max_userip_connections = 0\nmail_attachment_detection_options =\n{for_a_move}\
             passdb {{\n  driver = passwd-file\n  args = {dir}/users\n}}\n\
             userdb {{\n  driver = static\n  args = home={dir}/home/%u\n}}\n\
             namespace inbox {{\n  inbox = yes\n  separator = {separator}\n"
        );
        for (name, special) in [("Sent", "Sent"), ("Drafts", "Drafts"), ("Trash", "Trash"), ("Junk", "Junk")] {
            let _ = write!(text, "  mailbox {name} {{\n    special_use = \\{special}\n    auto = no\n  }}\n");
        }
        text.push_str("}\n");
        if *trusted && !bare {
            text.push_str("login_trusted_networks = 127.0.0.0/8\n");
        }
        if *own_uidls {
            text.push_str("pop3_uidl_format = %g\n");
        }
        // One login process for all connections: a process for each is slow where many tests share two cores.
        text + &self.services("  service_count = 0\n  process_min_avail = 1\n")
    }

    /// The listeners; `login` is what login processes have besides.
    pub(super) fn services(&self, login: &str) -> String {
        let [imap, imaps, doveadm, pop3, pop3s, lmtp] = self.ports.each_ref().map(|port| port.number);
        let tls = "    ssl = yes\n";
        [
            ("imap-login", login, listener("imap", imap, "") + &listener("imaps", imaps, tls)),
            ("pop3-login", login, listener("pop3", pop3, "") + &listener("pop3s", pop3s, tls)),
            ("doveadm", "", listener("doveadm", doveadm, "")),
            ("lmtp", "", listener("lmtp", lmtp, "")),
        ]
        .into_iter()
        .filter(|(name, ..)| !(self.spec.bare && *name == "doveadm"))
        .map(|(name, more, listeners)| {
            let more = if self.spec.bare { "" } else { more };
            format!("service {name} {{\n{more}{listeners}}}\n")
        })
        .collect()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Nobody needs its mail any more, and an orderly end takes a second.
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- end of the log of {}:", self.dir.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        keep_if_asked(&mut self.folder);
    }
}

/// Leaves a server's folder behind when `MAILFERRY_LAB_KEEP` is set.
pub(super) fn keep_if_asked(folder: &mut Option<tempfile::TempDir>) {
    if std::env::var_os("MAILFERRY_LAB_KEEP").is_some()
        && let Some(folder) = folder.take()
    {
        eprintln!("kept: {}", folder.keep().display());
    }
}

/// Settings of both releases that a server needs to be written from outside, and without which a test takes long.
pub(super) fn for_a_move(password: &str) -> String {
    format!(
        "mail_fsync = never\ndoveadm_password = {password}\ndoveadm_allowed_commands = dsync-server\n\
         protocol doveadm {{\n  mail_fsync = never\n}}\n"
    )
}

fn listener(name: &str, port: u16, more: &str) -> String {
    format!("  inet_listener {name} {{\n    port = {port}\n{more}  }}\n")
}

/// Settings that differ with and without root: Dovecot wants to change users and roots, which only root may.
fn owner_settings() -> (String, String) {
    if is_root() {
        return (
            "mail_uid = mail\nmail_gid = mail\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n".to_owned(),
            String::new(),
        );
    }
    let name = |what: &str| {
        let output = Command::new("id").arg(what).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let (user, group) = (name("-un"), name("-gn"));
    let owner = format!("mail_uid = {user}\nmail_gid = {group}\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n");
    let mut rights =
        format!("default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}\n");
    for service in ["anvil", "imap-login", "pop3-login", "imap-urlauth-login", "submission-login"] {
        let _ = write!(rights, "service {service} {{\n  chroot =\n}}\n");
    }
    (owner, rights)
}

pub(super) fn is_root() -> bool {
    // The owner of our own /proc entry: std knows no getuid.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

pub(super) fn mail_ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("mail:")).expect("a system user `mail`");
    let mut fields = line.split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok()).expect("numeric ids in /etc/passwd");
    (number(), number())
}

/// A server that is up says more than `* OK Waiting for authentication process to respond..`.
pub(super) fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut lines = BufReader::new(stream);
    for _ in 0..3 {
        let mut line = String::new();
        if lines.read_line(&mut line).is_err() {
            return false;
        }
        if line.starts_with("* OK") && !line.contains("Waiting") {
            return true;
        }
    }
    false
}
