//! Message Expiration: how long the store remembers, and what was done about it.

use crate::store::Sink;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// How long things are kept, and where they go then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Inbox rows, by key time.
    pub inbox: Duration,
    /// Letters that are replayed or discarded, and attempts.
    pub letters: Duration,
    /// What operators did.
    pub audit: Duration,
    /// Takes inbox rows and what operators did before they are dropped; what it does not take is kept.
    pub sink: Option<Sink>,
}

impl Retention {
    /// At the start of a worker: with a sink nothing leaves yet, for a file may take longer than a start may.
    pub(crate) fn at_start(&self) -> Self {
        match self.sink {
            Some(_) => Self { inbox: Duration::MAX, letters: Duration::MAX, audit: Duration::MAX, sink: None },
            None => self.clone(),
        }
    }
}

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Before.
    pub from: u32,
    /// Now.
    pub to: u32,
}

/// What housekeeping did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Partitions made.
    pub made: Vec<String>,
    /// Partitions dropped.
    pub dropped: Vec<String>,
    /// Rows trimmed elsewhere.
    pub trimmed: u64,
    /// Files that the sink has now.
    pub exported: Vec<String>,
    /// What could not be exported and is kept, with the reason.
    pub kept: Vec<String>,
    /// The inbox is ready until this time; `None` where there are no partitions.
    pub ready_until: Option<DateTime<Utc>>,
}
