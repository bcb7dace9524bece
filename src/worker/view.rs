//! Control Bus, the reading side: how a worker stands, for metrics, health and the page.
//!
//! It holds nothing that keeps the worker from ending.

use crate::{
    clock::{self, Instant},
    committer::Absence,
    pipeline::{Gate, InFlight, Pipeline, Reception},
    relay::Relay,
    route::Router,
    store::{Gauges, Store},
    telemetry::metrics::{Beats, Gauge, Metrics, Reading, reading},
    transport::{Depth, Transport},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What can be seen of a worker at work.
pub(crate) struct View {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) subscriptions: Vec<Watched>,
    pub(crate) doors: Vec<(Arc<str>, Arc<Gate>)>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) worker: Uuid,
    pub(crate) relay: Relay,
    pub(crate) router: Arc<Router>,
    pub(super) beats: Arc<Beats>,
    pub(super) absence: Arc<Absence>,
    pub(super) stop: CancellationToken,
    pub(super) latest: RwLock<Arc<Gathered>>,
}

/// A subscription, seen from outside.
pub(crate) struct Watched {
    pub(crate) name: Arc<str>,
    pub(crate) channel: Arc<str>,
    pub(super) room: Arc<InFlight>,
    pub(super) reception: Arc<Reception>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) concurrency: usize,
}

/// What was last gathered from outside the process.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) at: Option<Instant>,
    /// `None`: it did not answer, and why.
    pub(crate) store: Option<Result<Gauges, String>>,
    /// By the order of the subscriptions.
    pub(crate) depths: Vec<Result<Depth, String>>,
}

/// A loop that does not move.
#[derive(Debug, Serialize)]
pub(crate) struct StuckLoop {
    #[serde(rename = "loop")]
    name: String,
    seconds: f64,
    why: &'static str,
}

impl Watched {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        Self {
            name: pipeline.subscription.name.clone(),
            channel: pipeline.subscription.channel.clone(),
            room: pipeline.room.clone(),
            reception: pipeline.reception.clone(),
            slots: pipeline.slots.clone(),
            concurrency: pipeline.slots.available_permits(),
        }
    }
}

impl View {
    /// Lets the metrics read what costs nothing to know.
    pub(super) fn watch(self: Arc<Self>) {
        let metrics = self.metrics.clone();
        let view: Weak<Self> = Arc::downgrade(&self);
        metrics.watch(move || view.upgrade().map(|view| view.readings()).unwrap_or_default());
    }

    fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut add = |gauge, value: f64, labels: &[(&'static str, &str)]| readings.push(reading(gauge, value, labels));
        for watched in &self.subscriptions {
            let (held, name) = (*watched.room.held(), [("subscription", &*watched.name)]);
            let running = watched.concurrency.saturating_sub(watched.slots.available_permits());
            add(Gauge::InFlight, held.count as f64, &name);
            add(Gauge::InFlightBytes, held.bytes as f64, &name);
            add(Gauge::HandlersRunning, running as f64, &name);
            let to = format!("subscription:{}", watched.name);
            let up = f64::from(watched.reception.is_listening());
            add(Gauge::ConnectionUp, up, &[("system", self.transport.kind_of(&watched.name)), ("to", &to)]);
        }
        let mut breakers = BTreeMap::new();
        for (subscription, gate) in &self.doors {
            let status = gate.status(subscription);
            let labels = [("subscription", &*status.subscription), ("consumer", &*status.consumer)];
            add(Gauge::HandlerWaiting, status.waiting as f64, &labels);
            if let Some(limit) = status.storm {
                add(Gauge::StormLimit, limit as f64, &labels);
            }
            breakers.extend(status.breakers.into_iter().map(|breaker| (breaker.name, breaker.open_until)));
        }
        let now = clock::instant();
        for (name, open_until) in breakers {
            let left = open_until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
            add(Gauge::BreakerOpen, f64::from(u8::from(open_until.is_some())), &[("breaker", &name)]);
            add(Gauge::BreakerReopens, left.as_secs_f64(), &[("breaker", &name)]);
        }
        for (name, age) in self.beats.ages() {
            add(Gauge::LoopBeatAge, age.as_secs_f64(), &[("loop", &name)]);
        }
        let latest = self.latest();
        if let Some(at) = latest.at {
            add(Gauge::GatherAge, at.elapsed().as_secs_f64(), &[]);
        }
        let store_up = !self.absence.is_under_way() && !matches!(latest.store, Some(Err(_)));
        let labels = [("system", self.store.kind()), ("to", "store")];
        add(Gauge::ConnectionUp, f64::from(u8::from(store_up)), &labels);
        let mut brokers = BTreeMap::new();
        for watched in &self.subscriptions {
            let broker = (self.transport.kind_of(&watched.name), self.transport.carrier_of(&watched.name));
            *brokers.entry(broker).or_insert(false) |= watched.reception.is_listening();
        }
        // Of two of one kind both must be there.
        let mut systems = BTreeMap::new();
        for ((system, _), up) in brokers {
            *systems.entry(system).or_insert(true) &= up;
        }
        for (system, up) in systems {
            add(Gauge::ConnectionUp, f64::from(u8::from(up)), &[("system", system), ("to", "broker")]);
        }
        readings
    }

    /// What was last gathered.
    pub(crate) fn latest(&self) -> Arc<Gathered> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn gathered(&self, gathered: Gathered) {
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gathered);
    }

