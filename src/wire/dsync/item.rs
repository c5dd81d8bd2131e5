//! dsync's items: ours as bytes, the peer's by the names of *its* header lines (dsync reference §4.2 and §5).

use std::fmt;

use super::layout::{ItemError, Record};
use super::{escape, quoted};

/// A mailbox's or a message's 128-bit GUID.
pub type Guid = [u8; 16];

/// The fields that we write of every item but H.
macro_rules! items {
    () => {
        "Smailbox_guid\tlast_uidvalidity\tlast_common_uid\tlast_common_modseq\tlast_common_pvt_modseq\tlast_messages_count\tchanges_during_sync
Nname\texistence\tmailbox_guid\tuid_validity\tuid_next\tlast_renamed_or_created\tsubscribed\tlast_subscription_change
Dhierarchy_sep\tescape_char\tmailboxes\tdirs\tunsubscribes
Bmailbox_guid\tuid_validity\tuid_next\tmessages_count\tfirst_recent_uid\thighest_modseq\thighest_pvt_modseq\tmailbox_lost\tmailbox_ignore\tcache_fields\thave_guids\thave_save_guids\thave_only_guid128
Atype\tkey\tvalue\tstream\tdeleted\tlast_change\tmodseq
Ctype\tuid\tguid\thdr_hash\tmodseq\tpvt_modseq\tadd_flags\tremove_flags\tfinal_flags\tkeywords_reset\tkeyword_changes\treceived_timestamp\tvirtual_size
Rguid\tuid
Mguid\tuid\tpop3_uidl\tpop3_order\treceived_date\tsaved_date\tstream
Ferror\tmail_error\trequire_full_resync
cname\tdecision\tlast_used
.
"
    };
}
pub(super) use items;

/// What a writer sends first: our version and the fields that we write, in our order. The golden of the reference, and one more.
pub const PREAMBLE: &str = concat!(
    "VERSION\tdsync\t3\t5\n",
    "Hhostname\tsync_ns_prefix\tsync_box\tsync_box_guid\tsync_type\tdebug\texclude_mailboxes\tsend_mail_requests\tbackup_send\tbackup_recv\tlock_timeout\tno_mail_sync\tno_backup_overwrite\tno_notify\timport_commit_msgs_interval\thashed_headers\talt_char\tvirtual_all_box\n",
    items!()
);

/// A line of ours: fields in the order of [`PREAMBLE`], trailing NULLs left out.
pub(super) struct Line {
    out: Vec<u8>,
    nulls: usize,
    first: bool,
}

impl Line {
    pub(super) fn new(letter: u8) -> Self {
        Self { out: vec![letter], nulls: 0, first: true }
    }

    pub(super) fn field(mut self, value: Option<&[u8]>) -> Self {
        let Some(value) = value else {
            self.nulls += 1;
            return self;
        };
        for null in std::iter::repeat_n(true, self.nulls).chain([false]) {
            if !std::mem::take(&mut self.first) {
                self.out.push(b'\t');
            }
            escape::field(if null { None } else { Some(value) }, &mut self.out);
        }
        self.nulls = 0;
        self
    }

    pub(super) fn text(self, value: impl ToString) -> Self {
        self.field(Some(value.to_string().as_bytes()))
    }

    pub(super) fn flag(self, set: bool) -> Self {
        self.field(set.then_some(b""))
    }

    pub(super) fn null(self) -> Self {
        self.field(None)
    }

    fn hex(self, bits: u8) -> Self {
        if bits == 0 { self.null() } else { self.text(format_args!("{bits:x}")) }
    }

    pub(super) fn end(mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
        out.push(b'\n');
    }
}

pub(super) fn hex(guid: &Guid) -> String {
    guid.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much of an account a session compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every mailbox by its full list.
    Full,
    /// Mailboxes with a [`MailboxState`] only above it, the others by their full list.
    State,
}

