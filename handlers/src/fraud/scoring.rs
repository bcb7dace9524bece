//! From signals to an outcome.
//!
//! The score is 1 − Π (1 − weight × value), the *noisy or*: each signal takes its share of what the others left, so that many weak
//! ones add up, one strong one is enough, and nothing ever exceeds 1.

use super::{
    contract::{FraudReview, Outcome, ScoreFraudReview, Signal, SignalName},
    signals::{Finding, round},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `[handlers."car.ScoreFraudReview".scoring]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoringConfig {
    /// From this score on a person looks.
    pub review_from: f64,
    /// From this score on it is rejected.
    pub reject_from: f64,
    /// How much a signal counts, 0 to 1; those that are not named keep their default.
    pub weights: BTreeMap<SignalName, f64>,
}
impl Default for ScoringConfig {
    fn default() -> Self {
        Self { review_from: 0.35, reject_from: 0.8, weights: BTreeMap::new() }
    }
}

/// Weights or thresholds that decide nothing.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ScoringError {
    /// Out of its range.
    #[error("accept the weight {weight} of `{name:?}`: it is 0 to 1")]
    Weight {
        /// Whose.
        name: SignalName,
        /// The weight.
        weight: f64,
    },
    /// Not in order.
    #[error("accept review_from = {review} and reject_from = {reject}: 0 < review_from ≤ reject_from ≤ 1")]
    Thresholds {
        /// `review_from`
        review: f64,
        /// `reject_from`
        reject: f64,
    },
}

/// Weighs findings.
#[derive(Debug)]
pub struct Scoring {
    config: ScoringConfig,
}

impl Scoring {
    /// Checks the weights and thresholds.
    ///
    /// # Errors
    /// Names what decides nothing.
    pub fn new(config: ScoringConfig) -> Result<Self, ScoringError> {
        if let Some((name, weight)) = config.weights.iter().find(|(_, weight)| !(0.0..=1.0).contains(*weight)) {
            return Err(ScoringError::Weight { name: *name, weight: *weight });
        }
        let (review, reject) = (config.review_from, config.reject_from);
        if !(review > 0.0 && review <= reject && reject <= 1.0) {
            return Err(ScoringError::Thresholds { review, reject });
        }
        Ok(Self { config })
    }

    /// The review that follows from these findings; it has one write.
    pub fn review(&self, command: &ScoreFraudReview, findings: Vec<Finding>) -> FraudReview {
        let weigh = |Finding { name, value, sentence }| Signal { name, weight: self.weight(name), value, sentence };
        let mut signals: Vec<_> = findings.into_iter().map(weigh).collect();
        let left: f64 = signals.iter().map(|signal| 1.0 - signal.weight * signal.value).product();
        let score = round(1.0 - left);
        signals.sort_by(|a, b| (b.weight * b.value).total_cmp(&(a.weight * a.value)).then(a.name.cmp(&b.name)));
        let outcome = match score {
            score if score >= self.config.reject_from => Outcome::Reject,
            score if score >= self.config.review_from => Outcome::Review,
            _ => Outcome::Approve,
        };
        FraudReview {
            id: command.review_id.clone(),
            listing_id: command.listing.id.clone(),
            seller: command.listing.seller.clone(),
            score,
            outcome,
            signals,
            writes: 1,
        }
    }

    fn weight(&self, name: SignalName) -> f64 {
        self.config.weights.get(&name).copied().unwrap_or(match name {
            SignalName::Price => 0.55,
            SignalName::PhotoReuse => 0.6,
            SignalName::Vin => 0.6,
            SignalName::Odometer => 0.6,
            SignalName::HiddenHistory => 0.4,
            SignalName::Payment => 0.5,
            SignalName::Contact => 0.3,
            SignalName::AccountAge => 0.2,
            SignalName::Mileage => 0.15,
        })
    }
}
