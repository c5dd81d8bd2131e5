//! Start, reload and end, as a service manager sees them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::lab::ports;

/// What a client that was let in hears to the end.
fn heard_to_the_end(mut socket: TcpStream) -> String {
    let mut heard = String::new();
    // A reset at the end is how a connection ends whose client still speaks.
    let _ = socket.read_to_string(&mut heard);
    heard
}

/// One client that comes in the middle of a restart: it must be let in, greeted, and answered or told to come back.
fn comes_by(port: u16) -> Result<bool, String> {
    let mut socket = match TcpStream::connect(("127.0.0.1", port)) {
        Ok(socket) => socket,
        // Our own side's ports are used up: no fault of the proxy.
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => return Ok(false),
        Err(error) => return Err(format!("not connected: {error}")),
    };
    socket.set_read_timeout(Some(LONG)).unwrap();
    let _ = socket.write_all(b"a LOGIN u1 pw-of-u1\r\nb LOGOUT\r\n");
    let heard = heard_to_the_end(socket);
    let served = heard.starts_with("* OK ") && heard.contains("\r\na OK ");
    let told = heard.contains("* BYE [UNAVAILABLE] ");
    if served || told { Ok(served) } else { Err(format!("heard {heard:?}")) }
}

#[test]
fn a_restart_on_sockets_that_somebody_holds_refuses_nobody() {
    let server = Dovecot::start(quick(&["u1"]));
    let mut ferry = Ferry::prepare(one_sided(&server));
    // One is found by its address, the other one by its name: the configuration has another port.
    let by_address = TcpListener::bind(("127.0.0.1", ferry.imap())).unwrap();
    let named = ports::claim();
    let by_name = TcpListener::bind(("127.0.0.1", named.number)).unwrap();
    ferry.start_holding("mailferry.socket:imaps", [&by_address, &by_name]);
    let port = ferry.imap();

    let (enough, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let refused: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut refused = Vec::new();
                    while !enough.load(Ordering::SeqCst) {
                        match comes_by(port) {
                            Ok(true) => drop(served.fetch_add(1, Ordering::SeqCst)),
                            Ok(false) => {}
                            Err(how) => refused.push(how),
                        }
                    }
                    refused
                })
            })
            .collect();
        for round in 1..=3 {
            wait_for("clients to be served", LONG, || (served.load(Ordering::SeqCst) >= 5 * round).then_some(()));
            assert!(ferry.stop(), "it ended by itself:\n{}", ferry.log());
            // Nobody serves now: clients wait in the sockets.
            ferry.start_holding("mailferry.socket:imaps", [&by_address, &by_name]);
        }
        let before = served.load(Ordering::SeqCst);
        wait_for("clients to be served again", LONG, || (served.load(Ordering::SeqCst) >= before + 5).then_some(()));
        enough.store(true, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(refused, Vec::<String>::new());
    let mut tls = Imap::connect_tls(named.number, &ferry.tls().ca);
    tls.login("u1", "pw-of-u1");
    assert_eq!(ferry.log().matches("listening on the socket that was passed").count(), 8, "{}", ferry.log());
}

#[test]
fn a_socket_that_the_configuration_does_not_want_is_named() {
    let server = Dovecot::start(quick(&["u1"]));
    let ferry = Ferry::prepare(one_sided(&server));
    let stray = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$@\"";
    let serve = ferry.command(&["serve"]);
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(stray.try_clone().unwrap())))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let address = stray.local_addr().unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("the socket {address}, passed as \"web\"")), "{said}");
}

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    fn hears(&self) -> String {
        let mut buffer = [0; 1024];
        let count = self.0.recv(&mut buffer).expect("a word from mailferry");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_end() {
    let server = Dovecot::start(quick(&["u1"]));
    let mut ferry = Ferry::prepare(one_sided(&server));
    let path = ferry.dir().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(LONG)).unwrap();
    ferry.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
    let (imap, imaps) = (ferry.imap(), ferry.imaps());
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let ready = manager.hears();
            // Whoever is told that we are ready may send clients at once.
            (ready, [imap, imaps].map(|port| TcpStream::connect(("127.0.0.1", port)).is_ok()))
        });
        ferry.start_again();
        let (ready, reached) = started.join().unwrap();
        assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
        assert_eq!(reached, [true, true]);
    });
    ferry.signal("HUP");
    let reloading = manager.hears();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(manager.hears().starts_with("READY=1\n"));
    // Nobody has lost anything by it.
    Imap::connect(imap).login("u1", "pw-of-u1");
    assert!(ferry.stop());
    let stopping = manager.hears();
    assert!(stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="), "{stopping}");
    assert!(stopping.contains("\nSTATUS=Ending: "), "{stopping}");
}

/// A session whose command does not come to its end, because its client does not read.
fn stuck(bench: &Bench) -> Imap {
    bench.direct("u1").append("INBOX", "", "", &message(20_000_000));
    let mut imap = bench.session("u1");
    imap.select("INBOX");
    imap.send(b"a FETCH 1 BODY.PEEK[]\r\n");
    assert!(imap.hears_within(LONG));
    imap
}

#[test]
fn a_second_sigterm_waits_for_nobody() {
    let mut bench = Bench::start(&["u1"]);
    let _stuck = stuck(&bench);
    bench.ferry.signal("TERM");
    wait_logged(&bench.ferry, "ending: sessions are told");
    bench.ferry.signal("INT");
    wait_for("the end", LONG, || (!bench.ferry.is_running()).then_some(()));
    assert!(bench.ferry.log().contains("told to end a second time"), "{}", bench.ferry.log());
    bench.ferry.stop();
    bench.ferry.start_again();
    bench.session("u1").ok("NOOP");
}

#[test]
fn a_client_that_does_not_end_its_handshake_does_not_keep_the_server() {
    let mut bench = Bench::start(&["u1"]);
    let half_open = TcpStream::connect(("127.0.0.1", bench.ferry.imaps())).unwrap();
    let mut starttls = bench.client();
    starttls.ok("STARTTLS");
    assert!(bench.ferry.stop(), "it ended by itself:\n{}", bench.ferry.log());
    assert!(!bench.ferry.log().contains("cut off"), "{}", bench.ferry.log());
    assert_eq!(heard_to_the_end(half_open), "");
}

#[test]
fn few_descriptors_are_raised_or_else_said_with_the_number_of_clients_that_fit() {
    let server = Dovecot::start(quick(&["u1"]));
    let serve_with = |limit: &str| {
        let mut ferry = Ferry::prepare(one_sided(&server));
        let script = format!("ulimit {limit}; exec \"$@\"");
        let serve = ferry.command(&["serve"]);
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(serve.get_program()).args(serve.get_args());
        ferry.start_by(&mut command);
        let limits = fs::read_to_string(format!("/proc/{}/limits", ferry.id())).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<String> = files.split_whitespace().skip(3).map(str::to_owned).collect();
        let log = ferry.log();
        assert!(ferry.stop());
        (numbers, log)
    };
    let (numbers, _) = serve_with("-Sn 100");
    assert_eq!(numbers[0], numbers[1], "the soft limit is raised to the hard one");
    let (numbers, log) = serve_with("-n 1128");
    assert_eq!(numbers[..2], ["1128", "1128"]);
    assert!(log.contains("only 500 clients fit into 1128 file descriptors, not limits.connections = 10000"), "{log}");
}
