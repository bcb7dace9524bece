//! The push to a collector, as long as a command runs.

use super::{Globals, log_to_stderr};
use crate::config::Config;
#[cfg(feature = "otlp")]
use crate::{config::CollectorUrl, telemetry::otlp, worker::BUILD};

/// Where spans and metrics of this command go, if anywhere. In builds without the feature `otlp`: nowhere.
pub(super) struct Push {
    #[cfg(feature = "otlp")]
    to: Option<(CollectorUrl, otlp::Push)>,
}

impl Push {
    /// Begins the log, and the push beside it.
    ///
    /// # Errors
    /// A setting of `[telemetry]` cannot be used.
    pub(super) fn begin(globals: &Globals, config: &Config, level: &str) -> anyhow::Result<Self> {
        #[cfg(feature = "otlp")]
        {
            let to = to(config)?;
            log_to_stderr(globals, level, to.as_ref().and_then(|(_, push)| push.layer()));
            Ok(Self { to })
        }
        #[cfg(not(feature = "otlp"))]
        {
            let _ = config;
            log_to_stderr(globals, level, None);
            Ok(Self {})
        }
    }

    /// The worker's measures go there too.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub(super) fn measures(&self, worker: crate::Worker) -> anyhow::Result<crate::Worker> {
        #[cfg(feature = "otlp")]
        if let Some((endpoint, push)) = &self.to {
            tracing::info!(%endpoint, "spans and metrics are pushed to a collector");
            if let Some(readers) = push.readers()? {
                return Ok(worker.read_by(readers));
            }
        }
        Ok(worker)
    }

    /// Pushes what is left, for a short while.
    pub(super) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some((_, push)) = &self.to {
            push.end();
        }
    }
}

/// `None`: nobody said where to.
#[cfg(feature = "otlp")]
fn to(config: &Config) -> anyhow::Result<Option<(CollectorUrl, otlp::Push)>> {
    let telemetry = &config.telemetry;
    let of_environment = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty());
    let endpoint: CollectorUrl = match &telemetry.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => match of_environment() {
            Some(url) => url.parse().map_err(|error| anyhow::anyhow!("OTEL_EXPORTER_OTLP_ENDPOINT {error}"))?,
            None => return Ok(None),
        },
    };
    let push = otlp::Push::begin(&otlp::Wanted {
        service: config.service.as_str(),
        version: BUILD,
        endpoint: endpoint.expose(),
        ca_file: telemetry.ca_file.as_deref(),
        traces: telemetry.traces.then_some(telemetry.sample),
        metrics: telemetry.metrics.then_some(telemetry.interval),
    })?;
    Ok(Some((endpoint, push)))
}