    /// It ends, or has ended.
    pub(crate) fn is_draining(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Loops that have not moved for longer than `limit`, and those that are over though the worker is not.
    pub(crate) fn stuck(&self, limit: Duration) -> Vec<StuckLoop> {
        let stuck = self.beats.stuck(limit).into_iter().filter(|stuck| !(stuck.ended && self.is_draining()));
        let told = stuck.map(|stuck| StuckLoop {
            name: stuck.name,
            seconds: stuck.since.as_secs_f64(),
            why: if stuck.ended { "it has ended" } else { "it has something to do and does not move" },
        });
        told.collect()
    }

    /// The kinds of brokers that it listens to.
    pub(crate) fn systems(&self) -> Vec<&'static str> {
        let systems = self.subscriptions.iter().map(|watched| self.transport.kind_of(&watched.name));
        systems.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The subscriptions with what waits in them, for people.
    #[cfg(feature = "http")]
    pub(crate) fn channels(&self) -> Vec<serde_json::Value> {
        let (latest, now) = (self.latest(), clock::now());
        let age = |since: Option<chrono::DateTime<chrono::Utc>>| Some(clock::between(since?, now).as_secs_f64());
        let outbox = |name: &str, retries: bool| {
            let gauges = latest.store.as_ref().and_then(|store| store.as_ref().ok());
            let rows = gauges.into_iter().flat_map(|gauges| &gauges.outbox).filter(move |row| {
                (row.purpose == "retry") == retries && row.destination.split_once(':').is_some_and(|(_, to)| to == name)
            });
            rows.fold((0, None), |(rows, oldest): (u64, Option<_>), row| {
                (rows + row.rows, oldest.into_iter().chain(row.oldest).min())
            })
        };
        let keeps_rows = self.transport.promises().keeps_rows;
        let told = self.subscriptions.iter().enumerate().map(|(n, watched)| {
            let depth = latest.depths.get(n).and_then(|depth| depth.as_ref().ok()).cloned().unwrap_or_default();
            let (waiting, oldest) = outbox(&watched.name, false);
            let (due_later, overdue) = outbox(&watched.name, true);
            let late = watched.reception.lateness(now).map(|late| late.as_secs_f64());
            // Where a row is the message itself, the queue is the outbox.
            let (queued, lag) = match (keeps_rows, depth.ready) {
                (true, _) => (Some(waiting), age(oldest).or(Some(0.0))),
                (false, Some(0)) => (Some(0), Some(0.0)),
                (false, ready) => (ready, age(depth.oldest).or(late.filter(|_| ready.is_some()))),
            };
            serde_json::json!({
                "subscription": watched.name, "channel": watched.channel,
                "listening": watched.reception.is_listening(),
                "queued": queued, "lag_seconds": lag,
                "retrying": depth.delayed.unwrap_or_default() + due_later, "overdue_seconds": age(overdue),
                "in_flight": watched.room.held().count,
                "running": watched.concurrency.saturating_sub(watched.slots.available_permits()),
                "concurrency": watched.concurrency,
            })
        });
        told.collect()
    }

    /// The handlers and what keeps them from running, for people.
    #[cfg(feature = "http")]
    pub(crate) fn handlers(&self) -> Vec<serde_json::Value> {
        let now = clock::instant();
        let told = self.doors.iter().map(|(subscription, gate)| {
            let status = gate.status(subscription);
            let breakers = status.breakers.iter().map(|breaker| {
                let left = breaker.open_until.map(|until| until.saturating_duration_since(now).as_secs_f64());
                serde_json::json!({ "name": breaker.name, "open": breaker.open_until.is_some(), "probed_in_seconds": left })
            });
            serde_json::json!({
                "consumer": status.consumer, "subscription": status.subscription, "waiting": status.waiting,
                "storm_limit": status.storm, "breakers": breakers.collect::<Vec<_>>(),
                "paused_because": (!gate.is_open()).then(|| gate.why()),
            })
        });
        told.collect()
    }

    /// Why no message can be handled now, or none may be sent.
    pub(crate) fn why_not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining: this worker ends".to_owned());
        }
        match &self.latest().store {
            Some(Err(error)) => reasons.push(format!("store: {error}")),
            _ if self.absence.is_under_way() => reasons.push("store: it is away, commits wait for it".into()),
            _ => {}
        }
        for watched in self.subscriptions.iter().filter(|watched| !watched.reception.is_listening()) {
            reasons.push(format!("transport: `{}` is not listened to", watched.name));
        }
        for (watched, depth) in self.subscriptions.iter().zip(&self.latest().depths) {
            if let Err(error) = depth {
                reasons.push(format!("topology: `{}`: {error}", watched.name));
            }
        }
        reasons
    }
}
