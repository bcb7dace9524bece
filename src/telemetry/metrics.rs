//! Meter: what is counted and measured, under the names of OpenTelemetry. docs/metrics.md lists them.
//!
//! On the walk of a message it is atomics, and two histograms; everything else is read when somebody asks. The labels of a worker
//! are known before its first message (`metrics/tally.rs`), so nothing that a stranger sends makes a new series. Gauges of what is
//! outside the process are gathered apart and only shown here: a scrape asks no database and no broker.

mod beats;
mod gauge;
mod tally;

pub(crate) use beats::{Beat, Beats};
pub(crate) use gauge::{Gauge, Reading, reading};
#[cfg(test)]
pub(crate) use tally::REASONS;
pub(crate) use tally::{Cause, Listens, OTHER, Sends};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tally::Tallies;

/// Seconds: the advice of the conventions for messaging.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1., 2.5, 5., 7.5, 10.];
/// The same with what a database on the same machine needs.
const SHORT: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1., 5., 30.];
/// Messages in a batch.
const SIZES: [f64; 11] = [1., 2., 4., 8., 16., 32., 64., 128., 256., 512., 1024.];

/// How long the last push may take.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Who measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) service: &'a str,
    pub(crate) version: &'static str,
    /// Of all brokers (`rabbitmq`, `kafka`, `embedded`): `messaging.system` of what has no label of its own. The first is that of
    /// what nothing is said of.
    pub(crate) systems: &'a [&'static str],
}

/// Takes readers (a pull for `/metrics`, a push over OTLP) into the provider. They must be known when it is built.
pub(crate) type Readers = Box<dyn FnOnce(MeterProviderBuilder) -> MeterProviderBuilder + Send>;

type Watch = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// What a worker counts. It outlives the worker, and dropping it loses nothing but what was not read.
pub(crate) struct Metrics {
    shared: Arc<Shared>,
    process: Histogram<f64>,
    publish: Histogram<f64>,
    batch: Histogram<u64>,
    commit: Histogram<f64>,
    request: Histogram<f64>,
    provider: SdkMeterProvider,
}

/// What the instruments read.
#[derive(Default)]
struct Shared {
    tallies: Tallies,
    splits: AtomicU64,
    /// Gathering the gauges of the store, and those of the broker, failed so often.
    failures: [AtomicU64; 2],
    /// So many things stay in the store because the sink did not take them.
    unexported: AtomicU64,
    /// Gauges of this process, read when somebody asks.
    watches: RwLock<Vec<Watch>>,
    /// Gauges of what is outside, as they were when they were last gathered.
    gathered: RwLock<Arc<Vec<Reading>>>,
}

/// Where gauges are gathered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Store,
    Broker,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Refused,
    Busy,
    Away,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Away => "away",
        }
    }
}

/// What became of one delivery, in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) subscription: &'a str,
    pub(crate) ty: &'a str,
    pub(crate) fate: &'static str,
    /// Why it is dead.
    pub(crate) reason: Option<&'static str>,
    /// The try that this fate follows from, if it did not end done.
    pub(crate) attempt: Option<&'static str>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Counts, and shows it to nobody.
impl Default for Metrics {
    fn default() -> Self {
        let nobody = Identity { service: "", version: "", systems: &[] };
        Self::new(nobody, &[], &[], Box::new(|builder| builder))
    }
}

