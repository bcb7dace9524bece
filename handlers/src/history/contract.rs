//! Canonical Data Model: what the history worker is asked, what it keeps and what it tells.
//!
//! Readers are tolerant: a message with a field that this build does not know is read all the same.

use chrono::{DateTime, NaiveDate, Utc};
use pitcrew::{Command, Document, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// "What has happened to this car?"
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FetchVehicleHistory {
    /// The car, in any case of letters: the `subject`, and the ID under which its history is kept.
    pub vin: String,
    /// Whoever asks may name what it is for; it is told again in the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing_id: Option<String>,
}
impl Message for FetchVehicleHistory {
    type Kind = Command;
    const TYPE: &'static str = "car.FetchVehicleHistory";

    /// Commands for one car run one after another: the second finds what the first one kept.
    fn subject(&self) -> Option<String> {
        Some(self.vin.trim().to_ascii_uppercase())
    }
}

/// "This is what the provider knows."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VehicleHistoryFetched {
    /// The car: the `subject`.
    pub vin: String,
    /// From the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing_id: Option<String>,
    /// Whose answer it is.
    pub provider: String,
    /// Whether the provider knows the car at all. One without entries is a fact, too.
    pub known: bool,
    /// What the VIN itself says.
    pub decoded: Decoded,
    /// What happened, oldest first; without a date last.
    pub entries: Vec<Entry>,
    /// What a buyer should be warned of.
    pub flags: Vec<Flag>,
    /// When the provider was asked.
    pub asked_at: DateTime<Utc>,
}
impl Message for VehicleHistoryFetched {
    type Kind = Event;
    const TYPE: &'static str = "car.VehicleHistoryFetched";

    fn subject(&self) -> Option<String> {
        Some(self.vin.clone())
    }
}

/// The read model, and the cache: with the provider's `etag` the next question may be answered by "not modified".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VehicleHistory {
    /// The car.
    pub vin: String,
    /// Whose answer it is.
    pub provider: String,
    /// Whether the provider knows the car at all.
    pub known: bool,
    /// What the VIN itself says.
    pub decoded: Decoded,
    /// What happened, oldest first; without a date last.
    pub entries: Vec<Entry>,
    /// What a buyer should be warned of.
    pub flags: Vec<Flag>,
    /// Names this answer, in the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When the provider was asked last.
    pub asked_at: DateTime<Utc>,
    /// How often this history was written. Counted up on purpose, which no upsert can hide: a command whose effect happened
    /// twice shows here.
    pub writes: u32,
}
impl Document for VehicleHistory {
    const COLLECTION: &'static str = "vehicle_history";

    fn id(&self) -> impl Display {
        &self.vin
    }
}
impl VehicleHistory {
    /// This history in the place of `old`, with one write more.
    pub fn written_over(self, old: Option<Self>) -> Self {
        Self { writes: old.map_or(0, |old| old.writes).saturating_add(1), ..self }
    }

    /// What the world is told.
    pub fn told(&self, listing_id: Option<String>) -> VehicleHistoryFetched {
        VehicleHistoryFetched {
            vin: self.vin.clone(),
            listing_id,
            provider: self.provider.clone(),
            known: self.known,
            decoded: self.decoded.clone(),
            entries: self.entries.clone(),
            flags: self.flags.clone(),
            asked_at: self.asked_at,
        }
    }
}

/// What a VIN says. What it does not say, or what this build does not know, is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decoded {
    /// E.g. `Honda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<String>,
    /// Where the maker's code was given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The model year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_year: Option<u16>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// What kind of thing.
    pub kind: EntryKind,
    /// When. Absent: the provider gave no date, or none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<NaiveDate>,
    /// What the odometer showed then, in whole km.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odometer_km: Option<u32>,
    /// Where, in the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// In the provider's words, at most 200 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Ownership, registration, a brand on the title (salvage, lemon, …).
    Title,
    /// Somebody read the odometer.
    Odometer,
    /// Damage of any cause.
    Accident,
    /// Service, repair, inspection.
    Service,
    /// A recall by the maker.
    Recall,
    /// A kind that this build does not know.
    Other,
}

/// What a buyer should be warned of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "flag", rename_all = "snake_case")]
pub enum Flag {
    /// The odometer showed less than on an earlier day: tampered with, exchanged, or misread.
    OdometerRollback {
        /// The highest reading before.
        before_km: u32,
        /// Its day.
        before_on: NaiveDate,
        /// The lower reading.
        after_km: u32,
        /// Its day.
        after_on: NaiveDate,
    },
    /// An entry that is dated before the car can have been built.
    BeforeItsTime {
        /// That day.
        on: NaiveDate,
        /// What the VIN says.
        model_year: u16,
    },
    /// An entry that is dated in the future.
    InTheFuture {
        /// That day.
        on: NaiveDate,
    },
    /// The provider's entries did not come in the order of their dates; here they are sorted.
    OutOfOrder {
        /// How many stood before an entry that is older (or, in a list from new to old, younger).
        entries: u32,
    },
    /// Entries without a date that can be read.
    Undated {
        /// How many.
        entries: u32,
    },
    /// The title is branded: salvage, rebuilt, flood, lemon and the like.
    BrandedTitle {
        /// The provider's word.
        brand: String,
    },
}
