//! Service Activator: `car.GenerateRecommendationBrief` becomes a brief in the read model, and an event that says so.
//!
//! The parts, in reading order: `contract.rs` (what travels and what is kept), `catalogue.rs` and `prices.rs` (what is known),
//! `ranking.rs` (the logic: pure, and tested without a runtime). This page only ties them to the runtime.

pub mod catalogue;
pub mod contract;
pub mod prices;
pub mod ranking;

use anyhow::Context as _;
use catalogue::Catalogue;
use contract::{Brief, GenerateRecommendationBrief, RecommendationBriefGenerated};
use pitcrew::{Context, Handler, OrElse, Setup};
use prices::FuelPrices;
use ranking::Ranking;
use serde::Deserialize;
use std::path::PathBuf;

/// Answers `car.GenerateRecommendationBrief`.
#[derive(Debug)]
pub struct Recommender {
    ranking: Ranking,
}

/// `[handlers."car.GenerateRecommendationBrief"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// A CSV file instead of the catalogue in the binary.
    catalogue: Option<PathBuf>,
    /// What fuel costs.
    prices: FuelPrices,
}

impl Recommender {
    /// Reads the catalogue and the prices: once, at start, so that a wrong file is no surprise of the first message.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let config: Config = setup.config()?;
        let catalogue = match &config.catalogue {
            Some(path) => {
                Catalogue::open(path).with_context(|| format!("failed to use the catalogue `{}`", path.display()))?
            }
            None => Catalogue::embedded().context("failed to use the catalogue in the binary")?,
        };
        Ok(Self { ranking: Ranking::new(catalogue, &config.prices).context("failed to use the fuel prices")? })
    }
}

impl Handler<GenerateRecommendationBrief> for Recommender {
    async fn handle(&self, command: GenerateRecommendationBrief, cx: &mut Context) -> pitcrew::Result {
        // What is wrong with a command today is wrong with it tomorrow: no retry.
        let brief = self.ranking.brief(&command).permanent()?;
        cx.emit(&RecommendationBriefGenerated::of(&brief))?;
        // Not an upsert on purpose: see `Brief::writes`.
        cx.update(&command.brief_id, |old: Option<Brief>| brief.written_over(old)).await?;
        Ok(())
    }
}
