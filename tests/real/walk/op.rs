//! What a client does: how it is said, and what it makes of an account.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::lab::account::instant;
use crate::lab::imap::{mutf7, quoted};
use crate::lab::world::{Mail, Shelf, World};

/// Mailboxes that are made, deleted and made again.
const NAMES: [&str; 7] = ["Archive", "Archive/2023", "Größe", "a b & c", "Listen/日本", "Sent", "Listen"];
const FLAGS: [&str; 10] =
    ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded", "NonJunk", "work", "later", "$MDNSent"];
/// Beside INBOX.
const MAILBOXES_MAX: usize = 9;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.throw() % limit as u64).unwrap()
    }

    pub(super) fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn some<T: Clone>(&mut self, all: &[T], most: usize) -> Vec<T> {
        let count = 1 + self.below(most);
        (0..count).map(|_| self.one(all).clone()).collect()
    }
}

/// One command that changes something. Names are as on the wire.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Append { to: String, mail: Mail, date: String },
    Store { mailbox: String, uids: BTreeSet<u32>, sign: &'static str, flags: BTreeSet<String> },
    Expunge { mailbox: String },
    UidExpunge { mailbox: String, uids: BTreeSet<u32> },
    Copy { from: String, uids: BTreeSet<u32>, to: String },
    Move { from: String, uids: BTreeSet<u32>, to: String },
    Create(String),
    Rename { from: String, to: String },
    Delete(String),
    Subscribe(String),
    Unsubscribe(String),
}

impl Op {
    /// Something that can be done with `world`; `number` tells it from everything else in this walk.
    pub(super) fn pick(dice: &mut Dice, world: &World, number: u32) -> Self {
        loop {
            if let Some(op) = Self::try_pick(dice, world, number) {
                return op;
            }
        }
    }

    fn try_pick(dice: &mut Dice, world: &World, number: u32) -> Option<Self> {
        let names: Vec<String> = world.mailboxes.keys().cloned().collect();
        let others: Vec<String> = names.iter().filter(|name| *name != "INBOX").cloned().collect();
        // Most happens in INBOX.
        let any = |dice: &mut Dice| if dice.below(3) == 0 { "INBOX".to_owned() } else { dice.one(&names).clone() };
        let mailbox = any(dice);
        let uids: Vec<u32> = world.mailboxes.get(&mailbox)?.mails.keys().copied().collect();
        Some(match dice.below(100) {
            0..30 => Self::append(dice, mailbox, number),
            30..60 if !uids.is_empty() => {
                let flags = if dice.below(12) == 0 { Vec::new() } else { dice.some(&FLAGS, 3) };
                let sign = *dice.one(&["+", "+", "-", ""]);
                if flags.is_empty() && !sign.is_empty() {
                    return None;
                }
                let flags = flags.into_iter().map(str::to_owned).collect();
                Self::Store { mailbox, uids: dice.some(&uids, 4).into_iter().collect(), sign, flags }
            }
            60..64 => Self::Expunge { mailbox },
            64..69 if !uids.is_empty() => Self::UidExpunge { mailbox, uids: dice.some(&uids, 6).into_iter().collect() },
            69..84 if !uids.is_empty() => {
                let (to, uids) = (any(dice), dice.some(&uids, 4).into_iter().collect());
                if dice.below(2) == 0 {
                    Self::Copy { from: mailbox, uids, to }
                } else if to != mailbox {
                    Self::Move { from: mailbox, uids, to }
                } else {
                    return None;
                }
            }
            84..90 if others.len() < MAILBOXES_MAX => {
                let name = mutf7(dice.one::<&str>(&NAMES));
                if names.contains(&name) {
                    return None;
                }
                Self::Create(name)
            }
            90..92 if !others.is_empty() => {
                let to = if dice.below(2) == 0 { format!("Renamed{number}") } else { format!("Deep{number}/er") };
                Self::Rename { from: dice.one(&others).clone(), to }
            }
            92..94 if others.len() > 2 => Self::Delete(dice.one(&others).clone()),
            94..97 => Self::Subscribe(any(dice)),
            97..100 => {
                let all: Vec<String> = world.subscriptions.iter().cloned().collect();
                if all.is_empty() {
                    return None;
                }
                Self::Unsubscribe(dice.one(&all).clone())
            }
            _ => return None,
        })
    }

    fn append(dice: &mut Dice, to: String, number: u32) -> Self {
        let (hour, minute, second) = (dice.below(24), dice.below(60), dice.below(60));
        let date = format!("{:2}-Jul-2019 {hour:02}:{minute:02}:{second:02} +0200", 1 + dice.below(31));
        let mut body = format!("From: walker@example.net\r\nSubject: walk {number}\r\n\r\n");
        for line in 0..dice.below(20) {
            let _ = write!(body, "{line} of {number}: {:x}\r\n", dice.throw());
        }
        let flags = if dice.below(2) == 0 { Vec::new() } else { dice.some(&FLAGS, 3) };
        Self::Append { to, mail: Mail::new(&flags, instant(&date).unwrap(), body.into_bytes()), date }
    }

    /// The mailbox that must be selected for it.
    pub(super) fn selected(&self) -> Option<&str> {
        match self {
            Self::Store { mailbox, .. } | Self::Expunge { mailbox } | Self::UidExpunge { mailbox, .. } => Some(mailbox),
            Self::Copy { from, .. } | Self::Move { from, .. } => Some(from),
            _ => None,
        }
    }

    /// A mailbox that, with all below it, nobody may have selected meanwhile.
    pub(super) fn takes_away(&self) -> Option<&str> {
        match self {
            Self::Rename { from, .. } => Some(from),
            Self::Delete(name) => Some(name),
            _ => None,
        }
    }

