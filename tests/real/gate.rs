//! What happens inside the gate itself: the old side changes after the last delta.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, shown};
use crate::lab::account::Message;
use crate::lab::{Ferry, FerrySpec, Imap, nasty};

const LONG: Duration = Duration::from_secs(120);

/// Stands between the proxy and the old side, counts LIST commands once the gate is closed, and does `act` before it lets
/// number `at` pass. The look at an account is two of them: mailboxes, subscriptions.
fn meddle(server: u16, log: Arc<OnceLock<PathBuf>>, at: usize, act: impl Fn() + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (act, seen) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let (act, seen, log) = (Arc::clone(&act), Arc::clone(&seen), Arc::clone(&log));
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    let piece = &buffer[..count];
                    let closed = || std::fs::read_to_string(log.get().unwrap()).unwrap().contains("gate closed");
                    if piece.windows(6).any(|six| six == b" LIST ")
                        && closed()
                        && seen.fetch_add(1, Ordering::SeqCst) + 1 == at
                    {
                        act();
                    }
                    if server.write_all(piece).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

#[test]
fn a_delivery_after_the_last_delta_stops_the_switch_and_the_next_one_carries_it_over() {
    let pair = Pair::start(&["u1"]);
    let mut account = nasty::small(&pair.old, "u1");
    let (log, raw) = (Arc::new(OnceLock::new()), b"Subject: in the gate\r\n\r\nmail\r\n");
    let (old, password) = (pair.old.imap_port(), pair.old.password("u1").to_owned());
    let port = meddle(old, Arc::clone(&log), 3, move || {
        let mut direct = Imap::connect(old);
        direct.login("u1", &password);
        direct.append("INBOX", "\\Seen", "17-Jul-1996 09:44:25 +0000", raw);
    });
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        old_imap: Some(format!("imap://127.0.0.1:{port}")),
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    log.set(ferry.dir().join("ferry.log")).unwrap();
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);

    let stopped = ferry.run(&["switch", "u1"]);
    let said = shown(&stopped);
    assert!(stopped.status.code() == Some(75) && said.contains("changed inside the gate"), "{said}");
    let status = ferry.status("u1");
    assert_eq!(
        (status["phase"].as_str(), status["authority"].as_str()),
        (Some("following"), Some("old")),
        "{status:#}"
    );
    assert_eq!(status["epoch"], 0);

    account.mailbox("INBOX").push(Message::new(*raw, "\\Seen", 837_596_665));
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    assert_equal_everywhere(&ferry, &pair, &account);
}
