//! Clients that people use over IMAP: curl, mbsync, fetchmail, mutt and Python's imaplib, with every mechanism and kind of TLS that
//! each of them has. What they end up with is what they would have had without the proxy, and what they hear is the same to
//! the octet.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::lab::tap::{Talk, Tap};

/// What protects the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrap {
    Nothing,
    StartTls,
    Tls,
}

/// Where a client goes, and a folder of its own.
struct Errand<'a> {
    port: u16,
    wrap: Wrap,
    ca: &'a Path,
    folder: PathBuf,
}

/// What a client has in the end, by name.
type Catch = BTreeMap<String, Vec<u8>>;

/// A client with one way to log in; gives what it ends up with.
struct Client {
    name: &'static str,
    run: fn(&Errand<'_>) -> Catch,
}

const CLIENTS: [Client; 10] = [
    Client { name: "curl", run: |errand| curl(errand, &[]) },
    Client { name: "curl, SASL-IR", run: |errand| curl(errand, &["--sasl-ir"]) },
    Client { name: "curl, AUTHENTICATE LOGIN", run: |errand| curl(errand, &["--login-options", "AUTH=LOGIN"]) },
    Client { name: "mbsync, LOGIN", run: |errand| mbsync(errand, "LOGIN") },
    Client { name: "mbsync, PLAIN", run: |errand| mbsync(errand, "PLAIN") },
    Client { name: "fetchmail", run: fetchmail },
    Client { name: "mutt, PLAIN", run: |errand| mutt(errand, "plain") },
    Client { name: "mutt, LOGIN", run: |errand| mutt(errand, "login") },
    Client { name: "imaplib, LOGIN", run: |errand| imaplib(errand, "login") },
    Client { name: "imaplib, PLAIN", run: |errand| imaplib(errand, "plain") },
];

/// What was heard, without what the server's index has noticed by now; Python doubles the backslashes.
fn settled(octets: &[u8]) -> Vec<u8> {
    let mut text: String = octets.iter().map(|octet| char::from(*octet)).collect();
    for word in [" \\UnMarked", " \\\\UnMarked", " \\Marked", " \\\\Marked"] {
        text = text.replace(word, "");
    }
    text.chars().filter_map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{said}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    output.stdout
}

/// A file that only its owner may read.
fn secret_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn curl(errand: &Errand<'_>, login: &[&str]) -> Catch {
    let scheme = if errand.wrap == Wrap::Tls { "imaps" } else { "imap" };
    let ask = |what: &str, more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--user", "u1:pw-of-u1", "--cacert"]);
        command.arg(errand.ca).args(login).args(more);
        if errand.wrap == Wrap::StartTls {
            command.arg("--ssl-reqd");
        }
        output(command.arg(format!("{scheme}://localhost:{}/{what}", errand.port)))
    };
    let asked = [
        ("list", ask("", &[])),
        ("flags", ask("INBOX", &["--request", "UID FETCH 1:* (FLAGS INTERNALDATE)"])),
        ("second", ask("INBOX;UID=2", &[])),
        ("search", ask("two%20words", &["--request", "UID SEARCH ALL"])),
    ];
    asked.into_iter().map(|(name, got)| (name.to_owned(), settled(&got))).collect()
}

fn mbsync(errand: &Errand<'_>, mechanism: &str) -> Catch {
    let dir = errand.folder.display();
    let wrap = match errand.wrap {
        Wrap::Nothing => "None",
        Wrap::StartTls => "STARTTLS",
        Wrap::Tls => "IMAPS",
    };
    let (port, ca) = (errand.port, errand.ca.display());
    let config = format!(
        "IMAPAccount a\nHost localhost\nPort {port}\nUser u1\nPass pw-of-u1\nSSLType {wrap}\nSystemCertificates no\n\
         CertificateFile {ca}\nAuthMechs {mechanism}\n\nIMAPStore far\nAccount a\n\n\
         MaildirStore near\nPath {dir}/\nInbox {dir}/INBOX\nSubFolders Verbatim\n\n\
         Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nExpunge None\nSyncState *\n"
    );
    let path = errand.folder.join("mbsyncrc");
    fs::write(&path, config).unwrap();
    output(Command::new("mbsync").args(["-a", "-c"]).arg(&path).env("HOME", &errand.folder));
    let mut catch = Catch::new();
    for folder in ["INBOX", "two words"] {
        for entry in ["cur", "new"].iter().flat_map(|part| fs::read_dir(errand.folder.join(folder).join(part)).unwrap())
        {
            let path = entry.unwrap().path();
            // mbsync's names end with the UID and the flags.
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let (_, uid_and_flags) = name.split_once(",U=").unwrap();
            // It adds a line of its own, which is another each time.
            let message = fs::read(&path).unwrap();
            let lines = message.split_inclusive(|octet| *octet == b'\n');
            let theirs: Vec<_> = lines.filter(|line| !line.starts_with(b"X-TUID: ")).collect();
            catch.insert(format!("{folder} {uid_and_flags}"), theirs.concat());
        }
    }
    catch
}

