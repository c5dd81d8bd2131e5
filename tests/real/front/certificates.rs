//! Certificates as real TLS clients (openssl) see them, and their renewal under open sessions.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// A self-signed certificate and its key, made by openssl: `kind` as `-newkey` takes it.
fn make(folder: &Path, file: &str, kind: &[&str], host: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-extensions", "usr_cert", "-subj", &format!("/CN={file}")])
        .args(["-addext", &format!("subjectAltName=DNS:{host}")])
        .arg("-newkey")
        .args(kind)
        .arg("-keyout")
        .arg(folder.join(format!("{file}.key")))
        .arg("-out")
        .arg(folder.join(format!("{file}.pem")))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

const ECDSA: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["rsa:2048"];

/// What `openssl s_client` says of its connection to `port`.
fn s_client(port: u16, args: &[&str]) -> String {
    let mut child = Command::new("openssl")
        // Without -ign_eof it hangs up at the end of its input, whether or not a ticket has come by then.
        .args(["s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{port}")])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The server answers and closes: all that it has to say has been said then.
    let _ = child.stdin.take().unwrap().write_all(b"a LOGOUT\r\n");
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The name in the certificate that a client with these arguments is shown.
fn shown(port: u16, args: &[&str]) -> String {
    let said = s_client(port, args);
    let subject = said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_else(|| panic!("{said}"));
    subject.rsplit(['=', ' ']).next().unwrap().to_owned()
}

/// A proxy with two kinds of keys by default, and another certificate for another name.
fn bench() -> Bench {
    let server = Dovecot::start(quick(&["u1"]));
    let mut ferry = Ferry::prepare(one_sided(&server));
    let dir = ferry.dir().to_owned();
    make(&dir, "ecdsa", ECDSA, "localhost");
    make(&dir, "rsa", RSA, "localhost");
    make(&dir, "other", ECDSA, "other.example");
    let config = ferry.config_text();
    let (own, wanted) = (ferry.tls(), "cert = [\"ecdsa.pem\", \"rsa.pem\"]\nkey = [\"ecdsa.key\", \"rsa.key\"]\n");
    let written = format!("cert = \"{}\"\nkey = \"{}\"\n", own.cert.display(), own.key.display());
    let sni = "[[tls.sni]]\nnames = [\"other.example\"]\ncert = \"other.pem\"\nkey = \"other.key\"\n";
    let changed = config.replace(&written, &format!("{wanted}{sni}"));
    assert_ne!(config, changed);
    fs::write(ferry.config_path(), changed).unwrap();
    ferry.start_again();
    Bench { ferry, server }
}

#[test]
fn clients_are_shown_the_certificate_for_their_name_and_their_signatures() {
    let bench = bench();
    let port = bench.ferry.imaps();
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(shown(port, &[version]), "ecdsa", "{version}");
        assert_eq!(shown(port, &[version, "-servername", "unknown.example"]), "ecdsa", "{version}");
        assert_eq!(shown(port, &[version, "-servername", "other.example"]), "other", "{version}");
        assert_eq!(shown(port, &[version, "-sigalgs", "RSA-PSS+SHA256"]), "rsa", "{version}");
    }
    // STARTTLS is the same door.
    assert_eq!(shown(bench.ferry.imap(), &["-starttls", "imap", "-servername", "other.example"]), "other");
    let old = s_client(port, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(old.contains("Cipher is (NONE)") || old.contains("Cipher    : 0000"), "{old}");
}

#[test]
fn sessions_are_resumed_by_ticket() {
    let bench = bench();
    let (port, ticket) = (bench.ferry.imaps(), bench.ferry.dir().join("ticket.pem"));
    let ticket = ticket.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let first = s_client(port, &[version, "-sess_out", ticket]);
        assert!(first.contains("New, TLSv1."), "{first}");
        let second = s_client(port, &[version, "-sess_in", ticket]);
        assert!(second.contains("Reused, TLSv1."), "{second}");
    }
}

#[test]
fn a_reload_shows_new_clients_the_new_certificate_and_drops_nobody() {
    let bench = bench();
    let (dir, port) = (bench.ferry.dir().to_owned(), bench.ferry.imaps());
    let mut before = Imap::connect_tls(port, &dir.join("ecdsa.pem"));
    before.login("u1", "pw-of-u1");
    // Under the old names, with other names inside.
    make(&dir, "renewed", ECDSA, "localhost");
    fs::rename(dir.join("renewed.pem"), dir.join("ecdsa.pem")).unwrap();
    fs::rename(dir.join("renewed.key"), dir.join("ecdsa.key")).unwrap();
    make(&dir, "wrong", ECDSA, "not.other.example");
    fs::rename(dir.join("wrong.pem"), dir.join("other.pem")).unwrap();
    fs::rename(dir.join("wrong.key"), dir.join("other.key")).unwrap();
    bench.ferry.signal("HUP");
    wait_logged(&bench.ferry, "certificate and key reloaded");
    wait_logged(&bench.ferry, "not for other.example");
    assert_eq!(shown(port, &[]), "renewed");
    assert_eq!(shown(port, &["-servername", "other.example"]), "other", "the old one stays in use");
    let complaint = bench.ferry.log().lines().filter(|line| line.contains("of no use")).count();
    assert_eq!(complaint, 1, "{}", bench.ferry.log());
    assert!(bench.ferry.log().lines().any(|line| line.contains("ERROR") && line.contains("other.pem")));
    before.ok("NOOP");
}

#[test]
fn check_finds_a_certificate_of_no_use_before_a_start_does() {
    let bench = bench();
    let good = bench.ferry.run(&["check"]);
    assert!(!String::from_utf8_lossy(&good.stdout).contains("certificates"), "{good:?}");
    fs::copy(bench.ferry.dir().join("rsa.key"), bench.ferry.dir().join("other.key")).unwrap();
    let bad = bench.ferry.run(&["check"]);
    let said = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(said.contains("certificates   of no use: ") && said.contains("other.pem"), "{said}");
    assert_eq!(bad.status.code(), Some(1), "{said}");
}
