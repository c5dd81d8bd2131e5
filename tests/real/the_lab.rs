//! The lab itself: what the other tests stand on.

use crate::lab::account::{Account, Message};
use crate::lab::{Dovecot, Imap, Spec, View, nasty};

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

#[test]
fn nasty_is_what_it_says() {
    let server = Dovecot::start(Spec::old(&["u1", "u2"]));
    for account in [nasty::full(&server, "u1"), nasty::small(&server, "u2")] {
        let found = account.differences(&mut account.log_in(&server), View::Source);
        assert!(found.is_empty(), "{}: {found:#?}", account.user);
    }
}

#[test]
fn the_corpus_is_served_octet_by_octet() {
    let server = Dovecot::start(Spec::old(&["u1"]));
    let Some(account) = nasty::corpus(&server, "u1") else { return };
    let found = account.differences(&mut account.log_in(&server), View::Source);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_model_that_is_wrong_in_one_fact_is_told_so() {
    let server = Dovecot::start(Spec::old(&["u1"]));
    let account = nasty::small(&server, "u1");
    let mut imap = account.log_in(&server);
    type Damage = fn(&mut Account);
    let damages: [(&str, Damage); 9] = [
        ("missing", |account| drop(account.mailbox("Other"))),
        ("unexpected", |account| drop(account.mailboxes.remove("Sent"))),
        ("UIDNEXT 12, not 13", |account| account.mailbox("INBOX").uid_next += 1),
        ("UIDVALIDITY", |account| account.mailbox("INBOX").uid_validity += 1),
        ("UIDs", |account| account.mailbox("INBOX").expunge(9)),
        ("flags", |account| drop(message(account).flags.insert("x".to_owned()))),
        ("INTERNALDATE", |account| message(account).date += 1),
        ("octets", |account| message(account).raw = b"Subject: other\r\n\r\n".to_vec().into()),
        ("subscriptions", |account| drop(account.subscriptions.pop_first())),
    ];
    for (word, damage) in damages {
        let mut wrong = account.clone();
        damage(&mut wrong);
        let found = wrong.differences(&mut imap, View::Source);
        assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
    }
}

fn message(account: &mut Account) -> &mut Message {
    account.mailbox("INBOX").messages.get_mut(&1).unwrap()
}
