//! RabbitMQ, the real one: what only this broker does. Each test runs on every version that is there; what every transport does
//! is held in `tests/transport.rs`.
//!
//! Wants `PITCREW_RABBITMQ_URL` (3.10 or later) and `PITCREW_RABBITMQ4_URL` (4.x); without one its tests say that they are skipped.

/// A test for each version, so that a failure names both.
macro_rules! on_each_version {
    ($($test:ident)*) => {
        mod v3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Broker::V3).await;
            })*
        }

        mod v4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Broker::V4).await;
            })*
        }
    };
}
use on_each_version;

#[path = "rabbitmq/bench.rs"]
mod bench;
#[path = "rabbitmq/dead.rs"]
mod dead;
#[path = "rabbitmq/faults.rs"]
mod faults;
#[path = "rabbitmq/management.rs"]
mod management;
#[path = "rabbitmq/node.rs"]
mod node;
#[path = "rabbitmq/proxy.rs"]
mod proxy;
#[path = "rabbitmq/publishing.rs"]
mod publishing;
#[path = "rabbitmq/rig.rs"]
mod rig;
#[path = "rabbitmq/security.rs"]
mod security;
#[path = "rabbitmq/set_up.rs"]
mod set_up;
#[path = "rabbitmq/slow.rs"]
mod slow;
#[path = "rabbitmq/working.rs"]
mod working;
