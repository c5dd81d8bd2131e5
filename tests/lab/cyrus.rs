//! A private Cyrus, IMAP, POP3, LMTP and ManageSieve.
//!
//! Its Debian packages can't be installed beside Dovecot's, so `tests/run.sh` unpacks them into a folder; programs and
//! libraries are used from there, and no maintainer script runs. Where that can't be done it says so loudly. As root the server
//! becomes the system user `mail`; without root everything runs as the current user.
//!
//! It logs to syslog alone. What it was told and what it said is in `conf/log/USER/` of its folder once [`Cyrus::record`] was
//! called for that user.

use super::brands::Served;
use super::imap::Imap;
use super::ports::{self, Port};
use super::process::{Process, wait_for};
use super::server::{greets, is_root, keep_if_asked};
use super::tls::{self, TlsFiles};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a start may take on a machine where everything else runs at once.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// May create and delete everybody's mailboxes.
const ADMIN: &str = "cyrus";

/// How mailboxes are named. Sites have all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// `INBOX.Work.2024`; others' are `user.NAME`, and what is shared has no prefix at all: the default until 3.0.
    Dots,
    /// `INBOX/Work/2024`, `user/NAME`.
    Slashes,
    /// `Work.2024`, `Other Users.NAME`, `Shared Folders.NAME`.
    AltDots,
    /// `Work/2024`, `Other Users/NAME`, `Shared Folders/NAME`: the default since 3.0.
    AltSlashes,
}

impl Names {
    pub const ALL: [Self; 4] = [Self::Dots, Self::Slashes, Self::AltDots, Self::AltSlashes];

    /// What the user's own mailboxes begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Dots => "INBOX.",
            Self::Slashes => "INBOX/",
            Self::AltDots | Self::AltSlashes => "",
        }
    }

    pub const fn separator(self) -> char {
        match self {
            Self::Dots | Self::AltDots => '.',
            Self::Slashes | Self::AltSlashes => '/',
        }
    }

    /// A mailbox of the user's own, by the parts of its name joined by `/`, as this server spells it.
    pub fn spell(self, parts: &str) -> String {
        if parts == "INBOX" {
            return parts.to_owned();
        }
        let parts: Vec<&str> = parts.split('/').collect();
        format!("{}{}", self.prefix(), parts.join(&self.separator().to_string()))
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct CyrusSpec {
    pub names: Names,
    /// `uidl_format`; empty: its default.
    pub uidl_format: &'static str,
    /// Name and password of each user.
    pub users: Vec<(String, String)>,
    /// More lines of imapd.conf.
    pub extra: String,
}

impl CyrusSpec {
    /// Users with a different password each.
    pub fn with(names: Names, users: &[&str]) -> Self {
        let users = users.iter().map(|user| ((*user).to_owned(), format!("pw-of-{user}"))).collect();
        Self { names, uidl_format: "", users, extra: String::new() }
    }
}

/// Where the unpacked packages are, if they are: `$MAILFERRY_CYRUS`, or `/var/cache` where the server's own user must get at
/// them, or the user's cache.
pub fn root() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || match is_root() {
        true => Some(PathBuf::from("/var/cache")),
        false => variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache"))),
    };
    let root = variable("MAILFERRY_CYRUS").or_else(|| Some(cache()?.join("mailferry/cyrus")))?;
    root.join("usr/lib/cyrus/bin/master").exists().then_some(root)
}

/// Whether there is a Cyrus; says so for all to hear if there is none.
pub fn is_here() -> bool {
    let here = root().is_some();
    if !here {
        eprintln!(
            "\n#### NOT RUN: this test needs Cyrus, and there is none here. Its Debian packages lie unpacked in\n\
             #### $MAILFERRY_CYRUS, /var/cache/mailferry/cyrus (root) or ~/.cache/mailferry/cyrus; tests/run.sh does it.\n"
        );
    }
    here
}

/// A running (or stopped) private Cyrus; `Drop` stops it and removes its folder.
#[derive(Debug)]
pub struct Cyrus {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    root: PathBuf,
    spec: CyrusSpec,
    passwords: BTreeMap<String, String>,
    ports: [Port; 6],
    tls: TlsFiles,
    process: Option<Process>,
}

