//! Which server a side is, as far as it tells, and what is particular to that brand. Pure: facts in, a row of a table out.
//!
//! A brand is never more than a hint. What a server can do is asked for (CAPABILITY, NAMESPACE), and what it gives is
//! proved on the messages; a quirk only adds care, and a brand that nobody knows gets all the care that costs nothing.

use std::fmt;

/// A brand of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Brand {
    /// Courier IMAP and POP3.
    Courier,
    /// Cyrus IMAP.
    Cyrus,
    /// Dovecot.
    Dovecot,
    /// Gmail.
    Gmail,
    /// GNU Mailutils' imap4d and pop3d.
    Mailutils,
    /// Any other, and one that doesn't tell.
    Unknown,
}

/// Something a brand does that others don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quirk {
    /// In place of a message that it can't read it gives a text of its own.
    Placeholder,
    /// Its POP3 numbers messages in a database of its own: a UIDL tells nothing of the UID.
    OwnUidls,
    /// Connections from one address are few, and one too many ends without a word.
    FewConnections,
    /// It loses what a client sends together with its login.
    LosesPipelined,
    /// Names are below `INBOX.` as it is installed.
    InboxPrefix,
    /// Its POP3 sorts by the names of files, not by UID.
    OrderByFile,
    /// An open POP3 session locks all others out, IMAP's too.
    Pop3Locks,
    /// It writes fields of its own into messages, whose size then changes.
    RewritesMessages,
    /// It keeps no keywords.
    NoKeywords,
    /// A mailbox that nobody has opened gets another UIDVALIDITY at each look.
    ForgetsUidValidity,
    /// A mailbox gets another UIDVALIDITY at each look until a client has opened it and left it, and for as long as it is empty.
    MomentaryUidValidity,
    /// Its administrator chooses how names look (`unixhierarchysep`, `altnamespace`).
    ChosenNames,
    /// Its POP3 lets a user log in once in so many minutes, as Debian installs it.
    PollDelay,
    /// A login that is one too many is refused with NO, as a wrong password is, and each protocol counts.
    CountsLogins,
    /// What others share with a user is in the list.
    SharedFolders,
    /// It names its UIDLs by a setting that can be changed under old mailboxes.
    ChosenUidls,
    /// It lists a message whose file is gone, and then says nothing about it.
    LosesFiles,
    /// It takes passwords over TLS only.
    TlsOnly,
    /// A message is in a mailbox for each of its labels, and has one number in all of them (`X-GM-MSGID`).
    Labels,
    /// It gives an account so many octets a day, and so many sessions at once.
    DailyBudget,
}

