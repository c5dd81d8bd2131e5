//! What clients see is what counts: another view of dsync's is found over IMAP, before anything is copied or anybody switched.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::{LONG, by_dsync, pair};
use crate::copy::{on_user, shown, sync, verify};
use crate::lab::{Ferry, FerrySpec, Imap, Spec, World, nasty};

#[test]
fn prefix_and_separator_are_what_clients_see() {
    for (separator, prefix) in [('.', ""), ('.', "INBOX."), ('/', "INBOX/")] {
        let space = |extra: &str| format!("namespace inbox {{\n  prefix = {prefix}\n}}\n{extra}");
        let pair = {
            let old = Spec { separator, extra: space(""), ..Spec::old(&["u1"]) };
            let mut pair = pair(old);
            pair.new.configure(&space(""));
            pair
        };
        let mut imap = Imap::connect(pair.old.imap_port());
        imap.login("u1", pair.old.password("u1"));
        for name in ["Sent", "a.b"] {
            let name = name.replace('.', &separator.to_string());
            imap.ok(&format!("CREATE \"{prefix}{name}\""));
            imap.ok(&format!("SUBSCRIBE \"{prefix}{name}\""));
            imap.append(
                &format!("{prefix}{name}"),
                "\\Seen",
                "17-Jul-2006 02:44:25 -0700",
                b"Subject: x\r\n\r\nmail\r\n",
            );
        }
        imap.append("INBOX", "", "17-Jul-2006 02:44:25 -0700", b"Subject: y\r\n\r\nmail\r\n");
        imap.ok("LOGOUT");
        let ferry = Ferry::prepare(by_dsync(&pair));
        sync(&ferry, &pair, "u1");
        let (report, code) = verify(&ferry, &pair, "u1", "all");
        assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{separator} {prefix}: {report:#}");
        assert_eq!(World::of(&pair.old, "u1"), World::of(&pair.new, "u1"));
    }
}

#[test]
fn what_dsync_does_not_tell_of_is_refused_before_anything_is_copied() {
    let more = "namespace more {\n  prefix = More/\n  separator = /\n  location = maildir:{dir}/mail/more-of-%u\n  list = yes\n}\n";
    let pair = pair(Spec { extra: more.to_owned(), ..Spec::old(&["u1"]) });
    nasty::small(&pair.old, "u1");
    let mut imap = Imap::connect(pair.old.imap_port());
    imap.login("u1", pair.old.password("u1"));
    imap.ok("CREATE More/inside");
    imap.ok("LOGOUT");
    let ferry = Ferry::prepare(by_dsync(&pair));
    for command in ["sync", "check"] {
        let output = on_user(&ferry, &pair, &[command], "u1");
        let said = shown(&output);
        assert!(output.status.code() == Some(1) && said.contains("`More/inside`"), "{said}");
        assert!(said.contains("another namespace") && said.contains("old.source = { kind = \"imap\" }"), "{said}");
    }
    assert_eq!(World::of(&pair.new, "u1").count(), 0);
}

/// A wire that puts other octets in the place of some, as many.
fn forger(server: u16, from: &'static [u8], to: &'static [u8]) -> u16 {
    assert_eq!(from.len(), to.len());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let ways = [(false, client.try_clone(), server.try_clone()), (true, Ok(server), Ok(client))];
            for (forge, source, sink) in ways {
                let (mut source, mut sink) = (source.unwrap(), sink.unwrap());
                thread::spawn(move || {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = source.read(&mut buffer) {
                        let said = &mut buffer[..count];
                        for at in 0..count.saturating_sub(from.len() - 1) {
                            if forge && said[at..].starts_with(from) {
                                said[at..at + from.len()].copy_from_slice(to);
                            }
                        }
                        if sink.write_all(said).is_err() {
                            break;
                        }
                    }
                    let _ = sink.shutdown(Shutdown::Write);
                });
            }
        }
    });
    port
}

/// A reader that takes one thing for another would copy it so. The comparison has another way to the old side, and finds it.
#[test]
fn a_fault_of_the_reader_is_found_by_the_comparison_and_keeps_the_user_on_the_old_side() {
    for (from, to, finding) in [
        // A keyword, the text of a message.
        (&b"NonJunk"[..], &b"NonDunk"[..], "keywords"),
        (b"Subject: INBOX 5", b"Subject: INBOX 6", "body"),
    ] {
        let pair = pair(Spec::old(&["u1"]));
        nasty::small(&pair.old, "u1");
        let port = forger(pair.old.doveadm_port(), from, to);
        let ferry = Ferry::start(FerrySpec { source: Some(format!("doveadm://127.0.0.1:{port}")), ..by_dsync(&pair) });
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", pair.old.password("u1"));
        imap.ok("LOGOUT");
        let status = ferry.wait_status("u1", LONG, |status| {
            status["reason"].as_str().is_some_and(|reason| reason.contains("the two sides differ"))
        });
        assert_eq!(status["authority"], "old");
        let report = verify(&ferry, &pair, "u1", "all").0;
        assert!(report["findings"].as_array().unwrap().iter().all(|one| one["rule"] == finding), "{report:#}");
    }
}

/// Mailboxes that a server makes by itself are there for clients before they are there on disk.
#[test]
fn mailboxes_that_the_server_makes_by_itself_arrive() {
    let auto = "namespace inbox {\n  mailbox Spam {\n    auto = subscribe\n    special_use = \\Junk\n  }\n}\n";
    let mut pair = pair(Spec { extra: auto.to_owned(), ..Spec::old(&["u1"]) });
    pair.new.configure(auto);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::prepare(by_dsync(&pair));
    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert!(World::of(&pair.new, "u1").mailboxes.contains_key("Spam"));
}
