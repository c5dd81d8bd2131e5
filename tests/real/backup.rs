//! `mailferry sync` in its default mode: deletions are followed, and what the new side did not get from us is never deleted, not even
//! when a run was killed before it could remember what it had written. (`doveadm backup` deletes it.)

use std::process::Command;

use crate::copy::{Pair, on_user, shown, sync};
use crate::lab::{Dovecot, Ferry, FerrySpec, Format, Imap, Spec, World, deliver};

const DATE: &str = "17-Jul-1996 02:44:25 -0700";

fn pair(format: Format) -> Pair {
    let new = Spec { format, ..Spec::new_side(&["u1", "judge"]) };
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) }
}

fn client(server: &Dovecot) -> Imap {
    let mut imap = Imap::connect(server.imap_port());
    imap.login("u1", server.password("u1"));
    imap
}

fn mail(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\ntext of {subject}\r\n").into_bytes()
}

fn subjects(server: &Dovecot, user: &str, mailbox: &str) -> Vec<String> {
    World::of(server, user).mailboxes[mailbox].mails.values().map(crate::lab::world::Mail::subject).collect()
}

/// In INBOX of the old side: UIDs 1 to 3.
fn fill(old: &Dovecot) -> Imap {
    let mut imap = client(old);
    for subject in ["a", "b", "c"] {
        imap.append("INBOX", "", DATE, &mail(subject));
    }
    imap
}

fn expunge(imap: &mut Imap, uid: u32) {
    imap.select("INBOX");
    imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
    imap.ok(&format!("UID EXPUNGE {uid}"));
    imap.ok("UNSELECT");
}

fn foreign_mail_stays(format: Format) {
    let pair = pair(format);
    let mut old = fill(&pair.old);
    let mut ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    ferry.set_env("MAILFERRY_FAULTS", "copy-mailbox#1=kill");
    let killed = on_user(&ferry, &pair, &["sync"], "u1");
    assert_eq!(killed.status.code(), None, "{}", shown(&killed));
    // Mail comes past everything to the new side, and gets a UID that the old side gives out and takes back.
    deliver(&pair.new, "u1", &mail("own"));
    old.append("INBOX", "", DATE, &mail("came and went"));
    expunge(&mut old, 4);
    expunge(&mut old, 1);
    ferry.set_env("MAILFERRY_FAULTS", "");
    for _ in 0..2 {
        let refused = on_user(&ferry, &pair, &["sync"], "u1");
        assert!(refused.status.code().is_some_and(|code| code != 0), "{}", shown(&refused));
        assert!(subjects(&pair.new, "u1", "INBOX").contains(&"own".to_owned()), "{}", shown(&refused));
    }
}

#[test]
fn mail_that_a_maildir_got_from_elsewhere_is_not_deleted_even_after_a_crash() {
    foreign_mail_stays(Format::Maildir);
}

#[test]
fn mail_that_an_mdbox_got_from_elsewhere_is_not_deleted_even_after_a_crash() {
    foreign_mail_stays(Format::Mdbox);
}

#[test]
fn deletions_are_followed_but_for_what_is_not_ours_which_doveadm_backup_deletes() {
    let pair = pair(Format::Mdbox);
    let mut old = fill(&pair.old);
    for name in ["Work", "Both"] {
        old.ok(&format!("CREATE {name}"));
        old.append(name, "", DATE, &mail("x"));
    }
    let ferry = Ferry::prepare(FerrySpec::between(&pair.old, &pair.new));
    sync(&ferry, &pair, "u1");
    expunge(&mut old, 2);
    old.ok("DELETE Work");
    sync(&ferry, &pair, "u1");
    assert_eq!(subjects(&pair.new, "u1", "INBOX"), ["a", "c"]);
    assert!(!World::of(&pair.new, "u1").mailboxes.contains_key("Work"));

    client(&pair.new).append("Both", "", DATE, &mail("own"));
    old.ok("DELETE Both");
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    assert!(refused.status.code() == Some(1) && shown(&refused).contains("`Both`"), "{}", shown(&refused));
    assert_eq!(subjects(&pair.new, "u1", "Both"), ["x", "own"]);

    let place = pair.new.dir().join("judged");
    assert!(Command::new("cp").arg("-a").arg(pair.old.mail_dir("u1")).arg(&place).status().unwrap().success());
    deliver(&pair.new, "judge", &mail("own"));
    pair.new.doveadm_ok(&["backup", "-R", "-u", "judge", &format!("maildir:{}", place.display())]);
    assert_eq!(subjects(&pair.new, "judge", "INBOX"), ["a", "c"]);
}
