//! Logins while the gate of their user is closed: they wait, and then land on the new side.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::copy::{Pair, assert_equal_everywhere, shown};
use crate::lab::nasty;

/// Forwards connections to a server. While it is held, nothing that clients say on connections made before goes on.
struct Ford {
    port: u16,
    held: Arc<AtomicBool>,
    /// Looked at for each piece that comes from a client: from then on it is held until it is released.
    watching: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Ford {
    fn to(server: u16, watching: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ford =
            Self { port: listener.local_addr().unwrap().port(), held: Arc::new(AtomicBool::new(true)), watching };
        let (held, watching) = (Arc::clone(&ford.held), Arc::clone(&ford.watching));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let exempt = watching();
                let (held, watching) = (Arc::clone(&held), Arc::clone(&watching));
                let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    carry(client, server, || {
                        while !exempt && held.load(Ordering::SeqCst) && watching() {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    });
                });
                std::thread::spawn(move || carry(back_from, back_to, || {}));
            }
        });
        ford
    }

    fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, before: impl Fn()) {
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        before();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Sets it however a thread ends: otherwise one that fails would leave the others running.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What the proxy logs of a login that a side has accepted.
const LOGGED_IN: &str = "logged in user=\"u1\" side=";

#[test]
fn logins_during_the_switch_wait_and_land_on_the_new_side() {
    const CLIENTS: usize = 6;
    let pair = Pair::start(&["u1", "u2"]);
    let account = nasty::bulk(&pair.old, "u1", 1500, 1000);
    let log_path = Arc::new(std::sync::OnceLock::<std::path::PathBuf>::new());
    let closed = {
        let log_path = Arc::clone(&log_path);
        Arc::new(move || {
            log_path.get().is_some_and(|path| fs::read_to_string(path).is_ok_and(|log| log.contains("gate closed")))
        })
    };
    let ford = Ford::to(pair.old.imap_port(), closed.clone());
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        max_pause: "30s",
        old_imap: Some(format!("imap://127.0.0.1:{}", ford.port)),
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    log_path.set(ferry.dir().join("ferry.log")).unwrap();
    let log_in = |user: &str| {
        let mut imap = Imap::connect(ferry.imap());
        imap.login(user, pair.old.password(user));
        imap
    };
    log_in("u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);

    let (done, begun, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (done, begun, answered) = (&done, &begun, &answered);
            let log_in = &log_in;
            scope.spawn(move || {
                let _end = SetAtEnd(done);
                while !done.load(Ordering::SeqCst) {
                    begun.fetch_add(1, Ordering::SeqCst);
                    // Panics unless it is answered OK.
                    let mut session = log_in("u1");
                    let tag = session.start("LOGOUT");
                    let (told, _) = session.read_to_end(LONG);
                    let told = String::from_utf8_lossy(&told).into_owned();
                    // The gate may have closed on a session between its login and its goodbye.
                    let moved = "* BYE [UNAVAILABLE] Your mailbox has been moved, connect again.\r\n";
                    assert!(told.contains(&format!("{tag} OK ")) || told == moved, "{told}");
                    answered.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(150 + 40 * client as u64));
                }
            });
        }
        scope.spawn(|| {
            let _end = SetAtEnd(&done);
            wait_for("the gate to close", LONG, || closed().then_some(()));
            // Everybody comes to the gate and stands there.
            wait_for("all to wait", LONG, || {
                (begun.load(Ordering::SeqCst) == answered.load(Ordering::SeqCst) + CLIENTS).then_some(())
            });
            let let_in = || ferry.log().matches(LOGGED_IN).count();
            let (before, mut one) = (let_in(), Imap::connect(ferry.imap()));
            let tag = one.start(&format!("{}\r\nnext SELECT INBOX", login_command("u1", "pw-of-u1")));
            // Another user is not concerned.
            log_in("u2").ok("NOOP");
            assert!(!one.hears_within(Duration::from_millis(300)), "held");
            assert_eq!(let_in(), before, "all are held");
            assert_eq!(ferry.status("u1")["phase"], "switching");
            ford.release();
            assert!(one.finish(&tag).0.starts_with("OK "));
            let (tagged, untagged) = one.finish("next");
            assert!(
                tagged.starts_with("OK ") && untagged.contains(&b"* 1500 EXISTS".to_vec()),
                "{tagged} {untagged:?}"
            );
        });
        scope.spawn(|| {
            let mut tried = 0;
            while !done.load(Ordering::SeqCst) {
                let output = ferry.run(&["switch", "u1"]);
                tried += 1;
                match output.status.code() {
                    Some(0) => return,
                    // There was somebody every time it looked.
                    Some(75) if tried < 50 => {}
                    _ => panic!("{}", shown(&output)),
                }
            }
        });
    });
    let status = ferry.wait_phase("u1", "new", LONG);
    assert_eq!(status["authority"], "new");

    // One process wrote these lines, in this order.
    let log = ferry.log();
    let position = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words:?} in\n{log}"));
    let (closed_at, switched_at) = (position("gate closed"), position("verified and switched"));
    let sides: Vec<(usize, &str)> =
        log.match_indices(LOGGED_IN).map(|(at, found)| (at, log[at + found.len()..].lines().next().unwrap())).collect();
    assert!(sides.len() > 2 * CLIENTS, "{}\n{log}", sides.len());
    for (at, side) in &sides {
        match *side {
            "old" => assert!(*at < closed_at, "a login was served by the old side after the gate had closed"),
            "new" => assert!(*at > switched_at, "a login was served by the new side before the switch"),
            other => panic!("{other}"),
        }
    }
    // And the servers saw as many as we did, besides our own.
    let old = logins(&pair.old, "u1").len();
    let (through_old, through_new) = (
        sides.iter().filter(|(_, side)| *side == "old").count(),
        sides.iter().filter(|(_, side)| *side == "new").count(),
    );
    assert!(through_new > CLIENTS && old >= through_old, "{through_old} old, {through_new} new, {old} seen");
    for _ in 0..3 {
        log_in("u1").ok("LOGOUT");
    }
    assert_eq!(logins(&pair.old, "u1").len(), old, "nobody is sent to the old side any more");
    assert_equal_everywhere(&ferry, &pair, &account);
}
