//! The moment of the switch as POP3 clients meet it: their session is never cut in two, their login is answered by the side
//! that has their mail, and the list they see is the one they know.

use super::*;
use crate::copy::{Pair, shown};
use crate::lab::Hold;
use crate::uidl::maildrop::{self, Mpop, Shown};

/// Longer than an answer takes that is not held back. (A slow machine makes these tests say less, not fail.)
const SILENCE: Duration = Duration::from_millis(300);

/// POP3 locks the maildrop, as on many old servers: whoever comes second is refused, after a second.
const LOCKING: &str = "protocol pop3 {\n  pop3_lock_session = yes\n  mail_max_lock_timeout = 1s\n}\n";

/// What the proxy logs of a POP3 login that a side has accepted.
const LOGGED_IN: &str = "logged in over POP3 user=\"u1\" side=";

/// Two sides that compute UIDLs in different ways, and a user whose messages all have different sizes.
fn pair(extra: &str) -> Pair {
    let pair = Pair {
        old: Dovecot::start(Spec { extra: extra.to_owned(), ..Spec::old(&["u1"]) }),
        new: Dovecot::start(Spec { own_uidls: true, ..Spec::new_side(&["u1"]) }),
    };
    for number in 1..=5 {
        deliver(&pair.old, "u1", &letter(number));
    }
    pair
}

fn letter(number: usize) -> Vec<u8> {
    [numbered(number), vec![b'x'; number * 3], b"\r\n".to_vec()].concat()
}

/// A proxy that switches nobody by itself.
fn patient(pair: &Pair) -> FerrySpec<'_> {
    let extra = vec![("verify", "bodies = \"none\"")];
    FerrySpec { pop3: true, auto: false, extra, ..FerrySpec::between(&pair.old, &pair.new) }
}

/// The same, and it stops at `hold`.
fn holding(pair: &Pair, hold: &Hold) -> Ferry {
    let fault = hold.fault();
    Ferry::start(FerrySpec { env: vec![("MAILFERRY_FAULTS", &fault)], ..patient(pair) })
}

fn session(ferry: &Ferry) -> Pop3 {
    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.login("u1", "pw-of-u1");
    pop3
}

/// UIDLs and sizes, as this session shows them.
fn list(pop3: &mut Pop3) -> Shown {
    let (uidls, sizes) = (pop3.list("UIDL"), pop3.list("LIST"));
    together(&uidls, &sizes)
}

fn together(uidls: &[String], sizes: &[String]) -> Shown {
    assert_eq!(uidls.len(), sizes.len());
    let second = |line: &String| line.split_once(' ').unwrap().1.to_owned();
    uidls.iter().zip(sizes).map(|(uidl, size)| (second(uidl), second(size).parse().unwrap())).collect()
}

/// An IMAP session brings the user to the point where only the switch is left.
fn follow(ferry: &Ferry) {
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", "pw-of-u1");
    ferry.wait_phase("u1", "following", LONG);
    imap.ok("LOGOUT");
}

fn assert_on(ferry: &Ferry, phase: &str, epoch: u64) {
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["epoch"].as_u64()), (Some(phase), Some(epoch)), "{status:#}");
}

#[test]
fn the_gate_never_closes_on_a_pop3_session() {
    let pair = pair("");
    let ferry = Ferry::start(FerrySpec { max_pause: "500ms", ..patient(&pair) });
    follow(&ferry);
    let (mut one, mut other) = (session(&ferry), session(&ferry));
    one.ok("DELE 1");
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", "pw-of-u1");
    let said = shown(&ferry.run(&["switch", "u1"]));
    assert!(said.contains("1 session and 2 POP3 sessions open"), "{said}");
    imap.ok("LOGOUT");
    // Nobody has said goodbye to this one.
    other.wire().end_sending();
    other.read_to_end();
    wait_for("one session to end", LONG, || ferry.log().contains("POP3 session ended: ").then_some(()));
    let output = ferry.run(&["switch", "u1"]);
    let said = shown(&output);
    assert!(output.status.code() == Some(75) && said.contains("1 POP3 session open"), "{said}");
    assert_on(&ferry, "following", 0);
    assert!(!ferry.log().contains("gate closed"), "{}", ferry.log());
    // It has not noticed anything.
    assert_eq!(one.ok("STAT").split(' ').next(), Some("4"));
    one.quit();
    ferry.run_ok(&["switch", "u1"]);
    assert_on(&ferry, "new", 1);
    assert_eq!(list(&mut session(&ferry)).len(), 4);
}

