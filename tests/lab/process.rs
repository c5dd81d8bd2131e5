//! A child process that never outlives the test, however the test ends.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process in its own process group, and the shell that ends it should we be killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    guard: Child,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> std::io::Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        Self::spawn_with(command.stdin(Stdio::null()).stdout(out), log)
    }

    /// Starts `command`, with what it has as standard input and output, and its errors appended to `log`.
    pub fn spawn_with(command: &mut Command, log: &Path) -> std::io::Result<Self> {
        let err = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stderr(err).process_group(0).spawn()?;
        // `read` returns when our end of the pipe closes: a test killed by SIGKILL closes it too. The guard has its own
        // group, or a ^C on the terminal would end it before it can do its work.
        let script = "read -r _; kill -s TERM -- \"-$1\"; sleep 2; kill -s KILL -- \"-$1\"";
        let guard = Command::new("sh")
            .args(["-c", script, "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child, guard })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends a signal by its name (`HUP`).
    pub fn signal(&self, name: &str) {
        signal(name, &self.id().to_string());
    }

    /// SIGTERM to the process, and SIGKILL to its group if it is still there after `patience`. Tells whether it ended by
    /// itself.
    pub fn terminate(&mut self, patience: Duration) -> bool {
        self.dismiss_guard();
        if !self.has_ended() {
            signal("TERM", &self.id().to_string());
        }
        let deadline = Instant::now() + patience;
        while !self.has_ended() {
            if Instant::now() > deadline {
                self.kill9();
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Workers that did not notice the end of their master.
        signal("KILL", &format!("-{}", self.id()));
        true
    }

    /// SIGKILL to the whole process group, at once.
    pub fn kill9(&mut self) {
        self.dismiss_guard();
        signal("KILL", &format!("-{}", self.id()));
        let _ = self.child.wait();
    }

    fn dismiss_guard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate(Duration::from_secs(3));
    }
}

fn signal(name: &str, target: &str) {
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$1\" -- \"$2\"", "kill", name, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Polls `probe` until it gives a value; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up after {limit:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
