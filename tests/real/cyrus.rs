//! From a Cyrus to a Dovecot: the whole way in each form that Cyrus gives names and UIDLs, everything that may happen to an
//! account meanwhile, what only Cyrus does, and what it never sees from us. Where the machine has no Cyrus, these tests say so
//! (and `tests/run.sh` in its summary).

mod follow;
mod nasty;
mod quirks;
mod scripts;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::copy::shown;
use crate::lab::foreign::{self, Mbsync};
use crate::lab::world::Next;
use crate::lab::{Cyrus, CyrusSpec, Dovecot, Ferry, FerrySpec, Format, Imap, Names, Spec, World, cyrus, deliver};
use crate::pop3_front::clients::Fetchmail;
use crate::uidl::maildrop::{self, Mpop};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A Cyrus and a Dovecot that shows names as it does.
struct Sides {
    old: Cyrus,
    new: Dovecot,
}

impl Sides {
    fn start(old: CyrusSpec, format: Format) -> Self {
        let users: Vec<&str> = old.users.iter().map(|(user, _)| user.as_str()).collect();
        let new = Dovecot::start(new_side(old.names, format, &users));
        Self { old: Cyrus::start(old), new }
    }

    fn spec(&self) -> FerrySpec<'_> {
        FerrySpec { auto: false, pop3: true, ..FerrySpec::between(&self.old, &self.new) }
    }

    /// How the servers spell a mailbox.
    fn spell(&self, parts: &str) -> String {
        self.old.spec().names.spell(parts)
    }

    fn on_user(&self, ferry: &Ferry, command: &[&str], user: &str) -> Output {
        let file = ferry.password_file(self.old.password(user));
        ferry.run(&[command, &[user, "--password-file", &file]].concat())
    }

    fn sync(&self, ferry: &Ferry, user: &str) {
        let output = self.on_user(ferry, &["sync"], user);
        assert!(output.status.success(), "{}", shown(&output));
    }

    /// The report of a comparison of every octet.
    fn verify(&self, ferry: &Ferry, user: &str) -> Value {
        let output = self.on_user(ferry, &["verify", "--json", "--bodies", "all"], user);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
        assert_eq!((report["identical"].as_bool(), output.status.code()), (Some(true), Some(0)), "{report:#}");
        report
    }

    fn worlds(&self, user: &str) -> [World; 2] {
        [World::of(&self.old, user), World::of(&self.new, user)]
    }

    /// Waits until the new side is what the old side is, through the proxy's own following.
    fn settle(&self, ferry: &Ferry, user: &str, after: &str) {
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let [old, new] = self.worlds(user);
            let found = old.differences(&new, Next::Equal);
            if found.is_empty() {
                return;
            }
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "after {after}: {found:#?}\n{:#}", ferry.status(user));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Somebody else's IMAP library finds the two sides identical.
    fn assert_foreign_judge_agrees(&self, user: &str) {
        let password = self.old.password(user);
        let found = foreign::compare(
            (self.old.imap_port(), user, password),
            (self.new.imap_port(), user, self.new.password(user)),
        );
        assert_eq!(found["identical"], true, "{found:#}");
    }
}

/// A new side with these names, whose POP3 computes other UIDLs than any old side does: what is equal there was written.
fn new_side(names: Names, format: Format, users: &[&str]) -> Spec {
    let extra = format!("namespace inbox {{\n  prefix = {}\n}}\n", names.prefix());
    Spec { format, separator: names.separator(), own_uidls: true, extra, ..Spec::new_side(users) }
}

fn letter(subject: &str, size: usize) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.net>\r\nSubject: {subject}\r\nMessage-ID: <{subject}.{size}@example.net>\r\n\r\n{}\r\n",
        "x".repeat(size)
    )
    .into_bytes()
}

/// An account with holes, flags, keywords, dates, twins and subscriptions.
fn fill(old: &Cyrus, user: &str) {
    let spell = |parts: &str| old.spec().names.spell(parts);
    let mut imap = old.log_in(user);
    let date = |minute: u32| format!("29-Feb-2024 12:{minute:02}:00 +0100");
    for number in 1..=12_u32 {
        let flags = ["", "\\Seen", "\\Seen $Forwarded", "\\Flagged NonJunk", "\\Answered \\Draft"][number as usize % 5];
        let size = if number < 3 { 7 } else { number as usize };
        imap.append("INBOX", flags, &date(number), &letter("letter", size));
    }
    imap.select("INBOX");
    for uid in [3, 5, 6, 12] {
        imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
    }
    imap.ok("EXPUNGE");
    imap.ok("UNSELECT");
    for parts in ["Sent", "Work", "Work/2024", "Work/2024/Größe", "Empty", "Tom & Jerry"] {
        let name = spell(parts);
        imap.ok(&format!("CREATE {}", crate::lab::imap::mailbox_name(&name)));
        if parts != "Empty" {
            imap.append(&name, "\\Seen", &date(30), &letter(&parts.replace(['/', ' ', 'ö', 'ß'], "-"), 9));
        }
    }
    for parts in ["INBOX", "Sent", "Work/2024"] {
        imap.ok(&format!("SUBSCRIBE {}", crate::lab::imap::mailbox_name(&spell(parts))));
    }
    imap.ok("LOGOUT");
}