impl Quirk {
    /// The quirk in words, and what it means for a move.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Placeholder => {
                "gives a text of its own (\"message unavailable\") for a message that it can't read: never taken for the message"
            }
            Self::OwnUidls => {
                "POP3 has numbers of its own: each UIDL is paired with its UID by sizes, headers and texts, not by a template"
            }
            Self::FewConnections => {
                "takes few connections from one address (MAXPERIP) and hangs up on one more: raise it for the proxy's address"
            }
            Self::LosesPipelined => "loses what is sent together with a login: nothing is sent before its answer",
            Self::InboxPrefix => {
                "has all mailboxes below a prefix, as installed `INBOX.`: the new side's namespace needs the same prefix and separator"
            }
            Self::OrderByFile => "POP3 sorts by delivery time, not by UID: that order is written to the new side",
            Self::Pop3Locks => {
                "an open POP3 session locks everybody else out, IMAP too, and changes messages: we open none, and read UIDLs over \
                 IMAP, where they stand in X-UIDL"
            }
            Self::RewritesMessages => {
                "writes X-UID, Status and X-IMAPbase lines into messages: what is flagged after it was copied has other octets then, \
                 and the user stays where they are until it is copied again"
            }
            Self::NoKeywords => "keeps no keywords",
            Self::ForgetsUidValidity => {
                "gives a mailbox that nobody has ever opened another UIDVALIDITY each second: such a mailbox is opened once"
            }
            Self::MomentaryUidValidity => {
                "gives a mailbox another UIDVALIDITY each second until a client has opened it and left it: until then its user stays \
                 where they are; that of an empty mailbox never lasts, and is 1 on the new side"
            }
            Self::ChosenNames => {
                "names look as `unixhierarchysep` and `altnamespace` say: `check USER` shows separator and prefix, and the new \
                 side's namespace needs the same"
            }
            Self::PollDelay => {
                "POP3 may allow one login a minute (`popminpoll`, set by Debian), and ours counts: take it out while users move"
            }
            Self::CountsLogins => {
                "counts logins of a user and of an address (`maxlogins_per_user`, `maxlogins_per_host`): leave room for two more \
                 of each user, and for all of the proxy's address; one too many is tried again later"
            }
            Self::SharedFolders => {
                "shows folders that others share with a user, and shared ones: they and the rights on them are not moved, but shared ones with one account (migration.include)"
            }
            Self::ChosenUidls => {
                "POP3 UIDLs are made of UID and UIDVALIDITY as `uidl_format` says: leave that setting as it is until users are moved"
            }
            Self::LosesFiles => {
                "lists a message whose file is lost: such a user stays until the mailbox is repaired (`reconstruct`)"
            }
            Self::TlsOnly => "takes passwords over TLS only: `imaps://`, and no other way is tried",
            Self::Labels => {
                "shows a message in a mailbox for each of its labels, and in that of all mail: its octets are read once, and on \
                 the new side it is a message in each of them"
            }
            Self::DailyBudget => {
                "gives an account about 2500 MB a day and 15 sessions at once, the user's own among them: when it gives no more, \
                 the copy rests and goes on by itself"
            }
        }
    }
}

/// A brand and its quirks.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// Which brand.
    pub brand: Brand,
    /// Its name for people.
    pub name: &'static str,
    /// What its greeting contains, in lower case; any of them.
    greetings: &'static [&'static str],
    /// How the name that ID gives begins, in lower case; any of them.
    ids: &'static [&'static str],
    /// What only it announces, in upper case.
    announces: Option<&'static str>,
    /// What tells one that gives no name.
    shape: Option<Shape>,
    /// What is particular to it.
    pub quirks: &'static [Quirk],
}

/// What a server that gives no name looks like.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    /// Its whole greeting, in lower case.
    greeting: &'static str,
    /// What it announces, all of them.
    has: &'static [&'static str],
    /// What it doesn't announce.
    lacks: &'static [&'static str],
}

/// A server that doesn't say what it is, or that is none of those below.
static UNKNOWN: Profile = Profile {
    brand: Brand::Unknown,
    name: "a server that doesn't say what it is",
    greetings: &[],
    ids: &[],
    announces: None,
    shape: None,
    quirks: &[Quirk::Placeholder],
};

