//! Mailboxes that belong to nobody: one account carries them to the new side for everybody, with their UIDs, and what others do
//! there is never undone.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, on_user, shown, verify};
use crate::lab::imap::lossy;
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Spec, World, nasty};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A public namespace. Rights are in one file for all of it, with the plugin everywhere, as in most set-ups.
const PUBLIC: &str = "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\n\
    namespace {\n  type = public\n  separator = /\n  prefix = Public/\n  location = {format}:{dir}/mail/public\n  \
    subscriptions = no\n  list = children\n}\n\
    plugin {\n  acl = vfile:{dir}/mail/rights\n}\n";

/// What `u1` may do, and everybody else.
const RIGHTS: [&str; 2] = ["lrwstipekxa", "lr"];

/// Two servers with a public namespace each.
struct Sides {
    pair: Pair,
}

impl Sides {
    fn start() -> Self {
        let users = ["u1", "u2"];
        let with = |spec: Spec| {
            let format = if spec.format == Format::Maildir { "maildir" } else { "mdbox" };
            Dovecot::start(Spec { extra: PUBLIC.replace("{format}", format), ..spec })
        };
        let pair = Pair { old: with(Spec::old(&users)), new: with(Spec::new_side(&users)) };
        for server in [&pair.old, &pair.new] {
            fs::create_dir(server.mail_dir("public")).unwrap();
            server.give_to_mail_user(&server.mail_dir("public"));
            set_rights(server, &["Public*"], RIGHTS);
        }
        nasty::small(&pair.old, "u1");
        nasty::small(&pair.old, "u2");
        let sides = Self { pair };
        let mut imap = sides.on_old("u1");
        for name in ["Public/News", "Public/Dept/Plans"] {
            imap.ok(&format!("CREATE {name}"));
        }
        for number in 0..3 {
            imap.append("Public/News", "\\Seen $Label1", "01-Jan-2026 10:00:00 +0100", &mail(&format!("news {number}")));
        }
        imap.append("Public/Dept/Plans", "\\Flagged", "02-Jan-2026 10:00:00 +0100", &mail("plans"));
        imap.select("Public/News");
        imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
        imap.ok("SUBSCRIBE Public/News");
        sides
    }

    fn spec(&self) -> FerrySpec<'_> {
        let carried = vec![("migration", "include = [\"shared\"]\nshared_account = \"u1\"")];
        FerrySpec { auto: false, max_pause: "10s", extra: carried, ..FerrySpec::between(&self.pair.old, &self.pair.new) }
    }

    fn on_old(&self, user: &str) -> Imap {
        log_in(self.pair.old.imap_port(), &self.pair, user)
    }

    fn on_new(&self, user: &str) -> Imap {
        log_in(self.pair.new.imap_port(), &self.pair, user)
    }

    /// Lets a user's move begin, and waits until all is copied.
    fn follow(&self, ferry: &Ferry, user: &str) {
        log_in(ferry.imap(), &self.pair, user).ok("LOGOUT");
        ferry.wait_phase(user, "following", LONG);
    }
}

fn log_in(port: u16, pair: &Pair, user: &str) -> Imap {
    let mut imap = Imap::connect(port);
    imap.login(user, pair.old.password(user));
    imap
}

fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nmail\r\n").into_bytes()
}

/// Writes who may do what: `u1`, and everybody else.
fn set_rights(server: &Dovecot, patterns: &[&str], [u1, others]: [&str; 2]) {
    let line = |pattern: &&str| format!("{pattern} user=u1 {u1}\n{pattern} authenticated {others}\n");
    fs::write(server.mail_dir("rights"), patterns.iter().map(line).collect::<String>()).unwrap();
}

/// What a user's client knows of a public mailbox.
fn seen(mut imap: Imap, mailbox: &str) -> (u32, u32, Vec<(u32, Vec<u8>)>, Vec<String>) {
    let selected = imap.examine(mailbox);
    let uids = imap.uids();
    let flags = uids.iter().map(|uid| imap.flags(*uid).unwrap_or_default().join(" ")).collect();
    let bodies = uids.iter().map(|uid| (*uid, imap.body(*uid).unwrap())).collect();
    (selected.uid_validity, selected.uid_next, bodies, flags)
}

#[test]
fn public_mailboxes_go_with_the_account_that_carries_them_and_everybody_finds_them_as_they_were() {
    let sides = Sides::start();
    let ferry = Ferry::start(sides.spec());
    let before = seen(log_in(ferry.imap(), &sides.pair, "u2"), "Public/News");
    assert_eq!(before.2.len(), 2);
    sides.follow(&ferry, "u1");
    ferry.wait_phase("u2", "following", LONG);
    let status = ferry.status("u1");
    assert_eq!(status["carries"], 2, "{status:#}");
    assert_eq!(ferry.status("u2")["carries"], Value::Null);
    let said = ferry.run_ok(&["status", "u1"]);
    assert!(said.contains("carries      2 shared mailboxes, for everybody\n"), "{said}");
    assert_eq!(seen(sides.on_new("u2"), "Public/News"), before, "copied already, for those who go first");

    // What happens there until the switch comes along.
    sides.on_old("u1").append("Public/News", "", "03-Jan-2026 10:00:00 +0100", &mail("more news"));
    ferry.run_ok(&["switch", "u2"]);
    ferry.run_ok(&["switch", "u1"]);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["last_report"]["identical"].as_bool()), (Some("new"), Some(true)));
    let old = seen(sides.on_old("u2"), "Public/News");
    assert_eq!(old.2.len(), 3);
    assert_eq!(seen(log_in(ferry.imap(), &sides.pair, "u2"), "Public/News"), old);
    let plans = "Public/Dept/Plans";
    assert_eq!(seen(log_in(ferry.imap(), &sides.pair, "u2"), plans), seen(sides.on_old("u2"), plans));
    let lsub = sides.on_new("u1").ok("LSUB \"\" \"Public/*\"");
    assert!(lossy(&lsub[0]).contains("Public/News"), "{lsub:?}");
    assert_eq!(World::of(&sides.pair.old, "u1"), World::of(&sides.pair.new, "u1"));
}

#[test]
fn a_command_shows_and_copies_what_the_account_carries_and_nobody_elses_does() {
    let sides = Sides::start();
    let ferry = Ferry::prepare(sides.spec());
    let said = shown(&on_user(&ferry, &sides.pair, &["check"], "u1"));
    assert!(said.contains("carries    the shared mailboxes, for everybody: 2 on the old side, 0 on the new side"), "{said}");
    let said = shown(&on_user(&ferry, &sides.pair, &["check"], "u2"));
    assert!(said.contains("2 mailboxes of others: Public/Dept/Plans, Public/News; they are not moved"), "{said}");
    for user in ["u2", "u1"] {
        let said = on_user(&ferry, &sides.pair, &["sync"], user);
        assert!(said.status.success(), "{}", shown(&said));
        let there = sides.on_new("u2").ok("LIST \"\" \"Public/*\"").len();
        assert_eq!(there > 0, user == "u1");
    }
    let (report, code) = verify(&ferry, &sides.pair, "u1", "all");
    assert_eq!((code, report["identical"].as_bool()), (0, Some(true)), "{report:#}");
    let said = crate::sharing::of_rule(&report, "carried");
    assert_eq!(said[0][1], "2 shared mailboxes are carried by this account for everybody", "{said:?}");
}
