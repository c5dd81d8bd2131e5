//! Courier as old side.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{LONG, assert_same_to_clients, new_side, spec, switch, verify};
use crate::lab::foreign::Mbsync;
use crate::lab::{Courier, CourierSpec, Dovecot, Ferry, FerrySpec, Hold, Imap, Pop3, Served, Spec, World, nasty};
use crate::pop3_front::clients::Fetchmail;
use crate::uidl::maildrop::{self, Mpop};

/// A message whose size is that of others with a number of as many digits.
fn letter(subject: &str, number: u32) -> Vec<u8> {
    format!(
        "From: a@example.org\nSubject: {subject} {number}\nMessage-ID: <{number}.{subject}@example.org>\n\nbody {number}\n"
    )
    .into_bytes()
}

/// What Courier makes a file of.
fn crlf_less(raw: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(raw).replace("\r\n", "\n").into_bytes()
}

fn login(port: u16, old: &Courier, user: &str) -> Imap {
    let mut imap = Imap::connect(port);
    imap.login(user, &old.password(user));
    imap
}

/// An account that has lived with Courier: folders, keywords, holes, a burst of deliveries whose POP3 order is not that of the
/// UIDs, twins, 8-bit headers, a folder that was only ever delivered to. Gives the number of its messages in INBOX.
fn fill(old: &Courier, user: &str) -> usize {
    // Within one second POP3 sorts by the rest of the names, and UIDs are given as mail is discovered.
    let burst = |number| old.put(user, "", 1_700_000_100, &format!("M{number}P1.host"), &letter("burst", number));
    (7..=12).for_each(burst);
    let mut imap = login(old.imap_port(), old, user);
    assert_eq!(imap.select("INBOX").exists, 6);
    (1..=6).for_each(burst);
    assert_eq!(imap.select("INBOX").exists, 12);
    for name in ["INBOX.Sent", "INBOX.Work.2024", "INBOX.Entw&APw-rfe", "INBOX.Empty", "INBOX.a b.c&-d"] {
        imap.ok(&format!("CREATE \"{name}\""));
        imap.ok(&format!("SUBSCRIBE \"{name}\""));
    }
    imap.ok("SUBSCRIBE INBOX.Gone.away");
    for number in 1..=5 {
        let flags = ["", "\\Seen", "\\Seen $Forwarded", "\\Flagged mykw", "\\Answered"][number as usize - 1];
        imap.append("INBOX.Sent", flags, "17-Jul-1996 02:44:25 -0700", &letter("sent", number));
    }
    imap.append("INBOX.Work.2024", "\\Deleted", "", b"Subject: deleted, not expunged\r\n\r\nx\r\n");
    // Twins, one header with two bodies, and no header that POP3 would show as it is.
    for body in ["twin", "twin", "body-a", "body-b"] {
        let raw = format!("Subject: alike\r\n\r\n{body}\r\n");
        imap.append("INBOX", "\\Seen", "", raw.as_bytes());
    }
    imap.append(
        "INBOX",
        "",
        "",
        "Subject: Gr\u{fc}\u{df}e\r\nFrom: \u{e4}\u{f6}@example.org\r\n\r\n8-bit\r\n".as_bytes(),
    );
    imap.append("INBOX", "", "", b"Subject: no line end\r\n\r\nat all");
    imap.append("INBOX", "", "", b"Subject: to be expunged\r\n\r\n");
    // Both protocols number what they see at different times, with holes in between.
    imap.select("INBOX");
    imap.ok("STORE 19,3 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    maildrop::shown(old, user);
    imap.ok("STORE 5 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    old.make_folder(user, ".Filtered");
    for number in 1..=3 {
        old.put(user, ".Filtered", 1_700_000_200 + number, "a.host", &letter("filtered", number));
    }
    imap.ok("LOGOUT");
    16
}

#[test]
fn a_private_courier_is_what_the_debian_packages_make_of_it() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let mut imap = login(old.imap_port(), &old, "u1");
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

#[test]
fn a_user_of_courier_is_moved_and_clients_download_nothing_twice() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    let in_inbox = fill(&old, "u1");
    let ferry = Ferry::start(spec(&old, &new));

    let (mbsync, mpop, fetchmail) = (Mbsync::new(ferry.imap(), "u1", "pw-of-u1"), Mpop::new(), Fetchmail::new());
    let first = mbsync.run();
    assert!(first.success && first.downloaded == first.messages && first.messages > in_inbox, "{first:?}");
    let poll = |ferry: &Ferry| {
        let fetched = fetchmail.run(ferry.pop3(), "auth password uidl", "keep sslproto \"\"");
        (mpop.run(ferry.pop3(), "u1", "pw-of-u1"), fetched)
    };
    assert_eq!(poll(&ferry), (in_inbox, in_inbox));

    ferry.wait_phase("u1", "following", LONG);
    // It goes on living.
    let mut session = login(ferry.imap(), &old, "u1");
    session.append("INBOX.Sent", "\\Seen", "", &letter("sent", 9));
    session.select("INBOX");
    session.ok("STORE 1 +FLAGS (\\Answered late)");
    session.ok("STORE 2 +FLAGS (\\Deleted)");
    session.ok("EXPUNGE");
    // POP3 shows this one in the middle.
    old.put("u1", "", 1_700_000_300, "late.host", &letter("late", 1));
    session.ok("NOOP");
    session.ok("LOGOUT");
    let second = mbsync.run();
    assert!(second.success && second.downloaded == 2, "{second:?}");
    assert_eq!(poll(&ferry), (1, 1));
    let world = World::of(&old, "u1");

    switch(&ferry, "u1");
    assert_eq!(ferry.status("u1")["authority"], "new");
    let (report, code) = verify(&ferry, &old, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    let said = report["pop3"].as_str().unwrap();
    assert!(said.contains("UIDLs identical, same order, paired by "), "{said}");
    assert_same_to_clients(&old, &new, "u1");
    let sizes: Vec<u64> = maildrop::shown(&old, "u1").into_iter().map(|(_, size)| size).collect();
    let by_uid: Vec<u64> = world.mailboxes["INBOX"].mails.values().map(|mail| mail.body.len() as u64).collect();
    assert!(sizes.len() == by_uid.len() && sizes != by_uid, "POP3's order is not that of the UIDs: {sizes:?}");
    assert!(World::of(&old, "u1") == world, "the old side is as it was at the switch");

    let third = mbsync.run();
    assert!(third.success && third.downloaded == 0, "{third:?}");
    assert_eq!(poll(&ferry), (0, 0));
    let mut session = login(ferry.imap(), &old, "u1");
    assert_eq!(session.ok("NAMESPACE"), [br#"* NAMESPACE (("INBOX." ".")) NIL NIL"#]);
}

#[test]
fn the_text_that_stands_for_an_unreadable_message_is_never_copied() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    let mut imap = login(old.imap_port(), &old, "u1");
    imap.ok("CREATE INBOX.Sent");
    for number in 1..=4 {
        imap.append("INBOX.Sent", "", "", &letter("sent", number));
    }
    imap.select("INBOX.Sent");
    let file =
        old.files("u1", ".Sent").into_iter().find(|path| fs::read(path).unwrap() == crlf_less(&letter("sent", 3)));
    let file = file.expect("the third message");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    imap.ok("LOGOUT");
    let mut imap = login(old.imap_port(), &old, "u1");
    imap.examine("INBOX.Sent");
    let placeholder = imap.body(3).unwrap();
    assert!(placeholder.len() == 129 && placeholder.ends_with(b"no longer available on the server.\r\n"));

    let ferry = Ferry::start(spec(&old, &new));
    login(ferry.imap(), &old, "u1").ok("LOGOUT");
    let status = ferry.wait_status("u1", LONG, |status| status["reason"].as_str().is_some());
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("UID 3") && reason.contains("message unavailable"), "{reason}");
    assert!(!ferry.run(&["switch", "u1"]).status.success(), "{}", ferry.log());
    assert_eq!(ferry.status("u1")["authority"], "old");
    let copied = World::of(&new, "u1");
    assert_eq!(copied.copies(&placeholder), 0, "{copied:#?}");

    // Readable again, it is copied.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    login(ferry.imap(), &old, "u1").ok("LOGOUT");
    switch(&ferry, "u1");
    assert_same_to_clients(&old, &new, "u1");
    assert_eq!(World::of(&new, "u1").mailboxes["INBOX.Sent"].mails.len(), 4);
}

#[test]
fn what_a_client_sends_together_with_its_login_is_not_lost() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    old.put("u1", "", 1_700_000_000, "a.host", &letter("pipelined", 1));
    let mut direct = Imap::connect(old.imap_port());
    direct.send(b"a LOGIN u1 pw-of-u1\r\nb SELECT INBOX\r\n");
    assert_eq!(direct.response(), b"a OK LOGIN Ok.");
    direct.send(b"c LOGOUT\r\n");
    let (said, _) = direct.read_to_end(LONG);
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("c OK") && !said.contains("b OK"), "Courier itself loses it: {said}");

    let ferry = Ferry::start(FerrySpec { enroll: "none", ..spec(&old, &new) });
    let mut imap = Imap::connect(ferry.imap());
    imap.send(b"a LOGIN u1 pw-of-u1\r\nb SELECT INBOX\r\nc UID FETCH 1:* (BODY.PEEK[])\r\nd LOGOUT\r\n");
    let (said, ended) = imap.read_to_end(LONG);
    let said = String::from_utf8_lossy(&said);
    assert!(ended && ["a OK", "b OK", "body 1\r\n", "c OK", "d OK"].iter().all(|part| said.contains(part)), "{said}");

    let mut pop3 = Pop3::connect(ferry.pop3());
    pop3.send(b"USER u1\r\nPASS pw-of-u1\r\nUIDL\r\nRETR 1\r\nQUIT\r\n");
    let said = pop3.read_to_end();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("1 UID1-") && said.contains("body 1\r\n") && said.matches("+OK").count() == 5, "{said}");
}

