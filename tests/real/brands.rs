//! Old sides of other brands than Dovecot: the whole way of a user, with what is particular to each.

mod courier;

use std::time::Duration;

use serde_json::Value;

use crate::copy::shown;
use crate::lab::world::Next;
use crate::lab::{Dovecot, Ferry, FerrySpec, Served, Spec, World};
use crate::uidl::maildrop;

const LONG: Duration = Duration::from_secs(120);

/// A new side whose namespace has this prefix and separator, and whose own UIDLs are not those of any old side.
fn new_side(users: &[&str], prefix: &str, separator: char) -> Dovecot {
    let extra = format!("namespace inbox {{\n  prefix = {prefix}\n}}\n");
    Dovecot::start(Spec { separator, own_uidls: true, extra, ..Spec::new_side(users) })
}

/// A proxy with POP3 that switches nobody by itself.
fn spec<'a>(old: &'a dyn Served, new: &'a Dovecot) -> FerrySpec<'a> {
    FerrySpec { pop3: true, auto: false, ..FerrySpec::between(old, new) }
}

/// The report of `mailferry verify` and its exit code.
fn verify(ferry: &Ferry, old: &dyn Served, user: &str) -> (Value, i32) {
    let file = ferry.password_file(&old.password(user));
    let output = ferry.run(&["verify", "--json", "--bodies", "all", user, "--password-file", &file]);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
    (report, output.status.code().unwrap())
}

/// The operator switches a user; a busy moment is tried again.
fn switch(ferry: &Ferry, user: &str) {
    let deadline = std::time::Instant::now() + LONG;
    loop {
        let output = ferry.run(&["switch", user]);
        match output.status.code() {
            Some(0) => return,
            Some(75) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            _ => panic!("{}\n{}", shown(&output), ferry.log()),
        }
    }
}

/// Both sides show a client the same, over IMAP and POP3, read by clients of the tests' own.
fn assert_same_to_clients(old: &dyn Served, new: &dyn Served, user: &str) {
    let found = World::of(old, user).differences(&World::of(new, user), Next::AtLeast);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(maildrop::shown(old, user), maildrop::shown(new, user));
}
