//! Polling: the one place in tests that sleeps.

use std::time::Duration;

/// The pause between two looks of a test that polls until a condition holds. The test brings the limit.
pub async fn poll_pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// As [`poll_pause`], longer the longer the test has waited: an hour of paused time is then a hundred looks, not a million.
pub(super) async fn patient_pause(waited: Duration) {
    tokio::time::sleep((waited / 20).max(Duration::from_millis(5))).await;
}
