//! Which events users are told of, and whom: one page for whoever adds one.

use super::contract::Recipient;
use crate::{
    fraud::contract::FraudReviewScored, history::contract::VehicleHistoryFetched,
    image::contract::ListingImageProcessed, recommendation::contract::RecommendationBriefGenerated,
};
use pitcrew::{Event, Message};

/// An event that a user is told of.
pub trait Told: Message<Kind = Event> {
    /// What is said if the config names no template.
    const TEMPLATE: &'static str;

    /// Whom: a name of the address book. How they are addressed there counts more than what is said here.
    fn recipient(&self) -> Recipient;

    /// What it is about.
    fn about(&self) -> String;
}

impl Told for RecommendationBriefGenerated {
    const TEMPLATE: &'static str = include_str!("templates/recommendation.txt");

    fn recipient(&self) -> Recipient {
        Recipient { id: self.buyer.id.clone(), name: self.buyer.name.clone() }
    }

    fn about(&self) -> String {
        self.brief_id.clone()
    }
}

impl Told for ListingImageProcessed {
    const TEMPLATE: &'static str = include_str!("templates/image.txt");

    fn recipient(&self) -> Recipient {
        follower(format!("listing/{}", self.listing_id))
    }

    fn about(&self) -> String {
        format!("{}/{}", self.listing_id, self.photo_id)
    }
}

impl Told for VehicleHistoryFetched {
    const TEMPLATE: &'static str = include_str!("templates/history.txt");

    fn recipient(&self) -> Recipient {
        follower(match &self.listing_id {
            Some(listing) => format!("listing/{listing}"),
            None => format!("vin/{}", self.vin),
        })
    }

    fn about(&self) -> String {
        self.vin.clone()
    }
}

impl Told for FraudReviewScored {
    const TEMPLATE: &'static str = include_str!("templates/fraud.txt");

    fn recipient(&self) -> Recipient {
        Recipient { id: self.seller.id.clone(), name: self.seller.name.clone() }
    }

    fn about(&self) -> String {
        self.listing_id.clone()
    }
}

/// Whoever follows something whose event names no person.
fn follower(id: String) -> Recipient {
    Recipient { id, name: "there".into() }
}