#[test]
fn our_sessions_give_way_where_the_server_takes_few_from_one_address() {
    if !Courier::is_here() {
        return;
    }
    let users = ["u1", "u2"];
    let old = Courier::start_with(&CourierSpec { users: &users, imap_per_address: 1, pop3_per_address: 1 });
    let new = new_side(&users, "INBOX.", '.');
    old.put("u1", "", 1_700_000_000, "a.host", &letter("moved", 1));
    let hold = Hold::at("pop3-open");
    let faults = hold.fault();
    let ferry =
        Ferry::start(FerrySpec { enroll: "none", env: vec![("MAILFERRY_FAULTS", &faults)], ..spec(&old, &new) });
    ferry.run_ok(&["enroll", "u1"]);
    login(ferry.imap(), &old, "u1").ok("LOGOUT");
    // Here the mover has the only IMAP session and the only POP3 session that the server takes from us.
    hold.wait(LONG);
    let mut theirs = login(ferry.imap(), &old, "u2");
    theirs.select("INBOX");
    theirs.ok("LOGOUT");
    hold.release();
    hold.wait(LONG);
    let mut theirs = Pop3::connect(ferry.pop3());
    theirs.login("u2", "pw-of-u2");
    theirs.ok("STAT");
    theirs.quit();
    // It goes on where it was broken off.
    let deadline = std::time::Instant::now() + LONG;
    while ferry.status("u1")["phase"] != "following" {
        assert!(std::time::Instant::now() < deadline, "{:#}", ferry.status("u1"));
        hold.release();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn check_tells_the_brand_its_quirks_and_what_the_new_side_lacks() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let check = |new: &Dovecot| {
        let ferry = Ferry::prepare(spec(&old, new));
        let file = ferry.password_file("pw-of-u1");
        let output = ferry.run(&["check", "u1", "--password-file", &file]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), ferry)
    };
    let (code, said, _) = check(&new_side(&["u1"], "INBOX.", '.'));
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "it is Courier",
        "it is Dovecot",
        "MAXPERIP",
        "message unavailable",
        "loses what is sent together with a login",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Clients would see another prefix or separator: nothing is copied, and it is said what to set.
    for (prefix, separator, words) in [("", '.', "set `prefix = INBOX.`"), ("INBOX/", '/', "set `separator`")] {
        let new = new_side(&["u1"], prefix, separator);
        let (code, said, ferry) = check(&new);
        assert!(code == Some(1) && said.contains(words), "{said}");
        let (report, code) = verify(&ferry, &old, "u1");
        let found: Vec<_> = report["findings"].as_array().unwrap().iter().map(|found| found["rule"].clone()).collect();
        let rule = if separator == '.' { "prefix" } else { "separator" };
        assert!(code == 1 && found.contains(&rule.into()), "{report:#}");
        let file = ferry.password_file("pw-of-u1");
        assert!(!ferry.run(&["sync", "u1", "--password-file", &file]).status.success());
    }
}