/// All known brands.
static KNOWN: [Profile; 5] = [
    Profile {
        brand: Brand::Courier,
        name: "Courier",
        greetings: &["courier-imap"],
        ids: &["courier"],
        announces: None,
        shape: None,
        quirks: &[
            Quirk::InboxPrefix,
            Quirk::OwnUidls,
            Quirk::OrderByFile,
            Quirk::FewConnections,
            Quirk::LosesPipelined,
            Quirk::ForgetsUidValidity,
            Quirk::Placeholder,
        ],
    },
    Profile {
        brand: Brand::Cyrus,
        name: "Cyrus",
        greetings: &["cyrus imap"],
        ids: &["cyrus"],
        announces: None,
        shape: None,
        quirks: &[
            Quirk::ChosenNames,
            Quirk::SharedFolders,
            Quirk::ChosenUidls,
            Quirk::PollDelay,
            Quirk::CountsLogins,
            Quirk::LosesFiles,
        ],
    },
    Profile {
        brand: Brand::Dovecot,
        name: "Dovecot",
        greetings: &["dovecot"],
        ids: &["dovecot"],
        announces: None,
        shape: None,
        quirks: &[],
    },
    Profile {
        brand: Brand::Gmail,
        name: "Gmail",
        greetings: &["gimap ready"],
        ids: &["gimap"],
        announces: Some("X-GM-EXT-1"),
        shape: None,
        quirks: &[Quirk::TlsOnly, Quirk::Labels, Quirk::DailyBudget],
    },
    Profile {
        brand: Brand::Mailutils,
        name: "GNU Mailutils",
        greetings: &[],
        ids: &["gnu mailutils", "gnu imap4d", "imap4d"],
        announces: None,
        shape: Some(Shape {
            greeting: "imap4rev1",
            has: &["NAMESPACE", "ID", "IDLE", "LITERAL+", "UNSELECT"],
            lacks: &["UIDPLUS", "CHILDREN", "SASL-IR", "CONDSTORE"],
        }),
        quirks: &[Quirk::Pop3Locks, Quirk::RewritesMessages, Quirk::NoKeywords, Quirk::MomentaryUidValidity],
    },
];

/// Octets of a body that may be a [placeholder](is_placeholder) at most.
pub const PLACEHOLDER_MAX: u64 = 512;

/// Whether this body is what Courier gives, with an OK, in place of a message whose file is gone or can't be read.
#[must_use]
pub fn is_placeholder(body: &[u8]) -> bool {
    const LINES: [&[u8]; 4] = [
        b"From: System Administrator <root@localhost>",
        b"Subject: message unavailable",
        b"",
        b"This message is no longer available on the server.",
    ];
    let lines = body.trim_ascii().split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii_end);
    lines.eq(LINES)
}

/// What a server has told of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The text of its greeting.
    pub greeting: &'a str,
    /// `name` from its answer to ID (RFC 2971), if it answered.
    pub id_name: Option<&'a str>,
    /// What it announces, in upper case.
    pub capabilities: &'a [&'a str],
}

/// The profile of a server. What ID tells goes before the greeting: that is often replaced.
#[must_use]
pub fn detect(facts: Facts<'_>) -> &'static Profile {
    let named = facts.id_name.map(str::to_ascii_lowercase);
    let greeting = facts.greeting.to_ascii_lowercase();
    let by_id = |profile: &&Profile| {
        named.as_ref().is_some_and(|name| profile.ids.iter().any(|id| name.trim_start().starts_with(id)))
    };
    let by_greeting = |profile: &&Profile| profile.greetings.iter().any(|words| greeting.contains(words));
    let has = |word: &&str| facts.capabilities.contains(word);
    let by_word = |profile: &&Profile| profile.announces.is_some_and(|word| has(&word));
    let by_shape = |profile: &&Profile| {
        let fits = |shape: &Shape| {
            shape.greeting == greeting.trim() && shape.has.iter().all(has) && !shape.lacks.iter().any(has)
        };
        profile.shape.as_ref().is_some_and(fits)
    };
    // (A word that only one server has is no name that somebody wrote.)
    let known = KNOWN.iter().find(by_word).or_else(|| KNOWN.iter().find(by_id));
    let known = known.or_else(|| KNOWN.iter().find(by_greeting));
    let known = known.or_else(|| KNOWN.iter().find(by_shape));
    known.unwrap_or(&UNKNOWN)
}

/// The profile of a server that speaks dsync: no other brand does.
#[must_use]
pub fn dovecot() -> &'static Profile {
    detect(Facts { id_name: Some("Dovecot"), ..Facts::default() })
}

