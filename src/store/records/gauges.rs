//! What waits in the store, for those who watch.

use super::WorkerRecord;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::time::Duration;

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

/// What a database is, before anybody uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its name and version: `Postgres 15.8`.
    pub server: String,
    /// The version of the schema; 0: there are no tables yet.
    pub schema: u32,
    /// The version that this build brings it to.
    pub wanted: u32,
    /// `None` where there is no server to connect to.
    pub connections: Option<Connections>,
}

/// Connections to a server of databases, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Of whoever gives the same name as this process: the workers of the service, and its commands.
    pub ours: u32,
    /// Of everybody.
    pub all: u32,
    /// More it does not take.
    pub most: u32,
}

/// A worker that began and has not signed off.
#[derive(Clone, Debug, PartialEq)]
pub struct Alive {
    /// What it said of itself.
    pub worker: WorkerRecord,
    /// When it began.
    pub started: DateTime<Utc>,
    /// So long ago it gave its last sign of life, by the store's clock.
    pub silent: Duration,
}
