//! How a subscription stands with its broker: whether it listens, and how late what it gets is.

use crate::{Envelope, clock};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// For those who watch. Written by one task, read by any.
#[derive(Debug)]
pub(crate) struct Reception {
    listening: AtomicU32,
    /// When the latest message that was received should have been, in microseconds since 1970: sent, or due.
    expected: AtomicI64,
}

/// While it lives, the subscription listens.
pub(crate) struct Listening<'a>(&'a Reception);

const NEVER: i64 = i64::MIN;

impl Default for Reception {
    fn default() -> Self {
        Self { listening: AtomicU32::new(0), expected: AtomicI64::new(NEVER) }
    }
}

impl Reception {
    pub(super) fn listens(&self) -> Listening<'_> {
        self.listening.fetch_add(1, Relaxed);
        Listening(self)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Relaxed) > 0
    }

    /// A retry says nothing about the queue: it is late on purpose.
    pub(super) fn sees(&self, envelope: &Envelope, received: DateTime<Utc>) {
        if envelope.hop.attempt > 1 {
            return;
        }
        if let Some(expected) = envelope.hop.due.or(envelope.time) {
            self.expected.store(expected.min(received).timestamp_micros(), Relaxed);
        }
    }

    /// How late the head of the queue is at least, if anything is in it: what came last was sent before what is next.
    pub(crate) fn lateness(&self, now: DateTime<Utc>) -> Option<Duration> {
        let expected = self.expected.load(Relaxed);
        let expected = (expected != NEVER).then(|| DateTime::from_timestamp_micros(expected)).flatten()?;
        Some(clock::between(expected, now.max(expected + TimeDelta::zero())))
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_does_not_make_a_queue_look_late() {
        let (reception, now) = (Reception::default(), clock::now());
        assert_eq!(reception.lateness(now), None);
        let mut envelope = Envelope::new("a.B", "/test", "{}");
        envelope.time = Some(now - TimeDelta::seconds(7));
        envelope.hop.attempt = 2;
        reception.sees(&envelope, now);
        assert_eq!(reception.lateness(now), None);
        envelope.hop.attempt = 1;
        reception.sees(&envelope, now);
        assert_eq!(reception.lateness(now).map(|late| late.as_secs()), Some(7));
    }
}
