//! Users' own sessions come first (I6): a server that takes only so many connections from one address sees a proxy as one
//! address, and ours count with theirs. When it turns a user's session away, ours to it end, and the session is tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// Between the tries of a session that was turned away: a server needs a moment to see that a connection has ended.
const WAITS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900), Duration::from_secs(2)];

/// Knows of sessions that were turned away. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crowd(Arc<watch::Sender<u64>>);

impl Default for Crowd {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Crowd {
    /// Connects a user's session to a server; when that is `turned_away`, tries again while connections of ours may be the
    /// reason.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn connect<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        connect: impl Fn() -> F,
        turned_away: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut tries = self.tries();
        loop {
            match connect().await {
                Err(error) if turned_away(&error) && tries.again().await => {}
                done => return done,
            }
        }
    }

    const fn tries(&self) -> Tries<'_> {
        Tries { crowd: self, waits: &WAITS }
    }

    /// Asks all that listen to give way; whether there are any.
    fn press(&self) -> bool {
        self.0.send_modify(|times| *times = times.wrapping_add(1));
        self.0.receiver_count() > 0
    }

    /// Waits until a session is turned away from now on.
    pub async fn pressed(&self) {
        let mut times = self.0.subscribe();
        if times.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The tries of one session.
#[derive(Debug)]
struct Tries<'a> {
    crowd: &'a Crowd,
    waits: &'static [Duration],
}

impl Tries<'_> {
    /// The session was turned away: whether it is worth another try, which it is while connections of ours may be the
    /// reason. Those end, and there has been time for it.
    async fn again(&mut self) -> bool {
        let Some((wait, rest)) = self.waits.split_first() else { return false };
        if !self.crowd.press() {
            return false;
        }
        self.waits = rest;
        sleep(*wait).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_turned_away_is_tried_again_when_others_have_given_way() {
        let crowd = Crowd::default();
        let listener = crowd.clone();
        let ours = tokio::spawn(async move { listener.pressed().await });
        tokio::task::yield_now().await;
        let mut tries = crowd.tries();
        assert!(tries.again().await);
        assert!(ours.is_finished(), "ours has ended by then");
        assert!(!tries.again().await, "there is nobody left who could give way");
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_few_and_none_where_nobody_listens() {
        let crowd = Crowd::default();
        assert!(!crowd.tries().again().await);
        let listener = crowd.clone();
        let ours = tokio::spawn(async move {
            loop {
                listener.pressed().await;
            }
        });
        tokio::task::yield_now().await;
        let mut tries = crowd.tries();
        let mut count = 0;
        while tries.again().await {
            count += 1;
        }
        assert_eq!(count, WAITS.len());
        ours.abort();
    }
}
