//! What is done to real workers and their brokers: processes are killed, stopped and started, brokers are killed and frozen, messages
//! kill. Nothing is lost, and no effect (a count, which no upsert can hide) happens twice. What a recovery took is printed.
//!
//! Wants Postgres (`PITCREW_POSTGRES_URL`) and the broker. A Kafka that is to fail is a node of the test's own. What takes longer
//! than 20 s waits for `PITCREW_ALL`.

#[path = "faults/group.rs"]
mod group;
#[path = "faults/kafka.rs"]
mod kafka;
#[path = "faults/node.rs"]
mod node;
#[path = "faults/rabbitmq.rs"]
mod rabbitmq;

use processes::shop::has_time;

/// The worker that it is done to.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
