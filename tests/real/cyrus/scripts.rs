//! Scripts from a Cyrus's timsieved, with the user's own password and with that of its administrator, who acts for users.

use super::*;
use crate::lab::{Sieve, SieveDoor};

const SORT: &str = "require [\"fileinto\"];\r\nif header :contains \"subject\" \"x\" { fileinto \"INBOX.Work\"; }\r\n";
const AWAY: &str = "require [\"vacation\"];\nvacation :days 3 \"Bin weg. \\\"Bald\\\" zur\u{fc}ck\";\n";

/// So a Cyrus lists a script that was put there as `Urlaub ö`, and takes it by no other name.
const LISTED: &str = "=?UTF-8?Q?Urlaub_=C3=B6?=";

/// A Cyrus with mail and scripts of `u1`, and a Dovecot with ManageSieve.
fn sides() -> (Sides, SieveDoor) {
    let names = Names::Dots;
    let (new, door) = SieveDoor::into(new_side(names, Format::Mdbox, &["u1"]), "");
    let sides = Sides { old: Cyrus::start(CyrusSpec::with(names, &["u1"])), new: Dovecot::start(new) };
    fill(&sides.old, "u1");
    let mut sieve = Sieve::login(sides.old.sieve_port(), "u1", sides.old.password("u1"));
    for (name, script) in [("sort", SORT), ("Urlaub \u{f6}", AWAY), ("draft", "keep;\n")] {
        sieve.put(name, script);
    }
    sieve.set_active(LISTED);
    (sides, door)
}

#[test]
fn from_cyrus_scripts_come_with_the_mail_and_the_active_one_is_active() {
    if !cyrus::is_here() {
        return;
    }
    let (sides, door) = sides();
    let keys = [format!("sieve = \"sieve://127.0.0.1:{}\"", sides.old.sieve_port()), door.key()];
    let extra = || vec![("old", keys[0].as_str()), ("new", keys[1].as_str())];
    let ferry = Ferry::start(FerrySpec { extra: extra(), ..sides.spec() });
    let checked = sides.on_user(&ferry, &["check"], "u1");
    let said = shown(&checked);
    assert!(
        said.contains("old sieve      ok: ") && said.contains(&format!("3 scripts, \"{LISTED}\" is active")),
        "{said}"
    );
    sides.sync(&ferry, "u1");
    let scripts = || {
        [sides.old.sieve_port(), door.port()].map(|port| Sieve::login(port, "u1", sides.old.password("u1")).scripts())
    };
    let [old, new] = scripts();
    assert_eq!((&old, old.0["sort"].as_str(), old.0[LISTED].as_str(), old.0.len()), (&new, SORT, AWAY, 3));
    let mut sieve = Sieve::login(sides.old.sieve_port(), "u1", sides.old.password("u1"));
    sieve.set_active("sort");
    sieve.delete(LISTED);
    sieve.put("draft", AWAY);
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", sides.old.password("u1"));
    session.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    let [old, new] = scripts();
    assert_eq!((&old, old.1.as_deref(), old.0.len()), (&new, Some("sort"), 2));
    let report = sides.verify(&ferry, "u1");
    assert_eq!(report["sieve"], "2 scripts, \"sort\" is active", "{report:#}");
}

/// (`admins`, or `proxyservers`, in its imapd.conf.)
#[test]
fn a_cyrus_lets_its_administrator_act_for_users_over_imap_pop3_and_managesieve() {
    if !cyrus::is_here() {
        return;
    }
    let (sides, door) = sides();
    let keys = [format!("sieve = \"sieve://127.0.0.1:{}\"", sides.old.sieve_port()), door.key()];
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "cyrus").unwrap();
    let master = format!("{{ kind = \"master-user\", user = \"cyrus\", password_file = \"{}\" }}", secret.display());
    let ferry = Ferry::prepare(FerrySpec {
        extra: vec![("old", keys[0].as_str()), ("new", keys[1].as_str())],
        credentials: [&master, "{ kind = \"user\" }"],
        ..sides.spec()
    });
    let file = ferry.password_file(sides.new.password("u1"));
    ferry.run_ok(&["sync", "u1", "--password-file", &file]);
    let report = sides.verify(&ferry, "u1");
    assert_eq!(report["sieve"], format!("3 scripts, \"{LISTED}\" is active"), "{report:#}");
    assert!(report["pop3"].as_str().unwrap().contains("UIDLs identical, same order"), "{report:#}");
}

/// It lists a quote as it stands in the name, where it ends the name.
#[test]
fn a_script_of_cyrus_with_a_quote_in_its_name_keeps_the_user_where_they_are() {
    if !cyrus::is_here() {
        return;
    }
    let (sides, door) = sides();
    let mut sieve = Sieve::login(sides.old.sieve_port(), "u1", sides.old.password("u1"));
    sieve.put("the \"new\" one", "keep;\n");
    let keys = [format!("sieve = \"sieve://127.0.0.1:{}\"", sides.old.sieve_port()), door.key()];
    let extra = vec![("old", keys[0].as_str()), ("new", keys[1].as_str())];
    let ferry = Ferry::prepare(FerrySpec { extra, ..sides.spec() });
    let output = sides.on_user(&ferry, &["sync"], "u1");
    let said = shown(&output);
    assert!(!output.status.success() && said.contains("old side ManageSieve"), "{said}");
    assert!(said.contains("said something that is not ManageSieve: \"the \"new\" one\""), "{said}");
}
