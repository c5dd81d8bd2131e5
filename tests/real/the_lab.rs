//! The lab itself: what the other tests stand on.

use crate::lab::{Dovecot, Imap, Spec};

#[test]
fn a_dovecot_keeps_its_mail_and_ports_over_a_kill_and_all_spellings_are_one_mailbox() {
    let mut server = Dovecot::start(Spec::old(&["u1", "u2"]));
    let mut imap = Imap::connect(server.imap_port());
    imap.login("u1", server.password("u1"));
    let uid = imap.append("INBOX", "\\Seen kw", "17-Jul-1996 02:44:25 -0700", b"Subject: a\r\n\r\nb\r\n");
    assert_eq!(uid, Some(1));

    server.kill9();
    assert!(imap.cmd("NOOP").0.is_empty(), "the session died with the server");
    server.start_again();

    for name in ["U1", "u1@example.net"] {
        let mut imap = Imap::connect_tls(server.imaps_port(), &server.tls().ca);
        imap.login(name, server.password("u1"));
        assert_eq!(imap.select("INBOX").exists, 1);
        assert_eq!(imap.body(1).unwrap(), b"Subject: a\r\n\r\nb\r\n");
        assert_eq!(imap.flags(1).unwrap(), ["\\Seen", "kw"]);
    }
    assert!(Imap::connect(server.imap_port()).try_login("u2", server.password("u1")).starts_with("NO"));
    assert!(server.doveadm_ok(&["mailbox", "status", "-u", "u1", "uidnext", "INBOX"]).contains("uidnext=2"));
}

#[test]
fn an_mdbox_starts_with_starttls_and_a_user_added_later() {
    let mut server = Dovecot::start(Spec::new_side(&["u1"]));
    server.add_user("late", "another");
    let mut imap = Imap::connect_starttls(server.imap_port(), &server.tls().ca);
    imap.login("late", "another");
    imap.ok("CREATE Sent");
    let list: Vec<String> = imap.ok("LIST \"\" *").iter().map(|line| crate::lab::imap::lossy(line)).collect();
    assert!(list.iter().any(|line| line.contains("\\Sent") && line.contains("\"/\" Sent")), "{list:?}");
}
