//! Users who have another name on each side.

use std::fs;
use std::time::Duration;

use crate::copy::shown;
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Pop3, Spec, World, nasty};
use crate::uidl::maildrop;

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_side_is_given_the_names_that_it_knows() {
    let users = |users: &[(&str, &str)]| users.iter().map(|(u, p)| ((*u).to_owned(), (*p).to_owned())).collect();
    // The old server knows short names with a letter before them, and one that follows no rule; the new one addresses.
    let old = Dovecot::start(Spec { users: users(&[("kanna", "pw-a"), ("wunderlich", "pw-b")]), ..Spec::old(&[]) });
    let new = Dovecot::start(Spec {
        users: users(&[("anna@example.net", "pw-a"), ("bert@example.net", "pw-b")]),
        extra: "auth_username_format = %u\n".to_owned(),
        ..Spec::new_side(&[])
    });
    nasty::small(&old, "kanna");
    nasty::small(&old, "wunderlich");
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("names");
    fs::write(&table, "# USER NAME\n\nBert wunderlich\n").unwrap();
    let table = format!("login_names = \"{}\"", table.display());
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        pop3: true,
        default_domain: "example.net",
        extra: vec![("old", "login_name = \"k%Ln\""), ("old", &table), ("new", "login_name = \"%Ln@%Ld\"")],
        ..FerrySpec::between(&old, &new)
    });
    for (typed, password, there, here) in
        [("Anna", "pw-a", "kanna", "anna@example.net"), ("bert@Example.net", "pw-b", "wunderlich", "bert@example.net")]
    {
        let mut imap = Imap::connect(ferry.imap());
        imap.login(typed, password);
        imap.ok("LOGOUT");
        ferry.wait_phase(here, "following", LONG);
        let mut pop3 = Pop3::connect(ferry.pop3());
        pop3.login(typed, password);
        let before = pop3.list("UIDL");
        pop3.quit();
        let file = ferry.password_file(password);
        for command in ["verify", "check"] {
            let output = ferry.run(&[command, here, "--password-file", &file]);
            assert!(output.status.success(), "{}", shown(&output));
        }
        ferry.run_ok(&["switch", typed]);
        assert_eq!(World::of(&old, there), World::of(&new, here));
        assert_eq!(maildrop::shown(&old, there), maildrop::shown(&new, here));

        let mut imap = Imap::connect(ferry.imap());
        imap.login(typed, password);
        imap.ok("SELECT INBOX");
        imap.ok("LOGOUT");
        let mut pop3 = Pop3::connect(ferry.pop3());
        pop3.login(typed, password);
        assert_eq!(pop3.list("UIDL"), before);
        pop3.quit();
        ferry.run_ok(&["rollback", typed]);
    }
    // By SASL as well.
    let mut imap = Imap::connect(ferry.imap());
    let plain = imap.cmd("AUTHENTICATE PLAIN AGFubmEAcHctYQ==").0;
    assert!(plain.starts_with("OK "), "{plain}");
    let asked: Vec<String> =
        old.log().lines().filter(|line| line.contains("Login: user=<")).map(str::to_owned).collect();
    let unknown: Vec<&String> =
        asked.iter().filter(|line| !line.contains("user=<kanna>") && !line.contains("user=<wunderlich>")).collect();
    assert!(!asked.is_empty() && unknown.is_empty(), "{unknown:#?}");
}
