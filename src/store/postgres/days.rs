//! Identity Field: which partition of the inbox a key belongs to.

use crate::{message::KeyTime, store::Finished};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Partitions are made as far ahead as this, and never further on the word of an ID alone.
pub(super) const AHEAD: TimeDelta = TimeDelta::days(3);

/// The key time of everything in the undated partition. Nothing else has it: real times of that age are below the floor.
pub(super) const UNDATED: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// The span of time that has daily partitions, as last seen: where an ID is looked for must not depend on who looks.
#[derive(Debug)]
pub(super) struct Days {
    /// IDs older than this are undated. It only rises, and is kept in the database.
    floor: AtomicI64,
    /// The latest time that a caller has told.
    now: AtomicI64,
}

impl Days {
    pub(super) fn new() -> Self {
        Self { floor: AtomicI64::new(0), now: AtomicI64::new(0) }
    }

    pub(super) fn raise_floor(&self, floor: DateTime<Utc>) {
        self.floor.fetch_max(floor.timestamp_micros(), Relaxed);
    }

    pub(super) fn floor(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.floor.load(Relaxed)).unwrap_or(UNDATED)
    }

    /// Callers tell the time; this store has no clock.
    pub(super) fn told(&self, now: DateTime<Utc>) {
        self.now.fetch_max(now.timestamp_micros(), Relaxed);
    }

    /// Where the inbox row of `message` is written.
    pub(super) fn place(&self, message: &Finished) -> DateTime<Utc> {
        self.told(message.at);
        self.place_at(message.envelope.key_time(), message.at)
    }

    pub(super) fn place_at(&self, key: KeyTime, now: DateTime<Utc>) -> DateTime<Utc> {
        match key {
            KeyTime::At(time) if time >= self.floor() && time - now <= AHEAD => time,
            // Too far ahead is refused above; its row still needs a place, and must not make a partition of its own.
            KeyTime::At(_) | KeyTime::Undated => UNDATED,
        }
    }

    /// Where the row of an ID may be. Two places only for what is about as far ahead as partitions are made.
    pub(super) fn places(&self, key: KeyTime) -> (DateTime<Utc>, Option<DateTime<Utc>>) {
        match key {
            KeyTime::At(time) if time < self.floor() => (UNDATED, None),
            KeyTime::At(time)
                if time.timestamp_micros()
                    < self.now.load(Relaxed) + TimeDelta::days(2).num_microseconds().unwrap_or(0) =>
            {
                (time, None)
            }
            KeyTime::At(time) => (time, Some(UNDATED)),
            KeyTime::Undated => (UNDATED, None),
        }
    }
}

/// Midnight before `time`.
pub(super) fn day_of(time: DateTime<Utc>) -> DateTime<Utc> {
    time.date_naive().and_time(chrono::NaiveTime::MIN).and_utc()
}
