//! Control Bus: gauges of what is outside the process, gathered at an interval. A scrape only shows them.

use super::{Lags, View, lag::age, view::Gathered};
use crate::{
    clock,
    store::{Gauges, Purpose},
    telemetry::metrics::{From, Gauge, Reading, reading},
    transport::Depth,
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// So often, unless gathering takes long: then it rests for nineteen times as long as it took, and never costs more than a
/// twentieth of a connection.
const EVERY: Duration = Duration::from_secs(5);
const REST: u32 = 19;
/// What has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gathers until `stop`.
pub(super) async fn run(view: Arc<View>, stop: CancellationToken) {
    let gathering = async {
        loop {
            let began = clock::instant();
            once(&view).await;
            tokio::time::sleep(EVERY.max(began.elapsed() * REST)).await;
        }
    };
    tokio::select! { biased; () = stop.cancelled() => {} () = gathering => {} }
}

pub(super) async fn once(view: &View) {
    let now = clock::now();
    let store = match tokio::time::timeout(PATIENCE, view.store.gauges(now)).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_elapsed) => Err(format!("it has not answered within {} s", PATIENCE.as_secs())),
    };
    let depths = view.subscriptions.iter().map(|watched| async {
        match tokio::time::timeout(PATIENCE, view.transport.depth(&watched.name)).await {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(_elapsed) => Err(format!("the broker has not answered within {} s", PATIENCE.as_secs())),
        }
    });
    let depths = futures::future::join_all(depths).await;
    for (from, error) in
        [(From::Store, store.as_ref().err()), (From::Broker, depths.iter().find_map(|depth| depth.as_ref().err()))]
    {
        if let Some(error) = error {
            debug!(?from, error, "gauges could not be gathered");
            view.metrics.not_gathered(from);
        }
    }
    let (mut readings, mut lags) = (Vec::new(), Lags::default());
    // What is known of the one is shown without the other.
    if let Ok(gauges) = &store {
        of_store(view, gauges, now, &mut readings);
        let names = view.subscriptions.iter().flat_map(|watched| [&*watched.name, &*watched.channel]);
        lags.of_store(view.transport.promises().keeps_rows, &names.collect::<Vec<_>>(), gauges, now);
    }
    for (watched, depth) in view.subscriptions.iter().zip(&depths) {
        if let Ok(depth) = depth {
            of_broker(&watched.name, depth, &mut readings);
            if !view.transport.promises().keeps_rows {
                lags.of_broker(&watched.name, depth, watched.reception.lateness(now), now);
            }
        }
    }
    readings.extend(of_lags(lags));
    view.metrics.gathered(readings);
    view.gathered(Gathered { at: Some(clock::instant()), store: Some(store), depths });
}

fn of_lags(lags: Lags) -> impl Iterator<Item = Reading> {
    lags.all().flat_map(|(name, place, lag)| {
        let labels = [("subscription", &*name), ("place", place)];
        let seconds = lag.seconds.map(|seconds| reading(Gauge::LagSeconds, seconds, &labels));
        [reading(Gauge::LagMessages, lag.messages as f64, &labels)].into_iter().chain(seconds)
    })
}

fn of_store(view: &View, gauges: &Gauges, now: DateTime<Utc>, to: &mut Vec<Reading>) {
    to.push(reading(Gauge::InboxMessages, gauges.inbox as f64, &[]));
    to.push(reading(Gauge::InboxAge, age(gauges.inbox_oldest, now), &[]));
    // Purposes that have no row are shown as 0, so that what falls to nothing is seen to.
    let mut purposes: BTreeMap<&str, (u64, f64)> =
        [Purpose::Message, Purpose::Retry, Purpose::Replay, Purpose::Reply, Purpose::Dead]
            .map(|purpose| (purpose.word(), (0, 0.0)))
            .into();
    for row in &gauges.outbox {
        if let Some(sum) = purposes.get_mut(row.purpose.as_str()) {
            *sum = (sum.0 + row.rows, sum.1.max(age(row.oldest, now)));
        }
    }
    for (purpose, (rows, late)) in purposes {
        to.push(reading(Gauge::OutboxMessages, rows as f64, &[("purpose", purpose)]));
        to.push(reading(Gauge::OutboxAge, late, &[("purpose", purpose)]));
    }
    let mut letters = BTreeMap::<_, (u64, f64)>::new();
    for row in &gauges.letters {
        let (channel, ty) = view.metrics.label(&row.channel, &row.ty);
        let sum = letters.entry((channel, ty, row.state.as_str())).or_default();
        *sum = (sum.0 + row.count, sum.1.max(age(row.oldest, now)));
    }
    for ((channel, ty, state), (count, oldest)) in letters {
        let labels = [("channel", &*channel), ("type", &*ty), ("state", state)];
        to.push(reading(Gauge::DeadLetters, count as f64, &labels));
        to.push(reading(Gauge::DeadLettersAge, oldest, &labels));
    }
}

fn of_broker(subscription: &str, depth: &Depth, to: &mut Vec<Reading>) {
    let states = [
        ("ready", depth.ready),
        ("unacked", depth.unacked),
        ("delayed", depth.delayed),
        ("dead", depth.dead),
        ("stuck", depth.stuck),
    ];
    for (state, count) in states {
        if let Some(count) = count {
            to.push(reading(Gauge::QueueDepth, count as f64, &[("subscription", subscription), ("state", state)]));
        }
    }
    if let Some(consumers) = depth.consumers {
        to.push(reading(Gauge::QueueConsumers, consumers as f64, &[("subscription", subscription)]));
    }
}

#[cfg(test)]
mod tests {
    use crate::{store::Reason, telemetry::metrics::REASONS};

    #[test]
    fn metrics_know_every_reason() {
        assert_eq!(REASONS, Reason::ALL.map(Reason::word));
    }
}
