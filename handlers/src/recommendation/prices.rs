//! Reference Data Holder: what fuel costs, from the operator's config.

use super::catalogue::Grade;
use serde::Deserialize;

/// Prices per litre, per kg (natural gas) and per kWh (electricity). The defaults are round European figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FuelPrices {
    /// ISO 4217. A budget in another currency is refused, never converted.
    pub currency: String,
    /// Regular petrol, a litre.
    pub regular: f64,
    /// Midgrade petrol, a litre.
    pub midgrade: f64,
    /// Premium petrol, a litre.
    pub premium: f64,
    /// Diesel, a litre.
    pub diesel: f64,
    /// Compressed natural gas, a kg.
    pub natural_gas: f64,
    /// Electricity, a kWh.
    pub electricity: f64,
}
impl Default for FuelPrices {
    fn default() -> Self {
        Self {
            currency: "EUR".into(),
            regular: 1.70,
            midgrade: 1.78,
            premium: 1.86,
            diesel: 1.62,
            natural_gas: 1.30,
            electricity: 0.32,
        }
    }
}

/// A price table that nothing can be computed with.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PriceError {
    /// Zero, negative, endless or absurd.
    #[error("accept `prices.{grade}` = {price}: a price is more than 0 and at most 1,000,000")]
    Price {
        /// The key.
        grade: &'static str,
        /// Its value.
        price: f64,
    },
    /// Not three capital letters.
    #[error("accept `prices.currency` = `{0}`: write three capital letters, e.g. `EUR`")]
    Currency(String),
}

impl FuelPrices {
    /// Refuses what nothing can be computed with.
    pub fn check(&self) -> Result<(), PriceError> {
        let Self { currency, regular, midgrade, premium, diesel, natural_gas, electricity } = self;
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(PriceError::Currency(currency.clone()));
        }
        let all = [
            ("regular", regular),
            ("midgrade", midgrade),
            ("premium", premium),
            ("diesel", diesel),
            ("natural_gas", natural_gas),
            ("electricity", electricity),
        ];
        match all.into_iter().find(|(_, price)| !(**price > 0.0 && **price <= 1_000_000.0)) {
            Some((grade, price)) => Err(PriceError::Price { grade, price: *price }),
            None => Ok(()),
        }
    }

    /// The price of one unit of `grade`.
    pub fn of(&self, grade: Grade) -> f64 {
        match grade {
            Grade::Regular => self.regular,
            Grade::Midgrade => self.midgrade,
            Grade::Premium => self.premium,
            Grade::Diesel => self.diesel,
            Grade::NaturalGas => self.natural_gas,
            Grade::Electricity => self.electricity,
        }
    }
}
