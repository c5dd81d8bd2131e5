//! All that a reader can say. There is no word in it for a mailbox, a message, a flag, an attribute or a deletion, so none can
//! be sent; what the words say of us is always that we have nothing, so there is nothing that the other side could take over.

use crate::wire::dsync::item::{self, Guid, Line, MailboxState, NodeMailbox};

/// Our name. Nobody locks anything for a reader.
const HOSTNAME: &str = "mailferry";

/// The largest size and the latest date that a message may have: none is above. That they are set at all makes the slave tell
/// the size and the date of each message.
const SIZE_MAX: u64 = 1 << 62;
const DATE_MAX: u64 = 1 << 40;

/// What comes before the header lines of the other items.
const BEGINNING: &str = "VERSION\tdsync\t3\t5\n\
    Hhostname\tsync_type\tsend_mail_requests\tbackup_send\tsync_until_timestamp\tsync_max_size\thashed_headers\n";

/// Fields without which a slave can't tell what must be known.
pub(super) const WANTED: [(u8, &str, &str); 4] = [
    (b'H', "sync_max_size", "the sizes of messages"),
    (b'H', "sync_until_timestamp", "the dates of messages"),
    (b'C', "virtual_size", "the sizes of messages"),
    (b'C', "received_timestamp", "the dates of messages"),
];

/// A word of a reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word<'a> {
    /// What we know of the protocol, and that the slave is the one that sends: its own mailboxes are opened read-only then.
    Begin,
    /// What was known of a mailbox before: its slave tells only what is new.
    Known(&'a MailboxState),
    /// The end of a list.
    End,
    /// That we have no mailbox, and delete none.
    Nothing,
    /// A mailbox of the slave's own tree is to be told. We claim its own UIDVALIDITY, and no message: of two sides that differ the
    /// one with more messages wins, or else the higher UIDVALIDITY (dsync reference §7.2), so this one never does.
    Tell(&'a NodeMailbox),
    /// A message of it is wanted.
    Want(u32),
    /// The mailbox is done with.
    Done(&'a Done),
}

/// What a mailbox that is done with was, in the slave's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) guid: Guid,
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) highest_modseq: u64,
    pub(super) messages: u32,
}

impl Word<'_> {
    pub(super) fn say(self, out: &mut Vec<u8>) {
        match self {
            Self::Begin => {
                out.extend_from_slice(BEGINNING.as_bytes());
                out.extend_from_slice(item::items!().as_bytes());
                // Mailboxes without a state are told whole, the others from there on.
                let line = Line::new(b'H').text(HOSTNAME).text('s').flag(true).flag(true);
                line.text(DATE_MAX).text(SIZE_MAX).field(Some(&item::hashed_headers())).end(out);
            }
            Self::Known(state) => state.encode(out),
            Self::End => out.extend_from_slice(b".\n"),
            Self::Nothing => {
                Self::End.say(out);
                item::deletions(&[], &[], out);
            }
            Self::Tell(mailbox) => {
                let line = Line::new(b'B').text(item::hex(&mailbox.guid)).text(mailbox.uid_validity).text(1);
                line.text(0).text(1).text(0).text(0).null().null().null().flag(true).flag(true).end(out);
            }
            Self::Want(uid) => Line::new(b'R').null().text(uid).end(out),
            Self::Done(done) => {
                let line = Line::new(b'S').text(item::hex(&done.guid)).text(done.uid_validity);
                let line = line.text(done.uid_next.saturating_sub(1)).text(done.highest_modseq).text(0);
                line.text(done.messages).end(out);
            }
        }
    }
}
