//! The workers of a car platform, and the example that a handler author copies.
//!
//! Each worker is one file that says what happens when a message comes (`recommendation.rs`), and a folder with its parts:
//! the contract (what travels and what is kept), and the logic, which knows no runtime and is tested without one.

pub mod demo;
pub mod fraud;
pub mod history;
pub mod http;
pub mod image;
pub mod notification;
pub mod recommendation;

use fraud::{FraudScorer, contract::FraudReviewScored};
use history::{Historian, contract::VehicleHistoryFetched};
use image::{ImageProcessor, contract::ListingImageProcessed};
use notification::Notifier;
use pitcrew::Handlers;
use recommendation::{Recommender, contract::RecommendationBriefGenerated};

/// The list of all handlers.
pub fn handlers() -> Handlers {
    Handlers::new()
        .handle_with(Recommender::build)
        .emits::<RecommendationBriefGenerated>()
        .handle_with(Notifier::build)
        .handle_with(ImageProcessor::build)
        .emits::<ListingImageProcessed>()
        .handle_with(Historian::build)
        .emits::<VehicleHistoryFetched>()
        .handle_with(FraudScorer::build)
        .emits::<FraudReviewScored>()
}
