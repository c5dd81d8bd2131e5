//! An account with everything that has ever broken a migration, made the same way each time.
//!
//! Most of it is written to disk as Maildir, because no IMAP server accepts NULs, empty messages or chosen UIDs by APPEND;
//! what only a live server does (expunges, COPY, keywords beyond the 26th) is done by IMAP. Each function gives the
//! [`Account`] it made; [`Account::differences`] says whether a server really serves it, and
//! `the_lab::nasty_is_what_it_says` checks that with a real Dovecot.

use super::account::{Account, Message, instant};
use super::imap::{Imap, mailbox_name};
use super::server::Dovecot;
use std::fs;
use std::path::PathBuf;

/// Octets of the one large message: more than fits any buffer of ours or of a socket.
pub const LARGE: usize = 60 * 1024 * 1024;
/// Different keywords in one mailbox; Maildir file names hold 26 of them.
pub const KEYWORDS: usize = 200;
/// 2024-02-29T12:00:00Z; everything without a date of its own counts from here.
const BASE_DATE: i64 = 1_709_208_000;

/// Mailbox names that Maildir++ and mdbox can both hold, each a trap for somebody's quoting, encoding or patterns.
pub const NAMES: &[&str] = &[
    "100 % sure",
    "%",
    "*",
    "a*b%c",
    "Tom & Jerry",
    "&",
    "&-",
    "&AOQ-",
    "say \"cheese\"",
    "back\\slash",
    "back\\\"both",
    "two  blanks",
    "(paren) {5} [bracket]",
    "{5+}",
    "NIL",
    "123",
    "inbox2",
    "INBOX/below",
    "Case",
    "case",
    "it's, a; list: #1!",
    "til~de",
    "-x",
    "Entwürfe",
    "Größe/Übermaß/ß",
    "日本語/受信箱",
    "🚢 ferry 🎉",
    "👩‍👩‍👧‍👦/👍🏽",
    "עברית",
    "u\u{308} decomposed",
    "ü composed",
    "a/b/c/d/e/f/g/h",
    "Archive",
    "Archive/2023",
    "Archive/2024/Q1",
    "Nowhere/deep/er",
    LONG_NAME,
];

/// As long as a name can be that is a folder `.name` on disk.
const LONG_NAME: &str = concat!(
    "long-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-",
    "0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-012345"
);

/// A dozen messages in four mailboxes, with a gap, keywords, a name that needs encoding and subscriptions: for tests that
/// are about something else.
pub fn small(server: &Dovecot, user: &str) -> Account {
    let mut account = Account::new(user);
    let inbox = account.mailbox("INBOX");
    for (uid, flags) in [(1, ""), (2, "\\Seen"), (5, "\\Seen $Forwarded"), (6, "\\Flagged"), (9, "NonJunk \\Answered")]
    {
        inbox.put(uid, plain(&format!("INBOX {uid}"), uid, flags));
    }
    inbox.uid_next = 12;
    let sent = account.mailbox("Sent");
    for uid in 1..=3 {
        sent.push(plain(&format!("Sent {uid}"), uid, "\\Seen"));
    }
    let nested = account.mailbox("Projekte/Größe");
    for uid in [3, 4, 8, 9] {
        nested.put(uid, plain(&format!("Größe {uid}"), uid, ""));
    }
    account.mailbox("Empty").uid_next = 1000;
    account.subscriptions = ["INBOX", "Sent", "Gone/for good"].map(str::to_owned).into();
    finish(&mut account, server);
    account
}

/// Everything, with the message of 60 MB.
pub fn full(server: &Dovecot, user: &str) -> Account {
    build(server, user, true)
}

/// Everything but the message of 60 MB.
pub fn without_large(server: &Dovecot, user: &str) -> Account {
    build(server, user, false)
}

/// `count` similar messages of about `octets` each in INBOX: for interrupting a copy.
pub fn bulk(server: &Dovecot, user: &str, count: u32, octets: usize) -> Account {
    many(server, user, count, |_| octets)
}

