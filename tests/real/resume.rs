//! `kill -9` in the middle of a copy, of us and of either server: the next run goes on where it stopped, copies nothing
//! twice, and what was copied keeps its identity.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::copy::{Pair, assert_equal_everywhere, on_user, shown, sync};
use crate::lab::account::Message;
use crate::lab::imap::lossy;
use crate::lab::process::wait_for;
use crate::lab::{Account, Dovecot, Ferry, Format, Imap, nasty};

const LEAP_DAY: &str = "29-Feb-2024 12:00:00 +0000";
const LEAP_DAY_SECONDS: i64 = 1_709_208_000;
const LONG: Duration = Duration::from_secs(60);

/// Three mailboxes that take a while.
fn account(pair: &Pair, user: &str) -> Account {
    let mut account = Account::new(user);
    for (name, count) in [("INBOX", 500), ("Archiv/Größe", 300), ("Sent", 200)] {
        let mailbox = account.mailbox(name);
        for number in 1..=count {
            let mut message = nasty::plain(name, number, if number % 3 == 0 { "\\Seen kw" } else { "" });
            message.raw = [&message.raw[..], &b"0123456789 and so on, for some time\r\n".repeat(200)].concat().into();
            // With gaps.
            mailbox.put(number * 2, message);
        }
    }
    account.mailbox("Empty").uid_next = 1000;
    account.subscriptions = ["INBOX".to_owned(), "Sent".to_owned()].into();
    account.no_select = account.implied_parents();
    account.write_to(&pair.old);
    account
}

/// `mailferry sync` in the background; killed when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(ferry: &Ferry, pair: &Pair, user: &str) -> Self {
        let file = ferry.password_file(pair.old.password(user));
        let mut command = ferry.command(&["sync", user, "--password-file", &file]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let done = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &id]).status();
        assert!(done.unwrap().success());
    }

    /// Waits until so many messages are copied, or the run has ended before. Looks at the files: a client on the new side
    /// would be in the way.
    pub(crate) fn until(&mut self, pair: &Pair, account: &Account, copied: usize) {
        let largest = account.mailboxes.values().flat_map(|mailbox| mailbox.messages.values());
        // With what the new side writes beside it.
        let message = largest.map(|message| message.served().len()).max().unwrap_or_default() + 200;
        let mail = pair.new.mail_dir(&account.user);
        let octets = || octets_of_mail(&mail, pair.new.spec().format);
        wait_for("some messages to be copied", LONG, || {
            let ended = self.0.try_wait().unwrap().is_some();
            (ended || octets() >= (copied * message) as u64).then_some(())
        });
    }

    fn kill9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// What it says by its end.
    pub(crate) fn output(mut self) -> Output {
        let stdout = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap().into_bytes();
        let stderr = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap().into_bytes();
        Output { status: self.0.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The octets of all files in which a new side keeps what it has taken; a Maildir and an sdbox give a message its name last.
fn octets_of_mail(folder: &Path, format: Format) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let octets = |entry: std::fs::DirEntry| {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            return octets_of_mail(&path, format);
        }
        let holds_mail = match format {
            Format::Maildir => folder.ends_with("cur") || folder.ends_with("new"),
            Format::Mdbox => name.starts_with("m."),
            Format::Sdbox => name.starts_with("u."),
        };
        if holds_mail { entry.metadata().map_or(0, |file| file.len()) } else { 0 }
    };
    entries.flatten().map(octets).sum()
}

/// Waits until the target's part of a session that was cut off has written what it had received.
fn settle(pair: &Pair, user: &str) {
    let lock = pair.new.dir().join("home").join(user).join(".dovecot-sync.lock");
    wait_for("the target to give up its lock", LONG, || (!lock.exists()).then_some(()));
}

/// Mailbox and UID of each message on the new side, and its GUID there.
fn guids(pair: &Pair, user: &str) -> BTreeMap<String, String> {
    let output = pair.new.doveadm_ok(&["-f", "tab", "fetch", "-u", user, "mailbox uid guid", "ALL"]);
    let lines = output.lines().skip(1).map(|line| line.rsplit_once('\t').expect("three columns"));
    let guids: BTreeMap<String, String> = lines.map(|(place, guid)| (place.to_owned(), guid.to_owned())).collect();
    assert_eq!(guids.values().collect::<BTreeSet<_>>().len(), guids.len(), "no GUID twice");
    guids
}

/// Everything that was there is still there under the same GUID.
fn assert_kept(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (place, guid) in before {
        assert_eq!(after.get(place), Some(guid), "{place}");
    }
}

