//! RabbitMQ, as `tests/rabbitmq.rs` has it: one bench a version.

#[path = "../rabbitmq/bench.rs"]
mod bench;
#[expect(dead_code, reason = "the other tests of RabbitMQ use the rest")]
#[path = "../rabbitmq/proxy.rs"]
mod proxy;

use bench::{Broker, RabbitBench};
use pitcrew::testing::conformance::transport::Bench;
use std::sync::Arc;

pub(crate) fn on_v3() -> Option<Arc<dyn Bench>> {
    RabbitBench::on(Broker::V3).map(|bench| bench as Arc<dyn Bench>)
}

pub(crate) fn on_v4() -> Option<Arc<dyn Bench>> {
    RabbitBench::on(Broker::V4).map(|bench| bench as Arc<dyn Bench>)
}
