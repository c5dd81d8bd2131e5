//! The life of a user (DESIGN §3) as one pure state machine: an event comes in, the next state comes out.
//!
//! Invariants, held by the tests below: the epoch never shrinks and grows exactly when the authority changes; the
//! authority changes only from `switching`, and only with [`Event::Switched`].

use crate::mailbox::Side;
use crate::store::{Phase, UserRecord};

/// The part of a user's record that the lifecycle decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where the user stands.
    pub phase: Phase,
    /// Which side serves the user.
    pub authority: Side,
    /// Grows with each change of authority.
    pub epoch: u64,
    /// Why the user stands here.
    pub reason: Option<String>,
}

/// What can happen to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An enrolled user logged in.
    EnrolledLogin,
    /// The first full copy is complete.
    Copied,
    /// The gate was closed with no session open.
    GateClosed,
    /// The switch failed; the gate opens on the old side.
    SwitchFailed {
        /// Why.
        reason: String,
    },
    /// The verified switch is being committed.
    Switched,
    /// Only an operator can help.
    Refused {
        /// Why.
        reason: String,
    },
    /// An operator wants a held user to move on.
    Resumed,
    /// The process starts again after it ended in the middle of a switch.
    Restarted,
}

impl Event {
    /// What the history says about this event.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::EnrolledLogin => "enrolled user logged in",
            Self::Copied => "copied",
            Self::GateClosed => "gate closed",
            Self::SwitchFailed { .. } => "switch failed",
            Self::Switched => "verified and switched",
            Self::Refused { .. } => "refused",
            Self::Resumed => "resumed by the operator",
            Self::Restarted => "restarted inside the gate",
        }
    }
}

/// An event that can't happen in this phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` can't happen to a user who is {phase}", event.cause())]
pub struct IllegalEvent {
    /// The phase.
    pub phase: Phase,
    /// The event.
    pub event: Event,
}

impl Life {
    /// The life of a user without a record.
    #[must_use]
    pub const fn new() -> Self {
        Self { phase: Phase::Old, authority: Side::Old, epoch: 0, reason: None }
    }

    /// The life in a stored record.
    #[must_use]
    pub fn of(record: &UserRecord) -> Self {
        Self { phase: record.phase, authority: record.authority, epoch: record.epoch, reason: record.reason.clone() }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`] if it can't happen in this phase; the caller must then leave everything as it is.
    pub fn after(&self, event: &Event) -> Result<Self, IllegalEvent> {
        let stay = |phase, reason| Self { phase, authority: self.authority, epoch: self.epoch, reason };
        match (self.phase, event) {
            (Phase::Old, Event::EnrolledLogin) | (Phase::Held, Event::Resumed) => Ok(stay(Phase::Copying, None)),
            (Phase::Copying, Event::Copied) | (Phase::Switching, Event::Restarted) => Ok(stay(Phase::Following, None)),
            (Phase::Following, Event::GateClosed) => Ok(stay(Phase::Switching, None)),
            (Phase::Switching, Event::SwitchFailed { reason }) => Ok(stay(Phase::Following, Some(reason.clone()))),
            (Phase::Switching, Event::Switched) => {
                Ok(Self { phase: Phase::New, authority: Side::New, epoch: self.epoch + 1, reason: None })
            }
            (Phase::Copying | Phase::Following, Event::Refused { reason }) => {
                Ok(stay(Phase::Held, Some(reason.clone())))
            }
            _ => Err(IllegalEvent { phase: self.phase, event: event.clone() }),
        }
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::EnrolledLogin),
            Just(Event::Copied),
            Just(Event::GateClosed),
            Just(Event::SwitchFailed { reason: "why".to_owned() }),
            Just(Event::Switched),
            Just(Event::Refused { reason: "why".to_owned() }),
            Just(Event::Resumed),
            Just(Event::Restarted),
        ]
    }

    #[test]
    fn the_way_to_the_new_side() {
        let mut life = Life::new();
        for event in [Event::EnrolledLogin, Event::Copied, Event::GateClosed] {
            life = life.after(&event).unwrap();
            assert_eq!((life.authority, life.epoch), (Side::Old, 0), "{event:?}");
        }
        life = life.after(&Event::Switched).unwrap();
        assert_eq!((life.phase, life.authority, life.epoch), (Phase::New, Side::New, 1));
    }

    #[test]
    fn a_login_of_a_user_who_moves_already_starts_nothing() {
        for phase in [Phase::Copying, Phase::Following, Phase::Switching, Phase::New, Phase::Held] {
            let life = Life { phase, ..Life::new() };
            assert!(life.after(&Event::EnrolledLogin).is_err(), "{phase}");
        }
    }

    proptest! {
        #[test]
        fn authority_changes_only_by_a_verified_switch(walk in prop::collection::vec(events(), 0..60)) {
            let mut life = Life::new();
            for event in walk {
                let Ok(next) = life.after(&event) else { continue };
                prop_assert!(next.epoch >= life.epoch);
                prop_assert_eq!(next.authority != life.authority, next.epoch != life.epoch);
                if next.authority != life.authority {
                    prop_assert_eq!(life.phase, Phase::Switching);
                    prop_assert_eq!(event, Event::Switched);
                }
                if next.phase == Phase::Held {
                    prop_assert!(next.reason.is_some());
                }
                life = next;
            }
        }
    }
}
