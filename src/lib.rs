//! Pitcrew: a worker runtime on top of existing brokers.
pub mod config;
