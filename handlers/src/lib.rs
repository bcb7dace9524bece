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
pub mod secret;

use fraud::{FraudScorer, contract::FraudReviewScored};
use history::{Historian, contract::VehicleHistoryFetched};
use image::{ImageProcessor, contract::ListingImageProcessed};
use notification::{
    Caller, Mailer, Notifier,
    address_book::AddressBook,
    contract::{CallWebhook, SendMail},
};
use pitcrew::Handlers;
use recommendation::{Recommender, contract::RecommendationBriefGenerated};

/// The list of all handlers.
pub fn handlers() -> Handlers {
    beside(Handlers::new().handle_with(Recommender::build))
}

/// All the others beside a recommender.
fn beside(recommender: Handlers) -> Handlers {
    recommender
        .emits::<RecommendationBriefGenerated>()
        .handle_with(ImageProcessor::build)
        .emits::<ListingImageProcessed>()
        .handle_with(Historian::build)
        .emits::<VehicleHistoryFetched>()
        .handle_with(FraudScorer::build)
        .emits::<FraudReviewScored>()
        .handle(AddressBook)
        .handle_with(Notifier::<RecommendationBriefGenerated>::build)
        .handle_with(Notifier::<ListingImageProcessed>::build)
        .handle_with(Notifier::<VehicleHistoryFetched>::build)
        .handle_with(Notifier::<FraudReviewScored>::build)
        .emits::<SendMail>()
        .emits::<CallWebhook>()
        .handle_with(Mailer::build)
        .external("smtp")
        .in_doubt_is_dead()
        .handle_with(Caller::build)
        .external("webhook")
}
