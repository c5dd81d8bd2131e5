//! Every storage format and every release of the new side, each the whole way: copy, following, verification, switch, and
//! what an IMAP and a POP3 client that keep copies of their own see of it. Where the machine has no Dovecot 2.4, these tests
//! say so (and `tests/run.sh` in its summary).

use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, sync, verify};
use crate::crash::Scene;
use crate::crash::proxy::killed_into;
use crate::damage;
use crate::lab::foreign::Mbsync;
use crate::lab::world::Next;
use crate::lab::{
    Dovecot, Ferry, FerrySpec, Format, Hold, Imap, Release, Spec, World, deliver, nasty, trixie, wait_for,
};
use crate::master_users;
use crate::refusals;
use crate::uidl::{self, maildrop, maildrop::Mpop};

const LONG: Duration = Duration::from_secs(120);

/// A new side whose POP3 computes other UIDLs than any old side does: what is equal there was written.
fn new_side(release: Release, format: Format) -> Spec {
    Spec { release, format, own_uidls: true, ..Spec::new_side(&["u1"]) }
}

fn pair(release: Release, format: Format) -> Pair {
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new_side(release, format)) }
}

/// Two servers of the newest release; the old one still a Maildir with the UIDLs of old.
fn newest(format: Format) -> Pair {
    let old = Spec { release: Release::V24, ..Spec::old(&["u1"]) };
    Pair { old: Dovecot::start(old), new: Dovecot::start(new_side(Release::V24, format)) }
}

/// Waits until the new side is what the old side is, through the proxy's own following.
fn settle(ferry: &Ferry, pair: &Pair) {
    let mut last = Vec::new();
    wait_for("the new side to catch up", LONG, || {
        let (old, new) = (World::of(&pair.old, "u1"), World::of(&pair.new, "u1"));
        let found = old.differences(&new, Next::Equal);
        if found != last {
            eprintln!("{found:#?} {:#}", ferry.status("u1"));
            last = found.clone();
        }
        found.is_empty().then_some(())
    });
}

/// A user with an IMAP and a POP3 client is copied, followed while mail comes and changes, compared and switched.
pub(crate) fn whole_way(pair: &Pair) {
    nasty::small(&pair.old, "u1");
    whole_way_read_from(pair, None);
}

