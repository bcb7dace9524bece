//! Adverse mode: what a real broker does on a bad day, on purpose and repeatably.

use super::{Item, PublishError};

/// Probabilities in `0.0..=1.0`; all zero is fair weather.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adverse {
    /// The same seed gives the same bad luck for the same calls.
    pub seed: u64,
    /// A message arrives twice.
    pub duplicate: f64,
    /// A message arrives before others that were there first (breaks order per key).
    pub reorder: f64,
    /// An ack never reaches the broker: the message comes again.
    pub lose_ack: f64,
    /// A publish is refused.
    pub refuse: f64,
    /// A publish has no route.
    pub unroutable: f64,
}

/// An adverse mode with its own random numbers.
#[derive(Debug)]
pub(super) struct Dice {
    adverse: Adverse,
    random: fastrand::Rng,
}

impl Dice {
    pub(super) fn new(adverse: Adverse) -> Self {
        Self { adverse, random: fastrand::Rng::with_seed(adverse.seed) }
    }

    fn falls(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    pub(super) fn publish(&mut self) -> Result<(), PublishError> {
        if self.falls(self.adverse.refuse) {
            return Err(PublishError::Refused("adverse mode".into()));
        }
        if self.falls(self.adverse.unroutable) {
            return Err(PublishError::Unroutable("adverse mode".into()));
        }
        Ok(())
    }

    pub(super) fn arrivals(&mut self, item: Item) -> Vec<Item> {
        let copies = 1 + usize::from(self.falls(self.adverse.duplicate));
        vec![item; copies]
    }

    pub(super) fn place(&mut self, waiting: usize) -> usize {
        if waiting > 0 && self.falls(self.adverse.reorder) { self.random.usize(0..=waiting) } else { waiting }
    }

    pub(super) fn loses_ack(&mut self) -> bool {
        self.falls(self.adverse.lose_ack)
    }
}