fn octets(account: &Account) -> usize {
    account.mailboxes.values().flat_map(|mailbox| mailbox.messages.values()).map(|message| message.served().len()).sum()
}

/// The last run: it brings exactly what is missing, and all is as it should be.
fn finish(ferry: &Ferry, pair: &Pair, account: &Account) {
    let before = guids(pair, &account.user);
    let there = |name: &str, uid: &u32| before.contains_key(&format!("{name}\t{uid}"));
    let missing: usize = account
        .mailboxes
        .iter()
        .flat_map(|(name, mailbox)| mailbox.messages.iter().filter(|(uid, _)| !there(name, uid)))
        .map(|(_, message)| message.served().len())
        .sum();
    assert!(missing < octets(account), "the copy begins anew: {} are there", before.len());
    let last = on_user(ferry, pair, &["sync"], &account.user);
    assert!(last.status.success(), "{}", shown(&last));
    let said = format!("; {missing} octets copied in this run");
    assert!(lossy(&last.stdout).contains(&said), "{missing} octets were missing: {}", shown(&last));
    assert_kept(&before, &guids(pair, &account.user));
    assert_equal_everywhere(ferry, pair, account);
}

#[test]
fn kill_9_of_the_copy_costs_nothing_but_what_was_on_the_way() {
    let pair = Pair::start(&["u1"]);
    let mut account = account(&pair, "u1");
    let ferry = pair.ferry();
    let (mut before, mut gone) = (BTreeMap::new(), Vec::new());
    for copied in [0, 1, 150, 499, 501, 600] {
        let mut run = Running::start(&ferry, &pair, "u1");
        run.until(&pair, &account, copied);
        run.kill9();
        settle(&pair, "u1");
        let after = guids(&pair, "u1");
        assert!(after.len() >= copied && after.len() < account.message_count(), "{copied} {}", after.len());
        assert_kept(&before, &after);
        before = after;
        if copied == 150 {
            // Meanwhile the user goes on: with what is copied, and with what is not.
            let mut imap = account.log_in(&pair.old);
            imap.select("INBOX");
            imap.ok("UID STORE 20,900,1000 +FLAGS.SILENT (\\Deleted)");
            imap.ok("EXPUNGE");
            imap.ok("UID STORE 40 +FLAGS (\\Answered)");
            let inbox = account.mailbox("INBOX");
            for uid in [20, 900, 1000] {
                inbox.expunge(uid);
                gone.push(format!("INBOX\t{uid}"));
            }
            inbox.messages.get_mut(&40).unwrap().flags.insert("\\Answered".to_owned());
        }
        // A run that ends early leaves them to a later one.
        before.retain(|place, _| !gone.contains(place));
    }
    finish(&ferry, &pair, &account);
}

/// The run that is going on when a server dies tells which one, and that it may be tried again.
fn dies(output: &Output, side: &str, server: &Dovecot) {
    let said = lossy(&output.stderr);
    let imap = format!("127.0.0.1:{}", server.imap_port());
    let doveadm = format!("doveadm://127.0.0.1:{}", server.doveadm_port());
    let named = said.contains(side) && said.contains(&imap) || said.contains(&doveadm);
    assert!(output.status.code() == Some(75) && named && said.lines().count() == 1, "{}", shown(output));
}

#[test]
fn kill_9_of_the_old_server_is_told_and_the_next_run_goes_on() {
    let mut pair = Pair::start(&["u1"]);
    let account = account(&pair, "u1");
    let ferry = pair.ferry();
    let mut before = BTreeMap::new();
    for copied in [1, 300, 600] {
        let mut run = Running::start(&ferry, &pair, "u1");
        run.until(&pair, &account, copied);
        pair.old.kill9();
        dies(&run.output(), "old side", &pair.old);
        pair.old.start_again();
        settle(&pair, "u1");
        let after = guids(&pair, "u1");
        assert!(after.len() >= copied && after.len() < account.message_count(), "{copied} {}", after.len());
        assert_kept(&before, &after);
        before = after;
    }
    finish(&ferry, &pair, &account);
}

/// Whether a run was refused because of a Maildir whose server has died while it wrote: files that had got no UID yet got
/// whatever was next. Then nobody can tell them from mail that is not ours; the account's mail there is taken away, as the
/// operator's guide says.
fn taken_away(pair: &Pair, output: &Output) -> bool {
    let refused = pair.new.spec().format == Format::Maildir && output.status.code() == Some(1);
    if refused {
        let said = lossy(&output.stderr);
        assert!(said.contains("mailbox `") && said.contains("UID") && said.contains("on the new side"), "{said}");
        assert!(!said.contains("mail of its own") || said.contains("or its server died"), "{said}");
        std::fs::remove_dir_all(pair.new.mail_dir("u1")).unwrap();
    }
    refused
}

