//! What a worker does on an operator's word.

use tracing::warn;

use super::{Asked, Order, Outcome, Worker};
use crate::migrate::back::{self, Back};
use crate::migrate::gate::{Attempt, advance};
use crate::migrate::{Job, Platform, Readers, Stop, lease};
use crate::store::Phase;
use crate::user::Event;

impl Worker {
    pub(super) fn asked_for(&self, order: &Order) -> bool {
        self.waiting.as_ref().is_some_and(|asked| asked.order == *order)
    }

    pub(super) async fn take_order(&mut self, asked: Asked) {
        let Asked { order, reply } = asked;
        let outcome = match (&order, self.life.phase) {
            (Order::Switch | Order::Rollback { .. }, _) => {
                self.halt.heard();
                self.answer(Outcome::TryAgain("another order came for this user".to_owned()));
                self.waiting = Some(Asked { order, reply });
                return;
            }
            (Order::Hold { by }, Phase::Copying | Phase::Following) => {
                let reason = format!("held by {by}");
                self.by_order(&Event::HeldBack { reason: reason.clone() }, reason).await
            }
            (Order::Settle, Phase::New) => self.by_order(&Event::SettledEarly, "settled".to_owned()).await,
            (_, phase) => Outcome::Refused(format!("the user is {phase} by now")),
        };
        self.halt.heard();
        // Whoever asked may have gone; the outcome stands in the history too.
        let _ = reply.send(outcome);
    }

    async fn by_order(&mut self, event: &Event, done: String) -> Outcome {
        match advance(&self.platform, &self.user, &self.life, event, None).await {
            Ok(life) => {
                (self.life, self.login) = (life, None);
                self.answer(Outcome::TryAgain(format!("another order came for this user: {done}")));
                Outcome::Done(done)
            }
            Err(stop) => {
                self.learn().await;
                Outcome::TryAgain(stop.to_string())
            }
        }
    }

    /// Ends the watch over the old side.
    pub(super) async fn settle(&mut self, event: &Event) {
        if let Err(stop) = advance(&self.platform, &self.user, &self.life, event, None).await {
            warn!(user = %self.user, "can't be settled now: {stop}");
        }
    }

    pub(super) fn answer(&mut self, outcome: Outcome) {
        if let Some(waiting) = self.waiting.take() {
            // Whoever asked may have gone; the outcome stands in the history too.
            let _ = waiting.reply.send(outcome);
        }
    }

    pub(super) async fn rollback(
        &mut self,
        platform: &Platform,
        with: (&Job, &lease::Held),
        readers: &mut Readers,
    ) -> Result<(), Stop> {
        let Some(Asked { order: Order::Rollback { accept_loss, by }, .. }) = &self.waiting else { return Ok(()) };
        let back = Back { accept_loss: *accept_loss, by: by.clone() };
        let how = (&back, &self.halt);
        match back::attempt(platform, with, &self.gate, &mut self.life, readers, how).await {
            Ok(Attempt::Busy(busy)) => self.answer(Outcome::TryAgain(busy.to_string())),
            Ok(Attempt::Switched | Attempt::TooSlow(_)) => self.answer(Outcome::RolledBack(self.life.epoch)),
            // Where the user stands has nothing to do with it.
            Err(Stop::Refused(reason)) => self.answer(Outcome::Refused(reason)),
            Err(stop) => return Err(stop),
        }
        Ok(())
    }
}