/// The same, where the old side's mail is there already, and may be read over its doveadm service.
pub(crate) fn whole_way_read_from(pair: &Pair, source: Option<String>) {
    let spec = FerrySpec { auto: false, pop3: true, source, ..FerrySpec::between(&pair.old, &pair.new) };
    let ferry = Ferry::start(spec);
    let password = pair.old.password("u1");
    let (imap_client, pop3_client) = (Mbsync::new(ferry.imap(), "u1", password), Mpop::new());
    let first = imap_client.run();
    assert!(first.success && first.downloaded >= 10, "{first:?}");
    assert_eq!(pop3_client.run(ferry.pop3(), "u1", password), 5);
    ferry.wait_phase("u1", "following", LONG);

    let mut session = Imap::connect(ferry.imap());
    session.login("u1", password);
    for number in 1..=3 {
        deliver(&pair.old, "u1", format!("Subject: new mail {number}\n\n{}\n", "x".repeat(number)).as_bytes());
    }
    session.append("INBOX", "\\Seen $Forwarded", "17-Jul-1996 02:44:25 -0700", b"Subject: appended\r\n\r\nmail\r\n");
    session.select("INBOX");
    let uids = session.uids();
    session.ok(&format!("UID STORE {} +FLAGS (\\Flagged fresh)", uids[0]));
    session.ok(&format!("UID STORE {} +FLAGS (\\Deleted)", uids[1]));
    session.ok("EXPUNGE");
    session.ok("CREATE made/after");
    session.append("made/after", "", "17-Jul-2006 02:44:25 -0700", b"Subject: later\r\n\r\nmail\r\n");
    session.ok("SUBSCRIBE made/after");
    session.ok("UNSELECT");
    settle(&ferry, pair);
    // UIDLs of what came after the first import are those of the old side, too.
    assert_eq!(maildrop::shown(&pair.old, "u1"), maildrop::shown(&pair.new, "u1"));
    // Both clients take what is new from the old side. (What POP3 has retrieved is \Seen.)
    assert_eq!(pop3_client.run(ferry.pop3(), "u1", password), 4);
    assert_eq!(imap_client.run().downloaded, 5);
    settle(&ferry, pair);
    session.ok("LOGOUT");

    let (report, code) = verify(&ferry, pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert!(report["pop3"].as_str().is_some_and(|pop3| pop3.contains("UIDLs identical, same order")), "{report:#}");
    let files = imap_client.files();
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(ferry.status("u1")["phase"], "new");
    let after = imap_client.run();
    assert!(after.success && after.downloaded == 0, "{after:?}");
    assert_eq!(imap_client.files(), files);
    assert_eq!(pop3_client.run(ferry.pop3(), "u1", password), 0, "everything is known already");

    // The new side gives new mail what no client has seen before.
    deliver(&pair.new, "u1", b"Subject: on the new side\n\nmail\n");
    assert_eq!(imap_client.run().downloaded, 1);
    assert_eq!(pop3_client.run(ferry.pop3(), "u1", password), 1);
}

fn nasty_account(pair: &Pair) {
    let account = nasty::full(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, pair, "u1");
    assert_equal_everywhere(&ferry, pair, &account);
}

/// `kill -9` of the proxy in the copy, and inside the gate; and of the new server while it is written.
fn killed(format: Format) {
    killed_into(new_side(Release::V24, format));
    let hold = Hold::at("copy-mailbox#1");
    let mut scene = Scene::between(new_side(Release::V24, format), &hold.fault(), |_| {});
    drop(scene.session());
    hold.wait(LONG);
    scene.pair.new.kill9();
    scene.pair.new.start_again();
    hold.release();
    let session = scene.session();
    scene.switch(session);
    let before = World::of(&scene.pair.old, "u1");
    scene.assert_ends_well(&before);
}

/// An sdbox whose own `pop3_uidl_format` gives what the old side's does: its UIDLs are the right ones, written or not.
fn fitting_sdbox(release: Release) -> Pair {
    let new = Spec { own_uidls: false, ..new_side(release, Format::Sdbox) };
    Pair { old: Dovecot::start(Spec::old(&["u1"])), new: Dovecot::start(new) }
}

/// An sdbox that would show other UIDLs for what comes after the first import: its users stay where they are.
fn sdbox_refused(release: Release) {
    let pair = pair(release, Format::Sdbox);
    nasty::small(&pair.old, "u1");
    let ferry = Ferry::start(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut session = Imap::connect(ferry.imap());
    session.login("u1", pair.old.password("u1"));
    let status = ferry.wait_phase("u1", "held", LONG);
    assert_eq!(status["authority"], "old");
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("sdbox-uidl")), "{status:#}");
    // The old side goes on serving them.
    assert_eq!(session.select("INBOX").exists, 5);
}

/// A new side of the newest release, for tests that take any.
fn newer(format: Format) -> impl Fn(&[&str]) -> Spec {
    move |users| Spec { release: Release::V24, format, ..Spec::new_side(users) }
}

macro_rules! on_24 {
    ($($name:ident: $what:expr;)*) => {
        $(#[test]
        fn $name() {
            if trixie::is_here() {
                $what;
            }
        })*
    };
}

#[test]
fn a_user_goes_the_whole_way_into_a_maildir() {
    whole_way(&pair(Release::V23, Format::Maildir));
}

#[test]
fn a_user_goes_the_whole_way_into_an_mdbox() {
    whole_way(&pair(Release::V23, Format::Mdbox));
}

#[test]
fn a_nasty_account_arrives_whole_in_a_maildir() {
    nasty_account(&pair(Release::V23, Format::Maildir));
}

#[test]
fn a_user_goes_the_whole_way_into_an_sdbox_that_computes_the_uidls_of_old() {
    whole_way(&fitting_sdbox(Release::V23));
}

