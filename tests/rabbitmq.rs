//! RabbitMQ, the real one: conformance, and what only this broker does. Each test runs on every version that is there.
//!
//! Wants `PITCREW_RABBITMQ_URL` (3.10 or later) and `PITCREW_RABBITMQ4_URL` (4.x); without one its tests say that they are skipped.

#[path = "rabbitmq/bench.rs"]
mod bench;
#[path = "rabbitmq/conformance.rs"]
mod conformance;
#[path = "rabbitmq/proxy.rs"]
mod proxy;
