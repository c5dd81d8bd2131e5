//! Mailboxes that belong to nobody: one account carries them to the new side for everybody, with their UIDs, and what others do
//! there is never undone.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, on_user, shown, verify};
use crate::lab::imap::lossy;
use crate::lab::{
    Cyrus, CyrusSpec, Dovecot, Ferry, FerrySpec, Format, Imap, Names, Release, Spec, World, cyrus, nasty, trixie,
};

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
        Self::with(PUBLIC)
    }

    /// `new` is the configuration of the new side.
    fn with(new: &str) -> Self {
        let users = ["u1", "u2"];
        let with = |spec: Spec, extra: &str| {
            let format = if spec.format == Format::Maildir { "maildir" } else { "mdbox" };
            Dovecot::start(Spec { extra: extra.replace("{format}", format), ..spec })
        };
        let pair = Pair { old: with(Spec::old(&users), PUBLIC), new: with(new_side(&users), new) };
        for server in [&pair.old, &pair.new] {
            fs::create_dir(server.mail_dir("public")).unwrap();
            server.give_to_mail_user(&server.mail_dir("public"));
            set_rights(server, &[("Public*", RIGHTS)]);
        }
        nasty::small(&pair.old, "u1");
        nasty::small(&pair.old, "u2");
        let sides = Self { pair };
        let mut imap = sides.on_old("u1");
        for name in ["Public/News", "Public/Dept/Plans"] {
            imap.ok(&format!("CREATE {name}"));
        }
        for number in 0..3 {
            imap.append(
                "Public/News",
                "\\Seen $Label1",
                "01-Jan-2026 10:00:00 +0100",
                &mail(&format!("news {number}")),
            );
        }
        imap.append("Public/Dept/Plans", "\\Flagged", "02-Jan-2026 10:00:00 +0100", &mail("plans"));
        imap.select("Public/News");
        imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
        imap.ok("SUBSCRIBE Public/News");
        sides
    }

    fn spec(&self) -> FerrySpec<'_> {
        FerrySpec {
            auto: false,
            max_pause: "10s",
            extra: carrying(),
            ..FerrySpec::between(&self.pair.old, &self.pair.new)
        }
    }

    fn on_old(&self, user: &str) -> Imap {
        log_in(self.pair.old.imap_port(), &self.pair, user)
    }

    fn on_new(&self, user: &str) -> Imap {
        log_in(self.pair.new.imap_port(), &self.pair, user)
    }

    /// What `sync` of `u1` says, which must fail.
    fn refused(&self, ferry: &Ferry) -> String {
        let output = on_user(ferry, &self.pair, &["sync"], "u1");
        assert!(!output.status.success(), "{}", shown(&output));
        shown(&output)
    }

    /// What `switch` of `u1` says, which must fail; the user stays.
    fn not_switched(&self, ferry: &Ferry) -> String {
        let output = ferry.run(&["switch", "u1"]);
        assert!(!output.status.success(), "{}", shown(&output));
        assert_eq!(ferry.status("u1")["authority"], "old");
        shown(&output)
    }

    /// Lets a user's move begin, and waits until all is copied.
    fn follow(&self, ferry: &Ferry, user: &str) {
        log_in(ferry.imap(), &self.pair, user).ok("LOGOUT");
        ferry.wait_phase(user, "following", LONG);
    }
}

/// The configuration that lets `u1` carry them.
fn carrying() -> Vec<(&'static str, &'static str)> {
    vec![("migration", "include = [\"shared\"]\nshared_account = \"u1\"")]
}

/// The usual new side, whose plugins and namespaces have one form in both formats. (A Dovecot 2.4 has other words.)
fn new_side(users: &[&str]) -> Spec {
    Spec { release: Release::V23, ..Spec::new_side(users) }
}

fn log_in(port: u16, pair: &Pair, user: &str) -> Imap {
    let mut imap = Imap::connect(port);
    imap.login(user, pair.old.password(user));
    imap
}

fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nmail\r\n").into_bytes()
}

/// Writes who may do what where: `u1`, and everybody else.
fn set_rights(server: &Dovecot, rights: &[(&str, [&str; 2])]) {
    let line = |(pattern, [u1, others]): &(&str, [&str; 2])| {
        format!("{pattern} user=u1 {u1}\n{pattern} authenticated {others}\n")
    };
    fs::write(server.mail_dir("rights"), rights.iter().map(line).collect::<String>()).unwrap();
}

/// What a user's client knows of a public mailbox.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    uid_validity: u32,
    uid_next: u32,
    /// By UID: body and flags.
    mails: Vec<(u32, Vec<u8>, Vec<String>)>,
}

fn seen(mut imap: Imap, mailbox: &str) -> Seen {
    let selected = imap.examine(mailbox);
    let mails = imap.uids().into_iter().map(|uid| (uid, imap.body(uid).unwrap(), imap.flags(uid).unwrap())).collect();
    Seen { uid_validity: selected.uid_validity, uid_next: selected.uid_next, mails }
}

#[test]
fn public_mailboxes_go_with_the_account_that_carries_them_and_everybody_finds_them_as_they_were() {
    let sides = Sides::start();
    let ferry = Ferry::start(sides.spec());
    let before = seen(log_in(ferry.imap(), &sides.pair, "u2"), "Public/News");
    assert_eq!(before.mails.len(), 2);
    sides.follow(&ferry, "u1");
    ferry.wait_phase("u2", "following", LONG);
    let status = ferry.status("u1");
    assert_eq!(status["carries"], 2, "{status:#}");
    assert_eq!(ferry.status("u2")["carries"], Value::Null);
    let said = ferry.run_ok(&["status", "u1"]);
    assert!(said.contains("carries      2 shared mailboxes, for everybody\n"), "{said}");
    assert_eq!(seen(sides.on_new("u2"), "Public/News"), before, "copied already, for those who go first");

    // What happens there until the switch comes along.
    sides.on_old("u1").ok("RENAME Public/Dept/Plans Public/Dept/Roadmap");
    sides.on_old("u1").ok("CREATE Public/Young");
    sides.on_old("u1").append("Public/Young", "", "03-Jan-2026 09:00:00 +0100", &mail("young"));
    sides.on_old("u1").append("Public/News", "", "03-Jan-2026 10:00:00 +0100", &mail("more news"));
    ferry.run_ok(&["switch", "u2"]);
    ferry.run_ok(&["switch", "u1"]);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["last_report"]["identical"].as_bool()), (Some("new"), Some(true)));
    let old = seen(sides.on_old("u2"), "Public/News");
    assert_eq!(old.mails.len(), 3);
    assert_eq!(seen(log_in(ferry.imap(), &sides.pair, "u2"), "Public/News"), old);
    for name in ["Public/Dept/Roadmap", "Public/Young"] {
        assert_eq!(seen(log_in(ferry.imap(), &sides.pair, "u2"), name), seen(sides.on_old("u2"), name));
    }
    let lsub = sides.on_new("u1").ok("LSUB \"\" \"Public/*\"");
    assert!(lossy(&lsub[0]).contains("Public/News"), "{lsub:?}");
    assert_eq!(World::of(&sides.pair.old, "u1"), World::of(&sides.pair.new, "u1"));
}

