//! Canonical Data Model: what the recommendation worker is asked, what it keeps and what it tells.
//!
//! Readers are tolerant: a message with a field that this build does not know is read all the same.

use pitcrew::{Command, Document, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// "Which cars should this buyer look at?" Everything but the buyer and the distance may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GenerateRecommendationBrief {
    /// Names the brief: the `subject`, and the ID under which the brief is kept.
    pub brief_id: String,
    /// Who asks.
    pub buyer: Buyer,
    /// How far the buyer drives in a year, in km.
    pub yearly_km: u32,
    /// What a year's fuel may cost at most. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly_fuel_budget: Option<Money>,
    /// Only these classes. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// Only these drives. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<Drive>,
    /// Only these fuels. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fuels: Vec<Fuel>,
    /// Only model years in this range.
    #[serde(default)]
    pub years: Years,
    /// Only these makes, in any case of letters. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub makes: Vec<String>,
    /// None of these makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid_makes: Vec<String>,
    /// What matters how much. Absent: economy most, the rest a little.
    #[serde(default)]
    pub weights: Weights,
    /// How many cars the brief names, 1–20.
    #[serde(default = "three")]
    pub top: u8,
}
impl Message for GenerateRecommendationBrief {
    type Kind = Command;
    const TYPE: &'static str = "car.GenerateRecommendationBrief";

    fn subject(&self) -> Option<String> {
        Some(self.brief_id.clone())
    }
}

/// "The brief is there."
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecommendationBriefGenerated {
    /// The brief's ID: the `subject`.
    pub brief_id: String,
    /// Who asked.
    pub buyer: Buyer,
    /// The brief in one sentence.
    pub headline: String,
    /// The first pick, if any car fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Pick>,
}
impl Message for RecommendationBriefGenerated {
    type Kind = Event;
    const TYPE: &'static str = "car.RecommendationBriefGenerated";

    fn subject(&self) -> Option<String> {
        Some(self.brief_id.clone())
    }
}
impl RecommendationBriefGenerated {
    /// What the world is told about `brief`.
    pub fn of(brief: &Brief) -> Self {
        Self {
            brief_id: brief.id.clone(),
            buyer: brief.buyer.clone(),
            headline: brief.headline.clone(),
            best: brief.picks.first().cloned(),
        }
    }
}

/// The read model: what the buyer is shown. The same command always gives the same brief, save for `writes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// The command's `brief_id`.
    pub id: String,
    /// Who asked.
    pub buyer: Buyer,
    /// The brief in one sentence.
    pub headline: String,
    /// The best cars, best first, one a model. Empty if none fits.
    pub picks: Vec<Pick>,
    /// How many model variants were looked at.
    pub considered: u32,
    /// How many of them met every constraint.
    pub fitting: u32,
    /// What each constraint excluded, the strictest first.
    pub excluded: Vec<Excluded>,
    /// What the buyer should know about the question itself.
    pub notes: Vec<String>,
    /// How often this brief was written. It is counted up on purpose, which no upsert can hide: a command whose effect
    /// happened twice shows here.
    pub writes: u32,
}
impl Document for Brief {
    const COLLECTION: &'static str = "brief";

    fn id(&self) -> impl Display {
        &self.id
    }
}
impl Brief {
    /// This brief in the place of `old`, with one write more.
    pub fn written_over(self, old: Option<Self>) -> Self {
        Self { writes: old.map_or(0, |old| old.writes).saturating_add(1), ..self }
    }
}

/// One recommended car.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pick {
    /// The catalogue's number of this variant.
    pub vehicle: u32,
    /// E.g. `Toyota`.
    pub make: String,
    /// E.g. `Prius`.
    pub model: String,
    /// The model year.
    pub year: u16,
    /// The body.
    pub class: Class,
    /// As the catalogue words it.
    pub transmission: String,
    /// The driven wheels.
    pub drive: Drive,
    /// What it runs on.
    pub fuel: Fuel,
    /// What a year's fuel costs this buyer.
    pub yearly_fuel_cost: Money,
    /// 0 to 1, three digits.
    pub score: f64,
    /// Why this car, in words.
    pub reasons: Vec<String>,
}

