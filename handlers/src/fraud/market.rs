//! Reference Data Holder: what a car may be worth, from its neighbours in the catalogue and the operator's price table.
//!
//! The catalogue says what kind of car a model is (class, engine); the table says what such a car costs when it is new, and what is
//! left of it after years and kilometres. That is an estimate, good enough to tell a bargain from a bait.

use super::contract::Listing;
use crate::recommendation::{
    catalogue::{Catalogue, Vehicle},
    contract::{Class, Fuel},
};
use chrono::Datelike as _;
use serde::Deserialize;
use std::collections::HashMap;

/// `[handlers."car.ScoreFraudReview".market]`: round European figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketConfig {
    /// ISO 4217. A price in another currency is not judged, never converted.
    pub currency: String,
    /// What a compact car with four cylinders costs when it is new; other classes are a multiple of it.
    pub new_price: f64,
    /// What is left of a price after each year.
    pub kept_per_year: f64,
    /// What is left of it after each 10,000 km beyond 15,000 a year.
    pub kept_per_10_000_km: f64,
}
impl Default for MarketConfig {
    fn default() -> Self {
        Self { currency: "EUR".into(), new_price: 26_000.0, kept_per_year: 0.86, kept_per_10_000_km: 0.97 }
    }
}

/// A price table that nothing can be computed with.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MarketError {
    /// Not three capital letters.
    #[error("accept `currency` = `{0}`: write three capital letters, e.g. `EUR`")]
    Currency(String),
    /// Zero, negative, endless or absurd.
    #[error("accept `{key}` = {value}: it is more than 0 and at most {most}")]
    Figure {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The bound.
        most: f64,
    },
}

/// What a car may be worth.
#[derive(Debug)]
pub struct Market {
    config: MarketConfig,
    /// By make and model, in lower case: the factor on a new compact car's price, by model year.
    models: HashMap<(String, String), Vec<(u16, f64)>>,
}

/// An estimate, and what it was made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// In the market's currency.
    pub price: f64,
    /// How many variants of the model were looked at.
    pub neighbours: usize,
}

/// Models of so many years around the claimed one are neighbours.
const NEAR: u16 = 2;
/// A car that runs is worth that much of its new price at least.
const FLOOR: f64 = 0.03;
/// The kilometres of an ordinary year.
const KM_A_YEAR: f64 = 15_000.0;

impl Market {
    /// Reads the catalogue once.
    ///
    /// # Errors
    /// Names the key that nothing can be computed with.
    pub fn new(catalogue: &Catalogue, config: MarketConfig) -> Result<Self, MarketError> {
        let currency = &config.currency;
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(MarketError::Currency(currency.clone()));
        }
        let figures = [
            ("new_price", config.new_price, 1e9),
            ("kept_per_year", config.kept_per_year, 1.0),
            ("kept_per_10_000_km", config.kept_per_10_000_km, 1.0),
        ];
        for (key, value, most) in figures {
            if !(value > 0.0 && value <= most) {
                return Err(MarketError::Figure { key, value, most });
            }
        }
        let mut models: HashMap<_, Vec<_>> = HashMap::new();
        for vehicle in catalogue.vehicles() {
            models.entry(key(&vehicle.make, &vehicle.model)).or_default().push((vehicle.year, factor(vehicle)));
        }
        Ok(Self { config, models })
    }

    /// The currency of its estimates.
    pub fn currency(&self) -> &str {
        &self.config.currency
    }

    /// What a car like this may be worth on the day when it was listed. `None`: the catalogue knows no such model.
    pub fn estimate(&self, listing: &Listing) -> Option<Estimate> {
        let variants = self.models.get(&key(&listing.make, &listing.model))?;
        // Newer than the catalogue: its nearest years are the neighbours.
        let nearest = variants.iter().map(|(year, _)| year.abs_diff(listing.year)).min()?;
        let near = variants.iter().filter(|(year, _)| year.abs_diff(listing.year) <= nearest.max(NEAR));
        let mut factors: Vec<f64> = near.map(|(_, factor)| *factor).collect();
        factors.sort_by(f64::total_cmp);
        let median = factors[factors.len() / 2];
        let age = (f64::from(listing.listed_at.year()) - f64::from(listing.year)).max(0.0);
        let beyond = f64::from(listing.odometer_km) - KM_A_YEAR * age.max(1.0);
        let kept = self.config.kept_per_year.powf(age)
            * self.config.kept_per_10_000_km.powf((beyond / 10_000.0).clamp(-10.0, 40.0));
        let price = self.config.new_price * median * kept.max(FLOOR);
        Some(Estimate { price, neighbours: factors.len() })
    }
}

fn key(make: &str, model: &str) -> (String, String) {
    (make.trim().to_lowercase(), model.trim().to_lowercase())
}

/// How much more than a compact car of four cylinders such a car costs when it is new.
fn factor(vehicle: &Vehicle) -> f64 {
    let class = match vehicle.class {
        Class::Minicompact => 0.9,
        Class::Subcompact => 0.85,
        Class::Compact => 1.0,
        Class::Midsize => 1.25,
        Class::Large => 1.6,
        Class::TwoSeater => 1.8,
        Class::StationWagon => 1.15,
        Class::Suv => 1.4,
        Class::Pickup => 1.3,
        Class::Minivan => 1.3,
        Class::Van => 1.3,
        Class::SpecialPurpose => 1.3,
    };
    let engine = match (vehicle.fuel, vehicle.engine) {
        (Fuel::Electric, _) => 1.3,
        (_, Some(engine)) => 1.0 + 0.15 * (f64::from(engine.cylinders.clamp(3, 12)) - 4.0),
        (_, None) => 1.0,
    };
    class * engine
}
