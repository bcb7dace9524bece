//! Control Bus: what waits in the tables and since when.

use super::state::State;
use crate::{message::KeyTime, store::*};
use std::collections::BTreeMap;

impl State {
    pub(super) fn gauges(&self, now: DateTime<Utc>) -> Gauges {
        let dated = self.inbox.keys().filter_map(|key| time(key.key_time()));
        let mut outbox: BTreeMap<(String, &str), OutboxGauge> = BTreeMap::new();
        for OutboxEntry { row, .. } in self.outbox.values() {
            let (destination, purpose) = (row.destination.to_string(), row.purpose.word());
            let gauge = outbox.entry((destination.clone(), purpose)).or_insert_with(|| OutboxGauge {
                destination,
                purpose: purpose.to_owned(),
                rows: 0,
                ready: 0,
                oldest: None,
            });
            gauge.rows += 1;
            if row.due.is_none_or(|due| due <= now) {
                gauge.ready += 1;
                let since = row.due.or_else(|| time(KeyTime::of(&row.seq.to_string())));
                gauge.oldest = gauge.oldest.into_iter().chain(since).min();
            }
        }
        let mut letters: BTreeMap<(&str, &str, &str), LetterGauge> = BTreeMap::new();
        let open = |letter: &&DeadLetter| matches!(letter.state, LetterState::Dead | LetterState::Quarantined);
        for letter in self.letters.values().filter(open) {
            let state = letter.state.word();
            let gauge = letters.entry((&letter.channel, &letter.ty, state)).or_insert_with(|| LetterGauge {
                channel: letter.channel.clone(),
                ty: letter.ty.clone(),
                state: state.to_owned(),
                count: 0,
                oldest: None,
            });
            gauge.count += 1;
            gauge.oldest = gauge.oldest.into_iter().chain([letter.first_at]).min();
        }
        Gauges {
            inbox: u64::try_from(self.inbox.len()).unwrap_or(u64::MAX),
            inbox_oldest: dated.min(),
            outbox: outbox.into_values().collect(),
            letters: letters.into_values().collect(),
        }
    }

    pub(super) fn retries(&self, now: DateTime<Utc>, limit: usize) -> Vec<Coming> {
        let mut coming: Vec<Coming> = self
            .attempts
            .iter()
            .filter_map(|(key, attempt)| {
                let at = attempt.next.filter(|at| *at > now)?;
                let consumer = key.consumer.to_string();
                Some(Coming {
                    id: key.id.clone(),
                    consumer,
                    attempt: attempt.attempt,
                    error: attempt.error.clone(),
                    at,
                })
            })
            .collect();
        coming.sort_by_key(|coming| coming.at);
        coming.truncate(limit);
        coming
    }
}

fn time(of: KeyTime) -> Option<DateTime<Utc>> {
    match of {
        KeyTime::At(time) => Some(time),
        KeyTime::Undated => None,
    }
}