    /// The command without its tag and final CRLF; a literal is not waited for.
    pub(super) fn command(&self) -> Vec<u8> {
        let words = |flags: &BTreeSet<String>| flags.iter().cloned().collect::<Vec<_>>().join(" ");
        match self {
            Self::Append { to, mail, date } => {
                let head =
                    format!("APPEND {} ({}) \"{date}\" {{{}+}}\r\n", quoted(to), words(&mail.flags), mail.body.len());
                [head.as_bytes(), &mail.body].concat()
            }
            Self::Store { uids, sign, flags, .. } => {
                format!("UID STORE {} {sign}FLAGS ({})", set(uids), words(flags)).into_bytes()
            }
            Self::Expunge { .. } => b"EXPUNGE".to_vec(),
            Self::UidExpunge { uids, .. } => format!("UID EXPUNGE {}", set(uids)).into_bytes(),
            Self::Copy { uids, to, .. } => format!("UID COPY {} {}", set(uids), quoted(to)).into_bytes(),
            Self::Move { uids, to, .. } => format!("UID MOVE {} {}", set(uids), quoted(to)).into_bytes(),
            Self::Create(name) => format!("CREATE {}", quoted(name)).into_bytes(),
            Self::Rename { from, to } => format!("RENAME {} {}", quoted(from), quoted(to)).into_bytes(),
            Self::Delete(name) => format!("DELETE {}", quoted(name)).into_bytes(),
            Self::Subscribe(name) => format!("SUBSCRIBE {}", quoted(name)).into_bytes(),
            Self::Unsubscribe(name) => format!("UNSUBSCRIBE {}", quoted(name)).into_bytes(),
        }
    }

    /// Does it to `world`. New messages get the UIDs that the server told, or those that it will give.
    pub(super) fn apply(&self, world: &mut World, told: Option<&Told>) {
        match self {
            Self::Append { to, mail, .. } => arrive(world, to, vec![mail.clone()], told),
            Self::Store { mailbox, uids, sign, flags } => {
                for (_, mail) in world.shelf(mailbox).mails.iter_mut().filter(|(uid, _)| uids.contains(uid)) {
                    match *sign {
                        "+" => mail.flags.extend(flags.iter().cloned()),
                        "-" => mail.flags.retain(|flag| !flags.contains(flag)),
                        _ => mail.flags.clone_from(flags),
                    }
                }
            }
            Self::Expunge { mailbox } => {
                world.shelf(mailbox).mails.retain(|_, mail| !mail.flags.contains("\\Deleted"));
            }
            Self::UidExpunge { mailbox, uids } => {
                let mails = &mut world.shelf(mailbox).mails;
                mails.retain(|uid, mail| !uids.contains(uid) || !mail.flags.contains("\\Deleted"));
            }
            Self::Copy { from, uids, to } => {
                let mails = world.shelf(from).mails.iter().filter(|(uid, _)| uids.contains(uid));
                let mails = mails.map(|(_, mail)| mail.clone()).collect();
                arrive(world, to, mails, told);
            }
            Self::Move { from, uids, to } => {
                let (gone, stay) =
                    std::mem::take(&mut world.shelf(from).mails).into_iter().partition(|(uid, _)| uids.contains(uid));
                world.shelf(from).mails = stay;
                let gone: std::collections::BTreeMap<u32, Mail> = gone;
                arrive(world, to, gone.into_values().collect(), told);
            }
            Self::Create(name) => {
                world.mailboxes.insert(name.clone(), Shelf { uid_next: 1, ..Shelf::default() });
            }
            Self::Rename { from, to } => {
                for name in world.family(from) {
                    let shelf = world.mailboxes.remove(&name).unwrap();
                    world.mailboxes.insert(format!("{to}{}", &name[from.len()..]), shelf);
                }
            }
            Self::Delete(name) => {
                world.mailboxes.remove(name);
            }
            Self::Subscribe(name) => {
                world.subscriptions.insert(name.clone());
            }
            Self::Unsubscribe(name) => {
                world.subscriptions.remove(name);
            }
        }
    }
}

fn arrive(world: &mut World, to: &str, mails: Vec<Mail>, told: Option<&Told>) {
    let shelf = world.shelf(to);
    if let Some(told) = told.filter(|_| !mails.is_empty()) {
        assert_eq!(mails.len(), told.uids.len(), "{told:?}");
        assert!(shelf.uid_validity.is_none_or(|known| known == told.uid_validity), "{told:?} where {to} has {shelf:?}");
        shelf.uid_validity = Some(told.uid_validity);
        for (uid, mail) in told.uids.iter().zip(mails) {
            shelf.put(*uid, Mail { foretold: false, ..mail });
        }
    } else {
        for mail in mails {
            shelf.push(Mail { foretold: true, ..mail });
        }
    }
}

/// APPENDUID or COPYUID (RFC 4315).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    uid_validity: u32,
    /// In the order of the messages.
    uids: Vec<u32>,
}

impl Told {
    /// From a response.
    pub(super) fn within(response: &str) -> Option<Self> {
        let (_, code) = response.split_once("[APPENDUID ").or_else(|| response.split_once("[COPYUID "))?;
        let words: Vec<&str> = code.split(']').next()?.split(' ').collect();
        Some(Self { uid_validity: words.first()?.parse().ok()?, uids: expand(words.last()?) })
    }
}

fn expand(set: &str) -> Vec<u32> {
    set.split(',')
        .flat_map(|part| {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
            first.min(last)..=first.max(last)
        })
        .collect()
}

fn set(uids: &BTreeSet<u32>) -> String {
    uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
