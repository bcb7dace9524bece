//! Message Replay: a stretch of a log that is read again, and how far that is.

use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record that is not older. A log is not sorted by time, so each record is asked for its own.
    Time(DateTime<Utc>),
    /// The same offset in every partition.
    Offset(i64),
}

/// Which records of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first of them.
    pub from: Place,
    /// Where they end, without it. `None`: with what the log holds when it is asked.
    pub to: Option<Place>,
    /// Of this partition only.
    pub partition: Option<i32>,
    /// Go on here, where an earlier reading ended, in these partitions and no others. Empty: at `from`.
    pub resume: BTreeMap<i32, i64>,
    /// Of these types only; empty: of all.
    pub types: Vec<String>,
    /// Nothing is to be handled: what is dropped does not come again.
    pub only_look: bool,
}

/// How far the reading of one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Where it began.
    pub from: i64,
    /// All below are finished or passed over: here a later reading goes on.
    pub next: i64,
    /// Where it ends, without it.
    pub to: i64,
    /// So many records were handed out and are finished.
    pub read: u64,
    /// So many were passed over for their time.
    pub other_time: u64,
    /// So many were passed over for their type.
    pub other_type: u64,
}

/// How far a reading is, by partition. Written by the transport, read by whoever wants to tell.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<i32, Passage>>);

impl Progress {
    /// As it is now.
    pub fn passages(&self) -> BTreeMap<i32, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One partition is so far. What an earlier reading of this process counted stays counted.
    pub fn note(&self, partition: i32, passage: Passage) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, passage);
    }
}
