//! The `mailferry` binary between two servers.

use super::brands::Served;
use super::ports::{self, Port};
use super::process::{Process, wait_for};
use super::server::{Dovecot, keep_if_asked};
use super::tls::{self, TlsFiles};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const START_PATIENCE: Duration = Duration::from_secs(30);

/// What to put between which servers.
#[derive(Debug, Clone)]
pub struct FerrySpec<'a> {
    pub old: &'a dyn Served,
    pub new: &'a Dovecot,
    /// `all` or `none`.
    pub enroll: &'a str,
    /// `[switch] auto`.
    pub auto: bool,
    /// `[switch] max_pause`.
    pub max_pause: &'a str,
    /// `[users] default_domain`; empty: none.
    pub default_domain: &'a str,
    /// URL of the old side's IMAP instead of its plain port: for TLS, or something that misbehaves in between.
    pub old_imap: Option<String>,
    /// The same for the new side.
    pub new_imap: Option<String>,
    /// POP3 listeners, and both sides' plain POP3 ports behind them.
    pub pop3: bool,
    /// URL of the old side's POP3 instead of its plain port.
    pub old_pop3: Option<String>,
    /// The same for the new side.
    pub new_pop3: Option<String>,
    /// Inline tables for `credentials` under `[old]` and `[new]`.
    pub credentials: [&'a str; 2],
    /// URL of the old side's doveadm service, where mail is read there; more keys may follow behind it, as in
    /// `doveadm://…", ca_file = "…`.
    pub source: Option<String>,
    /// URL of the new side's doveadm service instead of its own port.
    pub doveadm: Option<String>,
    /// More keys of `target`, as `ca_file = "…"`.
    pub doveadm_trust: Option<String>,
    /// Lines added to tables, as `("switch", "x = 1")`; a table that is not there yet is made.
    pub extra: Vec<(&'a str, &'a str)>,
    /// Environment of the process, for instance `RUST_LOG`.
    pub env: Vec<(&'a str, &'a str)>,
}

impl<'a> FerrySpec<'a> {
    /// Everybody enrolled, automatic switch, a pause that is no obstacle on a busy machine.
    pub fn between(old: &'a dyn Served, new: &'a Dovecot) -> Self {
        Self {
            old,
            new,
            enroll: "all",
            auto: true,
            max_pause: "20s",
            default_domain: "",
            old_imap: None,
            new_imap: None,
            pop3: false,
            old_pop3: None,
            new_pop3: None,
            credentials: ["{ kind = \"user\" }"; 2],
            source: None,
            doveadm: None,
            doveadm_trust: None,
            extra: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A running proxy; `Drop` stops it.
#[derive(Debug)]
pub struct Ferry {
    folder: Option<tempfile::TempDir>,
    dir: PathBuf,
    ports: [Port; 5],
    tls: TlsFiles,
    env: Vec<(String, String)>,
    process: Option<Process>,
}

impl Ferry {
    /// Writes the configuration, starts `mailferry serve` and waits until it greets.
    pub fn start(spec: FerrySpec<'_>) -> Self {
        let mut ferry = Self::prepare(spec);
        ferry.start_again();
        ferry
    }

    /// Only writes the configuration: for the commands that need no running proxy.
    pub fn prepare(spec: FerrySpec<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("mfferry").tempdir().unwrap();
        let dir = folder.path().to_owned();
        let ferry = Self {
            tls: tls::write(&dir),
            folder: Some(folder),
            dir,
            ports: std::array::from_fn(|_| ports::claim()),
            env: spec.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            process: None,
        };
        fs::write(ferry.dir.join("doveadm.secret"), spec.new.doveadm_password()).unwrap();
        fs::write(ferry.config_path(), ferry.config(&spec)).unwrap();
        ferry
    }

    pub fn imap(&self) -> u16 {
        self.ports[0].number
    }

    pub fn imaps(&self) -> u16 {
        self.ports[1].number
    }

    pub fn admin(&self) -> u16 {
        self.ports[2].number
    }

    /// Port of POP3 with STLS, where the configuration has it.
    pub fn pop3(&self) -> u16 {
        self.ports[3].number
    }

    pub fn pop3s(&self) -> u16 {
        self.ports[4].number
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.join("mailferry.toml")
    }

    pub fn store_path(&self) -> PathBuf {
        self.dir.join("state.db")
    }

    /// Puts a password into a file, for `--password-file`; gives the path.
    pub fn password_file(&self, password: &str) -> String {
        let path = self.dir.join("password");
        fs::write(&path, password).unwrap();
        path.display().to_string()
    }

    /// SIGTERM, then waits for the end; tells whether it ended in time by itself.
    pub fn stop(&mut self) -> bool {
        self.process.take().is_none_or(|mut process| process.terminate(Duration::from_secs(20)))
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !process.has_ended())
    }

    /// A variable of the environment, from the next start on; empty: none.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Starts (again) with the same configuration, ports and store.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "already running");
        let mut command = self.command(&["serve"]);
        let process = Process::spawn(&mut command, &self.dir.join("ferry.log")).unwrap();
        self.wait_until_up(process);
    }

    /// Starts (again) with two sockets of ours passed under these names, as systemd's socket activation does it.
    pub fn start_holding(&mut self, names: &str, [first, second]: [&TcpListener; 2]) {
        assert!(self.process.is_none(), "already running");
        // As standard input and output they survive the start of a shell, which gives them the numbers 3 and 4.
        let script = "exec 3<&0 4>&1 </dev/null 1>&2; LISTEN_PID=$$ exec \"$@\"";
        let serve = self.command(&["serve"]);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(serve.get_program()).args(serve.get_args());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
        command.stdin(Stdio::from(OwnedFd::from(first.try_clone().unwrap())));
        command.stdout(Stdio::from(OwnedFd::from(second.try_clone().unwrap())));
        let process = Process::spawn_with(&mut command, &self.dir.join("ferry.log")).unwrap();
        self.wait_until_up(process);
    }

    /// Starts it by a command that ends in it: a shell that prepares something first.
    pub fn start_by(&mut self, command: &mut Command) {
        let process = Process::spawn(command, &self.dir.join("ferry.log")).unwrap();
        self.wait_until_up(process);
    }

    /// Sends a signal by its name (`HUP`).
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("running").signal(name);
    }

