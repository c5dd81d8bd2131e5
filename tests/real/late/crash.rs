//! `kill -9`, of us and of the new server, around an APPEND.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{LONG, Switched, mail};
use crate::copy::Pair;
use crate::lab::account::Message;
use crate::lab::world::Mail;
use crate::lab::{Hold, World, wait_for};

impl Switched {
    /// Runs the proxy until it has killed itself; false if it lives on and has nothing more to do.
    fn run_into_the_fault(&mut self, appended: u64) -> bool {
        self.ferry.start_again();
        Self::login(&self.ferry, &self.pair);
        wait_for("the fault, or the end of the work", LONG, || {
            if !self.ferry.is_running() {
                return Some(true);
            }
            let shown = self.ferry.run(&["status", "u1", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
            (status["late_arrivals"]["appended"] == appended && status["late_arrivals"]["pending"] == 0)
                .then_some(false)
        })
    }
}

#[test]
fn killed_before_an_append_it_is_made_at_the_next_look() {
    let faults = vec![("MAILFERRY_FAULTS", "late-pending=kill")];
    let mut switched = Switched::with(Pair::start(&["u1"]), |spec| spec.env = faults);
    switched.late("INBOX", "\\Seen", &mail("late"), "INBOX");
    switched.late("Sent", "", &mail("late, sent"), "Sent");
    for _ in 0..2 {
        assert!(switched.run_into_the_fault(2), "{}", switched.ferry.log());
        switched.ferry.kill9();
    }
    assert_eq!(switched.sweep().appended, 2);
    switched.assert_new_side();
}

#[test]
fn killed_after_each_append_none_is_made_twice() {
    let faults = vec![("MAILFERRY_FAULTS", "late-appended=kill")];
    let mut switched = Switched::with(Pair::start(&["u1"]), |spec| spec.env = faults);
    for number in 0..2 {
        // Twins, too: each is looked for by what it is.
        switched.late("INBOX", "kw", &mail("late"), "INBOX");
        switched.late("Sent", "", &mail(&format!("late, sent {number}")), "Sent");
    }
    let mut kills = 0;
    while switched.run_into_the_fault(4) {
        kills += 1;
        assert!(kills <= 4, "{}", switched.ferry.log());
        switched.ferry.kill9();
    }
    assert_eq!(kills, 4);
    switched.assert_new_side();
    assert_eq!(switched.ferry.status("u1")["late_arrivals"]["appended"], 4);
    assert!(switched.ferry.stop());
    assert_eq!(switched.sweep().appended, 0);
    switched.assert_new_side();
}

#[test]
fn killed_when_all_but_the_end_was_sent_it_waits_before_it_appends_again() {
    let faults = vec![("MAILFERRY_FAULTS", "late-sent=kill")];
    let mut switched = Switched::with(Pair::start(&["u1"]), |spec| spec.env = faults);
    switched.late("INBOX", "", &mail("late"), "INBOX");
    assert!(switched.run_into_the_fault(1));
    switched.ferry.kill9();
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
}

/// What Dovecot may store otherwise than it came: it must be known again all the same.
#[test]
fn killed_after_the_append_of_an_odd_message_it_is_found_again() {
    let faults = vec![("MAILFERRY_FAULTS", "late-appended=kill")];
    let mut switched = Switched::with(Pair::start(&["u1"]), |spec| spec.env = faults);
    let odd: [&[u8]; 3] = [b"Subject: odd\r\n\r\na\r\r\nb\rc\r", b"Subject: \x80\xff\n\n\0 no end", b"no header\n"];
    for (number, raw) in odd.iter().enumerate() {
        let file = switched.pair.old.mail_dir("u1").join(format!("new/1600000000.M{number}P1.lab"));
        std::fs::write(&file, raw).unwrap();
        switched.pair.old.give_to_mail_user(&file);
    }
    let old = World::of(&switched.pair.old, "u1");
    let served = old.mailboxes["INBOX"].mails.values().skip(1);
    for (mail, raw) in served.zip(odd.map(|raw| Message::new(raw, "", 0))) {
        assert_eq!(mail.body, raw.served());
        switched.model.shelf("INBOX").push(Mail { body: raw.copied(), ..mail.clone() });
    }
    for _ in 0..odd.len() {
        assert!(switched.run_into_the_fault(3), "{}", switched.ferry.log());
        switched.ferry.kill9();
    }
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
}

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Old,
    New,
}

/// A server is killed before an APPEND, before the line end that makes it count, and when it was answered.
fn server_killed(which: Which) {
    let holds = ["late-pending#1", "late-sent#1", "late-appended#1"].map(Hold::at);
    let mut switched = Switched::start(Pair::start(&["u1"]));
    switched.ferry.set_env("MAILFERRY_FAULTS", &holds.each_ref().map(Hold::fault).join(","));
    switched.late("INBOX", "\\Flagged kw", &mail("late"), "INBOX");
    switched.late("INBOX", "\\Flagged kw", &mail("late"), "INBOX");
    switched.late("Sent", "\\Seen", &mail("late, sent"), "Sent");
    switched.ferry.start_again();
    Switched::login(&switched.ferry, &switched.pair);
    for hold in &holds {
        hold.wait(LONG);
        let server = if which == Which::Old { &mut switched.pair.old } else { &mut switched.pair.new };
        server.kill9();
        server.start_again();
        hold.release();
    }
    let status = switched.ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 3);
    assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
    switched.assert_new_side();
    assert!(switched.ferry.stop());
    assert_eq!(switched.sweep().appended, 0);
    switched.assert_new_side();
}

