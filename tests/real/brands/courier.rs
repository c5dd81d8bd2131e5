//! Courier as old side.

use crate::lab::{Courier, Imap, Pop3, Served};

#[test]
fn a_private_courier_is_what_the_debian_packages_make_of_it() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let mut imap = Imap::connect(old.imap_port());
    imap.login("u1", &old.password("u1"));
    assert_eq!(imap.ok("NAMESPACE"), [br##"* NAMESPACE (("INBOX." ".")) NIL (("#shared." ".")("shared." "."))"##]);
    imap.ok("CREATE INBOX.Sent");
    assert!(imap.append("INBOX.Sent", "\\Seen mykw", "", b"Subject: a\r\n\r\nb\r\n").is_some());
    old.put("u1", "", 1_700_000_000, "a.host", b"Subject: delivered\n\nx\n");
    assert_eq!(imap.select("INBOX").exists, 1);
    let mut pop3 = Pop3::connect(old.pop3_port());
    pop3.login("u1", &old.password("u1"));
    let list = pop3.list("UIDL");
    assert!(list.len() == 1 && list[0].starts_with("1 UID1-"), "{list:?}");
}
