//! Delayer: copies that were fetched and are not due. They wait here, a few of each retry topic, and not in the pipeline.
//!
//! The records of one retry topic have one delay and so come due nearly in their order; those that waited in the outbox first
//! come due earlier than their neighbours, which is why more than the head is held.

use crate::message::wire::Raw;
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Records of one partition.
const COUNT: usize = 256;
/// Their bytes.
const BYTES: usize = 1 << 20;
/// What an absurd crowd may hold, if it is due so soon that a pause is not worth it.
const CROWD: usize = 8;

/// Pausing a partition throws away what the client has read ahead; it takes up to a second until records come again.
const RESUME: Duration = Duration::from_secs(1);

/// The waiting records of one partition.
#[derive(Default)]
pub(super) struct Waiting {
    records: BTreeMap<(DateTime<Utc>, i64), Arc<Raw>>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, offset: i64, raw: Arc<Raw>) {
        // Without a readable time it is due: the pipeline says what is wrong with it.
        let due = due(&raw).unwrap_or(DateTime::<Utc>::MIN_UTC);
        self.bytes += raw.body.len();
        self.records.insert((due, offset), raw);
    }

    /// The next one that is due.
    pub(super) fn pop(&mut self, now: DateTime<Utc>) -> Option<(i64, Arc<Raw>)> {
        let first = self.records.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, offset), raw) = first.remove_entry();
        self.bytes -= raw.body.len();
        Some((offset, raw))
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.records.keys().next().map(|(due, _)| *due)
    }

    /// Enough is held, and none of it is due so soon that fetching on would be worth it.
    pub(super) fn is_enough(&self, now: DateTime<Utc>, paused: bool) -> bool {
        let (count, bytes) = if paused { (COUNT / 2, BYTES / 2) } else { (COUNT, BYTES) };
        if self.records.len() <= count && self.bytes <= bytes {
            return false;
        }
        let soon = self.next_due().is_some_and(|due| due <= now + RESUME);
        !soon || self.records.len() > CROWD * COUNT || self.bytes > CROWD * BYTES
    }
}

fn due(raw: &Raw) -> Option<DateTime<Utc>> {
    let (_, value) = raw.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("pitcrew-due"))?;
    let text = std::str::from_utf8(value.as_deref()?).ok()?;
    DateTime::parse_from_rfc3339(text).ok().map(|due| due.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn due_at(seconds: i64) -> Arc<Raw> {
        let value = Bytes::from(at(seconds).to_rfc3339());
        Arc::new(Raw { headers: vec![("pitcrew-due".into(), Some(value))], ..Raw::default() })
    }

    #[test]
    fn they_come_in_the_order_of_their_times_and_not_before() {
        let mut waiting = Waiting::default();
        waiting.push(1, due_at(10));
        waiting.push(2, due_at(5));
        waiting.push(3, Arc::new(Raw::default()));
        let offset = |popped: Option<(i64, Arc<Raw>)>| popped.map(|(offset, _)| offset);
        assert_eq!(offset(waiting.pop(at(0))), Some(3), "without a time it is due");
        assert_eq!(offset(waiting.pop(at(4))), None);
        assert_eq!(waiting.next_due(), Some(at(5)));
        assert_eq!(offset(waiting.pop(at(20))), Some(2));
        assert_eq!(offset(waiting.pop(at(20))), Some(1));
        assert_eq!((waiting.next_due(), waiting.bytes), (None, 0));
    }

    #[test]
    fn a_crowd_is_paused_only_when_the_wait_is_worth_it() {
        let mut waiting = Waiting::default();
        for offset in 0..=COUNT as i64 {
            waiting.push(offset, due_at(60));
        }
        assert!(waiting.is_enough(at(0), false));
        assert!(waiting.is_enough(at(0), true), "it stays paused");
        assert!(!waiting.is_enough(at(59), true), "and fetches again in time");
    }
}
