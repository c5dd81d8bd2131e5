//! What POP3 shows on a server, read by a client that knows nothing of ours; and how an old side is given UIDLs and orders
//! of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{Dovecot, Served};

/// UIDL and size of each message, in the server's order.
pub(crate) type Shown = Vec<(String, u64)>;

/// An open POP3 session.
pub(crate) struct Session {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Session {
    pub(crate) fn open(port: u16, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut session = Self { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        assert!(session.line().starts_with("+OK"));
        for command in [format!("USER {user}"), format!("PASS {password}")] {
            let said = session.command(&command);
            assert!(said.starts_with("+OK"), "{user}: {said}");
        }
        session
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn command(&mut self, command: &str) -> String {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.line()
    }

    fn list(&mut self, command: &str) -> Vec<String> {
        let said = self.command(command);
        assert!(said.starts_with("+OK"), "{command}: {said}");
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "." {
                return lines;
            }
            lines.push(line.split_once(' ').unwrap().1.to_owned());
        }
    }

    pub(crate) fn shown(&mut self) -> Shown {
        let (uidls, sizes) = (self.list("UIDL"), self.list("LIST"));
        assert_eq!(uidls.len(), sizes.len());
        uidls.into_iter().zip(sizes.iter().map(|size| size.parse().unwrap())).collect()
    }
}

/// What `server` shows `user` over POP3.
pub(crate) fn shown(server: &dyn Served, user: &str) -> Shown {
    let mut session = Session::open(server.pop3_port(), user, &server.password(user));
    let shown = session.shown();
    session.command("QUIT");
    shown
}

/// Gives messages of a Maildir's INBOX UIDLs and orders of their own: `(UID, "P… O…")`.
pub(crate) fn set_fields(server: &Dovecot, user: &str, fields: &[(u32, String)]) {
    let path = server.mail_dir(user).join("dovecot-uidlist");
    let text = fs::read_to_string(&path).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        let (uid, rest) = line.split_once(' ').unwrap();
        let own = fields.iter().find(|(number, _)| number.to_string() == uid && !line.starts_with("3 V"));
        match own {
            // Fields of this kind that were there before are replaced.
            Some((_, own)) => {
                let (before, file) = rest.split_once(':').unwrap();
                let kept = before.split_whitespace().filter(|field| !field.starts_with(['P', 'O']));
                let kept = kept.collect::<Vec<_>>().join(" ");
                let blank = if kept.is_empty() { "" } else { " " };
                writeln!(out, "{uid} {kept}{blank}{own} :{file}").unwrap();
            }
            None => writeln!(out, "{line}").unwrap(),
        }
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, out).unwrap();
    server.give_to_mail_user(&fresh);
    fs::rename(fresh, path).unwrap();
    // What the server remembers of UIDLs.
    let _ = fs::remove_file(server.mail_dir(user).join("dovecot.index.cache"));
}

/// A POP3 client that leaves mail on the server and remembers what it has: mpop.
pub(crate) struct Mpop {
    folder: tempfile::TempDir,
}

impl Mpop {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mfmpop").tempdir().unwrap();
        for name in ["mail", "mail/cur", "mail/new", "mail/tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// Retrieves what is new; how many messages that were.
    pub(crate) fn run(&self, port: u16, user: &str, password: &str) -> usize {
        self.run_with(port, user, password, "auth user\ntls off\n")
    }

    /// The same, logging in as the settings `way` say.
    pub(crate) fn run_with(&self, port: u16, user: &str, password: &str, way: &str) -> usize {
        let dir = self.folder.path().display();
        let config = format!(
            "account a\nhost 127.0.0.1\nport {port}\nuser {user}\npassword {password}\n{way}keep on\n\
             only_new on\nuidls_file {dir}/uidls\ndelivery maildir {dir}/mail\naccount default : a\n"
        );
        let path = self.folder.path().join("mpoprc");
        fs::write(&path, config).unwrap();
        let mut rights = fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o600);
        fs::set_permissions(&path, rights).unwrap();
        let before = self.files().len();
        let output = Command::new("mpop").arg("-C").arg(&path).stdin(Stdio::null()).output().expect("mpop");
        assert!(output.status.success(), "{output:?}");
        self.files().len() - before
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path().join("mail/new")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}
