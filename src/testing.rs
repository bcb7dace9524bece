//! Test Support: what authors of handlers, stores and transports test with.

pub mod conformance;
mod poll;
mod worker;

pub use poll::poll_pause;
pub use worker::{Outcome, TestWorker};