impl Profile {
    /// Whether it has this quirk.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_greeting(greeting: &str) -> Brand {
        detect(Facts { greeting, ..Facts::default() }).brand
    }

    #[test]
    fn the_greetings_of_real_servers_are_recognised() {
        for (brand, greeting) in [
            (
                Brand::Courier,
                "Courier-IMAP ready. Copyright 1998-2019 Double Precision, Inc.  See COPYING for distribution information.",
            ),
            (Brand::Dovecot, "Dovecot (Debian) ready."),
            (Brand::Cyrus, "host.example.org Cyrus IMAP 3.6.1-4+deb12u1 server ready"),
            (Brand::Unknown, "IMAP4rev1"),
            (Brand::Unknown, ""),
        ] {
            assert_eq!(by_greeting(greeting), brand, "{greeting}");
        }
    }

    #[test]
    fn what_id_tells_goes_before_a_greeting_that_somebody_wrote() {
        let facts = |id_name| {
            let greeting = "mail.example.org ready, moved from Courier-IMAP";
            Facts { greeting, id_name, ..Facts::default() }
        };
        assert_eq!(detect(facts(None)).brand, Brand::Courier);
        assert_eq!(detect(facts(Some("Dovecot"))).brand, Brand::Dovecot);
        assert_eq!(detect(facts(Some("Cyrus IMAPD"))).brand, Brand::Cyrus);
        assert_eq!(detect(facts(Some("GNU Mailutils"))).brand, Brand::Mailutils);
        assert_eq!(detect(facts(Some("Zimbra"))).brand, Brand::Courier, "a name that says nothing leaves the greeting");
    }

    #[test]
    fn mailutils_gives_no_name_and_is_known_by_what_it_announces() {
        // imap4d 3.15.
        let words = "IMAP4REV1 NAMESPACE ID IDLE LITERAL+ UNSELECT AUTH=GSSAPI AUTH=ANONYMOUS AUTH=EXTERNAL AUTH=LOGIN AUTH=PLAIN";
        let words: Vec<&str> = words.split(' ').collect();
        let brand = |greeting, capabilities: &[&str]| detect(Facts { greeting, capabilities, id_name: None }).brand;
        assert_eq!(brand("IMAP4rev1", &words), Brand::Mailutils);
        assert_eq!(brand("IMAP4rev1 ready", &words), Brand::Unknown);
        assert_eq!(brand("IMAP4rev1", &words[..5]), Brand::Unknown);
        assert_eq!(brand("IMAP4rev1", &[&words[..], &["UIDPLUS"]].concat()), Brand::Unknown);
    }

    #[test]
    fn gmail_is_known_by_its_extension_whatever_a_proxy_before_it_says() {
        let announced = |capabilities: &[&str]| {
            let greeting = "Dovecot ready.";
            detect(Facts { greeting, id_name: Some("Dovecot"), capabilities }).brand
        };
        assert_eq!(announced(&["IMAP4REV1", "ID", "X-GM-EXT-1"]), Brand::Gmail);
        assert_eq!(announced(&["IMAP4REV1", "ID"]), Brand::Dovecot);
        assert_eq!(by_greeting("Gimap ready for requests from 192.0.2.7 d2e1a72fcca58"), Brand::Gmail);
    }

    #[test]
    fn only_the_whole_placeholder_is_one() {
        // As Courier 5.0.13 sent it.
        let text = "From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\nThis message is no \
                    longer available on the server.\r\n";
        assert!(is_placeholder(text.as_bytes()) && text.len() == 129 && text.len() as u64 <= PLACEHOLDER_MAX);
        for other in [
            format!("Received: by somebody\r\n{text}"),
            format!("{text}-- \r\nThe Team\r\n"),
            text.replace("root@localhost", "root@example.org"),
            String::new(),
        ] {
            assert!(!is_placeholder(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_server_that_nobody_knows_gets_the_care_that_costs_nothing() {
        assert!(detect(Facts::default()).has(Quirk::Placeholder));
        let dovecot = detect(Facts { greeting: "Dovecot ready.", ..Facts::default() });
        assert!(!dovecot.has(Quirk::Placeholder), "a text that it has is a message");
    }
}
