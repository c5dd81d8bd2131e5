//! An old side that is a Dovecot, read over its doveadm service: no password of the user, no IMAP session, and nothing that could
//! change anything there.

mod cost;
mod hostile;
mod rights;
mod sight;
mod tls;
mod untold;

use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, assert_foreign_judge_agrees, sync, verify};
use crate::formats::whole_way_read_from;
use crate::lab::{Account, Dovecot, Ferry, FerrySpec, Format, Release, Spec, nasty, trixie};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// Two servers, the old one as `old` says; the new one computes UIDLs that no old side has.
fn pair(old: Spec) -> Pair {
    let users: Vec<&str> = old.users.iter().map(|(user, _)| user.as_str()).collect();
    let new = Spec { separator: old.separator, own_uidls: true, ..Spec::new_side(&users) };
    Pair { new: Dovecot::start(new), old: Dovecot::start(old) }
}

fn old_side(release: Release, format: Format) -> Spec {
    Spec { release, format, ..Spec::old(&["u1"]) }
}

fn url(old: &Dovecot) -> Option<String> {
    Some(format!("doveadm://127.0.0.1:{}", old.doveadm_port()))
}

/// What a proxy is told that reads the old side by dsync.
fn by_dsync(pair: &Pair) -> FerrySpec<'_> {
    FerrySpec { source: url(&pair.old), ..FerrySpec::between(&pair.old, &pair.new) }
}

/// Fills `u1` on the old side, whatever its format.
fn fill(old: &Dovecot, make: impl FnOnce(&Dovecot, &str) -> Account) -> Account {
    if old.spec().format == Format::Maildir {
        return make(old, "u1");
    }
    let maildir = Dovecot::start(Spec::old(&["u1"]));
    let account = make(&maildir, "u1");
    let output = old.import("u1", &maildir, "u1");
    // 2: done, but for mod-sequences.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{output:?}");
    account
}

#[test]
fn a_nasty_account_arrives_whole_from_a_maildir() {
    arrives_whole(old_side(Release::V23, Format::Maildir), nasty::full);
}

#[test]
fn a_nasty_account_arrives_whole_from_an_mdbox() {
    arrives_whole(old_side(Release::V23, Format::Mdbox), nasty::without_large);
}

#[test]
fn a_nasty_account_arrives_whole_from_an_sdbox() {
    arrives_whole(old_side(Release::V23, Format::Sdbox), nasty::without_large);
}

#[test]
fn a_nasty_account_arrives_whole_from_a_dovecot_2_4() {
    if trixie::is_here() {
        arrives_whole(old_side(Release::V24, Format::Maildir), nasty::without_large);
    }
}

fn arrives_whole(old: Spec, make: fn(&Dovecot, &str) -> Account) {
    let as_written = old.format == Format::Maildir;
    let pair = pair(old);
    let account = fill(&pair.old, make);
    let ferry = Ferry::prepare(by_dsync(&pair));
    sync(&ferry, &pair, "u1");
    if as_written {
        assert_equal_everywhere(&ferry, &pair, &account);
        return;
    }
    // Dovecot's own import has lost a lone CR on the way into this old side.
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((report["identical"].as_bool(), code), (Some(true), 0), "{report:#}");
    assert_eq!((report["altered"].as_u64(), &report["bodies"]), (Some(0), &report["messages"]), "{report:#}");
    assert_foreign_judge_agrees(&pair, "u1");
}

#[test]
fn the_corpus_arrives_whole() {
    let pair = pair(Spec::old(&["u1"]));
    let Some(account) = nasty::corpus(&pair.old, "u1") else { return };
    let ferry = Ferry::prepare(by_dsync(&pair));
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}

#[test]
fn a_user_of_a_maildir_goes_the_whole_way() {
    whole_way(old_side(Release::V23, Format::Maildir));
}

#[test]
fn a_user_of_an_mdbox_goes_the_whole_way() {
    whole_way(old_side(Release::V23, Format::Mdbox));
}

#[test]
fn a_user_of_a_dovecot_2_4_goes_the_whole_way() {
    if trixie::is_here() {
        whole_way(old_side(Release::V24, Format::Maildir));
    }
}

/// The same old side by IMAP: nobody else has it as old side.
#[test]
fn a_user_of_a_dovecot_2_4_with_an_mdbox_goes_the_whole_way_over_imap() {
    if trixie::is_here() {
        let pair = pair(old_side(Release::V24, Format::Mdbox));
        fill(&pair.old, nasty::small);
        whole_way_read_from(&pair, None);
    }
}

fn whole_way(old: Spec) {
    let pair = pair(old);
    fill(&pair.old, nasty::small);
    whole_way_read_from(&pair, url(&pair.old));
}

/// Where POP3's UIDLs are stored with the mail, because it came from elsewhere, they need not be read by POP3.
#[test]
fn stored_uidls_arrive_where_nobody_reads_pop3() {
    let pair = pair(old_side(Release::V23, Format::Mdbox));
    // The old side of this move is the new side of another one, which had POP3.
    let before = Dovecot::start(Spec { own_uidls: true, ..Spec::old(&["u1"]) });
    nasty::small(&before, "u1");
    let first = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&before, &pair.old) });
    let moved = Pair { old: before, new: Dovecot::start(Spec::new_side(&["u1"])) };
    sync(&first, &moved, "u1");
    let ferry = Ferry::prepare(by_dsync(&pair));
    sync(&ferry, &pair, "u1");
    let (report, code) = verify(&ferry, &pair, "u1", "all");
    assert_eq!((code, report["pop3"].as_str()), (0, Some("not configured")), "{report:#}");
    let shown = |server| crate::uidl::maildrop::shown(server, "u1");
    assert_eq!(shown(&moved.old), shown(&pair.old));
    assert_eq!(shown(&pair.old), shown(&pair.new));
}