impl Metrics {
    /// `listens` and `sends` are all labels that there will be. Whatever is in none of them counts as `other`.
    pub(crate) fn new(of: Identity<'_>, listens: &[Listens<'_>], sends: &[Sends<'_>], readers: Readers) -> Self {
        let shared = Arc::new(Shared { tallies: Tallies::new(of.systems, listens, sends), ..Shared::default() });
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", of.service.to_owned()),
                KeyValue::new("service.version", of.version),
            ])
            .build();
        let provider = readers(SdkMeterProvider::builder().with_resource(resource)).build();
        let meter = provider.meter("pitcrew");
        instruments(&meter, &shared, of);
        let seconds = |name, about, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(about);
            histogram.with_boundaries(bounds.to_vec()).build()
        };
        Self {
            process: seconds("messaging.process.duration", "How long a handler ran.", &SECONDS),
            publish: seconds("messaging.client.operation.duration", "How long a publish took.", &SHORT),
            commit: seconds("pitcrew.commit.duration", "How long a group commit took.", &SHORT),
            request: seconds("http.server.request.duration", "How long a request to the HTTP door took.", &SECONDS),
            batch: meter
                .u64_histogram("pitcrew.commit.batch.size")
                .with_description("Messages in a group commit.")
                .with_boundaries(SIZES.to_vec())
                .build(),
            shared,
            provider,
        }
    }

    /// So many deliveries were received.
    pub(crate) fn consumed(&self, subscription: &str, count: usize) {
        self.shared.tallies.consumed(subscription, count as u64);
    }

    /// The fate of a delivery is durable.
    pub(crate) fn ended(&self, ended: Ended<'_>) {
        let tally = self.shared.tallies.of(ended.subscription, ended.ty);
        tally.fate(ended.fate, ended.reason);
        if let Some(kind) = ended.attempt {
            tally.attempt(kind);
        }
    }

    /// A try ended that no commit tells of.
    pub(crate) fn attempt(&self, subscription: &str, ty: &str, kind: &'static str) {
        self.shared.tallies.of(subscription, ty).attempt(kind);
    }

    /// A delivery was known before.
    pub(crate) fn duplicate(&self, subscription: &str, ty: &str, cause: Cause) {
        self.shared.tallies.of(subscription, ty).duplicate(cause);
    }

    /// A handler ran so long; `error`: the kind of the attempt, if it did not end done.
    pub(crate) fn processed(&self, subscription: &str, ty: &str, took: Duration, error: Option<&'static str>) {
        let tally = self.shared.tallies.of(subscription, ty);
        match error {
            None => self.process.record(took.as_secs_f64(), tally.process()),
            Some(error) => {
                let mut labels = tally.process().to_vec();
                labels.push(KeyValue::new("error.type", error));
                self.process.record(took.as_secs_f64(), &labels);
            }
        }
    }

    /// A batch went to a destination of this broker; `failed`: by the kind of the error.
    pub(crate) fn published(&self, to: Sends<'_>, sent: usize, failed: &[&'static str], took: Duration) {
        let labels = self.shared.tallies.published(to, sent as u64, failed);
        self.publish.record(took.as_secs_f64(), labels);
    }

    /// A group commit ended.
    pub(crate) fn committed(&self, messages: usize, took: Duration, outcome: Outcome) {
        self.commit.record(took.as_secs_f64(), &[KeyValue::new("outcome", outcome.word())]);
        if outcome == Outcome::Stored {
            self.batch.record(messages as u64, &[]);
        }
    }

    /// A batch was halved, because one of its messages was refused.
    pub(crate) fn split(&self) {
        self.shared.splits.fetch_add(1, Relaxed);
    }

    /// A request to the HTTP door was answered. `method` and `route` are from the door's own short lists.
    pub(crate) fn requested(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        self.request.record(took.as_secs_f64(), &labels);
    }

    /// Gauges of this process: read when somebody asks, so they must be cheap and never wait.
    pub(crate) fn watch(&self, watch: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
        self.shared.watches.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(watch));
    }

    /// Replaces the gauges of what is outside.
    pub(crate) fn gathered(&self, readings: Vec<Reading>) {
        *self.shared.gathered.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(readings);
    }

    /// They could not be gathered.
    pub(crate) fn not_gathered(&self, from: From) {
        self.shared.failures[from as usize].fetch_add(1, Relaxed);
    }

    /// What the last housekeeping could not export, and kept.
    pub(crate) fn unexported(&self, count: usize) {
        self.shared.unexported.store(count as u64, Relaxed);
    }

    /// The label that a message of this channel and type counts under.
    pub(crate) fn label(&self, channel: &str, ty: &str) -> (Arc<str>, Arc<str>) {
        self.shared.tallies.label(channel, ty)
    }

    /// Pushes what is not pushed yet, and ends the readers. May wait for a network: not on a thread of the runtime.
    pub(crate) fn end(&self) {
        // Without a reader that pushes there is nothing to do; one that cannot says so itself.
        let _ = self.provider.shutdown_with_timeout(END_LIMIT);
    }
}