#[test]
fn an_sdbox_that_would_forget_uidls_is_refused_at_the_first_copy() {
    sdbox_refused(Release::V23);
}

#[test]
fn damage_to_the_files_of_a_maildir_is_found() {
    damage::files::to_files(|users| Spec { release: Release::V23, format: Format::Maildir, ..Spec::new_side(users) });
}

/// With one message there is nothing to see yet; with the next there is.
#[test]
fn an_sdbox_that_would_forget_uidls_is_refused_at_the_second_message() {
    let pair = pair(Release::V23, Format::Sdbox);
    deliver(&pair.old, "u1", b"Subject: the first\n\nmail\n");
    let ferry = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    sync(&ferry, &pair, "u1");
    assert_eq!(maildrop::shown(&pair.old, "u1"), maildrop::shown(&pair.new, "u1"));
    deliver(&pair.old, "u1", b"Subject: the second one\n\nmail\n");
    let refused = on_user(&ferry, &pair, &["sync"], "u1");
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    assert!(shown(&refused).contains("sdbox-uidl"), "{}", shown(&refused));
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(false), 1), "{report:#}");
}

on_24! {
    on_dovecot_24_a_user_goes_the_whole_way_into_an_sdbox_that_fits: whole_way(&fitting_sdbox(Release::V24));
    on_dovecot_24_an_sdbox_that_would_forget_uidls_is_refused: sdbox_refused(Release::V24);
    on_dovecot_24_a_user_goes_the_whole_way_into_a_maildir: whole_way(&pair(Release::V24, Format::Maildir));
    on_dovecot_24_a_user_goes_the_whole_way_into_an_mdbox: whole_way(&pair(Release::V24, Format::Mdbox));
    from_dovecot_24_to_dovecot_24_a_user_goes_the_whole_way: whole_way(&newest(Format::Mdbox));
    on_dovecot_24_a_nasty_account_arrives_whole_in_a_maildir: nasty_account(&pair(Release::V24, Format::Maildir));
    on_dovecot_24_a_nasty_account_arrives_whole_in_an_mdbox: nasty_account(&pair(Release::V24, Format::Mdbox));
    on_dovecot_24_a_crash_into_a_maildir_loses_nothing: killed(Format::Maildir);
    on_dovecot_24_a_crash_into_an_mdbox_loses_nothing: killed(Format::Mdbox);
    on_dovecot_24_damage_to_a_maildir_is_found: damage::by_clients(newer(Format::Maildir));
    on_dovecot_24_damage_to_an_mdbox_is_found: damage::by_clients(newer(Format::Mdbox));
    on_dovecot_24_damage_to_the_files_of_a_maildir_is_found: damage::files::to_files(newer(Format::Maildir));
    on_dovecot_24_damage_to_the_files_of_an_mdbox_is_found: damage::files::to_files(newer(Format::Mdbox));
    on_dovecot_24_what_only_pop3_shows_of_a_maildir_is_found: damage::by_pop3(newer(Format::Maildir));
    on_dovecot_24_what_only_pop3_shows_of_an_mdbox_is_found: damage::by_pop3(newer(Format::Mdbox));
    on_dovecot_24_uidls_of_twins_arrive_in_a_maildir: uidl::twins_and_holes(newer(Format::Maildir));
    on_dovecot_24_uidls_of_twins_arrive_in_an_mdbox: uidl::twins_and_holes(newer(Format::Mdbox));
    on_dovecot_24_a_shuffled_list_keeps_its_order_in_a_maildir: uidl::shuffled(newer(Format::Maildir));
    on_dovecot_24_a_shuffled_list_keeps_its_order_in_an_mdbox: uidl::shuffled(newer(Format::Mdbox));
    on_dovecot_24_masters_copy_and_verify_in_all_forms: master_users::all_forms(newer(Format::Mdbox));
    on_dovecot_24_a_new_side_that_can_not_be_written_is_named: refusals::unwritable(newer(Format::Mdbox));
}