impl Cyrus {
    /// Starts a server, waits until it greets and makes everybody's INBOX.
    pub fn start(spec: CyrusSpec) -> Self {
        let root = root().expect("a Cyrus: see cyrus::is_here");
        let folder = tempfile::Builder::new().prefix("mfcyrus").tempdir().unwrap();
        let dir = folder.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        for sub in ["conf", "spool", "run", "run/proc", "run/lock", "log"] {
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
        server.set_password(ADMIN, ADMIN);
        for (user, password) in &server.spec.users {
            server.set_password(user, password);
        }
        server.give_to_its_user(&["conf", "spool", "run", "log", "tls.key"]);
        let mut up = false;
        for _ in 0..3 {
            server.write_config();
            up = server.launch();
            if up {
                break;
            }
            server.ports = std::array::from_fn(|_| ports::claim());
        }
        assert!(up, "cyrus does not start: {}", server.log());
        let mut admin = server.admin();
        for (user, _) in &server.spec.users {
            admin.ok(&format!("CREATE {}", server.inbox_of(user)));
        }
        admin.ok("LOGOUT");
        server
    }

    /// Port of IMAP with STARTTLS; plain text logins are allowed.
    pub fn imap_port(&self) -> u16 {
        self.ports[0].number
    }

    pub fn imaps_port(&self) -> u16 {
        self.ports[1].number
    }

    pub fn pop3_port(&self) -> u16 {
        self.ports[2].number
    }

    pub fn pop3s_port(&self) -> u16 {
        self.ports[3].number
    }

    pub fn lmtp_port(&self) -> u16 {
        self.ports[4].number
    }

    pub fn sieve_port(&self) -> u16 {
        self.ports[5].number
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    pub fn spec(&self) -> &CyrusSpec {
        &self.spec
    }

    pub fn password(&self, user: &str) -> &str {
        &self.passwords[user]
    }

    /// A session of its administrator.
    pub fn admin(&self) -> Imap {
        let mut imap = Imap::connect(self.imap_port());
        imap.login(ADMIN, ADMIN);
        imap
    }

    /// A session of a user.
    pub fn log_in(&self, user: &str) -> Imap {
        let mut imap = Imap::connect(self.imap_port());
        imap.login(user, self.password(user));
        imap
    }

    /// A user's INBOX, as the administrator calls it.
    pub fn inbox_of(&self, user: &str) -> String {
        // A dot in the name of a user is no separator.
        let separator = self.spec.names.separator();
        let user = if separator == '.' { user.replace('.', "^") } else { user.to_owned() };
        format!("user{separator}{user}")
    }

    /// From a user's next session on, writes down what is said in it; [`Cyrus::recorded`] gives it.
    pub fn record(&self, user: &str) {
        let folder = self.dir.join("conf/log").join(user);
        fs::create_dir_all(&folder).unwrap();
        self.give_to_its_user(&["conf/log"]);
    }

    /// Everything that was recorded of a user.
    pub fn recorded(&self, user: &str) -> String {
        let files = fs::read_dir(self.dir.join("conf/log").join(user)).unwrap();
        let texts = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    /// Changes lines of imapd.conf (`key: value`, which replace what was there) and starts again.
    pub fn reconfigure(&mut self, lines: &str) {
        self.kill9();
        self.spec.extra.push_str(lines);
        self.write_config();
        assert!(self.launch(), "cyrus does not start again: {}", self.log());
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
        assert!(self.launch(), "cyrus does not start again: {}", self.log());
    }

    /// The file of one message of a user's INBOX.
    pub fn message_file(&self, user: &str, uid: u32) -> PathBuf {
        let mut command = self.program("usr/lib/cyrus/bin/mbpath");
        command.arg("-C").arg(self.dir.join("imapd.conf")).arg(self.inbox_of(user)).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "mbpath: {output:?}");
        let file = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join(format!("{uid}."));
        assert!(file.exists(), "{}", file.display());
        file
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log/output.log")).unwrap_or_default()).into_owned()
    }

    fn program(&self, path: &str) -> Command {
        let folders = self.libraries();
        let (libraries, plugins) = (folders.join(":"), folders.iter().map(|folder| format!("{folder}/sasl2")));
        let mut command = Command::new(self.root.join(path));
        command.env("LD_LIBRARY_PATH", libraries).env("SASL_PATH", plugins.collect::<Vec<_>>().join(":"));
        command
    }

    /// The folders of its libraries; their name depends on the machine.
    fn libraries(&self) -> Vec<String> {
        let mut found = Vec::new();
        for parent in ["usr/lib", "lib"] {
            let Ok(entries) = fs::read_dir(self.root.join(parent)) else { continue };
            let folders = entries.map(|entry| entry.unwrap().path());
            found.extend(folders.map(|path| path.display().to_string()).filter(|path| path.ends_with("-linux-gnu")));
        }
        found
    }

    fn set_password(&self, user: &str, password: &str) {
        let database = self.dir.join("conf/sasldb2");
        let mut child = self
            .program("usr/sbin/saslpasswd2")
            .args(["-p", "-c", "-u", "localhost", "-f"])
            .arg(database)
            .arg(user)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "saslpasswd2 for {user}");
    }

    fn give_to_its_user(&self, names: &[&str]) {
        if is_root() {
            let (uid, gid) = super::server::mail_ids();
            names.iter().for_each(|name| give(&self.dir.join(name), uid, gid));
        }
    }

    fn launch(&mut self) -> bool {
        let mut command = self.program("usr/lib/cyrus/bin/master");
        command.arg("-C").arg(self.dir.join("imapd.conf")).arg("-M").arg(self.dir.join("cyrus.conf"));
        command.arg("-p").arg(self.dir.join("run/master.pid")).current_dir(&self.dir);
        let mut process = Process::spawn(&mut command, &self.dir.join("log/output.log")).unwrap();
        let port = self.imap_port();
        let up = wait_for("cyrus to start", START_PATIENCE, || {
            if process.has_ended() {
                return Some(false);
            }
            greets(port).then_some(true)
        });
        self.process = up.then_some(process);
        up
    }

    fn write_config(&self) {
        let dir = self.dir.display();
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let names = self.spec.names;
        let owner = if is_root() { "mail:mail".to_owned() } else { current_user() };
        let (user, group) = owner.split_once(':').unwrap();
        let mut lines: BTreeMap<String, String> = BTreeMap::new();
        // (Of mailboxes that it keeps when they are deleted it can't keep two with one name in one second.)
        let text = format!(
            "configdirectory: {dir}/conf\npartition-default: {dir}/spool\ndefaultpartition: default\n\
             servername: localhost\ncyrus_user: {user}\ncyrus_group: {group}\nadmins: {ADMIN}\n\
             allowplaintext: yes\nvirtdomains: off\nunixhierarchysep: {}\naltnamespace: {}\n\
             sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: {dir}/conf/sasldb2\n\
             sasl_mech_list: PLAIN LOGIN\ntls_server_cert: {dir}/tls.pem\ntls_server_key: {dir}/tls.key\n\
             proc_path: {dir}/run/proc\nmboxname_lockpath: {dir}/run/lock\nidlesocket: {dir}/run/idle\n\
             notifysocket: {dir}/run/notify\nlmtpsocket: {dir}/run/lmtp\nsievedir: {dir}/conf/sieve\n\
             skiplist_unsafe: yes\ndelete_mode: immediate\n",
            yes(names.separator() == '/'),
            yes(names.prefix().is_empty())
        );
        let uidl = match self.spec.uidl_format {
            "" => String::new(),
            format => format!("uidl_format: {format}\n"),
        };
        for line in text.lines().chain(uidl.lines()).chain(self.spec.extra.lines()) {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("imapd.conf: {line}"));
            lines.insert(key.to_owned(), value.to_owned());
        }
        let text: String = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        fs::write(self.dir.join("imapd.conf"), text).unwrap();
        let [imap, imaps, pop3, pop3s, lmtp, sieve] = self.ports.each_ref().map(|port| port.number);
        let bin = self.root.join("usr/lib/cyrus/bin");
        let call = |program: &str, more: &str| format!("cmd=\"{}/{program} -C {dir}/imapd.conf{more}\"", bin.display());
        let service = |name: &str, program: &str, more: &str, port: u16| {
            format!("  {name} {} listen=\"127.0.0.1:{port}\" prefork=0\n", call(program, more))
        };
        // (No cyr_expire: it would take hours to be due.)
        let text = format!(
            "START {{\n  recover {}\n}}\nSERVICES {{\n{}}}\nEVENTS {{\n}}\nDAEMON {{\n  idled {}\n}}\n",
            call("ctl_cyrusdb", " -r"),
            [
                service("imap", "imapd", "", imap),
                service("imaps", "imapd", " -s", imaps),
                service("pop3", "pop3d", "", pop3),
                service("pop3s", "pop3d", " -s", pop3s),
                service("lmtp", "lmtpd", " -a", lmtp),
                service("sieve", "timsieved", "", sieve),
            ]
            .concat(),
            call("idled", "")
        );
        fs::write(self.dir.join("cyrus.conf"), text).unwrap();
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- what cyrus in {} printed:\n{}", self.dir.display(), self.log());
        }
        keep_if_asked(&mut self.folder);
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid, gid));
    }
}

fn current_user() -> String {
    let name = |what: &str| {
        let output = Command::new("id").arg(what).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    format!("{}:{}", name("-un"), name("-gn"))
}

impl Served for Cyrus {
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
        Some(&self.tls.ca)
    }
}
