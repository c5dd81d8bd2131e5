//! The store's disk fills up, loses power, or gives back something else than was written: nobody is served wrongly, nothing
//! is lost, and the move ends in the same place.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown, sync};
use crate::lab::disk::Disk;
use crate::lab::fault::Hold;
use crate::lab::{Ferry, FerrySpec, Imap, World, nasty, wait_for};

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A proxy whose store lies on such a disk, stopped at a place.
fn start_on(disk: &Disk, pair: &Pair, hold: &Hold) -> Ferry {
    let mut ferry = Ferry::prepare(FerrySpec {
        env: vec![("RUST_LOG", "mailferry=debug")],
        extra: vec![("switch", "wait_for_idle = \"0s\"")],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    disk.put_under(&mut ferry);
    ferry.set_env("MAILFERRY_FAULTS", &hold.fault());
    ferry.start_again();
    ferry
}

fn log_in(ferry: &Ferry, pair: &Pair, user: &str) -> Imap {
    let mut imap = Imap::connect(ferry.imap());
    imap.login(user, pair.old.password(user));
    imap
}

fn append(imap: &mut Imap, subject: &str) {
    imap.append("INBOX", "", "17-Jul-2019 02:44:25 -0700", format!("Subject: {subject}\r\n\r\nmail\r\n").as_bytes());
}

fn wait_logged(ferry: &Ferry, words: &str) {
    wait_for(&format!("{words:?} in the log"), LONG, || ferry.log().contains(words).then_some(()));
}

/// How often a message of this subject is on the new side.
fn arrived(pair: &Pair, user: &str, subject: &str) -> usize {
    let world = World::of(&pair.new, user);
    world.mailboxes.values().flat_map(|shelf| shelf.mails.values()).filter(|mail| mail.subject() == subject).count()
}

#[test]
fn a_full_disk_while_copying_leaves_everybody_served_and_the_move_goes_on_when_there_is_space() {
    let (pair, disk, hold) = (Pair::start(&["u1", "u2"]), Disk::build(), Hold::at("copy-mailbox#2"));
    nasty::small(&pair.old, "u1");
    let ferry = start_on(&disk, &pair, &hold);
    let mut session = log_in(&ferry, &pair, "u1");
    hold.wait(LONG);
    disk.fill();
    hold.release();
    wait_logged(&ferry, "disk is full");
    append(&mut session, "on a full disk");
    append(&mut log_in(&ferry, &pair, "u1"), "in a new session");
    // Somebody of whom the store knows nothing yet.
    append(&mut log_in(&ferry, &pair, "u2"), "for the first time");
    let status = ferry.status("u1");
    assert_eq!((status["phase"].as_str(), status["authority"].as_str()), (Some("copying"), Some("old")), "{status:#}");
    disk.free();
    drop(session);
    log_in(&ferry, &pair, "u1");
    ferry.wait_phase("u1", "new", LONG);
    assert_foreign_judge_agrees(&pair, "u1");
    for subject in ["on a full disk", "in a new session"] {
        assert_eq!(arrived(&pair, "u1", subject), 1, "{subject}");
    }
    log_in(&ferry, &pair, "u2");
    ferry.wait_phase("u2", "new", LONG);
    assert_eq!(arrived(&pair, "u2", "for the first time"), 1);
}

#[test]
fn a_full_disk_at_the_commit_leaves_the_user_on_the_old_side_until_there_is_space() {
    let (pair, disk, hold) = (Pair::start(&["u1"]), Disk::build(), Hold::at("gate-commit#1"));
    nasty::small(&pair.old, "u1");
    let ferry = start_on(&disk, &pair, &hold);
    let mut session = log_in(&ferry, &pair, "u1");
    hold.wait(LONG);
    disk.fill();
    hold.release();
    wait_logged(&ferry, "disk is full");
    session.set_patience(Duration::from_secs(20));
    // The session goes on as if nothing had happened, and so do others.
    session.select("INBOX");
    append(&mut session, "on a full disk");
    append(&mut log_in(&ferry, &pair, "u1"), "in a new session");
    assert_eq!(ferry.status("u1")["authority"], "old");
    disk.free();
    drop(session);
    ferry.wait_phase("u1", "new", LONG);
    assert_foreign_judge_agrees(&pair, "u1");
    for subject in ["on a full disk", "in a new session"] {
        assert_eq!(arrived(&pair, "u1", subject), 1, "{subject}");
    }
}

/// What was told to anybody must be on the disk before: the power goes when the proxy stands at `place`.
fn cut_power_at(place: &str, then: &str) {
    let (pair, disk, hold) = (Pair::start(&["u1"]), Disk::build(), Hold::at(place));
    nasty::small(&pair.old, "u1");
    let mut ferry = start_on(&disk, &pair, &hold);
    let session = log_in(&ferry, &pair, "u1");
    hold.wait(LONG);
    disk.cut_power(&mut ferry);
    drop(session);
    ferry.set_env("MAILFERRY_FAULTS", "");
    ferry.start_again();
    let status = ferry.status("u1");
    assert_eq!(status["authority"], then, "{status:#}");
    log_in(&ferry, &pair, "u1");
    let status = ferry.wait_phase("u1", "new", LONG);
    assert_eq!((status["authority"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
    assert_foreign_judge_agrees(&pair, "u1");
}

#[test]
fn power_is_lost_while_copying() {
    cut_power_at("copy-mailbox#2", "old");
}

#[test]
fn power_is_lost_before_the_commit() {
    cut_power_at("gate-commit", "old");
}

#[test]
fn power_is_lost_right_after_the_commit() {
    cut_power_at("gate-committed", "new");
}

#[test]
fn power_is_lost_after_the_new_side_has_taken_mail() {
    let (pair, disk, hold) = (Pair::start(&["u1"]), Disk::build(), Hold::at("nowhere"));
    nasty::small(&pair.old, "u1");
    let mut ferry = start_on(&disk, &pair, &hold);
    drop(log_in(&ferry, &pair, "u1"));
    ferry.wait_phase("u1", "new", LONG);
    append(&mut log_in(&ferry, &pair, "u1"), "only here");
    disk.cut_power(&mut ferry);
    ferry.start_again();
    let mut again = log_in(&ferry, &pair, "u1");
    let found = World::read(&mut again);
    assert!(found.mailboxes["INBOX"].mails.values().any(|mail| mail.subject() == "only here"), "{found:#?}");
}

/// A store with a user in it who was switched, as a clean stop leaves it.
fn used_store(pair: &Pair) -> Ferry {
    nasty::small(&pair.old, "u1");
    let mut ferry = Ferry::start(FerrySpec::between(&pair.old, &pair.new));
    drop(log_in(&ferry, pair, "u1"));
    ferry.wait_phase("u1", "new", LONG);
    assert!(ferry.stop());
    assert!(!ferry.dir().join("state.db-wal").exists(), "everything is in one file");
    ferry
}

/// `serve`, which must end by itself.
fn refused(ferry: &Ferry) -> Output {
    let mut command = ferry.command(&["serve"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + LONG;
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it serves: {}", shown(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_damaged_store_is_refused_at_the_start_with_the_way_out() {
    const PAGE: usize = 4096;
    let pair = Pair::start(&["u1"]);
    let mut ferry = used_store(&pair);
    let path = ferry.store_path();
    let whole = fs::read(&path).unwrap();
    let pages = whole.len() / PAGE;
    let overwritten = |from: usize, count: usize| {
        let mut octets = whole.clone();
        for (at, octet) in octets.iter_mut().enumerate().skip(from).take(count) {
            *octet = u8::try_from(at * 7 % 251).unwrap();
        }
        octets
    };
    let mut damages: Vec<(String, Vec<u8>)> = vec![
        ("cut in half".to_owned(), whole[..whole.len() / 2].to_vec()),
        // (The last page may be one with nothing in it.)
        ("cut in the middle of a page".to_owned(), whole[..whole.len() - PAGE - 1000].to_vec()),
        ("another header".to_owned(), overwritten(0, 100)),
        ("something else altogether".to_owned(), b"[migration]\nenroll = \"all\"\n".repeat(400)),
    ];
    for page in 1..pages {
        damages.push((format!("page {} of {pages}", page + 1), overwritten(page * PAGE, PAGE)));
    }
    for (what, octets) in damages {
        for file in ["state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(ferry.dir().join(file));
        }
        fs::write(&path, octets).unwrap();
        let output = refused(&ferry);
        let said = shown(&output);
        assert!(!output.status.success() && said.contains("state.db") && said.contains("backup"), "{what}: {said}");
        assert!(!listens(&ferry), "{what}");
    }
    // The way out.
    fs::write(&path, whole).unwrap();
    ferry.start_again();
    assert_eq!(ferry.status("u1")["authority"], "new");
}

fn listens(ferry: &Ferry) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", ferry.imap())).is_ok()
}

#[test]
fn an_empty_file_is_a_new_store() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let mut ferry = pair.ferry();
    fs::write(ferry.store_path(), "").unwrap();
    ferry.start_again();
    drop(log_in(&ferry, &pair, "u1"));
    ferry.wait_phase("u1", "new", LONG);
}

#[test]
fn a_store_that_nobody_may_write_is_refused_at_the_start() {
    let pair = Pair::start(&["u1"]);
    let ferry = pair.ferry();
    // (Root may write everywhere, but not into a folder as if it were a file.)
    fs::create_dir(ferry.store_path()).unwrap();
    let output = refused(&ferry);
    let said = shown(&output);
    assert!(!output.status.success() && said.contains(&shown_path(&ferry.store_path())), "{said}");
    assert!(said.contains("writable"), "{said}");
}

fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

/// They would not know of each other's sessions: one could switch a user whom the other lets write to the old side.
#[test]
fn a_second_server_on_the_same_store_is_refused_until_the_first_has_ended() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let mut first = Ferry::start(FerrySpec { auto: false, ..FerrySpec::between(&pair.old, &pair.new) });
    let mut second = pair.ferry();
    let config = second.config_text();
    let (own, link) = (second.store_path().display().to_string(), second.dir().join("link.db"));
    std::os::unix::fs::symlink(first.store_path(), &link).unwrap();
    for path in [link, first.store_path()] {
        fs::write(second.config_path(), config.replace(&own, &path.display().to_string())).unwrap();
        let output = refused(&second);
        let said = shown(&output);
        assert!(output.status.code() == Some(75) && said.contains("serves from it already"), "{said}");
        assert!(said.contains(&format!("process {} ", first.id())), "{said}");
        assert!(!listens(&second));
    }
    // Whoever only works beside it may.
    sync(&second, &pair, "u1");
    first.kill9();
    second.start_again();
    assert_eq!(refused(&first).status.code(), Some(75));
    assert!(second.stop());
    first.start_again();
}
