//! Test Support: what authors of handlers, stores and transports test with.

pub mod conformance;
#[cfg(feature = "fault")]
mod crash;
mod poll;
mod worker;

#[cfg(feature = "fault")]
pub use crash::{CrashReport, CrashTest, External, Finding, Harm, crash_everywhere};
pub use poll::poll_pause;
pub use worker::{Outcome, TestWorker};
