//! Judges that share no code with us: a comparison in Python's imaplib, and mbsync as a client that keeps a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where an account is served: port on 127.0.0.1, user, password.
pub type Account<'a> = (u16, &'a str, &'a str);

/// Runs `tests/foreign/compare.py`; gives its report: `identical`, `mailboxes`, `messages`, `differences`, `altered`, `notes`.
pub fn compare(old: Account<'_>, new: Account<'_>) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/compare.py");
    let side = |(port, user, password): Account<'_>| {
        ["127.0.0.1".to_owned(), port.to_string(), user.to_owned(), password.to_owned()]
    };
    let output = Command::new("python3")
        .arg(script)
        .arg("--old")
        .args(side(old))
        .arg("--new")
        .args(side(new))
        .stdin(Stdio::null())
        .output()
        .expect("python3");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("compare.py failed: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.success(), report["identical"] == true, "the exit status agrees with the report");
    report
}

/// A client that keeps a local copy of an account: mbsync (isync), pulling only.
#[derive(Debug)]
pub struct Mbsync {
    folder: tempfile::TempDir,
}

/// What one run of mbsync did.
#[derive(Debug)]
pub struct Pulled {
    /// Messages whose body it asked for.
    pub downloaded: usize,
    /// Messages it holds afterwards.
    pub messages: usize,
    pub success: bool,
    /// Everything it said.
    pub output: String,
}

impl Mbsync {
    /// A copy that does not hold anything yet.
    pub fn new(port: u16, user: &str, password: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("mfmbsync").tempdir().unwrap();
        let mail = folder.path().join("mail");
        fs::create_dir(&mail).unwrap();
        let mail = mail.display();
        let config = format!(
            "IMAPAccount a\nHost 127.0.0.1\nPort {port}\nUser {user}\nPass \"{password}\"\nSSLType None\nAuthMechs LOGIN\n\n\
             IMAPStore far\nAccount a\n\n\
             MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
             Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nExpunge None\nSyncState *\n"
        );
        fs::write(folder.path().join("mbsyncrc"), config).unwrap();
        Self { folder }
    }

    /// One synchronisation.
    pub fn run(&self) -> Pulled {
        let output = Command::new("mbsync")
            // Shows every command it sends (and hides the password).
            .args(["-Dn", "-c"])
            .arg(self.folder.path().join("mbsyncrc"))
            .arg("-a")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("mbsync (Debian package isync)");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Pulled {
            downloaded: text.lines().filter(|line| line.contains(">>> ") && line.contains("(BODY.PEEK[])")).count(),
            messages: self.files().len(),
            success: output.status.success(),
            output: text,
        }
    }

    /// The message files it holds.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("mail")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if folder.ends_with("cur") || folder.ends_with("new") {
                    files.push(path);
                }
            }
        }
        files
    }
}