/// H: our handshake. One way, merging, never destroying (dsync reference §1), without push notifications. `namespaces` are
/// the prefixes of those that take part; none: the peer decides.
pub fn handshake(
    hostname: &str,
    mode: Mode,
    lock_timeout: u32,
    (namespaces, virtual_all): (&[String], Option<&str>),
    out: &mut Vec<u8>,
) {
    let kind = match mode {
        Mode::Full => "f",
        Mode::State => "s",
    };
    let hashed = hashed_headers();
    let prefixes = (!namespaces.is_empty()).then(|| namespaces.join("\n"));
    let line = Line::new(b'H').text(hostname).field(prefixes.as_deref().map(str::as_bytes));
    let line = line.null().null().text(kind).null().null().null().null();
    let line = line.flag(true).text(lock_timeout).null().flag(true).flag(true).null();
    line.field(Some(&hashed)).text('_').field(virtual_all.map(str::as_bytes)).end(out);
}

/// Headers by which messages without a GUID are told apart; of no use here, and never left out.
pub(super) fn hashed_headers() -> Vec<u8> {
    [escape::join([&b"Date"[..], b"Message-ID"]), b"\t".to_vec()].concat()
}

/// S: what both sides have in common of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxState {
    /// Which mailbox.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// The last UID that is the same on both sides.
    pub last_common_uid: u32,
    /// The target's mod-sequence up to which its own changes are known.
    pub last_common_modseq: u64,
    /// Messages at or below `last_common_uid`.
    pub messages: u32,
    /// The slave's alone: what it found was not what it expected, so the rest says little.
    pub conflict: bool,
}

impl MailboxState {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let line = Line::new(b'S').text(hex(&self.guid)).text(self.uid_validity).text(self.last_common_uid);
        line.text(self.last_common_modseq).text(0).text(self.messages).end(out);
    }
}

/// N: a name in the mailbox tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The decoded parts.
    pub name: Vec<String>,
    /// What can be selected under it; `None` for a parent or a subscription only.
    pub mailbox: Option<NodeMailbox>,
    /// When it was created or renamed, seconds since the epoch; 0 is unknown.
    pub changed_at: u64,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// When that changed, seconds since the epoch; 0 is unknown.
    pub subscription_changed_at: u64,
}

/// The selectable mailbox of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMailbox {
    /// Its GUID.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// Its UIDNEXT.
    pub uid_next: u32,
}

impl Node {
    /// `escapes`: the peer announces an escape character, so it reads `%XX` in a name as one octet.
    pub(super) fn encode(&self, escapes: bool, out: &mut Vec<u8>) {
        let time = |at: u64| (at > 0).then(|| at.to_string());
        let parts: Vec<Vec<u8>> = self.name.iter().map(|part| name_part(part, escapes)).collect();
        let line = Line::new(b'N').field(Some(&escape::join(parts.iter().map(Vec::as_slice))));
        let line = match &self.mailbox {
            Some(mailbox) => line.text('y').text(hex(&mailbox.guid)).text(mailbox.uid_validity).text(mailbox.uid_next),
            None => line.text('n').null().null().null(),
        };
        let line = line.field(time(self.changed_at).as_ref().map(String::as_bytes)).flag(self.subscribed);
        line.field(time(self.subscription_changed_at).as_ref().map(String::as_bytes)).end(out);
    }

    pub(super) fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        let name = record.required("name")?;
        let name = escape::split(&name).iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        // One that is being deleted is listed with its GUID, too.
        let exists = record.required("existence")? == b"y";
        let mailbox = match record.guid("mailbox_guid")?.filter(|_| exists) {
            Some(guid) => Some(NodeMailbox {
                guid,
                uid_validity: record.number("uid_validity")?.unwrap_or(0),
                uid_next: record.number("uid_next")?.unwrap_or(0),
            }),
            None => None,
        };
        Ok(Self {
            name,
            mailbox,
            changed_at: record.number("last_renamed_or_created")?.unwrap_or(0),
            subscribed: record.flag("subscribed"),
            subscription_changed_at: record.number("last_subscription_change")?.unwrap_or(0),
        })
    }
}