/// A user with an IMAP and two POP3 clients is copied, followed while mail comes and changes, compared and switched.
fn whole_way(names: Names, uidl_format: &'static str, format: Format) {
    if !cyrus::is_here() {
        return;
    }
    let sides = Sides::start(CyrusSpec { uidl_format, ..CyrusSpec::with(names, &["u1"]) }, format);
    fill(&sides.old, "u1");
    let ferry = Ferry::start(sides.spec());
    let password = sides.old.password("u1");
    let (imap_client, mpop, fetchmail) = (Mbsync::new(ferry.imap(), "u1", password), Mpop::new(), Fetchmail::new());
    let fetch = || fetchmail.run(ferry.pop3(), "auth password uidl", "keep sslproto \"\"");
    let first = imap_client.run();
    assert!(first.success && first.downloaded == 13, "{first:?}");
    assert_eq!((mpop.run(ferry.pop3(), "u1", password), fetch()), (8, 8));
    ferry.wait_phase("u1", "following", LONG);

    let mut session = Imap::connect(ferry.imap());
    session.login("u1", password);
    for number in 1..=3 {
        deliver(&sides.old, "u1", format!("Subject: new mail {number}\n\n{}\n", "x".repeat(number)).as_bytes());
    }
    session.append("INBOX", "\\Seen $Forwarded", "17-Jul-1996 02:44:25 -0700", b"Subject: appended\r\n\r\nmail\r\n");
    session.select("INBOX");
    session.ok("UID STORE 1 +FLAGS (\\Flagged fresh)");
    session.ok("UID STORE 2 +FLAGS (\\Deleted)");
    session.ok("EXPUNGE");
    let made = sides.spell("made/after");
    session.ok(&format!("CREATE {made}"));
    session.append(&made, "", "17-Jul-2006 02:44:25 -0700", b"Subject: later\r\n\r\nmail\r\n");
    session.ok(&format!("SUBSCRIBE {made}"));
    session.ok("UNSELECT");
    sides.settle(&ferry, "u1", "changes while it is followed");
    assert_eq!(maildrop::shown(&sides.old, "u1"), maildrop::shown(&sides.new, "u1"));
    // The clients take what is new from the old side.
    assert_eq!((mpop.run(ferry.pop3(), "u1", password), fetch()), (4, 4));
    assert_eq!(imap_client.run().downloaded, 5);
    session.ok("LOGOUT");
    sides.settle(&ferry, "u1", "the last session");

    let report = sides.verify(&ferry, "u1");
    let template = match uidl_format {
        "uidonly" => "%u",
        "dovecot" => "%08xu%08xv",
        "courier" => "%v-%u",
        _ => "%v.%u",
    };
    let wanted = format!("11 UIDLs identical, same order, template {template}");
    assert_eq!(report["pop3"], wanted.as_str(), "{report:#}");
    sides.assert_foreign_judge_agrees("u1");
    let (files, uidls) = (imap_client.files(), maildrop::shown(&sides.old, "u1"));
    let before = World::of(&sides.old, "u1");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    let after = imap_client.run();
    assert!(after.success && after.downloaded == 0, "{after:?}");
    assert_eq!(imap_client.files(), files);
    assert_eq!((mpop.run(ferry.pop3(), "u1", password), fetch()), (0, 0), "everything is known already");
    assert_eq!(maildrop::shown(&sides.new, "u1"), uidls);
    assert_eq!(World::of(&sides.old, "u1"), before);

    // The new side gives new mail what no client has seen before.
    deliver(&sides.new, "u1", b"Subject: on the new side\n\nmail\n");
    assert_eq!(imap_client.run().downloaded, 1);
    assert_eq!((mpop.run(ferry.pop3(), "u1", password), fetch()), (1, 1));
}

#[test]
fn from_cyrus_with_dots_a_user_goes_the_whole_way() {
    whole_way(Names::Dots, "", Format::Mdbox);
}

#[test]
fn from_cyrus_with_dots_a_user_goes_the_whole_way_into_a_maildir() {
    whole_way(Names::Dots, "cyrus", Format::Maildir);
}

#[test]
fn from_cyrus_with_slashes_a_user_goes_the_whole_way() {
    whole_way(Names::Slashes, "uidonly", Format::Mdbox);
}

#[test]
fn from_cyrus_with_dots_and_without_prefix_a_user_goes_the_whole_way() {
    whole_way(Names::AltDots, "courier", Format::Maildir);
}

#[test]
fn from_cyrus_with_slashes_and_without_prefix_a_user_goes_the_whole_way() {
    whole_way(Names::AltSlashes, "dovecot", Format::Mdbox);
}
