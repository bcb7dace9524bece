//! The one source of time. Nothing else in `src/` reads a clock (a test holds that).
//!
//! Wall time is for people and for keys, never for correctness: what must not depend on it (fences, order) does not.

use chrono::{DateTime, Utc};
use std::{
    cell::RefCell,
    sync::Mutex,
    time::{Duration, SystemTime},
};
pub use tokio::time::Instant;
use uuid::{ContextV7, Timestamp, Uuid};

thread_local! {
    /// Set by a test with paused time: wall time then follows tokio's clock. A thread's own, because paused time needs the
    /// single-threaded runtime anyway.
    static VIRTUAL: RefCell<Option<(DateTime<Utc>, Instant)>> = const { RefCell::new(None) };
    /// As [`ORDER`], for IDs made in virtual time: one test's future must not become the present of the others.
    static VIRTUAL_ORDER: ContextV7 = const { ContextV7::new() };
}

/// Keeps IDs of this process rising within a millisecond and when the wall clock steps back.
static ORDER: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// The wall clock, cut to microseconds, which is what Postgres keeps.
pub fn now() -> DateTime<Utc> {
    i64::try_from(since_1970().as_micros()).ok().and_then(DateTime::from_timestamp_micros).unwrap_or_default()
}

fn since_1970() -> Duration {
    match VIRTUAL.with_borrow(|v| *v) {
        Some((base, start)) => between(DateTime::UNIX_EPOCH, base + start.elapsed()),
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
    }
}

/// Cut to microseconds: two databases and a broker must agree on what a time is.
pub fn to_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// The monotonic clock (tokio's, so that tests can pause it).
pub fn instant() -> Instant {
    Instant::now()
}

/// A UUIDv7 of now. Later calls of this process give greater IDs.
pub fn uuid_v7() -> Uuid {
    if VIRTUAL.with_borrow(Option::is_some) {
        return VIRTUAL_ORDER.with(|order| Uuid::new_v7(timestamp(order, since_1970())));
    }
    let order = ORDER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Uuid::new_v7(timestamp(&*order, since_1970()))
}

/// A UUIDv7 whose time is `at`: the ID of a message that is due later. Outside the order of [`uuid_v7`], which must not
/// follow it into the future.
pub fn uuid_v7_at(at: DateTime<Utc>) -> Uuid {
    Uuid::new_v7(timestamp(uuid::NoContext, between(DateTime::UNIX_EPOCH, at)))
}

fn timestamp(order: impl uuid::ClockSequence<Output = impl Into<u128>>, since_1970: Duration) -> Timestamp {
    Timestamp::from_unix(order, since_1970.as_secs(), since_1970.subsec_nanos())
}

/// Until it is dropped, wall time on this thread starts at `base` and runs with tokio's (paused) clock.
#[derive(Debug)]
pub struct VirtualTime {
    before: Option<(DateTime<Utc>, Instant)>,
}

impl VirtualTime {
    /// Call it inside a runtime with paused time.
    pub fn start(base: DateTime<Utc>) -> Self {
        Self { before: VIRTUAL.replace(Some((base, Instant::now()))) }
    }

    /// From now on, or from when it began if it runs already.
    pub(crate) fn start_or_go_on() -> Self {
        Self::start(now())
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        VIRTUAL.set(self.before);
    }
}

/// `later - earlier` as a [`Duration`], zero if it is negative.
pub fn between(earlier: DateTime<Utc>, later: DateTime<Utc>) -> Duration {
    (later - earlier).to_std().unwrap_or_default()
}