fn fetchmail(errand: &Errand<'_>) -> Catch {
    let mail = errand.folder.join("mail");
    fs::create_dir(&mail).unwrap();
    let ca = errand.ca.display();
    let wrap = match errand.wrap {
        Wrap::Nothing => "sslproto \"\"".to_owned(),
        Wrap::StartTls => format!("sslproto \"TLS1+\" sslcertck sslcertfile \"{ca}\""),
        Wrap::Tls => format!("ssl sslcertck sslcertfile \"{ca}\""),
    };
    let path = errand.folder.join("fetchmailrc");
    let (port, mail) = (errand.port, mail.display());
    secret_file(
        &path,
        &format!(
            "poll localhost service {port} protocol imap timeout 60 auth password\n\
             user \"u1\" password \"pw-of-u1\" keep fetchall no rewrite {wrap} mda \"cat >$(mktemp {mail}/XXXXXX)\"\n"
        ),
    );
    let mut command = Command::new("fetchmail");
    command.env("HOME", &errand.folder).env("FETCHMAILHOME", &errand.folder);
    // As root it would have one lock for all.
    command.arg("--pidfile").arg(errand.folder.join("pid")).args(["--nosyslog", "--invisible", "-s", "-f"]).arg(&path);
    output(&mut command);
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.unwrap().path()).unwrap();
    let mut fetched: Vec<_> = fs::read_dir(errand.folder.join("mail")).unwrap().map(read).collect();
    fetched.sort();
    fetched.into_iter().enumerate().map(|(at, message)| (at.to_string(), message)).collect()
}

fn mutt(errand: &Errand<'_>, mechanism: &str) -> Catch {
    let (scheme, starttls) = match errand.wrap {
        Wrap::Nothing => ("imap", "unset ssl_starttls ssl_force_tls"),
        Wrap::StartTls => ("imap", "set ssl_starttls ssl_force_tls"),
        Wrap::Tls => ("imaps", "set ssl_force_tls"),
    };
    let (dir, ca, port) = (errand.folder.display(), errand.ca.display(), errand.port);
    let path = errand.folder.join("muttrc");
    secret_file(
        &path,
        &format!(
            "{starttls}\nset folder=\"\" record=\"\" header_cache=\"\" message_cachedir=\"\"\n\
             set imap_user=u1 imap_pass=pw-of-u1 imap_authenticators={mechanism}\n\
             set ssl_ca_certificates_file={ca} certificate_file={dir}/none\n\
             set mbox_type=mbox confirmappend=no confirmcreate=no delete=no copy=no quit=yes wait_key=no mail_check=0\n\
             push \"<tag-pattern>~A<enter><tag-prefix><copy-message>{dir}/copied<enter><exit>\"\n"
        ),
    );
    let line = format!("mutt -n -F {} -f {scheme}://u1@localhost:{port}/INBOX", path.display());
    // It wants a terminal.
    let mut command = Command::new("timeout");
    command.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "vt100").env("HOME", &errand.folder);
    let shown = output(&mut command);
    let copied = fs::read(errand.folder.join("copied"))
        .unwrap_or_else(|_| panic!("mutt copied nothing: {}", shown.escape_ascii()));
    // (The line before each message says when it was written there.)
    let kept: Vec<_> =
        copied.split_inclusive(|octet| *octet == b'\n').filter(|line| !line.starts_with(b"From ")).collect();
    Catch::from([("copied".to_owned(), kept.concat())])
}