/// `count` messages of 0.5, 1.4, 3.7 and 24 kB by chance: over TLS a Dovecot runs pipelined FETCHes of these out of order.
pub fn mixed(server: &Dovecot, user: &str, count: u32) -> Account {
    many(server, user, count, |noise| [300, 1200, 3500, 24_000][noise.below(4)])
}

fn many(server: &Dovecot, user: &str, count: u32, octets: impl Fn(&mut Noise) -> usize) -> Account {
    let mut account = Account::new(user);
    let mut noise = Noise(7);
    let inbox = account.mailbox("INBOX");
    for number in 1..=count {
        let mut raw = header(&format!("bulk {number}"), number);
        let octets = octets(&mut noise);
        raw.extend(noise.lines(octets));
        inbox.push(Message::new(raw, if number % 3 == 0 { "\\Seen" } else { "" }, BASE_DATE + i64::from(number)));
    }
    finish(&mut account, server);
    account
}

/// Every file of the mail corpus, one mailbox for each of its folders, for a user without mail. `None` where no corpus
/// lies beside the crate (`../shared/corpus`, or where `MAILFERRY_CORPUS` points).
pub fn corpus(server: &Dovecot, user: &str) -> Option<Account> {
    let root = std::env::var_os("MAILFERRY_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let mut account = Account::new(user);
    for folder in sorted(&root)? {
        let name = folder.file_name()?.to_string_lossy().into_owned();
        if !folder.is_dir() || name == "LICENSES" {
            continue;
        }
        let mailbox = account.mailbox(&format!("Corpus/{}", name.replace('.', "-")));
        for (number, file) in sorted(&folder)?.iter().enumerate() {
            let raw = fs::read(file).unwrap();
            mailbox.push(Message::new(raw, "", BASE_DATE + i64::try_from(number).unwrap()));
        }
    }
    finish(&mut account, server);
    Some(account)
}

/// A name that this old side can hold and an mdbox with ordinary settings can not hold as it is.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    pub name: &'static str,
    /// What the old side needs in its [`Spec::extra`](super::Spec::extra).
    pub extra: &'static str,
}

/// One of each kind.
pub const REFUSED: &[Refused] = &[
    // dbox keeps each mailbox's mail in a folder of this name: it becomes `_dbox-Mails`.
    Refused { name: "dbox-Mails", extra: "" },
    // A leading `~` means somebody's home: it becomes `_~`.
    Refused { name: "~mail/Notes", extra: TILDE_NAMESPACE },
    // 240 octets of UTF-8 on the old disk, 322 of modified UTF-7 on the new: more than a file name's 255.
    Refused { name: OVERLONG, extra: "mail_location = maildir:{dir}/mail/%u:UTF-8\n" },
];

const TILDE_NAMESPACE: &str = "namespace tilde {
  prefix = ~mail/
  separator = /
  location = maildir:{dir}/mail/tilde-%u
  subscriptions = no
}
";

const OVERLONG: &str = concat!(
    "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü",
    "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü"
);

/// Three messages in INBOX and one in a mailbox whose name the new side would alter.
pub fn refused(server: &Dovecot, user: &str, case: &Refused) -> Account {
    let mut account = Account::new(user);
    for number in 1..=3 {
        account.mailbox("INBOX").push(plain(&format!("INBOX {number}"), number, ""));
    }
    account.write_to(server);
    let mut imap = account.log_in(server);
    imap.ok(&format!("CREATE {}", mailbox_name(case.name)));
    let mut mailbox = super::account::Mailbox::new(imap.select(case.name).uid_validity);
    let message = plain("under an odd name", 1, "");
    append(&mut imap, case.name, &message, "+0000");
    mailbox.push(message);
    account.mailboxes.insert(case.name.to_owned(), mailbox);
    account.no_select = account.implied_parents();
    account
}

/// What happened to the subscriptions and parents is worked out, then all is written.
fn finish(account: &mut Account, server: &Dovecot) {
    account.no_select = account.implied_parents();
    account.write_to(server);
}