#[test]
fn a_user_of_pop3_alone_is_moved_by_their_sessions_and_switched_behind_them() {
    let pair = pair(LOCKING);
    let ferry = Ferry::start(FerrySpec { auto: true, ..patient(&pair) });
    let mut pop3 = session(&ferry);
    let before = list(&mut pop3);
    assert_eq!(before.len(), 5);
    // Their own list is enough: another session would not get the maildrop.
    ferry.wait_phase("u1", "following", LONG);
    assert_eq!(logins(&pair.old, "u1").len(), 1);
    pop3.ok("NOOP");
    pop3.quit();
    ferry.wait_phase("u1", "new", LONG);
    let log = ferry.log();
    assert!(log.find("POP3 session ended: ").unwrap() < log.find("gate closed").unwrap(), "{log}");
    assert_eq!(list(&mut session(&ferry)), before);
    assert_ne!(before[0].0.len(), 32, "no UIDL of the new side's own making");
}

#[test]
fn lists_that_the_users_own_sessions_show_spare_the_old_side_our_logins() {
    let pair = pair("");
    let ferry = Ferry::start(patient(&pair));
    let mut own = session(&ferry);
    let before = list(&mut own);
    own.quit();
    ferry.wait_phase("u1", "following", LONG);
    assert_eq!(logins(&pair.old, "u1").len(), 1);
    // A list is used once: there is a new one for the verification.
    let mut own = session(&ferry);
    own.send(b"LIST\r\nUIDL\r\nQUIT\r\n");
    own.read_to_end();
    ferry.run_ok(&["switch", "u1"]);
    assert_on(&ferry, "new", 1);
    assert_eq!(logins(&pair.old, "u1").len(), 2);
    assert_eq!(list(&mut session(&ferry)), before);
}