/// What one constraint kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Excluded {
    /// Which one.
    pub by: Constraint,
    /// How many variants do not meet it.
    pub vehicles: u32,
    /// How many of these meet every other constraint: what the buyer would gain by giving up this one.
    pub alone: u32,
}

/// Who is advised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Buyer {
    /// The platform's ID of the buyer.
    pub id: String,
    /// How the buyer is addressed.
    pub name: String,
}

/// An amount in whole units: fuel costs are estimates, so cents would claim too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// Whole units of the currency.
    pub amount: u64,
    /// ISO 4217, e.g. `EUR`.
    pub currency: String,
}

/// Model years, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Years {
    /// The oldest. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u16>,
    /// The newest. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
}

/// What matters how much: each 0–100, at least one above 0; only their proportions count. One that is left out is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weights {
    /// Cheap to run.
    #[serde(default)]
    pub economy: f64,
    /// A late model year.
    #[serde(default)]
    pub recency: f64,
    /// Room for people and luggage.
    #[serde(default)]
    pub room: f64,
    /// A strong engine.
    #[serde(default)]
    pub performance: f64,
}
impl Default for Weights {
    fn default() -> Self {
        Self { economy: 3.0, recency: 1.0, room: 1.0, performance: 1.0 }
    }
}

fn three() -> u8 {
    3
}

/// A closed list of words: the JSON name beside the words for people. One table, so that they cannot part.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$item])* $variant),+ }
        impl $name {
            /// All of them, in the order of this page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// In words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

words! {
    /// What kind of body, after the classes of the US Environmental Protection Agency.
    Class {
        /// Two seats.
        TwoSeater "two-seater",
        /// Less than 85 cubic feet of room.
        Minicompact "minicompact car",
        /// 85 to 99 cubic feet.
        Subcompact "subcompact car",
        /// 100 to 109 cubic feet.
        Compact "compact car",
        /// 110 to 119 cubic feet.
        Midsize "midsize car",
        /// 120 cubic feet and more.
        Large "large car",
        /// Small and midsize.
        StationWagon "station wagon",
        /// Small and standard.
        Suv "SUV",
        /// Small and standard.
        Pickup "pickup",
        /// Six or more seats, sliding doors.
        Minivan "minivan",
        /// For passengers or cargo.
        Van "van",
        /// Taxis, small delivery vans and the like.
        SpecialPurpose "special purpose vehicle",
    }
}
words! {
    /// The driven wheels.
    Drive {
        /// Front wheels.
        Front "front-wheel drive",
        /// Rear wheels.
        Rear "rear-wheel drive",
        /// All four, always or when needed.
        All "all-wheel drive",
    }
}
words! {
    /// What it runs on.
    Fuel {
        /// Petrol of any grade. Who wants it is also shown flex-fuel cars, which run on it.
        Gasoline "petrol",
        /// Petrol or ethanol (E85).
        FlexFuel "petrol or E85",
        /// Diesel.
        Diesel "diesel",
        /// Compressed natural gas.
        NaturalGas "natural gas",
        /// Petrol, and a battery to charge.
        PlugInHybrid "petrol and electricity",
        /// Electricity alone.
        Electric "electricity",
    }
}
words! {
    /// What can keep a car out of a brief, in the order in which equals are told.
    Constraint {
        /// `yearly_fuel_budget`.
        FuelBudget "the fuel budget",
        /// `classes`.
        Classes "the classes",
        /// `drives`.
        Drives "the drive",
        /// `fuels`.
        Fuels "the fuel",
        /// `years`.
        Years "the model years",
        /// `makes`.
        Makes "the makes to include",
        /// `avoid_makes`.
        AvoidMakes "the makes to avoid",
    }
}
