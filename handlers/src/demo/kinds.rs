//! The four workers of the demo: which command is whose, what its effect is called, and what people are told of it.

use crate::{
    fraud::contract::{FraudReview, ScoreFraudReview},
    history::{
        contract::{FetchVehicleHistory, VehicleHistory},
        vin::Vin,
    },
    image::contract::{ListingImage, ProcessListingImage},
    recommendation::contract::{Brief, GenerateRecommendationBrief},
};
use pitcrew::{Document, Message};
use serde_json::Value;

/// A worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which cars should this buyer look at?
    Recommendation,
    /// Photos become fit to be shown.
    Image,
    /// What has happened to a car?
    History,
    /// Can a listing be trusted?
    Fraud,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Recommendation, Self::Image, Self::History, Self::Fraud];

    /// For `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recommendation => "recommendation",
            Self::Image => "image",
            Self::History => "history",
            Self::Fraud => "fraud",
        }
    }

    /// What its effects are called.
    pub fn effects(self) -> &'static str {
        match self {
            Self::Recommendation => "briefs",
            Self::Image => "photos",
            Self::History => "histories",
            Self::Fraud => "reviews",
        }
    }

    /// Its command.
    pub fn ty(self) -> &'static str {
        match self {
            Self::Recommendation => GenerateRecommendationBrief::TYPE,
            Self::Image => ProcessListingImage::TYPE,
            Self::History => FetchVehicleHistory::TYPE,
            Self::Fraud => ScoreFraudReview::TYPE,
        }
    }

    /// Its effects are documents of this collection, and each of them counts its own writes.
    pub fn collection(self) -> &'static str {
        match self {
            Self::Recommendation => Brief::COLLECTION,
            Self::Image => ListingImage::COLLECTION,
            Self::History => VehicleHistory::COLLECTION,
            Self::Fraud => FraudReview::COLLECTION,
        }
    }

    /// Whose command this is.
    pub fn of(ty: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.ty() == ty)
    }

    /// The types of all commands, for SQL.
    pub(super) fn types() -> String {
        Self::ALL.map(|kind| format!("'{}'", kind.ty())).join(", ")
    }
}

/// What a command is to cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose command it is.
    pub kind: Kind,
    /// The ID of the document that it writes.
    pub document: String,
    /// What the notification about it is about.
    pub about: String,
    /// It cannot be answered, on purpose. Told by its data, for an account that sees only what came out.
    pub poison: bool,
}

impl Target {
    /// Of a command's data.
    pub fn of(kind: Kind, data: &Value) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (document, about) = match kind {
            Kind::Recommendation => (word(&data["brief_id"]), None),
            Kind::Image => (ListingImage::id_of(&word(&data["listing_id"]), &word(&data["photo_id"])), None),
            Kind::History => (word(&data["vin"]), None),
            Kind::Fraud => (word(&data["review_id"]), Some(word(&data["listing"]["id"]))),
        };
        let poison = match kind {
            Kind::History => Vin::parse(&document).is_err(),
            _ => document.split(['/', '-']).any(|part| part == super::commands::POISON),
        };
        Self { kind, about: about.unwrap_or_else(|| document.clone()), document, poison }
    }

    /// Of a brief with this ID.
    pub fn brief(id: &str) -> Self {
        Self::of(Kind::Recommendation, &serde_json::json!({ "brief_id": id }))
    }
}
