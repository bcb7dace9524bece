//! Test Support: what authors of handlers, stores and transports test with.

pub mod conformance;
mod poll;

pub use poll::poll_pause;