#[test]
fn a_command_shows_and_copies_what_the_account_carries_and_nobody_elses_does() {
    let sides = Sides::start();
    let ferry = Ferry::prepare(sides.spec());
    let said = shown(&on_user(&ferry, &sides.pair, &["check"], "u1"));
    assert!(
        said.contains("carries    the shared mailboxes, for everybody: 2 on the old side, 0 on the new side"),
        "{said}"
    );
    let said = shown(&on_user(&ferry, &sides.pair, &["check"], "u2"));
    assert!(said.contains("2 mailboxes of others: Public/Dept/Plans, Public/News; they are not moved with this user; those of the Shared namespace move \
                  with u1"), "{said}");
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

#[test]
fn without_a_namespace_where_clients_would_look_nothing_is_written() {
    for (new, words) in [
        ("", "the new side has no Shared namespace (RFC 2342) of that prefix"),
        (&PUBLIC.replace("prefix = Public/", "prefix = Everybody/"), "the new side has no Shared namespace"),
    ] {
        let sides = Sides::with(new);
        let ferry = Ferry::prepare(sides.spec());
        let said = sides.refused(&ferry);
        let wanted =
            ["2 shared mailboxes have names that begin with \"Public/\"", words, "`type = public`, `prefix = Public/`"];
        assert!(wanted.iter().all(|word| said.contains(word)), "{said}");
        let check = shown(&on_user(&ferry, &sides.pair, &["check"], "u1"));
        assert!(wanted.iter().all(|word| check.contains(word)), "{check}");
        assert_eq!(sides.on_new("u1").select("INBOX").exists, 0, "nothing was written");
        assert!(on_user(&ferry, &sides.pair, &["sync"], "u2").status.success(), "it is in nobody else's way");
    }
}

#[test]
fn a_mailbox_that_the_account_sees_and_may_not_read_is_named_and_keeps_it() {
    let sides = Sides::start();
    let rights = |drop: [&'static str; 2]| {
        let names = ["Public/News", "Public/Dept", "Public/Dept/Plans"];
        let mut rights: Vec<(&str, [&str; 2])> = names.map(|name| (name, RIGHTS)).into();
        rights.push(("Public/Drop", drop));
        set_rights(&sides.pair.old, &rights);
    };
    sides.on_old("u1").ok("CREATE Public/Drop");
    rights(["lip", "lip"]);
    let ferry = Ferry::start(sides.spec());
    let words =
        "shared mailbox `Public/Drop` on the old side gives this account the rights ilp only: it needs r as well";
    log_in(ferry.imap(), &sides.pair, "u1").ok("LOGOUT");
    let status =
        ferry.wait_status("u1", LONG, |status| status["reason"].as_str().is_some_and(|why| why.contains(words)));
    assert_eq!((status["phase"].as_str(), status["carries"].as_u64()), (Some("held"), Some(2)), "{status:#}");
    assert_eq!(sides.on_new("u1").select("INBOX").exists, 0, "nothing was written");
    let said = shown(&on_user(&ferry, &sides.pair, &["check"], "u1"));
    assert!(said.contains(words), "{said}");
    let (report, code) = verify(&ferry, &sides.pair, "u1", "none");
    assert_eq!((code, crate::sharing::of_rule(&report, "shared")[0][0].as_str()), (1, "Public/Drop"), "{report:#}");
    rights(RIGHTS);
    ferry.run_ok(&["resume", "u1"]);
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["carries"], 3);
}

#[test]
fn too_few_rights_on_the_new_side_are_named_and_keep_the_account() {
    let sides = Sides::start();
    set_rights(&sides.pair.new, &[("Public*", ["lr", "lr"])]);
    let ferry = Ferry::prepare(sides.spec());
    let said = sides.refused(&ferry);
    let words =
        "shared mailbox `Public/News` on the new side gives this account the rights lr only: it needs switkxte as well";
    assert!(said.contains(words), "{said}");
    let check = shown(&on_user(&ferry, &sides.pair, &["check"], "u1"));
    assert!(check.contains(words), "{check}");
    set_rights(&sides.pair.new, &[("Public*", RIGHTS)]);
    assert!(on_user(&ferry, &sides.pair, &["sync"], "u1").status.success());
}

