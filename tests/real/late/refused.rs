//! Messages that the new side does not take: they wait, and the others go on.

use mailferry::config::Endpoint;
use mailferry::mailbox::Side;
use mailferry::net::Access;
use mailferry::net::imap::ImapServer;
use mailferry::target::{Begun, ImapTarget, NewMessage};

use super::{DATE, DATE_SECONDS, Switched, log_in, mail};
use crate::copy::Pair;
use crate::lab::world::Mail;
use crate::lab::{Dovecot, Format, Spec};

/// A new side that reads one more file of settings.
fn pair(extra: &str) -> Pair {
    let new = Spec { format: Format::Mdbox, extra: extra.to_owned(), ..Spec::old(&["u1"]) };
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) }
}

#[test]
fn a_mailbox_that_may_not_be_written_keeps_its_mail_waiting_until_it_may() {
    let pair = pair("mail_plugins = $mail_plugins acl\nplugin {\n  acl = vfile:{dir}/acl:cache_secs=0\n}\n");
    let acl = pair.new.dir().join("acl");
    std::fs::write(&acl, "").unwrap();
    let mut switched = Switched::start(pair);
    std::fs::write(&acl, "Sent owner lrs\n").unwrap();
    switched.late("INBOX", "", &mail("late"), "INBOX");
    for body in [mail("late, sent"), [mail("big"), b"0123456789 and so on\r\n".repeat(70_000)].concat()] {
        log_in(&switched.pair.old).append("Sent", "\\Seen", DATE, &body);
    }
    for appended in [1, 0] {
        let swept = switched.sweep();
        assert_eq!((swept.appended, swept.pending), (appended, 2));
        let reason = swept.reason().unwrap();
        assert!(reason.contains("UID 2 of `Sent` waits") && reason.contains("[NOPERM]"), "{reason}");
        switched.assert_new_side();
    }
    std::fs::write(&acl, "").unwrap();
    let big = [mail("big"), b"0123456789 and so on\r\n".repeat(70_000)].concat();
    for body in [mail("late, sent"), big] {
        switched.model.shelf("Sent").push(Mail::new(&["\\Seen"], DATE_SECONDS, body));
    }
    let swept = switched.sweep();
    assert_eq!((swept.appended, swept.reason()), (2, None));
    switched.assert_new_side();
    assert_eq!(switched.sweep().appended, 0);
}

#[test]
fn a_full_account_keeps_what_does_not_fit_waiting_until_there_is_room() {
    let pair = pair("mail_plugins = $mail_plugins quota\n!include_try {dir}/quota.conf\n");
    let mut switched = Switched::start(pair);
    let rule = "plugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_rule = *:storage=20k\n  quota_grace = 0\n}\n";
    std::fs::write(switched.pair.new.dir().join("quota.conf"), rule).unwrap();
    switched.pair.new.stop();
    switched.pair.new.start_again();
    let big = [mail("too big"), b"0123456789 and so on\r\n".repeat(2000)].concat();
    log_in(&switched.pair.old).append("INBOX", "", DATE, &big);
    switched.late("INBOX", "", &mail("fits"), "INBOX");
    let swept = switched.sweep();
    assert_eq!((swept.appended, swept.pending), (1, 1));
    let reason = swept.reason().unwrap();
    assert!(reason.contains("UID 2 of `INBOX` waits") && reason.contains("[OVERQUOTA]"), "{reason}");
    switched.assert_new_side();
    std::fs::remove_file(switched.pair.new.dir().join("quota.conf")).unwrap();
    switched.pair.new.stop();
    switched.pair.new.start_again();
    switched.model.shelf("INBOX").push(Mail::new(&[], DATE_SECONDS, big));
    assert_eq!(switched.sweep().appended, 1);
    switched.assert_new_side();
}

/// Only other servers than Dovecot give a NUL out, so this is the target alone.
#[test]
fn a_message_with_a_nul_is_stored_as_it_is() {
    let server = Dovecot::start(Spec::new_side(&["u1"]));
    let (host, port) = ("127.0.0.1".to_owned(), server.imap_port());
    let endpoint = Endpoint::clear(host, port);
    let body = b"Subject: nul\r\nContent-Transfer-Encoding: binary\r\n\r\na\0b\r\n";
    let message = NewMessage { mailbox: b"INBOX", flags: &[], date: None, octets: body.len() as u64 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let imap = ImapServer::new(Side::New, &endpoint).unwrap();
        let password = server.password("u1").as_bytes().to_vec();
        let access = Access::own("u1", std::sync::Arc::new(password.into()));
        let target = ImapTarget::open(&imap, &access).await.unwrap();
        let Begun::Ready(mut appending) = target.begin(&message).await.unwrap() else { panic!("refused") };
        appending.octets(body).await.unwrap();
        appending.finish().await.unwrap().1
    });
    assert_eq!(answer.unwrap().unwrap().uid, 1);
    let mut imap = log_in(&server);
    imap.select("INBOX");
    let shown: Vec<u8> = body.iter().map(|octet| if *octet == 0 { 0x80 } else { *octet }).collect();
    assert_eq!(imap.body(1).unwrap(), shown);
    let binary = imap.ok("UID FETCH 1 BINARY.PEEK[1]");
    assert!(binary[0].windows(3).any(|three| three == b"a\0b"), "{:?}", crate::lab::imap::lossy(&binary[0]));
}
