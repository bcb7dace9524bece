//! Canonical Data Model: what the fraud worker is asked, what it keeps and what it tells.
//!
//! Readers are tolerant: a message with a field that this build does not know is read all the same.

use crate::{image::contract::Fingerprint, recommendation::contract::Money};
use chrono::{DateTime, Utc};
use pitcrew::{Command, Document, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// The most photos that are looked at: a listing with more is refused, for each costs reads of the store.
pub const MOST_PHOTOS: usize = 30;

/// "Can this listing be trusted?"
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreFraudReview {
    /// Names the review: the ID under which it is kept. 1 to 100 characters.
    pub review_id: String,
    /// What is looked at.
    pub listing: Listing,
}
impl Message for ScoreFraudReview {
    type Kind = Command;
    const TYPE: &'static str = "car.ScoreFraudReview";

    fn subject(&self) -> Option<String> {
        Some(self.review_id.clone())
    }
}
impl ScoreFraudReview {
    /// Whether it can be scored at all.
    ///
    /// # Errors
    /// Says what cannot be used: wrong today, wrong tomorrow.
    pub fn check(&self) -> Result<(), ReviewError> {
        let names = [
            ("review_id", &self.review_id),
            ("listing.id", &self.listing.id),
            ("listing.seller.id", &self.listing.seller.id),
        ];
        for (field, name) in names {
            if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
                return Err(ReviewError::Name(field));
            }
        }
        if !(1886..=2100).contains(&self.listing.year) {
            return Err(ReviewError::Year(self.listing.year));
        }
        if self.listing.photos.len() > MOST_PHOTOS {
            return Err(ReviewError::Photos(self.listing.photos.len()));
        }
        Ok(())
    }
}

/// A command that nothing can be scored by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// An ID that a document cannot be named by.
    #[error("use the command: `{0}` holds 1 to 100 characters, no control characters")]
    Name(&'static str),
    /// Before the first car, or far in the future.
    #[error("use the command: `listing.year` is {0}, and there were no cars then, or there are none yet")]
    Year(u16),
    /// Too many.
    #[error("use the command: `listing.photos` are {0}, at most {MOST_PHOTOS} are looked at")]
    Photos(usize),
}

/// What is offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listing {
    /// The platform's ID.
    pub id: String,
    /// Who offers it.
    pub seller: Seller,
    /// E.g. `Toyota`, in any case of letters.
    pub make: String,
    /// E.g. `Prius`.
    pub model: String,
    /// The model year.
    pub year: u16,
    /// As the seller wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vin: Option<String>,
    /// What it shall cost.
    pub price: Money,
    /// What the odometer shows, in km.
    pub odometer_km: u32,
    /// What the seller says, title and text.
    #[serde(default)]
    pub text: String,
    /// What the photos look like, as the image worker says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub photos: Vec<Photo>,
    /// When it was put up.
    pub listed_at: DateTime<Utc>,
}

/// One photo of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Photo {
    /// The photo within the listing.
    pub id: String,
    /// 16 hexadecimal digits: `fingerprint` of the image worker's read model.
    #[schemars(with = "String")]
    pub fingerprint: Fingerprint,
}

/// Who offers a car.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seller {
    /// The platform's ID of the seller.
    pub id: String,
    /// How the seller is addressed.
    pub name: String,
    /// Since when the account exists.
    pub since: DateTime<Utc>,
}

/// "The listing was looked at."
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FraudReviewScored {
    /// The review's ID: the `subject`.
    pub review_id: String,
    /// The listing.
    pub listing_id: String,
    /// Who offers it.
    pub seller: Seller,
    /// 0 (nothing was found) to 1, three digits.
    pub score: f64,
    /// What follows.
    pub outcome: Outcome,
    /// What raised the score, the weightiest first.
    pub reasons: Vec<String>,
}
impl Message for FraudReviewScored {
    type Kind = Event;
    const TYPE: &'static str = "car.FraudReviewScored";

    fn subject(&self) -> Option<String> {
        Some(self.review_id.clone())
    }
}
impl FraudReviewScored {
    /// What the world is told about `review`.
    pub fn of(review: &FraudReview) -> Self {
        let raised = review.signals.iter().filter(|signal| signal.value > 0.0);
        Self {
            review_id: review.id.clone(),
            listing_id: review.listing_id.clone(),
            seller: review.seller.clone(),
            score: review.score,
            outcome: review.outcome,
            reasons: raised.map(|signal| signal.sentence.clone()).collect(),
        }
    }
}

/// The read model. The same command with the same evidence always gives the same one, save for `writes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FraudReview {
    /// The command's `review_id`.
    pub id: String,
    /// The listing.
    pub listing_id: String,
    /// Who offers it.
    pub seller: Seller,
    /// 0 (nothing was found) to 1, three digits.
    pub score: f64,
    /// What follows.
    pub outcome: Outcome,
    /// Everything that was looked at, the weightiest first; what found nothing stands there, too.
    pub signals: Vec<Signal>,
    /// How often this review was written. Counted up on purpose, which no upsert can hide: a command whose effect happened twice
    /// shows here.
    pub writes: u32,
}
impl Document for FraudReview {
    const COLLECTION: &'static str = "fraud_review";

    fn id(&self) -> impl Display {
        &self.id
    }
}
impl FraudReview {
    /// This review in the place of `old`, with one write more.
    pub fn written_over(self, old: Option<Self>) -> Self {
        Self { writes: old.map_or(0, |old| old.writes).saturating_add(1), ..self }
    }
}

/// What follows from a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It may be shown.
    Approve,
    /// A person should look.
    Review,
    /// It must not be shown.
    Reject,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Which one.
    pub name: SignalName,
    /// How much it counts, 0 to 1, from the config.
    pub weight: f64,
    /// How strong it is here, 0 to 1, three digits.
    pub value: f64,
    /// Why, in words.
    pub sentence: String,
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalName {
    /// The price against what cars like this may be worth.
    Price,
    /// The same photos in other listings.
    PhotoReuse,
    /// The VIN against make, model year and itself.
    Vin,
    /// The odometer against the car's history.
    Odometer,
    /// The distance a year.
    Mileage,
    /// Damage and branded titles that the text does not tell.
    HiddenHistory,
    /// How long the seller has been known.
    AccountAge,
    /// Ways around the platform in the text.
    Contact,
    /// Ways to pay that cannot be undone.
    Payment,
}
impl SignalName {
    /// All of them, in the order of this page.
    pub const ALL: [Self; 9] = [
        Self::Price,
        Self::PhotoReuse,
        Self::Vin,
        Self::Odometer,
        Self::Mileage,
        Self::HiddenHistory,
        Self::AccountAge,
        Self::Contact,
        Self::Payment,
    ];
}
