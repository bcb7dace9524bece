//! Real clusters that lose a node under load, and a Postgres that fails over to its standby, seen from the real worker binary: what the
//! checker of the process matrix counts, and the longest time without an effect. All of it waits for `PITCREW_ALL`.

#[path = "matrix/bare.rs"]
mod bare;
#[path = "matrix/cell.rs"]
#[expect(dead_code, reason = "its cells are the matrix's; here its bench is used")]
mod cell;
#[path = "matrix/checker.rs"]
mod checker;
#[path = "clusters/failover.rs"]
mod failover;
#[path = "matrix/generator.rs"]
mod generator;
#[path = "clusters/kafka.rs"]
mod kafka;
#[path = "clusters/rabbitmq.rs"]
mod rabbitmq;
#[path = "clusters/scene.rs"]
mod scene;
#[path = "matrix/server.rs"]
#[expect(dead_code, reason = "no disk is full here")]
mod server;

/// The worker that it is done to.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

/// One cluster at a time: each has processes for a machine of its own.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