/// An mdbox that dies while it is written has a broken end, which it mends when it is used again: that may cost a run.
#[test]
fn kill_9_of_the_new_server_is_told_and_the_next_runs_go_on() {
    let mut pair = Pair::start(&["u1"]);
    let account = account(&pair, "u1");
    let ferry = pair.ferry();
    for copied in [1, 300, 600] {
        loop {
            let mut run = Running::start(&ferry, &pair, "u1");
            run.until(&pair, &account, copied);
            pair.new.kill9();
            let output = run.output();
            pair.new.start_again();
            if !taken_away(&pair, &output) {
                dies(&output, "new side", &pair.new);
                break;
            }
        }
    }
    let mut runs = 0;
    loop {
        let output = on_user(&ferry, &pair, &["sync"], "u1");
        runs += 1;
        if output.status.success() {
            break;
        }
        let again = output.status.code() == Some(75) || taken_away(&pair, &output);
        assert!(again && runs < 5, "{}", shown(&output));
    }
    assert_equal_everywhere(&ferry, &pair, &account);
}

/// What a killed run has added to a mailbox that was complete before is ours, and not mail of the new side's own.
#[test]
fn kill_9_in_the_middle_of_a_later_run_does_not_make_our_mail_foreign() {
    let pair = Pair::start(&["u1"]);
    let mut account = nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    let mut imap = account.log_in(&pair.old);
    for _ in 0..150 {
        let raw = [&b"Subject: more\r\n\r\n"[..], &b"a line of the large body\r\n".repeat(1600)].concat();
        imap.append("INBOX", "", LEAP_DAY, &raw);
        account.mailbox("INBOX").push(Message::new(raw, "", LEAP_DAY_SECONDS));
    }
    let mut run = Running::start(&ferry, &pair, "u1");
    run.until(&pair, &account, 30);
    run.kill9();
    settle(&pair, "u1");
    assert!(guids(&pair, "u1").len() > 12 + 20);
    finish(&ferry, &pair, &account);
}

/// Everything that a run does besides copying bodies: deleting, making anew, flags, subscriptions, its own records.
#[test]
fn kill_9_at_any_moment_of_a_later_run_leaves_what_the_next_one_mends() {
    let pair = Pair::start(&["u1"]);
    let mut account = nasty::small(&pair.old, "u1");
    let ferry = pair.ferry();
    sync(&ferry, &pair, "u1");
    for round in 0..12_u32 {
        let mut imap = account.log_in(&pair.old);
        // Deleted and made again, flags, a delivery, an expunge, subscriptions: each round something of each.
        imap.ok("DELETE Sent");
        imap.ok("CREATE Sent");
        let mut sent = crate::lab::account::Mailbox::new(imap.select("Sent").uid_validity);
        for _ in 0..3 {
            sent.push(append(&mut imap, "Sent", round));
        }
        account.mailboxes.insert("Sent".to_owned(), sent);
        let message = append(&mut imap, "INBOX", round);
        let uid = account.mailbox("INBOX").push(message);
        imap.select("INBOX");
        if round > 0 {
            imap.ok(&format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", uid - 1));
            imap.ok("EXPUNGE");
            account.mailbox("INBOX").expunge(uid - 1);
        }
        imap.ok(&format!("UID STORE 5 +FLAGS (round{round})"));
        account.mailbox("INBOX").messages.get_mut(&5).unwrap().flags.insert(format!("round{round}"));
        let verb = if account.subscriptions.remove("Sent") { "UNSUBSCRIBE" } else { "SUBSCRIBE" };
        if verb == "SUBSCRIBE" {
            account.subscriptions.insert("Sent".to_owned());
        }
        imap.ok(&format!("{verb} Sent"));
        imap.ok("LOGOUT");

        let mut run = Running::start(&ferry, &pair, "u1");
        // Another moment each time; which one is left to chance.
        std::thread::sleep(Duration::from_millis(u64::from(round * round)));
        run.kill9();
        settle(&pair, "u1");
    }
    sync(&ferry, &pair, "u1");
    assert_equal_everywhere(&ferry, &pair, &account);
}

fn append(imap: &mut Imap, mailbox: &str, round: u32) -> Message {
    let raw = format!("Subject: round {round}\r\n\r\nx\r\n").into_bytes();
    imap.append(mailbox, "", LEAP_DAY, &raw);
    Message::new(raw, "", LEAP_DAY_SECONDS)
}
