//! Sessions of real clients, recorded: what each of them hears behind its login is the same to the octet with us and without.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::clients::Fetchmail;
use super::*;
use crate::lab::Tap;
use crate::lab::tap::Talk;
use crate::uidl::maildrop::Mpop;

/// A client that retrieves everything from a port, without TLS, and leaves it there.
struct Client {
    name: &'static str,
    run: fn(u16),
}

const CLIENTS: [Client; 8] = [
    Client { name: "mpop, USER", run: |port| mpop(port, "user") },
    Client { name: "mpop, PLAIN", run: |port| mpop(port, "plain") },
    Client { name: "mpop, LOGIN", run: |port| mpop(port, "login") },
    Client { name: "fetchmail", run: fetchmail },
    Client { name: "curl", run: |port| curl(port, &[]) },
    Client { name: "curl, AUTH LOGIN", run: |port| curl(port, &["--login-options", "AUTH=LOGIN"]) },
    Client { name: "poplib", run: poplib },
    Client { name: "getmail", run: |port| getmail(port, "SimplePOP3Retriever", None, 3) },
];

/// Runs a command that must succeed.
fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn mpop(port: u16, mechanism: &str) {
    assert_eq!(Mpop::new().run_with(port, "u1", "pw-of-u1", &format!("auth {mechanism}\ntls off\n")), 3);
}

fn fetchmail(port: u16) {
    assert_eq!(Fetchmail::new().run(port, "auth password uidl", "keep sslproto \"\""), 3);
}

fn curl(port: u16, login: &[&str]) {
    for (what, more) in [("", &[][..]), ("", &["--request", "UIDL"]), ("3", &[])] {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--user", "u1:pw-of-u1"]).args(login).args(more);
        done(command.arg(format!("pop3://127.0.0.1:{port}/{what}")));
    }
}

fn poplib(port: u16) {
    const ASK: &str = "import poplib, sys\n\
        pop3 = poplib.POP3('localhost', int(sys.argv[1]), timeout=60)\n\
        pop3.user('u1'); pop3.pass_('pw-of-u1')\n\
        print(pop3.stat(), pop3.list(), pop3.uidl(), pop3.capa())\n\
        for number in (1, 2, 3): pop3.top(number, 2); pop3.retr(number)\n\
        pop3.dele(1); pop3.rset(); pop3.noop(); pop3.quit()\n";
    done(Command::new("python3").args(["-c", ASK, &port.to_string()]));
}

/// Retrieves `expected` messages with a memory of its own.
fn getmail(port: u16, kind: &str, ca: Option<&Path>, expected: usize) {
    let folder = tempfile::Builder::new().prefix("mfgetmail").tempdir().unwrap();
    let dir = folder.path();
    fs::create_dir(dir.join("mail")).unwrap();
    let ca = ca.map_or_else(String::new, |ca| format!("ca_certs = {}\n", ca.display()));
    let config = format!(
        "[retriever]\ntype = {kind}\nserver = localhost\nport = {port}\nusername = u1\npassword = pw-of-u1\n{ca}\
         [destination]\ntype = MDA_external\nallow_root_commands = true\npath = /bin/sh\n\
         arguments = (\"-c\", \"cat >$(mktemp {}/mail/XXXXXX)\")\n[options]\nread_all = false\ndelete = false\n",
        dir.display()
    );
    fs::write(dir.join("rc"), config).unwrap();
    // The second time it remembers by UIDL.
    for _ in 0..2 {
        done(Command::new("getmail").env("HOME", dir).arg("--getmaildir").arg(dir).args(["--rcfile", "rc"]));
        assert_eq!(fs::read_dir(dir.join("mail")).unwrap().count(), expected);
    }
}

/// What a server says behind the login.
fn behind_login(talk: &Talk) -> Vec<u8> {
    let heard = talk.heard();
    let login = b"+OK Logged in.\r\n";
    let at = heard.windows(login.len()).position(|window| window == login).expect("a login");
    heard[at + login.len()..].to_vec()
}

fn bench() -> Bench {
    let bench = Bench::start(&["u1"]);
    for raw in [numbered(1), large(300_000), numbered(3)] {
        deliver(&bench.server, "u1", &raw);
    }
    bench
}

#[test]
fn what_clients_hear_behind_their_login_is_the_same_to_the_octet() {
    let bench = bench();
    let (direct, through) = (Tap::to(bench.server.pop3_port()), Tap::to(bench.ferry.pop3()));
    for client in &CLIENTS {
        let [own, ours] = [&direct, &through].map(|tap| {
            let before = tap.count();
            (client.run)(tap.port);
            tap.since(before).iter().map(behind_login).collect::<Vec<_>>()
        });
        assert!(!own.is_empty() && own.iter().all(|heard| heard.len() > 20), "{}: heard nothing", client.name);
        assert_eq!(own.len(), ours.len(), "{}: connections", client.name);
        for (own, ours) in own.iter().zip(&ours) {
            assert!(own == ours, "{}\nwithout: {}\nthrough: {}", client.name, own.escape_ascii(), ours.escape_ascii());
        }
    }
}

#[test]
fn getmail_downloads_everything_once_also_by_tls() {
    let bench = bench();
    getmail(bench.ferry.pop3(), "SimplePOP3Retriever", None, 3);
    getmail(bench.ferry.pop3s(), "SimplePOP3SSLRetriever", Some(&bench.ferry.tls().ca), 3);
}