    fn wait_until_up(&mut self, mut process: Process) {
        let port = self.imap();
        let up = wait_for("mailferry to listen", START_PATIENCE, || {
            if process.has_ended() {
                return Some(false);
            }
            greets(port).then_some(true)
        });
        assert!(up, "mailferry serve ended:\n{}\n--- configuration:\n{}", self.log(), self.config_text());
        self.process = Some(process);
    }

    /// One call of the command line with `--config` of this proxy.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// The same, and panics unless it exits with 0; gives its standard output.
    pub fn run_ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "mailferry {args:?}: {output:?}\n--- log:\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `status USER --json`.
    pub fn status(&self, user: &str) -> serde_json::Value {
        let text = self.run_ok(&["status", user, "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("status of {user} is no JSON ({error}): {text}"))
    }

    /// Polls until `user` is in `phase`; gives the status, panics with the last one when `limit` passes.
    pub fn wait_phase(&self, user: &str, phase: &str, limit: Duration) -> serde_json::Value {
        self.wait_status(user, limit, |status| status["phase"] == phase)
    }

    /// Polls until the status fulfils `wanted`.
    pub fn wait_status(
        &self,
        user: &str,
        limit: Duration,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let status = self.status(user);
            if wanted(&status) {
                return status;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "after {limit:?} the status of {user} is still {status:#}\n--- log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Resident memory now, in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory there ever was, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Sockets that it has open now: listeners, clients, connections to servers.
    pub fn sockets(&self) -> usize {
        let links = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let targets = links.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("running").id()
    }

    fn memory(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a memory line");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Everything the proxy wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("ferry.log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the log has `words` so many times; more are as wrong as fewer.
    pub fn wait_logged_times(&self, words: &str, times: usize, limit: Duration) {
        let count = || self.log().matches(words).count();
        wait_for(&format!("{times} times {words:?} in the log"), limit, || (count() >= times).then_some(()));
        assert_eq!(count(), times, "{words:?} in\n{}", self.log());
    }

    pub fn config_text(&self) -> String {
        fs::read_to_string(self.config_path()).unwrap_or_default()
    }

    /// A command of the binary with `--config`, ready to be changed and run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.args(args).arg("--config").arg(self.config_path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn config(&self, spec: &FerrySpec<'_>) -> String {
        let [imap, imaps, admin, pop3, pop3s] = self.ports.each_ref().map(|port| port.number);
        let dir = self.dir.display();
        let url = |given: &Option<String>, scheme: &str, port: u16| {
            given.clone().unwrap_or_else(|| format!("{scheme}://127.0.0.1:{port}"))
        };
        let mut tables: Vec<(&str, String)> = vec![
            (
                "listen",
                format!(
                    "imap = [\"127.0.0.1:{imap}\"]\nimaps = [\"127.0.0.1:{imaps}\"]\nallow_cleartext = [\"127.0.0.0/8\"]\n"
                ),
            ),
            ("tls", format!("cert = \"{}\"\nkey = \"{}\"\n", self.tls.cert.display(), self.tls.key.display())),
            (
                "old",
                format!(
                    "imap = \"{}\"\n{}credentials = {}\n{}",
                    url(&spec.old_imap, "imap", spec.old.imap_port()),
                    ca_file(&[&spec.old_imap, &spec.old_pop3], spec.old),
                    spec.credentials[0],
                    spec.source
                        .as_ref()
                        .map(|url| format!(
                            "source = {{ kind = \"dsync\", password_file = \"{dir}/doveadm.secret\", url = \"{url}\" }}\n"
                        ))
                        .unwrap_or_default(),
                ),
            ),
            (
                "new",
                format!(
                    "imap = \"{}\"\n{}credentials = {}\n\
                     target = {{ kind = \"dsync\", url = \"{}\", password_file = \"{dir}/doveadm.secret\"{} }}\n",
                    url(&spec.new_imap, "imap", spec.new.imap_port()),
                    ca_file(&[&spec.new_imap, &spec.new_pop3], spec.new),
                    spec.credentials[1],
                    url(&spec.doveadm, "doveadm", spec.new.doveadm_port()),
                    spec.doveadm_trust.as_ref().map(|keys| format!(", {keys}")).unwrap_or_default(),
                ),
            ),
            ("store", format!("url = \"sqlite:{dir}/state.db\"\n")),
            ("admin", format!("listen = \"127.0.0.1:{admin}\"\ntoken_file = \"{dir}/admin.token\"\n")),
            ("migration", format!("enroll = \"{}\"\n", spec.enroll)),
            ("switch", format!("auto = {}\nmax_pause = \"{}\"\n", spec.auto, spec.max_pause)),
        ];
        if spec.pop3 {
            let mut add = |table: &str, line: String| {
                if let Some((_, text)) = tables.iter_mut().find(|(name, _)| *name == table) {
                    text.push_str(&line);
                }
            };
            add("listen", format!("pop3 = [\"127.0.0.1:{pop3}\"]\npop3s = [\"127.0.0.1:{pop3s}\"]\n"));
            add("old", format!("pop3 = \"{}\"\n", url(&spec.old_pop3, "pop3", spec.old.pop3_port())));
            add("new", format!("pop3 = \"{}\"\n", url(&spec.new_pop3, "pop3", spec.new.pop3_port())));
        }
        if !spec.default_domain.is_empty() {
            tables.push(("users", format!("default_domain = \"{}\"\n", spec.default_domain)));
        }
        for (table, line) in &spec.extra {
            match tables.iter_mut().find(|(name, _)| name == table) {
                Some((_, text)) => {
                    let _ = writeln!(text, "{line}");
                }
                None => tables.push((table, format!("{line}\n"))),
            }
        }
        tables.iter().map(|(name, text)| format!("[{name}]\n{text}\n")).collect()
    }
}

impl Drop for Ferry {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- end of the log of mailferry in {}:", self.dir.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        keep_if_asked(&mut self.folder);
    }
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("* OK")
}

/// A CA is configured only where TLS is: anything else is a configuration error.
fn ca_file(urls: &[&Option<String>], server: &dyn Served) -> String {
    let clear = |url: &Option<String>| {
        url.as_deref().is_none_or(|url| url.starts_with("imap://") || url.starts_with("pop3://"))
    };
    let clear = urls.iter().all(|url| clear(url));
    let ca = server.ca().filter(|_| !clear);
    ca.map(|ca| format!("ca_file = \"{}\"\n", ca.display())).unwrap_or_default()
}