#[test]
fn what_somebody_did_there_already_is_never_undone() {
    let sides = Sides::start();
    set_rights(&sides.pair.new, &[("Public*", ["lrwstipekxa", "lrwsti"])]);
    let ferry = Ferry::start(sides.spec());
    sides.follow(&ferry, "u1");
    sides.follow(&ferry, "u2");
    ferry.run_ok(&["switch", "u2"]);
    // A user who is there already flags a message and puts another one in.
    let mut early = log_in(ferry.imap(), &sides.pair, "u2");
    early.select("Public/News");
    early.ok("UID STORE 1 +FLAGS (\\Answered)");
    early.append("Public/Dept/Plans", "", "", &mail("by one who was early"));
    let after = ["Public/News", "Public/Dept/Plans"].map(|name| seen(sides.on_new("u2"), name));
    // The same happens on the old side, which would win.
    let mut old = sides.on_old("u1");
    old.select("Public/News");
    old.ok("UID STORE 1 FLAGS (\\Flagged)");
    old.append("Public/Dept/Plans", "", "", &mail("by one who was not"));
    let said = sides.not_switched(&ferry);
    for name in ["Public/News", "Public/Dept/Plans"] {
        assert!(
            said.contains(&format!("shared mailbox `{name}` was changed on the new side since our last copy")),
            "{said}"
        );
    }
    assert_eq!(["Public/News", "Public/Dept/Plans"].map(|name| seen(sides.on_new("u2"), name)), after);

    // What an operator is told to do: then it goes on.
    let mut new = sides.on_new("u1");
    for name in ["Public/News", "Public/Dept/Plans"] {
        new.ok(&format!("DELETE {name}"));
    }
    new.ok("LOGOUT");
    ferry.run_ok(&["resume", "u1"]);
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    for name in ["Public/News", "Public/Dept/Plans"] {
        assert_eq!(seen(sides.on_new("u2"), name), seen(sides.on_old("u2"), name));
    }
}

#[test]
fn what_comes_late_is_carried_over_and_the_way_back_tells_what_it_would_undo() {
    let sides = Sides::start();
    let ferry = Ferry::start(sides.spec());
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    sides.on_old("u2").ok("NOOP");
    sides.on_old("u1").append("Public/News", "\\Flagged", "04-Jan-2026 10:00:00 +0100", &mail("late news"));
    ferry.wait_status("u1", LONG, |status| status["late_arrivals"]["appended"] == 1);
    assert_eq!(seen(sides.on_new("u2"), "Public/News"), seen(sides.on_old("u2"), "Public/News"));

    let mut new = sides.on_new("u1");
    new.select("Public/News");
    new.ok("UID STORE 1 +FLAGS (\\Answered)");
    let output = ferry.run(&["rollback", "u1"]);
    let said = shown(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("Public/News") && said.contains("--accept-loss"),
        "{said}"
    );
    new.append("Public/News", "", "", &mail("new news"));
    let said = shown(&ferry.run(&["rollback", "--accept-loss", "u1"]));
    assert!(said.contains("mail of the new side would be lost") && said.contains("Public/News"), "{said}");
    new.ok("UID STORE 1 -FLAGS (\\Answered)");
    assert_eq!(ferry.status("u1")["authority"], "new");
}

#[test]
fn the_account_goes_back_where_nothing_would_be_lost() {
    let sides = Sides::start();
    let ferry = Ferry::start(sides.spec());
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    ferry.run_ok(&["rollback", "u1"]);
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("held"), Some("old")));
    ferry.run_ok(&["resume", "u1"]);
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(seen(sides.on_new("u2"), "Public/News"), seen(sides.on_old("u2"), "Public/News"));
}

