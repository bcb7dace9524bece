//! Lag: what waits to be handled, where, and for how long. One reckoning for metrics and for operators.

use crate::{
    clock,
    store::{Destination, Gauges, Purpose},
    telemetry::metrics::OTHER,
    transport::Depth,
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, time::Duration};

/// By the subscription or channel and by where it waits (`queue`, `retry`, `outbox`); one entry for each, whoever told of it.
#[derive(Debug, Default)]
pub(crate) struct Lags(BTreeMap<(String, &'static str), Lag>);

/// What waits in one place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lag {
    pub(crate) messages: u64,
    /// How long the first of them has waited; `None`: nobody tells.
    pub(crate) seconds: Option<f64>,
}

impl Lags {
    fn add(&mut self, name: &str, place: &'static str, messages: u64, seconds: Option<f64>) {
        let lag = self.0.entry((name.to_owned(), place)).or_default();
        lag.messages += messages;
        lag.seconds = lag.seconds.into_iter().chain(seconds).reduce(f64::max);
    }

    /// What waits in the tables for these subscriptions and channels. `keeps_rows`: of a transport whose messages are rows, so that
    /// a row that could leave is one that waits in the queue.
    pub(crate) fn of_store(&mut self, keeps_rows: bool, names: &[&str], gauges: &Gauges, now: DateTime<Utc>) {
        let place = if keeps_rows { "queue" } else { "outbox" };
        for name in names {
            self.add(name, place, 0, Some(0.0));
            self.add(name, "retry", 0, Some(0.0));
        }
        for row in &gauges.outbox {
            let name = match row.destination.parse::<Destination>() {
                Ok(Destination::Channel(name) | Destination::Subscription(name)) => name,
                _ => continue, // the copy of a letter waits for nobody
            };
            let name = names.iter().copied().find(|known| *known == &*name).unwrap_or(OTHER);
            let retry = row.purpose == Purpose::Retry.word();
            self.add(name, if retry { "retry" } else { place }, row.rows, Some(age(row.oldest, now)));
        }
    }

    /// What waits in the broker. `late`: how late that was which came from it last.
    pub(crate) fn of_broker(&mut self, name: &str, depth: &Depth, late: Option<Duration>, now: DateTime<Utc>) {
        if let Some(ready) = depth.ready {
            // A log tells; of a queue one knows only how late that was which came from it last, if there is more.
            let seconds = match (ready, depth.oldest) {
                (0, _) => Some(0.0),
                (_, Some(oldest)) => Some(age(Some(oldest), now)),
                (_, None) => late.map(|late| late.as_secs_f64()),
            };
            self.add(name, "queue", ready, seconds);
        }
        if let Some(delayed) = depth.delayed {
            self.add(name, "retry", delayed, None);
        }
    }

    /// Name, place and what waits there, by name and place.
    pub(crate) fn all(self) -> impl Iterator<Item = (String, &'static str, Lag)> {
        self.0.into_iter().map(|((name, place), lag)| (name, place, lag))
    }
}

/// In seconds; 0 of what never began.
pub(super) fn age(since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> f64 {
    since.map(|since| clock::between(since, now).as_secs_f64()).unwrap_or_default()
}
