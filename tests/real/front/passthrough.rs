//! `[[passthrough]]`: other services' connections, handed through as they are.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::*;
use crate::lab::ports;

/// A proxy that hands a port of its own through to `to`.
fn before(server: &Dovecot, to: u16, more: &str, change: impl FnOnce(&mut FerrySpec<'_>)) -> (Ferry, ports::Port) {
    let port = ports::claim();
    let door = format!("listen = \"127.0.0.1:{}\"\nto = \"127.0.0.1:{to}\"\n{more}", port.number);
    let mut spec = one_sided(server);
    spec.extra.push(("[passthrough]", &door));
    change(&mut spec);
    (Ferry::start(spec), port)
}

#[test]
fn a_service_that_we_know_nothing_of_is_reached_through_us() {
    let server = Dovecot::start(quick(&["u1"]));
    let (_ferry, lmtp) = before(&server, server.lmtp_port(), "", |_| {});
    let mut socket = TcpStream::connect(("127.0.0.1", lmtp.number)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let (envelope, mail) =
        ("LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<u1>\r\nDATA\r\n", "Subject: through\r\n\r\nx\r\n.\r\nQUIT\r\n");
    socket.write_all(envelope.as_bytes()).unwrap();
    socket.write_all(mail.as_bytes()).unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    assert!(said.contains("Saved"), "{said}");
    let mut imap = Imap::connect(server.imap_port());
    imap.login("u1", "pw-of-u1");
    assert_eq!(imap.select("INBOX").exists, 1);
}

#[test]
fn the_server_is_told_the_clients_address_if_it_wants_to_know() {
    let told = ports::claim();
    let spec = quick(&["u1"]);
    let extra = format!(
        "{}haproxy_trusted_networks = 127.0.0.0/8\nservice imap-login {{\n  inet_listener told {{\n    port = {}\n    \
         haproxy = yes\n  }}\n}}\n",
        spec.extra, told.number
    );
    let server = Dovecot::start(Spec { extra, trusted: false, ..spec });
    let (ferry, through) = before(&server, told.number, "proxy_protocol = true", |spec| {
        spec.extra.push(("listen", "proxy_protocol = [\"127.0.0.2\"]"));
    });
    Imap::connect_from("127.0.0.5", through.number).login("u1", "pw-of-u1");
    // From a proxy in front of us to the server behind us.
    let mut proxied = Imap::connect_silently("127.0.0.2", through.number);
    proxied.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4242 143\r\n");
    assert!(say(&mut proxied).starts_with("* OK "));
    proxied.login("u1", "pw-of-u1");
    let logins = logins_named(&server);
    assert!(logins.iter().any(|line| line.contains("rip=127.0.0.5,")), "{logins:?}");
    assert!(logins.iter().any(|line| line.contains("rip=192.0.2.7,")), "{logins:?}");
    drop(proxied);
    wait_logged(&ferry, "peer=192.0.2.7:4242");
}

fn logins_named(server: &Dovecot) -> Vec<String> {
    server.log().lines().filter(|line| line.contains("imap-login: Info: Login:")).map(str::to_owned).collect()
}

/// A server of one connection that says how much it heard once the client has said all, or does nothing at all.
fn counting() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_client_that_has_said_all_hears_what_the_server_says_then() {
    let server = Dovecot::start(quick(&["u1"]));
    let (listener, port) = counting();
    let (_ferry, through) = before(&server, port, "", |_| {});
    let counts = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        tcp.read_to_end(&mut heard).unwrap();
        tcp.write_all(format!("{}\r\n", heard.len()).as_bytes()).unwrap();
    });
    let mut client = TcpStream::connect(("127.0.0.1", through.number)).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(&vec![b'x'; 5_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "5000000\r\n");
    counts.join().unwrap();
}

#[test]
fn a_server_that_does_not_read_stops_its_client_and_costs_no_memory() {
    let server = Dovecot::start(quick(&["u1"]));
    let (listener, port) = counting();
    let (ferry, through) = before(&server, port, "", |_| {});
    let before = ferry.peak_rss_kib();
    let mut client = TcpStream::connect(("127.0.0.1", through.number)).unwrap();
    let _server = listener.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let much = vec![b'x'; 1 << 20];
    let taken = (0..512).find(|_| client.write_all(&much).is_err());
    assert!(taken.is_some(), "512 MB were taken in");
    let grown = ferry.peak_rss_kib() - before;
    assert!(grown < 6 * 1024, "{grown} KiB more");
}

#[test]
fn connections_have_a_limit_and_an_end_with_the_server() {
    let server = Dovecot::start(quick(&["u1"]));
    let (listener, port) = counting();
    let (mut ferry, through) = before(&server, port, "", |spec| {
        spec.extra.push(("limits", "connections = 2\ndrain = \"1s\""));
    });
    let connect = || {
        let socket = TcpStream::connect(("127.0.0.1", through.number)).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    };
    let places = wait_for("the start's own look to be over", LONG, || {
        let places = [connect(), connect()];
        listener.set_nonblocking(true).unwrap();
        let accepted: Vec<_> = (0..2)
            .map_while(|_| {
                let until = std::time::Instant::now() + Duration::from_secs(5);
                loop {
                    match listener.accept() {
                        Ok((tcp, _)) => return Some(tcp),
                        Err(_) if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                        Err(_) => return None,
                    }
                }
            })
            .collect();
        (accepted.len() == 2).then_some((places, accepted))
    });
    let ([mut first, mut second], _accepted) = places;
    assert_eq!(connect().read(&mut [0; 8]).unwrap_or(0), 0, "there is no place");
    assert!(ferry.log().contains("limits.connections is reached"), "{}", ferry.log());
    assert!(ferry.stop(), "it ended by itself:\n{}", ferry.log());
    for socket in [&mut first, &mut second] {
        assert_eq!(socket.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    assert!(!ferry.log().contains("cut off"), "{}", ferry.log());
}
