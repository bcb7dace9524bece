//! Foreign clients, in Python and on the command line, against a real worker process: what they send is done, refused or buried as
//! `docs/wire.md` says, and what is sent to them they can read.
//!
//! Wants a broker (`PITCREW_RABBITMQ_URL`, `PITCREW_RABBITMQ4_URL`, `PITCREW_KAFKA_URL`), Python 3 and its clients from PyPI,
//! which are kept in the tests' cache folder.

#[path = "interop/expected.rs"]
mod expected;
#[path = "interop/kafka.rs"]
mod kafka;
#[path = "interop/page.rs"]
mod page;
#[path = "interop/python.rs"]
mod python;
#[path = "interop/rabbitmq.rs"]
mod rabbitmq;

/// The worker that everybody talks to.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