/// A part of a name as a slave must see it. Measured on 2.3.19: it reads `%XX` in the names that it receives, whatever
/// escape character we announce, but does not write it; without this `%41` would become `A`. Control characters, which
/// it would else replace by `alt_char`, stay what they are.
fn name_part(part: &str, escapes: bool) -> Vec<u8> {
    if !escapes {
        return part.as_bytes().to_vec();
    }
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let hex = |behind: usize| bytes.get(at + behind).is_some_and(u8::is_ascii_hexdigit);
        let ambiguous = byte == b'%' && hex(1) && hex(2);
        if ambiguous || (1..b' ').contains(&byte) {
            out.extend_from_slice(format!("%{byte:02x}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

/// One entry of D: a mailbox that is deleted, with all its mails, or a folder with nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Which mailbox; for a folder the first 16 octets of SHA-1 of its full name with the target's separator.
    pub guid: Guid,
    /// When, seconds since the epoch; must be above the mailbox's `changed_at`.
    pub at: u64,
}

/// D: the end of the tree, with the mailboxes and the `\NoSelect` folders to delete.
pub fn deletions(mailboxes: &[Deletion], folders: &[Deletion], out: &mut Vec<u8>) {
    let [mailboxes, folders] = [mailboxes, folders].map(|deleted| {
        let entries: Vec<String> = deleted.iter().map(|gone| format!("{} {}", hex(&gone.guid), gone.at)).collect();
        (!entries.is_empty()).then(|| entries.join(" "))
    });
    let line = Line::new(b'D').text('/').text('%').field(mailboxes.as_deref().map(str::as_bytes));
    line.field(folders.as_deref().map(str::as_bytes)).end(out);
}

/// B: the status of one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxStatus {
    /// Which mailbox.
    pub guid: Guid,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// Its UIDNEXT.
    pub uid_next: u32,
    /// Its messages.
    pub messages: u32,
    /// The first UID that is `\Recent`.
    pub first_recent_uid: u32,
    /// Its HIGHESTMODSEQ.
    pub highest_modseq: u64,
}

/// What the peer answers to our [`MailboxStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusReply {
    /// Its own status: go on.
    Known(MailboxStatus),
    /// The mailbox is gone, or the state is stale.
    Lost,
    /// The mailbox is to be passed over.
    Ignored,
}

impl MailboxStatus {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let line = Line::new(b'B').text(hex(&self.guid)).text(self.uid_validity).text(self.uid_next);
        let line = line.text(self.messages).text(self.first_recent_uid).text(self.highest_modseq).text(0);
        line.null().null().null().flag(true).flag(true).end(out);
    }

    pub(super) fn parse(record: &Record<'_>) -> Result<(Guid, StatusReply), ItemError> {
        let guid = record.required_guid("mailbox_guid")?;
        if record.flag("mailbox_lost") {
            return Ok((guid, StatusReply::Lost));
        }
        if record.flag("mailbox_ignore") {
            return Ok((guid, StatusReply::Ignored));
        }
        let status = Self {
            guid,
            uid_validity: record.required_number("uid_validity")?,
            uid_next: record.required_number("uid_next")?,
            messages: record.required_number("messages_count")?,
            first_recent_uid: record.required_number("first_recent_uid")?,
            highest_modseq: record.required_number("highest_modseq")?,
        };
        Ok((guid, StatusReply::Known(status)))
    }
}

impl MailboxState {
    pub(super) fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        Ok(Self {
            guid: record.required_guid("mailbox_guid")?,
            uid_validity: record.required_number("last_uidvalidity")?,
            last_common_uid: record.required_number("last_common_uid")?,
            last_common_modseq: record.required_number("last_common_modseq")?,
            messages: record.number("last_messages_count")?.unwrap_or(0),
            conflict: record.flag("changes_during_sync"),
        })
    }
}

