//! An OpenTelemetry collector of a test's own: OTLP over HTTP, as far as anybody can tell who pushes to it.

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    Refuses,
    /// It takes the request and never answers.
    Hangs,
}

/// A span as it arrived. IDs in hex, as a message carries them.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty: it has none.
    pub(crate) parent: String,
    /// Trace and span.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) has_failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Of who pushed it.
    pub(crate) resource: BTreeMap<String, String>,
    /// What was logged inside.
    pub(crate) lines: Vec<String>,
}

#[derive(Debug)]
struct Inside {
    mood: Mutex<Mood>,
    spans: Mutex<Vec<Seen>>,
    /// Name of the metric, and the service that it is of.
    metrics: Mutex<BTreeMap<String, f64>>,
    services: Mutex<Vec<String>>,
}

/// It ends with the test.
pub(crate) struct Collector {
    pub(crate) url: String,
    inside: Arc<Inside>,
}

impl Collector {
    pub(crate) async fn start(mood: Mood) -> Self {
        let inside = Arc::new(Inside {
            mood: Mutex::new(mood),
            spans: Mutex::default(),
            metrics: Mutex::default(),
            services: Mutex::default(),
        });
        let paths = Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serve = axum::serve(listener, paths.with_state(inside.clone())).into_future();
        tokio::spawn(serve);
        Self { url, inside }
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        *self.inside.mood.lock().expect("no test panics here") = mood;
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.inside.spans.lock().expect("no test panics here").clone()
    }

    /// The newest value of a metric, all its series together.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.inside.metrics.lock().expect("no test panics here").get(name).copied()
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.inside.services.lock().expect("no test panics here").clone()
    }
}

impl Inside {
    async fn admit(&self) -> Result<(), StatusCode> {
        let mood = *self.mood.lock().expect("no test panics here");
        match mood {
            Mood::Takes => Ok(()),
            Mood::Refuses => Err(StatusCode::SERVICE_UNAVAILABLE),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

async fn traces(State(inside): State<Arc<Inside>>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    inside.admit().await?;
    let request = ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut spans = inside.spans.lock().expect("no test panics here");
    for of_resource in request.resource_spans {
        let resource = read(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(seen(span, &resource));
        }
    }
    Ok(Vec::new())
}

async fn metrics(State(inside): State<Arc<Inside>>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    inside.admit().await?;
    let request = ExportMetricsServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    for of_resource in request.resource_metrics {
        let resource = read(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        let service = resource.get("service.name").cloned().unwrap_or_default();
        inside.services.lock().expect("no test panics here").push(service);
        for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let points = match metric.data {
                Some(Data::Sum(sum)) => sum.data_points,
                Some(Data::Gauge(gauge)) => gauge.data_points,
                _ => continue,
            };
            let value = points.iter().map(|point| match point.value {
                #[expect(clippy::cast_precision_loss, reason = "a test counts no further")]
                Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(value)) => value as f64,
                Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(value)) => value,
                None => 0.0,
            });
            inside.metrics.lock().expect("no test panics here").insert(metric.name, value.sum());
        }
    }
    Ok(Vec::new())
}

fn seen(span: Span, resource: &BTreeMap<String, String>) -> Seen {
    Seen {
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        has_failed: span.status.as_ref().is_some_and(|status| status.code == 2),
        attributes: read(span.attributes),
        resource: resource.clone(),
        lines: span.events.into_iter().map(|event| event.name).collect(),
        name: span.name,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}