fn build(server: &Dovecot, user: &str, large: bool) -> Account {
    let mut account = Account::new(user);
    let mut noise = Noise(42);
    gaps_and_twins(&mut account);
    names(&mut account);
    keywords(&mut account, &mut noise);
    system_flags(&mut account);
    odd_messages(&mut account, &mut noise);
    odd_dates(&mut account);
    empties(&mut account);
    if large {
        let mut raw = header("sixty megabytes", 1);
        raw.extend(noise.lines(LARGE));
        account.mailbox("Large").push(Message::new(raw, "\\Seen", BASE_DATE));
        account.mailbox("Large").push(plain("after the large one", 2, ""));
    }
    account.subscriptions =
        ["INBOX", "Sent", "Entwürfe", "Nowhere", "Tom & Jerry", "a*b%c", "Gone", "Gone/für immer", "🚢 ferry 🎉"]
            .map(str::to_owned)
            .into();
    finish(&mut account, server);
    by_imap(&mut account, server);
    account
}

fn gaps_and_twins(account: &mut Account) {
    let inbox = account.mailbox("INBOX");
    for uid in [1, 2, 4, 7, 8, 9, 40, 41, 4000, 70_000] {
        inbox.put(uid, plain(&format!("gap before {uid}"), uid, if uid % 2 == 0 { "\\Seen" } else { "" }));
    }
    inbox.uid_next = 70_100;
    let twins = account.mailbox("Twins");
    for flags in ["", "", "\\Seen", "\\Seen Twin"] {
        twins.push(plain("the same in every octet", 5, flags));
    }
    account.mailbox("Twins/elsewhere").push(plain("the same in every octet", 5, ""));
    let huge = account.mailbox("Huge numbers");
    huge.uid_validity = u32::MAX;
    for uid in [i32::MAX as u32, i32::MAX as u32 + 1, 4_000_000_000] {
        huge.put(uid, plain(&format!("huge {uid}"), uid, ""));
    }
}

fn names(account: &mut Account) {
    for (number, name) in (1..).zip(NAMES) {
        let mailbox = account.mailbox(name);
        mailbox.put(number, plain(&format!("in number {number}"), number, "\\Seen"));
        mailbox.uid_next = 100 + number;
    }
    for name in ["Sent", "Drafts", "Trash"] {
        account.mailbox(name).push(plain(name, 1, "\\Seen"));
    }
}

fn keywords(account: &mut Account, noise: &mut Noise) {
    let many = account.mailbox("Keywords");
    let name = |number: usize| format!("kw-{number:03}");
    for number in 0..KEYWORDS {
        let flags = [number, noise.below(KEYWORDS), noise.below(KEYWORDS)].map(name).join(" ");
        many.push(plain(&format!("keyword {number}"), u32::try_from(number).unwrap(), &flags));
    }
    let all: Vec<String> = (0..60).map(|number| name(number * 3)).collect();
    many.push(plain("sixty keywords at once", 500, &all.join(" ")));
    let usual = account.mailbox("Keywords/usual");
    for flags in ["$Forwarded", "$MDNSent NonJunk", "Junk \\Seen", "$label1 $label5 \\Flagged", "$NotJunk a!b'c:d;e"] {
        usual.push(plain(flags, 1, flags));
    }
    // The same word in another case, and the longest a stock Dovecot takes (50 octets).
    let spelled = account.mailbox("Keywords/spelled");
    spelled.push(plain("another case", 1, "JUNK nonjunk"));
    spelled.push(plain("as long as may be", 2, &"k".repeat(50)));
}

fn system_flags(account: &mut Account) {
    let flags = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];
    let mailbox = account.mailbox("Flags");
    for bits in 0..32_u32 {
        let set: Vec<&str> = (0..5).filter(|at| bits >> at & 1 == 1).map(|at| flags[at]).collect();
        mailbox.push(plain(&format!("flags {bits}"), bits, &set.join(" ")));
    }
}

