//! The push to an OpenTelemetry collector: OTLP over HTTP, on threads of its own.
//!
//! Whatever becomes of the collector, the worker goes on. A span is handed over without waiting or not at all; what did not leave is
//! counted, and what changed is one line in the log.

mod post;

use super::{LOG_ONLY, metrics::Readers, traces::backend};
use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TracerProvider},
};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingResult, SdkTracerProvider, ShouldSample, Span,
        SpanData, SpanProcessor,
    },
};
use post::Post;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tracing::{Subscriber, info, warn};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// Spans that wait for the collector: about 8 MB.
const WAITING: usize = 8 * 1024;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span may wait for others.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long the end of a process waits for the last spans.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What did not leave, since this process began.
#[derive(Debug)]
pub(crate) struct Losses {
    /// Spans for which there was no room, because the collector is slower than the worker.
    pub(crate) full: AtomicU64,
    /// Spans that the collector did not take.
    pub(crate) refused: AtomicU64,
    /// Pushes of metrics that it did not take. The next one holds all the same, for they are sums.
    pub(crate) metrics: AtomicU64,
}

/// One process pushes to one collector.
pub(crate) static LOSSES: Losses =
    Losses { full: AtomicU64::new(0), refused: AtomicU64::new(0), metrics: AtomicU64::new(0) };

/// What is to be pushed, and where to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) service: &'a str,
    pub(crate) version: &'static str,
    /// `http://host:4318`
    pub(crate) endpoint: &'a str,
    /// Who may have signed its certificate. `None`: whom the system trusts.
    pub(crate) ca_file: Option<&'a Path>,
    /// Spans: the share of traces that begin here. `None`: no spans.
    pub(crate) traces: Option<f64>,
    /// How often metrics. `None`: never.
    pub(crate) metrics: Option<Duration>,
}

/// Where spans and metrics of this process go.
#[derive(Debug)]
pub(crate) struct Push {
    post: Arc<Post>,
    resource: Resource,
    traces: Option<SdkTracerProvider>,
    /// How often; `None`: never.
    metrics: Option<Duration>,
}

impl Push {
    /// # Errors
    /// Names the setting.
    pub(crate) fn begin(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let post = Arc::new(Post::new(wanted.endpoint, wanted.ca_file)?);
        // `service.name` is the config's; OTEL_RESOURCE_ATTRIBUTES adds what the platform knows.
        let resource = Resource::builder()
            .with_service_name(wanted.service.to_owned())
            .with_attribute(KeyValue::new("service.version", wanted.version))
            .build();
        let mut push = Self { post, resource, traces: None, metrics: wanted.metrics };
        if let Some(sample) = wanted.traces {
            push.traces = Some(push.spans(sample)?);
        }
        Ok(push)
    }

    fn spans(&self, sample: f64) -> anyhow::Result<SdkTracerProvider> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(self.post.url("v1/traces"))
            .with_shared_http_client(self.post.clone())
            .build()
            .context("[telemetry] endpoint")?;
        let begins = Sampler::TraceIdRatioBased(sample);
        backend::decide_by(begins.clone());
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted { exporter, waiting: waiting.clone(), health: Health::new("spans") };
        // Its own bound is never met: ours is, and counts.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(2 * WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(TOGETHER);
        let batches = BatchSpanProcessor::builder(counted).with_batch_config(config.build()).build();
        Ok(SdkTracerProvider::builder()
            .with_resource(self.resource.clone())
            .with_sampler(Sampler::ParentBased(Box::new(Sample(begins))))
            .with_span_processor(Bounded { batches, waiting })
            .build())
    }

    /// Turns spans of `tracing` into those of OpenTelemetry. Wants those of the target `pitcrew::trace` from the level debug on.
    pub(crate) fn layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.traces.as_ref()?.tracer("pitcrew");
        let layer = OpenTelemetryLayer::new(tracer).with_location(false).with_threads(false).with_target(false);
        let wanted = filter_fn(|metadata| metadata.target() != LOG_ONLY);
        Some(layer.with_tracked_inactivity(false).with_filter(wanted).boxed())
    }

    /// Pushes what the worker measures.
    ///
    /// # Errors
    /// Names the setting.
    pub(crate) fn readers(&self) -> anyhow::Result<Option<Readers>> {
        let Some(interval) = self.metrics else { return Ok(None) };
        let exporter = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(self.post.url("v1/metrics"))
            .with_shared_http_client(self.post.clone())
            .build()
            .context("[telemetry] endpoint")?;
        let told = Told { exporter, health: Health::new("metrics") };
        let reader = PeriodicReader::builder(told).with_interval(interval).build();
        let resource = self.resource.clone();
        Ok(Some(Box::new(move |builder| builder.with_reader(reader).with_resource(resource))))
    }

    /// Pushes what is left, for a short while. May wait for the network.
    pub(crate) fn end(&self) {
        if let Some(traces) = &self.traces
            && let Err(error) = traces.shutdown_with_timeout(END_LIMIT)
        {
            warn!(%error, "the last spans did not leave in time");
        }
    }
}

/// Of spans that begin a trace, records the share that is wanted; every batch that carries a message whose trace is recorded; and
/// attempts, for those whose trace is not recorded have no span.
#[derive(Clone, Debug)]
struct Sample(Sampler);

impl ShouldSample for Sample {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let decided = *kind == SpanKind::Consumer || links.iter().any(|link| link.span_context.is_sampled());
        let sampler = if decided { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// Lets in what there is room for, and counts the rest: the processor behind it drops without a word.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Relaxed) < WAITING {
            return self.batches.on_end(span);
        }
        self.waiting.fetch_sub(1, Relaxed);
        LOSSES.full.fetch_add(1, Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Makes room when a batch has left, or is lost.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    health: Health,
}

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Relaxed);
        if exported.is_err() {
            LOSSES.refused.fetch_add(spans as u64, Relaxed);
        }
        self.health.tell(&exported);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Counts pushes that failed.
#[derive(Debug)]
struct Told {
    exporter: MetricExporter,
    health: Health,
}

impl PushMetricExporter for Told {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let exported = self.exporter.export(metrics).await;
        if exported.is_err() {
            LOSSES.metrics.fetch_add(1, Relaxed);
        }
        self.health.tell(&exported);
        exported
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// One line when the collector goes, and one when it is back.
#[derive(Debug)]
struct Health {
    of: &'static str,
    is_away: AtomicBool,
}

impl Health {
    fn new(of: &'static str) -> Self {
        Self { of, is_away: AtomicBool::new(false) }
    }

    fn tell(&self, exported: &OTelSdkResult) {
        let was_away = self.is_away.swap(exported.is_err(), Relaxed);
        match exported {
            Err(error) if !was_away => {
                warn!(%error, "the collector takes no {}: the worker goes on, and counts what is lost", self.of);
            }
            Ok(()) if was_away => info!("the collector takes {} again", self.of),
            _ => {}
        }
    }
}