#[test]
fn a_nasty_account_arrives_as_courier_shows_it() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    // Made by a Dovecot, which keeps mail in the same kind of folders.
    let maker = Dovecot::start(Spec { separator: '/', ..Spec::old(&["u1"]) });
    let account = nasty::without_large(&maker, "u1");
    old.take_over("u1", &maker.mail_dir("u1"));
    let before = World::of(&old, "u1");
    eprintln!("{} of {} messages", before.count(), account.message_count());
    let ferry = Ferry::start(spec(&old, &new));
    login(ferry.imap(), &old, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    switch(&ferry, "u1");
    let (report, code) = verify(&ferry, &old, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(report["bodies"].as_u64(), Some(before.count() as u64), "{report:#}");
    // Byte by byte what Courier shows, but for NUL, which IMAP has no way to tell.
    let (mut with_nul, after) = (0, World::of(&new, "u1"));
    for (name, shelf) in &before.mailboxes {
        for (uid, mail) in &shelf.mails {
            let arrived = &after.mailboxes[name].mails[uid];
            let shown: Vec<u8> = mail.body.iter().map(|&octet| if octet == 0 { 0x80 } else { octet }).collect();
            assert!(arrived.body == shown, "{name} UID {uid}");
            with_nul += u64::from(shown != mail.body);
        }
    }
    assert!(with_nul > 0 && report["altered"].as_u64() == Some(with_nul), "{report:#}");
    assert_eq!(maildrop::shown(&old, "u1"), maildrop::shown(&new, "u1"));
    // What Courier itself makes of files: each LF becomes CR LF, whatever stands before it, and the last of CRs at the very end
    // is lost.
    let shown: BTreeSet<Vec<u8>> =
        before.mailboxes.values().flat_map(|shelf| shelf.mails.values()).map(|mail| mail.body.clone()).collect();
    for message in account.mailboxes["Odd messages"].messages.values() {
        let raw = message.raw.strip_suffix(b"\r").unwrap_or(&message.raw);
        let by_courier: Vec<u8> = raw.iter().flat_map(|&octet| lf_as_crlf(octet)).collect();
        assert!(shown.contains(&by_courier), "{:?}", String::from_utf8_lossy(&message.raw));
    }
}

fn lf_as_crlf(octet: u8) -> Vec<u8> {
    if octet == b'\n' { b"\r\n".to_vec() } else { vec![octet] }
}

#[test]
fn the_mail_corpus_arrives_as_courier_shows_it() {
    if !Courier::is_here() {
        return;
    }
    let maker = Dovecot::start(Spec::old(&["u1"]));
    let Some(account) = nasty::corpus(&maker, "u1") else {
        eprintln!("no corpus here");
        return;
    };
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    old.take_over("u1", &maker.mail_dir("u1"));
    let ferry = Ferry::prepare(spec(&old, &new));
    let file = ferry.password_file("pw-of-u1");
    ferry.run_ok(&["sync", "u1", "--password-file", &file]);
    let (report, code) = verify(&ferry, &old, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!(report["messages"].as_u64(), Some(account.message_count() as u64));
    assert_eq!((report["bodies"].as_u64(), report["differences"].as_u64()), (report["messages"].as_u64(), Some(0)));
    eprintln!("{} messages, {} of them altered by a named rule", report["messages"], report["altered"]);
}

#[test]
fn a_mailbox_that_nobody_has_ever_opened_keeps_one_uidvalidity_and_loses_nothing() {
    if !Courier::is_here() {
        return;
    }
    let old = Courier::start(&["u1"]);
    let new = new_side(&["u1"], "INBOX.", '.');
    old.make_folder("u1", ".Filtered");
    for number in 1..=3 {
        old.put("u1", ".Filtered", 1_700_000_200 + number, "a.host", &letter("filtered", number));
    }
    // Courier gives it another one each second.
    let validity = |old: &Courier| {
        let mut imap = login(old.imap_port(), old, "u1");
        let status = imap.ok("STATUS INBOX.Filtered (UIDVALIDITY)");
        String::from_utf8_lossy(&status[0]).into_owned()
    };
    let first = validity(&old);
    crate::lab::wait_for("another second", LONG, || (validity(&old) != first).then_some(()));
    // A flag that a file has from elsewhere: what is deleted and not expunged stays so.
    let file = old.files("u1", ".Filtered").into_iter().min().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    fs::rename(&file, old.mail_dir("u1").join(".Filtered/cur").join(format!("{name}:2,T"))).unwrap();

    let ferry = Ferry::start(spec(&old, &new));
    login(ferry.imap(), &old, "u1").ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    let lasting = validity(&old);
    switch(&ferry, "u1");
    assert_eq!(validity(&old), lasting);
    let (report, code) = verify(&ferry, &old, "u1");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_same_to_clients(&old, &new, "u1");
    let shelf = &World::of(&new, "u1").mailboxes["INBOX.Filtered"];
    assert_eq!(shelf.mails.len(), 3);
    assert!(shelf.mails[&1].flags.contains("\\Deleted"), "{shelf:#?}");
}
