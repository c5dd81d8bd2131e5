//! Which UID each message of a POP3 list is where its UIDL is made of a number that IMAP tells, too: Gmail's are `GmailId` and
//! X-GM-MSGID in hexadecimal. Nothing has to be read for that, and nothing must be: what POP3 has given once, Gmail hides.

use std::collections::{HashMap, HashSet};

use super::Pop3List;
use super::pairing::{Doubt, Method, Named, Paired, Pairing, Snapshot, Stranger};
use crate::mailbox::Uid;

/// The UIDL of the message with this X-GM-MSGID.
#[must_use]
pub fn gmail_uidl(number: u64) -> String {
    format!("GmailId{number:x}")
}

/// Pairs a list by the numbers of INBOX's messages.
///
/// # Errors
/// [`Doubt`], if it is not certain for every message.
pub fn numbered(list: &Pop3List, snapshot: &Snapshot<'_>, numbers: &[(Uid, u64)]) -> Result<Pairing, Doubt> {
    let uids: HashMap<String, Uid> = numbers.iter().map(|(uid, number)| (gmail_uidl(*number), *uid)).collect();
    let (mut messages, mut strangers): (Vec<Paired>, Vec<Stranger>) = (Vec::new(), Vec::new());
    for (number, message) in (1..).zip(list.messages()) {
        let uid = uids.get(message.uidl.as_str()).filter(|uid| snapshot.has(**uid).is_some());
        match uid {
            Some(&uid) => {
                let (uidl, size, imap_size) = (message.uidl.clone(), message.size, snapshot.has(uid));
                messages.push(Paired { number, uidl, size, uid, imap_size, method: Method::Number });
            }
            None => strangers.push(Stranger { number, uidl: message.uidl.clone(), size: message.size }),
        }
    }
    let newer = snapshot.uid_next_after.0.saturating_sub(snapshot.contents.uid_next.0) as usize;
    if snapshot.list_is_older || strangers.len() <= newer {
        strangers.clear();
    }
    let sizes: Vec<Uid> =
        messages.iter().filter(|paired| paired.imap_size != Some(paired.size)).map(|paired| paired.uid).collect();
    if !sizes.is_empty() {
        return Err(Doubt::Sizes(Named::uids(sizes)));
    }
    let shown: HashSet<Uid> = messages.iter().map(|paired| paired.uid).collect();
    let hidden: Vec<Uid> =
        snapshot.contents.messages.iter().map(|message| message.uid).filter(|uid| !shown.contains(uid)).collect();
    Ok(Pairing {
        uid_validity: snapshot.contents.uid_validity,
        templates: Vec::new(),
        messages,
        hidden,
        strangers,
        elsewhere: Vec::new(),
        unshown: Vec::new(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::pairing::Policy;
    use super::super::pairing::tests::{inbox, snapshot};
    use super::super::tests::list;
    use super::*;
    use crate::mailbox::UidNext;

    const FIRST: u64 = 1_278_455_344_230_334_865;
    const NUMBERS: [(Uid, u64); 2] = [(Uid(3), FIRST), (Uid(5), 10)];

    #[test]
    fn the_number_of_a_message_is_its_uidl_in_hexadecimal() {
        assert_eq!(gmail_uidl(FIRST), "GmailId11bdfc5cae0c8191");
        let inbox = inbox(20, &[(3, 1), (5, 2)]);
        let shown = list(&[("GmailIda", 2), ("GmailId11bdfc5cae0c8191", 1)]);
        let pairing = numbered(&shown, &snapshot(&inbox), &NUMBERS).unwrap();
        assert_eq!(pairing.messages.iter().map(|paired| paired.uid.0).collect::<Vec<_>>(), [5, 3]);
        assert_eq!((pairing.method().as_str(), pairing.is_ascending()), ("by X-GM-MSGID", false));
    }

    #[test]
    fn what_is_on_one_side_only_and_what_differs_is_named() {
        let inbox = inbox(20, &[(3, 1), (5, 2)]);
        let doubt = |messages: &[(&str, u64)]| match numbered(&list(messages), &snapshot(&inbox), &NUMBERS) {
            Ok(pairing) => pairing.doubt(Policy::default()).unwrap(),
            Err(doubt) => doubt,
        };
        assert!(matches!(doubt(&[("GmailIda", 2)]), Doubt::Hidden(_)));
        assert!(matches!(doubt(&[("GmailIda", 3), ("GmailId11bdfc5cae0c8191", 1)]), Doubt::Sizes(_)));
        let archived = [("GmailIda", 2), ("GmailId11bdfc5cae0c8191", 1), ("GmailIdb", 9)];
        assert!(matches!(doubt(&archived), Doubt::Strangers(_)), "POP3 shows archived mail, too");
        let later = Snapshot { uid_next_after: UidNext(21), ..snapshot(&inbox) };
        assert_eq!(numbered(&list(&archived), &later, &NUMBERS).unwrap().messages.len(), 2, "one has just come");
    }
}
