//! `kill -9` after each single write of the store, from a user's first login to the end of their switch.

use super::{LONG, mail};
use crate::copy::{Pair, assert_foreign_judge_agrees};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec, World, deliver, wait_for};
use crate::uidl::maildrop;

/// More writes than a move of such a user needs.
const MANY: usize = 80;

fn log_in(port: u16, user: &str) -> Imap {
    let mut imap = Imap::connect(port);
    imap.login(user, &format!("pw-of-{user}"));
    imap
}

/// A login through the proxy that ends at once. The proxy may die in its middle.
fn pass_by(ferry: &Ferry, user: &str) {
    let mut imap = Imap::connect(ferry.imap());
    let _ = imap.try_send(format!("a LOGIN {user} pw-of-{user}\r\nb LOGOUT\r\n").as_bytes());
    let (_, ended) = imap.read_to_end(LONG);
    assert!(ended);
}

/// Where a user stands: phase and epoch; none if the proxy has died or knows nobody of this name.
fn stands(ferry: &Ferry, user: &str) -> Option<(String, u64)> {
    let status: serde_json::Value = serde_json::from_slice(&ferry.run(&["status", user, "--json"]).stdout).ok()?;
    Some((status["phase"].as_str()?.to_owned(), status["epoch"].as_u64()?))
}

/// A user for each write: the proxy dies behind the `N`-th one for user `N`, and in the end all of them come back at once.
#[test]
fn killed_after_every_write_of_the_store() {
    let names: Vec<String> = (1..=MANY).map(|number| format!("u{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let new = Spec { extra: "pop3_uidl_format = %g\n".to_owned(), ..Spec::new_side(&names) };
    let pair = Pair { old: Dovecot::start(Spec::old(&names)), new: Dovecot::start(new) };
    let mut ferry = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    let (mut users, mut survived) = (Vec::new(), 0);
    for (number, user) in (1..).zip(&names) {
        let mut direct = log_in(pair.old.imap_port(), user);
        direct.ok("CREATE Sent");
        for (mailbox, what) in [("INBOX", "in"), ("Sent", "out")] {
            direct.append(mailbox, "\\Seen kw", "17-Jul-1996 02:44:25 -0700", &mail(what));
        }
        ferry.set_env("MAILFERRY_FAULTS", &format!("store-written#{number}=kill"));
        ferry.start_again();
        pass_by(&ferry, user);
        let lives = wait_for("the fault, or the end of the move", LONG, || {
            let moved = stands(&ferry, user).is_some_and(|(phase, _)| phase == "new");
            if ferry.is_running() { moved.then_some(true) } else { Some(false) }
        });
        survived = if lives { survived + 1 } else { 0 };
        ferry.kill9();
        deliver(&pair.old, user, &mail("delivered while the proxy was down"));
        users.push(*user);
        // What is written behind the switch comes a little later than the switch can be seen.
        if survived == 3 {
            break;
        }
    }
    assert!(users.len() > 15 && users.len() < MANY, "{} writes", users.len());
    ferry.set_env("MAILFERRY_FAULTS", "");
    ferry.start_again();
    for user in &users {
        if let Some((phase, epoch)) = stands(&ferry, user) {
            assert_eq!(epoch, u64::from(phase == "new"), "{user} is {phase}");
        }
        pass_by(&ferry, user);
    }
    for (at, user) in users.iter().enumerate() {
        let status = ferry.wait_status(user, LONG, |status| {
            assert_ne!(status["phase"], "held", "{status:#}");
            status["phase"] == "new" && World::of(&pair.new, user).count() == 3
        });
        assert_eq!((status["authority"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
        let old = World::of(&pair.old, user);
        assert_eq!(old.count(), 3);
        assert_eq!(old, World::of(&pair.new, user), "{user}");
        let [old, new] = [&pair.old, &pair.new].map(|server| maildrop::shown(server, user));
        assert_eq!(old[..1], new[..1], "{user}");
        if at % 4 == 0 {
            assert_foreign_judge_agrees(&pair, user);
        }
    }
}
