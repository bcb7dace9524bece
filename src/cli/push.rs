//! The push to a collector, as long as a command runs.

use super::{Globals, log_to_stderr};
use crate::config::Config;
#[cfg(feature = "otlp")]
use crate::telemetry::otlp;

/// Where spans and metrics of this command go, if anywhere. In builds without the feature `otlp`: nowhere.
pub(super) struct Push {
    #[cfg(feature = "otlp")]
    to: Option<otlp::Push>,
}

impl Push {
    /// Begins the log, and the push beside it.
    ///
    /// # Errors
    /// A setting of `[telemetry]` cannot be used.
    pub(super) fn begin(globals: &Globals, config: &Config, level: &str) -> anyhow::Result<Self> {
        #[cfg(feature = "otlp")]
        {
            let to =
                otlp::Push::begin(config, crate::worker::BUILD).inspect_err(|_| log_to_stderr(globals, level, None))?;
            log_to_stderr(globals, level, to.as_ref().and_then(otlp::Push::layer));
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
        if let Some(to) = &self.to {
            tracing::info!(endpoint = %to.endpoint(), "spans and metrics are pushed to a collector");
            if let Some(readers) = to.readers()? {
                return Ok(worker.read_by(readers));
            }
        }
        Ok(worker)
    }

    /// Pushes what is left, for a short while.
    pub(super) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(to) = &self.to {
            to.end();
        }
    }
}
