//! What a slave tells when it is read: the messages of a mailbox as `C` items, and the heads of those that come as `M` items
//! (dsync reference §5 and §10).

use super::layout::{ItemError, Record};
use super::{escape, quoted};

/// The five system flags that can be stored. `\Recent` (20 hex) comes with them.
const FLAGS: u8 = 0x1f;

/// A message in the list of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its UID.
    pub uid: u32,
    /// What is told of it.
    pub kind: Kind,
}

/// What is told of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is there.
    Present {
        /// Its flags.
        marks: Marks,
        /// INTERNALDATE in seconds since the epoch. A slave writes 1 for 0, so 1 may be either, and is `None` here.
        received: Option<i64>,
        /// Octets, with CR LF at the end of each line.
        size: u64,
    },
    /// It was known before, and its flags have changed.
    Flagged(Marks),
    /// It was known before, and is gone.
    Gone,
}

/// The flags of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Its mod-sequence, 0 if it isn't told.
    pub modseq: u64,
    /// Bits: 1 `\Answered`, 2 `\Flagged`, 4 `\Deleted`, 8 `\Seen`, 16 `\Draft`.
    pub flags: u8,
    /// Its keywords.
    pub keywords: Vec<String>,
}

impl Listed {
    pub(super) fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        let uid = record.required_number::<u32>("uid")?;
        let kind = record.required("type")?;
        let kind = match kind.as_slice() {
            b"s" => Kind::Present {
                marks: Marks::parse(record)?,
                received: date(record)?,
                size: hex(record, "virtual_size")?.unwrap_or(0),
            },
            b"f" => Kind::Flagged(Marks::parse(record)?),
            b"e" => Kind::Gone,
            _ => return Err(ItemError::Value { field: "type", value: quoted(&kind) }),
        };
        if uid == 0 {
            return Err(ItemError::Value { field: "uid", value: "0".to_owned() });
        }
        Ok(Self { uid, kind })
    }
}

impl Marks {
    fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        let flags = hex(record, "final_flags")?.unwrap_or(0);
        let changes = record.get("keyword_changes").map(|field| escape::split(&field)).unwrap_or_default();
        // What begins with `-` is what the message has lost.
        let has = |change: &Vec<u8>| match change.split_first() {
            Some((b'=' | b'&' | b'+', name)) => Some(String::from_utf8_lossy(name).into_owned()),
            _ => None,
        };
        Ok(Self {
            modseq: record.number("modseq")?.unwrap_or(0),
            flags: u8::try_from(flags & u64::from(FLAGS)).unwrap_or(0),
            keywords: changes.iter().filter_map(has).collect(),
        })
    }
}

fn hex(record: &Record<'_>, field: &'static str) -> Result<Option<u64>, ItemError> {
    let Some(value) = record.get(field) else { return Ok(None) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    number.map(Some).ok_or_else(|| ItemError::Value { field, value: quoted(&value) })
}

fn date(record: &Record<'_>) -> Result<Option<i64>, ItemError> {
    Ok(hex(record, "received_timestamp")?.map(u64::cast_signed).filter(|seconds| *seconds != 1))
}

/// The head of a message whose text follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its UID.
    pub uid: u32,
    /// Its POP3 UIDL, where one is stored with the message: not one that the server computes.
    pub uidl: Option<String>,
    /// Its place in POP3's list, where one is stored.
    pub order: Option<u32>,
    /// INTERNALDATE in seconds since the epoch.
    pub received: i64,
    /// Whether there is a text at all; else the message is gone by now.
    pub(super) present: bool,
}

impl Head {
    pub(super) fn parse(record: &Record<'_>) -> Result<Self, ItemError> {
        let uidl = record.get("pop3_uidl").filter(|uidl| !uidl.is_empty());
        Ok(Self {
            uid: record.required_number("uid")?,
            uidl: uidl.and_then(|uidl| String::from_utf8(uidl).ok()),
            order: record.number("pop3_order")?.filter(|order| *order > 0),
            received: record.number("received_date")?.unwrap_or(0),
            present: record.flag("stream"),
        })
    }
}