#[test]
fn from_cyrus_shared_folders_are_carried_under_their_names() {
    if !cyrus::is_here() {
        return;
    }
    let users = ["u1", "u2"];
    let old = Cyrus::start(CyrusSpec::with(Names::AltSlashes, &users));
    let namespace = PUBLIC.replace("prefix = Public/", "prefix = \"Shared Folders/\"");
    let new = Spec { format: Format::Mdbox, ..new_side(&users) };
    let new = Dovecot::start(Spec { extra: namespace.replace("{format}", "mdbox"), ..new });
    set_rights(&new, &[("\"Shared Folders*\"", RIGHTS)]);
    let mut admin = old.admin();
    for name in ["news", "news/old", "secret"] {
        admin.ok(&format!("CREATE {name}"));
        admin.ok(&format!("SETACL {name} anyone {}", if name == "secret" { "l" } else { "lrsi" }));
    }
    let mut imap = old.log_in("u1");
    for (name, subject) in [("news", "one"), ("news", "two"), ("news/old", "three")] {
        imap.append(&format!("Shared Folders/{name}"), "\\Flagged", "01-Jan-2026 10:00:00 +0100", &mail(subject));
    }
    imap.ok("LOGOUT");
    let ferry =
        Ferry::start(FerrySpec { auto: false, max_pause: "10s", extra: carrying(), ..FerrySpec::between(&old, &new) });
    let session = |port: u16, user: &str| {
        let mut imap = Imap::connect(port);
        imap.login(user, old.password(user));
        imap
    };
    session(ferry.imap(), "u1").ok("LOGOUT");
    let words = "shared mailbox `Shared Folders/secret` on the old side gives this account the rights l only";
    ferry.wait_status("u1", LONG, |status| status["reason"].as_str().is_some_and(|why| why.contains(words)));
    admin.ok("SETACL secret anyone lrs");
    ferry.run_ok(&["resume", "u1"]);
    session(ferry.imap(), "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["carries"], 3);
    for name in ["Shared Folders/news", "Shared Folders/news/old"] {
        let old = seen(session(old.imap_port(), "u2"), name);
        assert!(!old.mails.is_empty());
        assert_eq!(seen(session(new.imap_port(), "u2"), name), old, "{name}");
    }
}

#[test]
fn a_dovecot_2_4_takes_them_as_well() {
    if !trixie::is_here() {
        return;
    }
    let sides = Sides::start();
    let namespace = "namespace public {\n  type = public\n  separator = /\n  prefix = Public/\n  mail_driver = mdbox\n  \
                     mail_path = {dir}/mail/public\n  subscriptions = no\n  list = children\n}\n";
    let users = ["u1", "u2"];
    let spec = Spec { release: Release::V24, format: Format::Mdbox, ..Spec::new_side(&users) };
    let new = Dovecot::start(Spec { extra: namespace.to_owned(), ..spec });
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        max_pause: "10s",
        extra: carrying(),
        ..FerrySpec::between(&sides.pair.old, &new)
    });
    sides.follow(&ferry, "u1");
    ferry.run_ok(&["switch", "u1"]);
    for name in ["Public/News", "Public/Dept/Plans"] {
        assert_eq!(seen(log_in(new.imap_port(), &sides.pair, "u2"), name), seen(sides.on_old("u2"), name));
    }
}

#[test]
fn a_subscription_that_the_new_side_takes_and_never_shows_is_named() {
    let sides = Sides::with(&PUBLIC.replace("{format}", "maildir"));
    if sides.pair.new.spec().format == Format::Maildir {
        return;
    }
    let ferry = Ferry::prepare(sides.spec());
    let said = sides.refused(&ferry);
    assert!(said.contains("takes the subscription to the shared mailbox `Public/News` and does not show it"), "{said}");
    sides.on_old("u1").ok("UNSUBSCRIBE Public/News");
    assert!(on_user(&ferry, &sides.pair, &["sync"], "u1").status.success());
}

#[test]
fn where_dsync_reads_the_old_side_the_account_is_refused_by_name() {
    let sides = Sides::start();
    let source = Some(format!("doveadm://127.0.0.1:{}", sides.pair.old.doveadm_port()));
    let ferry = Ferry::prepare(FerrySpec { source, ..sides.spec() });
    let said = sides.refused(&ferry);
    assert!(said.contains("Public/News") && said.contains("dsync does not tell of it"), "{said}");
    assert!(on_user(&ferry, &sides.pair, &["sync"], "u2").status.success());
}