/// Takes the port, the wrap, the CA and the mechanism; prints what it got.
const IMAPLIB: &str = r#"
import imaplib, random, ssl, sys
random.seed(1)  # or its tags are others each time
port, wrap, ca, mechanism = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=ca)
if wrap == "Tls": imap = imaplib.IMAP4_SSL("localhost", port, ssl_context=context)
else: imap = imaplib.IMAP4("localhost", port)
if wrap == "StartTls": imap.starttls(context)
if mechanism == "login": imap.login("u1", "pw-of-u1")
else: imap.authenticate("PLAIN", lambda _: b"\0u1\0pw-of-u1")
print(imap.list())
print(imap.status('"two words"', "(MESSAGES UIDNEXT UIDVALIDITY)"))
print(imap.select("INBOX", readonly=True))
print(imap.uid("SEARCH", None, "ALL"))
print(imap.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"))
print(imap.logout()[0])
"#;

fn imaplib(errand: &Errand<'_>, mechanism: &str) -> Catch {
    let mut command = Command::new("python3");
    command
        .args(["-c", IMAPLIB, &errand.port.to_string(), &format!("{:?}", errand.wrap)])
        .arg(errand.ca)
        .arg(mechanism);
    Catch::from([("printed".to_owned(), settled(&output(&mut command)))])
}

/// A server whose mailboxes are read by all of them at once, and change no more.
fn library() -> Bench {
    const DATE: &str = "17-Jul-1996 02:44:25 -0700";
    let bench = Bench::start(&["u1"]);
    let mut imap = bench.direct("u1");
    imap.ok("CREATE \"two words\"");
    for number in 1..=4 {
        let text = format!(
            "From: a@example.net\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= {number}\r\nMessage-ID: <{number}@example.net>\r\n\
             Date: Fri, 27 Nov 2026 08:00:0{number} +0100\r\n\r\n* {number} FETCH {{12}}\r\n.\r\n..\r\nend\r\n"
        );
        imap.append("INBOX", "\\Seen", DATE, text.as_bytes());
        imap.append("two words", "\\Seen $Work", DATE, text.as_bytes());
    }
    imap.append("INBOX", "\\Seen \\Flagged", DATE, &message(300_000));
    imap.ok("SELECT INBOX");
    imap.ok("SELECT \"two words\"");
    imap.ok("LOGOUT");
    bench
}

#[test]
fn every_client_by_every_way_has_what_it_would_have_without_us() {
    let bench = library();
    let ca = &bench.ferry.tls().ca;
    let folder = tempfile::Builder::new().prefix("mfclients").tempdir().unwrap();
    std::thread::scope(|scope| {
        for (at, client) in CLIENTS.iter().enumerate() {
            let (bench, folder) = (&bench, folder.path().join(at.to_string()));
            scope.spawn(move || {
                let run = |port, wrap| {
                    let folder = folder.join(format!("{port}-{wrap:?}"));
                    fs::create_dir_all(&folder).unwrap();
                    (client.run)(&Errand { port, wrap, ca, folder })
                };
                let own = run(bench.server.imap_port(), Wrap::Nothing);
                assert!(!own.is_empty() && own.values().all(|got| !got.is_empty()), "{}: {own:?}", client.name);
                let (imap, imaps) = (bench.ferry.imap(), bench.ferry.imaps());
                for (port, wrap) in [(imap, Wrap::Nothing), (imap, Wrap::StartTls), (imaps, Wrap::Tls)] {
                    let ours = run(port, wrap);
                    let shown = |catch: &Catch| {
                        let each = catch.iter().map(|(name, got)| format!("{name}: {}\n", got.escape_ascii()));
                        each.collect::<String>()
                    };
                    assert!(
                        ours == own,
                        "{}, {wrap:?}\nwithout: {}\nthrough: {}",
                        client.name,
                        shown(&own),
                        shown(&ours)
                    );
                }
            });
        }
    });
}

/// What a server says behind the login, without the time that it says commands have taken.
fn behind_login(talk: &Talk) -> Vec<u8> {
    let heard = talk.heard();
    let login = b"Logged in\r\n";
    let at = heard.windows(login.len()).position(|window| window == login).expect("a login");
    let lines = heard[at + login.len()..].split_inclusive(|octet| *octet == b'\n');
    let without_time = |line: &[u8]| match line.windows(2).rposition(|pair| pair == b" (") {
        Some(at) if line.ends_with(b" secs).\r\n") => line[..at].to_vec(),
        _ => line.to_vec(),
    };
    settled(&lines.flat_map(without_time).collect::<Vec<_>>())
}

#[test]
fn what_clients_hear_behind_their_login_is_the_same_to_the_octet() {
    let bench = library();
    let ca = &bench.ferry.tls().ca;
    let (direct, through) = (Tap::to(bench.server.imap_port()), Tap::to(bench.ferry.imap()));
    let folder = tempfile::Builder::new().prefix("mfheard").tempdir().unwrap();
    for (at, client) in CLIENTS.iter().enumerate() {
        let [own, ours] = [&direct, &through].map(|tap| {
            let before = tap.count();
            let folder = folder.path().join(format!("{at}-{}", tap.port));
            fs::create_dir(&folder).unwrap();
            (client.run)(&Errand { port: tap.port, wrap: Wrap::Nothing, ca, folder });
            tap.since(before).iter().map(behind_login).collect::<Vec<_>>()
        });
        assert!(!own.is_empty() && own.iter().all(|heard| heard.len() > 20), "{}: heard nothing", client.name);
        assert_eq!(own.len(), ours.len(), "{}: connections", client.name);
        for (own, ours) in own.iter().zip(&ours) {
            assert!(own == ours, "{}\nwithout: {}\nthrough: {}", client.name, own.escape_ascii(), ours.escape_ascii());
        }
    }
}
