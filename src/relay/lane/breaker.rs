//! Circuit Breaker: a destination that fails is left alone for longer and longer, and nobody else waits for it.

use crate::{store::Destination, transport::PublishError};
use std::time::Duration;
use tracing::warn;

/// How often it failed in a row.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
}

impl Breaker {
    pub(super) fn judge(&mut self, failed: Option<&PublishError>, destination: &Destination) -> Duration {
        let Some(error) = failed else {
            self.failures = 0;
            return Duration::ZERO;
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            warn!(%destination, %error, failures = self.failures, "a destination does not take its messages; they wait in the outbox");
        }
        backoff(self.failures)
    }
}

pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(8)).min(Duration::from_secs(10))
}
