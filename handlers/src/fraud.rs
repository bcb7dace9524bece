//! Service Activator: `car.ScoreFraudReview` becomes an explained score in the read model, and an event that says so.
//!
//! The parts, in reading order: `contract.rs` (what travels and what is kept), `sightings.rs` (which photo was seen in which
//! listing), `market.rs` (what a car may be worth), `wording.rs` (what a text gives away), `signals.rs` (what is looked at: pure),
//! `scoring.rs` (from signals to an outcome: pure). This page only ties them to the runtime.

pub mod contract;
pub mod market;
pub mod scoring;
pub mod sightings;
pub mod signals;
pub mod wording;

use crate::{history::contract::VehicleHistory, recommendation::catalogue::Catalogue};
use anyhow::Context as _;
use contract::{FraudReview, FraudReviewScored, ScoreFraudReview};
use market::{Market, MarketConfig};
use pitcrew::{Context, Handler, OrElse, Setup};
use scoring::{Scoring, ScoringConfig};
use serde::Deserialize;
use sightings::{Sighting, Sightings};
use signals::Evidence;

/// Answers `car.ScoreFraudReview`.
#[derive(Debug)]
pub struct FraudScorer {
    market: Market,
    scoring: Scoring,
}

/// `[handlers."car.ScoreFraudReview"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// What cars cost.
    market: MarketConfig,
    /// What counts how much, and from which score on somebody looks.
    scoring: ScoringConfig,
}

impl FraudScorer {
    /// Reads the catalogue, the market and the weights: once, at start.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let config: Config = setup.config()?;
        let catalogue = Catalogue::embedded().context("failed to use the catalogue in the binary")?;
        Ok(Self {
            market: Market::new(&catalogue, config.market).context("failed to use `market`")?,
            scoring: Scoring::new(config.scoring).context("failed to use `scoring`")?,
        })
    }
}

impl Handler<ScoreFraudReview> for FraudScorer {
    async fn handle(&self, command: ScoreFraudReview, cx: &mut Context) -> pitcrew::Result {
        // What is wrong with a command today is wrong with it tomorrow: no retry.
        command.check().permanent()?;
        let listing = &command.listing;
        let history = match &listing.vin {
            Some(vin) => cx.load::<VehicleHistory>(vin.trim().to_ascii_uppercase()).await?,
            None => None,
        };
        let mut elsewhere = Vec::new();
        for photo in &listing.photos {
            let mine = Sighting::of(photo, listing);
            for shelf in mine.shelves() {
                if let Some(known) = cx.load::<Sightings>(&shelf).await? {
                    elsewhere.extend(known.like(&mine).cloned());
                }
                // Guarded: two listings with the same photo at the same time must not miss each other.
                let seen = mine.clone();
                cx.update(&shelf, |old: Option<Sightings>| Sightings::with(old, &shelf, seen)).await?;
            }
        }
        let evidence = Evidence { history, elsewhere };
        let review = self.scoring.review(&command, signals::look(&command, &evidence, &self.market));
        cx.emit(&FraudReviewScored::of(&review))?;
        // Not an upsert on purpose: see `FraudReview::writes`.
        cx.update(&command.review_id, |old: Option<FraudReview>| review.written_over(old)).await?;
        Ok(())
    }
}
