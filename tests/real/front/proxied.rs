//! PROXY protocol: who the client is, told by a proxy in front of ours, and told by ours to the servers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;
use crate::lab::{Pop3, ports};

/// The proxy in front of ours; nobody else is believed.
const BALANCER: &str = "127.0.0.2";

fn bench() -> Bench {
    Bench::with(quick(&["u1"]), |spec| {
        spec.pop3 = true;
        spec.new_pop3 = Some("pop3://127.0.0.1:9".to_owned());
        spec.extra.push(("listen", "proxy_protocol = [\"127.0.0.2\"]"));
    })
}

/// A header of version 2 from 192.0.2.7:4242 to 192.0.2.1:143, with a note that is not ours to read.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 1, 16, 146, 0, 143]);
    header.extend([2, 0, 4]);
    header.extend(b"mail");
    header
}

/// What `port` says to `words` from `source`, until it closes.
fn heard(source: &str, port: u16, words: &[u8]) -> String {
    let mut socket = Imap::connect_silently(source, port).clone_socket();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.write_all(words).unwrap();
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn a_client_behind_a_trusted_proxy_is_known_by_its_own_address() {
    let bench = bench();
    // In TLS: the header comes before the handshake.
    for header in [b"PROXY TCP4 192.0.2.7 192.0.2.1 4242 993\r\n".to_vec(), version_2()] {
        let mut imap = Imap::connect_silently(BALANCER, bench.ferry.imaps());
        imap.send(&header);
        let mut imap = imap.encrypted(&bench.ferry.tls().ca);
        assert!(say(&mut imap).starts_with("* OK "));
        imap.login("u1", "pw-of-u1");
        imap.ok("LOGOUT");
    }
    let logins = bench.logins("u1");
    assert_eq!(logins.iter().filter(|line| line.contains("rip=192.0.2.7,")).count(), 2, "{logins:?}");
    // A login and an end, of each.
    bench.ferry.wait_logged_times("peer=192.0.2.7:4242", 4, LONG);
}

#[test]
fn cleartext_is_allowed_by_the_clients_address_and_not_by_the_proxys() {
    let bench = bench();
    let greeting = |client: &str| {
        let mut imap = Imap::connect_silently(BALANCER, bench.ferry.imap());
        imap.send(format!("PROXY TCP4 {client} 192.0.2.1 4242 143\r\n").as_bytes());
        (say(&mut imap), imap)
    };
    let (words, mut imap) = greeting("192.0.2.7");
    assert!(words.contains("LOGINDISABLED"), "{words}");
    assert!(imap.try_login("u1", "pw-of-u1").starts_with("NO "));
    let (words, mut imap) = greeting("127.0.0.9");
    assert!(!words.contains("LOGINDISABLED"), "{words}");
    imap.login("u1", "pw-of-u1");
    let pop3 = b"PROXY TCP4 127.0.0.10 192.0.2.1 4242 110\r\nUSER u1\r\nPASS pw-of-u1\r\nSTAT\r\nQUIT\r\n";
    let said = heard(BALANCER, bench.ferry.pop3(), pop3);
    assert!(said.contains("\r\n+OK 0 0\r\n"), "{said}");
    let log = bench.server.log();
    assert!(log.contains("rip=127.0.0.9,") && log.contains("rip=127.0.0.10,"), "{log}");
}

#[test]
fn a_proxy_that_does_not_know_its_client_is_its_own_client() {
    let bench = bench();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [b"PROXY UNKNOWN\r\n".as_slice(), local] {
        let said = heard(BALANCER, bench.ferry.imap(), &[header, b"a LOGIN u1 pw-of-u1\r\nb LOGOUT\r\n"].concat());
        assert!(said.starts_with("* OK ") && said.contains("\r\na OK "), "{said}");
    }
    let logins = bench.logins("u1");
    assert!(logins.iter().all(|line| line.contains("rip=127.0.0.2,")), "{logins:?}");
}

#[test]
fn a_trusted_proxy_that_names_nobody_gets_nothing() {
    let bench = bench();
    for words in [
        b"a LOGIN u1 pw-of-u1\r\nb LOGOUT\r\n".as_slice(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 1000000\r\na LOGIN u1 pw-of-u1\r\n",
        b"PROXY TCP4 11111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        assert_eq!(heard(BALANCER, bench.ferry.imap(), words), "");
    }
    bench.ferry.wait_logged_times("connection refused: ", 4, LONG);
    // A look whether the port is open costs nothing and is nothing to complain about.
    drop(TcpStream::connect(("127.0.0.1", bench.ferry.imap())).unwrap());
    assert_eq!(bench.logins("u1"), Vec::<String>::new());
}

#[test]
fn nobody_else_is_believed() {
    let bench = bench();
    let header = b"PROXY TCP4 127.0.0.9 192.0.2.1 4242 143\r\n";
    let said =
        heard("127.0.0.3", bench.ferry.imap(), &[header, b"a LOGIN u1 pw-of-u1\r\nb LOGOUT\r\n".as_slice()].concat());
    let mut lines = said.lines();
    assert!(lines.next().unwrap().starts_with("* OK "), "{said}");
    assert!(lines.next().unwrap().contains("BAD "), "a wrong command like any other: {said}");
    let logins = bench.logins("u1");
    assert!(logins.iter().all(|line| line.contains("rip=127.0.0.3,")) && logins.len() == 1, "{logins:?}");
    let said = heard("127.0.0.3", bench.ferry.pop3(), &[header, b"QUIT\r\n".as_slice()].concat());
    assert!(said.starts_with("+OK") && said.contains("\r\n-ERR "), "{said}");
}

/// A Dovecot whose IMAP and POP3, in clear and inside TLS, want a PROXY header and believe nothing else.
fn wants_headers() -> (Dovecot, [ports::Port; 3]) {
    let wanted: [ports::Port; 3] = std::array::from_fn(|_| ports::claim());
    let [imap, imaps, pop3] = wanted.each_ref().map(|port| port.number);
    let extra = format!(
        "haproxy_trusted_networks = 127.0.0.0/8\n\
         service imap-login {{\n  inet_listener imap_told {{\n    port = {imap}\n    haproxy = yes\n  }}\n  \
         inet_listener imaps_told {{\n    port = {imaps}\n    ssl = yes\n    haproxy = yes\n  }}\n}}\n\
         service pop3-login {{\n  inet_listener pop3_told {{\n    port = {pop3}\n    haproxy = yes\n  }}\n}}\n"
    );
    let spec = quick(&["u1"]);
    let server = Dovecot::start(Spec { trusted: false, extra: format!("{}{extra}", spec.extra), ..spec });
    (server, wanted)
}

#[test]
fn a_server_that_wants_a_header_is_told_its_clients_and_our_own_connections() {
    let (old, told) = wants_headers();
    let [imap, imaps, pop3] = told.each_ref().map(|port| port.number);
    let new = Dovecot::start(Spec::new_side(&["u1"]));
    let mut direct = Imap::connect(old.imap_port());
    direct.login("u1", "pw-of-u1");
    direct.append("INBOX", "", "", b"Subject: one\r\n\r\nx\r\n");
    for url in [format!("imap://127.0.0.1:{imap}"), format!("imaps://127.0.0.1:{imaps}")] {
        let mut ferry = Ferry::prepare(FerrySpec {
            enroll: "none",
            old_imap: Some(url),
            pop3: true,
            old_pop3: Some(format!("pop3://127.0.0.1:{pop3}")),
            extra: vec![("old", "proxy_protocol = true")],
            ..FerrySpec::between(&old, &new)
        });
        // Connections of our own, over IMAP and POP3.
        let password = ferry.password_file("pw-of-u1");
        let checked = ferry.run_ok(&["check", "u1", "--password-file", &password]);
        assert!(checked.contains("old imap       ok") && checked.contains("old pop3       ok"), "{checked}");
        ferry.start_again();
        let mut client = Imap::connect_from("127.0.0.5", ferry.imap());
        client.login("u1", "pw-of-u1");
        client.ok("LOGOUT");
        let mut pop3 = Pop3::connect_from("127.0.0.6", ferry.pop3());
        pop3.login("u1", "pw-of-u1");
        pop3.quit();
    }
    let logins = |protocol: &str, client: &str| {
        let log = old.log();
        let login = |line: &&str| line.contains(&format!("{protocol}-login: Info: Login: user=<u1>"));
        log.lines().filter(login).filter(|line| line.contains(&format!("rip={client},"))).count()
    };
    assert_eq!((logins("imap", "127.0.0.5"), logins("pop3", "127.0.0.6")), (2, 2), "{}", old.log());
    assert!(logins("pop3", "127.0.0.1") >= 2, "our own: {}", old.log());
}
