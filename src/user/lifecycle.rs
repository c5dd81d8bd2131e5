//! The life of a user (DESIGN §3) as one pure state machine: an event comes in, the next state comes out.
//!
//! Invariants, held by the tests below: the epoch never shrinks and grows exactly when the authority changes; the
//! authority changes only from `switching` with [`Event::Switched`] and from `returning` with [`Event::RolledBack`].

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
    /// An operator wants the user to stay on the old side.
    HeldBack {
        /// By whom.
        reason: String,
    },
    /// An operator wants a held user to move on.
    Resumed,
    /// The process starts again after it ended in the middle of a switch, or of the way back.
    Restarted,
    /// The gate was closed for the way back.
    ReturnBegun,
    /// The way back failed; the gate opens on the new side.
    ReturnFailed {
        /// Why.
        reason: String,
    },
    /// The verified way back is being committed.
    RolledBack {
        /// By whom.
        reason: String,
    },
    /// The time in which there is a way back is over.
    WindowOver,
    /// An operator wants no way back any more.
    SettledEarly,
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
            Self::HeldBack { .. } => "held by the operator",
            Self::Resumed => "resumed by the operator",
            Self::Restarted => "restarted inside the gate",
            Self::ReturnBegun => "gate closed for the way back",
            Self::ReturnFailed { .. } => "rollback failed",
            Self::RolledBack { .. } => "rolled back",
            Self::WindowOver => "rollback window over",
            Self::SettledEarly => "settled by the operator",
        }
    }

    /// Whether it may only be written by who holds the user's lease: what was looked at to decide it can't have been
    /// changed by another process then.
    #[must_use]
    pub const fn needs_lease(&self) -> bool {
        matches!(self, Self::GateClosed | Self::Switched | Self::ReturnBegun | Self::RolledBack { .. })
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
            (Phase::Copying | Phase::Following, Event::Refused { reason })
            | (Phase::Old | Phase::Copying | Phase::Following, Event::HeldBack { reason }) => {
                Ok(stay(Phase::Held, Some(reason.clone())))
            }
            (Phase::New, Event::ReturnBegun) => Ok(stay(Phase::Returning, None)),
            (Phase::Returning, Event::ReturnFailed { reason }) => Ok(stay(Phase::New, Some(reason.clone()))),
            (Phase::Returning, Event::Restarted) => Ok(stay(Phase::New, None)),
            (Phase::Returning, Event::RolledBack { reason }) => Ok(Self {
                phase: Phase::Held,
                authority: Side::Old,
                epoch: self.epoch + 1,
                reason: Some(reason.clone()),
            }),
            (Phase::New, Event::WindowOver | Event::SettledEarly) => Ok(stay(Phase::Settled, None)),
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
            Just(Event::HeldBack { reason: "why".to_owned() }),
            Just(Event::ReturnBegun),
            Just(Event::ReturnFailed { reason: "why".to_owned() }),
            Just(Event::RolledBack { reason: "why".to_owned() }),
            Just(Event::WindowOver),
            Just(Event::SettledEarly),
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
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Old) {
            let life = Life { phase, ..Life::new() };
            assert!(life.after(&Event::EnrolledLogin).is_err(), "{phase}");
        }
    }

    #[test]
    fn the_way_back_ends_where_only_an_operator_can_go_on() {
        let there = Life { phase: Phase::New, authority: Side::New, epoch: 1, reason: None };
        let begun = there.after(&Event::ReturnBegun).unwrap();
        assert_eq!((begun.phase, begun.authority, begun.epoch), (Phase::Returning, Side::New, 1));
        assert_eq!(begun.after(&Event::ReturnFailed { reason: "why".to_owned() }).unwrap().phase, Phase::New);
        assert_eq!(begun.after(&Event::Restarted).unwrap(), there);
        let back = begun.after(&Event::RolledBack { reason: "by anna".to_owned() }).unwrap();
        assert_eq!((back.phase, back.authority, back.epoch), (Phase::Held, Side::Old, 2));
        assert!(back.after(&Event::EnrolledLogin).is_err() && back.after(&Event::Resumed).is_ok());
        let settled = there.after(&Event::WindowOver).unwrap();
        assert!(settled.after(&Event::ReturnBegun).is_err(), "there is no way back from settled");
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
                    let back = life.phase == Phase::Returning && matches!(event, Event::RolledBack { .. });
                    prop_assert!(back || life.phase == Phase::Switching && event == Event::Switched);
                }
                let there = matches!(next.phase, Phase::New | Phase::Returning | Phase::Settled);
                prop_assert_eq!(next.authority == Side::New, there);
                if next.phase == Phase::Held {
                    prop_assert!(next.reason.is_some());
                }
                life = next;
            }
        }
    }
}
