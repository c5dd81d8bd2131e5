//! Clients that people use: mpop, fetchmail, curl, and Python's poplib ([`super::heard`] has getmail).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::uidl::maildrop::{Mpop, shown};

/// A user with `count` messages.
fn mailbox(bench: &Bench, user: &str, count: usize) {
    for number in 1..=count {
        deliver(&bench.server, user, &numbered(number));
    }
}

/// Standard output of a command that must succeed.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn mpop_downloads_everything_once_and_nothing_twice() {
    let bench = Bench::start(&["u1"]);
    mailbox(&bench, "u1", 5);
    let (port, ports) = (bench.ferry.pop3(), bench.ferry.pop3s());
    let tls = format!("tls on\ntls_trust_file {}\n", bench.ferry.tls().ca.display());
    let ways = [
        (port, "auth user\ntls off\n".to_owned()),
        (port, "auth plain\ntls off\n".to_owned()),
        (port, format!("auth plain\n{tls}tls_starttls on\n")),
        (ports, format!("auth user\n{tls}tls_starttls off\n")),
    ];
    for (at, (port, way)) in ways.iter().enumerate() {
        let client = Mpop::new();
        // One who comes from the server itself has nothing to fetch either.
        let first = if at == 0 { bench.server.pop3_port() } else { *port };
        assert_eq!(
            client.run_with(first, "u1", "pw-of-u1", if at == 0 { "auth user\ntls off\n" } else { way }),
            5,
            "{way}"
        );
        assert_eq!(client.run_with(*port, "u1", "pw-of-u1", way), 0, "{way}");
        deliver(&bench.server, "u1", &numbered(6));
        assert_eq!(client.run_with(*port, "u1", "pw-of-u1", way), 1, "{way}");
        let mut direct = bench.direct("u1");
        direct.ok("DELE 6");
        direct.quit();
    }
    assert_eq!(shown(&bench.server, "u1").len(), 5, "everything was left on the server");
}

/// fetchmail with a memory of its own.
pub(crate) struct Fetchmail {
    folder: tempfile::TempDir,
}

impl Fetchmail {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mffetch").tempdir().unwrap();
        fs::create_dir(folder.path().join("mail")).unwrap();
        Self { folder }
    }

    /// Retrieves from `port` with the settings `poll` of the server and `user` of the user; how many messages.
    pub(crate) fn run(&self, port: u16, poll: &str, user: &str) -> usize {
        let dir = self.folder.path().display();
        let config = format!(
            "poll localhost service {port} protocol pop3 timeout 60 {poll}\n\
             user \"u1\" password \"pw-of-u1\" {user} mda \"cat >$(mktemp {dir}/mail/XXXXXX)\"\n"
        );
        let path = self.folder.path().join("fetchmailrc");
        fs::write(&path, config).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let before = self.count();
        let output = Command::new("fetchmail")
            .env("HOME", self.folder.path())
            .env("FETCHMAILHOME", self.folder.path())
            // As root it would have one lock for all.
            .arg("--pidfile")
            .arg(self.folder.path().join("pid"))
            .args(["--nosyslog", "-v", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .expect("fetchmail");
        // 1: there was no mail.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        self.count() - before
    }

    fn count(&self) -> usize {
        fs::read_dir(self.folder.path().join("mail")).unwrap().count()
    }
}

#[test]
fn fetchmail_leaves_mail_or_takes_it_away() {
    let bench = Bench::start(&["u1"]);
    mailbox(&bench, "u1", 4);
    let ca = bench.ferry.tls().ca.display();
    let client = Fetchmail::new();
    let stls = format!("keep sslproto \"TLS1+\" sslcertck sslcertfile \"{ca}\"");
    assert_eq!(client.run(bench.ferry.pop3(), "auth password uidl", &stls), 4);
    assert_eq!(client.run(bench.ferry.pop3(), "auth password uidl", &stls), 0);
    assert_eq!(shown(&bench.server, "u1").len(), 4);
    deliver(&bench.server, "u1", &numbered(5));
    let tls = format!("keep ssl sslcertck sslcertfile \"{ca}\"");
    assert_eq!(client.run(bench.ferry.pop3s(), "auth password uidl", &tls), 1);
    // Without keep it deletes what it has fetched; with `fetchall` that is everything.
    assert_eq!(client.run(bench.ferry.pop3(), "auth password", "fetchall sslproto \"\""), 5);
    assert_eq!(shown(&bench.server, "u1").len(), 0);
}

#[test]
fn curl_lists_and_retrieves_by_every_way_it_has() {
    let bench = Bench::start(&["u1"]);
    mailbox(&bench, "u1", 2);
    let mut direct = bench.direct("u1");
    let (list, uidl) = (direct.body("LIST"), direct.body("UIDL"));
    let second = direct.body("RETR 2");
    let (port, ports) = (bench.ferry.pop3(), bench.ferry.pop3s());
    let (clear, stls) = (format!("pop3://127.0.0.1:{port}/"), ["--ssl-reqd"]);
    let tls = format!("pop3s://127.0.0.1:{ports}/");
    for (url, ways) in [(&clear, &[][..]), (&clear, &stls), (&tls, &[])] {
        let by_login = ["--login-options", "AUTH=LOGIN"];
        for login in [&[][..], &["--sasl-ir"], &by_login, &["--sasl-ir", by_login[0], by_login[1]]] {
            let curl = |what: &str, more: &[&str]| {
                let mut command = Command::new("curl");
                command.args(["--silent", "--show-error", "--max-time", "60", "--user", "u1:pw-of-u1", "--cacert"]);
                command.arg(&bench.ferry.tls().ca).args(ways).args(login).args(more).arg(format!("{url}{what}"));
                run(&mut command).into_bytes()
            };
            assert_eq!(curl("", &[]), list, "{url} {ways:?} {login:?}");
            assert_eq!(curl("", &["--request", "UIDL"]), uidl);
            assert_eq!(curl("2", &[]), second);
        }
    }
    let wrong =
        Command::new("curl").args(["--silent", "--max-time", "60", "--user", "u1:wrong", &clear]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(67), "the login was denied");
}

/// Takes the two ports, the CA and a folder of nothing; prints what it saw.
const POPLIB: &str = r#"
import poplib, ssl, sys
port, ports, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)

