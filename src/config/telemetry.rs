//! `[telemetry]`: where spans and metrics are pushed to, and how many.

use super::{check::Gravity, check::Problem, units, web::CollectorUrl};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// `[telemetry]`: a push to an OpenTelemetry collector, in builds with the feature `otlp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// The collector. `None`: the one of `OTEL_EXPORTER_OTLP_ENDPOINT`; without both nothing is pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<CollectorUrl>,
    /// A PEM file with the certificates that the collector's may be signed by, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether spans are pushed.
    pub traces: bool,
    /// Whether metrics are pushed; `/metrics` has them in any case.
    pub metrics: bool,
    /// The share of traces that begin here which are recorded, 0 to 1. One that began elsewhere is as its beginner decided.
    pub sample: f64,
    /// How often metrics are pushed.
    #[serde(with = "units::duration")]
    pub interval: Duration,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        TelemetryConfig {
            endpoint: None,
            ca_file: None,
            traces: true,
            metrics: true,
            sample: 0.1,
            interval: Duration::from_secs(30),
        }
    }
}

/// What keeps it from being pushed.
pub(super) fn problems(telemetry: &TelemetryConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut impossible = |key: &str, reason: String, fix: &str| {
        let key = format!("[telemetry] {key}");
        found.push(Problem { key, reason, fix: fix.into(), gravity: Gravity::Impossible });
    };
    if telemetry.endpoint.is_some() && !cfg!(feature = "otlp") {
        let fix = "build with --features otlp, or remove it";
        impossible("endpoint", "this build cannot push anything".into(), fix);
    }
    if !(0. ..=1.).contains(&telemetry.sample) {
        impossible("sample", format!("{} is no share", telemetry.sample), "set it between 0 and 1");
    }
    if telemetry.interval < Duration::from_secs(1) {
        impossible("interval", "so often nobody looks".into(), "set it to at least 1s");
    }
    found
}
