//! Pitcrew: a worker runtime on top of existing brokers.

pub mod clock;
pub mod message;

pub use message::{Command, Envelope, Event, Message};