def clear(): return poplib.POP3("localhost", port, timeout=60)
def stls():
    pop3 = clear()
    pop3.stls(context)
    return pop3
def tls(): return poplib.POP3_SSL("localhost", ports, timeout=60, context=context)

seen = []
for connect in (clear, stls, tls):
    pop3 = connect()
    assert "PLAIN" in pop3.capa()["SASL"], pop3.capa()
    assert ("STLS" in pop3.capa()) == (connect is clear), pop3.capa()
    try:
        pop3.user("u1")
        pop3.pass_("wrong")
        raise SystemExit("a wrong password was accepted")
    except poplib.error_proto as error:
        assert b"[AUTH]" in error.args[0], error
    pop3.user("u1")
    pop3.pass_("pw-of-u1")
    count, size = pop3.stat()
    lines = [pop3.retr(number)[1] for number in range(1, count + 1)]
    assert sum(len(line) + 2 for message in lines for line in message) == size, size
    tops = [pop3.top(number, 1)[1] for number in range(1, count + 1)]
    assert all(message[:len(top)] == top for message, top in zip(lines, tops))
    seen.append((pop3.list()[1], pop3.uidl()[1], lines, pop3.uidl(1)))
    pop3.dele(1)
    try:
        pop3.retr(1)
        raise SystemExit("a deleted message was retrieved")
    except poplib.error_proto:
        pass
    pop3.rset()
    pop3.noop()
    if connect is not tls:
        pop3.quit()
assert seen[0] == seen[1] == seen[2]
pop3.dele(2)
pop3.quit()
print(len(seen[0][0]), "messages")
"#;

#[test]
fn poplib_reads_and_deletes() {
    let bench = Bench::start(&["u1"]);
    mailbox(&bench, "u1", 3);
    let before = shown(&bench.server, "u1");
    let ports = [bench.ferry.pop3(), bench.ferry.pop3s()].map(|port| port.to_string());
    let ca: &Path = &bench.ferry.tls().ca;
    assert_eq!(run(Command::new("python3").args(["-c", POPLIB]).args(ports).arg(ca)), "3 messages\n");
    assert_eq!(shown(&bench.server, "u1"), [before[0].clone(), before[2].clone()]);
}