/// After a restart the password is gone, and with it the chance to switch before somebody comes: the login that brings it
/// is the moment.
#[test]
fn a_login_that_is_the_only_session_is_answered_by_the_new_side_with_the_list_it_knows() {
    let pair = pair(LOCKING);
    let mut ferry = Ferry::start(FerrySpec { auto: true, ..patient(&pair) });
    let mut pop3 = session(&ferry);
    let before = list(&mut pop3);
    ferry.wait_phase("u1", "following", LONG);
    ferry.kill9();
    drop(pop3);
    ferry.start_again();
    let logged = ferry.log().len();
    // What it says in the same breath is done once, there. (The old side's lock would keep us from looking at its list.)
    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.send(b"USER u1\r\nPASS pw-of-u1\r\nUIDL\r\nLIST\r\nDELE 3\r\nQUIT\r\n");
    assert_eq!(pop3.line(), "+OK");
    assert_eq!(pop3.line(), "+OK Logged in.");
    let [uidls, sizes] = [(); 2].map(|()| {
        assert!(pop3.line().starts_with("+OK"));
        String::from_utf8(pop3.rest()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(together(&uidls, &sizes), before);
    pop3.read_to_end();
    assert_on(&ferry, "new", 1);
    let log = ferry.log()[logged..].to_owned();
    let sides: Vec<&str> = log.split(LOGGED_IN).skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    assert_eq!(sides, ["new"], "{log}");
    assert_eq!((maildrop::shown(&pair.old, "u1").len(), maildrop::shown(&pair.new, "u1").len()), (5, 4));
}

/// Has `u1` switched; while the proxy stands at `hold`, clients log in over POP3 and wait, and `meanwhile` happens.
/// Gives the lists they see in the end.
fn log_in_at_the_gate(ferry: &Ferry, hold: &Hold, meanwhile: impl FnOnce()) -> (std::process::Output, Vec<Shown>) {
    std::thread::scope(|scope| {
        let switch = scope.spawn(|| ferry.run(&["switch", "u1"]));
        hold.wait(LONG);
        let ca = &ferry.tls().ca;
        let [gone, clear, stls, tls] = [
            Pop3::connect(ferry.pop3()),
            Pop3::connect(ferry.pop3()),
            Pop3::connect_stls(ferry.pop3(), ca),
            Pop3::connect_tls(ferry.pop3s(), ca),
        ]
        .map(|mut pop3| {
            pop3.send(b"USER u1\r\nPASS pw-of-u1\r\nUIDL\r\nLIST\r\n");
            assert_eq!(pop3.line(), "+OK");
            pop3
        });
        drop(gone);
        let mut waiting = [clear, stls, tls];
        for pop3 in &mut waiting {
            assert!(!pop3.wire().hears_within(SILENCE), "answered at a closed gate");
        }
        meanwhile();
        hold.release();
        let lists = waiting.into_iter().map(|mut pop3| {
            assert_eq!(pop3.line(), "+OK Logged in.");
            let [uidls, sizes] = [(); 2].map(|()| {
                assert!(pop3.line().starts_with("+OK"));
                String::from_utf8(pop3.rest()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            });
            pop3.quit();
            together(&uidls, &sizes)
        });
        let lists = lists.collect();
        (switch.join().unwrap(), lists)
    })
}

/// Which sides have served POP3 sessions, in their order.
fn sides(ferry: &Ferry) -> Vec<String> {
    ferry.log().split(LOGGED_IN).skip(1).map(|rest| rest.lines().next().unwrap().to_owned()).collect()
}

#[test]
fn logins_at_a_closed_gate_wait_and_land_on_the_new_side() {
    let (pair, hold) = (pair(""), Hold::at("gate-closed"));
    let ferry = holding(&pair, &hold);
    let before = list(&mut session(&ferry));
    follow(&ferry);
    let mut old = 0;
    let (output, lists) = log_in_at_the_gate(&ferry, &hold, || old = logins(&pair.old, "u1").len());
    assert!(output.status.success(), "{}", shown(&output));
    assert_on(&ferry, "new", 1);
    assert!(lists.iter().all(|list| *list == before), "{lists:?}");
    assert_eq!(logins(&pair.old, "u1").len(), old, "nobody was sent to the old side any more");
    // The one who went away while it waited is served by nobody, or by the new side as well.
    let sides = sides(&ferry);
    assert!(sides[0] == "old" && sides.len() >= 4 && sides[1..].iter().all(|side| side == "new"), "{sides:?}");
}

#[test]
fn logins_at_a_closed_gate_land_on_the_old_side_when_the_switch_fails() {
    let (pair, hold) = (pair(""), Hold::at("gate-verified#1"));
    let ferry = holding(&pair, &hold);
    follow(&ferry);
    // A delivery comes in: the verified old side is not the old side any more.
    let (output, lists) = log_in_at_the_gate(&ferry, &hold, || deliver(&pair.old, "u1", &letter(6)));
    let said = shown(&output);
    assert!(output.status.code() == Some(75) && said.contains("changed inside the gate"), "{said}");
    assert_on(&ferry, "following", 0);
    let now = maildrop::shown(&pair.old, "u1");
    assert!(now.len() == 6 && lists.iter().all(|list| *list == now), "{lists:?}");
    assert!(sides(&ferry).iter().all(|side| side == "old"));
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(list(&mut session(&ferry)), now);
}

#[test]
fn what_a_session_deletes_before_the_switch_is_gone_on_the_new_side() {
    let pair = pair("");
    let ferry = Ferry::start(patient(&pair));
    follow(&ferry);
    let mut pop3 = session(&ferry);
    let mut wanted = list(&mut pop3);
    pop3.ok("DELE 2");
    pop3.ok("DELE 4");
    pop3.quit();
    // This one only said that it would.
    let mut pop3 = session(&ferry);
    pop3.ok("DELE 1");
    drop(pop3);
    ferry.run_ok(&["switch", "u1"]);
    assert_on(&ferry, "new", 1);
    wanted.remove(3);
    wanted.remove(1);
    let mut pop3 = session(&ferry);
    assert_eq!(list(&mut pop3), wanted);
    // From now on deletions happen there.
    pop3.ok("DELE 1");
    pop3.quit();
    assert_eq!((maildrop::shown(&pair.old, "u1").len(), maildrop::shown(&pair.new, "u1").len()), (3, 2));
}

#[test]
fn mpop_before_and_after_the_switch_downloads_nothing_twice() {
    let pair = pair("");
    let ferry = Ferry::start(patient(&pair));
    let client = Mpop::new();
    let fetch = || client.run(ferry.pop3(), "u1", "pw-of-u1");
    assert_eq!(fetch(), 5);
    ferry.wait_phase("u1", "following", LONG);
    assert_eq!(fetch(), 0);
    deliver(&pair.old, "u1", &letter(6));
    assert_eq!(fetch(), 1);
    ferry.run_ok(&["switch", "u1"]);
    assert_on(&ferry, "new", 1);
    assert_eq!(fetch(), 0, "everything is known already");
    deliver(&pair.new, "u1", &letter(7));
    assert_eq!((fetch(), fetch()), (1, 0));
}

#[test]
fn a_login_waits_for_our_own_session_and_gets_the_maildrop_at_last() {
    for released in [true, false] {
        let (pair, hold) = (pair(LOCKING), Hold::at("pop3-open#1"));
        let ferry = holding(&pair, &hold);
        let mut imap = Imap::connect(ferry.imap());
        imap.login("u1", "pw-of-u1");
        hold.wait(LONG);
        if released {
            let taken = Pop3::connect(pair.old.pop3_port()).try_login("u1", "pw-of-u1");
            assert!(taken.starts_with("-ERR [IN-USE]"), "our session has the lock: {taken}");
        }
        let mut pop3 = Pop3::connect(ferry.pop3());
        pop3.send(b"USER u1\r\nPASS pw-of-u1\r\n");
        assert_eq!(pop3.line(), "+OK");
        assert!(!pop3.wire().hears_within(SILENCE), "it waits");
        if released {
            hold.release();
        }
        // In the other case ours gives way after some seconds.
        assert_eq!(pop3.line(), "+OK Logged in.");
        assert_eq!(pop3.ok("STAT").split(' ').next(), Some("5"));
        pop3.quit();
        hold.release();
        ferry.wait_phase("u1", "following", LONG);
    }
}
