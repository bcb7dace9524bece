//! Polling: the one place in tests that sleeps.

use std::time::Duration;

/// The pause between two looks of a test that polls until a condition holds. The test brings the limit.
pub async fn poll_pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