/// C: a change to one message. Flags are bits: 1 `\Answered`, 2 `\Flagged`, 4 `\Deleted`, 8 `\Seen`, 16 `\Draft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The message's UID.
    pub uid: u32,
    /// The message's GUID.
    pub guid: Guid,
    /// What changed.
    pub kind: ChangeKind<'a>,
}

/// What a [`Change`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind<'a> {
    /// The message exists; its body follows later.
    Save {
        /// Its mod-sequence, a minimum.
        modseq: u64,
        /// Its system flags.
        flags: u8,
        /// Its keywords.
        keywords: &'a [String],
    },
    /// Its flags changed.
    Flags {
        /// Decides who wins: above the target's for us.
        modseq: u64,
        /// System flags gained; no bit is in `remove` too.
        add: u8,
        /// System flags lost.
        remove: u8,
        /// All system flags it has now.
        final_flags: u8,
        /// Keywords it keeps, in the target's spelling: in another case they would be lost.
        keep: &'a [String],
        /// Keywords it gains.
        gain: &'a [String],
        /// Keywords it loses.
        lose: &'a [String],
    },
    /// It is gone.
    Expunge,
}

impl Change<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let line = |kind: char| Line::new(b'C').text(kind).text(self.uid).text(hex(&self.guid)).null();
        match self.kind {
            ChangeKind::Save { modseq, flags, keywords } => {
                let line = line('s').text(modseq).null().null().null().hex(flags).null();
                keyword_field(line, &[("&", keywords)]).end(out);
            }
            ChangeKind::Flags { modseq, add, remove, final_flags, keep, gain, lose } => {
                let line = line('f').text(modseq).null().hex(add).hex(remove).hex(final_flags).null();
                keyword_field(line, &[("=", keep), ("&", gain), ("-", lose)]).end(out);
            }
            ChangeKind::Expunge => line('e').end(out),
        }
    }
}

fn keyword_field(line: Line, lists: &[(&str, &[String])]) -> Line {
    let entries: Vec<String> =
        lists.iter().flat_map(|(prefix, names)| names.iter().map(move |name| format!("{prefix}{name}"))).collect();
    if entries.is_empty() { line.null() } else { line.field(Some(&escape::join(entries.iter().map(String::as_bytes)))) }
}

/// M: a message, whose body follows directly as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// The GUID of its [`Change`].
    pub guid: Guid,
    /// INTERNALDATE, seconds since the epoch.
    pub received: i64,
    /// Its POP3 UIDL, if one must be kept.
    pub uidl: Option<&'a str>,
    /// Its place in POP3's list.
    pub order: Option<u32>,
}

impl Mail<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let line = Line::new(b'M').text(hex(&self.guid)).null().field(self.uidl.map(str::as_bytes));
        let line = line.field(self.order.map(|order| order.to_string()).as_ref().map(String::as_bytes));
        line.text(self.received).null().flag(true).end(out);
    }
}

/// F: how the slave says it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// What failed, in the slave's words.
    pub error: Option<String>,
    /// Its number (dsync reference §12).
    pub mail_error: Option<u32>,
    /// Stored states are worthless.
    pub full_resync: bool,
}

impl Finish {
    /// Whether nothing is reported; that alone proves nothing (dsync reference §16b).
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.error.is_none() && self.mail_error.is_none() && !self.full_resync
    }

    pub(super) fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        Ok(Self {
            error: record.get("error").map(|text| quoted(&text)),
            mail_error: record.number("mail_error")?,
            full_resync: record.flag("require_full_resync"),
        })
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.error, self.full_resync) {
            (Some(error), _) => write!(f, "{error:?}")?,
            (None, true) => f.write_str("the stored states are stale, a full run is needed")?,
            (None, false) => f.write_str("no reason given")?,
        }
        match self.mail_error {
            Some(number) => write!(f, " (mail error {number})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