impl Shared {
    /// The gauges of one name.
    fn read(&self, gauge: Gauge, mut show: impl FnMut(&Reading)) {
        let gathered = self.gathered.read().unwrap_or_else(PoisonError::into_inner).clone();
        gathered.iter().filter(|reading| reading.gauge == gauge).for_each(&mut show);
        for watch in &*self.watches.read().unwrap_or_else(PoisonError::into_inner) {
            watch().iter().filter(|reading| reading.gauge == gauge).for_each(&mut show);
        }
    }
}

/// Takes a count with its labels.
type Show<'a> = &'a mut dyn FnMut(u64, &[KeyValue]);

/// Everything that is read when somebody asks.
fn instruments(meter: &Meter, shared: &Arc<Shared>, of: Identity<'_>) {
    let counter = |name, about, read: fn(&Shared, Show<'_>)| {
        let shared = shared.clone();
        let counter = meter.u64_observable_counter(name).with_description(about);
        counter.with_callback(move |to| read(&shared, &mut |count, labels| to.observe(count, labels))).build();
    };
    counter("messaging.client.consumed.messages", "Deliveries received.", |shared, show| {
        shared.tallies.show_consumed(show);
    });
    counter("messaging.client.sent.messages", "Messages published, and failures by error.type.", |shared, show| {
        shared.tallies.show_sent(show);
    });
    counter("pitcrew.deliveries", "Deliveries by what became of them.", |shared, show| {
        shared.tallies.show_fates(show);
    });
    counter("pitcrew.attempts", "Attempts that did not end done.", |shared, show| shared.tallies.show_attempts(show));
    counter("pitcrew.duplicates", "Deliveries that were known, by how that was found.", |shared, show| {
        shared.tallies.show_duplicates(show);
    });
    counter("pitcrew.label.overflow", "Counted as `other` for want of a label.", |shared, show| {
        show(shared.tallies.overflow(), &[]);
    });
    counter("pitcrew.commits.split", "Batches halved because one message was refused.", |shared, show| {
        show(shared.splits.load(Relaxed), &[]);
    });
    counter("pitcrew.gather.failures", "Gauges could not be gathered.", |shared, show| {
        for (of, failures) in ["store", "broker"].into_iter().zip(&shared.failures) {
            show(failures.load(Relaxed), &[KeyValue::new("of", of)]);
        }
    });
    #[cfg(feature = "otlp")]
    {
        use super::otlp::LOSSES;
        counter("pitcrew.spans.lost", "Spans that did not reach the collector.", |_, show| {
            for (cause, lost) in [("full", &LOSSES.full), ("refused", &LOSSES.refused)] {
                show(lost.load(Relaxed), &[KeyValue::new("cause", cause)]);
            }
        });
        counter("pitcrew.metrics.pushes.failed", "Pushes of metrics that the collector did not take.", |_, show| {
            show(LOSSES.metrics.load(Relaxed), &[]);
        });
    }
    for gauge in Gauge::ALL {
        let shared = shared.clone();
        let instrument = meter.f64_observable_gauge(gauge.name()).with_unit(gauge.unit());
        instrument
            .with_description(gauge.about())
            .with_callback(move |to| shared.read(gauge, |reading| to.observe(reading.value, &reading.labels)))
            .build();
    }
    let labels = [KeyValue::new("service", of.service.to_owned()), KeyValue::new("version", of.version)];
    let unexported = meter.u64_observable_gauge("pitcrew.audit.unexported");
    let unexported =
        unexported.with_description("Partitions and tables that are kept, because the sink did not take them.");
    let shared = shared.clone();
    unexported.with_callback(move |to| to.observe(shared.unexported.load(Relaxed), &[])).build();
    let info = meter.u64_observable_gauge("pitcrew.build.info").with_description("This build: always 1.");
    info.with_callback(move |to| to.observe(1, &labels)).build();
}
