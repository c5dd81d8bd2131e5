//! How long a copy would take: a few messages are read from the old side, and the rest is reckoned from them.

use std::time::Duration;

use tokio::time::Instant;

use crate::mailbox::{Contents, Listed};
use crate::migrate::Stop;
use crate::source::{BodyEvent, Reader};

/// Messages read at most: an old server has better things to do.
const MESSAGES_MAX: u64 = 200;

/// Their octets at most.
const OCTETS_MAX: u64 = 4 << 20;

/// What was read, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Messages.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// From the first command to the last octet.
    pub took: Duration,
}

impl Pace {
    /// How long so much would take: after their number or their octets, whichever says more. None if nothing was read.
    #[must_use]
    pub fn reckon(&self, messages: u64, octets: u64) -> Option<Duration> {
        let took = self.took.as_millis();
        let of = |all: u64, read: u64| took.saturating_mul(all.into()).checked_div(read.into());
        let milliseconds = of(messages, self.messages)?.max(of(octets, self.octets).unwrap_or_default());
        u64::try_from(milliseconds).ok().map(Duration::from_millis)
    }

    /// Reads some of the newest messages of a mailbox on top of what was read.
    pub(super) async fn read(&mut self, reader: &mut Reader, listed: &Listed, contents: &Contents) -> Result<(), Stop> {
        let (mut octets, mut uids) = (self.octets, Vec::new());
        for message in contents.messages.iter().rev() {
            octets += message.size;
            if octets > OCTETS_MAX || self.messages + uids.len() as u64 >= MESSAGES_MAX {
                break;
            }
            uids.push(message.uid);
        }
        if uids.is_empty() {
            return Ok(());
        }
        uids.reverse();
        let began = Instant::now();
        let mut bodies = reader.bodies(listed, contents.uid_validity, uids).await?;
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Chunk(octets) => self.octets += octets.len() as u64,
                BodyEvent::End(_) => self.messages += 1,
                // The copy will say what it is.
                _ => {}
            }
        }
        self.took += began.elapsed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_goes_by_what_there_is_more_of() {
        let pace = Pace { messages: 100, octets: 1_000_000, took: Duration::from_secs(2) };
        assert_eq!(pace.reckon(1000, 1_000_000), Some(Duration::from_secs(20)), "many small ones");
        assert_eq!(pace.reckon(1000, 100_000_000), Some(Duration::from_secs(200)), "large ones");
        assert_eq!(pace.reckon(0, 0), Some(Duration::ZERO));
        assert_eq!(Pace::default().reckon(5, 5), None, "nothing was read");
        assert_eq!(pace.reckon(u64::MAX, u64::MAX), None, "no end is in sight");
    }
}
