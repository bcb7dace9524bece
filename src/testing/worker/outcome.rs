//! What a test asks about one delivery.

use crate::{
    Envelope, Message,
    store::{Attempt, DeadLetter, Fate, Finished, Purpose, Verdict},
};
use std::sync::Arc;

/// What became of one delivery.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The message as it was delivered.
    pub envelope: Arc<Envelope>,
    /// Its fate.
    pub fate: Fate,
    /// The try, if it did not end done.
    pub attempt: Option<Attempt>,
    /// The letter, if it is dead or quarantined.
    pub letter: Option<DeadLetter>,
    /// What its handler sent, in the order of the calls.
    pub sent: Vec<Arc<Envelope>>,
}

impl Outcome {
    pub(super) fn of(finished: &Finished, verdict: Verdict) -> Self {
        if verdict == Verdict::Duplicate {
            return Self::without_effect(finished.envelope.clone(), Fate::Duplicate);
        }
        let mut sent: Vec<Arc<Envelope>> = Vec::new();
        for row in finished.effects.outbox.iter().filter(|row| !matches!(row.purpose, Purpose::Retry | Purpose::Dead)) {
            // One message has a row for each subscription.
            if sent.iter().all(|envelope| envelope.id != row.envelope.id) {
                sent.push(row.envelope.clone());
            }
        }
        Self {
            envelope: finished.envelope.clone(),
            fate: finished.fate.clone(),
            attempt: finished.attempt.as_deref().cloned(),
            letter: finished.letter.as_deref().cloned(),
            sent,
        }
    }

    pub(super) fn without_effect(envelope: Arc<Envelope>, fate: Fate) -> Self {
        Self { envelope, fate, attempt: None, letter: None, sent: Vec::new() }
    }

    /// The messages of type `M` that the handler sent, in the order of the calls.
    ///
    /// # Panics
    /// One of them is no `M` after all.
    pub fn emitted<M: Message>(&self) -> Vec<M> {
        let of_type = self.sent.iter().filter(|envelope| envelope.ty == M::TYPE);
        let read = |envelope: &Arc<Envelope>| match crate::message::decode::<M>(envelope) {
            Ok(message) => message,
            Err(error) => panic!("{} does not read back what it wrote: {error}", M::TYPE),
        };
        of_type.map(read).collect()
    }

    /// # Panics
    /// It is not done.
    #[track_caller]
    pub fn assert_done(&self) {
        assert!(self.fate == Fate::Done, "not done: {}", self.told());
    }

    /// # Panics
    /// It was not known before.
    #[track_caller]
    pub fn assert_duplicate(&self) {
        assert!(self.fate == Fate::Duplicate, "no duplicate: {}", self.told());
    }

    /// # Panics
    /// It does not come again.
    #[track_caller]
    pub fn assert_retry(&self) {
        assert!(matches!(self.fate, Fate::Retry(_)), "no retry: {}", self.told());
    }

    /// # Panics
    /// It is not dead, or neither the word for the reason nor the error says `why`.
    #[track_caller]
    pub fn assert_dead(&self, why: &str) {
        let said = self.letter.as_ref().is_some_and(|letter| letter.reason == why || letter.error.contains(why));
        assert!(matches!(self.fate, Fate::Dead(_)) && said, "not dead because of `{why}`: {}", self.told());
    }

    /// The error of this attempt, as it is stored; empty if there is none.
    pub fn error(&self) -> &str {
        let letter = self.letter.as_ref().map(|letter| letter.error.as_str());
        letter.or(self.attempt.as_ref().map(|attempt| attempt.error.as_str())).unwrap_or_default()
    }

    fn told(&self) -> String {
        let (ty, id, attempt) = (&self.envelope.ty, &self.envelope.id, self.envelope.hop.attempt);
        format!("{ty} {id}, attempt {attempt}, is {:?} {}", self.fate, self.error())
    }
}
