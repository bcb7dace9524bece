//! What waits in the store, for those who watch.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What waits in the tables, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Messages that the inbox remembers; an estimate, where counting would read it all.
    pub inbox: u64,
    /// The oldest of them is from about then.
    pub inbox_oldest: Option<DateTime<Utc>>,
    /// By destination and purpose.
    pub outbox: Vec<OutboxGauge>,
    /// Dead and quarantined, by channel, type and state.
    pub letters: Vec<LetterGauge>,
}

/// Rows of the outbox with one destination and purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxGauge {
    /// Where to, as text.
    pub destination: String,
    /// [`Purpose::word`](super::Purpose::word).
    pub purpose: String,
    /// All of them.
    pub rows: u64,
    /// Those that could leave now.
    pub ready: u64,
    /// Since when the first of these could.
    pub oldest: Option<DateTime<Utc>>,
}

/// Letters of one channel, type and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterGauge {
    /// Channel.
    pub channel: String,
    /// Type, or empty.
    pub ty: String,
    /// [`LetterState::word`](super::LetterState::word).
    pub state: String,
    /// How many.
    pub count: u64,
    /// When the first of them died.
    pub oldest: Option<DateTime<Utc>>,
}

/// A message that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coming {
    /// Its ID.
    pub id: String,
    /// The handler's name.
    pub consumer: String,
    /// The attempt that failed.
    pub attempt: u32,
    /// How it failed.
    pub error: String,
    /// When the next one is due.
    pub at: DateTime<Utc>,
}