#[test]
fn the_old_server_killed_around_an_append_loses_and_doubles_nothing() {
    server_killed(Which::Old);
}

#[test]
fn the_new_server_killed_around_an_append_gets_it_once() {
    server_killed(Which::New);
}

/// Octets of a message that is far more than what the proxy may hold of it.
const BIG: usize = 40_000_000;

#[test]
fn the_new_server_killed_in_the_middle_of_a_big_message_gets_it_once() {
    let pair = Pair::start(&["u1"]);
    let stall = Arc::new(Stall::default());
    let port = relay(pair.new.imap_port(), BIG / 4, Arc::clone(&stall));
    let mut switched = Switched::with(pair, |spec| spec.new_imap = Some(format!("imap://127.0.0.1:{port}")));
    let line = b"0123456789 and so on, and on, and on, and on, and on, and on, and on\r\n";
    let big = [mail("big"), line.repeat(BIG / line.len())].concat();
    switched.late("Sent", "\\Seen", &big, "Sent");
    switched.late("INBOX", "", &mail("late"), "INBOX");
    stall.armed.store(true, Ordering::SeqCst);
    switched.ferry.start_again();
    Switched::login(&switched.ferry, &switched.pair);
    wait_for("the middle of the message", LONG, || stall.stalled.load(Ordering::SeqCst).then_some(()));
    switched.pair.new.kill9();
    stall.armed.store(false, Ordering::SeqCst);
    switched.pair.new.start_again();
    switched.ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 2);
    let peak = switched.ferry.peak_rss_kib();
    assert!(peak < 40_000, "{peak} KiB for a message of {BIG} octets");
    switched.assert_new_side();
    assert!(switched.ferry.stop());
    assert_eq!(switched.sweep().appended, 0);
}

/// Where a relay stands still.
#[derive(Debug, Default)]
struct Stall {
    armed: AtomicBool,
    stalled: AtomicBool,
}

/// Stands between the proxy and a server. Armed, it holds a connection whose client has sent `after` octets, and closes it
/// when it is not armed any more.
fn relay(server: u16, after: usize, stall: Arc<Stall>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let stall = Arc::clone(&stall);
            std::thread::spawn(move || {
                let (mut buffer, mut sent) = (vec![0; 65536], 0);
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    if server.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                    sent += count;
                    if sent > after && stall.armed.load(Ordering::SeqCst) {
                        stall.stalled.store(true, Ordering::SeqCst);
                        while stall.armed.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        break;
                    }
                }
                let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Both);
            });
        }
    });
    port
}
