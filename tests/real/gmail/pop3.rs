//! Gmail's POP3: UIDLs made of the number that IMAP tells, and messages that are hidden once a client has had them.

use super::{LONG, fill, log_in, new_side, spec, switch, verify};
use crate::copy::shown;
use crate::lab::server::Format;
use crate::lab::{Dovecot, Ferry, FerrySpec, Gmail, Tongue, World};
use crate::uidl::maildrop;

const HIDES: &str = "protocol pop3 {\n  pop3_deleted_flag = \"$POP3Deleted\"\n}\n";

fn with_pop3<'a>(old: &'a Gmail, new: &'a Dovecot) -> FerrySpec<'a> {
    FerrySpec { pop3: true, old_pop3: Some(old.pop3_url()), ..spec(old, new) }
}

/// X-GM-MSGIDs of INBOX in the order of UIDs.
fn inbox(old: &Gmail) -> Vec<u64> {
    old.change("u1", |account| account.find("INBOX").unwrap().uids.values().copied().collect())
}

fn pop(old: &Gmail, id: u64) {
    old.change("u1", |account| account.letters.get_mut(&id).unwrap().popped = true);
}

fn carried(format: Format) {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill(&old, "u1");
    let ids = inbox(&old);
    pop(&old, ids[1]);
    let new = new_side(&old, "u1", format, HIDES);
    let mut with = with_pop3(&old, &new);
    with.extra.push(("new", "pop3_deleted_flag = \"$POP3Deleted\""));
    let ferry = Ferry::start(with);
    log_in(&ferry, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    // A client takes one more, which IMAP's mod-sequences don't tell.
    pop(&old, ids[3]);
    switch(&ferry, "u1");
    let (before, after) = (maildrop::shown(&old, "u1"), maildrop::shown(&new, "u1"));
    assert_eq!(before, after);
    let uidls: Vec<String> = before.into_iter().map(|(uidl, _)| uidl).collect();
    let wanted: Vec<String> =
        ids.iter().enumerate().filter(|(at, _)| ![1, 3].contains(at)).map(|(_, id)| format!("GmailId{id:x}")).collect();
    assert_eq!(uidls, wanted);
    // IMAP still has them, with that keyword.
    let new_inbox = World::of(&new, "u1").mailboxes["INBOX"].clone();
    let hidden: Vec<u32> =
        new_inbox.mails.iter().filter(|(_, mail)| mail.flags.contains("$POP3Deleted")).map(|(uid, _)| *uid).collect();
    assert_eq!((new_inbox.mails.len(), hidden), (6, vec![2, 4]));
    let (report, code) = verify(&ferry, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert!(report.to_string().contains("pop3-hidden"), "{report:#}");
    // Nothing of ours was retrieved there: that would have hidden it.
    assert!(old.change("u1", |account| account.letters.values().filter(|letter| letter.popped).count()) == 2);
}

#[test]
fn uidls_of_gmail_are_carried_to_mdbox_and_what_pop3_hides_stays_hidden() {
    carried(Format::Mdbox);
}

#[test]
fn uidls_of_gmail_are_carried_to_maildir_and_what_pop3_hides_stays_hidden() {
    carried(Format::Maildir);
}

#[test]
fn what_gmails_pop3_hides_would_come_back_where_nobody_said_how_to_hide_it() {
    let old = Gmail::start(&["u1"], Tongue::English);
    fill(&old, "u1");
    pop(&old, inbox(&old)[1]);
    let new = new_side(&old, "u1", Format::Mdbox, "");
    let ferry = Ferry::start(with_pop3(&old, &new));
    log_in(&ferry, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let refused = ferry.run(&["switch", "u1"]);
    assert!(!refused.status.success(), "{}", shown(&refused));
    let said = format!("{}{}", shown(&refused), ferry.status("u1"));
    assert!(said.contains("pop3-pairing") && said.contains("POP3 does not show UID 2 of INBOX"), "{said}");
    assert_eq!(ferry.status("u1")["authority"], "old");
}
