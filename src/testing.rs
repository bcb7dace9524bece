//! Test Support: what authors of handlers, stores and transports test with.

pub mod conformance;

/// The pause between two looks of a test that polls until a condition holds: the one place in tests that sleeps.
pub async fn poll_pause() {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
}
