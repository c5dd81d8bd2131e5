//! UIDLs that a server computes from a message's UID and its mailbox's UIDVALIDITY (old servers reference §8).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::Uidl;
use crate::mailbox::{Uid, UidValidity};

/// How a server makes a UIDL; the names are Dovecot's, except that here `%x` is hexadecimal as it is printed: Dovecot's own
/// `%08Xu` prints lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Template {
    /// `%08xu%08xv`: Dovecot's default; Cyrus `uidl_format: dovecot`.
    UidValidityHex,
    /// `%08XU%08XV`: the same in capitals.
    UidValidityCapitals,
    /// `%08xv%08xu`: UW ipop3d, Panda.
    ValidityUidHex,
    /// `%08XV%08XU`: the same in capitals.
    ValidityUidCapitals,
    /// `%v.%u`: Cyrus, Dovecot 0.99.
    ValidityDotUid,
    /// `%u.%v`.
    UidDotValidity,
    /// `%v-%u`: Cyrus `uidl_format: courier`, Critical Path, Courier as old Dovecot notes have it.
    ValidityDashUid,
    /// `%u-%v`.
    UidDashValidity,
    /// `%u`: old Cyrus, hMailServer.
    Uid,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::UidValidityHex,
        Self::UidValidityCapitals,
        Self::ValidityUidHex,
        Self::ValidityUidCapitals,
        Self::ValidityDotUid,
        Self::UidDotValidity,
        Self::ValidityDashUid,
        Self::UidDashValidity,
        Self::Uid,
    ];

    /// The name used in records and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UidValidityHex => "%08xu%08xv",
            Self::UidValidityCapitals => "%08XU%08XV",
            Self::ValidityUidHex => "%08xv%08xu",
            Self::ValidityUidCapitals => "%08XV%08XU",
            Self::ValidityDotUid => "%v.%u",
            Self::UidDotValidity => "%u.%v",
            Self::ValidityDashUid => "%v-%u",
            Self::UidDashValidity => "%u-%v",
            Self::Uid => "%u",
        }
    }

    /// The UIDL of a message.
    #[must_use]
    pub fn render(self, UidValidity(v): UidValidity, Uid(u): Uid) -> String {
        let mut uidl = String::new();
        let _ = match self {
            Self::UidValidityHex => write!(uidl, "{u:08x}{v:08x}"),
            Self::UidValidityCapitals => write!(uidl, "{u:08X}{v:08X}"),
            Self::ValidityUidHex => write!(uidl, "{v:08x}{u:08x}"),
            Self::ValidityUidCapitals => write!(uidl, "{v:08X}{u:08X}"),
            Self::ValidityDotUid => write!(uidl, "{v}.{u}"),
            Self::UidDotValidity => write!(uidl, "{u}.{v}"),
            Self::ValidityDashUid => write!(uidl, "{v}-{u}"),
            Self::UidDashValidity => write!(uidl, "{u}-{v}"),
            Self::Uid => write!(uidl, "{u}"),
        };
        uidl
    }

    /// The only UID that has this UIDL, if one can have it.
    #[must_use]
    pub fn uid_of(self, uid_validity: UidValidity, uidl: &Uidl) -> Option<Uid> {
        let text = uidl.as_str();
        let half = || text.split_at_checked(8);
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let uid = match self {
            Self::UidValidityHex | Self::UidValidityCapitals => hex(half()?.0)?,
            Self::ValidityUidHex | Self::ValidityUidCapitals => hex(half()?.1)?,
            Self::ValidityDotUid => text.split_once('.')?.1.parse().ok()?,
            Self::UidDotValidity => text.split_once('.')?.0.parse().ok()?,
            Self::ValidityDashUid => text.split_once('-')?.1.parse().ok()?,
            Self::UidDashValidity => text.split_once('-')?.0.parse().ok()?,
            Self::Uid => text.parse().ok()?,
        };
        // Read loosely, then held against what the server would have written: signs, blanks and case are all caught.
        (uid > 0 && self.render(uid_validity, Uid(uid)) == text).then_some(Uid(uid))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No template has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no known UIDL template: {0:?}")]
pub struct UnknownTemplate(String);

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|template| template.as_str() == name);
        found.ok_or_else(|| UnknownTemplate(name.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(template: Template, uidl: &str) -> Option<u32> {
        let uidl = Uidl::from_octets(uidl.as_bytes()).unwrap();
        template.uid_of(UidValidity(0x5968_2f01), &uidl).map(|uid| uid.0)
    }

    #[test]
    fn each_template_reads_what_real_servers_write_and_nothing_else() {
        for (template, uidl) in [
            (Template::UidValidityHex, "0000000a59682f01"),
            (Template::UidValidityCapitals, "0000000A59682F01"),
            (Template::ValidityUidHex, "59682f010000000a"),
            (Template::ValidityUidCapitals, "59682F010000000A"),
            (Template::ValidityDotUid, "1500000001.10"),
            (Template::UidDotValidity, "10.1500000001"),
            (Template::ValidityDashUid, "1500000001-10"),
            (Template::UidDashValidity, "10-1500000001"),
            (Template::Uid, "10"),
        ] {
            for other in Template::ALL {
                assert_eq!(uid(other, uidl), (other == template).then_some(10), "{other} {uidl}");
            }
            assert_eq!(template.as_str().parse(), Ok(template));
        }
        for uidl in ["0", "+10", "010", "4294967296", "1500000002.10", "0000000A59682f01", "0000000a59682f02", "UID10"]
        {
            assert!(Template::ALL.into_iter().all(|template| uid(template, uidl).is_none()), "{uidl}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_read_back(uid in 1..=u32::MAX, validity in 1..=u32::MAX) {
            for template in Template::ALL {
                let uidl = Uidl::from_octets(template.render(UidValidity(validity), Uid(uid)).as_bytes()).unwrap();
                prop_assert_eq!(template.uid_of(UidValidity(validity), &uidl), Some(Uid(uid)));
            }
        }

        #[test]
        fn nothing_panics(octets in prop::collection::vec(0x21..0x7f_u8, 1..70)) {
            let uidl = Uidl::from_octets(&octets).unwrap();
            for template in Template::ALL {
                let _ = template.uid_of(UidValidity(7), &uidl);
            }
        }
    }
}