fn odd_messages(account: &mut Account, noise: &mut Noise) {
    let long_line = noise.letters(1024 * 1024);
    let with = |body: &[u8]| [&b"Subject: odd\r\nX-Odd: yes\r\n\r\n"[..], body].concat();
    let messages: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\n".to_vec(),
        b"\r\n".to_vec(),
        b"\r".to_vec(),
        b"x".to_vec(),
        b"\0".to_vec(),
        b"Subject: header only, no blank line\r\n".to_vec(),
        b"Subject: header only, with its blank line\r\n\r\n".to_vec(),
        b"Subject: header only, no newline at all".to_vec(),
        b"no header at all\r\nbut text\r\n".to_vec(),
        b"\r\nstarts with the body\r\n".to_vec(),
        b" folded from the start\r\nSubject: x\r\n\r\ny\r\n".to_vec(),
        with(b"no final newline"),
        with(b"bare LF\nonly\nhere\n"),
        with(b"mixed\r\nline\nends\r\n\n\r\n"),
        with(b"CR CR LF\r\r\nin the middle\r\n"),
        with(b"CR CR CR LF\r\r\r\nand on\r\n"),
        b"Subject: CR CR LF in the header\r\r\nX: y\r\r\n\r\r\nbody\r\r\n".to_vec(),
        with(b"a lone\rCR inside\r\n"),
        with(b"a lone CR at the very end\r"),
        with(b"two lone CR at the very end\r\r"),
        with(b"\r\r\r"),
        with(b"NUL \0 in the body \0\0\r\n"),
        b"Subject: NUL \0 in the header\r\n\r\nx\r\n".to_vec(),
        with(&[0; 5000]),
        b"Subject: Gr\xfc\xdfe in latin-1\r\nFrom: J\xf6rg <j@example.net>\r\n\r\n\xe4\xf6\xfc\r\n".to_vec(),
        "Subject: Grüße in UTF-8 🚢\r\nFrom: \"Jörg\" <j@example.net>\r\n\r\näöü\r\n".as_bytes().to_vec(),
        with(&(0..=255).collect::<Vec<u8>>()),
        with(&[long_line.as_slice(), b"\r\n"].concat()),
        [b"Subject: ", long_line.as_slice(), b"\r\n\r\na header of one megabyte\r\n"].concat(),
        [b"Subject: x\r\n".to_vec(), b"X-Many: header\r\n".repeat(3000), b"\r\nbody\r\n".to_vec()].concat(),
        with(b"From the start of a line\r\n>From too\r\n.\r\n..\r\n. OK\r\n"),
        with(b"a1 OK LOGIN completed\r\n* BYE {5}\r\n* 1 FETCH (UID 1 BODY[] {3}\r\n)\r\n{12}\r\n{12+}\r\n"),
        with(b"\r\n\r\n\r\n\r\n"),
        with(b"\x1b[2J control \x01\x02\x7f\x08 characters \xff\xfe\r\n"),
        broken_mime(),
        nested_mime(80),
    ];
    let mailbox = account.mailbox("Odd messages");
    for (number, raw) in messages.into_iter().enumerate() {
        mailbox.push(Message::new(raw, "", BASE_DATE + i64::try_from(number).unwrap()));
    }
}

fn broken_mime() -> Vec<u8> {
    b"Content-Type: multipart/mixed; boundary=\"b\"\r\nContent-Type: text/plain\r\n\r\n--b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n====\r\n--c--\r\n"
        .to_vec()
}

