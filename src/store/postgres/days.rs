//! Identity Field: which partition of the inbox a key belongs to.

use crate::{message::KeyTime, store::Finished};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

type Time = DateTime<Utc>;

/// Partitions are made as far ahead as this, and never further on the word of an ID alone.
pub(super) const AHEAD: TimeDelta = TimeDelta::days(3);

/// The key time of everything in the undated partition. Nothing else has it: real times of that age are below the floor.
pub(super) const UNDATED: Time = DateTime::UNIX_EPOCH;

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

    pub(super) fn raise_floor(&self, floor: Time) {
        self.floor.fetch_max(floor.timestamp_micros(), Relaxed);
    }

    pub(super) fn floor(&self) -> Time {
        DateTime::from_timestamp_micros(self.floor.load(Relaxed)).unwrap_or(UNDATED)
    }

    /// Callers tell the time; this store has no clock.
    pub(super) fn told(&self, now: Time) {
        self.now.fetch_max(now.timestamp_micros(), Relaxed);
    }

    /// Where the inbox row of `message` is written.
    pub(super) fn place(&self, message: &Finished) -> Time {
        self.told(message.at);
        self.place_at(message.envelope.key_time(), message.at)
    }

    /// Where a row is written by a caller who does not tell the time.
    pub(super) fn place_now(&self, key: KeyTime) -> Time {
        self.place_at(key, DateTime::from_timestamp_micros(self.now.load(Relaxed)).unwrap_or(UNDATED))
    }

    fn place_at(&self, key: KeyTime, now: Time) -> Time {
        match key {
            KeyTime::At(time) if time >= self.floor() && time - now <= AHEAD => time,
            // Too far ahead is refused above; its row still needs a place, and must not make a partition of its own.
            KeyTime::At(_) | KeyTime::Undated => UNDATED,
        }
    }

    /// Where the row of an ID may be. There are two places only for what is about as far ahead as partitions are made.
    pub(super) fn places(&self, key: KeyTime) -> (Time, Option<Time>) {
        let near = self.now.load(Relaxed).saturating_add(AHEAD.num_microseconds().unwrap_or_default() / 2);
        match key {
            KeyTime::At(time) if time < self.floor() => (UNDATED, None),
            KeyTime::At(time) if time.timestamp_micros() < near => (time, None),
            KeyTime::At(time) => (time, Some(UNDATED)),
            KeyTime::Undated => (UNDATED, None),
        }
    }
}

/// The first time that no undated row has.
pub(super) fn after_undated() -> Time {
    UNDATED + TimeDelta::days(1)
}

/// Midnight before `time`.
pub(super) fn day_of(time: Time) -> Time {
    time.date_naive().and_time(chrono::NaiveTime::MIN).and_utc()
}