fn nested_mime(depth: usize) -> Vec<u8> {
    let mut raw = b"Subject: nested\r\n".to_vec();
    for level in 0..depth {
        raw.extend(format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n").into_bytes());
    }
    raw.extend(b"Content-Type: text/plain\r\n\r\nat the bottom\r\n");
    raw
}

fn odd_dates(account: &mut Account) {
    let mailbox = account.mailbox("Dates");
    for (number, date) in (1..).zip([
        "01-Jan-1980 00:00:00 +0000",
        "31-Dec-1999 23:59:59 +0000",
        "29-Feb-2000 12:00:00 +0000",
        "31-Mar-2024 02:30:00 +0100",
        "27-Oct-2024 02:30:00 +0200",
        "30-Jun-2015 23:59:59 +0000",
        "31-Dec-2037 23:59:59 +0000",
        "19-Jan-2038 03:14:08 +0000",
        "01-Jan-1970 00:00:01 +0000",
    ]) {
        let message = Message { date: instant(date).unwrap(), ..plain(date, number, "") };
        mailbox.push(message);
    }
}

fn empties(account: &mut Account) {
    account.mailbox("Empty");
    account.mailbox("Empty/with a past").uid_next = 1000;
    account.mailbox("Empty/with a long past").uid_next = 3_000_000_000;
}

/// What only a live server does: expunges in the middle and at the end, COPY, APPEND with time zones, a mailbox deleted and
/// made again.
fn by_imap(account: &mut Account, server: &Dovecot) {
    let mut imap = account.log_in(server);
    imap.ok("CREATE Expunged");
    let mut expunged = super::account::Mailbox::new(imap.select("Expunged").uid_validity);
    for number in 1..=12 {
        let message = plain(&format!("expunged {number}"), number, if number % 2 == 0 { "\\Seen" } else { "" });
        append(&mut imap, "Expunged", &message, "+0000");
        expunged.push(message);
    }
    imap.select("Expunged");
    imap.ok("UID STORE 4:6,11:12 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    for uid in [4, 5, 6, 11, 12] {
        expunged.expunge(uid);
    }
    account.mailboxes.insert("Expunged".to_owned(), expunged);

    imap.ok("CREATE Copies");
    let mut copies = super::account::Mailbox::new(imap.select("Copies").uid_validity);
    imap.select("Twins");
    imap.ok("UID COPY 1:4 Copies");
    imap.ok("UID COPY 1:4 Copies");
    let twins: Vec<Message> = account.mailboxes["Twins"].messages.values().cloned().collect();
    twins.iter().chain(&twins).for_each(|message| {
        copies.push(message.clone());
    });
    account.mailboxes.insert("Copies".to_owned(), copies);

    imap.ok("CREATE Zones");
    let mut zones = super::account::Mailbox::new(imap.select("Zones").uid_validity);
    for (number, zone) in (1..).zip(["+1400", "-1200", "+0530", "-0330", "+0000", "-0000"]) {
        let mut message = plain(zone, number, "");
        message.date = append(&mut imap, "Zones", &message, zone);
        zones.push(message);
    }
    account.mailboxes.insert("Zones".to_owned(), zones);
    imap.ok("LOGOUT");
}

/// APPENDs with a date that shows the clock of `BASE_DATE` in `zone`; gives the instant.
fn append(imap: &mut Imap, mailbox: &str, message: &Message, zone: &str) -> i64 {
    let flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
    let offset = message.date - BASE_DATE;
    let date = format!("29-Feb-2024 12:{:02}:{:02} {zone}", offset / 60, offset % 60);
    imap.append(mailbox, &flags.join(" "), &date, &message.raw);
    instant(&date).unwrap()
}

/// An ordinary message.
pub fn plain(subject: &str, number: u32, flags: &str) -> Message {
    let mut raw = header(subject, number);
    raw.extend(format!("This is message {number}: {subject}.\r\n").into_bytes());
    Message::new(raw, flags, BASE_DATE + i64::from(number % 3600))
}

fn header(subject: &str, number: u32) -> Vec<u8> {
    format!(
        "From: Anna <anna@example.net>\r\nTo: Bert <bert@example.org>\r\nSubject: {subject}\r\n\
         Message-ID: <{number}@example.net>\r\nDate: Thu, 29 Feb 2024 12:00:00 +0000\r\n\r\n"
    )
    .into_bytes()
}

fn sorted(folder: &std::path::Path) -> Option<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    Some(paths)
}

/// Repeatable noise (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn letters(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 8);
        while out.len() < count {
            out.extend(self.next().to_le_bytes().map(|byte| b'a' + byte % 26));
        }
        out.truncate(count);
        out
    }

    /// About `octets` of text in lines of 76.
    fn lines(&mut self, octets: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(octets + 100);
        while out.len() < octets {
            out.extend(self.letters(76));
            out.extend(b"\r\n");
        }
        out
    }
}
